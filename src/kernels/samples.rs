//! Pixels from pictures of 8 bits a sample (`shaders/samples.wgsl`).

use super::expect;
use super::texts::shader;
use crate::gpu::{DType, Dispatch, Grid, Recorder, Shader, Tensor, Variant};
use crate::{Error, Result};

static SHADER: Shader = shader("samples");

pub(super) fn variants() -> Vec<Variant> {
    vec![Variant::new(&SHADER, "main", &[])]
}

/// Words of four samples that `batch` pictures of `size`×`size` take.
pub fn words(batch: usize, size: usize) -> usize {
    (3 * batch * size * size).div_ceil(4)
}

/// Writes `pixels [batch, 3, size, size]` of `samples`, u32 `[words]`: pictures `[batch, size, size, 3]` of 8 bits one after the
/// other, four samples to a word, the first lowest. What a sample of a channel becomes stands in `table [3, 256]`.
///
/// # Errors
/// Shapes that do not fit.
pub fn pixels(rec: &mut Recorder, samples: &Tensor, table: &Tensor, pixels: &Tensor) -> Result<()> {
    let [batch, 3, size, size_x] = *pixels.shape() else {
        return Err(Error::invalid(format!("samples: pixels have shape {:?}, expected [batch,3,R,R]", pixels.shape())));
    };
    if size != size_x || samples.dtype() != DType::U32 {
        return Err(Error::invalid(format!("samples: pictures of {size_x}×{size} from {:?}", samples.dtype())));
    }
    expect("samples", "samples", samples, &[words(batch, size)])?;
    expect("samples", "table", table, &[3, 256])?;
    let params = [pixels.len(), size * size].map(|v| v as u32);
    rec.dispatch(&Dispatch {
        variant: Variant::new(&SHADER, "main", &[]),
        label: "samples",
        params: bytemuck::bytes_of(&params),
        bindings: &[samples, table, pixels],
        grid: Grid::cover(pixels.len(), 64),
        flops: 0.0,
        bytes: 5.0 * pixels.len() as f64,
    })
}
