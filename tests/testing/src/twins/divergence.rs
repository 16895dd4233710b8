//! Twins of `divergence`, `extremes` and `pairs`.

use super::real::{Real, dot, sum};

/// exp(x) − 1 from its series: no small x is lost.
fn expm1<T: Real>(x: T) -> T {
    let mut term = x;
    let mut total = x;
    for i in 2..60 {
        term = term * x / T::of(f64::from(i));
        total = total + term;
    }
    total
}

/// log(1 + x) for x ≥ 0 from the series of the inverse hyperbolic tangent of x/(2 + x).
fn log1p<T: Real>(x: T) -> T {
    let s = x / (T::of(2.0) + x);
    let square = s * s;
    let (mut power, mut total) = (s, s);
    for i in 1..400 {
        power = power * square;
        total = total + power / T::of(f64::from(2 * i + 1));
    }
    T::of(2.0) * total
}

/// Of logits x [rows, classes]: centred logits, probabilities less 1/classes, and per row Σ p·z − m and m.
pub fn distributions<T: Real>(x: &[T], classes: usize) -> (Vec<T>, Vec<T>, Vec<T>) {
    let n = T::of(classes as f64);
    let (mut centred, mut shares, mut stats) = (Vec::new(), Vec::new(), Vec::new());
    for row in x.chunks(classes) {
        let mean = sum(row.iter().copied()) / n;
        let z: Vec<T> = row.iter().map(|v| *v - mean).collect();
        let grown: Vec<T> = z.iter().map(|v| expm1(*v)).collect();
        let u = sum(grown.iter().copied()) / n;
        let share: Vec<T> = grown.iter().map(|g| (*g - u) / ((T::of(1.0) + u) * n)).collect();
        let m = log1p(u);
        stats.extend([dot(&share, &z) - m, m]);
        centred.extend(z);
        shares.extend(share);
    }
    (centred, shares, stats)
}

/// KL(P_i ‖ Q_j) [rows, keys] by its definition, Σ P log(P/Q): the truth that the other form must give.
pub fn kl(p: &[f64], q: &[f64], classes: usize) -> Vec<f64> {
    let log_softmax = |row: &[f64]| -> Vec<f64> {
        let total = super::real::log_sum_exp(row);
        row.iter().map(|v| v - total).collect()
    };
    let q: Vec<Vec<f64>> = q.chunks(classes).map(log_softmax).collect();
    p.chunks(classes)
        .map(log_softmax)
        .flat_map(|p| {
            q.iter().map(|q| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>()).collect::<Vec<_>>()
        })
        .collect()
}

/// −p·z_qᵀ + part_q [rows, keys].
pub fn matrix<T: Real>(shares: &[T], centred: &[T], parts: &[T], classes: usize) -> Vec<T> {
    shares
        .chunks(classes)
        .flat_map(|p| centred.chunks(classes).zip(parts).map(|(z, m)| *m - dot(p, z)).collect::<Vec<_>>())
        .collect()
}

/// Sums over each class's rows of x [n, width].
pub fn class_sums<T: Real>(x: &[T], starts: &[u32], width: usize) -> Vec<T> {
    starts
        .windows(2)
        .flat_map(|c| {
            (0..width).map(|i| sum((c[0] as usize..c[1] as usize).map(|j| x[j * width + i]))).collect::<Vec<_>>()
        })
        .collect()
}

/// Slope, low and floor of ψ, and γ.
#[derive(Clone, Copy, Debug)]
pub struct Psi {
    pub slope: f32,
    pub low: f32,
    pub floor: f32,
    pub gamma: f32,
}

/// γ·(−ψ)·L [rows, classes] from the whole matrix of divergences [rows, keys], key by key.
pub fn class_term<T: Real>(kl: &[T], starts: &[u32], psi: Psi) -> Vec<T> {
    let [slope, low, floor, gamma] = [psi.slope, psi.low, psi.floor, psi.gamma].map(|v| T::of(f64::from(v)));
    let keys = starts[starts.len() - 1] as usize;
    kl.chunks(keys)
        .flat_map(|row| {
            starts
                .windows(2)
                .map(|c| {
                    let own = &row[c[0] as usize..c[1] as usize];
                    -(gamma * sum(own.iter().map(|m| slope * (*m - low) + floor)))
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Histograms of pairs i < j by their similarities x [rows, cols]: same-class pairs, then the others. `mirrored` plants
/// counting each pair from both sides.
pub fn pairs(
    x: &[f32],
    row_labels: &[u32],
    col_labels: &[u32],
    first: (usize, usize),
    bins: usize,
    mirrored: bool,
) -> Vec<u32> {
    let mut counts = vec![0; 2 * bins];
    for (r, row) in x.chunks(col_labels.len()).enumerate() {
        for (c, v) in row.iter().enumerate() {
            let (i, j) = (first.0 + r, first.1 + c);
            if i < j || (mirrored && i > j) {
                let bin = ((f64::from(*v) + 1.0) * 0.5 * bins as f64).floor().clamp(0.0, bins as f64 - 1.0) as usize;
                counts[bin + if row_labels[r] == col_labels[c] { 0 } else { bins }] += 1;
            }
        }
    }
    counts
}
