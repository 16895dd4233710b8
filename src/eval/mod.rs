//! The papers' protocol: few-shot choices for several seeds and numbers of shots, every method on them, the whole test
//! split, and what people want to know of the results.
//!
//! [`Evaluation`] is several datasets with what they share. [`check`] looks for what would end a run later. [`run()`] takes a [`Dataset`](crate::data::Dataset) through all of it and keeps each result as soon as it is there
//! ([`journal`]), so that a run which was ended at any point goes on where it stopped. [`gather`] brings together what several machines
//! did. [`summary`] makes tables of the
//! results, [`report`] a page with plots and pictures; both read only what is on disk.
//!
//! What lies in the output folder: `features/` ([`Store`](crate::encode::store::Store)), and for each dataset a folder with
//! `settings.json`, `results.jsonl` (a [`Record`] a line), `test.json` (the test pictures) and `details/` (a [`Detail`] for
//! each result).

pub mod ablation;
pub mod correction;
mod corrections;
pub mod correlation;
mod gather;
pub mod journal;
pub mod published;
pub mod report;
mod run;
mod score;
mod several;
pub mod summary;
pub mod trust;
mod validate;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use ablation::{Ablation, Variant};
pub use correction::Teaching;
pub use corrections::Corrections;
pub use gather::gather;
pub use run::{Checked, Watch, check, run};
pub use several::{Correcting, Evaluation};
pub use trust::{Coverage, Foreign};

pub use crate::adapt::How;
use crate::adapt::calibrate::Reliability;
use crate::adapt::evidence::EvidenceCounts;
pub use crate::adapt::lesson::JudgeBy;
pub use crate::adapt::method::SearchMap;
use crate::adapt::method::{Settings as MethodSettings, settled};
use crate::adapt::{METHODS, Method};
use crate::clip::Clip;
use crate::data::{Depth, Item, Shots};
use crate::{Error, Result};

/// What settings are written as.
const FORMAT: &str = "tipi-eval/2";

/// The methods that are run of a model where nobody names any: all but those that choose among others, those that need a
/// correction only where there is one, and none that needs what the model has not.
pub fn methods(clip: &Clip, corrected: bool) -> Vec<&'static dyn Method> {
    let serves = |method: &&'static dyn Method| {
        let needs = method.info().needs;
        !needs.others && (corrected || !needs.correction) && (clip.config.causal || !needs.causal)
    };
    METHODS.iter().copied().filter(serves).collect()
}

/// One thing to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "WrittenTask")]
pub struct Task {
    /// Method.
    pub method: &'static dyn Method,
    /// Pictures per class to learn from.
    pub shots: Shots,
    /// Seed of the few-shot choice, of views and of training.
    pub seed: u64,
    /// What of an ablation it is, where it is of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<&'static Variant>,
}

/// A task as it is read: variants have names among those of their method.
#[derive(Deserialize)]
struct WrittenTask {
    method: &'static dyn Method,
    shots: Shots,
    seed: u64,
    #[serde(default)]
    variant: Option<String>,
}

impl TryFrom<WrittenTask> for Task {
    type Error = Error;

    fn try_from(WrittenTask { method, shots, seed, variant }: WrittenTask) -> Result<Task> {
        let variant = variant.map(|name| ablation::find_variant(method, &name)).transpose()?;
        Ok(Task { method, shots, seed, variant })
    }
}

impl Task {
    /// A method with its own settings.
    pub fn new(method: &'static dyn Method, shots: Shots, seed: u64) -> Task {
        Task { method, shots, seed, variant: None }
    }

    /// The name of the task's files.
    pub fn file(&self) -> String {
        let shots = self.shots.number().map_or_else(|| self.shots.to_string(), |count| format!("{count}shot"));
        let variant = self.variant.map_or_else(String::new, |variant| format!("-{variant}"));
        format!("{}{variant}-{shots}-seed{}", self.method, self.seed)
    }

