//! A CLIP loaded from a folder.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::checkpoint::Checkpoint;
use super::config::{ClipConfig, OPEN_CLIP};
use super::image_plan::{ImagePlan, Samples};
use super::image_tower::ImageTower;
use super::loader::Loader;
use super::preprocess::Preprocess;
use super::text_tower::TextTower;
use super::tokenizer::Tokenizer;
use crate::data::Rgb;
use crate::gpu::{Gpu, ReadBack, advise, largest};
use crate::kernels::gemm::Precision;
use crate::nn::Bottleneck;
use crate::{Error, Result, input, numbers};

/// What tells one model from another: adapter files record it and refuse any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelId {
    /// The folder's name, for people.
    pub name: String,
    /// SHA-256 of the weights and of what configures them, which decides.
    pub sha256: String,
}

/// A frozen CLIP on a GPU.
pub struct Clip {
    /// The device.
    pub gpu: Gpu,
    /// Architecture.
    pub config: ClipConfig,
    /// How pictures become pixels.
    pub preprocess: Preprocess,
    /// How texts become ids; an error, kept until it is asked for, when the folder has none.
    tokenizer: Arc<Result<Tokenizer>>,
    /// Image tower.
    pub image: ImageTower,
    /// Text tower.
    pub text: TextTower,
    /// exp of the stored logit_scale: 100 for OpenAI's models.
    pub logit_scale: f32,
    folder: PathBuf,
    checkpoint: Arc<Checkpoint>,
    id: OnceLock<ModelId>,
    /// The model itself in a rehearsal; none in that one.
    rehearsal: Option<Box<Clip>>,
}

/// What a model is loaded from.
struct Parts<'a> {
    folder: &'a Path,
    checkpoint: &'a Arc<Checkpoint>,
    config: &'a ClipConfig,
    preprocess: &'a Preprocess,
    tokenizer: &'a Arc<Result<Tokenizer>>,
    precision: Precision,
}

impl Parts<'_> {
    fn load(&self, gpu: &Gpu) -> Result<Clip> {
        let Parts { folder, checkpoint, config, preprocess, tokenizer, precision } = *self;
        let loader = Loader { gpu, checkpoint, precision };
        let logit_scale = checkpoint.values("logit_scale", &[])?.first().copied().unwrap_or(f32::NAN).exp();
        numbers::LOGIT_SCALE
            .check("exp of 'logit_scale',", f64::from(logit_scale))
            .map_err(|e| Error::config(checkpoint.path(), e.to_string()))?;
        Ok(Clip {
            gpu: gpu.clone(),
            image: ImageTower::load(&loader, config)?,
            text: TextTower::load(&loader, checkpoint, config)?,
            config: config.clone(),
            preprocess: preprocess.clone(),
            tokenizer: tokenizer.clone(),
            logit_scale,
            folder: folder.to_path_buf(),
            checkpoint: checkpoint.clone(),
            id: OnceLock::new(),
            rehearsal: None,
        })
    }
}

impl Clip {
    /// Loads a model folder: model.safetensors, or the shards that its index names, with config.json,
    /// preprocessor_config.json and tokenizer.json; or open_clip_model.safetensors with open_clip_config.json; or a
    /// model.safetensors with OpenAI's names and nothing beside it.
    ///
    /// # Errors
    /// Every broken or contradictory file is an error that names the file and the tensor or key.
    pub fn load(gpu: &Gpu, folder: &Path) -> Result<Clip> {
        Clip::load_as(gpu, folder, Precision::F32)
    }

    /// As [`Clip::load`], with the frozen matrices stored in `precision`. f16 is meant for inference: it halves the memory
    /// that the model takes and uses matrix units where there are some. Training works in it as well, with gradients of
    /// the rounded model.
    ///
    /// # Errors
    /// As [`Clip::load`]; a weight that f16 cannot hold.
    pub fn load_as(gpu: &Gpu, folder: &Path, precision: Precision) -> Result<Clip> {
        if !folder.is_dir() {
            return Err(Error::config(folder, "no such model folder; give the folder that holds model.safetensors"));
        }
        let (checkpoint, config, preprocess) = ClipConfig::open(folder)?;
        Clip::load_opened(gpu, folder, precision, (checkpoint, config, preprocess))
    }

    /// As [`Clip::load_as`], but only if `accept` takes the folder's identity. All that a model is loaded from is hashed
    /// first, and but for the headers of the weights, which tell how many files they are in, nothing of it is looked at
    /// before.
    ///
    /// # Errors
    /// As [`Clip::load_as`]; what `accept` gives.
    pub fn load_if(
        gpu: &Gpu,
        folder: &Path,
        precision: Precision,
        accept: impl FnOnce(&ModelId) -> Result<()>,
    ) -> Result<Clip> {
        let checkpoint = Checkpoint::of_folder(folder)?;
        let id = identity(folder, &checkpoint)?;
        accept(&id)?;
        let (config, preprocess) = ClipConfig::of_folder(folder, &checkpoint)?;
        let mut clip = Clip::load_opened(gpu, folder, precision, (checkpoint, config, preprocess))?;
        clip.id = OnceLock::from(id);
        Ok(clip)
    }

