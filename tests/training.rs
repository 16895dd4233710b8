//! A PiNI step as a whole, on the bundled model: what it computes, what it leaves out, and that it learns.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::OnceLock;

use tipi::low_level::adapt::pini::{self, Config, Evaluation, Noise, NoisyPrompts, PARAMETERS, Params, Pini, Trainer};
use tipi::low_level::adapt::train::{Identity, Kept};
use tipi::low_level::adapt::zero_shot::Classifier;
use tipi::low_level::clip::{Clip, Prompts};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::watch::{Unwatched, Watch};

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        Gpu::open(&DeviceOptions { checked: Some(true), tune: Some(false), ..DeviceOptions::default() }).unwrap()
    })
}

fn clip() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| Clip::load(gpu(), &Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/picto")).unwrap())
}

fn classes() -> Vec<String> {
    ["apple", "bell", "credit card", "fire extinguisher", "fish"].map(String::from).to_vec()
}

/// Features with some structure: a direction per class, and a deterministic ripple.
fn features(labels: &[u32], d: usize) -> Vec<f32> {
    labels
        .iter()
        .enumerate()
        .flat_map(|(i, label)| (0..d).map(move |j| ((j as u32 * (label + 1) + 3 * i as u32) as f32 * 0.37).sin() * 0.3))
        .collect()
}

#[test]
fn prompts_are_cut_at_the_end_token_and_share_their_prefix() {
    let prompts = NoisyPrompts::new(clip(), "an icon of", &classes()).unwrap();
    let tokenizer = clip().tokenizer().unwrap();
    assert_eq!(prompts.noisy, pini::PREFIX_WORDS + tokenizer.ids("an icon of").unwrap().len());
    let names = pini::prefix_tokens(clip(), "an icon of").unwrap();
    assert_eq!((names.len(), names[0].as_str()), (prompts.noisy, "x"));
    // Per class: the name, "." and the end token.
    let own: usize = classes().iter().map(|c| tokenizer.ids(&format!("{c}.")).unwrap().len() + 1).sum();
    assert_eq!(prompts.prompts.rows(), 1 + prompts.noisy + own);
    // Padded to the whole context, as the authors batch them, they come out the same.
    let prefix = "x ".repeat(pini::PREFIX_WORDS) + "an icon of";
    let pad = |class: &String| {
        let mut ids = tokenizer.prompt(&format!("{prefix} {class}.")).unwrap();
        ids.resize(clip().config.context, 0);
        ids
    };
    let padded: Vec<_> = classes().iter().map(pad).collect();
    assert_eq!(NoisyPrompts::from_ids(clip(), &padded, prompts.noisy).unwrap(), prompts);
}

#[test]
fn a_shared_prefix_changes_nothing() {
    let tokenizer = clip().tokenizer().unwrap();
    let texts: Vec<_> =
        classes().iter().map(|c| tokenizer.prompt(&format!("x x x an icon of {c}.")).unwrap()).collect();
    let alone = clip().text.encode(&texts, clip().config.end).unwrap();
    let shared = Prompts::pack_shared(&texts, clip().config.end, 7).unwrap();
    assert!(shared.rows() < Prompts::pack(&texts, clip().config.end).unwrap().rows());
    let taps = clip().text.tapped(&shared).unwrap();
    let together: Vec<f32> = gpu().read(&taps.features).unwrap();
    let top = alone.iter().fold(0f32, |m, v| m.max(v.abs()));
    for (a, b) in alone.iter().zip(&together) {
        assert!((a - b).abs() < 2e-5 * top, "{a} and {b}");
    }
}

