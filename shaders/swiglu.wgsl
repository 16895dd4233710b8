// SwiGLU (arXiv 2002.05202): x [rows, 2·width] holds gates, then values.
//
// forward: y [rows, width] = silu(gate) · value.
// backward: dx [rows, 2·width] from dy [rows, width]: dgate = dy · value · silu'(gate), dvalue = dy · silu(gate).
//# import gelu, linear

struct Params {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn forward(id: Invocation) {
    let i = number_of(id);
    if i >= p.rows * p.width {
        return;
    }
    let gate = (i / p.width) * 2u * p.width + i % p.width;
    y[i] = x[gate] * sigmoid(x[gate]) * x[gate + p.width];
}

@compute @workgroup_size(64)
fn backward(id: Invocation) {
    let i = number_of(id);
    if i >= p.rows * p.width {
        return;
    }
    let gate = (i / p.width) * 2u * p.width + i % p.width;
    let g = x[gate];
    let s = sigmoid(g);
    dx[gate] = dy[i] * x[gate + p.width] * (s + g * s * (1.0 - s));
    dx[gate + p.width] = dy[i] * g * s;
}
