//! Choosing α, β and γ on validation data.
//!
//! β enters through the cache terms only, and α and γ are factors on finished terms, so a grid costs one pass over the
//! cache for up to 20 values of β, and counting. Along α every logit is a straight line, so counting takes all values of
//! α at once (see `shaders/search.wgsl`). The counts are those of a plain loop over all points.

use super::tip::Cache;
use super::tip_x::{Psi, TipX, TipXParams};
use super::zero_shot::Classifier;
use crate::clip::Features;
use crate::gpu::{Gpu, Recorder};
use crate::kernels::affinity::MAX_BETAS;
use crate::kernels::search::{self, MAX_ALPHAS, Terms};
use crate::{Error, Result, numbers};

/// Which loop is the outer one: it decides which of several equally good points comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// α outermost, then β, then γ: the grids of Tip-X and of the intra-modal-overlap paper.
    AlphaBeta,
    /// β outermost, then α, then γ: Tip-Adapter's own search.
    BetaAlpha,
}

/// A grid over α, β and γ.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Values of α.
    pub alphas: Vec<f64>,
    /// Values of β.
    pub betas: Vec<f64>,
    /// Values of γ; one of 0 where there is no divergence term.
    pub gammas: Vec<f64>,
    /// Loop order.
    pub order: Order,
}

/// Rows that a squared step from the point to begin with is worth: see [`Grid::best`].
pub const FAR: f64 = 0.1;

/// The most points of a grid: each costs a counter, and all of them are tried.
pub const MOST_POINTS: usize = 10_000_000;

/// `n` values from `lo` to `hi`, both included, as NumPy's linspace; at most [`MOST_POINTS`].
pub fn linspace(lo: f64, hi: f64, n: usize) -> Vec<f64> {
    let n = n.min(MOST_POINTS);
    let step = (hi - lo) / n.saturating_sub(1).max(1) as f64;
    (0..n).map(|i| if i > 0 && i + 1 == n { hi } else { lo + i as f64 * step }).collect()
}

/// Tip-Adapter's datasets, with the tops of its grids for β and α.
const TIP_ADAPTER: [(&str, f64, f64); 12] = [
    ("caltech101", 12.0, 5.0),
    ("dtd", 13.0, 13.0),
    ("eurosat", 12.0, 10.0),
    ("fgvc", 30.0, 30.0),
    ("food101", 10.0, 10.0),
    ("imagenet", 7.0, 3.0),
    ("pets", 7.0, 3.0),
    ("ucf101", 7.0, 3.0),
    ("flowers", 50.0, 50.0),
    ("cars", 20.0, 10.0),
    ("sun397", 12.0, 10.0),
    ("sun", 12.0, 10.0),
];

impl Grid {
    /// A grid over α and β, α outermost, without a divergence term.
    pub fn alpha_beta(alphas: Vec<f64>, betas: Vec<f64>) -> Grid {
        Grid { alphas, betas, gammas: vec![0.0], order: Order::AlphaBeta }
    }

    /// A coarse, wide grid: α 0…50 in 26 steps, β 0…20 in 11, and with a divergence term γ 0…50 in 26.
    /// Wide enough for logit scales from 20 to 100; it holds α = γ = 0, so "the cache does not help" is a legal answer.
    pub fn standard(divergence: bool) -> Grid {
        let gammas = if divergence { linspace(0.0, 50.0, 26) } else { vec![0.0] };
        Grid { gammas, ..Grid::alpha_beta(linspace(0.0, 50.0, 26), linspace(0.0, 20.0, 11)) }
    }

    /// The grid of Tip-X and of the intra-modal-overlap paper: α 0…20 in 200 steps, β 0…20 in 20 and, with a divergence
    /// term, γ 0…30 in 50.
    pub fn paper(divergence: bool) -> Grid {
        let gammas = if divergence { linspace(0.0, 30.0, 50) } else { vec![0.0] };
        Grid { gammas, ..Grid::alpha_beta(linspace(0.0, 20.0, 200), linspace(0.0, 20.0, 20)) }
    }

