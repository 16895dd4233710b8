//! Models.

use std::sync::OnceLock;

use tipi::{Depth, Model, Precision};

use crate::classifier::{Bound, TipiClassifier};
use crate::features::{Features, TipiFeatures};
use crate::foreign::{Kept, Options, Place, TipiStr, options, place, slice, texts};
use crate::gpu::{NONE, Open, TipiGpu};
use crate::handle::{Held, held};
use crate::pictures::{Pictures, TipiPictures};
use crate::status::{Failure, Result, TipiStatus, guard};
use crate::watch::{TipiWatch, watched};

/// A frozen CLIP on a device.
pub struct TipiModel {
    _private: [u8; 0],
}

pub(crate) struct Loaded {
    pub model: Model,
    folder: Kept,
    digest: OnceLock<Kept>,
}

impl Held for Loaded {
    type Handle = TipiModel;
    const KIND: &'static str = "a TipiModel";
}

/// How the frozen matrices are stored.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TipiPrecision {
    /// 32-bit floats.
    TipiF32 = 0,
    /// 16-bit floats: half the memory.
    TipiF16 = 1,
    /// 8-bit integers: a quarter.
    TipiInt8 = 2,
}

/// What becomes of greyscale of 16 bits in files.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TipiDepth {
    /// It is clipped to 0…255, as by Pillow.
    TipiClip = 0,
    /// 0…65535 is scaled to 0…255.
    TipiScale = 1,
}

/// How a model is loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiModelOptions {
    /// `sizeof(TipiModelOptions)`.
    pub size: usize,
    /// A folder with a LoRA that PEFT saved, which is merged; empty for none.
    pub lora: TipiStr,
    /// A `TipiPrecision`.
    pub precision: i32,
    /// A `TipiDepth`.
    pub depth: i32,
    /// Not 0: `model` may also be a model on the Hugging Face hub, as ORG/NAME or ORG/NAME@REVISION, and is fetched where the cache that Python
    /// shares has it not.
    pub fetch: i32,
}

// SAFETY: it is so.
unsafe impl Options for TipiModelOptions {
    const USUAL: TipiModelOptions =
        TipiModelOptions { size: size_of::<TipiModelOptions>(), lora: NONE, precision: 0, depth: 0, fetch: 0 };
}

/// What a model is.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiModelInfo {
    /// The folder that it was loaded from.
    pub folder: TipiStr,
    /// Values of a picture's or a text's features.
    pub width: usize,
}

/// Loads the model in a folder: Hugging Face's layout, open_clip's, or OpenAI's names, in safetensors or PyTorch's files; or a file of
/// weights with what lies beside it. `model_options` and `watch` may be NULL; only fetching is watched.
///
/// Ownership: `*loaded` is the caller's, to be freed with `tipi_free`. It keeps the device open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_load(
    gpu: *const TipiGpu,
    model: TipiStr,
    model_options: *const TipiModelOptions,
    watch: *const TipiWatch,
    loaded: *mut *mut TipiModel,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let loaded = Place::at("loaded", loaded)?;
        let open = held::<Open>("gpu", gpu)?;
        let asked = options("model_options", model_options)?;
        let (folder, lora) = (model.text("model")?, asked.lora.given("model_options.lora")?);
        let precision = match asked.precision {
            0 => Precision::F32,
            1 => Precision::F16,
            2 => Precision::Int8,
            other => return Err(Failure::invalid(format!("model_options.precision is {other}: give a TipiPrecision"))),
        };
        let depth = match asked.depth {
            0 => Depth::Clip,
            1 => Depth::Scale,
            other => return Err(Failure::invalid(format!("model_options.depth is {other}: give a TipiDepth"))),
        };
        let model = match (lora, asked.fetch != 0) {
            (Some(_), true) => {
                return Err(Failure::invalid("model_options: a LoRA is merged into a folder: leave out fetch or lora"));
            }
            (Some(lora), false) => Model::load_with_lora(&open.gpu, folder, lora, precision)?,
            (None, true) => fetch(&open, folder, precision, watch)?,
            (None, false) => Model::load_as(&open.gpu, folder, precision)?,
        };
        let model = model.with_depth(depth)?;
        let folder = model.folder().to_string_lossy().as_ref().into();
        loaded.put(Loaded { model, folder, digest: OnceLock::new() });
        Ok(())
    })
}

/// # Safety
/// `watch` is NULL or what its type says.
#[cfg(feature = "hub")]
unsafe fn fetch(open: &Open, model: &str, precision: Precision, watch: *const TipiWatch) -> Result<Model> {
    // SAFETY: as promised.
    unsafe { watched(watch, |watch| Model::fetch(&open.gpu, model, precision, watch)) }
}

