// Strided sums: y[g,d] = scale · Σ_t x[g·group_step + t·term_step + d], for d below width, t below terms, g below
// groups. Means over views or templates, bias gradients and sums over draws are all this. The order of the sum is
// fixed, so equal inputs give equal bits.
//# import linear

struct Params {
    groups: u32,
    terms: u32,
    width: u32,
    group_step: u32,
    term_step: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(id: Invocation) {
    let i = number_of(id);
    if i >= p.groups * p.width {
        return;
    }
    var at = (i / p.width) * p.group_step + i % p.width;
    var sum = 0.0;
    for (var t = 0u; t < p.terms; t++) {
        sum += x[at];
        at += p.term_step;
    }
    y[i] = p.scale * sum;
}
