// Noise on pixels (PiNI's ablation, arXiv 2412.10817): raw noise h [pictures, area, 2·colours] lies as a convolution leaves it,
// the means of the colours first, then their spreads; what is added to pixels lies in planes, [pictures, 2·colours, area].
//
// squares:   Σ h²/area · chunks over each chunk of a plane, [pictures, chunks, planes]; the mean over chunks is the plane's
//            mean square.
// scale:     s = level·h/√(mean square), in planes: each plane has the RMS `level`.
// add:       y[b·draws+d] = x[b] + s_mean[b] + |s_spread[b]|·ε; ε repeats after `every` rows.
// split:     gradient of s from that of y: Σ_d dy for means, sign(s_spread)·Σ_d dy·ε for spreads.
// products:  Σ ds·h/area · chunks over each chunk of a plane, as squares.
// unscale:   dh = level/√(mean square)·(ds − h·(mean of ds·h)/(mean square)).
//# import linear

struct Params {
    pictures: u32,
    area: u32,
    planes: u32,
    chunk: u32,
    chunks: u32,
    draws: u32,
    every: u32,
    level: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> h: array<f32>;
@group(0) @binding(2) var<storage, read> square: array<f32>;
@group(0) @binding(3) var<storage, read> product: array<f32>;
@group(0) @binding(4) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read> s: array<f32>;
@group(0) @binding(6) var<storage, read> eps: array<f32>;
@group(0) @binding(7) var<storage, read> dy: array<f32>;
@group(0) @binding(8) var<storage, read> ds: array<f32>;
@group(0) @binding(9) var<storage, read_write> y: array<f32>;

// The reciprocal of a plane's RMS; a plane of nothing stays one.
fn reciprocal(mean_square: f32) -> f32 {
    return 1.0 / sqrt(max(mean_square, 1e-30));
}

@compute @workgroup_size(64)
fn squares(id: Invocation) {
    let i = number_of(id);
    if i >= p.pictures * p.chunks * p.planes {
        return;
    }
    let plane = i % p.planes;
    let chunk = i / p.planes % p.chunks;
    let picture = i / (p.planes * p.chunks);
    let end = min((chunk + 1u) * p.chunk, p.area);
    var sum = 0.0;
    for (var at = chunk * p.chunk; at < end; at++) {
        let value = h[(picture * p.area + at) * p.planes + plane];
        sum += value * value;
    }
    y[i] = sum * (f32(p.chunks) / f32(p.area));
}

@compute @workgroup_size(64)
fn scale(id: Invocation) {
    let i = number_of(id);
    if i >= p.pictures * p.planes * p.area {
        return;
    }
    let at = i % p.area;
    let plane = i / p.area % p.planes;
    let picture = i / (p.area * p.planes);
    y[i] = p.level * h[(picture * p.area + at) * p.planes + plane] * reciprocal(square[picture * p.planes + plane]);
}

@compute @workgroup_size(64)
fn add(id: Invocation) {
    let i = number_of(id);
    let colours = p.planes / 2u;
    let one = colours * p.area;
    if i >= p.pictures * p.draws * one {
        return;
    }
    let within = i % one;
    let row = i / one;
    let picture = row / p.draws;
    let mean = s[picture * 2u * one + within];
    let spread = s[picture * 2u * one + one + within];
    y[i] = x[picture * one + within] + abs(spread) * eps[(row % p.every) * one + within] + mean;
}

@compute @workgroup_size(64)
fn split(id: Invocation) {
    let i = number_of(id);
    let one = p.planes / 2u * p.area;
    if i >= p.pictures * one {
        return;
    }
    let within = i % one;
    let picture = i / one;
    var plain = 0.0;
    var along = 0.0;
    for (var d = 0u; d < p.draws; d++) {
        let row = picture * p.draws + d;
        let slope = dy[row * one + within];
        plain += slope;
        along += slope * eps[(row % p.every) * one + within];
    }
    let at = picture * 2u * one + within;
    y[at] = plain;
    y[at + one] = sign(s[at + one]) * along;
}

@compute @workgroup_size(64)
fn products(id: Invocation) {
    let i = number_of(id);
    if i >= p.pictures * p.chunks * p.planes {
        return;
    }
    let plane = i % p.planes;
    let chunk = i / p.planes % p.chunks;
    let picture = i / (p.planes * p.chunks);
    let end = min((chunk + 1u) * p.chunk, p.area);
    var sum = 0.0;
    for (var at = chunk * p.chunk; at < end; at++) {
        sum += h[(picture * p.area + at) * p.planes + plane] * ds[(picture * p.planes + plane) * p.area + at];
    }
    y[i] = sum * (f32(p.chunks) / f32(p.area));
}

@compute @workgroup_size(64)
fn unscale(id: Invocation) {
    let i = number_of(id);
    if i >= p.pictures * p.planes * p.area {
        return;
    }
    let plane = i % p.planes;
    let at = i / p.planes % p.area;
    let picture = i / (p.planes * p.area);
    let k = picture * p.planes + plane;
    let r = reciprocal(square[k]);
    // h·r is of the size of one, so that no power of a small RMS is taken.
    y[i] = p.level * r * (ds[k * p.area + at] - h[i] * r * (product[k] * r));
}
