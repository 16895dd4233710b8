// QuickGELU, erf-GELU, ReLU and tanh-GELU as kernels of their own, where the value before the activation must be kept.
//
// forward: y = act(x).  backward: dx = dy · act'(x).
// Open constants: ACT (1 QuickGELU, 2 erf-GELU, 3 ReLU, 4 tanh-GELU).
//# import gelu, linear

struct Params {
    n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(64)
fn forward(id: Invocation) {
    let i = number_of(id);
    if i >= p.n {
        return;
    }
    if ACT == 1u {
        y[i] = quick_gelu(x[i]);
    } else if ACT == 2u {
        y[i] = erf_gelu(x[i]);
    } else if ACT == 4u {
        y[i] = tanh_gelu(x[i]);
    } else {
        y[i] = max(x[i], 0.0);
    }
}

@compute @workgroup_size(64)
fn backward(id: Invocation) {
    let i = number_of(id);
    if i >= p.n {
        return;
    }
    if ACT == 1u {
        dx[i] = dy[i] * quick_gelu_slope(x[i]);
    } else if ACT == 2u {
        dx[i] = dy[i] * erf_gelu_slope(x[i]);
    } else if ACT == 4u {
        dx[i] = dy[i] * tanh_gelu_slope(x[i]);
    } else {
        dx[i] = select(0.0, dy[i], x[i] > 0.0);
    }
}