    fn load_opened(
        gpu: &Gpu,
        folder: &Path,
        precision: Precision,
        (checkpoint, config, preprocess): (Checkpoint, ClipConfig, Preprocess),
    ) -> Result<Clip> {
        let checkpoint = Arc::new(checkpoint);
        let tokenizer = Arc::new(Tokenizer::of_folder(folder, &config));
        let parts = Parts {
            folder,
            checkpoint: &checkpoint,
            config: &config,
            preprocess: &preprocess,
            tokenizer: &tokenizer,
            precision,
        };
        // Every tensor's name, shape and type, and the memory for all of them, before the first byte is moved.
        let mut rehearsal = parts.load(&gpu.rehearsal())?;
        if gpu.rehearses() {
            return Ok(rehearsal);
        }
        let mut clip = parts.load(gpu)?;
        rehearsal.rehearsal = None;
        clip.rehearsal = Some(Box::new(rehearsal));
        Ok(clip)
    }

    /// The same model in a rehearsal ([`Gpu::rehearsal`]): what is made of it takes no memory and runs nothing, but says
    /// what it would need.
    pub fn rehearsal(&self) -> &Clip {
        self.rehearsal.as_deref().unwrap_or(self)
    }

    /// The model's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`Error::Config`] when the folder's tokenizer.json is missing or broken.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer.as_ref().as_ref().map_err(|e| Error::config(self.folder.join("tokenizer.json"), strip(e)))
    }

    /// The model's identity; hashes the checkpoint on first use.
    ///
    /// # Errors
    /// [`Error::Safetensors`] when the checkpoint was changed since it was loaded; [`Error::Io`].
    pub fn id(&self) -> Result<&ModelId> {
        if let Some(id) = self.id.get() {
            return Ok(id);
        }
        let id = identity(&self.folder, &self.checkpoint)?;
        Ok(self.id.get_or_init(|| id))
    }

    /// A picture as the model sees it, before normalisation: R×R, as the checkpoint's preprocessor resizes and crops.
    pub fn prepare(&self, picture: &Rgb) -> Rgb {
        self.preprocess.prepare(picture)
    }

    /// Pixels `[3, R, R]` of a picture: resize, crop, normalise as the checkpoint's preprocessor does.
    pub fn pixels(&self, picture: &Rgb) -> Vec<f32> {
        self.preprocess.normalized(&self.preprocess.prepare(picture))
    }

    /// Pixels `[3, R, R]` of a picture that already is R×R (an augmented view).
    pub fn view_pixels(&self, view: &Rgb) -> Vec<f32> {
        self.preprocess.normalized(view)
    }

    /// Features `[texts, embedding]` on the host, un-normalised.
    ///
    /// # Errors
    /// A tokenizer or device that fails.
    pub fn encode_texts<S: AsRef<str>>(&self, texts: &[S]) -> Result<Vec<f32>> {
        let tokenizer = self.tokenizer()?;
        let ids = texts.iter().map(|t| tokenizer.prompt(t.as_ref())).collect::<Result<Vec<_>>>()?;
        self.text.encode(&ids, self.config.end)
    }

    /// An encoder of pictures in batches of up to `batch`.
    ///
    /// # Errors
    /// Out of memory: a smaller batch needs less.
    pub fn image_encoder(&self, batch: usize) -> Result<ImageEncoder<'_>> {
        self.image_encoder_with(batch, None)
    }

    /// An encoder that also gives the features of the tower with `bottlenecks`, one in every block, where given. Its batch may be
    /// smaller than `batch`, where more pictures at once would change their features' last bits.
    ///
    /// # Errors
    /// Another number of bottlenecks than blocks; out of memory: a smaller batch needs less, and the error says which would
    /// do.
    pub fn image_encoder_with(&self, batch: usize, bottlenecks: Option<&[Bottleneck]>) -> Result<ImageEncoder<'_>> {
        let batch = batch.clamp(1, self.image.most_at_once());
        self.try_batch(batch, bottlenecks)
            .map_err(|error| advise(error, "encoding", batch, &|n| self.try_batch(n, bottlenecks)))?;
        self.encoder(batch, bottlenecks)
    }

    /// An encoder whose features are what the image tower's projection takes, `[n, width]`. It needs no more memory than one
    /// that projects.
    ///
    /// # Errors
    /// As [`Clip::image_encoder`].
    pub fn unprojected_encoder(&self, batch: usize) -> Result<ImageEncoder<'_>> {
        let batch = batch.clamp(1, self.image.most_at_once());
        self.try_batch(batch, None).map_err(|error| advise(error, "encoding", batch, &|n| self.try_batch(n, None)))?;
        self.encoder_of(batch, &|| self.image.plan_unprojected(batch))
    }

    /// An encoder for exactly `batch` pictures, whether that is wise or not.
    pub(crate) fn encoder(&self, batch: usize, bottlenecks: Option<&[Bottleneck]>) -> Result<ImageEncoder<'_>> {
        self.encoder_of(batch, &|| self.image.plan_with(batch, bottlenecks))
    }

    fn encoder_of(&self, batch: usize, plan: &dyn Fn() -> Result<ImagePlan>) -> Result<ImageEncoder<'_>> {
        let kept = Samples::room(&self.gpu, batch, self.preprocess.size, &self.preprocess.normalize)?;
        let plan = plan()?;
        let samples = Samples::new(&self.gpu, kept, &plan.pixels)?;
        Ok(ImageEncoder { clip: self, samples, plan, batch })
    }

    /// The largest batch up to `most` that [`Clip::image_encoder_with`] has the memory for, found by rehearsing.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] when not even one picture at a time fits; another number of bottlenecks than blocks.
    pub fn largest_batch(&self, most: usize, bottlenecks: Option<&[Bottleneck]>) -> Result<usize> {
        match largest(most.max(1), &|batch| self.try_batch(batch, bottlenecks))? {
            // The error says what is short.
            0 => self.try_batch(1, bottlenecks).map(|()| 1),
            batch => Ok(batch),
        }
    }

    /// Rehearses an encoder.
    fn try_batch(&self, batch: usize, bottlenecks: Option<&[Bottleneck]>) -> Result<()> {
        let rehearsal = self.rehearsal();
        let before = rehearsal.gpu.allocated_bytes();
        let encoder = rehearsal.encoder(batch, bottlenecks)?;
        let needed = rehearsal.gpu.allocated_bytes() - before;
        drop(encoder);
        // What else was made of the real model by now.
        let taken = self.gpu.allocated_bytes();
        match self.gpu.memory() {
            Some(all) if needed > all.saturating_sub(taken) => Err(Error::OutOfMemory {
                what: "pictures and intermediate results".into(),
                needed,
                why: format!("{} of {all} bytes are left", all.saturating_sub(taken)),
            }),
            _ => Ok(()),
        }
    }
}

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

