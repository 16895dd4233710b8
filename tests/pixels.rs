//! PiNI's noise on pixels as a whole: the way back to the pixels through every tower, the network's gradients, a training that repeats
//! and goes on to the bit, and predictions that depend on the picture alone.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tipi::low_level::adapt::pini::pixels::{self, PixelPredictor, PixelTrainer};
use tipi::low_level::adapt::pini::{Config, Evaluation, Noise};
use tipi::low_level::adapt::train::{Identity, Kept};
use tipi::low_level::clip::{Clip, PixelNoise};
use tipi::low_level::gpu::{DeviceOptions, Gpu, Recorder};
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::kernels::planes;
use tipi::low_level::nn::{NoiseNet, Statistics};
use tipi::low_level::watch::{Unwatched, Watch};
use tipi_testing::twins::Random;

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        Gpu::open(&DeviceOptions { checked: Some(true), tune: Some(false), ..DeviceOptions::default() }).unwrap()
    })
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Two blocks on pictures of 32 pixels.
fn small() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| Clip::load(gpu(), &folder("tests/golden/model_a")).unwrap())
}

fn family(name: &str) -> Clip {
    tipi_testing::load(gpu(), &folder("tests/fixtures/towers").join(name), Precision::F32)
}

fn classes() -> Vec<String> {
    ["cat", "dog", "car"].map(String::from).to_vec()
}

fn config() -> Config {
    Config { noise: Noise::Pixels, widths: [6, 5], batch: 4, epochs: 3, lr: 0.02, ..Config::paper("a photo of a", 3) }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
}

/// The gradient by the pixels of Σ w·features, in every part of the pictures.
#[test]
fn the_gradient_comes_back_to_the_pixels_of_every_tower() {
    let others = [
        "timm-eva02",
        "timm-eva02-e",
        "timm-pe-core",
        "timm-siglip2",
        "timm-mean",
        "openclip-clipa",
        "hf-siglip",
        "hf-vit",
    ];
    let others = others.iter().map(|name| (*name, family(name)));
    let golden = std::iter::once(("model_a", Clip::load(gpu(), &folder("tests/golden/model_a")).unwrap()));
    for (name, clip) in golden.chain(others) {
        let (n, size) = (2, clip.preprocess.size);
        let vit = clip.image.to_pixels().unwrap();
        let mut random = Random::new(17);
        let start = random.vector(n * 3 * size * size);
        let weights = random.vector(n * clip.config.embedding);
        let pattern = vit.pattern(n).unwrap();
        let pixels = gpu().upload("pixels", &start, &[n, 3, size, size]).unwrap();
        let slopes = gpu().upload("slopes", &weights, &[n, clip.config.embedding]).unwrap();
        let mut rec = Recorder::new(gpu());
        let (features, saved) = vit.forward_saved(&mut rec, &pixels, &pattern).unwrap();
        let dpixels = vit.backward(&mut rec, &slopes, saved, &pattern).unwrap();
        let plan = rec.finish().unwrap();
        // No weight of the tower gets a gradient.
        assert!(plan.labels().iter().all(|label| *label != "gemm tn"), "{name}");
        plan.run().unwrap();
        let gradient: Vec<f32> = gpu().read(&dpixels).unwrap();
        let plain = clip.image_encoder(n).unwrap().encode(&start, &mut |_| {}).unwrap();
        let kept: Vec<f32> = gpu().read(&features).unwrap();
        let top = plain.iter().fold(0f32, |m, v| m.max(v.abs()));
        assert!(plain.iter().zip(&kept).all(|(a, b)| (a - b).abs() < 1e-4 * top), "{name}: another tower");

        // Along the gradient within a stripe of the pictures, and along a direction of chance.
        let stripe = |which: usize| -> Vec<f32> {
            let of = |i: usize| i / (gradient.len() / 6) == which;
            gradient.iter().enumerate().map(|(i, g)| if of(i) { *g } else { 0.0 }).collect()
        };
        let chance: Vec<f32> = gradient.iter().map(|g| g + random.uniform(-1.0, 1.0) * 0.02).collect();
        for (what, direction) in (0..6).map(|i| (format!("stripe {i}"), stripe(i))).chain([("chance".into(), chance)]) {
            let length = dot(&direction, &direction).sqrt();
            assert!(length > 1e-6, "{name}, {what}: no gradient");
            let want = dot(&direction, &gradient) / length;
            let h = 0.02;
            let at = |sign: f64| {
                let moved: Vec<f32> = start
                    .iter()
                    .zip(&direction)
                    .map(|(x, d)| (f64::from(*x) + sign * h * f64::from(*d) / length) as f32)
                    .collect();
                gpu().write(&pixels, &moved).unwrap();
                plan.run().unwrap();
                dot(&gpu().read::<f32>(&features).unwrap(), &weights)
            };
            let slope = (at(1.0) - at(-1.0)) / (2.0 * h);
            let tol = 0.02 * want.abs() + 2e-6 * dot(&kept, &kept).sqrt() * dot(&weights, &weights).sqrt() / (2.0 * h);
            assert!((slope - want).abs() < tol, "{name}, {what}: slope {slope}, gradient {want}");
            assert!((1.1 * slope - want).abs() > tol, "{name}, {what}: a gradient off by a tenth passed");
        }
    }
}