    /// Tip-Adapter's own grid (its code's `search_hp`): β in `steps.0` steps from 0.1 towards `tops.0`, α in `steps.1`
    /// steps from 0.1 towards `tops.1`; the tops themselves are never reached. At most [`MOST_POINTS`] steps each.
    pub fn tip_adapter(tops: (f64, f64), steps: (usize, usize)) -> Grid {
        let steps = (steps.0.min(MOST_POINTS), steps.1.min(MOST_POINTS));
        let values = |top: f64, n: usize| (0..n).map(|i| i as f64 * (top - 0.1) / n as f64 + 0.1).collect();
        let (alphas, betas) = (values(tops.1, steps.1), values(tops.0, steps.0));
        Grid { order: Order::BetaAlpha, ..Grid::alpha_beta(alphas, betas) }
    }

    /// Tip-Adapter's grid for one of its datasets (200 values of β, 20 of α), by the dataset's name in CoOp or there.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not among them, with those that are.
    pub fn tip_adapter_for(dataset: &str) -> Result<Grid> {
        let wanted = dataset.to_lowercase().replace(['-', '_'], "");
        let name = match wanted.as_str() {
            "oxfordpets" | "oxfordiiitpet" => "pets",
            "oxfordflowers" | "flowers102" => "flowers",
            "describabletextures" => "dtd",
            "stanfordcars" => "cars",
            "fgvcaircraft" | "aircraft" => "fgvc",
            "caltech" => "caltech101",
            "food" => "food101",
            other => other,
        };
        match TIP_ADAPTER.iter().find(|(known, ..)| *known == name) {
            Some((_, beta, alpha)) => Ok(Grid::tip_adapter((*beta, *alpha), (200, 20))),
            None => Err(Error::invalid(format!(
                "Tip-Adapter has no grid for '{dataset}'; it has some for {}",
                TIP_ADAPTER.map(|(known, ..)| known)[..11].join(", ")
            ))),
        }
    }

    /// A grid by its name or its ranges: `paper`, `standard`, `tip-adapter:DATASET`, or
    /// `alpha=lo:hi:n,beta=lo:hi:n,gamma=lo:hi:n`, each range with both ends included. Without a divergence term γ is
    /// left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] that says which part is not understood and what would be right.
    pub fn parse(text: &str, divergence: bool) -> Result<Grid> {
        match text.trim() {
            "paper" => return Ok(Grid::paper(divergence)),
            "standard" => return Ok(Grid::standard(divergence)),
            other => {
                if let Some(dataset) = other.strip_prefix("tip-adapter:") {
                    let grid = Grid::tip_adapter_for(dataset)?;
                    return Ok(Grid { gammas: Grid::paper(divergence).gammas, ..grid });
                }
            }
        }
        let bad = |reason: String| {
            let form = "alpha=lo:hi:n,beta=lo:hi:n,gamma=lo:hi:n";
            Err(Error::invalid(format!("grid '{text}': {reason}; it must be paper, tip-adapter:DATASET or {form}")))
        };
        let mut axes: [Option<Vec<f64>>; 3] = [None, None, None];
        for part in text.split(',') {
            let Some((name, range)) = part.split_once('=') else {
                return bad(format!("'{part}' has no '='"));
            };
            let Some(axis) = ["alpha", "beta", "gamma"].iter().position(|known| *known == name.trim()) else {
                return bad(format!("there is no '{}'", name.trim()));
            };
            let numbers: Vec<&str> = range.split(':').map(str::trim).collect();
            let parsed = match numbers[..] {
                [lo, hi, n] => lo.parse::<f64>().ok().zip(hi.parse::<f64>().ok()).zip(n.parse::<usize>().ok()),
                _ => None,
            };
            match parsed {
                Some(((lo, hi), n)) if lo.is_finite() && hi.is_finite() && (1..=100_000).contains(&n) => {
                    let allowed = if axis == 1 { numbers::SHARPNESS } else { numbers::WEIGHT };
                    for end in [lo, hi] {
                        allowed.check(&format!("grid '{text}': {}", name.trim()), end)?;
                    }
                    if axes[axis].replace(linspace(lo, hi, n)).is_some() {
                        return bad(format!("'{}' is given twice", name.trim()));
                    }
                }
                _ => return bad(format!("'{range}' is no lo:hi:n with n from 1 to 100000")),
            }
        }
        let [alphas, betas, gammas] = axes;
        let (Some(alphas), Some(betas)) = (alphas, betas) else {
            return bad("alpha and beta are both needed".into());
        };
        let grid = match (gammas, divergence) {
            (Some(gammas), true) => Grid { gammas, ..Grid::alpha_beta(alphas, betas) },
            (None, true) => return bad("gamma is needed for tip-x".into()),
            (Some(_), false) => return bad("gamma belongs to tip-x".into()),
            (None, false) => Grid::alpha_beta(alphas, betas),
        };
        grid.check()?;
        Ok(grid)
    }

