// Clipping of one tensor's gradient by its length, as PyTorch's clip_grad_norm_ with one tensor, one workgroup per row of
// [rows, width]. The sums have a fixed order, so equal inputs give equal bits.
//
// squares: squared[r] = Σ x².  clip: y ← y·min(1, most/(√(Σ_r parts) + 1e-6)), `parts` being what squares gave.
//# import rowwise

struct Params {
    rows: u32,
    width: u32,
    most: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> parts: array<f32>;
@group(0) @binding(3) var<storage, read_write> squared: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn squares(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    var sum = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        sum += x[at + i] * x[at + i];
    }
    sum = total(sum, lid);
    if lid == 0u {
        squared[row] = sum;
    }
}

@compute @workgroup_size(LANES)
fn clip(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    var sum = 0.0;
    for (var i = lid; i < p.rows; i += LANES) {
        sum += parts[i];
    }
    let factor = min(1.0, p.most / (sqrt(total(sum, lid)) + 1e-6));
    for (var i = lid; i < p.width; i += LANES) {
        y[at + i] = factor * y[at + i];
    }
}
