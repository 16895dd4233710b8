// L2 normalisation over the last dimension of [rows, width], one workgroup per row.
//
// forward: y = x/‖x‖; norms [rows] keeps ‖x‖.  backward: dx = (dy − u·(u·dy))/‖x‖ with u = x/‖x‖.
// A row of zeros stays zero: the norm is held at 1e-12 or more.
//# import rowwise

struct Params {
    rows: u32,
    width: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> norms: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(LANES)
fn forward(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    var squares = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        squares += x[at + i] * x[at + i];
    }
    let norm = max(sqrt(total(squares, lid)), 1e-12);
    for (var i = lid; i < p.width; i += LANES) {
        y[at + i] = x[at + i] / norm;
    }
    if lid == 0u {
        norms[row] = norm;
    }
}

@compute @workgroup_size(LANES)
fn backward(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    let norm = norms[row];
    var dot = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        dot += x[at + i] / norm * dy[at + i];
    }
    dot = total(dot, lid);
    for (var i = lid; i < p.width; i += LANES) {
        dx[at + i] = (dy[at + i] - x[at + i] / norm * dot) / norm;
    }
}
