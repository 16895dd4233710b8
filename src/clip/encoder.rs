//! Pictures to features: the image tower recorded for a number of pictures, and run for any number.

use super::image_plan::{ImagePlan, Samples};
use super::model::Clip;
use crate::gpu::{Gpu, Plan, ReadBack, Tensor};
use crate::{Error, Result};

/// Un-normalised image features on the host: the model's own, and those of its tower with bottlenecks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// `[n, embedding]`.
    pub original: Vec<f32>,
    /// `[n, embedding]`, where a corrected tower was run too.
    pub adapted: Option<Vec<f32>>,
}

impl From<Vec<f32>> for Features {
    fn from(original: Vec<f32>) -> Features {
        Features { original, adapted: None }
    }
}

impl Features {
    /// The features that meet a cache's keys: the adapted ones where there are some.
    pub fn affinity(&self) -> &[f32] {
        self.adapted.as_deref().unwrap_or(&self.original)
    }

    /// The rows numbered `rows` of features `width` wide.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a row that is not there.
    pub fn rows(&self, rows: &[usize], width: usize) -> Result<Features> {
        let pick = |all: &[f32]| {
            let mut picked = Vec::new();
            for row in rows {
                let place = row.checked_mul(width).and_then(|at| Some(at..at.checked_add(width)?));
                let values = place.and_then(|place| all.get(place)).ok_or_else(|| {
                    Error::invalid(format!("row {row} of width {width} is not among {} feature values", all.len()))
                })?;
                picked.extend_from_slice(values);
            }
            Ok(picked)
        };
        Ok(Features { original: pick(&self.original)?, adapted: self.adapted.as_deref().map(pick).transpose()? })
    }

    /// Appends the rows of `other`, which must have been encoded by the same encoder.
    pub fn extend(&mut self, other: Features) {
        self.original.extend(other.original);
        if let Some(rows) = other.adapted {
            self.adapted.get_or_insert_default().extend(rows);
        }
    }
}

/// The image tower recorded for up to `batch` prepared pictures at a time.
pub struct BatchPlan {
    gpu: Gpu,
    plan: ImagePlan,
    samples: Samples,
    batch: usize,
    /// Pixels each way.
    size: usize,
}

impl BatchPlan {
    pub(super) fn new(clip: &Clip, plan: ImagePlan, samples: Samples, batch: usize) -> BatchPlan {
        BatchPlan { gpu: clip.gpu.clone(), plan, samples, batch, size: clip.preprocess.size }
    }

    /// Values of a picture's features.
    pub fn width(&self) -> usize {
        self.plan.features.cols()
    }

    /// Pictures that one step takes.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Where a step leaves its un-normalised features `[batch, D]`, and the adapted ones where the tower has bottlenecks.
    pub fn outputs(&self) -> (&Tensor, Option<&Tensor>) {
        (&self.plan.features, self.plan.adapted.as_ref())
    }

    /// One step on up to [`BatchPlan::batch`] prepared pictures (see [`Clip::prepare`]) one after the other, 8 bits a sample, and
    /// then `after`, a plan that takes [`BatchPlan::outputs`].
    ///
    /// # Errors
    /// [`Error::Invalid`] for more pictures or none that are whole; a lost device.
    pub fn step(&self, pictures: &[u8], after: &Plan) -> Result<()> {
        self.count("samples", pictures.len())?;
        self.samples.write(&self.gpu, pictures)?;
        after.run_after(&[self.samples.plan(), &self.plan.plan])
    }

    /// As [`ImageEncoder::encode_pictures`].
    ///
    /// # Errors
    /// As [`ImageEncoder::encode_pictures`].
    pub fn encode_pictures(&self, pictures: &[u8], done: &mut dyn FnMut(usize)) -> Result<Features> {
        self.steps("samples", pictures, done, &|chunk| {
            self.samples.write(&self.gpu, chunk)?;
            self.plan.plan.run_after(&[self.samples.plan()])
        })
    }

