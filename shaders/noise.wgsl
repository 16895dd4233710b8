// Noise: a counter-based generator of normal numbers, and where PiNI adds them.
//
// normal: y[i] = the i-th standard normal of stream (seed, step, stream). Philox4x32-10 on the counter
// (block, stream, step, 0) gives four words, Box–Muller (normal.wgsl) makes four normals of them. The same counter gives
// the same bits on every device, whatever the order of invocations.
// text_apply: y = x, plus spread·ε + mean on `noisy` rows from `first` on (PiNI's text noise).
// text_backward: dmean = dy[first…], dspread = dy[first…]·ε.
// image_apply: y[b·draws+d] = x[b] + |spread[b]|·ε[b·draws+d] + mean[b] (PiNI's image noise).
// image_backward: dmean[b] = Σ_d dy, dspread[b] = sign(spread[b])·Σ_d dy·ε.
//# import linear, normal, philox

struct Params {
    rows: u32,   // normal: number of elements; text: rows of x; image: rows of x
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
@group(0) @binding(6) var<storage, read> dy: array<f32>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read_write> dmean: array<f32>;
@group(0) @binding(9) var<storage, read_write> dspread: array<f32>;

@compute @workgroup_size(64)
fn normal(id: Invocation) {
    let block = number_of(id);
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
fn text_apply(id: Invocation) {
    let i = number_of(id);
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
fn text_backward(id: Invocation) {
    let i = number_of(id);
    if i >= p.count * p.width {
        return;
    }
    let d = dy[i + p.first * p.width];
    dmean[i] = d;
    dspread[i] = d * eps[i];
}

@compute @workgroup_size(64)
fn image_apply(id: Invocation) {
    let i = number_of(id);
    if i >= p.rows * p.count * p.width {
        return;
    }
    let k = (i / (p.width * p.count)) * p.width + i % p.width;
    y[i] = x[k] + abs(spread[k]) * eps[i] + mean[k];
}

@compute @workgroup_size(64)
fn image_backward(id: Invocation) {
    let i = number_of(id);
    if i >= p.rows * p.width {
        return;
    }
    var at = (i / p.width) * p.width * p.count + i % p.width;
    var dm = 0.0;
    var ds = 0.0;
    for (var d = 0u; d < p.count; d++) {
        dm += dy[at];
        ds += dy[at] * eps[at];
        at += p.width;
    }
    dmean[i] = dm;
    dspread[i] = sign(spread[i]) * ds;
}