    /// The method, and what of an ablation it is.
    pub fn what(&self) -> String {
        match self.variant {
            Some(variant) => format!("{} {variant}", self.method),
            None => self.method.to_string(),
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// Methods; of an ablation those that take part in it.
    pub methods: Vec<&'static dyn Method>,
    /// An ablation, whose variants are run in place of the methods as they are set.
    pub ablation: Option<&'static Ablation>,
    /// How the corrections were taught that an ablation compares; variants with others are left out.
    pub taught: Vec<Teaching>,
    /// Pictures per class: numbers of them, or all.
    pub shots: Vec<Shots>,
    /// Seeds.
    pub seeds: Vec<u64>,
    /// How methods are set.
    pub setup: Setup,
    /// Whether what each method learned is kept as an adapter file.
    pub adapters: bool,
    /// Whether a picture that cannot be decoded, or a class with fewer pictures than shots, is an error.
    pub strict: bool,
    /// Pictures per step of the tower; none for up to 32 as memory allows.
    pub batch: Option<usize>,
    /// Pictures of no class, by which it is measured how well the unknown is told from the known.
    pub foreign: Vec<Item>,
}

impl Protocol {
    /// All tasks: seed by seed, so that a run which ends early has whole curves of the first seeds.
    pub fn tasks(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for seed in &self.seeds {
            for shots in &self.shots {
                let of = |method: &'static dyn Method| Task::new(method, *shots, *seed);
                match self.ablation {
                    None => tasks.extend(self.methods.iter().map(|method| of(*method))),
                    Some(ablation) => tasks.extend(ablation.variants.iter().filter_map(|variant| {
                        variant.teaching.is_none_or(|teaching| self.taught.contains(&teaching)).then_some(())?;
                        let method = self.methods.iter().find(|method| method.info().name == variant.method)?;
                        Some(Task { variant: Some(variant), ..of(*method) })
                    })),
                }
            }
        }
        tasks
    }

    /// Whether it is an ablation that compares corrections.
    pub fn compares_corrections(&self) -> bool {
        self.ablation.is_some_and(Ablation::compares_corrections)
    }

    /// Checks that there is something to run and nothing twice.
    ///
    /// # Errors
    /// [`Error::Invalid`] that names the field.
    pub fn check(&self) -> Result<()> {
        fn distinct<T: PartialEq + fmt::Display>(field: &str, values: &[T]) -> Result<()> {
            if values.is_empty() {
                return Err(Error::invalid(format!("{field} names nothing to run")));
            }
            match values.iter().enumerate().find(|(i, v)| values[..*i].contains(v)) {
                Some((_, twice)) => Err(Error::invalid(format!("{field} has {twice} twice"))),
                None => Ok(()),
            }
        }
        distinct("methods", &self.methods)?;
        distinct("shots", &self.shots)?;
        distinct("seeds", &self.seeds)?;
        if self.compares_corrections() {
            distinct("taught", &self.taught)?;
        }
        self.shots.iter().try_for_each(|shots| shots.check())
    }
}

/// How methods are set; results of other settings are not mixed with these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// How pictures are seen and parameters searched, whatever the method.
    #[serde(flatten)]
    pub how: How,
    /// The settings of each method, by its name.
    pub methods: BTreeMap<String, MethodSettings>,
}

impl Setup {
    /// The settings of these methods, `given` for some and their defaults for the rest.
    ///
    /// # Errors
    /// As [`settled`].
    pub fn new(how: How, methods: &[&'static dyn Method], given: &BTreeMap<String, MethodSettings>) -> Result<Setup> {
        let none = MethodSettings::new();
        let of = |method: &&'static dyn Method| {
            let name = method.info().name;
            Ok((name.to_string(), settled(*method, given.get(name).unwrap_or(&none))?))
        };
        // Who chooses among others takes them as they are set.
        let methods = if methods.iter().any(|method| method.info().needs.others) { METHODS } else { methods };
        Ok(Setup { how, methods: methods.iter().map(of).collect::<Result<_>>()? })
    }

    /// A task's settings: its method's, with what its variant fixes.
    fn of(&self, task: Task) -> MethodSettings {
        let method = task.method;
        let settings = self.methods.get(method.info().name).cloned().unwrap_or_else(|| method.defaults());
        match task.variant {
            Some(variant) => variant.of(settings),
            None => settings,
        }
    }
}

/// What results of one dataset have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Format and version.
    pub format: String,
    /// The dataset's name.
    pub dataset: String,
    /// Digest of its parts: which pictures, with which labels, in which order.
    pub pictures: String,
    /// Number of classes.
    pub classes: usize,
    /// SHA-256 of the model.
    pub model: String,
    /// How its matrices are stored.
    pub precision: String,
    /// What becomes of grey of 16 bits; left out where it is clipped, as before there was a choice.
    #[serde(default, skip_serializing_if = "Depth::is_default")]
    pub depth: Depth,
    /// SHA-256 of the overlap correction, where there is one.
    pub correction: Option<String>,
    /// That of each correction that an ablation compares.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub compared: BTreeMap<Teaching, String>,
    /// Zero-shot templates.
    pub templates: Vec<String>,
    /// PiNI's template words.
    pub words: String,
    /// How methods are set.
    #[serde(rename = "how")]
    pub setup: Setup,
    /// Digest of the pictures of no class, where there are some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<String>,
}

