// Softmax over the last dimension of [rows, width], one workgroup per row.
//
// forward: y = softmax(x).  backward: y = s∘(dy − Σ s·dy), with s (the softmax) in `x` and dy in `other`.

struct Params {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> other: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn forward(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = wid.y * nwg.x + wid.x;
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    // A large finite number, not −∞: fast-math compilers may assume that there are no infinities.
    var top = -3.0e38;
    for (var i = lid; i < p.width; i += LANES) {
        top = max(top, x[at + i]);
    }
    top = largest(top, lid);
    var sum = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        sum += exp(x[at + i] - top);
    }
    sum = total(sum, lid);
    for (var i = lid; i < p.width; i += LANES) {
        y[at + i] = exp(x[at + i] - top) / sum;
    }
}

@compute @workgroup_size(LANES)
fn backward(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) nwg: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = wid.y * nwg.x + wid.x;
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    var sum = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        sum += x[at + i] * other[at + i];
    }
    sum = total(sum, lid);
    for (var i = lid; i < p.width; i += LANES) {
        y[at + i] = x[at + i] * (other[at + i] - sum);
    }
}
