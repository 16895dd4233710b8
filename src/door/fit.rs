//! Learning, for an application: the same lesson as `tipi fit`'s.

use std::path::PathBuf;

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::classifier::Story;
use super::json::{merged, object};
use super::{Classifier, Correction, Examples, Method, Model};
use crate::adapt::adapter_file::Description;
use crate::adapt::method::Settings;
use crate::adapt::{Choice, How, Learned, Lesson, Texts, learn, names};
use crate::data::{Item, Picture, Shelf, TEMPLATE, WORDS};
use crate::encode::{Direct, Remembering};
use crate::watch::Watch;
use crate::{Error, Result};

/// How to learn.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// What learns.
    pub method: Method,
    /// Its settings by name ([`Method::settings`]); defaults for those that are not here.
    pub settings: Settings,
    /// Prompts with `{}` where the class's name goes; several are averaged.
    pub templates: Vec<String>,
    /// The prompt's words before the class's name, for PiNI.
    pub words: String,
    /// How pictures are seen and parameters searched.
    pub how: How,
    /// For methods that need one, or become another with one.
    pub correction: Option<Correction>,
    /// Seed of views and of training. The same seed gives the same adapter, to the bit, on the same device.
    pub seed: u64,
    /// A file that keeps a training's state on its way, for methods that train: one that was stopped goes on from it, with the same
    /// examples and options, and ends with the same bytes. The state is put down after the first epoch, every few seconds, and where
    /// who watches stops it; [`Job::cancel`](crate::Job::cancel), which is quicker, may lose those seconds. The file is removed once all
    /// is learned. None loses what was stopped.
    pub checkpoint: Option<PathBuf>,
}

impl FitOptions {
    /// The papers' settings.
    pub fn new(method: Method) -> FitOptions {
        FitOptions {
            method,
            settings: Settings::new(),
            templates: vec![TEMPLATE.into()],
            words: WORDS.into(),
            how: How::default(),
            correction: None,
            seed: 1,
            checkpoint: None,
        }
    }

    /// The same with a setting.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a setting that the method does not have, or a value out of its range.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Result<FitOptions> {
        self.settings.insert(name.into(), value.into());
        self.method.settled(&self.settings)?;
        Ok(self)
    }

    /// The same with the settings in a JSON object, by their names: `{"epochs": 20, "lr": 0.001}`. What is not in it stays.
    ///
    /// # Errors
    /// As [`FitOptions::with`]; [`Error::Invalid`] for text that is no JSON object.
    pub fn with_settings(mut self, json: &str) -> Result<FitOptions> {
        self.settings.extend(object("the settings", json)?);
        self.method.settled(&self.settings)?;
        Ok(self)
    }

    /// The same with the fields of [`FitOptions::how`] that a JSON object names: `{"key_views": 4, "judge_by": "validation"}`.
    /// What is not in it stays.
    ///
    /// # Errors
    /// [`Error::Invalid`] for text that is no JSON object, a field that [`How`] does not have, or a value of another form.
    pub fn with_how(mut self, json: &str) -> Result<FitOptions> {
        self.how = merged("how", &self.how, json)?;
        Ok(self)
    }

    /// The same with this template in place of "a photo of a {}.", and its words before the class for PiNI.
    #[must_use]
    pub fn with_template(mut self, template: &str) -> FitOptions {
        self.words = words_of(template);
        self.templates = vec![template.into()];
        self
    }

    /// The same with [`FitOptions::checkpoint`].
    #[must_use]
    pub fn with_checkpoint(mut self, file: impl Into<PathBuf>) -> FitOptions {
        self.checkpoint = Some(file.into());
        self
    }
}

/// A template's words before the class.
pub(super) fn words_of(template: &str) -> String {
    template.split("{}").next().unwrap_or_default().trim().into()
}

/// How learning went.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Share of validation pictures that are right, where there are some.
    pub validation_accuracy: Option<f64>,
    /// Validation pictures.
    pub validation_pictures: usize,
    /// Cross-entropy by epoch, where something was trained.
    pub losses: Vec<f32>,
}

