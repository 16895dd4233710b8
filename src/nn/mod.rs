//! Layers with explicit forward and backward. The backbone's are frozen: their backward gives dX only, and nothing is
//! kept that only a weight gradient would need. What trains is named as such and gives dW too.

mod attention_pool;
mod block;
mod bottleneck;
mod linear;
mod noise_net;

pub use attention_pool::{AttentionPool, Saved as PoolSaved};
#[doc(hidden)]
pub use block::Taps;
pub use block::{AdaptedSaved, Block, Hidden, Norms, Pair, Picked, Saved, Teacher, Transformer};
pub use bottleneck::{Bottleneck, BottleneckGrads, Saved as BottleneckSaved};
pub use linear::{FrozenLinear, LayerNorm, LinearGrads, TrainableLinear};
pub use noise_net::{Named, NoiseNet, SavedNet, Statistics, Values};