/// The identity of the model in a folder: hashes all that it is loaded from.
fn identity(folder: &Path, checkpoint: &Checkpoint) -> Result<ModelId> {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let name = folder.file_name().map_or_else(|| "model".into(), |n| n.to_string_lossy().into_owned());
    // Whatever changes a feature: the weights, and what says how pictures and texts become inputs.
    let mut hasher = Sha256::new();
    checkpoint.each_piece(&mut |piece| hasher.update(piece))?;
    for file in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
        hasher.update(file);
        hasher.update(input::read(&folder.join(file), input::limit::TOKENIZER).unwrap_or_default());
    }
    if let Ok(text) = input::read(&folder.join(OPEN_CLIP), input::limit::TOKENIZER) {
        hasher.update(OPEN_CLIP);
        hasher.update(text);
    }
    Ok(ModelId { name, sha256: crate::hex(&hasher.finalize()) })
}

/// The message of an error without the path in front of it.
fn strip(error: &Error) -> String {
    match error {
        Error::Config { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

/// The image tower recorded once, run for any number of pictures.
pub struct ImageEncoder<'a> {
    clip: &'a Clip,
    plan: ImagePlan,
    samples: Samples,
    batch: usize,
}

impl<'a> ImageEncoder<'a> {
    /// The model.
    pub fn clip(&self) -> &'a Clip {
        self.clip
    }

    /// Values of a picture's features.
    pub fn width(&self) -> usize {
        self.plan.features.cols()
    }

    /// Pictures that one step takes.
    pub fn batch(&self) -> usize {
        self.batch
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
        let gpu = &self.clip.gpu;
        self.steps("pixel values", pixels, done, &|chunk| {
            if chunk.len() == self.plan.pixels.len() {
                gpu.write(&self.plan.pixels, chunk)?;
            } else {
                let mut padded = chunk.to_vec();
                padded.resize(self.plan.pixels.len(), 0.0);
                gpu.write(&self.plan.pixels, &padded)?;
            }
            self.plan.plan.run()
        })
    }

    /// As [`ImageEncoder::encode_all`], of prepared pictures (see [`Clip::prepare`]) one after the other, 8 bits a sample. The
    /// features are the same bits, and a quarter of the bytes goes to the GPU.
    ///
    /// # Errors
    /// [`Error::Invalid`] when `pictures` does not hold whole ones; a lost device.
    pub fn encode_pictures(&mut self, pictures: &[u8], done: &mut dyn FnMut(usize)) -> Result<Features> {
        self.steps("samples", pictures, done, &|chunk| {
            self.samples.write(&self.clip.gpu, chunk)?;
            self.plan.plan.run_after(&[self.samples.plan()])
        })
    }

    /// Runs steps of at most a batch of pictures each; `run` begins one.
    fn steps<T>(
        &self,
        what: &str,
        values: &[T],
        done: &mut dyn FnMut(usize),
        run: &dyn Fn(&[T]) -> Result<()>,
    ) -> Result<Features> {
        let one = 3 * self.clip.preprocess.size.pow(2);
        if !values.len().is_multiple_of(one) {
            return Err(Error::invalid(format!("{} {what}; one picture has {one}", values.len())));
        }
        let gpu = &self.clip.gpu;
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
