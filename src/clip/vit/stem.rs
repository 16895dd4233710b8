//! From pixels to tokens.

use crate::clip::config::{Stem as StemConfig, VitConfig};
use crate::clip::convolution::Conv;
use crate::clip::loader::Loader;
use crate::gpu::{Recorder, Tensor};
use crate::kernels::activation::Activation;
use crate::kernels::conv::{Order, Window};
use crate::kernels::gemm::Epilogue;
use crate::kernels::patch::{self, PatchEmbedding};
use crate::{Error, Result};

/// What makes tokens of a picture's pixels.
pub(super) enum Stem {
    /// One linear layer over patches.
    Patches(PatchEmbedding),
    /// Convolutions, and what is added to the patches that they give.
    Convolutions { convs: Box<[Conv; 3]>, class: Option<Tensor>, position: Tensor },
}

impl Stem {
    pub fn load(loader: &Loader<'_>, config: &VitConfig, size: usize) -> Result<Stem> {
        let names = loader.checkpoint.names().image();
        let (width, grid) = (config.tower.width, size / config.patch);
        let class = config.class.then(|| loader.upload(names.class, &[width])).transpose()?;
        let position = position(loader, names.position, config, grid)?;
        match config.stem {
            StemConfig::Patches { bias } => {
                let weight = format!("{}.weight", names.patches);
                let bias_name = format!("{}.bias", names.patches);
                Ok(Stem::Patches(PatchEmbedding {
                    weight: loader.freeze(&[&weight], &[width, 3, config.patch, config.patch])?,
                    bias: bias.then(|| loader.upload(&bias_name, &[width])).transpose()?,
                    class,
                    position,
                    patch: config.patch,
                }))
            }
            StemConfig::Convolutions => {
                let at = |n: usize, part: &str| format!("visual.trunk.patch_embed.backbone.{n}.{part}");
                let window = |side| Window { side, stride: side, pad: 0 };
                let load = |n: usize, norm: Option<&str>, [out, input, side]: [usize; 3]| {
                    Conv::load(loader, (&at(n, "conv"), norm), out, input, window(side))
                };
                let inner = width / 4;
                let convs = Box::new([
                    load(0, Some(&at(0, "bn")), [inner, 3, 4])?,
                    load(1, Some(&at(1, "bn")), [inner, inner, 2])?,
                    load(2, None, [width, inner, 2])?,
                ]);
                Ok(Stem::Convolutions { convs, class, position })
            }
        }
    }

    /// Pixels `[batch, 3, R, R]` → tokens with positions `[batch, tokens, width]`.
    pub fn forward(&self, rec: &mut Recorder, pixels: &Tensor) -> Result<Tensor> {
        match self {
            Stem::Patches(embedding) => patch::forward(rec, pixels, embedding),
            Stem::Convolutions { convs, class, position } => {
                let batch = pixels.shape().first().copied().unwrap_or(0);
                let gelu = Epilogue { activation: Some(Activation::Gelu), ..Epilogue::default() };
                let x = convs[0].forward(rec, pixels, (Order::ChannelsFirst, 0..batch), &gelu)?;
                let x = convs[1].forward(rec, &x, (Order::ChannelsLast, 0..batch), &gelu)?;
                let x = convs[2].forward(rec, &x, (Order::ChannelsLast, 0..batch), &Epilogue::default())?;
                let grid = x.shape().get(1).copied().unwrap_or(0);
                patch::assemble(rec, &x, grid, class.as_ref(), position)
            }
        }
    }

    /// Whether [`Stem::backward`] works.
    pub fn check_backward(&self) -> Result<()> {
        match self {
            Stem::Patches(_) => Ok(()),
            Stem::Convolutions { .. } => Err(Error::invalid(CONVOLUTIONS)),
        }
    }

    /// The gradient `[batch, 3, size, size]` by pixels from that by the tokens.
    pub fn backward(&self, rec: &mut Recorder, dtokens: &Tensor, size: usize) -> Result<Tensor> {
        match self {
            Stem::Patches(embedding) => patch::backward(rec, dtokens, embedding, size),
            Stem::Convolutions { .. } => Err(Error::invalid(CONVOLUTIONS)),
        }
    }
}

/// Why there is no gradient by pixels.
const CONVOLUTIONS: &str = "this model's image tower begins with several convolutions, through which tipi takes no gradient to the \
                            pixels: put PiNI's noise on text, image features or both, or take a model whose tower cuts pictures \
                            into patches by one layer";

/// Positions of all tokens; zero for a class token that has none.
fn position(loader: &Loader<'_>, name: &str, config: &VitConfig, grid: usize) -> Result<Tensor> {
    let (cells, width) = (grid * grid, config.tower.width);
    if !config.class || config.class_position {
        return loader.upload(name, &[cells + usize::from(config.class), width]);
    }
    loader.checkpoint.check(name, &[cells, width])?;
    loader.upload_made(name, &[cells + 1, width], || {
        Ok([vec![0.0; width], loader.checkpoint.values(name, &[cells, width])?].concat())
    })
}
