// Noise: a counter-based generator of normal numbers, and where PiNI adds them.
//
// normal: y[i] = the i-th standard normal of stream (seed, step, stream). Philox4x32-10 on the counter
// (block, stream, step, 0) gives four words, Box–Muller (normal.wgsl) makes four normals of them. The same counter gives
// the same bits on every device, whatever the order of invocations.
// text_apply: y = x, plus spread·ε + mean on `noisy` rows from `first` on (PiNI's text noise).
// text_backward: dmean = dx[first…], dspread = dx[first…]·ε.
// image_apply: y[b·draws+d] = v[b] + |spread[b]|·ε[b·draws+d] + mean[b] (PiNI's image noise).
// image_backward: dmean[b] = Σ_d dy, dspread[b] = sign(spread[b])·Σ_d dy·ε, with dy in `x`.

struct Params {
    rows: u32,   // normal: number of elements; text: rows of x; image: rows of v
    width: u32,
    first: u32,  // normal: stream; text: first noisy row
    count: u32,  // text: noisy rows; image: draws
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> spread: array<f32>;
@group(0) @binding(4) var<storage, read> eps: array<f32>;
@group(0) @binding(5) var<storage, read> counter: array<u32>; // seed low, seed high, step
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
@group(0) @binding(7) var<storage, read_write> z: array<f32>; // backward: dspread

fn index(wid: vec3<u32>, nwg: vec3<u32>, lid: u32) -> u32 {
    return (wid.y * nwg.x + wid.x) * 64u + lid;
}

@compute @workgroup_size(64)
fn normal(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let block = index(wid, nwg, lid);
    if block * 4u >= p.rows {
        return;
    }
    let words = philox(vec4<u32>(block, p.first, counter[2], 0u), vec2<u32>(counter[0], counter[1]));
    let values = vec4<f32>(two_normals(words.x, words.y), two_normals(words.z, words.w));
    for (var j = 0u; j < 4u; j++) {
        if block * 4u + j < p.rows {
            y[block * 4u + j] = values[j];
        }
    }
}

@compute @workgroup_size(64)
fn text_apply(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = index(wid, nwg, lid);
    if i >= p.rows * p.width {
        return;
    }
    let row = i / p.width;
    var v = x[i];
    if row >= p.first && row < p.first + p.count {
        let k = i - p.first * p.width;
        v += spread[k] * eps[k] + mean[k];
    }
    y[i] = v;
}

@compute @workgroup_size(64)
fn text_backward(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = index(wid, nwg, lid);
    if i >= p.count * p.width {
        return;
    }
    let d = x[i + p.first * p.width];
    y[i] = d;
    z[i] = d * eps[i];
}

@compute @workgroup_size(64)
fn image_apply(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = index(wid, nwg, lid);
    if i >= p.rows * p.count * p.width {
        return;
    }
    let k = (i / (p.width * p.count)) * p.width + i % p.width;
    y[i] = x[k] + abs(spread[k]) * eps[i] + mean[k];
}

@compute @workgroup_size(64)
fn image_backward(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = index(wid, nwg, lid);
    if i >= p.rows * p.width {
        return;
    }
    var at = (i / p.width) * p.width * p.count + i % p.width;
    var dm = 0.0;
    var ds = 0.0;
    for (var d = 0u; d < p.count; d++) {
        dm += x[at];
        ds += x[at] * eps[at];
        at += p.width;
    }
    y[i] = dm;
    z[i] = sign(spread[i]) * ds;
}
