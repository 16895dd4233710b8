//! Pictures that get learned noise on their pixels before they go through the image tower (PiNI's ablation, arXiv 2412.10817).
//!
//! Their features are `[pictures, draws·D]`, draw after draw. What is drawn is the same for every picture: features then depend on the
//! picture alone, not on its place among others, and a picture is classified alike by itself and in a crowd.

use super::image_plan::ImagePlan;
use super::image_tower::ImageTower;
use super::model::Clip;
use crate::gpu::{DType, Gpu, Recorder, Tensor};
use crate::kernels::{noise, planes};
use crate::nn::NoiseNet;
use crate::{Error, Result};

/// What is drawn for features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Draws.
    pub count: usize,
    /// Their seed.
    pub seed: u64,
    /// Their stream, see [`streams`](crate::adapt::train::streams).
    pub stream: u32,
}

/// Learned noise, and how it enters features.
#[derive(Clone, Debug)]
pub struct PixelNoise {
    /// What makes it.
    pub net: NoiseNet,
    /// RMS of each plane of means and of spreads.
    pub level: f32,
    /// Draws; the noise's mean where there are none.
    pub drawn: Option<Drawn>,
}

impl PixelNoise {
    /// Rows of features that a picture has.
    pub fn rows(&self) -> usize {
        self.drawn.map_or(1, |drawn| drawn.count)
    }

    /// Random numbers for pictures of `size` pixels: zero at the noise's mean.
    fn eps(&self, gpu: &Gpu, size: usize) -> Result<Tensor> {
        let shape = [self.rows(), 3, size, size];
        let Some(Drawn { seed, stream, .. }) = self.drawn else { return gpu.zeros("noise of pixels", &shape) };
        let eps = gpu.empty("noise of pixels", &shape, DType::F32)?;
        let counter = gpu.upload("counter", &[seed as u32, (seed >> 32) as u32, 0, 0], &[4])?;
        let mut rec = Recorder::new(gpu);
        noise::normal(&mut rec, &counter, stream, &eps)?;
        rec.finish()?.run()?;
        Ok(eps)
    }

    /// Records means and spreads of pixels `[n, 3, R, R]`, as `[n, 6, R²]`, the means first.
    ///
    /// # Errors
    /// Pixels of another shape; out of memory.
    pub fn record(&self, rec: &mut Recorder, pixels: &Tensor) -> Result<Tensor> {
        let raw = self.net.infer(rec, pixels)?;
        Ok(planes::scale(rec, &raw, self.level)?.planes)
    }

    /// Means and spreads (without their sign) of the noise of pixels `[n, 3, R, R]`, each `[n, 3, R, R]`, a picture at a time.
    ///
    /// # Errors
    /// Values that are no whole pictures; a device that fails.
    pub fn of_pixels(&self, clip: &Clip, pixels: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        let (gpu, size) = (&clip.gpu, clip.preprocess.size);
        let one = 3 * size * size;
        if !pixels.len().is_multiple_of(one) {
            return Err(Error::invalid(format!("{} pixel values; one picture has {one}", pixels.len())));
        }
        let input = gpu.empty("pixels", &[1, 3, size, size], DType::F32)?;
        let mut rec = Recorder::new(gpu);
        let planes = self.record(&mut rec, &input)?;
        let plan = rec.finish()?;
        let (mut mean, mut spread) = (Vec::new(), Vec::new());
        for picture in pixels.chunks_exact(one) {
            gpu.write(&input, picture)?;
            plan.run()?;
            let both = gpu.read::<f32>(&planes)?;
            mean.extend_from_slice(&both[..one]);
            spread.extend(both[one..].iter().map(|v| v.abs()));
        }
        Ok((mean, spread))
    }

    /// Records the tower for `batch` pictures with this noise; features are `[batch, rows·D]`.
    ///
    /// # Errors
    /// A ResNet; out of memory: a smaller batch needs less.
    pub(super) fn plan(&self, tower: &ImageTower, (gpu, size): (&Gpu, usize), batch: usize) -> Result<ImagePlan> {
        let vit = tower.to_pixels()?;
        let rows = self.rows();
        let pixels = gpu.empty("pixels", &[batch, 3, size, size], DType::F32)?;
        let eps = self.eps(gpu, size)?;
        let mut rec = Recorder::new(gpu);
        let planes = self.record(&mut rec, &pixels)?;
        let noisy = planes::add(&mut rec, &pixels, &planes, &eps, rows)?;
        drop(planes);
        let features = vit.record(&mut rec, &noisy)?;
        drop(noisy);
        let width = features.cols();
        let features = features.reshape(&[batch, rows * width])?;
        let plan = rec.finish()?;
        let cause = "the weights of the noise or of this model are damaged or too large; train it again";
        Ok(ImagePlan { pixels, features: features.named("features of noisy pictures", cause), adapted: None, plan })
    }
}
