//! PiNI as a method among others.

use serde::{Deserialize, Serialize};

use super::{Config, Evaluation, Form, MOST_DRAWS, Noise, NoisyPrompts, Params, Pini, Predictor, rehearse, train};
use crate::adapt;
use crate::adapt::adapter_file::{Loading, Tensors};
use crate::adapt::lesson::{How, Lesson};
use crate::adapt::method::{
    self, Facts, Fit, Fitted, Info, Kind, Memory, Method, Needs, Noise as Learned, Setting, Settings,
};
use crate::adapt::plans::Plans;
use crate::clip::{Clip, Features};
use crate::data::Augment;
use crate::encode::Tower;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::memory::Rehearsal;
use crate::watch::Watch;
use crate::{Result, numbers};

/// The method.
pub struct PiniMethod;

/// Its settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Options {
    epochs: usize,
    /// None is the paper's 0.001 at a logit scale of 100, more at a smaller one.
    lr: Option<f64>,
    noise: Noise,
    draws: usize,
    reduction: usize,
    /// As [`Evaluation`] is written.
    evaluate: String,
}

impl Default for Options {
    fn default() -> Options {
        let Config { epochs, noise, draws, reduction, .. } = Config::paper("", 0);
        Options { epochs, lr: None, noise, draws, reduction, evaluate: Evaluation::Mean.to_string() }
    }
}

impl Options {
    /// Settings of the training.
    fn config(&self, words: &str, seed: u64, logit_scale: f32) -> Config {
        Config {
            epochs: self.epochs,
            lr: self.lr.unwrap_or_else(|| Config::rate(logit_scale)),
            noise: self.noise,
            draws: self.draws,
            reduction: self.reduction,
            ..Config::paper(words, seed)
        }
    }
}

/// What its file says.
#[derive(Serialize, Deserialize)]
struct Words {
    config: Config,
    /// Noisy tokens.
    noisy: usize,
    /// Whether training saw random views.
    augmented: bool,
    /// Random views that training drew from; 0 for fresh ones each epoch, or for the pictures as they are.
    #[serde(default)]
    views: usize,
    /// How predictions treat the noise.
    #[serde(default)]
    evaluation: Evaluation,
}

/// PiNI that has learned.
struct Trained {
    predictor: Predictor,
    words: Words,
}

