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

/// The same normals in whole numbers, as the kernel computes them: to the bit on every device.
pub fn exact_normal(draw: Draw, n: usize) -> Vec<f32> {
    let key = [draw.seed as u32, (draw.seed >> 32) as u32];
    let pairs = (0..n.div_ceil(4) as u32).flat_map(|block| philox([block, draw.stream, draw.step, 0], key));
    let words: Vec<u32> = pairs.collect();
    let mut y: Vec<f32> = words.chunks(2).flat_map(|w| exact_pair(w[0], w[1])).collect();
    y.truncate(n);
    y
}

/// mantissa·2^exponent with a mantissa of 24 bits, or 0.
pub type Scaled = (u64, i32);

pub fn scaled_value((mantissa, exponent): Scaled) -> f64 {
    mantissa as f64 * 2f64.powi(exponent)
}

fn scaled(n: u64, exponent: i32) -> Scaled {
    if n == 0 {
        return (0, 0);
    }
    let by = n.leading_zeros();
    let top = (n << by) >> 39;
    (top.div_ceil(2), exponent + 40 - by as i32)
}

/// √(−2·ln u) for the u of a word: logarithms in units of 2⁻⁵⁸, roots of 25 bits.
pub fn exact_radius(word: u32) -> Scaled {
    const LOGS: [(u64, u64); 8] = [
        (14, 0x023d_0beb_ce08_1a08),
        (12, 0x019f_323e_cbf9_84bf),
        (11, 0x0146_18bc_21c5_ec28),
        (10, 0x00e4_7fbe_3cd4_d10d),
        (9, 0x0078_9c1d_b8ab_cb98),
        (9, 0x0078_9c1d_b8ab_cb98),
        (8, 0),
        (8, 0),
    ];
    let unit = u64::from(word >> 8) + 1;
    let halvings = unit.next_power_of_two().trailing_zeros().abs_diff(24);
    let m = unit << halvings;
    let (eighths, log) = LOGS[((m - 1) >> 20) as usize - 8];
    let below = (1 << 27) - m * eighths;
    let term = |k: u64| (1u64 << 31) as f64 / k as f64;
    let p = (1..12).rev().fold(term(12).round() as u64, |p, k| term(k).round() as u64 + ((p * (below << 5)) >> 32));
    let n = 2 * (u64::from(halvings) * 0x02c5_c85f_df47_3de7 + log + below * p);
    if n == 0 {
        return (0, 0);
    }
    let even = n.leading_zeros() & !1;
    ((((n << even) >> 14).isqrt()).div_ceil(2), -21 - even as i32 / 2)
}

/// sin(π/2·x/2²²).
pub fn exact_sine(x: u64) -> Scaled {
    if x == 1 << 22 {
        return (1 << 23, -23);
    }
    let z = ((x << 10) * (x << 10)) >> 32;
    let s = [172_072, 5_026_892, 85_569_282, 693_598_666, 1_686_629_713].into_iter();
    scaled(x * s.fold(3685u64, |s, c| c - ((s * z) >> 32)), -52)
}

/// Cosine and sine of the angle of a word, with their signs.
pub fn exact_direction(word: u32) -> [(Scaled, bool); 2] {
    let turn = u64::from(word >> 8) + 1;
    let (quarter, rest) = (turn >> 22 & 3, turn & 0x3f_ffff);
    let (rising, falling) = (exact_sine(rest), exact_sine((1 << 22) - rest));
    let (cos, sin) = if quarter % 2 == 0 { (falling, rising) } else { (rising, falling) };
    [(cos, quarter == 1 || quarter == 2), (sin, quarter >= 2)]
}

fn exact_pair(radius: u32, angle: u32) -> [f32; 2] {
    let r = exact_radius(radius);
    exact_direction(angle).map(|(c, negative)| {
        let v = scaled_value(scaled(r.0 * c.0, r.1 + c.1)) as f32;
        if negative { -v } else { v }
    })
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
