//! A CLIP, ready to work.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::classifier::Classifier;
use super::encoders::{Encoders, Wanted, prepared};
use super::fit::{FitOptions, Report};
use super::{Correction, CorrectionOptions, Examples, Gpu, ImageFeatures, TextFeatures};
#[cfg(feature = "eval")]
use super::{Dataset, Evaluation, EvaluationOptions, Outcome};
use crate::adapt::adapter_file::File;
use crate::adapt::zero_shot;
use crate::clip::{Clip, Source};
use crate::data::{Depth, Picture};
use crate::encode::Tower;
use crate::kernels::gemm::Precision;
use crate::watch::Watch;
use crate::{Error, Result};

/// A frozen CLIP on a GPU. Cheap to clone; clones share weights, and can be used from several threads at once.
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    clip: Clip,
    gpu: Gpu,
    encoders: Encoders,
    /// Tells it from every other model that this program has loaded.
    number: u64,
}

impl Model {
    /// Loads the model in a folder: Hugging Face's layout, open_clip's, or OpenAI's names, in safetensors or PyTorch's files. A
    /// file of weights is loaded with what lies beside it, and a LoRA's folder with the model that it names. [`Files`](crate::Files)
    /// stand for a folder whose files the program has itself.
    ///
    /// # Errors
    /// Every broken or contradictory file is an error that names the file and the tensor or key; too little GPU memory.
    pub fn load(gpu: &Gpu, folder: impl AsRef<Path>) -> Result<Model> {
        Model::load_as(gpu, folder, Precision::F32)
    }

    /// The same, with the frozen matrices stored in `precision`. f16 takes half the memory, int8 a quarter, and both use
    /// matrix units where there are some; sums stay f32.
    ///
    /// # Errors
    /// As [`Model::load`]; a weight that the precision cannot hold.
    pub fn load_as(gpu: &Gpu, folder: impl AsRef<Path>, precision: Precision) -> Result<Model> {
        Clip::load_as(gpu.low_level(), folder.as_ref(), precision).map(Model::from)
    }

    /// The same, merged with the LoRA that PEFT saved to the folder `lora`.
    ///
    /// # Errors
    /// As [`Model::load_as`]; a LoRA that tipi cannot merge, or that was made for another model.
    pub fn load_with_lora(
        gpu: &Gpu,
        folder: impl AsRef<Path>,
        lora: impl AsRef<Path>,
        precision: Precision,
    ) -> Result<Model> {
        let source = Source::of(folder.as_ref(), Some(lora.as_ref()))?;
        Clip::load_source(gpu.low_level(), &source, precision).map(Model::from)
    }

    /// Loads a folder, or a model on the Hugging Face hub (`ORG/NAME` or `ORG/NAME@REVISION`), from the cache that Python
    /// shares; what is not there is fetched.
    ///
    /// # Errors
    /// As [`Model::load_as`]; [`Error::Hub`](crate::Error::Hub) where it cannot be fetched; what `watch` gives.
    #[cfg(feature = "hub")]
    pub fn fetch(gpu: &Gpu, model: &str, precision: Precision, watch: &mut dyn Watch) -> Result<Model> {
        watch.begin("fetching the model", 1000);
        let mut stopped = Ok(());
        let folder = crate::hub::Hub::from_env()?.resolve(model, &mut |progress| {
            if stopped.is_ok() {
                watch.show(progress.file);
                stopped = watch.at((1000.0 * progress.done as f64 / progress.total.max(1) as f64) as usize);
            }
        })?;
        watch.end();
        stopped?;
        Model::load_as(gpu, folder, precision)
    }

    /// The same, taking greyscale of 16 bits in files as `depth` says: to be said before the model is cloned or anything is made
    /// with it.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) where that has happened already.
    pub fn with_depth(mut self, depth: Depth) -> Result<Model> {
        let shared = || Error::invalid("with_depth: say it before the model is cloned or used");
        Arc::get_mut(&mut self.0).ok_or_else(shared)?.clip.preprocess.depth = depth;
        Ok(self)
    }

    /// The device.
    pub fn gpu(&self) -> &Gpu {
        &self.0.gpu
    }

    /// The folder that it was loaded from.
    pub fn folder(&self) -> &Path {
        self.clip().folder()
    }

    /// Values of a picture's or a text's features.
    pub fn width(&self) -> usize {
        self.clip().config.embedding
    }

    /// SHA-256 of the weights and of what configures them, in hexadecimal: what adapters know a model by. The first call reads
    /// all weights.
    ///
    /// # Errors
    /// [`Error::Safetensors`](crate::Error::Safetensors) when the files were changed since the model was loaded; [`Error::Io`](crate::Error::Io).
    pub fn digest(&self) -> Result<&str> {
        Ok(&self.clip().id()?.sha256)
    }

