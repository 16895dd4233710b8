//! DINO's head: three layers with GELU between, rows of length 1, and one wide layer whose rows have length 1. As the overlap
//! paper's authors ran it, student and teacher share one random head, which is frozen: so it has no gradient of its own.

use crate::adapt::train::streams;
use crate::clip::Clip;
use crate::data::{PythonRandom, stream_seed};
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::kernels::activation::{self, Activation};
use crate::kernels::gemm::{self, Epilogue, Precision};
use crate::kernels::normalize;
use crate::nn::FrozenLinear;
use crate::{Error, Result, numbers};

/// The deviation of the first weights of the narrow layers.
const DEVIATION: f64 = 0.02;

/// A frozen head.
#[derive(Clone, Debug)]
pub struct Head {
    narrow: [FrozenLinear; 3],
    /// `[width, narrow]`, rows of length 1.
    wide: FrozenLinear,
}

/// A layer on the host.
pub struct Values<'a> {
    /// `[out, in]`.
    pub weight: &'a [f32],
    /// `[out]`.
    pub bias: &'a [f32],
}

/// What [`Head::backward`] needs.
pub struct Saved {
    /// Before the two activations.
    pre: [Tensor; 2],
    /// Before it is normalised, and its lengths.
    narrow: Tensor,
    norms: Tensor,
}

impl Head {
    /// A head `[embedding → hidden → hidden → narrow → width]` from a seed: weights of the first three layers from N(0, 0.02),
    /// biases 0, directions of the last uniform in a cube, as DINO's code has it. Row by row, so that no more than a piece of it
    /// ever lies in host memory.
    ///
    /// # Errors
    /// Out of memory.
    pub fn random(clip: &Clip, [hidden, narrow, width]: [usize; 3], seed: u64) -> Result<Head> {
        let gpu = &clip.gpu;
        let frozen = |layer: u64, [out, input]: [usize; 2], draw: &dyn Fn(&mut PythonRandom) -> f64, unit: bool| {
            gemm::freeze_rows(gpu, "the head", [out, input], Precision::F32, &mut |rows| {
                let mut values = Vec::with_capacity(rows.len() * input);
                for row in rows {
                    let mut rng = PythonRandom::new(stream_seed(seed, streams::WIDE_HEAD + layer, row as u64));
                    let drawn: Vec<f64> = (0..input).map(|_| draw(&mut rng)).collect();
                    values.extend(if unit { normalized(&drawn, 1.0) } else { rounded(&drawn) });
                }
                Ok(values)
            })
        };
        let normal = |rng: &mut PythonRandom| DEVIATION * rng.normal();
        let linear = |layer: u64, out: usize, input: usize| -> Result<FrozenLinear> {
            Ok(FrozenLinear {
                weight: frozen(layer, [out, input], &normal, false)?,
                bias: Some(gpu.zeros("the head", &[out])?),
            })
        };
        let narrow_layers =
            [linear(0, hidden, clip.config.embedding)?, linear(1, hidden, hidden)?, linear(2, narrow, hidden)?];
        let weight = frozen(3, [width, narrow], &|rng: &mut PythonRandom| rng.uniform(-1.0, 1.0), true)?;
        Ok(Head { narrow: narrow_layers, wide: FrozenLinear { weight, bias: None } })
    }

    /// A head from host values: three layers, and the last one's directions `[width, narrow]` with their lengths `[width]`.
    ///
    /// # Errors
    /// Lengths that do not fit; out of memory.
    pub fn upload(
        gpu: &Gpu,
        embedding: usize,
        layers: [Values<'_>; 3],
        (directions, lengths): (&[f32], &[f32]),
    ) -> Result<Head> {
        let mut input = embedding;
        let mut all = Vec::with_capacity(3);
        for Values { weight, bias } in layers {
            let out = bias.len();
            all.push(FrozenLinear {
                weight: gemm::freeze(gpu, "the head", weight, [out, input], Precision::F32)?,
                bias: Some(gpu.upload("the head", bias, &[out])?),
            });
            input = out;
        }
        if directions.len() != lengths.len() * input {
            let (values, rows) = (directions.len(), lengths.len());
            return Err(Error::invalid(format!("{values} values for {rows} directions of width {input}")));
        }
        let widened = |row: &[f32]| row.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let rows = directions.chunks(input.max(1)).zip(lengths);
        let wide: Vec<f32> = rows.flat_map(|(row, length)| normalized(&widened(row), f64::from(*length))).collect();
        let weight = gemm::freeze(gpu, "the head", &wide, [lengths.len(), input], Precision::F32)?;
        let narrow =
            <[FrozenLinear; 3]>::try_from(all).map_err(|_| Error::invalid("a head has three narrow layers"))?;
        Ok(Head { narrow, wide: FrozenLinear { weight, bias: None } })
    }

    /// The number of outputs.
    pub fn width(&self) -> usize {
        self.wide.weight.rows()
    }

    /// What it takes.
    pub fn embedding(&self) -> usize {
        self.narrow[0].weight.cols()
    }

    /// x `[rows, embedding]` → `[rows, width]`, and what backward needs.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn forward(&self, rec: &mut Recorder, x: &Tensor) -> Result<(Tensor, Saved)> {
        let plain = Epilogue::default();
        let first = self.narrow[0].forward(rec, x, &plain)?;
        let hidden = activation::forward(rec, Activation::Gelu, &first)?;
        let second = self.narrow[1].forward(rec, &hidden, &plain)?;
        let hidden = activation::forward(rec, Activation::Gelu, &second)?;
        let narrow = self.narrow[2].forward(rec, &hidden, &plain)?;
        let unit = normalize::forward(rec, &narrow)?;
        let y = self.wide.forward(rec, &unit.y, &plain)?;
        Ok((y, Saved { pre: [first, second], narrow, norms: unit.norms }))
    }

    /// dx `[rows, embedding]` from dy `[rows, width]`.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    pub fn backward(&self, rec: &mut Recorder, dy: &Tensor, saved: Saved) -> Result<Tensor> {
        let Saved { pre: [first, second], narrow, norms } = saved;
        let dunit = self.wide.backward(rec, dy)?;
        let dnarrow = normalize::backward(rec, &narrow, &norms, &dunit)?;
        let dhidden = self.narrow[2].backward(rec, &dnarrow)?;
        let dsecond = activation::backward(rec, Activation::Gelu, &second, &dhidden)?;
        let dhidden = self.narrow[1].backward(rec, &dsecond)?;
        let dfirst = activation::backward(rec, Activation::Gelu, &first, &dhidden)?;
        self.narrow[0].backward(rec, &dfirst)
    }
}

fn rounded(row: &[f64]) -> Vec<f32> {
    row.iter().map(|v| *v as f32).collect()
}

/// A direction of this length.
fn normalized(row: &[f64], length: f64) -> Vec<f32> {
    let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    row.iter().map(|v| (v * length / norm) as f32).collect()
}

/// The widest head.
pub const MOST_WIDTH: usize = 1 << 20;

/// Checks a head's sizes.
pub(super) fn check([hidden, narrow, width]: [usize; 3]) -> Result<()> {
    if !(2..=MOST_WIDTH).contains(&width) {
        return Err(Error::invalid(format!("a head of {width} outputs must have 2 to {MOST_WIDTH}")));
    }
    for size in [hidden, narrow] {
        if !(1..=MOST_WIDTH).contains(&size) {
            return Err(Error::invalid(format!("a layer of the head {size} wide must be 1 to {MOST_WIDTH} wide")));
        }
    }
    numbers::check_memory("the head", &[(width, "outputs"), (narrow, "columns")], 4)
}
