//! Twins of `gemm`, `activation`, `patch`, `reduce` and `gather`.

use tipi::low_level::kernels::activation::Activation;
use tipi::low_level::kernels::gemm::Layout;

use super::real::{Real, dot, sum};

/// x [rows, cols] → [cols, rows].
pub fn transpose<T: Copy>(x: &[T], cols: usize) -> Vec<T> {
    (0..cols).flat_map(|c| x.iter().skip(c).step_by(cols).copied()).collect()
}

/// [m,k]·[k,n], each operand stored as the layout says.
pub fn matmul<T: Real>(layout: Layout, a: &[T], b: &[T], [m, n, k]: [usize; 3]) -> Vec<T> {
    assert_eq!((a.len(), b.len()), (m * k, n * k));
    // Rows of A and columns of B, each of length k.
    let a = if layout == Layout::Tn { transpose(a, m) } else { a.to_vec() };
    let b = if layout == Layout::Nt { b.to_vec() } else { transpose(b, n) };
    a.chunks(k).flat_map(|row| b.chunks(k).map(|col| dot(row, col)).collect::<Vec<_>>()).collect()
}

/// act(alpha·x + bias) + residual for x [m,n].
pub fn epilogue<T: Real>(
    x: &[T],
    alpha: f32,
    bias: Option<&[T]>,
    activation: Option<Activation>,
    residual: Option<&[T]>,
) -> Vec<T> {
    let alpha = T::of(f64::from(alpha));
    x.iter()
        .enumerate()
        .map(|(i, v)| {
            let v = alpha * *v;
            let v = bias.map_or(v, |b| v + b[i % b.len()]);
            let v = activation.map_or(v, |kind| act(kind, v));
            residual.map_or(v, |r| v + r[i])
        })
        .collect()
}

fn sigmoid<T: Real>(x: T) -> T {
    // Whichever of the two equal forms does not overflow.
    let one = T::of(1.0);
    if x.value() < 0.0 { x.exp() / (one + x.exp()) } else { one / (one + (-x).exp()) }
}

/// Φ(x), the normal distribution.
fn phi<T: Real>(x: T) -> T {
    T::of(0.5) * (T::of(1.0) + (x * T::rounded(std::f64::consts::FRAC_1_SQRT_2)).erf())
}

/// 2√(2/π)(x + 0.044715x³): ½(1 + tanh u) is σ(2u).
fn twice_inner<T: Real>(x: T) -> T {
    let c = T::rounded(2.0 * (2.0 / std::f64::consts::PI).sqrt());
    c * (x + T::rounded(0.044715) * (x * x * x))
}

/// The activation of one number.
pub fn act<T: Real>(kind: Activation, x: T) -> T {
    match kind {
        Activation::QuickGelu => x * sigmoid(T::rounded(1.702) * x),
        Activation::Gelu => x * phi(x),
        Activation::Relu => x.larger(T::zero()),
        Activation::GeluTanh => x * sigmoid(twice_inner(x)),
    }
}

/// The activation's derivative at one number.
pub fn slope<T: Real>(kind: Activation, x: T) -> T {
    match kind {
        // d/dx x·σ(cx) = σ + c·x·σ(cx)·σ(−cx)
        Activation::QuickGelu => {
            let c = T::rounded(1.702);
            sigmoid(c * x) + c * x * (sigmoid(c * x) * sigmoid(-(c * x)))
        }
        // d/dx x·Φ(x) = Φ + x·φ, with φ the normal density
        Activation::Gelu => {
            let root = T::rounded((0.5 / std::f64::consts::PI).sqrt());
            phi(x) + x * root * (-(x * x) * T::of(0.5)).exp()
        }
        Activation::Relu => T::of(if x.value() > 0.0 { 1.0 } else { 0.0 }),
        Activation::GeluTanh => {
            let (u, c) = (twice_inner(x), T::rounded(2.0 * (2.0 / std::f64::consts::PI).sqrt()));
            let inner = c * (T::of(1.0) + T::rounded(3.0 * 0.044715) * (x * x));
            sigmoid(u) + x * inner * (sigmoid(u) * sigmoid(-u))
        }
    }
}