    /// Un-normalised features `[n, width]` of pictures.
    ///
    /// # Errors
    /// The first picture that cannot be read or decoded; too little memory, a lost device; what `watch` gives.
    pub fn encode(&self, pictures: &[Picture], watch: &mut dyn Watch) -> Result<ImageFeatures> {
        let sound = |read: Vec<Result<()>>| read.into_iter().collect();
        self.encode_by(pictures, sound, watch)
    }

    /// The same, and what is wrong with one picture leaves the others alone: features `[readable pictures, width]`, and for each picture
    /// whether it could be read. [`Model::encode`] gives a readable picture the same bits.
    ///
    /// # Errors
    /// Too little memory, a lost device; what `watch` gives.
    pub fn encode_all(&self, pictures: &[Picture], watch: &mut dyn Watch) -> Result<(ImageFeatures, Vec<Result<()>>)> {
        let mut all = Vec::with_capacity(pictures.len());
        let keep = |read: Vec<Result<()>>| {
            all.extend(read);
            Ok(())
        };
        let features = self.encode_by(pictures, keep, watch)?;
        Ok((features, all))
    }

    /// Features of those that could be read; `read` is told of all, as many at a time as are encoded at once, and may end the work.
    fn encode_by(
        &self,
        pictures: &[Picture],
        mut read: impl FnMut(Vec<Result<()>>) -> Result<()>,
        watch: &mut dyn Watch,
    ) -> Result<ImageFeatures> {
        let mut features = Vec::with_capacity(pictures.len() * self.width());
        if !pictures.is_empty() {
            let encoder = self.0.encoders.get(
                self.clip(),
                Wanted { tower: Tower::Plain, pictures: pictures.len(), exactly: None },
                None,
                None,
            )?;
            watch.begin("encoding pictures", pictures.len());
            let mut done = 0;
            prepared(self.clip(), pictures, encoder.batch, |batch| {
                done += batch.pictures.len();
                read(batch.pictures)?;
                if !batch.samples.is_empty() {
                    features.extend(encoder.plan().encode_pictures(&batch.samples, &mut |_| {})?.original);
                }
                watch.at(done)
            })?;
            watch.end();
        }
        ImageFeatures::new(features, self.width())
    }

    /// Un-normalised features `[n, width]` of texts. What is longer than the model reads is cut.
    ///
    /// # Errors
    /// A model without a tokenizer; too little memory, a lost device.
    pub fn encode_texts<S: AsRef<str>>(&self, texts: &[S]) -> Result<TextFeatures> {
        let features = if texts.is_empty() { Vec::new() } else { self.clip().encode_texts(texts)? };
        TextFeatures::new(features, self.width())
    }

    /// CLIP's own classifier, from words alone: every template is a prompt with `{}` where the class's name goes; several are
    /// averaged (arXiv 2103.00020).
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for no classes or templates, a template without `{}`, or classes that text cannot tell apart.
    pub fn zero_shot<C: AsRef<str>, T: AsRef<str>>(&self, classes: &[C], templates: &[T]) -> Result<Classifier> {
        let classes: Vec<String> = classes.iter().map(|class| class.as_ref().to_string()).collect();
        let templates: Vec<String> = templates.iter().map(|template| template.as_ref().to_string()).collect();
        Classifier::of_text(self, &classes, &templates)
    }

    /// CLIP's own classifier of classes that have prompts of their own, each as many as it likes; those of a class are averaged.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for no classes, a class without a prompt or with one in which the model reads nothing, or
    /// classes that their prompts cannot tell apart.
    pub fn zero_shot_of<C: AsRef<str>, P: AsRef<[String]>>(&self, classes: &[(C, P)]) -> Result<Classifier> {
        let names: Vec<String> = classes.iter().map(|(class, _)| class.as_ref().to_string()).collect();
        let prompts: Vec<Vec<String>> = classes.iter().map(|(_, prompts)| prompts.as_ref().to_vec()).collect();
        let texts = zero_shot::Classifier::of_prompts(self.clip(), &names, &prompts)?;
        Classifier::of_texts(self, texts, &names)
    }

    /// Learns from examples. The second part of the result says how it went.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for settings out of range, fewer than two classes, a class without examples, or a method that needs a
    /// correction without one; the first example that cannot be decoded; training that diverges; too little memory, a lost
    /// device; what `watch` gives.
    pub fn fit(
        &self,
        examples: &Examples,
        options: &FitOptions,
        watch: &mut dyn Watch,
    ) -> Result<(Classifier, Report)> {
        super::fit::fit(self, examples, options, watch)
    }

    /// Reads an adapter that [`Classifier::save`] or `tipi fit` wrote for this model.
    ///
    /// # Errors
    /// [`Error::AdapterFile`](crate::Error::AdapterFile) for what is no adapter, or one of another model; the errors of a damaged file; too little memory.
    pub fn open_adapter(&self, path: impl AsRef<Path>) -> Result<Classifier> {
        Classifier::of_file(self, &File::open(path.as_ref())?)
    }