/// What people want to know beside the settings; may differ between a run and its continuation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The dataset's name for people.
    pub title: String,
    /// Where its parts come from.
    pub source: String,
    /// Pictures in train, val and test.
    pub parts: [usize; 3],
    /// The model's folder.
    pub model: String,
    /// The device that computed, with its kind.
    #[serde(alias = "adapter")]
    pub device: String,
    /// Warnings about the data.
    pub notes: Vec<String>,
}

/// One result, as it stands in `results.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The dataset's name.
    pub dataset: String,
    /// What was run.
    #[serde(flatten)]
    pub task: Task,
    /// Share of test pictures that are right.
    pub accuracy: f64,
    /// Their number.
    pub correct: usize,
    /// Test pictures.
    pub test: usize,
    /// Pictures learned from.
    pub support: usize,
    /// Validation pictures.
    pub val: usize,
    /// Share of them that are right.
    pub val_accuracy: Option<f64>,
    /// Weight of the cache term.
    pub alpha: Option<f64>,
    /// Sharpness of the affinity.
    pub beta: Option<f64>,
    /// Weight of the divergence term.
    pub gamma: Option<f64>,
    /// The epoch that was kept, where one was chosen.
    pub epoch: Option<usize>,
    /// Temperature fitted on the evidence.
    pub temperature: Option<f64>,
    /// Expected calibration error of softmax(logits).
    pub calibration_error: f64,
    /// The same at the fitted temperature.
    pub calibration_error_fitted: Option<f64>,
    /// Mean of −log of the true class's probability.
    pub log_loss: f64,
    /// The same at the fitted temperature.
    pub log_loss_fitted: Option<f64>,
    /// The pictures that its confidence rests on.
    #[serde(default)]
    pub evidence: EvidenceCounts,
    /// How often sets of classes hold the right one; nothing without evidence.
    #[serde(default)]
    pub coverage: Vec<Coverage>,
    /// How well pictures of no class are told from the others; nothing where there are none.
    #[serde(default)]
    pub foreign: Vec<Foreign>,
    /// Where corrections are compared, how much alike test pictures of different classes are by the features that the method compares:
    /// the share that two histograms of similarities have in common ([`Similarities::overlap`](crate::adapt::similarity::Similarities)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<f64>,
    /// The variance of these features, where overlap is measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_variance: Option<f64>,
    /// Seconds to learn from features: training and search, and encoding where training takes fresh views.
    pub fit_seconds: f64,
    /// Seconds to classify the test pictures from their features.
    pub predict_seconds: f64,
    /// Most bytes of GPU memory in use meanwhile, the model's among them.
    pub peak_bytes: u64,
    /// Digest of the contents of all pictures that took part.
    pub data: String,
}

/// PiNI's learned noise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoiseMap {
    /// The noisy tokens; none without text noise.
    pub tokens: Vec<String>,
    /// Their means `[tokens, text width]`.
    pub text_mean: Vec<f32>,
    /// Their spreads, signed.
    pub text_spread: Vec<f32>,
    /// Names of some classes; none without image noise.
    pub classes: Vec<String>,
    /// Mean of the image noise over test pictures of each class `[classes, D]`.
    pub image_mean: Vec<f32>,
    /// Spread of the image noise, likewise.
    pub image_spread: Vec<f32>,
    /// Pictures with noise on their pixels; none without such noise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pictures: Vec<NoisyPicture>,
}

/// A test picture, the noise that its pixels get, and both together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NoisyPicture {
    /// Its class.
    pub class: String,
    /// Pixels each way.
    pub size: usize,
    /// Base64 of `[4, size, size, 3]` samples of 8 bits: the picture, means and spreads times [`NoisyPicture::LOUDER`], and the
    /// picture with the means added.
    pub samples: String,
}

impl NoisyPicture {
    /// What noise is multiplied by to be seen.
    pub const LOUDER: f32 = 8.0;
}

