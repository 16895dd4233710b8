//! What predicts is recorded once for a number of pictures, and run for every call.

use std::sync::{Mutex, PoisonError};

use super::{ROWS, check_rows};
use crate::clip::Features;
use crate::gpu::{DType, Gpu, Plan, Recorder, Tensor};
use crate::{Error, Result};

/// Plans that are held at a time: for a block of pictures, and for what is left over.
const HELD: usize = 2;

/// The way from un-normalised features to logits, recorded.
struct Recorded {
    rows: usize,
    original: Tensor,
    adapted: Option<Tensor>,
    logits: Tensor,
    plan: Plan,
}

/// Recorded predictions by their number of pictures, the one used last at the end.
#[derive(Default)]
pub struct Plans(Mutex<Vec<Recorded>>);

/// Records logits `[n, classes]` of un-normalised features `[n, width]`, and adapted ones where there are some.
pub type Record<'r> = dyn Fn(&mut Recorder, &Tensor, Option<&Tensor>) -> Result<Tensor> + 'r;

impl Plans {
    /// Gives back their memory.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Logits `[n, classes]` of un-normalised features `[n, width]`, a bounded number of pictures at a time. Pictures do not meet
    /// each other in any method, so the cuts do not show.
    ///
    /// # Errors
    /// Lengths that do not fit; what `record` gives; a device that fails.
    pub fn logits(&self, gpu: &Gpu, features: &Features, width: usize, record: &Record<'_>) -> Result<Vec<f32>> {
        let n = check_rows("features", &features.original, width)?;
        if let Some(adapted) = &features.adapted {
            let m = check_rows("adapted features", adapted, width)?;
            if m != n {
                return Err(Error::invalid(format!("{m} adapted features for {n} features")));
            }
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut logits = Vec::new();
        for first in (0..n).step_by(ROWS) {
            let rows = ROWS.min(n - first);
            let part = first * width..(first + rows) * width;
            let place = held.iter().position(|recorded| recorded.rows == rows);
            let recorded = match place {
                Some(place) => held.remove(place),
                None => {
                    // The memory of the one that was used longest ago, first.
                    if held.len() >= HELD {
                        held.remove(0);
                    }
                    Recorded::new(gpu, (rows, width), features.adapted.is_some(), record)?
                }
            };
            gpu.write(&recorded.original, &features.original[part.clone()])?;
            if let (Some(tensor), Some(values)) = (&recorded.adapted, &features.adapted) {
                gpu.write(tensor, &values[part])?;
            }
            recorded.plan.run()?;
            logits.extend(gpu.read::<f32>(&recorded.logits)?);
            held.push(recorded);
        }
        Ok(logits)
    }
}

impl Recorded {
    fn new(gpu: &Gpu, (rows, width): (usize, usize), adapted: bool, record: &Record<'_>) -> Result<Recorded> {
        let input = || gpu.empty("image features", &[rows, width], DType::F32);
        let (original, adapted) = (input()?, if adapted { Some(input()?) } else { None });
        let mut rec = Recorder::new(gpu);
        let logits = record(&mut rec, &original, adapted.as_ref())?;
        let plan = rec.finish()?;
        Ok(Recorded { rows, original, adapted, logits: super::named_logits(&logits), plan })
    }
}