#[test]
fn towers_without_a_way_back_say_so() {
    for (name, needle) in [("openai-rn", "a ResNet"), ("timm-mobileclip-b", "several convolutions")] {
        let clip = family(name);
        let error = clip.image.to_pixels().err().unwrap().to_string();
        assert!(error.contains(needle) && error.contains("text, image features or both"), "{name}: {error}");
        let mut none = |_: usize, _: &[usize]| Ok(Vec::new());
        let error = pixels::train(&clip, &classes(), &config(), (&[0], &mut none), None, &mut Unwatched);
        assert!(error.err().unwrap().to_string().contains(needle), "{name}");
        let net = pixels::fresh(gpu(), &config()).unwrap();
        assert!(clip.noisy_encoder(1, &PixelNoise { net, level: 0.1, drawn: None }).is_err(), "{name}");
    }
}

/// The loss against each tensor of the network, through batch norm's own statistics, the planes' RMS and the tower.
#[test]
fn the_loss_follows_the_networks_gradient() {
    let clip = small();
    let (n, draws, size) = (3, 2, clip.preprocess.size);
    let mut random = Random::new(23);
    let input = random.vector(n * 3 * size * size);
    let eps = random.vector_in(n * draws * 3 * size * size, -2.0, 2.0);
    let text = gpu().upload("texts", &random.vector(3 * clip.config.embedding), &[3, clip.config.embedding]).unwrap();
    let labels = [2, 0, 1];
    let names = NoiseNet::parameters([6, 5]);
    // Away from gains of one and shifts of zero.
    let net = pixels::fresh(gpu(), &config()).unwrap();
    for tensor in net.tensors() {
        let moved: Vec<f32> =
            gpu().read::<f32>(tensor).unwrap().iter().map(|v| v + random.uniform(-0.1, 0.1)).collect();
        gpu().write(tensor, &moved).unwrap();
    }
    let trainer = PixelTrainer::new(clip, &text, net).unwrap();
    let step = trainer.step(n, draws, false).unwrap();
    gpu().write(&step.eps, &eps).unwrap();
    let config = Config { momentum: 0.0, weight_decay: 0.0, ..config() };
    let at = || {
        step.run(gpu(), &input, &labels, &config, 0.0, 0).unwrap();
        f64::from(gpu().read::<f32>(&step.loss).unwrap()[0])
    };
    at();
    let grads: Vec<Vec<f32>> = step.grads.iter().map(|g| gpu().read(g).unwrap()).collect();
    assert_eq!((grads.len(), trainer.net.tensors().len()), (names.len(), names.len()));
    for ((tensor, gradient), (name, _)) in trainer.net.tensors().into_iter().zip(&grads).zip(&names) {
        let start: Vec<f32> = gpu().read(tensor).unwrap();
        let norm = dot(gradient, gradient).sqrt();
        assert!(norm > 1e-4, "{name}: a gradient of {norm}");
        let h = 2e-3;
        let moved = |sign: f64| {
            let values =
                start.iter().zip(gradient).map(|(v, g)| (f64::from(*v) + sign * h * f64::from(*g) / norm) as f32);
            gpu().write(tensor, &values.collect::<Vec<f32>>()).unwrap();
            at()
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * h);
        gpu().write(tensor, &start).unwrap();
        // Room for ReLU's kinks, and for the loss's own rounding over 2h.
        let tol = 0.04 * norm + 4e-6 / (2.0 * h);
        assert!((slope - norm).abs() < tol, "{name}: slope {slope}, gradient {norm}");
        assert!((1.15 * slope - norm).abs() > tol, "{name}: a gradient off by a seventh passed");
    }
}