/// What a result is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// The class that each test picture was taken for, in the order of `test.json`.
    pub predicted: Vec<u32>,
    /// Its probability, at the fitted temperature where there is one.
    pub confidence: Vec<f32>,
    /// Confidence against accuracy.
    pub reliability: Reliability,
    /// The same at the fitted temperature.
    pub reliability_fitted: Option<Reliability>,
    /// The search, where there was one.
    pub search: Option<SearchMap>,
    /// Cross-entropy by epoch, where something was trained.
    pub losses: Vec<f32>,
    /// PiNI's noise.
    pub noise: Option<NoiseMap>,
    /// Pictures learned from.
    #[serde(with = "crate::text::stored_path::labelled")]
    pub support: Vec<(std::path::PathBuf, usize)>,
}

/// The test pictures of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TestSet {
    /// Class names by label.
    pub classes: Vec<String>,
    /// Files that could be decoded.
    #[serde(with = "crate::text::stored_path::list")]
    pub paths: Vec<std::path::PathBuf>,
    /// Their labels.
    pub labels: Vec<u32>,
    /// Why others could not.
    pub unreadable: Vec<String>,
    /// Digest of their contents and labels.
    pub digest: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::method::{METHODS, find};

    #[test]
    fn the_first_seed_comes_first() {
        let protocol = Protocol {
            methods: vec![METHODS[0], find("pini").unwrap()],
            ablation: None,
            taught: Vec::new(),
            shots: vec![Shots::UpTo(1), Shots::All],
            seeds: vec![1, 2],
            setup: Setup::default(),
            adapters: false,
            strict: false,
            batch: None,
            foreign: Vec::new(),
        };
        let tasks = protocol.tasks();
        assert_eq!(tasks.len(), 8);
        assert!(tasks[..4].iter().all(|t| t.seed == 1) && tasks[4..].iter().all(|t| t.seed == 2));
        assert_eq!(tasks[3].file(), "pini-all-seed1");
        assert!(protocol.check().is_ok());
        let ablation = Protocol { ablation: Some(ablation::find_ablation("pini").unwrap()), ..protocol.clone() };
        let tasks = ablation.tasks();
        assert!(tasks.len() == 40 && tasks[..10].iter().all(|t| t.seed == 1 && t.variant.is_some()));
        assert_eq!((&tasks[3].file()[..], &tasks[3].what()[..]), ("pini-pixels-1shot-seed1", "pini pixels"));
        assert_eq!(Setup::default().of(tasks[3])["noise"], "pixels");
        let overlap = ablation::find_ablation("overlap").unwrap();
        let compared = Protocol { ablation: Some(overlap), methods: overlap.methods().unwrap(), ..protocol.clone() };
        assert_eq!(compared.tasks().len(), 8, "without corrections what needs none");
        let error = compared.check().unwrap_err().to_string();
        assert!(error.contains("taught names nothing to run"), "{error}");
        let compared = Protocol { taught: Teaching::ALL.to_vec(), ..compared };
        let tasks = compared.tasks();
        assert!(compared.check().is_ok() && tasks.len() == 24);
        assert_eq!(tasks[5].what(), "tip-x++ self-supervised");
        // What is written is read again: two methods have variants of one name.
        for task in tasks {
            let text = serde_json::to_string(&task).unwrap();
            assert_eq!(serde_json::from_str::<Task>(&text).unwrap(), task, "{text}");
        }
        let other = r#"{"method": "pini", "shots": 1, "seed": 1, "variant": "supervised"}"#;
        let error = serde_json::from_str::<Task>(other).unwrap_err().to_string();
        assert!(error.contains("there is no variant 'supervised' of pini"), "{error}");
        let twice = Protocol { shots: vec![Shots::UpTo(1); 2], ..protocol.clone() };
        assert!(twice.check().unwrap_err().to_string().contains("shots has 1 twice"));
        assert!(Protocol { seeds: Vec::new(), ..protocol }.check().is_err());
    }

    #[test]
    fn results_from_before_devices_were_called_so_are_read() {
        let former = r#"{"title":"a","source":"b","parts":[1,2,3],"model":"c","adapter":"llvmpipe (CPU)","notes":[]}"#;
        let about: About = serde_json::from_str(former).unwrap();
        assert_eq!(about.device, "llvmpipe (CPU)");
        assert!(serde_json::to_string(&about).unwrap().contains(r#""device":"llvmpipe (CPU)""#));
    }
}
