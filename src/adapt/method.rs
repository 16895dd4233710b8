//! What a method is: the door through which all of tipi sees one. A method is a file in this folder and a line in
//! [`METHODS`]; the command line, evaluations, reports, adapter files and the memory forecast read the register.

mod setting;

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::setting::{Kind, Setting, Settings, settled};
pub(crate) use self::setting::{typed, untyped};
use super::adapter_file::{Loading, Tensors};
use super::evidence::Evidence;
use super::known::Known;
use super::lesson::Lesson;
use super::overlap::Correction;
use super::plans::Plans;
use super::{check_adapted, pini, tip, tip_f, tip_x, zero_shot};
use crate::clip::{Clip, Features, PixelNoise};
use crate::encode::Tower;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::memory::Rehearsal;
use crate::watch::Watch;
use crate::{Error, Result, text};

/// All methods, in the order in which tables have them. The first is what others are measured by.
pub static METHODS: &[&dyn Method] = &[
    &zero_shot::ZeroShot,
    &tip::TipAdapter { corrected: false },
    &tip_f::TipAdapterF,
    &tip_x::TipXMethod { corrected: false },
    &super::gda::Gda,
    &tip::TipAdapter { corrected: true },
    &tip_x::TipXMethod { corrected: true },
    &super::prolip::ProLip,
    &pini::PiniMethod,
    &super::auto::Auto,
];

/// What stands in the register of a method.
#[derive(Debug)]
pub struct Info {
    /// The name that options and files have.
    pub name: &'static str,
    /// Other names that options may give it.
    pub aliases: &'static [&'static str],
    /// The name that people read.
    pub title: &'static str,
    /// What it does, in a sentence.
    pub about: &'static str,
    /// Where it was published.
    pub paper: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// What of it takes most GPU memory, where that is not said of another method already.
    pub memory: Option<Memory>,
    /// Published mean accuracy in percent over the eleven datasets with RN50, at 1, 2, 4, 8 and 16 shots.
    pub published: Option<[f64; 5]>,
}

/// What a method needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Pictures to learn from.
    pub support: bool,
    /// Cache keys, so that it matters how many views make one.
    pub keys: bool,
    /// A classifier from text: templates.
    pub templates: bool,
    /// The words before a class name, instead of templates.
    pub words: bool,
    /// An overlap correction.
    pub correction: bool,
    /// Training, which can be put down and taken up.
    pub training: bool,
    /// A grid over α and β.
    pub grid: bool,
    /// A grid over γ as well.
    pub gamma: bool,
    /// Validation pictures, on which it chooses something.
    pub val: bool,
    /// Other methods, among which it chooses: it takes part where it is asked for by name.
    pub others: bool,
    /// A text tower with causal attention.
    pub causal: bool,
}

impl Needs {
    /// Nothing.
    pub const NONE: Needs = Needs {
        support: false,
        keys: false,
        templates: false,
        words: false,
        correction: false,
        training: false,
        grid: false,
        gamma: false,
        val: false,
        others: false,
        causal: false,
    };
}

/// A row of the memory forecast.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// What is done: `training PiNI`.
    pub what: &'static str,
    /// Whether a smaller batch of pictures needs less.
    pub by_batch: bool,
}

/// A way to learn from few pictures.
pub trait Method: Sync {
    /// What stands in the register.
    fn info(&self) -> &'static Info;

    /// Its own settings.
    fn settings(&self) -> &'static [Setting] {
        &[]
    }

    /// Their values where nobody gives others: the paper's.
    fn defaults(&self) -> Settings {
        Settings::new()
    }

    /// Looks at settings before anything is learned.
    ///
    /// # Errors
    /// [`Error::Invalid`] for values that are out of range or contradict each other.
    fn check(&self, _settings: &Settings) -> Result<()> {
        Ok(())
    }

    /// Looks whether a model can be learned on with these settings, before anything is.
    ///
    /// # Errors
    /// [`Error::Invalid`] with what would do.
    fn check_model(&self, _settings: &Settings, _clip: &Clip) -> Result<()> {
        Ok(())
    }

    /// Learns.
    ///
    /// # Errors
    /// Settings as [`Method::check`]; too little memory, a lost device, training that diverges, [`Error::Stopped`].
    fn fit(&self, lesson: &mut Lesson<'_>, settings: &Settings, watch: &mut dyn Watch) -> Result<Fit>;

    /// Checks the numbers in what a file says of itself.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    fn check_words(&self, words: &Settings) -> Result<()>;

    /// Binds what a file holds to a model.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorForm`], [`Error::NotFinite`] for a damaged file; out of memory.
    fn load(&self, file: &Loading<'_>) -> Result<Box<dyn Fitted>>;

    /// Makes all that [`Info::memory`] speaks of, in a rehearsal, for `batch` pictures.
    ///
    /// # Errors
    /// Out of memory.
    fn rehearse(&self, _rehearsal: &Rehearsal<'_>, _batch: usize) -> Result<()> {
        Ok(())
    }

    /// Settings that change nothing of what is learned, only how it predicts: [`Fitted::predicting`] takes them.
    fn of_prediction(&self) -> &'static [&'static str] {
        &[]
    }

    /// What it becomes with an overlap correction.
    fn corrected(&self) -> Option<&'static dyn Method> {
        None
    }
}

