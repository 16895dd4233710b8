//! OpenAI's modified ResNet (CLIP, arXiv 2103.00020, §2.4): a stem of three convolutions and an average pool, four stages
//! of bottleneck blocks whose strides are average pools, and attention pooling. Forward only. Batch norms are folded
//! into their convolutions when the weights are loaded.

use std::ops::Range;

use super::config::{Biases, ResNetConfig};
use super::convolution::Conv;
use super::image_plan::ImagePlan;
use super::loader::Loader;
use crate::Result;
use crate::gpu::{DType, Gpu, Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::attention::{self, Pattern};
use crate::kernels::conv::{self, Order, Window};
use crate::kernels::gemm::{Epilogue, Precision};
use crate::nn::{FrozenLinear, Picked};

/// Bytes of unfolded rows that one convolution may need: pictures go through the trunk in groups as large as that allows.
const UNFOLDED: u64 = 128 << 20;

/// A bottleneck block.
struct Residual {
    reduce: Conv,
    middle: Conv,
    expand: Conv,
    /// Of the input, where its channels or its size change.
    shortcut: Option<Conv>,
    /// Side of the average pool before `expand` and `shortcut`.
    stride: usize,
}

impl Residual {
    fn forward(&self, rec: &mut Recorder, x: Tensor) -> Result<Tensor> {
        let batch = x.shape().first().copied().unwrap_or(0);
        let y = self.reduce.relu(rec, &x)?;
        let y = self.middle.relu(rec, &y)?;
        let y = if self.stride > 1 { conv::pool(rec, &y, self.stride)? } else { y };
        let from = (Order::ChannelsLast, 0..batch);
        let identity = match &self.shortcut {
            None => x,
            Some(shortcut) => {
                let x = if self.stride > 1 { conv::pool(rec, &x, self.stride)? } else { x };
                shortcut.forward(rec, &x, from.clone(), &Epilogue::default())?
            }
        };
        let sum = self.expand.forward(rec, &y, from, &Epilogue { residual: Some(&identity), ..Epilogue::default() })?;
        activation::forward(rec, Activation::Relu, &sum)
    }
}

/// A frozen ResNet with attention pooling.
pub struct ResNet {
    gpu: Gpu,
    stem: [Conv; 3],
    blocks: Vec<Residual>,
    /// `[tokens, channels]`.
    position: Tensor,
    qkv: FrozenLinear,
    projection: FrozenLinear,
    heads: usize,
    size: usize,
    channels: usize,
    /// Of the largest unfolded rows, per picture.
    unfolded: u64,
}

impl ResNet {
    /// Rows that attention pooling makes of a picture.
    fn tokens(&self) -> usize {
        (self.size / 32).pow(2) + 1
    }

    pub(super) fn most_at_once(&self) -> usize {
        attention::most_rows(&self.gpu).map_or(usize::MAX, |rows| (rows / self.tokens()).max(1))
    }

    /// A tower on pictures `size` pixels square.
    pub(super) fn load(loader: &Loader<'_>, config: &ResNetConfig, size: usize, embedding: usize) -> Result<ResNet> {
        // No int8 here, but f16: of an RN50 with random weights it leaves features off by 5 and 11 % of their length, a cosine of
        // 0.994, and by 4 and 5 % with stem, first stage and pool in f16, where a ViT's are off by 2 %.
        let precision = if loader.precision == Precision::Int8 { Precision::F16 } else { loader.precision };
        let loader = &Loader { precision, ..*loader };
        let point = Window { side: 1, stride: 1, pad: 0 };
        let three = |stride| Window { side: 3, stride, pad: 1 };
        let width = config.width;
        let load = |conv: String, norm: String, out, input, window| {
            Conv::load(loader, (&conv, Some(&norm)), out, input, window)
        };
        let stem = |n: usize, out, input, stride| {
            load(format!("visual.conv{n}"), format!("visual.bn{n}"), out, input, three(stride))
        };
        let stem = [stem(1, width / 2, 3, 2)?, stem(2, width / 2, width / 2, 1)?, stem(3, width, width / 2, 1)?];
        let mut blocks = Vec::new();
        let mut input = width;
        for (stage, count) in config.stages.iter().enumerate() {
            let prefix = format!("visual.layer{}.", stage + 1);
            loader.no_more_layers(&prefix, *count)?;
            let planes = width << stage;
            for i in 0..*count {
                let at = format!("{prefix}{i}.");
                let stride = if stage > 0 && i == 0 { 2 } else { 1 };
                let conv = |n: usize, out, input, window| {
                    load(format!("{at}conv{n}"), format!("{at}bn{n}"), out, input, window)
                };
                let changes = stride > 1 || input != 4 * planes;
                let shortcut =
                    || load(format!("{at}downsample.0"), format!("{at}downsample.1"), 4 * planes, input, point);
                blocks.push(Residual {
                    reduce: conv(1, planes, input, point)?,
                    middle: conv(2, planes, planes, three(1))?,
                    expand: conv(3, 4 * planes, planes, point)?,
                    shortcut: changes.then(shortcut).transpose()?,
                    stride,
                });
                input = 4 * planes;
            }
        }
        let (channels, pool) = (config.channels(), "visual.attnpool");
        let tokens = (size / 32).pow(2) + 1;
        // The stem's second and third convolutions, at half of the pictures' side, unfold the most: all later ones have
        // twice the channels on a quarter of the positions. The middle of stage one is on a quarter of the side.
        let half = (size as u64).div_ceil(2);
        let unfolded = 4 * 9 * (half * half * (width as u64 / 2)).max((half / 2).pow(2) * width as u64);
        let parts = ["q_proj", "k_proj", "v_proj"].map(|part| format!("{pool}.{part}"));
        Ok(ResNet {
            gpu: loader.gpu.clone(),
            stem,
            blocks,
            position: loader.upload(&format!("{pool}.positional_embedding"), &[tokens, channels])?,
            qkv: loader.qkv_of_three(&parts, Biases::All, channels)?,
            projection: loader.linear(&format!("{pool}.c_proj"), embedding, channels)?,
            heads: config.heads,
            size,
            channels,
            unfolded,
        })
    }

    /// Pictures `images` of pixels → `[images, size/32, size/32, channels]`.
    fn trunk(&self, rec: &mut Recorder, pixels: &Tensor, images: Range<usize>) -> Result<Tensor> {
        let relu = Epilogue { activation: Some(Activation::Relu), ..Epilogue::default() };
        let x = self.stem[0].forward(rec, pixels, (Order::ChannelsFirst, images), &relu)?;
        let x = self.stem[1].relu(rec, &x)?;
        let x = self.stem[2].relu(rec, &x)?;
        let mut x = conv::pool(rec, &x, 2)?;
        for block in &self.blocks {
            x = block.forward(rec, x)?;
        }
        Ok(x)
    }

    /// Records the tower for `batch` pictures.
    ///
    /// # Errors
    /// Out of memory: a smaller batch needs less.
    pub fn plan(&self, batch: usize) -> Result<ImagePlan> {
        self.plan_in_groups(batch, self.group())
    }

    /// Pictures that go through the convolutions at a time. Unfolded rows are nine times a layer's input: bounded, whatever the
    /// batch.
    fn group(&self) -> usize {
        (UNFOLDED.min(self.gpu.max_binding()) / self.unfolded.max(1)) as usize
    }

    /// As [`ResNet::plan`], with `group` pictures (at least one) going through the convolutions at a time.
    ///
    /// # Errors
    /// As [`ResNet::plan`].
    pub fn plan_in_groups(&self, batch: usize, group: usize) -> Result<ImagePlan> {
        self.record(batch, group, true)
    }

    /// As [`ResNet::plan`], up to the projection: features are what the attention pool mixed.
    ///
    /// # Errors
    /// As [`ResNet::plan`].
    pub fn plan_unprojected(&self, batch: usize) -> Result<ImagePlan> {
        self.record(batch, self.group(), false)
    }

    /// The last layer.
    pub(super) fn projection(&self) -> &FrozenLinear {
        &self.projection
    }

    fn record(&self, batch: usize, group: usize, projected: bool) -> Result<ImagePlan> {
        let group = group.max(1);
        let gpu = &self.gpu;
        let pixels = gpu.empty("pixels", &[batch, 3, self.size, self.size], DType::F32)?;
        let tokens = self.tokens();
        let pattern = Pattern::uniform(gpu, batch, tokens, false)?;
        let means: Vec<u32> = (0..batch).map(|b| (b * tokens) as u32).collect();
        let means = Picked::new(gpu, &means, batch * tokens)?;
        let mut rec = Recorder::new(gpu);
        let x = rec.temp("tokens", &[batch, tokens, self.channels])?;
        for first in (0..batch).step_by(group) {
            let y = self.trunk(&mut rec, &pixels, first..(first + group).min(batch))?;
            conv::tokens(&mut rec, &y, &self.position, &x, first)?;
        }
        let x = x.reshape(&[batch * tokens, self.channels])?;
        let qkv = self.qkv.forward(&mut rec, &x, &Epilogue::default())?;
        let mixed = attention::forward(&mut rec, &qkv, &pattern, self.heads)?.y;
        // Only the mean asks; its row is all that is projected.
        let pooled = means.of(&mut rec, &mixed)?;
        // What is still held when recording ends gets a place of its own.
        drop((x, qkv, mixed));
        let features = match projected {
            true => self.projection.forward(&mut rec, &pooled, &Epilogue::default())?,
            false => pooled,
        };
        Ok(ImagePlan { pixels, features, adapted: None, plan: rec.finish()? })
    }
}