/// [`Model::fit`].
pub(super) fn fit(
    model: &Model,
    examples: &Examples,
    options: &FitOptions,
    watch: &mut dyn Watch,
) -> Result<(Classifier, Report)> {
    examples.check()?;
    let clip = model.clip();
    let correction = options.correction.as_ref();
    // With a correction a method becomes its corrected form, as with `tipi fit --correction`.
    let method = options.method.0.corrected().filter(|_| correction.is_some()).unwrap_or(options.method.0);
    let settings = Method(method).settled(&options.settings)?;
    if method.info().needs.correction && correction.is_none() {
        return Err(Error::invalid(format!("{method} needs an overlap correction, and there is none")));
    }
    let mut shelf = Shelf::default();
    let mut item = |(label, picture): (usize, &Picture)| Item { path: shelf.put(picture), label };
    let support: Vec<Item> = examples.support().map(&mut item).collect();
    let val: Vec<Item> = examples.validation().map(&mut item).collect();
    let needs = method.info().needs;
    let correction =
        correction.filter(|_| needs.correction).map(|correction| correction.of_model(model)).transpose()?;
    let checkpoint = options.checkpoint.as_deref().filter(|_| needs.training).map(Checkpoint::take).transpose()?;
    let direct = Direct::new(clip, correction.map(|correction| &correction.blocks[..]), None).with_shelf(shelf);
    let corrected = correction.map(|correction| correction.digest(&clip.gpu)).transpose()?.unwrap_or_default();
    let of = format!("{} {corrected}", model.number());
    let mut source = Remembering::new(direct, examples.remembered(), of);
    let (classes, templates, words) = (examples.classes(), &options.templates[..], &options.words[..]);
    let texts = Texts { classes, templates, words, dataset: "" };
    let choice = Choice { support: &support, val: &val, seed: options.seed };
    let mut lesson = Lesson::new(clip, texts, choice, &options.how, (correction, &mut source))?;
    lesson.keep_at(checkpoint.as_ref().map(Checkpoint::place));
    let Learned { method, fitted, losses, calibration, val_accuracy, .. } =
        learn(method, &settings, &mut lesson, watch)?;
    let description = Description::new(method.info().name, &*fitted)?;
    // Pictures in memory have names, too.
    let named = examples.support().map(|(label, picture)| Item { path: picture.path().to_path_buf(), label });
    let pictures = names::of_keys(&named.collect::<Vec<Item>>());
    let learned = Story { method: description, shots: examples.shots(), seed: options.seed, calibration, pictures };
    checkpoint.map_or(Ok(()), Checkpoint::remove)?;
    let report = Report { validation_accuracy: val_accuracy, validation_pictures: val.len(), losses };
    Ok((Classifier::new(model, fitted, classes, learned), report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapt::JudgeBy;

    #[test]
    fn settings_come_from_text() {
        let options = FitOptions::new(Method::named("prolip").unwrap());
        let options = options.with("epochs", 3).unwrap().with_settings(r#"{"lr": 0.5}"#).unwrap();
        assert_eq!((&options.settings["epochs"], &options.settings["lr"]), (&3.into(), &0.5.into()));
        let options = options.with_how(r#"{"key_views": 4, "judge_by": "validation"}"#).unwrap();
        assert_eq!(options.how, How { key_views: 4, judge_by: JudgeBy::Validation, ..How::default() });
        let says = |result: Result<FitOptions>| result.unwrap_err().to_string();
        assert!(says(options.clone().with_settings(r#"{"epoch": 3}"#)).contains("no setting 'epoch'; it has"));
        assert!(says(options.clone().with_settings("[3]")).contains("the settings are no JSON object"));
        assert!(says(options.clone().with_settings("{")).contains("the settings are no JSON object: EOF"));
        assert!(
            says(options.clone().with_how(r#"{"keys": 3}"#))
                .contains("how: there is no 'keys'; there are augment, grid")
        );
        assert!(says(options.with_how(r#"{"views": -1}"#)).contains("how: "));
    }
}
