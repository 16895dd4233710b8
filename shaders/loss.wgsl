// Cross-entropy of logits [rows, classes] against labels [rows], one workgroup per row:
// losses[r] = log Σ exp(x − max) + max − x[label], and its gradient by the logits of the mean over rows,
// grad = (softmax(x) − onehot(label))/rows.
//# import rowwise

struct Params {
    rows: u32,
    classes: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;
@group(0) @binding(4) var<storage, read_write> grad: array<f32>;

@compute @workgroup_size(LANES)
fn main(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.classes;
    let label = min(labels[row], p.classes - 1u); // a wrong label must not read past the row
    var top = -3.0e38;
    for (var i = lid; i < p.classes; i += LANES) {
        top = max(top, x[at + i]);
    }
    top = largest(top, lid);
    var sum = 0.0;
    for (var i = lid; i < p.classes; i += LANES) {
        sum += exp(x[at + i] - top);
    }
    sum = total(sum, lid);
    let rows = f32(p.rows);
    for (var i = lid; i < p.classes; i += LANES) {
        let hot = select(0.0, 1.0, i == label);
        grad[at + i] = (exp(x[at + i] - top) / sum - hot) / rows;
    }
    if lid == 0u {
        losses[row] = log(sum) + top - x[at + label];
    }
}