/// Pictures with a colour of their own for each class, and noise, another view in each epoch.
fn picture(label: u32, number: usize, epoch: usize) -> Vec<f32> {
    let size = small().preprocess.size;
    let mut random = Random::new((1000 * epoch + number) as u64);
    (0..3 * size * size)
        .map(|i| if i / (size * size) == label as usize { 1.0 } else { -0.5 } + random.uniform(-0.5, 0.5))
        .collect()
}

struct Stop(usize);

impl Watch for Stop {
    fn begin(&mut self, _: &str, _: usize) {}
    fn at(&mut self, done: usize) -> tipi::Result<()> {
        if done >= self.0 { Err(tipi::Error::Stopped) } else { Ok(()) }
    }
    fn end(&mut self) {}
    fn note(&mut self, _: &str) {}
}

fn trained(config: &Config, kept: Option<&mut Kept>, watch: &mut dyn Watch) -> tipi::Result<(NoiseNet, Vec<f32>)> {
    let labels: Vec<u32> = (0..9).map(|i| i % 3).collect();
    let mut given = |epoch: usize, which: &[usize]| {
        Ok(which.iter().flat_map(|i| picture(*i as u32 % 3, *i, epoch)).collect::<Vec<f32>>())
    };
    pixels::train(small(), &classes(), config, (&labels, &mut given), kept, watch)
}

fn bits(net: &NoiseNet) -> Vec<(String, Vec<u32>)> {
    let all = net.download(gpu()).unwrap();
    all.into_iter().map(|(name, _, values)| (name, values.iter().map(|v| v.to_bits()).collect())).collect()
}

#[test]
fn training_repeats_and_goes_on_to_the_bit() {
    let config = config();
    let (whole, losses) = trained(&config, None, &mut Unwatched).unwrap();
    assert_eq!(losses.len(), 3);
    let again = trained(&config, None, &mut Unwatched).unwrap();
    assert_eq!((bits(&whole), &losses), (bits(&again.0), &again.1), "one seed, one network");
    let (other, _) = trained(&Config { seed: 4, ..config.clone() }, None, &mut Unwatched).unwrap();
    assert_ne!(bits(&whole), bits(&other));
    // Everything has moved, the running statistics among it.
    let fresh = bits(&pixels::fresh(gpu(), &config).unwrap());
    for (before, after) in fresh.iter().zip(bits(&whole)) {
        assert!(before.0 == after.0 && before.1 != after.1, "{} stayed", before.0);
    }

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pini.checkpoint");
    let kept = |resume| {
        let identity = Identity::new("pini", small(), &classes(), &config, "nine pictures".into());
        Kept::new(&path, identity.unwrap(), resume)
    };
    // Two steps an epoch: within one, at its end, and again on the way. A stop takes effect a step late.
    for stops in [&[1, 2, 5][..], &[1, 3]] {
        let mut resume = false;
        for stop in stops {
            let stopped = trained(&config, Some(&mut kept(resume)), &mut Stop(*stop));
            assert!(matches!(stopped.err().unwrap(), tipi::Error::Stopped), "{stops:?}");
            resume = true;
        }
        let (resumed, same) = trained(&config, Some(&mut kept(true)), &mut Unwatched).unwrap();
        assert_eq!((bits(&whole), &losses), (bits(&resumed), &same), "{stops:?}");
    }
    // What is put down is needed: without velocities, or without running statistics, the bits differ.
    let sound = std::fs::read(&path).unwrap();
    for forgotten in ["velocity.", "running."] {
        std::fs::write(&path, without(&sound, forgotten)).unwrap();
        let (resumed, _) = trained(&config, Some(&mut kept(true)), &mut Unwatched).unwrap();
        assert_ne!(bits(&whole), bits(&resumed), "{forgotten}");
    }
}

