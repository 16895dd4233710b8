// DINO's loss (arXiv 2104.14294) over a wide head, one workgroup per row. Rows are views, view after view: row v·pictures + b
// is view v of picture b. The first `globals` views of each picture are the teacher's too.
//
// teacher: t = softmax((x − centre)·sharp[0]), centre [width] the same for all rows.
//
// student: p = softmax(x·sharp[1]); losses[r] = weight·Σ_q Σ_k −t_q[k]·log p[k] over the teacher's views q of the same
// picture but the row's own, `weight` being such that their mean over all rows is the loss; grad is that mean's gradient by x,
// step·sharp[1]·(m·p − Σ_q t_q), m being the number of such q.
//# import rowwise

struct Params {
    rows: u32,
    width: u32,
    pictures: u32,
    globals: u32,
    weight: f32,
    step: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> sharp: array<f32>;
@group(0) @binding(3) var<storage, read> centre: array<f32>;
@group(0) @binding(4) var<storage, read> t: array<f32>;
@group(0) @binding(5) var<storage, read_write> losses: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(LANES)
fn teacher(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    let s = sharp[0];
    // A large finite number, not −∞: fast-math compilers may assume that there are no infinities.
    var top = -3.0e38;
    for (var i = lid; i < p.width; i += LANES) {
        top = max(top, x[at + i] - centre[i]);
    }
    top = largest(top, lid);
    var sum = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        sum += exp(s * ((x[at + i] - centre[i]) - top));
    }
    sum = total(sum, lid);
    for (var i = lid; i < p.width; i += LANES) {
        y[at + i] = exp(s * ((x[at + i] - centre[i]) - top)) / sum;
    }
}

// What the teacher's views of a row's picture, but the row's own, say of column i, added up.
fn wanted(row: u32, i: u32) -> f32 {
    let view = row / p.pictures;
    let picture = row % p.pictures;
    var sum = 0.0;
    for (var q = 0u; q < p.globals; q++) {
        if q != view {
            sum += t[(q * p.pictures + picture) * p.width + i];
        }
    }
    return sum;
}

@compute @workgroup_size(LANES)
fn student(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    let s = sharp[1];
    var top = -3.0e38;
    for (var i = lid; i < p.width; i += LANES) {
        top = max(top, x[at + i]);
    }
    top = largest(top, lid);
    var sum = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        sum += exp(s * (x[at + i] - top));
    }
    sum = total(sum, lid);
    let log_sum = log(sum);
    let views = f32(p.globals) - select(0.0, 1.0, row / p.pictures < p.globals);
    var loss = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        let below = s * (x[at + i] - top);
        let target_sum = wanted(row, i);
        loss += target_sum * (log_sum - below);
        y[at + i] = p.step * s * (views * (exp(below) / sum) - target_sum);
    }
    loss = total(loss, lid);
    if lid == 0u {
        losses[row] = p.weight * loss;
    }
}
