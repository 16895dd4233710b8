// QuickGELU, erf-GELU and ReLU as kernels of their own, where the value before the activation must be kept.
//
// forward: y = act(x).  backward: y = dy · act'(x), with dy in `other`.
// Open constants: ACT (1 QuickGELU, 2 erf-GELU, 3 ReLU).

struct Params {
    n: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> other: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

fn element(wid: vec3<u32>, nwg: vec3<u32>, lid: u32) -> u32 {
    return (wid.y * nwg.x + wid.x) * 64u + lid;
}

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = element(wid, nwg, lid);
    if i >= p.n {
        return;
    }
    if ACT == 1u {
        y[i] = quick_gelu(x[i]);
    } else if ACT == 2u {
        y[i] = erf_gelu(x[i]);
    } else {
        y[i] = max(x[i], 0.0);
    }
}

@compute @workgroup_size(64)
fn backward(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = element(wid, nwg, lid);
    if i >= p.n {
        return;
    }
    if ACT == 1u {
        y[i] = other[i] * quick_gelu_slope(x[i]);
    } else if ACT == 2u {
        y[i] = other[i] * erf_gelu_slope(x[i]);
    } else {
        y[i] = select(0.0, other[i], x[i] > 0.0);
    }
}