/// A safetensors file's bytes with zeros in the tensors whose names begin so.
fn without(bytes: &[u8], begins: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let chosen = json.as_object().unwrap().iter().filter(|(name, _)| name.starts_with(begins));
    for (_, tensor) in chosen {
        let at = |i: usize| 8 + header + tensor["data_offsets"][i].as_u64().unwrap() as usize;
        bytes[at(0)..at(1)].fill(0);
    }
    bytes
}

#[test]
fn predictions_depend_on_the_picture_alone() {
    let (clip, config) = (small(), config());
    let (net, _) = trained(&Config { epochs: 1, ..config.clone() }, None, &mut Unwatched).unwrap();
    let (size, d) = (clip.preprocess.size, clip.config.embedding);
    let given: Vec<f32> = (0..5).flat_map(|i| picture(i as u32 % 3, i, 7)).collect();
    let one = 3 * size * size;
    let predictor = |evaluation| PixelPredictor::new(clip, &classes(), &config, net.clone(), evaluation).unwrap();
    let encode = |evaluation, most: usize, pixels: &[f32]| {
        clip.noisy_encoder(most, &predictor(evaluation).noise).unwrap().encode(pixels, &mut |_| {}).unwrap()
    };
    let by = |count| Evaluation::Draws { count, seed: 5 };
    let mean = encode(Evaluation::Mean, 5, &given);
    assert_eq!(mean.len(), 5 * d);
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs()));
    // In a crowd, by two and alone.
    for most in [1, 2] {
        assert!(near(&encode(Evaluation::Mean, most, &given), &mean), "{most} at a time");
    }
    assert!(near(&encode(Evaluation::Mean, 1, &given[one..2 * one]), &mean[d..2 * d]), "alone");
    // At the mean features are those of the picture with the mean added.
    let noise = predictor(Evaluation::Mean).noise;
    let (means, spreads) = noise.of_pixels(clip, &given).unwrap();
    let added: Vec<f32> = given.iter().zip(&means).map(|(x, m)| x + m).collect();
    let plain = clip.image_encoder(5).unwrap();
    let plain = { plain }.encode(&added, &mut |_| {}).unwrap();
    assert!(near(&plain, &mean), "the mean");
    for plane in means.chunks(size * size).chain(spreads.chunks(size * size)) {
        let rms = (dot(plane, plane) / plane.len() as f64).sqrt();
        assert!((rms - 0.1).abs() < 1e-5, "a plane of RMS {rms}");
    }
    assert!(spreads.iter().all(|v| *v >= 0.0));

    // Draws: the first of three is the one of one, and the same for every picture.
    let (single, three) = (encode(by(1), 5, &given), encode(by(3), 5, &given));
    assert_eq!((single.len(), three.len()), (5 * d, 15 * d));
    for (picture, rows) in three.chunks(3 * d).enumerate() {
        let first = &single[picture * d..(picture + 1) * d];
        assert!(near(&rows[..d], first), "draw of picture {picture}");
        assert!(!near(&rows[d..2 * d], first) && !near(&mean[picture * d..(picture + 1) * d], first));
    }
    let twice = [&given[..one], &given[..one]].concat();
    let rows = encode(by(1), 2, &twice);
    assert!(near(&rows[..d], &rows[d..]), "one picture, one answer");

    // Logits: averages are logarithms of mean probabilities.
    let (averaged, drawn) = (predictor(by(3)), predictor(by(1)));
    let logits = averaged.logits(gpu(), &three).unwrap();
    assert_eq!((logits.len(), averaged.width()), (15, 3 * d));
    for (picture, row) in logits.chunks(3).enumerate() {
        let mut want = [0.0f64; 3];
        for draw in three[picture * 3 * d..(picture + 1) * 3 * d].chunks(d) {
            let row = drawn.logits(gpu(), draw).unwrap();
            want.iter_mut().zip(tipi::low_level::adapt::probabilities(&row)).for_each(|(w, p)| *w += p / 3.0);
        }
        for (got, want) in row.iter().zip(want) {
            assert!((f64::from(*got) - want.ln()).abs() < 1e-4, "{got} and {want}");
        }
    }
    let many = Evaluation::Draws { count: 65, seed: 1 };
    let error = PixelPredictor::new(clip, &classes(), &config, net.clone(), many).err().unwrap().to_string();
    assert!(error.contains("average:65") && error.contains("64"), "{error}");
    assert!(drawn.logits(gpu(), &three[..d - 1]).is_err());
}