pub fn activation<T: Real>(kind: Activation, x: &[T]) -> Vec<T> {
    x.iter().map(|v| act(kind, *v)).collect()
}

pub fn activation_backward<T: Real>(kind: Activation, x: &[T], dy: &[T]) -> Vec<T> {
    x.iter().zip(dy).map(|(x, d)| *d * slope(kind, *x)).collect()
}

/// A patch embedding's sizes.
#[derive(Clone, Copy, Debug)]
pub struct Patches {
    pub batch: usize,
    pub size: usize,
    pub patch: usize,
    pub width: usize,
    /// Whether a class token stands before the patches.
    pub class: bool,
}

impl Patches {
    pub fn grid(&self) -> usize {
        self.size / self.patch
    }

    pub fn tokens(&self) -> usize {
        self.grid() * self.grid() + self.first()
    }

    /// The token of the first patch.
    fn first(&self) -> usize {
        usize::from(self.class)
    }
}

/// The convolution's transpose: what each pixel gets from the outputs that read it; pixels left over get nothing.
pub fn patch_embedding_backward<T: Real>(dy: &[T], weight: &[T], s: Patches) -> Vec<T> {
    let (side, grid) = (s.size, s.grid());
    let mut dx = Vec::with_capacity(s.batch * 3 * side * side);
    for image in 0..s.batch {
        for channel in 0..3 {
            for row in 0..side {
                for col in 0..side {
                    let (gy, gx) = (row / s.patch, col / s.patch);
                    let mut terms = Vec::new();
                    if gy < grid && gx < grid {
                        let token = s.first() + gy * grid + gx;
                        for out in 0..s.width {
                            let w = ((out * 3 + channel) * s.patch + row % s.patch) * s.patch + col % s.patch;
                            terms.push(dy[(image * s.tokens() + token) * s.width + out] * weight[w]);
                        }
                    }
                    dx.push(sum(terms));
                }
            }
        }
    }
    dx
}

/// The strided convolution itself (no unfolding), class token and positions: [batch, tokens, width]. `class` holds its bias
/// where there is no class token.
pub fn patch_embedding<T: Real>(pixels: &[T], weight: &[T], class: &[T], position: &[T], s: Patches) -> Vec<T> {
    let (side, grid) = (s.size, s.grid());
    let mut y = Vec::with_capacity(s.batch * s.tokens() * s.width);
    for image in 0..s.batch {
        for token in 0..s.tokens() {
            for (out, class) in class.iter().enumerate() {
                let value = if token < s.first() {
                    *class
                } else {
                    let cell = token - s.first();
                    let (gy, gx) = (cell / grid, cell % grid);
                    let mut terms = Vec::new();
                    for channel in 0..3 {
                        for dy in 0..s.patch {
                            for dx in 0..s.patch {
                                let (row, col) = (gy * s.patch + dy, gx * s.patch + dx);
                                let pixel = pixels[((image * 3 + channel) * side + row) * side + col];
                                let w = weight[((out * 3 + channel) * s.patch + dy) * s.patch + dx];
                                terms.push(pixel * w);
                            }
                        }
                    }
                    if s.class { sum(terms) } else { sum(terms) + *class }
                };
                y.push(value + position[token * s.width + out]);
            }
        }
    }
    y
}

/// Σ or mean over the middle of x [groups, terms, width].
pub fn reduce<T: Real>(x: &[T], [groups, terms, width]: [usize; 3], mean: bool) -> Vec<T> {
    let mut y = Vec::new();
    for g in 0..groups {
        for d in 0..width {
            let total = sum((0..terms).map(|t| x[(g * terms + t) * width + d]));
            y.push(if mean { total / T::of(terms as f64) } else { total });
        }
    }
    y
}

/// Rows of x by number; `u32::MAX` is a row of zeros.
pub fn gather(x: &[f32], index: &[u32], width: usize) -> Vec<f32> {
    let zeros = vec![0.0; width];
    index
        .iter()
        .flat_map(|i| if *i == u32::MAX { &zeros[..] } else { &x[*i as usize * width..][..width] })
        .copied()
        .collect()
}
