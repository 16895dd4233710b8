//! Linear layers and LayerNorm.

use crate::Result;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::gemm::{Epilogue, Layout, matmul, takes_half};
use crate::kernels::{layernorm, reduce};

/// y = x·Wᵀ + b with W `[out,in]`; neither trains.
#[derive(Clone, Debug)]
pub struct FrozenLinear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`, where the layer has one.
    pub bias: Option<Tensor>,
}

impl FrozenLinear {
    /// x `[rows, in]` → `[rows, out]`, with `extra`'s activation, residual and factor; its bias is the layer's own.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: &Tensor, extra: &Epilogue<'_>) -> Result<Tensor> {
        matmul(rec, Layout::Nt, x, &self.weight, &Epilogue { bias: self.bias.as_ref(), ..*extra })
    }

    /// Whether so many rows that are made for this layer alone should be stored as f16.
    ///
    /// # Errors
    /// A device that fails while its matrix units are tried.
    pub fn takes_half(&self, gpu: &Gpu, rows: usize) -> Result<bool> {
        takes_half(gpu, rows, &self.weight)
    }

    /// dX `[rows, in]` from dY `[rows, out]`. There is no other gradient: the layer is frozen.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward(&self, rec: &mut Recorder, dy: &Tensor) -> Result<Tensor> {
        self.backward_onto(rec, dy, None)
    }

    /// As [`FrozenLinear::backward`], plus `base` where given.
    ///
    /// # Errors
    /// As [`FrozenLinear::backward`].
    pub fn backward_onto(&self, rec: &mut Recorder, dy: &Tensor, base: Option<&Tensor>) -> Result<Tensor> {
        matmul(rec, Layout::Nn, dy, &self.weight, &Epilogue { residual: base, ..Epilogue::default() })
    }
}

/// Frozen LayerNorm.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    /// `[width]`.
    pub gain: Tensor,
    /// `[width]`.
    pub shift: Tensor,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// Normalised rows and the statistics that backward needs.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: &Tensor) -> Result<layernorm::Normed> {
        layernorm::forward(rec, x, &self.gain, &self.shift, self.eps)
    }

    /// As [`LayerNorm::forward`], plus `base`.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward_onto(&self, rec: &mut Recorder, x: &Tensor, base: &Tensor) -> Result<layernorm::Normed> {
        layernorm::forward_onto(rec, x, (&self.gain, &self.shift), self.eps, Some(base))
    }

    /// As [`LayerNorm::forward`], with the rows in the form that a product with `layer` reads: for nothing else.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward_for(&self, rec: &mut Recorder, x: &Tensor, layer: &FrozenLinear) -> Result<layernorm::Normed> {
        if layer.weight.dtype().is_texture() && rec.gpu().capabilities().holds_texels(x.rows(), x.cols()) {
            return layernorm::forward_texels(rec, x, &self.gain, &self.shift, self.eps);
        }
        if layer.takes_half(rec.gpu(), x.rows())? {
            return layernorm::forward_half(rec, x, &self.gain, &self.shift, self.eps);
        }
        self.forward(rec, x)
    }

    /// dX, plus `base` where given.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward(
        &self,
        rec: &mut Recorder,
        x: &Tensor,
        stats: &Tensor,
        dy: &Tensor,
        base: Option<&Tensor>,
    ) -> Result<Tensor> {
        layernorm::backward(rec, x, stats, &self.gain, dy, base)
    }
}

/// y = x·Wᵀ + b where both train.
#[derive(Clone, Debug)]
pub struct TrainableLinear {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
}

/// Gradients of a [`TrainableLinear`].
pub struct LinearGrads {
    /// `[out, in]`.
    pub weight: Tensor,
    /// `[out]`.
    pub bias: Tensor,
}

impl TrainableLinear {
    /// A layer from host values.
    ///
    /// # Errors
    /// Lengths that do not fit; out of memory.
    pub fn upload(gpu: &Gpu, what: &str, out: usize, input: usize, weight: &[f32], bias: &[f32]) -> Result<Self> {
        let weight = gpu.upload(what, weight, &[out, input])?;
        Ok(TrainableLinear { weight, bias: gpu.upload(what, bias, &[out])? })
    }

    /// x `[rows, in]` → `[rows, out]`.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: &Tensor) -> Result<Tensor> {
        matmul(rec, Layout::Nt, x, &self.weight, &Epilogue { bias: Some(&self.bias), ..Epilogue::default() })
    }

    /// dX `[rows, in]`, plus `base` where given.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward_input(&self, rec: &mut Recorder, dy: &Tensor, base: Option<&Tensor>) -> Result<Tensor> {
        matmul(rec, Layout::Nn, dy, &self.weight, &Epilogue { residual: base, ..Epilogue::default() })
    }

    /// dW and db from the layer's input and dY.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward_weight(&self, rec: &mut Recorder, x: &Tensor, dy: &Tensor) -> Result<LinearGrads> {
        let weight = matmul(rec, Layout::Tn, dy, x, &Epilogue::default())?;
        Ok(LinearGrads { weight, bias: reduce::sum_rows(rec, dy)? })
    }
}
