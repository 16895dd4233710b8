//! What every kind of image tower is recorded as.

use crate::Result;
use crate::data::Normalize;
use crate::gpu::{DType, Gpu, Plan, Recorder, Tensor};
use crate::kernels::samples;

/// An image tower recorded for one batch size: write `pixels`, run, read `features`.
pub struct ImagePlan {
    /// `[batch, 3, R, R]`, normalised.
    pub pixels: Tensor,
    /// `[batch, embedding]`, un-normalised.
    pub features: Tensor,
    /// Features of the tower with bottlenecks, where it was recorded with some.
    pub adapted: Option<Tensor>,
    /// The recorded step.
    pub plan: Plan,
}

/// What turns prepared pictures of 8 bits into a plan's pixels. They come to the GPU as they are, a quarter of the bytes.
pub struct Samples {
    words: Tensor,
    plan: Plan,
}

/// What [`Samples`] keep on the GPU.
pub struct Kept {
    words: Tensor,
    table: Tensor,
}

impl Samples {
    /// Room for `batch` pictures of `size`×`size`, and what their samples mean. Made before the plan that they stand in front of:
    /// what recording that sets free is kept for reuse on a device and is gone in a rehearsal, which then counts the same.
    ///
    /// # Errors
    /// Out of memory.
    pub fn room(gpu: &Gpu, batch: usize, size: usize, normalize: &Normalize) -> Result<Kept> {
        Ok(Kept {
            words: gpu.empty("pictures", &[samples::words(batch, size)], DType::U32)?,
            table: gpu.upload("what samples mean", &normalize.table().concat(), &[3, 256])?,
        })
    }

    /// In front of a plan with these `pixels`.
    ///
    /// # Errors
    /// Another number of pictures, or another size, than there is room for.
    pub fn new(gpu: &Gpu, kept: Kept, pixels: &Tensor) -> Result<Samples> {
        let Kept { words, table } = kept;
        let mut rec = Recorder::new(gpu);
        samples::pixels(&mut rec, &words, &table, pixels)?;
        Ok(Samples { words, plan: rec.finish()? })
    }

    /// Overwrites the pictures, fewer than there is room for followed by black ones.
    ///
    /// # Errors
    /// More pictures than there is room for; a lost device.
    pub fn write(&self, gpu: &Gpu, pictures: &[u8]) -> Result<()> {
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0u32, |word, byte| (word << 8) | u32::from(*byte));
        let mut words: Vec<u32> = pictures.chunks(4).map(word).collect();
        words.resize(self.words.len().max(words.len()), 0);
        gpu.write(&self.words, &words)
    }

    /// The plan that makes pixels of them.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}
