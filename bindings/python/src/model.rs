//! A CLIP, ready to work.

use std::path::{Path, PathBuf};

use numpy::PyArray2;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping, PyString};
use tipi::{CorrectionOptions, Depth, EvaluationOptions, FitOptions, Precision};

use crate::adapter::Adapter;
use crate::arrays::matrix;
use crate::correction::Correction;
use crate::device::Device;
use crate::errors::{Answer, exception, if_type, invalid, kept, type_name, wrong_type};
use crate::evaluation::{self, Dataset, Evaluation, all_shots, with_methods};
use crate::examples::Examples;
use crate::method::json;
use crate::pictures::{path, pictures};
use crate::work::watched;

/// A frozen CLIP on a device. It can be used from several threads at once, which then take turns.
///
/// model: a folder, a file of weights, or a model on the Hugging Face hub (ORG/NAME or ORG/NAME@REVISION), which is fetched where it
/// is not in the cache yet.
/// device: a `Device`, or the name or number of one; None takes the best one, which all models share.
/// precision: "f32", "f16" or "int8": how frozen matrices are kept. Sums stay f32.
/// lora: the folder of a LoRA of PEFT's, which is merged into the model of a folder.
/// depth: what becomes of greyscale of 16 bits in files: "clip" or "scale".
/// progress: called with a `Progress` while the model is fetched.
#[pyclass(frozen, weakref, module = "tipi")]
pub(crate) struct Model {
    pub inner: tipi::Model,
    asked: Asked,
}

/// How it was asked for.
struct Asked {
    model: PathBuf,
    device: Option<Py<PyAny>>,
    precision: &'static str,
    lora: Option<PathBuf>,
    depth: Depth,
}

/// What a pickle holds of a model.
type Pickled = (PathBuf, Option<Py<PyAny>>, &'static str, Option<PathBuf>, &'static str);

const PRECISIONS: [(&str, Precision); 3] =
    [("f32", Precision::F32), ("f16", Precision::F16), ("int8", Precision::Int8)];

const DEPTHS: [(&str, Depth); 2] = [("clip", Depth::Clip), ("scale", Depth::Scale)];

fn named<T: Copy>(argument: &str, known: &[(&'static str, T)], name: &str) -> Answer<(&'static str, T)> {
    known.iter().copied().find(|(known, _)| *known == name).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(known, _)| *known).collect();
        invalid(format!("{argument}: there is no '{name}'; there are {}", names.join(", ")))
    })
}

/// A list of texts; a text alone is taken for a mistake, since it would be one of its letters.
fn texts(argument: &str, given: &Bound<'_, PyAny>) -> Answer<Vec<String>> {
    if given.is_instance_of::<PyString>() {
        return Err(wrong_type(format!("{argument}: expected a list of str: write [text] for one")));
    }
    let wrong = |what: String| format!("{argument}: expected a list of str, not {what}");
    let each = given.try_iter().map_err(|error| if_type(error, given.py(), || wrong(type_name(given))))?;
    each.map(|item| {
        let item = item?;
        let reason = || wrong(format!("one with {}", type_name(&item)));
        item.extract().map_err(|error: PyErr| if_type(error, item.py(), reason))
    })
    .collect()
}

/// Templates: a text alone is one.
fn templates(given: Option<&Bound<'_, PyAny>>, options: FitOptions) -> Answer<FitOptions> {
    match given {
        None => Ok(options),
        Some(one) if one.is_instance_of::<PyString>() => Ok(options.with_template(&one.extract::<String>()?)),
        Some(several) => Ok(FitOptions { templates: texts("templates", several)?, ..options }),
    }
}

