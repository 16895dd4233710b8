//! Twin of the corrected image tower's blocks: pre-LN transformer with a bottleneck beside each MLP, made of the
//! other twins.

use tipi::low_level::kernels::activation::Activation;
use tipi::low_level::kernels::gemm::Layout;

use super::attention::{self, Heads, Ragged};
use super::linear::{activation, epilogue, matmul};
use super::real::Real;
use super::rowwise::{Flaw, layernorm};

/// Sizes of a tower.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub width: usize,
    pub heads: usize,
    pub mlp: usize,
    pub bottleneck: usize,
    pub batch: usize,
    pub tokens: usize,
}

/// A frozen block's weights.
#[derive(Clone, Debug)]
pub struct Frozen<T> {
    pub gain1: Vec<T>,
    pub shift1: Vec<T>,
    pub qkv: Vec<T>,
    pub qkv_bias: Vec<T>,
    pub out: Vec<T>,
    pub out_bias: Vec<T>,
    pub gain2: Vec<T>,
    pub shift2: Vec<T>,
    pub up: Vec<T>,
    pub up_bias: Vec<T>,
    pub down: Vec<T>,
    pub down_bias: Vec<T>,
}

/// down weight, down bias, up weight, up bias.
pub type Branch<T> = [Vec<T>; 4];

fn linear<T: Real>(x: &[T], w: &[T], b: &[T], input: usize) -> Vec<T> {
    let out = b.len();
    epilogue(&matmul(Layout::Nt, x, w, [x.len() / input, out, input]), 1.0, Some(b), None, None)
}

/// x [batch·tokens, width] through all blocks; `masks` multiply the bottlenecks' hidden layers where given.
pub fn forward<T: Real>(
    x: &[T],
    blocks: &[Frozen<T>],
    bottlenecks: &[Branch<T>],
    masks: Option<&[Vec<T>]>,
    scale: f32,
    s: Sizes,
) -> Vec<T> {
    let add = |a: &[T], b: &[T]| -> Vec<T> { a.iter().zip(b).map(|(a, b)| *a + *b).collect() };
    let ragged = Ragged { prefix: 0, lens: vec![s.tokens; s.batch], causal: false };
    let heads = Heads { count: s.heads, head: s.width / s.heads, unscaled: false };
    let mut x = x.to_vec();
    for (i, (b, [dw, db, uw, ub])) in blocks.iter().zip(bottlenecks).enumerate() {
        let n1 = layernorm(&x, &b.gain1, &b.shift1, 1e-5, Flaw::None).0;
        let qkv = linear(&n1, &b.qkv, &b.qkv_bias, s.width);
        let mixed = attention::forward(&qkv, &ragged, heads).0;
        let mid = add(&x, &linear(&mixed, &b.out, &b.out_bias, s.width));
        let n2 = layernorm(&mid, &b.gain2, &b.shift2, 1e-5, Flaw::None).0;
        let hidden = activation(Activation::Gelu, &linear(&n2, &b.up, &b.up_bias, s.width));
        let plain = add(&mid, &linear(&hidden, &b.down, &b.down_bias, s.mlp));
        let mut low = activation(Activation::Relu, &linear(&mid, dw, db, s.width));
        if let Some(masks) = masks {
            low.iter_mut().zip(&masks[i]).for_each(|(v, m)| *v = *v * *m);
        }
        let branch = linear(&low, uw, ub, s.bottleneck);
        x = plain.iter().zip(&branch).map(|(p, b)| *p + T::of(f64::from(scale)) * *b).collect();
    }
    x
}
