// sgd: SGD with momentum and weight decay, as PyTorch: g ← grad + decay·w; v ← momentum·v + g; w ← w − lr·v.
// With v = 0 before the first step this is also PyTorch's first step. `hyper` holds lr, momentum, decay: a buffer,
// not parameters, because lr changes between runs of one plan.
//
// adamw: AdamW, as PyTorch: w ← w·(1 − lr·decay); m ← β1·m + (1 − β1)·g; v ← β2·v + (1 − β2)·g²;
// w ← w − lr/(1 − β1ᵗ)·m/(√v/√(1 − β2ᵗ) + eps). `moments` holds all m, then all v. `hyper` holds, worked out in f64,
// 1 − lr·decay, lr/(1 − β1ᵗ), β1, 1 − β1, β2, 1 − β2, 1/√(1 − β2ᵗ), eps.
//
// accumulate: sum ← hyper[0]·sum + hyper[1]·grad, for gradients of parts of a batch.
//
// blend: w ← w + hyper[0]·(grad − w), a running mean of what is bound as `grad`. As a sum of two products it would drift by what
// rounding leaves of their factors' sum.
//# import linear

struct Params {
    n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> velocity: array<f32>;
@group(0) @binding(4) var<storage, read_write> moments: array<f32>;
@group(0) @binding(5) var<storage, read_write> sum: array<f32>;
@group(0) @binding(6) var<storage, read_write> w: array<f32>;

@compute @workgroup_size(64)
fn sgd(id: Invocation) {
    let i = number_of(id);
    if i >= p.n {
        return;
    }
    let v = hyper[1] * velocity[i] + (grad[i] + hyper[2] * w[i]);
    velocity[i] = v;
    w[i] = w[i] - hyper[0] * v;
}

@compute @workgroup_size(64)
fn adamw(id: Invocation) {
    let i = number_of(id);
    if i >= p.n {
        return;
    }
    let g = grad[i];
    let m = hyper[2] * moments[i] + hyper[3] * g;
    let v = hyper[4] * moments[p.n + i] + hyper[5] * g * g;
    moments[i] = m;
    moments[p.n + i] = v;
    w[i] = hyper[0] * w[i] - hyper[1] * m / (sqrt(v) * hyper[6] + hyper[7]);
}

@compute @workgroup_size(64)
fn accumulate(id: Invocation) {
    let i = number_of(id);
    if i >= p.n {
        return;
    }
    // Not a product with 0: what is not yet initialised may be NaN.
    let kept = select(0.0, hyper[0] * sum[i], hyper[0] != 0.0);
    sum[i] = kept + hyper[1] * grad[i];
}

@compute @workgroup_size(64)
fn blend(id: Invocation) {
    let i = number_of(id);
    if i >= p.n {
        return;
    }
    w[i] = w[i] + hyper[0] * (grad[i] - w[i]);
}
