// SGD with momentum and weight decay, as PyTorch: g ← grad + decay·w; v ← momentum·v + g; w ← w − lr·v.
// With v = 0 before the first step this is also PyTorch's first step. `hyper` holds lr, momentum, decay: a buffer,
// not parameters, because lr changes between runs of one plan.

struct Params {
    n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> velocity: array<f32>;
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
    let v = hyper[1] * velocity[i] + (grad[i] + hyper[2] * w[i]);
    velocity[i] = v;
    w[i] = w[i] - hyper[0] * v;
}
