// The cache term of Tip-Adapter without the [queries, keys] affinity matrix:
// y[s,b,c] = scale·Σ_{j in class c} exp(−β_s·(1 − f_b·g_j)), plus base[b,c] when BASE is 1,
// for keys sorted by class, starts[c]…starts[c+1] being class c's. A class without keys gets zero.
//
// 32 queries × one class per workgroup: a key's address is uniform across it, and four keys share each load of f.
// Open constants: BETAS (how many β are served by one pass over the similarities), BASE.

struct Params {
    queries: u32,
    classes: u32,
    width: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> f: array<f32>;
@group(0) @binding(2) var<storage, read> g: array<f32>;
@group(0) @binding(3) var<storage, read> starts: array<u32>;
@group(0) @binding(4) var<storage, read> betas: array<f32>;
@group(0) @binding(5) var<storage, read> base: array<f32>;
@group(0) @binding(6) var<storage, read> blocks: array<u32>; // not used here
@group(0) @binding(7) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lid: u32) {
    let query = wid.x * 32u + lid;
    let class_ = wid.y;
    let at = min(query, p.queries - 1u) * p.width;
    let end = min(starts[class_ + 1u], arrayLength(&g) / p.width);
    var sums: array<f32, BETAS>;
    for (var j = starts[class_]; j < end; j += 4u) {
        let last = end - 1u;
        let g0 = j * p.width;
        let g1 = min(j + 1u, last) * p.width;
        let g2 = min(j + 2u, last) * p.width;
        let g3 = min(j + 3u, last) * p.width;
        var dots = vec4<f32>();
        for (var d = 0u; d < p.width; d++) {
            dots = fma(vec4<f32>(f[at + d]), vec4<f32>(g[g0 + d], g[g1 + d], g[g2 + d], g[g3 + d]), dots);
        }
        // Past the class's end a key was read twice; it counts for nothing.
        let live = vec4<f32>(vec4<u32>(j, j + 1u, j + 2u, j + 3u) < vec4<u32>(end));
        for (var s = 0u; s < BETAS; s++) {
            sums[s] += dot(exp(-betas[s] * (1.0 - dots)), live);
        }
    }
    if query >= p.queries {
        return;
    }
    for (var s = 0u; s < BETAS; s++) {
        var v = p.scale * sums[s];
        if BASE == 1u {
            v += base[query * p.classes + class_];
        }
        y[(s * p.queries + query) * p.classes + class_] = v;
    }
}
