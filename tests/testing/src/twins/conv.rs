//! Convolutions, pools and attention pooling's tokens, by their definitions: no unfolding.

use super::real::{Real, sum};

/// A convolution's sizes; pictures are square.
#[derive(Clone, Copy, Debug)]
pub struct Convolution {
    pub batch: usize,
    pub size: usize,
    pub input: usize,
    pub output: usize,
    pub side: usize,
    pub stride: usize,
    pub pad: usize,
}

impl Convolution {
    pub fn positions(&self) -> usize {
        (self.size + 2 * self.pad - self.side) / self.stride + 1
    }
}

/// x [batch, size, size, input] with weight [output, side, side, input] → [batch, positions, positions, output].
pub fn convolution<T: Real>(x: &[T], weight: &[T], s: Convolution) -> Vec<T> {
    let n = s.positions();
    let mut y = Vec::with_capacity(s.batch * n * n * s.output);
    for image in 0..s.batch {
        for (row, col) in (0..n * n).map(|at| (at / n, at % n)) {
            for out in 0..s.output {
                let mut terms = Vec::new();
                for (ky, kx) in (0..s.side * s.side).map(|at| (at / s.side, at % s.side)) {
                    let (py, px) = (row * s.stride + ky, col * s.stride + kx);
                    let inside = |p: usize| p >= s.pad && p - s.pad < s.size;
                    if inside(py) && inside(px) {
                        let at = ((image * s.size + py - s.pad) * s.size + px - s.pad) * s.input;
                        let w = ((out * s.side + ky) * s.side + kx) * s.input;
                        terms.extend((0..s.input).map(|c| x[at + c] * weight[w + c]));
                    }
                }
                y.push(sum(terms));
            }
        }
    }
    y
}

/// Gradients of [`convolution`] by x and by the weight, term by term as the definition has them.
pub fn convolution_backward<T: Real>(x: &[T], weight: &[T], dy: &[T], s: Convolution) -> (Vec<T>, Vec<T>) {
    let n = s.positions();
    let (mut dx, mut dw) = (vec![Vec::new(); x.len()], vec![Vec::new(); weight.len()]);
    for (i, slope) in dy.iter().enumerate() {
        let (out, at, image) = (i % s.output, i / s.output % (n * n), i / (s.output * n * n));
        for (ky, kx) in (0..s.side * s.side).map(|at| (at / s.side, at % s.side)) {
            let (py, px) = (at / n * s.stride + ky, at % n * s.stride + kx);
            let inside = |p: usize| p >= s.pad && p - s.pad < s.size;
            if inside(py) && inside(px) {
                let a = ((image * s.size + py - s.pad) * s.size + px - s.pad) * s.input;
                let w = ((out * s.side + ky) * s.side + kx) * s.input;
                for c in 0..s.input {
                    dx[a + c].push(*slope * weight[w + c]);
                    dw[w + c].push(*slope * x[a + c]);
                }
            }
        }
    }
    (dx.into_iter().map(sum).collect(), dw.into_iter().map(sum).collect())
}

/// [batch, area, channels] as [batch, channels, area].
pub fn channels_first(x: &[f32], [batch, area, channels]: [usize; 3]) -> Vec<f32> {
    let mut y = Vec::with_capacity(x.len());
    for image in 0..batch {
        for c in 0..channels {
            y.extend((0..area).map(|at| x[(image * area + at) * channels + c]));
        }
    }
    y
}

/// Means of x [batch, size, size, channels] over windows of side × side.
pub fn pool<T: Real>(x: &[T], [batch, size, channels, side]: [usize; 4]) -> Vec<T> {
    let n = size / side;
    let mut y = Vec::with_capacity(batch * n * n * channels);
    for image in 0..batch {
        for (row, col) in (0..n * n).map(|at| (at / n, at % n)) {
            for c in 0..channels {
                let window = (0..side * side).map(|at| (row * side + at / side, col * side + at % side));
                let total = sum(window.map(|(py, px)| x[((image * size + py) * size + px) * channels + c]));
                y.push(total / T::of((side * side) as f64));
            }
        }
    }
    y
}

/// The mean of each picture's positions and the positions, with `position` added: [batch, cells+1, channels].
pub fn tokens<T: Real>(x: &[T], position: &[T], [batch, cells, channels]: [usize; 3]) -> Vec<T> {
    let mut y = Vec::with_capacity(batch * (cells + 1) * channels);
    for image in 0..batch {
        let at = |cell: usize, c: usize| x[(image * cells + cell) * channels + c];
        for token in 0..=cells {
            for c in 0..channels {
                let value = match token {
                    0 => sum((0..cells).map(|cell| at(cell, c))) / T::of(cells as f64),
                    _ => at(token - 1, c),
                };
                y.push(value + position[token * channels + c]);
            }
        }
    }
    y
}
