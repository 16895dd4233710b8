//! A CLIP loaded from a folder.

use std::ops::Deref;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::checkpoint::Checkpoint;
use super::config::ClipConfig;
use super::encoder::{BatchPlan, ImageEncoder};
use super::image_plan::{ImagePlan, Samples};
use super::image_tower::ImageTower;
use super::loader::Loader;
use super::pixel_noise::PixelNoise;
use super::preprocess::Preprocess;
use super::source::{DESCRIPTIONS, Source};
use super::text_tower::TextTower;
use super::tokenizer::Tokenizer;
use crate::data::Rgb;
use crate::gpu::{Gpu, advise, heed_stop, largest};
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
    /// Added to logits: SigLIP's, whose sigmoid is the probability that a text describes a picture. Zero for all others.
    pub logit_bias: f32,
    source: Source,
    precision: Precision,
    checkpoint: Arc<Checkpoint>,
    id: OnceLock<ModelId>,
    /// The model itself in a rehearsal; none in that one.
    rehearsal: Option<Box<Mutex<Clip>>>,
}

/// A model in a rehearsal, for one thread at a time: what two make of it at once would be counted as one's.
pub enum Rehearsed<'a> {
    /// A model that was loaded for a rehearsal only.
    Itself(&'a Clip),
    /// That of a model on a device.
    Of(MutexGuard<'a, Clip>),
}

impl Deref for Rehearsed<'_> {
    type Target = Clip;

    fn deref(&self) -> &Clip {
        match self {
            Rehearsed::Itself(clip) => clip,
            Rehearsed::Of(clip) => clip,
        }
    }
}

/// What a model is loaded from.
struct Parts<'a> {
    source: &'a Source,
    checkpoint: &'a Arc<Checkpoint>,
    config: &'a ClipConfig,
    preprocess: &'a Preprocess,
    tokenizer: &'a Arc<Result<Tokenizer>>,
    precision: Precision,
}

impl Parts<'_> {
    fn load(&self, gpu: &Gpu) -> Result<Clip> {
        let Parts { source, checkpoint, config, preprocess, tokenizer, precision } = *self;
        let loader = Loader { gpu, checkpoint, precision };
        let logit_scale = checkpoint.values("logit_scale", &[])?.first().copied().unwrap_or(f32::NAN).exp();
        numbers::LOGIT_SCALE
            .check("exp of 'logit_scale',", f64::from(logit_scale))
            .map_err(|e| Error::config(checkpoint.path(), e.to_string()))?;
        let logit_bias = match config.logit_bias {
            true => checkpoint.values("logit_bias", &[])?.first().copied().unwrap_or(f32::NAN),
            false => 0.0,
        };
        Ok(Clip {
            gpu: gpu.clone(),
            image: ImageTower::load(&loader, config)?,
            text: TextTower::load(&loader, checkpoint, config)?,
            config: config.clone(),
            preprocess: preprocess.clone(),
            tokenizer: tokenizer.clone(),
            logit_scale,
            logit_bias,
            source: source.clone(),
            precision,
            checkpoint: checkpoint.clone(),
            id: OnceLock::new(),
            rehearsal: None,
        })
    }
}

impl Clip {
    /// Loads a model folder: model.safetensors, or the shards that its index names, with config.json,
    /// preprocessor_config.json and tokenizer.json; or open_clip_model.safetensors with open_clip_config.json; or a
    /// model.safetensors with OpenAI's names and nothing beside it; or torch's files instead of any of these. A file of
    /// weights is loaded with what lies beside it, a LoRA's folder with the model that it names.
    ///
    /// # Errors
    /// Every broken or contradictory file is an error that names the file and the tensor or key.
    pub fn load(gpu: &Gpu, folder: &Path) -> Result<Clip> {
        Clip::load_as(gpu, folder, Precision::F32)
    }

    /// As [`Clip::load`], with the frozen matrices stored in `precision`. f16 and int8 are meant for inference: they
    /// take half and a quarter of the memory and use matrix units where there are some. Training works in them as well, with
    /// gradients of the rounded model.
    ///
    /// # Errors
    /// As [`Clip::load`]; a weight that the precision cannot hold.
    pub fn load_as(gpu: &Gpu, folder: &Path, precision: Precision) -> Result<Clip> {
        Clip::load_source(gpu, &Source::of(folder, None)?, precision)
    }

    /// As [`Clip::load_as`], from a [`Source`], which may have a LoRA.
    ///
    /// # Errors
    /// As [`Clip::load_as`]; a LoRA that tipi cannot merge, or of another model.
    pub fn load_source(gpu: &Gpu, source: &Source, precision: Precision) -> Result<Clip> {
        let (checkpoint, config, preprocess) = ClipConfig::open(source)?;
        Clip::load_opened(gpu, source, precision, (checkpoint, config, preprocess))
    }

    /// As [`Clip::load_source`], but only if `accept` takes the model's identity. All that a model is loaded from is hashed
    /// first, and but for the headers of the weights, which tell how many files they are in, nothing of it is looked at
    /// before.
    ///
    /// # Errors
    /// As [`Clip::load_as`]; what `accept` gives.
    pub fn load_if(
        gpu: &Gpu,
        source: &Source,
        precision: Precision,
        accept: impl FnOnce(&ModelId) -> Result<()>,
    ) -> Result<Clip> {
        let checkpoint = Checkpoint::of(source)?;
        let id = identity(source, &checkpoint)?;
        accept(&id)?;
        let (config, preprocess) = ClipConfig::of_folder(source.folder(), &checkpoint)?;
        let mut clip = Clip::load_opened(gpu, source, precision, (checkpoint, config, preprocess))?;
        clip.id = OnceLock::from(id);
        Ok(clip)
    }