    /// The same from a file's bytes; `name` names them in errors.
    ///
    /// # Errors
    /// As [`Model::open_adapter`].
    pub fn adapter_from_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<Classifier> {
        Classifier::of_file(self, &File::from_bytes(name.as_ref(), bytes)?)
    }

    /// The adapter in a file that was read already.
    ///
    /// # Errors
    /// As [`Model::open_adapter`].
    #[doc(hidden)]
    pub fn bind(&self, file: &File) -> Result<Classifier> {
        Classifier::of_file(self, file)
    }

    /// The classes' texts of an adapter in a file, as a classifier from text alone; none where its method has none.
    ///
    /// # Errors
    /// As [`Model::open_adapter`].
    #[doc(hidden)]
    pub fn texts_of(&self, file: &File) -> Result<Option<Classifier>> {
        let texts = file.texts(self.clip())?;
        texts.map(|texts| Classifier::of_texts(self, texts, &file.meta.classes)).transpose()
    }

    /// Reads a correction that `tipi fit overlap` wrote for this model.
    ///
    /// # Errors
    /// As [`Model::open_adapter`]; [`Error::Invalid`](crate::Error::Invalid) for an adapter that classifies.
    pub fn open_correction(&self, path: impl AsRef<Path>) -> Result<Correction> {
        Correction::of_file(self, &File::open(path.as_ref())?)
    }

    /// The same from a file's bytes; `name` names them in errors.
    ///
    /// # Errors
    /// As [`Model::open_correction`].
    pub fn correction_from_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<Correction> {
        Correction::of_file(self, &File::from_bytes(name.as_ref(), bytes)?)
    }

    /// Trains an overlap correction (arXiv 2409.11338) to tell generic examples apart: many classes, and none of those that are
    /// told apart with it later. With [`CorrectionOptions::self_supervision`] it learns from the pictures alone, whatever their
    /// classes. Validation pictures are not looked at. The second part of the result has the losses.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) for options out of range, fewer than two classes (without labels: two pictures), or a model
    /// whose image tower is a ResNet (without labels: no ViT with a class token); the first example that cannot be decoded; training that diverges; too little memory, a lost device; what `watch` gives.
    pub fn fit_correction(
        &self,
        examples: &Examples,
        options: &CorrectionOptions,
        watch: &mut dyn Watch,
    ) -> Result<(Correction, Report)> {
        super::correction::fit(self, examples, options, watch)
    }

    /// Runs the papers' protocol: every method on few-shot choices of several seeds and numbers of shots, and the whole test parts
    /// of the datasets. Each result is kept as soon as it is there, so that a run that was stopped goes on where it was when it is
    /// called again.
    ///
    /// # Errors
    /// All that can be wrong with the options or the datasets, before anything long is begun: [`Error::Invalid`](crate::Error::Invalid),
    /// [`Error::Data`](crate::Error::Data), among them results of other settings in the folder. Training that diverges; too little memory, a lost
    /// device; what `watch` gives.
    #[cfg(feature = "eval")]
    pub fn evaluate(
        &self,
        datasets: &[Dataset],
        options: &EvaluationOptions,
        watch: &mut dyn Watch,
    ) -> Result<Evaluation> {
        self.evaluate_each(datasets, options, watch, &mut |_, _, _| {})
    }

    /// The same, result by result: `each` is called as soon as one is kept, with how many of how many of its dataset are there.
    ///
    /// # Errors
    /// As [`Model::evaluate`].
    #[cfg(feature = "eval")]
    pub fn evaluate_each(
        &self,
        datasets: &[Dataset],
        options: &EvaluationOptions,
        watch: &mut dyn Watch,
        each: &mut dyn FnMut(&Outcome, usize, usize),
    ) -> Result<Evaluation> {
        super::evaluation::evaluate(self, datasets, options, watch, each)
    }

    /// Gives back the GPU memory that was kept for the next pictures. They take a little longer then.
    pub fn release(&self) {
        self.0.encoders.clear();
        self.gpu().release();
    }

    /// The model as `low_level` has it, where nothing is promised.
    pub fn clip(&self) -> &Clip {
        &self.0.clip
    }

    /// A number that no other model loaded by this program has. Clones share it.
    pub(super) fn number(&self) -> u64 {
        self.0.number
    }

    pub(super) fn encoders(&self) -> &Encoders {
        &self.0.encoders
    }
}

impl From<Clip> for Model {
    fn from(clip: Clip) -> Model {
        static LOADED: AtomicU64 = AtomicU64::new(0);
        let number = LOADED.fetch_add(1, Ordering::Relaxed);
        let gpu = Gpu::from(clip.gpu.clone());
        Model(Arc::new(Inner { clip, gpu, encoders: Encoders::default(), number }))
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({})", self.folder().display())
    }
}
