//! Twins of `rotary`, `swiglu` and `pooling`.
//!
//! Texts are given by their lengths; their rows lie one after the other.

use super::real::{Real, dot, sum};

fn sigmoid<T: Real>(x: T) -> T {
    let one = T::of(1.0);
    if x.value() < 0.0 { x.exp() / (one + x.exp()) } else { one / (one + (-x).exp()) }
}

/// qkv `[rows, 3·width]` with every pair of each query and key turned as a complex number; `angles` `[tokens, head/2]`, and
/// `sign` −1 to turn back.
pub fn rotate<T: Real>(qkv: &[T], angles: &[f64], tokens: usize, head: usize, width: usize, sign: f64) -> Vec<T> {
    let mut out = qkv.to_vec();
    for (row, values) in out.chunks_mut(3 * width).enumerate() {
        for pair in 0..width {
            let of_head = (2 * pair) % head;
            let angle = sign * angles[(row % tokens) * head / 2 + of_head / 2];
            let (c, s) = (T::rounded(angle.cos()), T::rounded(angle.sin()));
            let (a, b) = (values[2 * pair], values[2 * pair + 1]);
            values[2 * pair] = a * c - b * s;
            values[2 * pair + 1] = a * s + b * c;
        }
    }
    out
}

/// SiLU(gate)·value.
pub fn swiglu<T: Real>(x: &[T], width: usize) -> Vec<T> {
    let halves = x.chunks(2 * width).map(|row| row.split_at(width));
    halves.flat_map(|(gates, values)| gates.iter().zip(values).map(|(g, v)| *g * sigmoid(*g) * *v)).collect()
}

pub fn swiglu_backward<T: Real>(x: &[T], dy: &[T], width: usize) -> Vec<T> {
    let mut dx = Vec::new();
    for (row, dy) in x.chunks(2 * width).zip(dy.chunks(width)) {
        let (gates, values) = row.split_at(width);
        let slope = |g: T| sigmoid(g) + g * (sigmoid(g) * sigmoid(-g));
        dx.extend(dy.iter().zip(gates).zip(values).map(|((d, g), v)| *d * *v * slope(*g)));
        dx.extend(dy.iter().zip(gates).map(|(d, g)| *d * *g * sigmoid(*g)));
    }
    dx
}

/// Pictures of `tokens` rows, of `heads` heads.
#[derive(Clone, Copy, Debug)]
pub struct Pooling {
    pub batch: usize,
    pub tokens: usize,
    pub width: usize,
    pub heads: usize,
}

impl Pooling {
    fn row<T>(self, x: &[T], picture: usize, token: usize) -> &[T] {
        let stride = self.width + self.heads;
        &x[(picture * self.tokens + token) * stride..][..stride]
    }

    /// The softmax of a head's scores over a picture's tokens.
    fn shares<T: Real>(self, x: &[T], picture: usize, head: usize) -> Vec<T> {
        let scores: Vec<T> = (0..self.tokens).map(|t| self.row(x, picture, t)[self.width + head]).collect();
        let top = scores.iter().map(|s| s.value()).fold(f64::MIN, f64::max);
        let powers: Vec<T> = scores.iter().map(|s| (*s - T::of(top)).exp()).collect();
        let total = sum(powers.iter().copied());
        powers.iter().map(|p| *p / total).collect()
    }

    /// Values mixed by the heads' shares, `[batch, width]`.
    pub fn attend<T: Real>(self, x: &[T]) -> Vec<T> {
        let side = self.width / self.heads;
        let mut y = Vec::new();
        for picture in 0..self.batch {
            for col in 0..self.width {
                let shares = self.shares(x, picture, col / side);
                let values: Vec<T> = (0..self.tokens).map(|t| self.row(x, picture, t)[col]).collect();
                y.push(dot(&shares, &values));
            }
        }
        y
    }

    /// Its gradient; the softmax's by its full Jacobian.
    pub fn attend_backward<T: Real>(self, x: &[T], dy: &[T]) -> Vec<T> {
        let side = self.width / self.heads;
        let mut dx = vec![T::zero(); x.len()];
        for picture in 0..self.batch {
            for head in 0..self.heads {
                let shares = self.shares(x, picture, head);
                let cols = head * side..(head + 1) * side;
                let dy = &dy[picture * self.width..][cols.clone()];
                let along: Vec<T> = (0..self.tokens).map(|t| dot(dy, &self.row(x, picture, t)[cols.clone()])).collect();
                for t in 0..self.tokens {
                    let at = (picture * self.tokens + t) * (self.width + self.heads);
                    for (col, d) in cols.clone().zip(dy) {
                        dx[at + col] = shares[t] * *d;
                    }
                    let terms = (0..self.tokens).map(|u| {
                        let flat = T::of(if u == t { 1.0 } else { 0.0 }) - shares[t];
                        along[u] * shares[u] * flat
                    });
                    dx[at + self.width + head] = sum(terms);
                }
            }
        }
        dx
    }

    /// The mean of the tokens from `first` on; x `[batch·tokens, width]`.
    pub fn mean<T: Real>(self, x: &[T], first: usize) -> Vec<T> {
        let of = |picture: usize, col: usize| {
            let terms = (first..self.tokens).map(move |t| x[(picture * self.tokens + t) * self.width + col]);
            sum(terms) / T::of((self.tokens - first) as f64)
        };
        (0..self.batch).flat_map(|picture| (0..self.width).map(move |col| of(picture, col))).collect()
    }

    pub fn mean_backward<T: Real>(self, dy: &[T], first: usize) -> Vec<T> {
        let mut dx = Vec::new();
        for picture in 0..self.batch {
            for t in 0..self.tokens {
                let share = |d: &T| if t < first { T::zero() } else { *d / T::of((self.tokens - first) as f64) };
                dx.extend(dy[picture * self.width..][..self.width].iter().map(share));
            }
        }
        dx
    }
}

/// The mean of each text's rows; x `[rows, width]`.
pub fn mean_of_spans<T: Real>(x: &[T], lengths: &[usize], width: usize) -> Vec<T> {
    let mut rest = x;
    let mut y = Vec::new();
    for &length in lengths {
        let (text, later) = rest.split_at(length * width);
        rest = later;
        y.extend((0..width).map(|col| sum((0..length).map(|row| text[row * width + col])) / T::of(length as f64)));
    }
    y
}

pub fn mean_of_spans_backward<T: Real>(dy: &[T], lengths: &[usize], width: usize) -> Vec<T> {
    let texts = lengths.iter().zip(dy.chunks(width));
    texts
        .flat_map(|(&length, dy)| {
            let row: Vec<T> = dy.iter().map(|d| *d / T::of(length as f64)).collect();
            row.repeat(length)
        })
        .collect()
}
