//! PiNI as a method among others.

use serde::{Deserialize, Serialize};

use super::pixels::{self, PixelPredictor};
use super::{Config, Evaluation, Form, MOST_DRAWS, Noise, NoisyPrompts, Params, Pini, Predictor, rehearse, train};
use crate::adapt;
use crate::adapt::adapter_file::{Loading, Tensors};
use crate::adapt::lesson::{How, Lesson};
use crate::adapt::method::{
    self, Facts, Fit, Fitted, Info, Kind, Memory, Method, Needs, Noise as Learned, Setting, Settings,
};
use crate::adapt::overlap::PixelSource;
use crate::adapt::plans::Plans;
use crate::clip::{Clip, Features, PixelNoise};
use crate::data::Augment;
use crate::encode::Tower;
use crate::gpu::{Gpu, Recorder, Tensor};
use crate::memory::{MOST_BATCH, Rehearsal};
use crate::nn::NoiseNet;
use crate::watch::Watch;
use crate::{Error, Result, numbers};

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
    /// Pictures per step where noise is on pixels; none is [`pixels::BATCH`].
    pixel_batch: Option<usize>,
}

impl Default for Options {
    fn default() -> Options {
        let Config { epochs, noise, draws, reduction, .. } = Config::paper("", 0);
        Options { epochs, lr: None, noise, draws, reduction, evaluate: Evaluation::Mean.to_string(), pixel_batch: None }
    }
}

impl Options {
    /// Settings of the training.
    fn config(&self, words: &str, seed: u64, logit_scale: f32) -> Config {
        let usual = Config::paper(words, seed);
        let on_pixels = self.noise == Noise::Pixels;
        Config {
            batch: if on_pixels { self.pixel_batch.unwrap_or(pixels::BATCH) } else { usual.batch },
            epochs: self.epochs,
            lr: self.lr.unwrap_or_else(|| Config::rate(logit_scale)),
            noise: self.noise,
            draws: self.draws,
            reduction: self.reduction,
            ..usual
        }
    }
}

/// What its file says.
#[derive(Clone, Serialize, Deserialize)]
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

/// PiNI that has learned noise on pixels.
struct OnPixels {
    predictor: PixelPredictor,
    words: Words,
}