#[test]
fn a_step_computes_no_weight_gradients_of_the_tower() {
    let prompts = NoisyPrompts::new(clip(), "an icon of", &classes()).unwrap();
    let rows = prompts.prompts.rows();
    let params = Params::init(clip(), prompts.noisy, 1, 1).unwrap();
    let trainer = Trainer::new(clip(), prompts, params).unwrap();
    let (batch, draws) = (6, 2);
    let step = trainer.step(batch, draws, true).unwrap();
    let labels = step.plan.labels();
    // The five linear layers of the image noise, and the three products that hand a gradient over classes or pictures.
    assert_eq!(labels.iter().filter(|l| **l == "gemm tn").count(), 5 + 3);
    let layers = clip().config.text.layers;
    assert_eq!(labels.iter().filter(|l| **l == "layernorm dx").count(), 2 * layers + 1);
    assert_eq!(labels.iter().filter(|l| **l == "sgd").count(), PARAMETERS.len());

    // Memory: per row and layer the residual stream twice, queries/keys/values, the attention's output and the MLP
    // before its activation; besides that what is under way in one block, and the head. A weight gradient of a single
    // block's MLP alone would exceed what is left.
    let (w, mlp, d) = (clip().config.text.width, clip().config.text.mlp, clip().config.embedding);
    let saved = layers * rows * (6 * w + mlp + 16);
    let under_way = rows * (2 * mlp + 8 * w);
    let head = 5 * d * d + 30 * (batch * draws + classes().len()) * d + 8 * trainer.prompts.noisy * w;
    let bound = 4 * (saved + under_way + head) as u64 + 256 * labels.len() as u64;
    let tower = 4 * (4 * w * w + 2 * w * mlp) as u64 * layers as u64;
    println!("plan {} bytes, bound {bound}, weight gradients would add {tower}", step.plan.allocated_bytes());
    assert!(step.plan.allocated_bytes() < bound);
    assert!(bound + tower > 2 * bound, "the bound would not notice weight gradients");
}

/// The step's gradients of all parameters against central differences along themselves.
fn gradients_are_slopes(trainer: &Trainer<'_>, draws: usize, config: &Config) {
    let step = trainer.step(5, draws, true).unwrap();
    let start = trainer.params.download(gpu()).unwrap();
    let labels = [0, 1, 2, 3, 4];
    let images = features(&labels, clip().config.embedding);
    // Learning rate zero: parameters stay, the loss and the gradients are computed.
    let loss = || {
        step.run(gpu(), &images, &labels, config, 0.0, 0).unwrap();
        f64::from(gpu().read::<f32>(&step.loss).unwrap()[0])
    };
    loss();
    let grads: Vec<Vec<f32>> = step.grads.iter().map(|g| gpu().read(g).unwrap()).collect();
    for (i, name) in trainer.params.names().into_iter().enumerate() {
        let norm = grads[i].iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
        if name.ends_with("fc_k.bias") {
            // A shift of all of a row's softmax inputs: exactly zero but for rounding.
            assert!(norm < 1e-4, "{name}: {norm}");
            continue;
        }
        // Along the gradient itself the slope is its length.
        let length = start[i].iter().map(|v| f64::from(v * v)).sum::<f64>().sqrt().max(1e-2);
        let at = |step: f64| {
            let move_one = |(v, g): (&f32, &f32)| (f64::from(*v) + step * f64::from(*g) / norm) as f32;
            let moved: Vec<f32> = start[i].iter().zip(&grads[i]).map(move_one).collect();
            gpu().write(trainer.params.tensors()[i], &moved).unwrap();
            loss()
        };
        // The cross-attention's softmax of features that nothing scales is so steep that the wider step may cross a bend; the narrow
        // one has more rounding in it. A gradient that is wrong is wrong by both.
        let h = (3e-4 * length).max(2e-3);
        let off = |h: f64| ((at(h) - at(-h)) / (2.0 * h) - norm).abs();
        let off = off(h).min(off(0.1 * h));
        gpu().write(trainer.params.tensors()[i], &start[i]).unwrap();
        println!("{name}: gradient {norm:.6}, finite difference off by {off:.6}");
        assert!(off < 1e-2 * norm + 1e-4, "{:?} {name}: gradient {norm}, off by {off}", config.noise);
    }
}

/// |spread| has a kink at zero; a bias of ±3 keeps every element away from it, on either side.
fn away_from_the_kink(params: &Params) {
    let bias: Vec<f32> = (0..clip().config.embedding).map(|i| if i % 3 == 0 { -3.0 } else { 3.0 }).collect();
    if let Some(image) = &params.image {
        gpu().write(&image.spread.bias, &bias).unwrap();
    }
}

/// The whole chain, loss by parameters, against a central difference along a random direction.
#[test]
fn gradients_agree_with_finite_differences() {
    let prompts = NoisyPrompts::new(clip(), "an icon of", &classes()).unwrap();
    let params = Params::init(clip(), prompts.noisy, 2, 3).unwrap();
    away_from_the_kink(&params);
    gradients_are_slopes(&Trainer::new(clip(), prompts, params).unwrap(), 2, &Config::paper("an icon of", 3));
}

