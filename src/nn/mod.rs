//! Layers with explicit forward and backward. The backbone's are frozen: their backward gives dX only, and nothing is
//! kept that only a weight gradient would need. What trains is named as such and gives dW too.

mod attention_pool;
mod block;
mod bottleneck;
mod linear;

pub use attention_pool::{AttentionPool, Saved as PoolSaved};
#[doc(hidden)]
pub use block::Taps;
pub use block::{AdaptedSaved, Block, Hidden, Pair, Picked, Saved, Teacher, Transformer};
pub use bottleneck::{Bottleneck, BottleneckGrads, Saved as BottleneckSaved};
pub use linear::{FrozenLinear, LayerNorm, LinearGrads, TrainableLinear};