    /// Checks that the grid can be searched: values within [`numbers::WEIGHT`] and [`numbers::SHARPNESS`], and at least one
    /// point, at most [`MOST_POINTS`].
    ///
    /// # Errors
    /// [`Error::Invalid`], with the numbers.
    pub fn check(&self) -> Result<()> {
        let axes = [
            ("alpha", &self.alphas, numbers::WEIGHT),
            ("beta", &self.betas, numbers::SHARPNESS),
            ("gamma", &self.gammas, numbers::WEIGHT),
        ];
        let sizes = axes.map(|(_, values, _)| values.len());
        let points = sizes.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
        if !points.is_some_and(|points| (1..=MOST_POINTS).contains(&points)) {
            let [a, b, c] = sizes;
            return Err(Error::invalid(format!(
                "a grid of {a} × {b} × {c} values of alpha, beta and gamma: there must be 1 to {MOST_POINTS} points in all"
            )));
        }
        for (name, values, range) in axes {
            values.iter().try_for_each(|value| range.check(&format!("grid: {name}"), *value).map(drop))?;
        }
        Ok(())
    }

    /// Number of points; as many as can be counted where there are more.
    pub fn len(&self) -> usize {
        self.alphas.len().saturating_mul(self.betas.len()).saturating_mul(self.gammas.len())
    }

    /// Whether there are no points.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parameters of the point with number `i` in loop order.
    pub fn params(&self, i: usize) -> TipXParams {
        let (a, b, c) = self.at(i);
        TipXParams { alpha: self.alphas[a], beta: self.betas[b], gamma: self.gammas[c] }
    }

    /// The first point with most right rows. With a point to begin with, far ones must have more right than near ones: [`FAR`] rows
    /// for each squared step, a step being a factor e of 1 + |parameter|. Where rows are many that decides between equals alone.
    pub fn best(&self, counts: &[u32], initial: Option<TipXParams>) -> usize {
        let steps = |value: f64, from: f64| {
            let of = |v: f64| v.signum() * v.abs().ln_1p();
            (of(value) - of(from)).powi(2)
        };
        most(counts, |i| {
            initial.map_or(0.0, |from| {
                let TipXParams { alpha, beta, gamma } = self.params(i);
                steps(alpha, from.alpha) + steps(beta, from.beta) + steps(gamma, from.gamma)
            })
        })
    }

    /// Indices (α, β, γ) of the point with number `i` in loop order.
    pub fn at(&self, i: usize) -> (usize, usize, usize) {
        let (na, nb, ng) = (self.alphas.len().max(1), self.betas.len().max(1), self.gammas.len().max(1));
        let (line, gamma) = (i / ng, i % ng);
        match self.order {
            Order::AlphaBeta => (line / nb, line % nb, gamma),
            Order::BetaAlpha => (line % na, line / na, gamma),
        }
    }
}

/// The first place with the highest count, [`FAR`] being taken off for each squared step of it.
pub fn most(counts: &[u32], squared: impl Fn(usize) -> f64) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (i, count) in counts.iter().enumerate() {
        let score = f64::from(*count) - FAR * squared(i);
        if score > best.1 {
            best = (i, score);
        }
    }
    best.0
}

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The first point that reaches the highest count.
    pub params: TipXParams,
    /// Right rows there.
    pub correct: u32,
    /// Right rows at every point, in the grid's loop order.
    pub counts: Vec<u32>,
}

/// What α, β and γ are factors of.
#[derive(Clone, Copy)]
pub struct Searched<'a> {
    /// The cache that gives the terms of α and β.
    pub cache: &'a Cache,
    /// What gives the term of γ, with ψ's range, where there is one.
    pub divergence: Option<(&'a TipX, Psi)>,
}