/// Through a tower whose matrices are rounded: gradients are those of the rounded model's loss, and near the whole one's.
#[test]
fn gradients_through_rounded_matrices_are_slopes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/picto");
    let config = Config::paper("an icon of", 3);
    for precision in [Precision::F16, Precision::Int8] {
        let rounded = Clip::load_as(gpu(), &folder, precision).unwrap();
        let gradients = |clip: &Clip| {
            let prompts = NoisyPrompts::new(clip, "an icon of", &classes()).unwrap();
            let params = Params::init(clip, prompts.noisy, 3, 1).unwrap();
            let trainer = Trainer::new(clip, prompts, params).unwrap();
            away_from_the_kink(&trainer.params);
            let step = trainer.step(5, 1, true).unwrap();
            let labels = [0, 1, 2, 3, 4];
            let images = features(&labels, clip.config.embedding);
            step.run(gpu(), &images, &labels, &config, 0.0, 0).unwrap();
            step.grads.iter().flat_map(|g| gpu().read::<f32>(g).unwrap()).collect::<Vec<f32>>()
        };
        let prompts = NoisyPrompts::new(&rounded, "an icon of", &classes()).unwrap();
        let params = Params::init(&rounded, prompts.noisy, 3, 1).unwrap();
        let trainer = Trainer::new(&rounded, prompts, params).unwrap();
        away_from_the_kink(&trainer.params);
        gradients_are_slopes(&trainer, 1, &config);
        let (own, full) = (gradients(&rounded), gradients(clip()));
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let off = norm(&mut own.iter().zip(&full).map(|(a, b)| a - b)) / norm(&mut full.iter().copied());
        println!("{}: gradients off by {off:.1e} of their length", precision.name());
        // The checkpoint holds nothing that f16 does not.
        assert!((off > 1e-4) == (precision == Precision::Int8) && off < 0.1, "{}: {off}", precision.name());
    }
}

fn cross_entropy(logits: &[f32], labels: &[u32]) -> f64 {
    let rows = logits.chunks(classes().len()).zip(labels);
    rows.map(|(row, label)| -tipi::low_level::adapt::probabilities(row)[*label as usize].ln()).sum::<f64>()
        / labels.len() as f64
}

fn train(seed: u64, epochs: usize) -> (Vec<Vec<f32>>, Vec<f32>, Vec<f32>) {
    let labels: Vec<u32> = (0..15).map(|i| i % 5).collect();
    let images = features(&labels, clip().config.embedding);
    let config = Config { epochs, batch: 8, lr: 0.02, ..Config::paper("an icon of", seed) };
    let mut source = |_| Ok(images.clone());
    let (trained, losses) =
        pini::train(clip(), &classes(), &config, (&labels, &mut source), None, &mut Unwatched).unwrap();
    let logits = trained.logits(gpu(), &images).unwrap();
    (trained.params.download(gpu()).unwrap(), logits, losses)
}

#[test]
fn training_lowers_the_loss_and_repeats_bit_for_bit() {
    let (params, logits, losses) = train(1, 30);
    // One full batch an epoch: the partial one is dropped.
    assert_eq!(losses.len(), 30);
    // Each step sees other pictures and other noise; what counts is the loss on all pictures at the noise's mean.
    let config = Config { batch: 8, lr: 0.02, ..Config::paper("an icon of", 1) };
    let labels: Vec<u32> = (0..15).map(|i| i % 5).collect();
    let images = features(&labels, clip().config.embedding);
    let before = Pini::untrained(clip(), &classes(), &config).unwrap().logits(gpu(), &images).unwrap();
    let (before, after) = (cross_entropy(&before, &labels), cross_entropy(&logits, &labels));
    println!("cross-entropy {before:.3} before, {after:.3} after");
    assert!(after < 0.7 * before, "{before} before, {after} after");
    let again = train(1, 30);
    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&logits), bits(&again.1));
    assert!(params.iter().zip(&again.0).all(|(a, b)| bits(a) == bits(b)));
    assert_ne!(bits(&logits), bits(&train(2, 30).1), "another seed must not give the same bits");
}

#[test]
fn a_rate_that_diverges_is_an_error() {
    let labels: Vec<u32> = (0..5).collect();
    let images = features(&labels, clip().config.embedding);
    // Each step takes a thousand times the parameters off themselves.
    let config = Config { epochs: 40, lr: 1e3, weight_decay: 1.0, ..Config::paper("an icon of", 1) };
    let mut source = |_| Ok(images.clone());
    let result = pini::train(clip(), &classes(), &config, (&labels, &mut source), None, &mut Unwatched);
    let error = result.err().expect("such a rate must diverge").to_string();
    assert!(error.contains("diverged") && error.contains("lower learning rate than 1000"), "{error}");
}

