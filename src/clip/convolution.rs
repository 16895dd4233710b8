//! Frozen convolutions, whose batch norms are folded into them when the weights are loaded.

use std::ops::Range;

use super::checkpoint::Checkpoint;
use super::loader::Loader;
use crate::gpu::{Recorder, Tensor};
use crate::kernels::activation::Activation;
use crate::kernels::conv::{self, Order, Window};
use crate::kernels::gemm::Epilogue;
use crate::nn::FrozenLinear;
use crate::{Error, Result};

/// BatchNorm's eps in torch and in all of these checkpoints, which do not store it.
const EPS: f64 = 1e-5;

/// A frozen convolution with its batch norm, if it has one.
pub(super) struct Conv {
    /// `[out, side²·in]` (row, column, channel), times the norm's scale; the norm's shift.
    linear: FrozenLinear,
    window: Window,
}

impl Conv {
    /// The convolution of this name, with the batch norm of that; without one, with its own bias.
    pub fn load(
        loader: &Loader<'_>,
        (conv, norm): (&str, Option<&str>),
        out: usize,
        input: usize,
        window: Window,
    ) -> Result<Conv> {
        let side = window.side;
        let stored = [out, input, side, side];
        let name = format!("{conv}.weight");
        loader.checkpoint.check(&name, &stored)?;
        let (scale, bias) = match norm {
            Some(norm) => {
                let (scale, shift) = folded_norm(loader.checkpoint, norm, out)?;
                (scale, loader.upload_made(norm, &[out], || Ok(shift))?)
            }
            None => (vec![1.0; out], loader.upload(&format!("{conv}.bias"), &[out])?),
        };
        let weight = loader.freeze_made(&name, [out, side * side * input], || {
            Ok(channels_last(&loader.checkpoint.values(&name, &stored)?, input, side, &scale))
        })?;
        Ok(Conv { linear: FrozenLinear { weight, bias: Some(bias) }, window })
    }

    /// Of the pictures `from` names, with `extra`'s activation and residual.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(
        &self,
        rec: &mut Recorder,
        x: &Tensor,
        from: (Order, Range<usize>),
        extra: &Epilogue<'_>,
    ) -> Result<Tensor> {
        let epilogue = Epilogue { bias: self.linear.bias.as_ref(), ..*extra };
        conv::forward(rec, x, from, self.window, &self.linear.weight, &epilogue)
    }

    /// Of all pictures of x, with ReLU.
    ///
    /// # Errors
    /// As [`Conv::forward`].
    pub fn relu(&self, rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
        let from = (Order::ChannelsLast, 0..x.shape().first().copied().unwrap_or(0));
        self.forward(rec, x, from, &Epilogue { activation: Some(Activation::Relu), ..Epilogue::default() })
    }
}

/// A batch norm as a factor and a summand per channel.
fn folded_norm(checkpoint: &Checkpoint, name: &str, channels: usize) -> Result<(Vec<f64>, Vec<f32>)> {
    let part = |part: &str| checkpoint.values(&format!("{name}.{part}"), &[channels]);
    let (gain, shift, mean, variance) = (part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?);
    let scale: Vec<f64> =
        gain.iter().zip(&variance).map(|(g, v)| f64::from(*g) / (f64::from(*v) + EPS).sqrt()).collect();
    if scale.iter().any(|s| !s.is_finite()) {
        return Err(Error::config(checkpoint.path(), format!("'{name}.running_var' holds a negative variance")));
    }
    let summand = (0..channels).map(|c| (f64::from(shift[c]) - f64::from(mean[c]) * scale[c]) as f32).collect();
    Ok((scale, summand))
}

/// A convolution's weight `[out, input, side, side]` as `[out, side, side, input]`, each output times its factor.
fn channels_last(values: &[f32], input: usize, side: usize, scale: &[f64]) -> Vec<f32> {
    let area = side * side;
    let mut out = Vec::with_capacity(values.len());
    for (kernel, scale) in values.chunks_exact(input * area).zip(scale) {
        for at in 0..area {
            out.extend((0..input).map(|channel| (f64::from(kernel[channel * area + at]) * scale) as f32));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::channels_last;

    #[test]
    fn weights_are_reordered_and_scaled() {
        // Two outputs, two inputs, a window of 1×… is square: 2×2.
        let values: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let got = channels_last(&values, 2, 2, &[1.0, 10.0]);
        assert_eq!(got[..8], [0., 4., 1., 5., 2., 6., 3., 7.]);
        assert_eq!(got[8..], [80., 120., 90., 130., 100., 140., 110., 150.]);
    }
}