impl<'a> From<&'a Cache> for Searched<'a> {
    fn from(cache: &'a Cache) -> Searched<'a> {
        Searched { cache, divergence: None }
    }
}

impl<'a> From<(&'a TipX, Psi)> for Searched<'a> {
    fn from((tip_x, psi): (&'a TipX, Psi)) -> Searched<'a> {
        Searched { cache: tip_x.cache(), divergence: Some((tip_x, psi)) }
    }
}

/// Counts right rows at every point of the grid for un-normalised features `[n, D]` and their labels. `done` is called
/// with the share of the work done so far.
///
/// # Errors
/// [`Error::Invalid`] for an empty grid, no rows, rows that are not finite or labels out of range; out of memory.
pub fn search(
    gpu: &Gpu,
    classifier: &Classifier,
    Searched { cache, divergence }: Searched<'_>,
    features: &Features,
    labels: &[u32],
    grid: &Grid,
    done: &mut dyn FnMut(f64),
) -> Result<Found> {
    grid.check()?;
    if labels.is_empty() {
        return Err(Error::invalid("a search needs at least one picture with its label"));
    }
    if let Some((_, psi)) = divergence {
        psi.check()?;
    }
    let (classes, d) = (classifier.classes(), classifier.weights.cols());
    super::check_labels("validation data", labels, features.original.len() / d.max(1), classes)?;
    let narrow = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<_>>();
    // The kernel wants α ascending; where each of the grid's values then is.
    let mut ascending: Vec<usize> = (0..grid.alphas.len()).collect();
    ascending.sort_by(|a, b| grid.alphas[*a].total_cmp(&grid.alphas[*b]));
    let alphas: Vec<f32> = ascending.iter().map(|i| grid.alphas[*i] as f32).collect();
    let gammas = narrow(&grid.gammas);
    let (na, ng) = (alphas.len(), gammas.len());
    // [beta][gamma][alpha, ascending]
    let mut counts = vec![0u32; grid.len()];
    let (mut steps, all) = (0usize, labels.len() * grid.betas.len());
    super::normalized_rows(gpu, features, d, &mut |first, f, g| {
        let rows = f.rows();
        let mut rec = Recorder::new(gpu);
        let base = classifier.record(&mut rec, f)?;
        let kl = divergence.map(|(tip_x, psi)| tip_x.record_term(&mut rec, classifier, f, psi)).transpose()?;
        rec.finish()?.run()?;
        let labels = gpu.upload("labels", &labels[first..first + rows], &[rows])?;
        // As many βs at once as one kernel serves and one binding holds.
        let fits = (gpu.max_binding() / (4 * base.len() as u64)).clamp(1, MAX_BETAS as u64) as usize;
        for (b, chunk) in grid.betas.chunks(fits).enumerate() {
            let betas = gpu.upload("betas", &narrow(chunk), &[chunk.len()])?;
            let mut rec = Recorder::new(gpu);
            let terms = cache.record_terms(&mut rec, g, &betas)?;
            let terms = Terms { base: &base, cache: &terms, kl: kl.as_ref() };
            let mut found = Vec::new();
            for part in alphas.chunks(MAX_ALPHAS) {
                found.push(search::count(&mut rec, terms, &labels, part, &gammas)?);
            }
            rec.finish()?.run()?;
            for (p, found) in found.iter().enumerate() {
                let width = found.cols();
                for (line, row) in gpu.read::<u32>(found)?.chunks(width).enumerate() {
                    let at = (b * fits * ng + line) * na + p * MAX_ALPHAS;
                    for (sum, count) in counts[at..at + width].iter_mut().zip(row) {
                        *sum += count;
                    }
                }
            }
            steps += rows * chunk.len();
            done(steps as f64 / all as f64);
        }
        Ok(())
    })?;
    let mut place = vec![0; na];
    for (sorted, original) in ascending.iter().enumerate() {
        place[*original] = sorted;
    }
    let counts: Vec<u32> = (0..grid.len())
        .map(|i| {
            let (a, b, c) = grid.at(i);
            counts[(b * ng + c) * na + place[a]]
        })
        .collect();
    let best = grid.best(&counts, None);
    Ok(Found { params: grid.params(best), correct: counts[best], counts })
}

#[cfg(test)]
mod tests {
    use super::{Grid, Order, TipXParams, linspace};

    #[test]
    fn grids_are_the_papers() {
        let values = linspace(0.0, 20.0, 200);
        assert_eq!((values.len(), values[199]), (200, 20.0));
        assert!((values[193] - 19.396984924623116).abs() < 1e-12);
        assert_eq!(linspace(3.0, 9.0, 1), [3.0]);
        let grid = Grid::tip_adapter((7.0, 3.0), (200, 20));
        assert_eq!((grid.order, grid.betas.len(), grid.alphas.len()), (Order::BetaAlpha, 200, 20));
        assert!((grid.betas[199] - 6.9655).abs() < 1e-9 && (grid.alphas[19] - 2.855).abs() < 1e-9);
        assert_eq!((grid.betas[0], grid.alphas[0]), (0.1, 0.1));
        assert_eq!(Grid::paper(true).len(), 200 * 20 * 50);
        assert_eq!(Grid::parse("paper", false).unwrap().len(), 200 * 20);
        assert_eq!(Grid::parse("tip-adapter:OxfordPets", false).unwrap(), grid);
    }

    #[test]
    fn grids_are_parsed_and_mistakes_named() {
        let grid = Grid::parse("alpha=0:2:3, beta=1:1:1,gamma=-1:1:5", true).unwrap();
        assert_eq!((grid.alphas, grid.betas, grid.gammas.len()), (vec![0.0, 1.0, 2.0], vec![1.0], 5));
        for (text, divergence, needle) in [
            ("alpha=0:2:3", false, "beta"),
            ("alpha=0:2:3,beta=0:1", false, "0:1"),
            ("alpha=0:2:3,beta=0:nan:2", false, "0:nan:2"),
            ("alpha=0:2:0,beta=0:1:2", false, "0:2:0"),
            ("alpha=0:2:3,beta=0:1:2", true, "gamma"),
            ("alpha=0:2:3,beta=0:1:2,gamma=0:1:2", false, "gamma"),
            ("alpha=0:2:3,alpha=0:2:3,beta=0:1:2", false, "twice"),
            ("delta=0:2:3", false, "delta"),
            ("papers", false, "papers"),
            ("tip-adapter:mnist", false, "mnist"),
        ] {
            let error = Grid::parse(text, divergence).unwrap_err().to_string();
            assert!(error.contains(needle), "{text}: {error}");
        }
    }

    #[test]
    fn few_rows_move_parameters_little() {
        let from = TipXParams { alpha: 1.0, beta: 5.5, gamma: 0.0 };
        let grid = Grid::alpha_beta(vec![0.0, 1.0, 20.0], vec![0.0, 5.0, 20.0]);
        let params = |counts: &[u32], from| grid.params(grid.best(counts, from));
        // All alike: the first, as in the papers, or what is nearest.
        assert_eq!(params(&[2; 9], None).alpha, 0.0);
        assert_eq!(params(&[2; 9], Some(from)), TipXParams { alpha: 1.0, beta: 5.0, gamma: 0.0 });
        // One row more carries α from 1 to 20, two squared steps of ln 10.5.
        let mut counts = [2; 9];
        counts[7] = 3;
        assert_eq!(params(&counts, Some(from)).alpha, 20.0);
        let far = Grid { gammas: vec![0.0, 5000.0], ..grid.clone() };
        let mut counts = [2; 18];
        counts[9] = 3;
        assert_eq!(far.params(far.best(&counts, Some(from))).gamma, 0.0);
        counts[9] = 10;
        assert_eq!(far.params(far.best(&counts, Some(from))).gamma, 5000.0);
    }

    #[test]
    fn points_come_in_loop_order() {
        let grid = Grid { gammas: vec![0.0, 1.0], ..Grid::alpha_beta(vec![0.0, 1.0, 2.0], vec![0.0, 1.0]) };
        assert_eq!([0, 1, 2, 4].map(|i| grid.at(i)), [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]);
        let grid = Grid { order: Order::BetaAlpha, ..grid };
        assert_eq!([0, 1, 2, 6].map(|i| grid.at(i)), [(0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 1, 0)]);
    }
}