/// Logits past what f32 holds.
#[test]
fn answers_that_are_no_numbers_are_errors() {
    let d = clip().config.embedding;
    let logits = |size: f32| {
        let mut weights = vec![0.0; 2 * d];
        (weights[0], weights[d + 1]) = (size, size);
        let classifier = Classifier { scale: 1e36, ..Classifier::from_weights(gpu(), &weights, 2, 10.0).unwrap() };
        classifier.logits(&weights[..d], gpu())
    };
    assert_eq!(logits(1.0).unwrap(), [1e36, 0.0]);
    let error = logits(1e3).unwrap_err();
    assert!(matches!(error, tipi::Error::ResultNotFinite { row: 0, wrong: 1, of: 2, .. }), "{error:?}");
    assert!(error.to_string().starts_with("logits came out as NaN or infinity"), "{error}");
}

#[test]
fn bad_arguments_are_errors() {
    let config = Config::paper("an icon of", 1);
    let train = |config: &Config, labels: &[u32]| {
        let mut none = |_| Ok(Vec::new());
        pini::train(clip(), &classes(), config, (labels, &mut none), None, &mut Unwatched)
    };
    for labels in [&[5][..], &[], &[0]] {
        assert!(train(&config, labels).is_err());
    }
    let drawn = Config { noise: Noise::Text, draws: 2, ..config.clone() };
    let error = train(&drawn, &[0]).err().unwrap().to_string();
    assert!(error.contains("text noise alone"), "{error}");
    let long = vec!["a very long class name that goes on and on and on and never seems to end at all".to_string()];
    assert!(NoisyPrompts::new(clip(), "an icon of", &long).is_err());
    assert!(Params::init(clip(), 19, 7, 1).is_err(), "7 does not divide the embedding width");
    assert!(Pini::untrained(clip(), &classes(), &Config { reduction: 0, ..config }).is_err());
}

/// More rows than go through at once give what the rows give alone, and all of it can be used from several threads.
#[test]
fn logits_do_not_depend_on_how_rows_are_cut() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(gpu());
    shared(clip());
    let classifier =
        tipi::low_level::adapt::zero_shot::Classifier::new(clip(), &classes(), &["an icon of {}".into()]).unwrap();
    let labels: Vec<u32> = (0..4100).map(|i| i % 5).collect();
    let images = features(&labels, clip().config.embedding);
    let all = classifier.logits(&images, gpu()).unwrap();
    assert_eq!(all.len(), 4100 * 5);
    let last = classifier.logits(&images[4097 * 192..], gpu()).unwrap();
    assert_eq!(all[4097 * 5..], last[..]);
    assert!(classifier.logits(&images[..100], gpu()).is_err(), "100 values are no row of 192");
}

/// The noise that a step draws itself: standard normal, other in each step and stream, the same when drawn again.
#[test]
fn steps_draw_fresh_standard_normal_noise() {
    let prompts = NoisyPrompts::new(clip(), "an icon of", &classes()).unwrap();
    let params = Params::init(clip(), prompts.noisy, 1, 1).unwrap();
    let trainer = Trainer::new(clip(), prompts, params).unwrap();
    let step = trainer.step(32, 1, true).unwrap();
    let config = Config::paper("an icon of", 9);
    let labels: Vec<u32> = (0..32).map(|i| i % 5).collect();
    let images = features(&labels, clip().config.embedding);
    let draw = |number: u32| -> [Vec<f32>; 2] {
        step.run(gpu(), &images, &labels, &config, 0.0, number).unwrap();
        let (text, image) = (step.eps_text.as_ref().unwrap(), step.image.as_ref().unwrap());
        [gpu().read(text).unwrap(), gpu().read(&image.eps).unwrap()]
    };
    let (first, second, again) = (draw(0), draw(1), draw(0));
    assert_eq!(first, again);
    for (a, b) in first.iter().zip(&second) {
        let n = a.len() as f64;
        let mean = a.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = a.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        let shared = a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>() / n;
        // Five standard deviations of each estimate.
        let five = 5.0 / n.sqrt();
        assert!(mean.abs() < five && (variance - 1.0).abs() < 1.5 * five, "mean {mean}, variance {variance}");
        assert!(shared.abs() < five, "steps correlate by {shared}");
    }
    assert_ne!(first[0][..8], first[1][..8], "text and image noise must come from streams of their own");
}