/// What [`Method::fit`] gives.
pub struct Fit {
    /// The method that has learned.
    pub fitted: Box<dyn Fitted>,
    /// The search over α and β, where there was one.
    pub search: Option<SearchMap>,
    /// Cross-entropy by epoch, where something was trained.
    pub losses: Vec<f32>,
    /// The method that it is in truth, where one was chosen.
    pub chosen: Option<&'static dyn Method>,
    /// What was chosen among.
    pub tried: Vec<Tried>,
    /// The evidence that it was chosen by, and the pictures that it has learned from, where one was chosen.
    pub evidence: Option<(Evidence, Option<Known>)>,
}

/// A method that was tried.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    /// The method.
    pub method: &'static dyn Method,
    /// Its mean log-loss at its own temperature; none where it did not come to its end.
    pub log_loss: Option<f64>,
    /// Share of pictures that were right.
    pub accuracy: Option<f64>,
    /// Pictures that it was judged by.
    pub pictures: usize,
    /// Seconds that it took.
    pub seconds: f64,
    /// Whether it was taken.
    pub chosen: bool,
}

impl Fit {
    /// What was learned without training or search.
    pub fn new(fitted: impl Fitted + 'static) -> Fit {
        let fitted = Box::new(fitted);
        Fit { fitted, search: None, losses: Vec::new(), chosen: None, tried: Vec::new(), evidence: None }
    }
}

/// A method that has learned: it classifies, and can be kept in a file.
pub trait Fitted: Send + Sync {
    /// Logits `[n, classes]` of un-normalised image features `[n, D]` from [`Fitted::tower`]. `first` is the number of the
    /// first picture among all that are asked about: random draws depend on it, so that pictures get the same ones whether they
    /// come at once or in blocks of a multiple of 2,048.
    ///
    /// # Errors
    /// Lengths that do not fit; a device that fails.
    fn logits(&self, clip: &Clip, features: &Features, _first: usize) -> Result<Vec<f32>> {
        check_adapted(features, self.correction().is_some())?;
        self.plans().logits(&clip.gpu, features, self.width(clip), &|rec, raw, adapted| self.record(rec, raw, adapted))
    }

    /// Records logits `[n, classes]` of un-normalised features `[n, D]`, and adapted ones where the method has a correction.
    ///
    /// # Errors
    /// Shapes that do not fit; out of memory.
    fn record(&self, rec: &mut Recorder, raw: &Tensor, adapted: Option<&Tensor>) -> Result<Tensor>;

    /// Where recorded predictions are kept.
    fn plans(&self) -> &Plans;

    /// Values of a picture's features.
    fn width(&self, clip: &Clip) -> usize {
        clip.config.embedding
    }

    /// Whether [`Fitted::logits`] draws, so that it is not what [`Fitted::record`] records.
    fn draws(&self) -> bool {
        false
    }

    /// Which features it takes.
    fn tower(&self) -> Tower {
        match (self.correction(), self.pixels()) {
            (Some(_), _) => Tower::Corrected,
            (None, Some(_)) => Tower::Noisy,
            (None, None) => Tower::Plain,
        }
    }

    /// The noise that pictures get on their pixels before they are encoded.
    fn pixels(&self) -> Option<&PixelNoise> {
        None
    }

    /// The correction that its features need.
    fn correction(&self) -> Option<&Correction> {
        None
    }

    /// Settings with which its method chooses again what was chosen here.
    fn chosen(&self) -> Settings {
        Settings::new()
    }

    /// What was learned here, predicting as these settings say ([`Method::of_prediction`]).
    ///
    /// # Errors
    /// What has learned predicts in one way; settings out of range; out of memory, a lost device.
    fn predicting(&self, _clip: &Clip, _settings: &Settings) -> Result<Box<dyn Fitted>> {
        Err(Error::invalid("what was learned predicts in one way alone"))
    }

    /// What it found, for people.
    fn facts(&self) -> Facts;

    /// What its file says of it; [`Method::load`] reads that.
    ///
    /// # Errors
    /// Words that cannot be written down.
    fn words(&self) -> Result<Settings>;

    /// What its file holds.
    ///
    /// # Errors
    /// A lost device.
    fn tensors(&self, gpu: &Gpu) -> Result<Tensors>;