    /// As [`Clip::load_as`], of what [`ClipConfig::open`] gave, changed: for comparisons with towers smaller than those that
    /// their names stand for.
    ///
    /// # Errors
    /// As [`Clip::load`].
    #[doc(hidden)]
    pub fn load_described(
        gpu: &Gpu,
        folder: &Path,
        precision: Precision,
        opened: (Checkpoint, ClipConfig, Preprocess),
    ) -> Result<Clip> {
        Clip::load_opened(gpu, &Source::of(folder, None)?, precision, opened)
    }

    fn load_opened(
        gpu: &Gpu,
        source: &Source,
        precision: Precision,
        (checkpoint, config, preprocess): (Checkpoint, ClipConfig, Preprocess),
    ) -> Result<Clip> {
        let checkpoint = Arc::new(checkpoint);
        let tokenizer = Arc::new(Tokenizer::of_folder(source.folder(), &config));
        let parts = Parts {
            source,
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
        clip.rehearsal = Some(Box::new(Mutex::new(rehearsal)));
        Ok(clip)
    }

    /// The same model in a rehearsal ([`Gpu::rehearsal`]): what is made of it takes no memory and runs nothing, but says
    /// what it would need. Waits while another thread rehearses with this model.
    pub fn rehearsal(&self) -> Rehearsed<'_> {
        match &self.rehearsal {
            Some(clip) => Rehearsed::Of(clip.lock().unwrap_or_else(PoisonError::into_inner)),
            None => Rehearsed::Itself(self),
        }
    }

    /// What it was loaded from: the model's folder or file, or a LoRA's folder that names its model.
    pub fn folder(&self) -> &Path {
        self.source.model()
    }

    /// What it was loaded from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// How its frozen matrices are stored.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`Error::Config`] when the folder's tokenizer.json is missing or broken.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer
            .as_ref()
            .as_ref()
            .map_err(|e| Error::config(self.source.folder().join("tokenizer.json"), strip(e)))
    }

    /// The model's identity; hashes the checkpoint on first use.
    ///
    /// # Errors
    /// [`Error::Safetensors`] when the checkpoint was changed since it was loaded; [`Error::Io`].
    pub fn id(&self) -> Result<&ModelId> {
        if let Some(id) = self.id.get() {
            return Ok(id);
        }
        let id = identity(&self.source, &self.checkpoint)?;
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
        // Many texts take long before the first of them is on the GPU.
        let ids = texts.iter().map(|text| heed_stop().and_then(|()| tokenizer.prompt(text.as_ref())));
        self.text.encode(&ids.collect::<Result<Vec<_>>>()?, self.config.end)
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

    /// An encoder of pictures with learned noise on their pixels, its features `[n, rows·embedding]`, for up to `most` noisy
    /// pictures at a time, as memory allows.
    ///
    /// # Errors
    /// A ResNet; out of memory for a single picture.
    pub fn noisy_encoder(&self, most: usize, noise: &PixelNoise) -> Result<ImageEncoder<'_>> {
        let most = (most.min(self.image.most_at_once()) / noise.rows().max(1)).max(1);
        let attempt = |batch: usize| self.try_encoder(&|clip| clip.noisy(batch, noise));
        let batch = match largest(most, &attempt)? {
            // The error says what is short.
            0 => attempt(1).map(|()| 1)?,
            batch => batch,
        };
        self.noisy(batch, noise)
    }

    fn noisy(&self, batch: usize, noise: &PixelNoise) -> Result<ImageEncoder<'_>> {
        self.encoder_of(batch, &|| noise.plan(&self.image, (&self.gpu, self.preprocess.size), batch))
    }

    /// An encoder for exactly `batch` pictures, whether that is wise or not.
    pub(crate) fn encoder(&self, batch: usize, bottlenecks: Option<&[Bottleneck]>) -> Result<ImageEncoder<'_>> {
        self.encoder_of(batch, &|| self.image.plan_with(batch, bottlenecks))
    }

    fn encoder_of(&self, batch: usize, plan: &dyn Fn() -> Result<ImagePlan>) -> Result<ImageEncoder<'_>> {
        let kept = Samples::room(&self.gpu, batch, self.preprocess.size, &self.preprocess.normalize)?;
        let plan = plan()?;
        let samples = Samples::new(&self.gpu, kept, &plan.pixels)?;
        Ok(ImageEncoder::new(self, BatchPlan::new(self, plan, samples, batch)))
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
        self.try_encoder(&|clip| clip.encoder(batch, bottlenecks))
    }

    fn try_encoder(&self, make: &dyn Fn(&Clip) -> Result<ImageEncoder<'_>>) -> Result<()> {
        let rehearsal = self.rehearsal();
        let before = rehearsal.gpu.allocated_bytes();
        let encoder = make(&rehearsal)?;
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

/// A model's identity: hashes all that it is loaded from.
fn identity(source: &Source, checkpoint: &Checkpoint) -> Result<ModelId> {
    let (folder, name) = (source.folder(), source.name());
    // Whatever changes a feature: the weights, and what says how pictures and texts become inputs.
    let mut hasher = Sha256::new();
    checkpoint.each_piece(&mut |piece| hasher.update(piece))?;
    for (at, file) in DESCRIPTIONS.into_iter().enumerate() {
        let text = input::read(&folder.join(file), input::limit::TOKENIZER);
        // What only some folders have came later: without it, models are told apart as ever.
        if text.is_ok() || at < 3 {
            hasher.update(file);
            hasher.update(text.unwrap_or_default());
        }
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