fn bits(all: &[Vec<f32>]) -> Vec<Vec<u32>> {
    all.iter().map(|v| v.iter().map(|x| x.to_bits()).collect()).collect()
}

/// Stops once so many parts are done.
struct Stop(usize);

impl Watch for Stop {
    fn begin(&mut self, _: &str, _: usize) {}
    fn at(&mut self, done: usize) -> tipi::Result<()> {
        if done >= self.0 { Err(tipi::Error::Stopped) } else { Ok(()) }
    }
    fn end(&mut self) {}
    fn note(&mut self, _: &str) {}
}

/// Training that is put down in a file after any step and taken up from it gives the bits of one that was not.
#[test]
fn training_taken_up_from_a_checkpoint_gives_the_same_bits() {
    let labels: Vec<u32> = (0..15).map(|i| i % 5).collect();
    let images = features(&labels, clip().config.embedding);
    // Another view of every picture each epoch.
    let mut source = |epoch: usize| {
        let mut images = images.clone();
        images.iter_mut().enumerate().for_each(|(i, v)| *v += 0.01 * ((i + 31 * epoch) % 17) as f32);
        Ok(images)
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pini.checkpoint");
    for noise in [Noise::Both, Noise::Text, Noise::Image] {
        let config = Config { epochs: 6, batch: 7, lr: 0.02, noise, ..Config::paper("an icon of", 1) };
        let identity = |config: &Config, data: &str| Identity::new("pini", clip(), &classes(), config, data.into());
        let kept = |resume| Kept::new(&path, identity(&config, "fifteen pictures").unwrap(), resume);
        let mut train = |mut kept: Option<Kept>, watch: &mut dyn Watch| {
            pini::train(clip(), &classes(), &config, (&labels, &mut source), kept.as_mut(), watch)
        };
        let (whole, losses) = train(None, &mut Unwatched).unwrap();
        let whole = whole.params.download(gpu()).unwrap();
        assert_eq!(losses.len(), 6);
        // Within an epoch, at the end of one, and again on the way.
        for stops in [&[5][..], &[3, 6, 11], &[1, 2, 3, 4]] {
            let mut resume = false;
            for stop in stops {
                let stopped = train(Some(kept(resume)), &mut Stop(*stop));
                assert!(matches!(stopped.err().unwrap(), tipi::Error::Stopped), "{stops:?}");
                resume = true;
            }
            let (resumed, again) = train(Some(kept(true)), &mut Unwatched).unwrap();
            assert_eq!(bits(&whole), bits(&resumed.params.download(gpu()).unwrap()), "{noise:?} {stops:?}");
            assert_eq!(losses, again);
        }
        // The optimizer's state matters: without it the bits differ.
        let forgetful = change_tensors(&path, |name| name.starts_with("velocity."));
        std::fs::write(&path, forgetful).unwrap();
        let (resumed, _) = train(Some(kept(true)), &mut Unwatched).unwrap();
        assert_ne!(bits(&whole), bits(&resumed.params.download(gpu()).unwrap()), "{noise:?}");

        let refused = |identity: tipi::Result<Identity>| {
            let mut kept = Kept::new(&path, identity.unwrap(), true);
            let mut source = |_: usize| Ok(images.clone());
            let result =
                pini::train(clip(), &classes(), &config, (&labels, &mut source), Some(&mut kept), &mut Unwatched);
            result.err().unwrap().to_string()
        };
        let error = refused(identity(&Config { lr: 0.03, ..config.clone() }, "fifteen pictures"));
        assert!(error.contains("lr 0.02, now 0.03"), "{error}");
        let error = refused(identity(&config, "other pictures"));
        assert!(error.contains("other pictures"), "{error}");
        std::fs::write(&path, "no checkpoint").unwrap();
        assert!(refused(identity(&config, "fifteen pictures")).contains("not a valid safetensors file"));
    }
}

/// A safetensors file's bytes with zeros in the tensors that are chosen.
fn change_tensors(path: &Path, chosen: impl Fn(&str) -> bool) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    for (name, tensor) in json.as_object().unwrap().iter().filter(|(name, _)| chosen(name)) {
        let at =
            |i: usize| 8 + header + tensor["data_offsets"][i].as_u64().unwrap_or_else(|| panic!("{name}")) as usize;
        bytes[at(0)..at(1)].fill(0);
    }
    bytes
}

