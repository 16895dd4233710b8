// sgd: SGD with momentum and weight decay, as PyTorch: g ← grad + decay·w; v ← momentum·v + g; w ← w − lr·v.
// With v = 0 before the first step this is also PyTorch's first step. `hyper` holds lr, momentum, decay: a buffer,
// not parameters, because lr changes between runs of one plan.
//
// adamw: AdamW, as PyTorch: w ← w·(1 − lr·decay); m ← β1·m + (1 − β1)·g; v ← β2·v + (1 − β2)·g²;
// w ← w − lr/(1 − β1ᵗ)·m/(√v/√(1 − β2ᵗ) + eps). `state` holds all m, then all v. `hyper` holds, worked out in f64,
// 1 − lr·decay, lr/(1 − β1ᵗ), β1, 1 − β1, β2, 1 − β2, 1/√(1 − β2ᵗ), eps.
//
// accumulate: state ← hyper[0]·state + hyper[1]·grad, for gradients of parts of a batch; w is not touched.

struct Params {
    n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> state: array<f32>;
@group(0) @binding(4) var<storage, read_write> w: array<f32>;

@compute @workgroup_size(64)
fn sgd(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = (wid.y * nwg.x + wid.x) * 64u + lid;
    if i >= p.n {
        return;
    }
    let v = hyper[1] * state[i] + (grad[i] + hyper[2] * w[i]);
    state[i] = v;
    w[i] = w[i] - hyper[0] * v;
}

@compute @workgroup_size(64)
fn adamw(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = (wid.y * nwg.x + wid.x) * 64u + lid;
    if i >= p.n {
        return;
    }
    let g = grad[i];
    let m = hyper[2] * state[i] + hyper[3] * g;
    let v = hyper[4] * state[p.n + i] + hyper[5] * g * g;
    state[i] = m;
    state[p.n + i] = v;
    w[i] = hyper[0] * w[i] - hyper[1] * m / (sqrt(v) * hyper[6] + hyper[7]);
}

@compute @workgroup_size(64)
fn accumulate(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = (wid.y * nwg.x + wid.x) * 64u + lid;
    if i >= p.n {
        return;
    }
    // Not a product with 0: what is not yet initialised may be NaN.
    let kept = select(0.0, hyper[0] * state[i], hyper[0] != 0.0);
    state[i] = kept + hyper[1] * grad[i];
}