impl Method for PiniMethod {
    fn info(&self) -> &'static Info {
        &Info {
            name: "pini",
            aliases: &[],
            title: "PiNI",
            about: "Noise learned on prompts and image features.",
            paper: "arXiv 2412.10817",
            needs: Needs { support: true, words: true, training: true, causal: true, ..Needs::NONE },
            memory: Some(Memory { what: "training PiNI", by_batch: true }),
            published: None,
        }
    }

    fn settings(&self) -> &'static [Setting] {
        &[
            Setting::EPOCHS,
            Setting {
                name: "lr",
                help: "Highest learning rate of the schedule, from 1e-12 to 1000. By default the paper's 0.001 at a logit scale \
                       of 100, and more at a smaller scale.",
                kind: Kind::Number(numbers::RATE),
                alone: false,
            },
            Setting {
                name: "noise",
                help: "Where the noise goes.",
                kind: Kind::Choice(&[
                    ("text", "on the prompts alone"),
                    ("image", "on the image features alone"),
                    ("both", "on both"),
                ]),
                alone: true,
            },
            Setting {
                name: "draws",
                help: "Noise draws per picture in training, from 1 to 10000.",
                kind: Kind::Count(1, MOST_DRAWS),
                alone: true,
            },
            Setting {
                name: "reduction",
                help: "Divides the width of the embedding to give that of the cross-attention, from 1 to 65536.",
                kind: Kind::Count(1, 65_536),
                alone: true,
            },
            Setting {
                name: "evaluate",
                help: "How predictions treat the noise: mean, draw (one draw, as in the authors' code), or average:S (over S \
                       draws, from 1 to 10000).",
                kind: Kind::Text("mean|draw|average:S", |text| text.parse::<Evaluation>().map(drop)),
                alone: true,
            },
        ]
    }

    fn defaults(&self) -> Settings {
        method::untyped(&Options::default()).unwrap_or_default()
    }

    fn check(&self, settings: &Settings) -> Result<()> {
        let options: Options = method::typed(settings)?;
        options.evaluate.parse::<Evaluation>()?;
        options.config("", 0, 100.0).check()
    }

    fn fit(&self, lesson: &mut Lesson<'_>, settings: &Settings, watch: &mut dyn Watch) -> Result<Fit> {
        let options: Options = method::typed(settings)?;
        let (clip, texts, seed) = (lesson.clip(), lesson.texts(), lesson.seed());
        let config = options.config(texts.words, seed, clip.logit_scale);
        lesson.note_unclear(&[format!("{} {{}}.", texts.words)], watch)?;
        let How { augment, views, .. } = *lesson.how();
        let mut kept = lesson.kept(self, &config)?;
        let (labels, mut epochs) = lesson.epochs((Augment::PINI, 0), Tower::Plain, watch)?;
        let mut features = |epoch: usize| epochs.features(epoch);
        let (pini, losses) = train(clip, texts.classes, &config, (&labels, &mut features), kept.as_mut(), watch)?;
        let words = Words {
            noisy: pini.noisy(),
            config,
            augmented: augment,
            views: if augment { views } else { 0 },
            evaluation: options.evaluate.parse::<Evaluation>()?.seeded(seed),
        };
        Ok(Fit { losses, ..Fit::new(Trained { predictor: pini.predictor(clip, words.evaluation)?, words }) })
    }

    fn check_words(&self, words: &Settings) -> Result<()> {
        method::typed::<Words>(words)?.evaluation.check()
    }

    fn load(&self, file: &Loading<'_>) -> Result<Box<dyn Fitted>> {
        let words: Words = file.words()?;
        let clip = file.clip;
        let prompts = NoisyPrompts::of(clip, &words.config, file.classes)?;
        if prompts.noisy != words.noisy {
            return Err(file
                .bad(format!("the template has {} tokens, the file was fitted with {}", prompts.noisy, words.noisy)));
        }
        let form = Form::new(clip, words.noisy, &words.config).map_err(|e| file.bad(e))?;
        let parameters = form.parameters();
        let values = parameters.iter().map(|(name, shape)| file.floats(name, shape)).collect::<Result<Vec<_>>>()?;
        let params = Params::of(&clip.gpu, form, &values).map_err(|e| file.bad(e))?;
        let predictor = Pini::new(clip, prompts, params)?.predictor(clip, words.evaluation)?;
        Ok(Box::new(Trained { predictor, words }))
    }

    fn rehearse(&self, rehearsal: &Rehearsal<'_>, batch: usize) -> Result<()> {
        rehearse(rehearsal.clip, rehearsal.prompts()?, &Config::paper(Rehearsal::WORDS, 1), batch)
    }
}

impl Fitted for Trained {
    fn logits(&self, clip: &Clip, features: &Features, first: usize) -> Result<Vec<f32>> {
        adapt::check_adapted(features, false)?;
        self.predictor.logits(&clip.gpu, &features.original, first)
    }

    fn record(&self, rec: &mut Recorder, raw: &Tensor, _adapted: Option<&Tensor>) -> Result<Tensor> {
        self.predictor.record(rec, raw)
    }

    fn plans(&self) -> &Plans {
        self.predictor.plans()
    }

    fn draws(&self) -> bool {
        self.predictor.draws()
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn words(&self) -> Result<Settings> {
        method::untyped(&self.words)
    }

    fn tensors(&self, gpu: &Gpu) -> Result<Tensors> {
        let mut tensors = Tensors::default();
        for (name, tensor) in self.predictor.pini.params.names().into_iter().zip(self.predictor.pini.params.tensors()) {
            tensors.floats(name, tensor.shape(), &gpu.read::<f32>(tensor)?);
        }
        Ok(tensors)
    }

    fn noise(&self, clip: &Clip, features: &Features) -> Result<Option<Learned>> {
        let gpu = &clip.gpu;
        let (image_mean, image_spread) = self.predictor.pini.image_noise(gpu, &features.original)?;
        let mut noise = Learned { image_mean, image_spread, ..Learned::default() };
        if let Some(text) = &self.predictor.pini.params.text {
            noise.text_mean = gpu.read(&text.mean)?;
            noise.text_spread = gpu.read(&text.spread)?;
            noise.tokens = super::prefix_tokens(clip, &self.words.config.template)?;
        }
        Ok(Some(noise))
    }
}
