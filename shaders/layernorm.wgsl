// LayerNorm over the last dimension of x [rows, width], one workgroup per row.
//
// forward: y = (x − mean)·rstd·gain + shift, plus `base` when BASE is 1 (the residual stream, in towers whose norms come
// behind their branches); stats [rows,2] keeps mean and rstd for backward.
// backward, for a frozen gain: dx = rstd·(g − mean(g) − x̂·mean(g·x̂)) with g = dy·gain, plus `base` (the gradient
// that reaches x past the norm, on the residual stream) when BASE is 1.
// Open constants: BASE, HALF (y is f16, two to a word; rows are of an even number).
//# import rowwise

struct Params {
    rows: u32,
    width: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gain: array<f32>;
@group(0) @binding(3) var<storage, read> shift: array<f32>;
@group(0) @binding(4) var<storage, read> dy: array<f32>;
//# if BASE
@group(0) @binding(5) var<storage, read> base: array<f32>;
//# end
@group(0) @binding(6) var<storage, read_write> stats: array<f32>;
//# if HALF
@group(0) @binding(7) var<storage, read_write> y: array<u32>;
//# else
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
//# end
@group(0) @binding(8) var<storage, read_write> dx: array<f32>;

fn normal(at: u32, i: u32, mean: f32, rstd: f32) -> f32 {
    let v = (x[at + i] - mean) * rstd * gain[i] + shift[i];
    //# if BASE
    return v + base[at + i];
    //# else
    return v;
    //# end
}

@compute @workgroup_size(LANES)
fn forward(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    let width = f32(p.width);
    var sum = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        sum += x[at + i];
    }
    let mean = total(sum, lid) / width;
    // A second pass over the row: the variance as mean(x²) − mean² would cancel.
    var squares = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        let d = x[at + i] - mean;
        squares += d * d;
    }
    let rstd = inverseSqrt(total(squares, lid) / width + p.eps);
    //# if HALF
    for (var i = 2u * lid; i < p.width; i += 2u * LANES) {
        let pair = vec2<f32>(normal(at, i, mean, rstd), normal(at, i + 1u, mean, rstd));
        y[(at + i) / 2u] = pack2x16float(pair);
    }
    //# else
    for (var i = lid; i < p.width; i += LANES) {
        y[at + i] = normal(at, i, mean, rstd);
    }
    //# end
    if lid == 0u {
        stats[row * 2u] = mean;
        stats[row * 2u + 1u] = rstd;
    }
}

@compute @workgroup_size(LANES)
fn backward(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    let mean = stats[row * 2u];
    let rstd = stats[row * 2u + 1u];
    var plain = 0.0;
    var along = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        let g = dy[at + i] * gain[i];
        plain += g;
        along += g * (x[at + i] - mean) * rstd;
    }
    let mean_g = total(plain, lid) / f32(p.width);
    let mean_gx = total(along, lid) / f32(p.width);
    for (var i = lid; i < p.width; i += LANES) {
        let g = dy[at + i] * gain[i];
        var d = rstd * (g - mean_g - (x[at + i] - mean) * rstd * mean_gx);
        //# if BASE
        d += base[at + i];
        //# end
        dx[at + i] = d;
    }
}