/// Pictures meet in training, through batch norm, and do not in use; both ways agree where statistics do.
#[test]
fn running_statistics_are_what_predictions_use() {
    let clip = small();
    let net = pixels::fresh(gpu(), &config()).unwrap();
    let size = clip.preprocess.size;
    let given: Vec<f32> = (0..4).flat_map(|i| picture(i as u32 % 3, i, 2)).collect();
    let pixels = gpu().upload("pixels", &given, &[4, 3, size, size]).unwrap();
    let noise = |by: Option<Statistics>| {
        let mut rec = Recorder::new(gpu());
        let raw = match by {
            Some(by) => net.forward_saved(&mut rec, &pixels, by).unwrap().0,
            None => net.infer(&mut rec, &pixels).unwrap(),
        };
        let planes = planes::scale(&mut rec, &raw, 0.1).unwrap().planes;
        drop(raw);
        rec.finish().unwrap().run().unwrap();
        gpu().read::<f32>(&planes).unwrap()
    };
    let (first, batch) = (noise(None), noise(Some(Statistics::Batch)));
    let off = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(off(&first, &batch) > 0.01, "fresh statistics are not the batch's");
    // Many steps on the same pictures bring the running ones to the batch's, but for n − 1 in place of n.
    for _ in 0..120 {
        noise(Some(Statistics::Batch));
    }
    let last = noise(None);
    assert!(off(&last, &batch) < 2e-3, "{}", off(&last, &batch));
    assert_eq!(last, noise(Some(Statistics::Running)));
}

#[test]
fn a_step_needs_no_more_memory_than_it_says() {
    let clip = small();
    let text = gpu().zeros("texts", &[3, clip.config.embedding]).unwrap();
    let trainer = PixelTrainer::new(clip, &text, pixels::fresh(gpu(), &config()).unwrap()).unwrap();
    let bytes = |n| trainer.step(n, 1, true).unwrap().plan.allocated_bytes();
    let (two, four) = (bytes(2), bytes(4));
    assert!(four > two && four < 3 * two, "{two} bytes of two, {four} of four");
    // Unfolded rows are bounded; what grows are the layers: some forty of them, and what is in flight.
    let layer = 4 * 4 * clip.preprocess.size.pow(2) * 6;
    assert!(four < 120 * layer as u64, "{four} bytes, layers of {layer}");
}