/// Each side of the noise alone: what trains, what the step leaves out, and its gradients against central differences.
#[test]
fn noise_on_one_side_leaves_the_other_alone() {
    let layers = clip().config.text.layers;
    for (noise, draws) in [(Noise::Text, 1), (Noise::Image, 3)] {
        let config = Config { noise, draws, reduction: 2, ..Config::paper("an icon of", 3) };
        let prompts = NoisyPrompts::of(clip(), &config, &classes()).unwrap();
        let params = Params::fresh(clip(), prompts.noisy, &config).unwrap();
        away_from_the_kink(&params);
        let trainer = Trainer::new(clip(), prompts, params).unwrap();
        let step = trainer.step(5, draws, true).unwrap();
        let norms = step.plan.labels().iter().filter(|l| **l == "layernorm dx").count();
        match noise {
            Noise::Text => assert_eq!((trainer.params.names().len(), norms), (2, 2 * layers + 1)),
            // The text tower never runs in a step.
            _ => {
                assert_eq!((trainer.params.names().len(), norms), (10, 0));
                assert!(step.plan.labels().iter().all(|l| !l.contains("attention") && !l.contains("layernorm")));
            }
        }
        gradients_are_slopes(&trainer, draws, &config);
    }
}

/// Predictions by drawing: the plain model where noise has no spread, the mean's in the limit, and the same whether
/// pictures come at once or in blocks.
#[test]
fn predictions_by_draws_average_probabilities() {
    let labels: Vec<u32> = (0..2050).map(|i| i % 5).collect();
    let (d, c) = (clip().config.embedding, classes().len());
    let images = features(&labels, d);
    let config = Config::paper("an icon of", 2);
    let pini = Pini::untrained(clip(), &classes(), &config).unwrap();
    let by = |count| Evaluation::Draws { count, seed: 5 };
    let predict = |evaluation| pini.predictor(clip(), evaluation).unwrap().logits(gpu(), &images, 0).unwrap();
    assert_eq!(predict(Evaluation::Mean), pini.logits(gpu(), &images).unwrap());
    let (one, three) = (predict(by(1)), predict(by(3)));
    assert_ne!(one, pini.logits(gpu(), &images).unwrap());
    assert_eq!(three, predict(by(3)), "one seed, one result");
    assert_ne!(predict(Evaluation::Draws { count: 1, seed: 6 }), one);
    // Each row of an average is the logarithm of probabilities.
    for row in three.chunks_exact(c).step_by(97) {
        let sum: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-5, "{sum}");
    }
    // Blocks of rows, as an evaluation takes them.
    let predictor = pini.predictor(clip(), by(3)).unwrap();
    let mut blocks = predictor.logits(gpu(), &images[..2048 * d], 0).unwrap();
    blocks.extend(predictor.logits(gpu(), &images[2048 * d..], 2048).unwrap());
    assert_eq!(blocks, three);
    // The second block's noise is not the first's again.
    let again = predictor.logits(gpu(), &images[2048 * d..], 0).unwrap();
    assert_ne!(again[..], three[2048 * c..]);

    // Without any spread there is nothing to draw.
    let params = &pini.params;
    let text = params.text.as_ref().unwrap();
    gpu().write(&text.spread, &vec![0.0; text.spread.len()]).unwrap();
    let image = params.image.as_ref().unwrap();
    gpu().write(&image.spread.weight, &vec![0.0; image.spread.weight.len()]).unwrap();
    gpu().write(&image.spread.bias, &vec![0.0; d]).unwrap();
    let (mean, drawn) = (predict(Evaluation::Mean), predict(by(4)));
    for (mean, drawn) in mean.chunks_exact(c).zip(drawn.chunks_exact(c)).step_by(53) {
        for (m, v) in tipi::low_level::adapt::probabilities(mean).iter().zip(drawn) {
            assert!((m.ln() - f64::from(*v)).abs() < 1e-4, "{m} and {v}");
        }
    }
    assert!(pini.predictor(clip(), Evaluation::Draws { count: 0, seed: 1 }).is_err());
    let (mean, spread) = pini.image_noise(gpu(), &images[..3 * d]).unwrap();
    assert_eq!((mean.len(), spread.len()), (3 * d, 3 * d));
    assert!(spread.iter().all(|v| *v == 0.0) && mean.iter().any(|v| *v != 0.0));
}