/// # Safety
/// None is needed.
#[cfg(not(feature = "hub"))]
unsafe fn fetch(_open: &Open, _model: &str, _precision: Precision, _watch: *const TipiWatch) -> Result<Model> {
    Err(Failure::invalid("model_options.fetch: this build of tipi cannot fetch models; build it with the feature hub"))
}

/// What a model is.
///
/// Ownership: the texts of `*info` are those of `model`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_info(model: *const TipiModel, info: *mut TipiModelInfo) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let loaded = held::<Loaded>("model", model)?;
        place("info", info)?.write(TipiModelInfo { folder: loaded.folder.str(), width: loaded.model.width() });
        Ok(())
    })
}

/// SHA-256 of the weights and of what configures them, in hexadecimal: what adapters know a model by. The first call reads all weights.
///
/// Ownership: `*digest` is that of `model`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_digest(model: *const TipiModel, digest: *mut TipiStr) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let loaded = held::<Loaded>("model", model)?;
        let digest = place("digest", digest)?;
        let text = loaded.model.digest()?;
        digest.write(loaded.digest.get_or_init(|| text.into()).str());
        Ok(())
    })
}

/// Gives back the GPU memory that was kept for the next pictures. They take a little longer then.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_model_release(model: *const TipiModel) -> TipiStatus {
    guard(|| {
        held::<Loaded>("model", model)?.model.release();
        Ok(())
    })
}

/// Un-normalised features of pictures, a row for each in their order. The first picture that cannot be read or decoded is an error. `watch`
/// may be NULL.
///
/// Ownership: `*features` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_encode(
    model: *const TipiModel,
    pictures: *const TipiPictures,
    watch: *const TipiWatch,
    features: *mut *mut TipiFeatures,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let features = Place::at("features", features)?;
        let loaded = held::<Loaded>("model", model)?;
        let pictures = held::<Pictures>("pictures", pictures)?.now();
        features.put(Features::Images(watched(watch, |watch| loaded.model.encode(&pictures, watch))?));
        Ok(())
    })
}

/// Un-normalised features of `count` texts, a row for each. What is longer than the model reads is cut.
///
/// Ownership: `texts_given` are copied. `*features` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_encode_texts(
    model: *const TipiModel,
    texts_given: *const TipiStr,
    count: usize,
    features: *mut *mut TipiFeatures,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let features = Place::at("features", features)?;
        let loaded = held::<Loaded>("model", model)?;
        features.put(Features::Texts(loaded.model.encode_texts(&texts("texts_given", texts_given, count)?)?));
        Ok(())
    })
}

/// CLIP's own classifier, from words alone (arXiv 2103.00020). Every template is a prompt with {} where the class's name goes; several
/// are averaged.
///
/// Ownership: the texts are copied. `*classifier` is the caller's, to be freed with `tipi_free`. It keeps the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_zero_shot(
    model: *const TipiModel,
    classes: *const TipiStr,
    class_count: usize,
    templates: *const TipiStr,
    template_count: usize,
    classifier: *mut *mut TipiClassifier,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let classifier = Place::at("classifier", classifier)?;
        let loaded = held::<Loaded>("model", model)?;
        let classes = texts("classes", classes, class_count)?;
        let templates = texts("templates", templates, template_count)?;
        classifier.put(Bound::new(loaded.model.zero_shot(&classes, &templates)?));
        Ok(())
    })
}

/// CLIP's own classifier of classes that have prompts of their own; those of a class are averaged. `prompts` are those of the first class,
/// then those of the second, …; `prompt_counts[i]` of them belong to class `i`, and `prompt_count` is their sum.
///
/// Ownership: the texts are copied. `*classifier` is the caller's, to be freed with `tipi_free`. It keeps the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_zero_shot_of(
    model: *const TipiModel,
    classes: *const TipiStr,
    prompt_counts: *const usize,
    class_count: usize,
    prompts: *const TipiStr,
    prompt_count: usize,
    classifier: *mut *mut TipiClassifier,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let classifier = Place::at("classifier", classifier)?;
        let loaded = held::<Loaded>("model", model)?;
        let classes = texts("classes", classes, class_count)?;
        let counts = slice("prompt_counts", prompt_counts, class_count)?;
        let prompts = texts("prompts", prompts, prompt_count)?;
        if counts.iter().try_fold(0usize, |sum, count| sum.checked_add(*count)) != Some(prompt_count) {
            return Err(Failure::invalid(format!(
                "prompt_counts do not add up to prompt_count, which is {prompt_count}"
            )));
        }
        let mut left = prompts.into_iter().map(String::from);
        let of =
            |(class, count): (&str, &usize)| (class.to_string(), left.by_ref().take(*count).collect::<Vec<String>>());
        let classes: Vec<(String, Vec<String>)> = classes.into_iter().zip(counts).map(of).collect();
        classifier.put(Bound::new(loaded.model.zero_shot_of(&classes)?));
        Ok(())
    })
}
