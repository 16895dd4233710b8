// Softmax over the last dimension of [rows, width], one workgroup per row.
//
// forward: y = softmax(x).  backward: dx = s∘(dy − Σ s·dy), with s the softmax.
//# import rowwise

struct Params {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(LANES)
fn forward(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
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
fn backward(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    var sum = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        sum += s[at + i] * dy[at + i];
    }
    sum = total(sum, lid);
    for (var i = lid; i < p.width; i += LANES) {
        dx[at + i] = s[at + i] * (dy[at + i] - sum);
    }
}