impl Model {
    fn load(py: Python<'_>, asked: Asked, precision: Precision, progress: Option<&Bound<'_, PyAny>>) -> Answer<Model> {
        let gpu = Device::of("device", asked.device.as_ref().map(|device| device.bind(py)), py)?;
        let (path, lora, depth) = (asked.model.clone(), asked.lora.clone(), asked.depth);
        let inner = watched(py, progress, move |watch| {
            let model = match (lora, path.to_str()) {
                (Some(lora), _) => tipi::Model::load_with_lora(&gpu, &path, lora, precision),
                // What is no text names no model on the hub.
                (None, Some(name)) => tipi::Model::fetch(&gpu, name, precision, watch),
                (None, None) => tipi::Model::load_as(&gpu, &path, precision),
            };
            model?.with_depth(depth)
        })?;
        Ok(Model { inner, asked })
    }
}

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (model, *, device=None, precision="f32", lora=None, depth="clip", progress=None))]
    fn new(
        py: Python<'_>,
        model: PathBuf,
        device: Option<Py<PyAny>>,
        precision: &str,
        lora: Option<PathBuf>,
        depth: &str,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Answer<Model> {
        let (name, precision) = named("precision", &PRECISIONS, precision)?;
        let (_, depth) = named("depth", &DEPTHS, depth)?;
        Model::load(py, Asked { model, device, precision: name, lora, depth }, precision, progress)
    }

    /// Un-normalised features of pictures, float32 [n, width].
    ///
    /// images: a list of paths, files' bytes, PIL images and arrays of uint8 (height, width, 3), (height, width, 4) or (height,
    /// width), in any mixture; or an array (n, height, width, 3).
    /// errors: with "raise", the first picture that cannot be read raises. With "keep" the result is a pair: features of the others
    /// [m, width], and a list that has for each picture None or what is wrong with it.
    /// progress: called with a `Progress` where that has changed; what it raises stops the work.
    #[pyo3(signature = (images, *, errors="raise", progress=None))]
    fn encode_images<'py>(
        &self,
        py: Python<'py>,
        images: &Bound<'py, PyAny>,
        errors: &str,
        progress: Option<&Bound<'py, PyAny>>,
    ) -> Answer<Bound<'py, PyAny>> {
        let keep = kept(errors)?;
        let pictures = pictures("images", images)?;
        let (model, width) = (self.inner.clone(), self.inner.width());
        if !keep {
            let features = watched(py, progress, move |watch| model.encode(&pictures, watch))?;
            return Ok(matrix(py, features.into_values(), width)?.into_any());
        }
        let (features, read) = watched(py, progress, move |watch| model.encode_all(&pictures, watch))?;
        let wrong = |one: tipi::Result<()>| one.err().map(|error| exception(py, &error)).transpose();
        let errors = read.into_iter().map(wrong).collect::<PyResult<Vec<_>>>()?;
        Ok((matrix(py, features.into_values(), width)?, errors).into_pyobject(py)?.into_any())
    }

    /// Un-normalised features of texts, float32 [n, width]. What is longer than the model reads is cut.
    #[pyo3(signature = (texts))]
    fn encode_texts<'py>(&self, py: Python<'py>, texts: &Bound<'py, PyAny>) -> Answer<Bound<'py, PyArray2<f32>>> {
        let texts = self::texts("texts", texts)?;
        let model = self.inner.clone();
        let features = watched(py, None, move |_| model.encode_texts(&texts))?;
        Ok(matrix(py, features.into_values(), self.inner.width())?)
    }

    /// CLIP's own classifier, from words alone.
    ///
    /// classes: their names; or a dict of names and lists of prompts of their own, in which case templates are not used.
    /// templates: prompts with {} where the class's name goes, or one; several are averaged. None takes "a photo of a {}.".
    #[pyo3(signature = (classes, templates=None))]
    fn zero_shot(
        slf: &Bound<'_, Self>,
        classes: &Bound<'_, PyAny>,
        templates: Option<&Bound<'_, PyAny>>,
    ) -> Answer<Adapter> {
        let (py, model) = (slf.py(), slf.get().inner.clone());
        let made = if let Ok(dict) = classes.cast::<PyMapping>() {
            if templates.is_some() {
                return Err(invalid("templates: the classes have prompts of their own already: leave templates out"));
            }
            let of = |item: Bound<'_, PyAny>| -> Answer<(String, Vec<String>)> {
                let (class, prompts): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
                let name: String = class.extract().map_err(|error: PyErr| {
                    let reason = || format!("classes: a class's name is a str, not {}", type_name(&class));
                    if_type(error, py, reason)
                })?;
                let prompts = texts(&format!("classes[{name:?}]"), &prompts)?;
                Ok((name, prompts))
            };
            let classes = dict.items()?.iter().map(of).collect::<Answer<Vec<_>>>()?;
            watched(py, None, move |_| model.zero_shot_of(&classes))?
        } else {
            let classes = texts("classes", classes)?;
            // Both have the same template where none is given.
            let base = FitOptions::new(tipi::Method::named("zero-shot")?);
            let templates = self::templates(templates, base)?.templates;
            watched(py, None, move |_| model.zero_shot(&classes, &templates))?
        };
        Adapter::new(py, slf.clone().unbind(), (made, None))
    }

    /// Learns from examples.
    ///
    /// examples: `Examples`, or a dict of classes' names and lists of their pictures.
    /// method: a name of `tipi.methods()`. settings: the method's, by their names; defaults for the rest.
    /// validation: a dict of classes' names and pictures to validate on, beside those that examples have.
    /// templates: prompts with {} where the class's name goes, or one; several are averaged. None takes "a photo of a {}.".
    /// words: a prompt's words before the class, for PiNI; None takes those of a template alone.
    /// how: how pictures are seen and weights searched: key_views, augment, views, grid, judge_by.
    /// seed: of views and of training. The same seed gives the same adapter, to the bit, on the same device.
    /// correction: for methods that need one, or become another with one.
    /// checkpoint: a file that keeps a training's state; one that was stopped goes on from it, with the same bytes in the end.
    /// progress: called with a `Progress` where that has changed; what it raises stops the work.
    #[pyo3(signature = (
        examples, method="tip-adapter", *, settings=None, validation=None, templates=None, words=None, how=None, seed=1,
        correction=None, checkpoint=None, progress=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn fit(
        slf: &Bound<'_, Self>,
        examples: &Bound<'_, PyAny>,
        method: &str,
        settings: Option<&Bound<'_, PyAny>>,
        validation: Option<&Bound<'_, PyAny>>,
        templates: Option<&Bound<'_, PyAny>>,
        words: Option<String>,
        how: Option<&Bound<'_, PyAny>>,
        seed: u64,
        correction: Option<&Bound<'_, Correction>>,
        checkpoint: Option<PathBuf>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Answer<Adapter> {
        let (py, model) = (slf.py(), slf.get().inner.clone());
        let mut options = self::templates(templates, FitOptions::new(tipi::Method::named(method)?))?;
        if let Some(settings) = settings {
            options = options.with_settings(&json("settings", settings)?)?;
        }
        if let Some(how) = how {
            options = options.with_how(&json("how", how)?)?;
        }
        options.words = words.unwrap_or(options.words);
        options.seed = seed;
        options.correction = correction.map(|correction| correction.get().inner.clone());
        options.checkpoint = checkpoint;
        let examples = Examples::with_validation(Examples::of("examples", examples)?, validation)?;
        let (made, report) = watched(py, progress, move |watch| model.fit(&examples, &options, watch))?;
        Adapter::new(py, slf.clone().unbind(), (made, Some(report)))
    }

    /// Trains an overlap correction (arXiv 2409.11338) to tell generic examples apart: many classes, and none of those that are told
    /// apart with it later.
    ///
    /// examples: as `fit` takes them; validation pictures are not looked at.
    /// options: epochs, bottleneck, scale, dropout, rate, batch, micro_batch, seed, checkpoint; with self_supervision, a dict, it learns
    /// from the pictures alone. What is not in it has the paper's settings.
    #[pyo3(signature = (examples, options=None, *, progress=None))]
    fn fit_correction(
        &self,
        py: Python<'_>,
        examples: &Bound<'_, PyAny>,
        options: Option<&Bound<'_, PyAny>>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Answer<Correction> {
        let options = options.map(|options| json("options", options)).transpose()?;
        let options = CorrectionOptions::of_json(options.as_deref().unwrap_or("{}"))?;
        let (examples, model) = (Examples::of("examples", examples)?, self.inner.clone());
        let (made, report) = watched(py, progress, move |watch| model.fit_correction(&examples, &options, watch))?;
        Correction::new(py, (made, Some(report)))
    }

    /// Runs the papers' protocol, as `tipi eval` does: every method on few-shot choices of several seeds and numbers of shots, and the
    /// whole test parts. Each result is kept as soon as it is there: a run that was stopped goes on where it was.
    ///
    /// datasets: a list of `Dataset`, or of paths of some.
    /// folder: where results and features go: outside all folders that pictures are taken from.
    /// methods: names of `tipi.methods()`; None takes all that do not choose among others, without those that need a correction where
    /// there is none. settings: a dict of methods' names and their settings.
    /// shots: pictures per class to learn from; None among them stands for all. seeds: of the choice, of views and of training.
    /// templates, words, how: as `fit` takes them; None takes each dataset's own prompts.
    /// correction: for methods that need one.
    /// features: where features are kept, to share them between folders one after the other; None takes a folder in `folder`.
    /// adapters: keep what each method learned. strict: fail for a picture that cannot be decoded, or a class with too few.
    /// batch: pictures per step of the tower. foreign: a folder of pictures of no class.
    #[pyo3(signature = (
        datasets, folder, *, methods=None, shots=None, seeds=None, settings=None, templates=None, words=None, how=None,
        correction=None, features=None, adapters=false, strict=false, batch=None, foreign=None, progress=None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn evaluate(
        &self,
        py: Python<'_>,
        datasets: &Bound<'_, PyAny>,
        folder: PathBuf,
        methods: Option<Vec<String>>,
        shots: Option<&Bound<'_, PyAny>>,
        seeds: Option<Vec<u64>>,
        settings: Option<&Bound<'_, PyAny>>,
        templates: Option<&Bound<'_, PyAny>>,
        words: Option<String>,
        how: Option<&Bound<'_, PyAny>>,
        correction: Option<&Bound<'_, Correction>>,
        features: Option<PathBuf>,
        adapters: bool,
        strict: bool,
        batch: Option<usize>,
        foreign: Option<PathBuf>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> Answer<Evaluation> {
        let datasets = Dataset::all("datasets", datasets)?;
        let mut options = with_methods(EvaluationOptions::new(folder), methods, settings)?;
        match templates {
            None => {}
            Some(one) if one.is_instance_of::<PyString>() => options = options.with_template(&one.extract::<String>()?),
            Some(several) => options.templates = texts("templates", several)?,
        }
        if let Some(shots) = shots {
            options.shots = all_shots("shots", shots)?;
        }
        if let Some(how) = how {
            options.how = FitOptions::new(tipi::Method::named("zero-shot")?).with_how(&json("how", how)?)?.how;
        }
        options.seeds = seeds.unwrap_or(options.seeds);
        options.words = words.or(options.words);
        options.correction = evaluation::correction(correction);
        let options = EvaluationOptions { features, adapters, strict, batch, foreign, ..options };
        let model = self.inner.clone();
        Ok(watched(py, progress, move |watch| model.evaluate(&datasets, &options, watch))?.into())
    }

    /// Reads an adapter that `Adapter.save` or `tipi fit` wrote for this model: a path, or the file's bytes.
    fn open_adapter(slf: &Bound<'_, Self>, adapter: &Bound<'_, PyAny>) -> Answer<Adapter> {
        let model = (slf.py(), &slf.get().inner);
        let of_bytes = |model: &tipi::Model, bytes| model.adapter_from_bytes("adapter", bytes);
        let made = of_file_or_bytes(model, ("adapter", adapter), of_bytes, |model, path| model.open_adapter(path))?;
        Adapter::new(slf.py(), slf.clone().unbind(), (made, None))
    }

    /// Reads a correction that `Correction.save` or `tipi fit overlap` wrote for this model: a path, or the file's bytes.
    fn open_correction(&self, py: Python<'_>, correction: &Bound<'_, PyAny>) -> Answer<Correction> {
        let of_bytes = |model: &tipi::Model, bytes| model.correction_from_bytes("correction", bytes);
        let of_file = |model: &tipi::Model, path| model.open_correction(path);
        Correction::new(py, (of_file_or_bytes((py, &self.inner), ("correction", correction), of_bytes, of_file)?, None))
    }

    /// Values of a picture's or a text's features.
    #[getter]
    fn width(&self) -> usize {
        self.inner.width()
    }

    /// The folder that it was loaded from.
    #[getter]
    fn folder(&self) -> &Path {
        self.inner.folder()
    }

    /// The device that it is on.
    #[getter]
    fn device(&self, py: Python<'_>) -> PyResult<Py<Device>> {
        Device::again(self.asked.device.as_ref().map(|device| device.bind(py)), self.inner.gpu(), py)
    }

    /// SHA-256 of the weights and of what configures them, in hexadecimal: what adapters know a model by. The first call reads all
    /// weights.
    fn digest(&self, py: Python<'_>) -> Answer<String> {
        let model = self.inner.clone();
        watched(py, None, move |_| model.digest().map(String::from))
    }

    /// Gives back the GPU memory that was kept for the next pictures. They take a little longer then.
    fn release(&self, py: Python<'_>) {
        py.detach(|| self.inner.release());
    }

    fn __repr__(&self) -> String {
        format!("Model({:?}, {})", self.inner.folder(), self.inner.gpu().name())
    }

    /// Pickled is how it was asked for: where it is unpickled, it is loaded again.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, Pickled)> {
        let Asked { model, device, precision, lora, depth } = &self.asked;
        let whole = |path: &PathBuf| match path.exists() {
            true => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
            // A name on the hub.
            false => path.clone(),
        };
        let depth = DEPTHS.iter().find(|(_, known)| known == depth).map_or("clip", |(name, _)| name);
        let device = device.as_ref().map(|device| device.clone_ref(py));
        let arguments = (whole(model), device, *precision, lora.as_ref().map(whole), depth);
        Ok((py.import("tipi._native")?.getattr("_model")?, arguments))
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    /// It never changes, so that one serves for both.
    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }
}

/// What a pickle calls.
#[pyfunction]
pub(crate) fn _model(
    py: Python<'_>,
    model: PathBuf,
    device: Option<Py<PyAny>>,
    precision: &str,
    lora: Option<PathBuf>,
    depth: &str,
) -> Answer<Model> {
    Model::new(py, model, device, precision, lora, depth, None)
}

/// What is in a file or in its bytes, read by the one way or the other. `argument` names it in errors.
fn of_file_or_bytes<T: Send + 'static>(
    (py, model): (Python<'_>, &tipi::Model),
    (argument, given): (&str, &Bound<'_, PyAny>),
    of_bytes: impl FnOnce(&tipi::Model, Vec<u8>) -> tipi::Result<T> + Send + 'static,
    of_file: impl FnOnce(&tipi::Model, PathBuf) -> tipi::Result<T> + Send + 'static,
) -> Answer<T> {
    let model = model.clone();
    match given.cast::<PyBytes>() {
        Ok(bytes) => {
            let bytes = bytes.as_bytes().to_vec();
            watched(py, None, move |_| of_bytes(&model, bytes))
        }
        Err(_) => {
            let path = path(argument, given)?;
            watched(py, None, move |_| of_file(&model, path))
        }
    }
}