    fn encode_pixels(&self, pixels: &[f32], done: &mut dyn FnMut(usize)) -> Result<Features> {
        self.steps("pixel values", pixels, done, &|chunk| {
            if chunk.len() == self.plan.pixels.len() {
                self.gpu.write(&self.plan.pixels, chunk)?;
            } else {
                let mut padded = chunk.to_vec();
                padded.resize(self.plan.pixels.len(), 0.0);
                self.gpu.write(&self.plan.pixels, &padded)?;
            }
            self.plan.plan.run()
        })
    }

    /// Pictures that so many values are.
    fn count(&self, what: &str, values: usize) -> Result<usize> {
        let one = 3 * self.size.pow(2);
        match values.is_multiple_of(one) {
            true => Ok(values / one),
            false => Err(Error::invalid(format!("{values} {what}; one picture has {one}"))),
        }
    }

    /// Runs steps of at most a batch of pictures each; `run` begins one.
    fn steps<T>(
        &self,
        what: &str,
        values: &[T],
        done: &mut dyn FnMut(usize),
        run: &dyn Fn(&[T]) -> Result<()>,
    ) -> Result<Features> {
        self.count(what, values.len())?;
        let (gpu, one) = (&self.gpu, 3 * self.size.pow(2));
        let width = self.width();
        let mut features = Features::default();
        // The next step's pixels are on their way while a step runs: its results are fetched one step late.
        type Step = (usize, ReadBack<f32>, Option<ReadBack<f32>>);
        let mut take = |(n, original, adapted): Step| {
            let rows = |read: ReadBack<f32>| {
                let mut rows = read.finish()?;
                rows.truncate(n * width);
                Ok::<_, Error>(rows)
            };
            let adapted = adapted.map(rows).transpose()?;
            features.extend(Features { original: rows(original)?, adapted });
            done(n);
            Ok::<_, Error>(())
        };
        let mut running: Option<Step> = None;
        for chunk in values.chunks(one * self.batch) {
            let n = chunk.len() / one;
            run(chunk)?;
            let adapted = self.plan.adapted.as_ref().map(|t| gpu.begin_read(t)).transpose()?;
            let step = (n, gpu.begin_read(&self.plan.features)?, adapted);
            if let Some(earlier) = running.replace(step) {
                take(earlier)?;
            }
        }
        running.map(take).transpose()?;
        Ok(features)
    }
}

/// The image tower of a model recorded once, run for any number of pictures.
pub struct ImageEncoder<'a> {
    clip: &'a Clip,
    recorded: BatchPlan,
}

impl<'a> ImageEncoder<'a> {
    pub(super) fn new(clip: &'a Clip, recorded: BatchPlan) -> ImageEncoder<'a> {
        ImageEncoder { clip, recorded }
    }

    /// The model.
    pub fn clip(&self) -> &'a Clip {
        self.clip
    }

    /// Values of a picture's features.
    pub fn width(&self) -> usize {
        self.recorded.width()
    }

    /// Pictures that one step takes.
    pub fn batch(&self) -> usize {
        self.recorded.batch()
    }

    /// What was recorded, without the model.
    pub fn into_plan(self) -> BatchPlan {
        self.recorded
    }

    /// Features `[n, embedding]` on the host, un-normalised, of pixels `[n, 3, R, R]`. `done` is called with the number
    /// of pictures after each step.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `pixels` does not hold whole pictures; a lost device.
    pub fn encode(&mut self, pixels: &[f32], done: &mut dyn FnMut(usize)) -> Result<Vec<f32>> {
        Ok(self.encode_all(pixels, done)?.original)
    }

    /// As [`ImageEncoder::encode`], with the adapted features where the encoder has bottlenecks.
    ///
    /// # Errors
    /// As [`ImageEncoder::encode`].
    pub fn encode_all(&mut self, pixels: &[f32], done: &mut dyn FnMut(usize)) -> Result<Features> {
        self.recorded.encode_pixels(pixels, done)
    }

    /// As [`ImageEncoder::encode_all`], of prepared pictures (see [`Clip::prepare`]) one after the other, 8 bits a sample. The
    /// features are the same bits, and a quarter of the bytes goes to the GPU.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `pictures` does not hold whole ones; a lost device.
    pub fn encode_pictures(&mut self, pictures: &[u8], done: &mut dyn FnMut(usize)) -> Result<Features> {
        self.recorded.encode_pictures(pictures, done)
    }
}
