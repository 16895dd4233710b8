// Tip-X's KL divergence between the class distributions of queries and cache keys, as one well-conditioned product.
//
// With z the logits f·Wᵀ/T of a row, centred over classes, and m = log mean exp z,
//   KL(p ‖ q) = Σ p·z_p − m_p + m_q − p·z_q,
// and since z_q is centred, p may be replaced by p − 1/C. Every term is then as small as the divergence itself, where
// Σ p·log p − p·log q would subtract two numbers of the size of log C.
//
// rows: from logits x [rows, classes], centred logits, centred probabilities (`shares`) and per row `stats` (Σ p·z − m, m).
// class_sums: y[c, i] = Σ_{j in class c} x[j, i], for rows sorted by class, starts[c]…starts[c+1] being class c's.
// term: −Σ_{j in class c} ψ_ij, ψ = slope·(KL − low) + floor, from `product` = p·(Σ_j z_q)ᵀ [rows, classes],
//   the queries' statistics [rows, 2] and the classes' summed statistics [classes, 2]; times `gamma`, and
//   plus `base` [rows, classes] when BASE is 1.
// Open constant: BASE.
//# import rowwise

struct Params {
    rows: u32,
    width: u32, // classes; class_sums: columns of x
    slope: f32,
    low: f32,
    floor: f32,
    gamma: f32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> product: array<f32>;
@group(0) @binding(3) var<storage, read> query_stats: array<f32>;
@group(0) @binding(4) var<storage, read> class_stats: array<f32>;
@group(0) @binding(5) var<storage, read> starts: array<u32>;
//# if BASE
@group(0) @binding(6) var<storage, read> base: array<f32>;
//# end
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read_write> centred: array<f32>;
@group(0) @binding(9) var<storage, read_write> shares: array<f32>;
@group(0) @binding(10) var<storage, read_write> stats: array<f32>;

// exp(v) − 1 without losing small v.
fn expm1(v: f32) -> f32 {
    if abs(v) > 0.35 {
        return exp(v) - 1.0;
    }
    var r = 2.4801587e-5;
    r = fma(r, v, 1.9841270e-4);
    r = fma(r, v, 1.3888889e-3);
    r = fma(r, v, 8.3333333e-3);
    r = fma(r, v, 4.1666667e-2);
    r = fma(r, v, 1.6666667e-1);
    r = fma(r, v, 0.5);
    return fma(r * v, v, v);
}

// log(1 + v) for v ≥ 0 without losing small v: twice the inverse hyperbolic tangent of v/(2 + v).
fn log1p(v: f32) -> f32 {
    if v > 1.0 {
        return log(1.0 + v);
    }
    let s = v / (2.0 + v);
    let t = s * s;
    var r = 0.066666667;
    r = fma(r, t, 0.076923077);
    r = fma(r, t, 0.090909091);
    r = fma(r, t, 0.11111111);
    r = fma(r, t, 0.14285714);
    r = fma(r, t, 0.2);
    r = fma(r, t, 0.33333333);
    return 2.0 * fma(r * t, s, s);
}

@compute @workgroup_size(LANES)
fn rows(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let row = workgroup_of(id);
    if row >= p.rows {
        return;
    }
    let at = row * p.width;
    let n = f32(p.width);
    var sum = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        sum += x[at + i];
    }
    let mean = total(sum, lid) / n;
    var grown = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        grown += expm1(x[at + i] - mean);
    }
    // Mean of exp z, less 1: not negative but for rounding, since z has mean 0.
    let u = max(total(grown, lid) / n, 0.0);
    var own = 0.0;
    for (var i = lid; i < p.width; i += LANES) {
        let v = x[at + i] - mean;
        let share = (expm1(v) - u) / ((1.0 + u) * n);
        centred[at + i] = v;
        shares[at + i] = share;
        own += share * v;
    }
    let m = log1p(u);
    own = total(own, lid);
    if lid == 0u {
        stats[2u * row] = own - m;
        stats[2u * row + 1u] = m;
    }
}

@compute @workgroup_size(LANES)
fn class_sums(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let i = workgroup_of(id) * LANES + lid;
    if i >= p.rows * p.width {
        return;
    }
    let class_ = i / p.width;
    let end = min(starts[class_ + 1u], arrayLength(&x) / p.width);
    var sum = 0.0;
    for (var j = starts[class_]; j < end; j++) {
        sum += x[j * p.width + i % p.width];
    }
    y[i] = sum;
}

@compute @workgroup_size(LANES)
fn term(id: Workgroup, @builtin(local_invocation_index) lid: u32) {
    let i = workgroup_of(id) * LANES + lid;
    if i >= p.rows * p.width {
        return;
    }
    let class_ = i % p.width;
    let keys = f32(starts[class_ + 1u] - starts[class_]);
    let kl = keys * (query_stats[2u * (i / p.width)] - p.low) + (class_stats[2u * class_ + 1u] - product[i]);
    var v = -p.gamma * fma(p.slope, kl, keys * p.floor);
    //# if BASE
    v += base[i];
    //# end
    y[i] = v;
}
