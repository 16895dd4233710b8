//! Twins of `noise`: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"), Box–Muller, and
//! where the noise goes.

use std::ops::Range;

use super::real::{Real, sum};

/// Ten rounds of Philox4x32.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let [mut a, mut b, mut c, mut d] = counter;
    let [mut k0, mut k1] = key;
    for _ in 0..10 {
        let left = u64::from(a) * 0xD251_1F53;
        let right = u64::from(c) * 0xCD9E_8D57;
        a = (right >> 32) as u32 ^ b ^ k0;
        b = right as u32;
        c = (left >> 32) as u32 ^ d ^ k1;
        d = left as u32;
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [a, b, c, d]
}

/// What a draw is numbered by.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    pub seed: u64,
    pub step: u32,
    pub stream: u32,
}

/// The 24 high bits as a number in (0, 1].
fn unit<T: Real>(word: u32) -> T {
    T::of((f64::from(word >> 8) + 1.0) / f64::from(1u32 << 24))
}

/// `n` standard normals; four from each block. `swapped` plants sine for cosine.
pub fn normal<T: Real>(draw: Draw, n: usize, swapped: bool) -> Vec<T> {
    let mut y = Vec::new();
    let mut block = 0;
    while y.len() < n {
        let key = [draw.seed as u32, (draw.seed >> 32) as u32];
        let words = philox([block, draw.stream, draw.step, 0], key);
        for pair in words.chunks(2) {
            let radius = (T::of(-2.0) * unit::<T>(pair[0]).ln()).sqrt();
            let angle = T::rounded(std::f64::consts::TAU) * unit(pair[1]);
            let (first, second) = if swapped { (angle.sin(), angle.cos()) } else { (angle.cos(), angle.sin()) };
            y.extend([radius * first, radius * second]);
        }
        block += 1;
    }
    y.truncate(n);
    y
}

/// x with mean + spread·ε added to the rows `noisy`.
pub fn text<T: Real>(x: &[T], noisy: Range<usize>, mean: &[T], spread: &[T], eps: &[T], width: usize) -> Vec<T> {
    let mut y = x.to_vec();
    for (i, v) in y[noisy.start * width..noisy.end * width].iter_mut().enumerate() {
        *v = *v + (mean[i] + spread[i] * eps[i]);
    }
    y
}

/// Gradients of mean and spread.
pub fn text_backward<T: Real>(dy: &[T], noisy: Range<usize>, eps: &[T], width: usize) -> (Vec<T>, Vec<T>) {
    let dy = &dy[noisy.start * width..noisy.end * width];
    (dy.to_vec(), dy.iter().zip(eps).map(|(d, e)| *d * *e).collect())
}

/// Each row of v drawn `draws` times around mean with |spread|; `signed` plants a spread whose sign counts.
pub fn image<T: Real>(
    v: &[T],
    draws: usize,
    mean: &[T],
    spread: &[T],
    eps: &[T],
    width: usize,
    signed: bool,
) -> Vec<T> {
    let mut y = Vec::new();
    for (i, eps) in eps.chunks(width).enumerate() {
        let from = i / draws * width;
        y.extend(eps.iter().enumerate().map(|(d, e)| {
            let s = spread[from + d];
            v[from + d] + if signed { s } else { s.abs() } * *e + mean[from + d]
        }));
    }
    y
}

/// Gradients of mean and of the signed spread; |0| has slope 0.
pub fn image_backward<T: Real>(dy: &[T], draws: usize, spread: &[T], eps: &[T], width: usize) -> (Vec<T>, Vec<T>) {
    let (mut dmean, mut dspread) = (Vec::new(), Vec::new());
    for (i, s) in spread.iter().enumerate() {
        let (row, d) = (i / width, i % width);
        let at = |t: usize| (row * draws + t) * width + d;
        let sign = T::of(if s.value() == 0.0 { 0.0 } else { s.value().signum() });
        dmean.push(sum((0..draws).map(|t| dy[at(t)])));
        dspread.push(sign * sum((0..draws).map(|t| dy[at(t)] * eps[at(t)])));
    }
    (dmean, dspread)
}

/// A dropout mask: 0 where the block's word falls within `rate`, else 1/(1 − rate).
pub fn mask(draw: Draw, n: usize, rate: f32) -> Vec<f32> {
    let key = [draw.seed as u32, (draw.seed >> 32) as u32];
    (0..n)
        .map(|i| {
            let word = philox([(i / 4) as u32, draw.stream, draw.step, 0], key)[i % 4];
            if unit::<f64>(word) > f64::from(rate) { 1.0 / (1.0 - rate) } else { 0.0 }
        })
        .collect()
}
