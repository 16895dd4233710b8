//! Twins of `nearest`, and of what is made of it.

/// Of the candidates 0, 1, … with these scores the `most` best but `own`, the best first, of equal ones the lower number first.
pub fn best(scores: &[f64], own: Option<usize>, most: usize) -> Vec<(usize, f64)> {
    let mut all: Vec<(usize, f64)> = scores.iter().copied().enumerate().filter(|(i, _)| Some(*i) != own).collect();
    // −0 is 0 here.
    all.sort_by(|(a, x), (b, y)| y.partial_cmp(x).unwrap().then(a.cmp(b)));
    all.truncate(most);
    all
}

/// Cosines `[a, b]` of rows with rows; a row of zeros has none but 0.
pub fn cosines(a: &[f32], b: &[f32], width: usize) -> Vec<Vec<f64>> {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = |a: &[f32], b: &[f32]| {
        let norms = (dot(a, a) * dot(b, b)).sqrt();
        if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
    };
    a.chunks(width).map(|a| b.chunks(width).map(|b| cosine(a, b)).collect()).collect()
}

/// Groups: each row in turn takes with it all later ones in no group whose cosine with it is `least` or more.
pub fn groups(cosines: &[Vec<f64>], least: f64) -> Vec<Vec<usize>> {
    let mut taken = vec![false; cosines.len()];
    let mut groups = Vec::new();
    for first in 0..cosines.len() {
        if taken[first] {
            continue;
        }
        let others: Vec<usize> =
            (first + 1..cosines.len()).filter(|i| !taken[*i] && cosines[first][*i] >= least).collect();
        if others.is_empty() {
            continue;
        }
        others.iter().for_each(|i| taken[*i] = true);
        groups.push([&[first][..], &others].concat());
    }
    groups
}
