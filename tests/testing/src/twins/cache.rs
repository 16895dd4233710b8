//! Twins of `affinity` and `search`.

use super::real::{Real, Tracked, dot, sum};

/// y [betas, queries, classes] = scale·Σ over class c's keys of exp(−β(1 − f·g)).
pub fn cache_term<T: Real>(f: &[T], keys: &[T], starts: &[u32], betas: &[T], scale: f32, width: usize) -> Vec<T> {
    // The affinity matrix [queries, keys], written out.
    let affinity: Vec<Vec<T>> = f.chunks(width).map(|f| keys.chunks(width).map(|g| dot(f, g)).collect()).collect();
    let mut y = Vec::new();
    for beta in betas {
        for row in &affinity {
            for class in starts.windows(2) {
                let own = &row[class[0] as usize..class[1] as usize];
                let terms = own.iter().map(|a| (-*beta * (T::of(1.0) - *a)).exp());
                y.push(T::of(f64::from(scale)) * sum(terms));
            }
        }
    }
    y
}

/// The keys' gradient from the logits' gradient dy [queries, classes]: d/dg of scale·exp(−β(1 − f·g)), one β.
pub fn cache_backward<T: Real>(
    f: &[T],
    keys: &[T],
    labels: &[u32],
    beta: T,
    scale: f32,
    dy: &[T],
    width: usize,
) -> Vec<T> {
    let queries = f.len() / width;
    let classes = dy.len() / queries;
    let mut grad = Vec::new();
    for (g, label) in keys.chunks(width).zip(labels) {
        let factors: Vec<T> = (0..queries)
            .map(|b| {
                let near = (beta * (dot(&f[b * width..(b + 1) * width], g) - T::of(1.0))).exp();
                T::of(f64::from(scale)) * beta * near * dy[b * classes + *label as usize]
            })
            .collect();
        grad.extend((0..width).map(|i| sum(factors.iter().enumerate().map(|(b, v)| *v * f[b * width + i]))));
    }
    grad
}

/// How many rows are certainly, and how many are possibly, right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    pub least: u32,
    pub most: u32,
}

/// The grid's factors.
#[derive(Clone, Copy, Debug)]
pub struct Axes<'a> {
    pub alphas: &'a [f32],
    pub gammas: &'a [f32],
}

/// Rows whose best logit base + γ·kl + α·cache[β] is the label's, at each point [betas, gammas, alphas]: a plain loop over
/// the grid. A row whose decision is closer than f32 can tell is counted in `most` only; exact ties go to the first
/// (`last`: to the last, planted).
pub fn search(
    base: &[f32],
    cache: &[f32],
    kl: Option<&[f32]>,
    labels: &[u32],
    axes: Axes<'_>,
    last: bool,
) -> Vec<Count> {
    let wide = |v: f32| Tracked::of(f64::from(v));
    let classes = base.len() / labels.len();
    let mut counts = Vec::new();
    for cache in cache.chunks(base.len()) {
        for gamma in axes.gammas {
            let fixed: Vec<Tracked> = (0..base.len())
                .map(|i| kl.map_or(wide(base[i]), |kl| wide(base[i]) + wide(*gamma) * wide(kl[i])))
                .collect();
            for alpha in axes.alphas {
                let mut count = Count { least: 0, most: 0 };
                for (row, label) in labels.iter().enumerate() {
                    let at = row * classes;
                    let logits: Vec<Tracked> =
                        (at..at + classes).map(|i| fixed[i] + wide(*alpha) * wide(cache[i])).collect();
                    let own = logits[*label as usize];
                    let (mut sure, mut possible) = (true, true);
                    for (c, v) in logits.iter().enumerate().filter(|(c, _)| *c != *label as usize) {
                        let gap = own.value - v.value;
                        let blur = 8.0 * (own.variance + v.variance).sqrt();
                        let wins_tie = if last { (*label as usize) > c } else { (*label as usize) < c };
                        if gap == 0.0 {
                            // Equal sums of equal numbers are equal in f32 too.
                            sure &= wins_tie;
                            possible &= wins_tie;
                        } else {
                            sure &= gap > blur;
                            possible &= gap > -blur;
                        }
                    }
                    count.least += u32::from(sure);
                    count.most += u32::from(possible);
                }
                counts.push(count);
            }
        }
    }
    counts
}
