// Counts right answers at every point of a grid: for each α and each β, the rows whose largest logit
// base + α·cache[β] is the label's (the first of equals wins). One workgroup per point; counts [betas, alphas].

struct Params {
    rows: u32,
    classes: u32,
    alphas: u32,
    betas: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> base: array<f32>;   // [rows, classes]
@group(0) @binding(2) var<storage, read> cache: array<f32>;  // [betas, rows, classes]
@group(0) @binding(3) var<storage, read> labels: array<u32>; // [rows]
@group(0) @binding(4) var<storage, read> alphas: array<f32>;
@group(0) @binding(5) var<storage, read_write> counts: array<u32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let point = wid.y * nwg.x + wid.x;
    if point >= p.alphas * p.betas {
        return;
    }
    let alpha = alphas[point % p.alphas];
    let beta = point / p.alphas;
    var right = 0u;
    for (var row = lid; row < p.rows; row += 64u) {
        let at = row * p.classes;
        let from_cache = (beta * p.rows + row) * p.classes;
        var top = base[at] + alpha * cache[from_cache];
        var best = 0u;
        for (var c = 1u; c < p.classes; c++) {
            let v = base[at + c] + alpha * cache[from_cache + c];
            if v > top {
                top = v;
                best = c;
            }
        }
        if best == labels[row] {
            right++;
        }
    }
    // f32 counts up to 2^24 rows exactly.
    let all = total(f32(right), lid);
    if lid == 0u {
        counts[point] = u32(all);
    }
}