    /// The noise that it learned, with that of the pictures of these un-normalised features, where it learned some.
    ///
    /// # Errors
    /// As [`Fitted::logits`].
    fn noise(&self, _clip: &Clip, _features: &Features) -> Result<Option<Noise>> {
        Ok(None)
    }
}

/// What a method found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// Weight of what was learned beside text.
    pub alpha: Option<f64>,
    /// Sharpness of the affinity.
    pub beta: Option<f64>,
    /// Weight of the divergence term.
    pub gamma: Option<f64>,
    /// The epoch that was kept, where one was chosen.
    pub epoch: Option<usize>,
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |name: &str, value: Option<f64>| value.map(|value| format!("{name} {value:.3}"));
        let epoch = self.epoch.map(|epoch| format!("epoch {epoch}"));
        let all = [number("alpha", self.alpha), number("beta", self.beta), number("gamma", self.gamma), epoch];
        f.write_str(&all.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

/// A search's result over α and β, the best over γ at each point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchMap {
    /// Values of α.
    pub alphas: Vec<f64>,
    /// Values of β.
    pub betas: Vec<f64>,
    /// Right pictures of the evidence `[betas, alphas]`.
    pub correct: Vec<u32>,
    /// Of so many.
    pub of: usize,
}

/// Learned noise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Noise {
    /// The noisy tokens; none without text noise.
    pub tokens: Vec<String>,
    /// Their means `[tokens, text width]`.
    pub text_mean: Vec<f32>,
    /// Their spreads, signed.
    pub text_spread: Vec<f32>,
    /// Means of the pictures' noise `[n, D]`; none without image noise.
    pub image_mean: Vec<f32>,
    /// Their spreads, likewise.
    pub image_spread: Vec<f32>,
}

/// The method that others are measured by.
pub fn baseline() -> &'static dyn Method {
    METHODS[0]
}

/// The method of this name or alias.
///
/// # Errors
/// [`Error::Invalid`] with the names that there are.
pub fn find(name: &str) -> Result<&'static dyn Method> {
    let known = |method: &&&dyn Method| method.info().name == name || method.info().aliases.contains(&name);
    METHODS.iter().find(known).copied().ok_or_else(|| {
        let names: Vec<&str> = METHODS.iter().map(|method| method.info().name).collect();
        Error::invalid(format!("there is no method '{}'; there are {}", text::cut(name, text::NAME), names.join(", ")))
    })
}

impl fmt::Debug for dyn Method + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

impl fmt::Display for dyn Method + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.info().name)
    }
}

impl PartialEq for dyn Method + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.info().name == other.info().name
    }
}

impl Eq for dyn Method + '_ {}

impl Hash for dyn Method + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.info().name.hash(state);
    }
}

impl PartialOrd for dyn Method + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Method + '_ {
    /// In the order of the register.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let place = |name: &str| METHODS.iter().position(|other| other.info().name == name);
        place(self.info().name).cmp(&place(other.info().name))
    }
}

impl Serialize for dyn Method + '_ {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.info().name)
    }
}

impl<'de> Deserialize<'de> for &'static dyn Method {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        find(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn methods_have_one_name_everywhere() {
        for (i, method) in METHODS.iter().enumerate() {
            let info = method.info();
            assert_eq!(find(info.name).unwrap(), *method);
            info.aliases.iter().for_each(|alias| assert_eq!(find(alias).unwrap(), *method));
            assert_eq!(serde_json::to_value(method).unwrap(), info.name);
            let back: &dyn Method = serde_json::from_value(info.name.into()).unwrap();
            assert_eq!(back, *method);
            assert!(METHODS[..i].iter().all(|other| *other < *method && *other != *method));
            // Every setting has a place and a default that is allowed.
            let defaults = method.defaults();
            assert!(method.settings().iter().all(|setting| defaults.contains_key(setting.name)), "{method}");
            method.check(&defaults).unwrap();
        }
        let error = find("tip-y").unwrap_err().to_string();
        assert!(error.contains("tip-adapter-f, tip-x"), "{error}");
    }

    #[test]
    fn settings_that_a_method_does_not_have_are_named() {
        let method = find("pini").unwrap();
        let given = |json: Value| json.as_object().cloned().unwrap();
        let settings = settled(method, &given(serde_json::json!({"epochs": 3}))).unwrap();
        assert_eq!(settings["epochs"], 3);
        let error = settled(method, &given(serde_json::json!({"epoch": 3}))).unwrap_err().to_string();
        assert!(error.contains("pini has no setting 'epoch'") && error.contains("epochs"), "{error}");
        for (wrong, said) in [
            (serde_json::json!({"epochs": 0}), "epochs is 0, and must be a whole number from 1 to 1000000"),
            (serde_json::json!({"noise": "loud"}), "loud"),
            (serde_json::json!({"evaluate": "sometimes"}), "sometimes"),
        ] {
            let error = settled(method, &given(wrong)).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