impl Words {
    /// The same, predicting as settings of the method say.
    fn predicting(&self, settings: &Settings) -> Result<Words> {
        let options: Options = method::typed(settings)?;
        let evaluation = options.evaluate.parse::<Evaluation>()?.seeded(self.config.seed);
        Ok(Words { evaluation, ..self.clone() })
    }
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
                    ("pixels", "on the pixels, through the whole image tower: slow, and the image tower must be a ViT"),
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
                       draws, from 1 to 10000; with noise on pixels to 64).",
                kind: Kind::Text("mean|draw|average:S", |text| text.parse::<Evaluation>().map(drop)),
                alone: true,
            },
            Setting {
                name: "pixel_batch",
                help: "Pictures per step where noise is on pixels, from 1 to 65536. By default 8; 32, as with the other noises, takes \
                       some 12 GB of GPU memory at 224 pixels.",
                kind: Kind::Count(1, MOST_BATCH),
                alone: false,
            },
        ]
    }

    fn defaults(&self) -> Settings {
        method::untyped(&Options::default()).unwrap_or_default()
    }

    fn check(&self, settings: &Settings) -> Result<()> {
        let options: Options = method::typed(settings)?;
        let evaluation = options.evaluate.parse::<Evaluation>()?;
        if options.noise == Noise::Pixels {
            pixels::check_evaluation(evaluation)?;
        }
        options.config("", 0, 100.0).check()
    }

    fn check_model(&self, settings: &Settings, clip: &Clip) -> Result<()> {
        match method::typed::<Options>(settings)?.noise {
            Noise::Pixels => clip.image.to_pixels().map(drop),
            _ => Ok(()),
        }
    }

    fn fit(&self, lesson: &mut Lesson<'_>, settings: &Settings, watch: &mut dyn Watch) -> Result<Fit> {
        let options: Options = method::typed(settings)?;
        let (clip, texts, seed) = (lesson.clip(), lesson.texts(), lesson.seed());
        let config = options.config(texts.words, seed, clip.logit_scale);
        lesson.note_unclear(&[format!("{} {{}}.", texts.words)], watch)?;
        let How { augment, views, .. } = *lesson.how();
        let evaluation = options.evaluate.parse::<Evaluation>()?.seeded(seed);
        let mut kept = lesson.kept(self, &config)?;
        if config.noise == Noise::Pixels {
            let labels = lesson.labels().to_vec();
            let mut pixels = |epoch: usize, which: &[usize]| lesson.epoch_pixels(Augment::PINI, epoch, which);
            let given: (&[u32], &mut PixelSource<'_>) = (&labels, &mut pixels);
            let (net, losses) = pixels::train(clip, texts.classes, &config, given, kept.as_mut(), watch)?;
            let predictor = PixelPredictor::new(clip, texts.classes, &config, net, evaluation)?;
            let views = if augment { views } else { 0 };
            let words = Words { noisy: 0, config, augmented: augment, views, evaluation };
            return Ok(Fit { losses, ..Fit::new(OnPixels { predictor, words }) });
        }
        let (labels, mut epochs) = lesson.epochs((Augment::PINI, 0), Tower::Plain, watch)?;
        let mut features = |epoch: usize| epochs.features(epoch);
        let (pini, losses) = train(clip, texts.classes, &config, (&labels, &mut features), kept.as_mut(), watch)?;
        let words = Words {
            noisy: pini.noisy(),
            config,
            augmented: augment,
            views: if augment { views } else { 0 },
            evaluation,
        };
        Ok(Fit { losses, ..Fit::new(Trained { predictor: pini.predictor(clip, words.evaluation)?, words }) })
    }

    fn of_prediction(&self) -> &'static [&'static str] {
        &["evaluate"]
    }

    fn check_words(&self, words: &Settings) -> Result<()> {
        let Words { config, evaluation, .. } = method::typed::<Words>(words)?;
        match config.noise {
            Noise::Pixels => pixels::check_evaluation(evaluation).and_then(|()| config.check()),
            _ => evaluation.check(),
        }
    }

    fn load(&self, file: &Loading<'_>) -> Result<Box<dyn Fitted>> {
        let words: Words = file.words()?;
        let clip = file.clip;
        if words.config.noise == Noise::Pixels {
            let read = &mut |name: &str, shape: &[usize]| file.floats(name, shape);
            let net = NoiseNet::load(&clip.gpu, words.config.widths, read).map_err(|error| match error {
                Error::Invalid(reason) => file.bad(reason),
                other => other,
            })?;
            let predictor = PixelPredictor::new(clip, file.classes, &words.config, net, words.evaluation)?;
            return Ok(Box::new(OnPixels { predictor, words }));
        }
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

    fn predicting(&self, clip: &Clip, settings: &Settings) -> Result<Box<dyn Fitted>> {
        let words = self.words.predicting(settings)?;
        Ok(Box::new(Trained { predictor: self.predictor.pini.predictor(clip, words.evaluation)?, words }))
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

impl Fitted for OnPixels {
    fn logits(&self, clip: &Clip, features: &Features, _first: usize) -> Result<Vec<f32>> {
        adapt::check_adapted(features, false)?;
        self.predictor.logits(&clip.gpu, &features.original)
    }

    fn record(&self, rec: &mut Recorder, raw: &Tensor, _adapted: Option<&Tensor>) -> Result<Tensor> {
        self.predictor.record(rec, raw)
    }

    fn plans(&self) -> &Plans {
        self.predictor.plans()
    }

    fn width(&self, _clip: &Clip) -> usize {
        self.predictor.width()
    }

    fn draws(&self) -> bool {
        self.predictor.averages()
    }

    fn pixels(&self) -> Option<&PixelNoise> {
        Some(&self.predictor.noise)
    }

    fn predicting(&self, _clip: &Clip, settings: &Settings) -> Result<Box<dyn Fitted>> {
        let words = self.words.predicting(settings)?;
        Ok(Box::new(OnPixels { predictor: self.predictor.predicting(words.evaluation)?, words }))
    }

    fn facts(&self) -> Facts {
        Facts::default()
    }

    fn words(&self) -> Result<Settings> {
        method::untyped(&self.words)
    }

    fn tensors(&self, gpu: &Gpu) -> Result<Tensors> {
        let mut tensors = Tensors::default();
        for (name, shape, values) in self.predictor.noise.net.download(gpu)? {
            tensors.floats(&name, &shape, &values);
        }
        Ok(tensors)
    }
}
