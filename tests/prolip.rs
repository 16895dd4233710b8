//! ProLIP's step against an f64 twin and finite differences, and the features that it starts from.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::OnceLock;

use tipi::low_level::adapt::prolip::{Config, Trainer, train};
use tipi::low_level::adapt::zero_shot::Classifier;
use tipi::low_level::clip::Clip;
use tipi::low_level::data::PythonRandom;
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::kernels::optim::AdamW;
use tipi::low_level::watch::Unwatched;

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap())
}

fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut random = PythonRandom::new(seed);
    (0..n).map(|_| random.uniform(-1.0, 1.0) as f32).collect()
}

fn wide(all: &[f32]) -> Vec<f64> {
    all.iter().map(|v| f64::from(*v)).collect()
}

/// Sizes of a case: pictures, width before and after the projection, classes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    n: usize,
    width: usize,
    d: usize,
    classes: usize,
}

/// Mean cross-entropy of s·normalise(x·Pᵀ + b)·Wᵀ plus λ·‖P − P₀‖².
struct Loss<'a> {
    s: Sizes,
    x: &'a [f64],
    labels: &'a [u32],
    w: &'a [f64],
    bias: Option<&'a [f64]>,
    start: &'a [f64],
    scale: f64,
    penalty: f64,
}

impl Loss<'_> {
    fn at(&self, p: &[f64]) -> f64 {
        let Sizes { n, width, d, classes } = self.s;
        let mut sum = 0.0;
        for i in 0..n {
            let v: Vec<f64> = (0..d)
                .map(|o| {
                    let dot: f64 = (0..width).map(|k| self.x[i * width + k] * p[o * width + k]).sum();
                    dot + self.bias.map_or(0.0, |bias| bias[o])
                })
                .collect();
            let length = v.iter().map(|v| v * v).sum::<f64>().sqrt();
            let logits: Vec<f64> = (0..classes)
                .map(|c| self.scale * (0..d).map(|o| v[o] / length * self.w[c * d + o]).sum::<f64>())
                .collect();
            let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let all: f64 = logits.iter().map(|z| (z - top).exp()).sum();
            sum += all.ln() + top - logits[self.labels[i] as usize];
        }
        let away: f64 = p.iter().zip(self.start).map(|(p, s)| (p - s).powi(2)).sum();
        sum / n as f64 + self.penalty * away
    }

    fn slope(&self, p: &[f64], i: usize) -> f64 {
        let h = 1e-6;
        let moved = |by: f64| {
            let mut p = p.to_vec();
            p[i] += by;
            self.at(&p)
        };
        (moved(h) - moved(-h)) / (2.0 * h)
    }
}

#[test]
fn the_gradient_is_the_slope_and_the_step_is_adams() {
    for (s, with_bias) in [
        (Sizes { n: 3, width: 7, d: 5, classes: 4 }, false),
        (Sizes { n: 5, width: 9, d: 13, classes: 3 }, true),
        (Sizes { n: 1, width: 33, d: 6, classes: 2 }, true),
    ] {
        let (penalty, scale) = (0.3, 9.0);
        let x = random(1, s.n * s.width);
        let start = random(2, s.d * s.width);
        let bias = random(3, s.d);
        let labels: Vec<u32> = (0..s.n).map(|i| (i * 2 % s.classes) as u32).collect();
        let w: Vec<f32> = random(4, s.classes * s.d)
            .chunks(s.d)
            .flat_map(|row| {
                let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
                row.iter().map(move |v| v / length).collect::<Vec<f32>>()
            })
            .collect();
        let classifier = Classifier::from_weights(gpu(), &w, s.classes, scale).unwrap();
        let bias_of = with_bias.then_some(&bias[..]);
        let trainer = Trainer::new(gpu(), &classifier, (&start, bias_of), s.width, penalty).unwrap();
        // Away from the start, where the penalty has no slope.
        let p = random(5, s.d * s.width);
        gpu().write(&trainer.projection.weight, &p).unwrap();
        let step = trainer.step(s.n).unwrap();
        let optimizer = AdamW { eps: 1e-4, weight_decay: 0.0, ..AdamW::new(1e-3) };
        trainer.run(&step, &x, &labels, optimizer, 1).unwrap();
        let got = gpu().read::<f32>(&step.grad).unwrap();
        let (x, start, w, bias) = (wide(&x), wide(&start), wide(&w), wide(&bias));
        let loss = Loss {
            s,
            x: &x,
            labels: &labels,
            w: &w,
            bias: with_bias.then_some(&bias[..]),
            start: &start,
            scale: f64::from(scale),
            penalty,
        };
        let p64 = wide(&p);
        let slopes: Vec<f64> = (0..p.len()).map(|i| loss.slope(&p64, i)).collect();
        let top = slopes.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
        let off =
            |got: &[f32]| got.iter().zip(&slopes).fold(0.0, |m: f64, (g, w)| m.max((f64::from(*g) - w).abs())) / top;
        assert!(off(&got) < 2e-5, "{s:?}: {}", off(&got));
        // Half the penalty, or none, would be noticed.
        let half: Vec<f32> = got
            .iter()
            .zip(p.iter().zip(&start))
            .map(|(g, (p, s))| g - (penalty * (f64::from(*p) - s)) as f32)
            .collect();
        assert!(off(&half) > 1e-3, "{s:?}: half the penalty passed");
        let cross = loss.at(&p64) - penalty * p64.iter().zip(&start).map(|(p, s)| (p - s).powi(2)).sum::<f64>();
        assert!((f64::from(gpu().read::<f32>(&step.loss).unwrap()[0]) / cross - 1.0).abs() < 1e-5, "{s:?}");
        // Adam's first step goes lr·g/(|g| + eps), whatever its moments.
        let after = gpu().read::<f32>(&trainer.projection.weight).unwrap();
        for ((after, before), slope) in after.iter().zip(&p64).zip(&slopes) {
            let want = before - 1e-3 * slope / (slope.abs() + 1e-4);
            assert!((f64::from(*after) - want).abs() < 2e-6, "{s:?}: {after} and {want}");
        }
    }
}

fn clips() -> Vec<Clip> {
    let folder = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let picto = folder("weights/picto");
    vec![
        Clip::load(gpu(), &picto).unwrap(),
        Clip::load_as(gpu(), &picto, Precision::F16).unwrap(),
        Clip::load_as(gpu(), &picto, Precision::Int8).unwrap(),
        Clip::load(gpu(), &folder("tests/golden/model_a")).unwrap(),
        Clip::load(gpu(), &folder("tests/fixtures/towers/openai-rn")).unwrap(),
    ]
}

/// What the projection is said to be makes the model's features of those before it, for ViTs and ResNets, in every
/// precision.
#[test]
fn features_before_the_projection_become_the_models_own_by_it() {
    for clip in clips() {
        let n = 3;
        let pixels = random(6, n * 3 * clip.preprocess.size.pow(2));
        let own = clip.image_encoder(n).unwrap().encode(&pixels, &mut |_| {}).unwrap();
        let mut encoder = clip.unprojected_encoder(n).unwrap();
        let x = encoder.encode(&pixels, &mut |_| {}).unwrap();
        let projection = clip.image.projection(gpu()).unwrap();
        let (width, d) = (projection.width, clip.config.embedding);
        assert_eq!((encoder.width(), x.len(), projection.weight.len()), (width, n * width, d * width));
        let top = own.iter().fold(0f64, |m, v| m.max(f64::from(v.abs())));
        for (i, row) in x.chunks(width).enumerate() {
            for o in 0..d {
                let dot: f64 = row.iter().zip(&projection.weight[o * width..]).map(|(x, p)| f64::from(x * p)).sum();
                let want = dot + projection.bias.as_ref().map_or(0.0, |bias| f64::from(bias[o]));
                let got = f64::from(own[i * d + o]);
                assert!((got - want).abs() < 2e-3 * top, "picture {i}, {o}: {got} and {want}");
            }
        }
    }
}

#[test]
fn training_lowers_the_loss_and_the_penalty_holds_it_back() {
    let clip = &clips()[0];
    let classes: Vec<String> = ["apple", "bell", "fish"].map(String::from).to_vec();
    let classifier = Classifier::new(clip, &classes, &["an icon of {}".to_string()]).unwrap();
    let own = clip.image.projection(gpu()).unwrap();
    let labels: Vec<u32> = (0..6).map(|i| i % 3).collect();
    let x = random(7, labels.len() * own.width);
    let moved = |penalty: f64| {
        let config = Config { lr: 1e-3, penalty, epochs: 40, ..Config::paper(2, 1) };
        let mut source = |_: usize| Ok(x.clone());
        let (projection, losses) =
            train(clip, &classifier, &config, (&labels, &mut source), None, &mut Unwatched).unwrap();
        let after = gpu().read::<f32>(&projection.weight).unwrap();
        let away = after.iter().zip(&own.weight).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        (away, losses)
    };
    let (free, losses) = moved(0.0);
    assert!(losses.len() == 40 && losses[39] < 0.8 * losses[0], "{losses:?}");
    let (held, _) = moved(10.0);
    assert!(held < 0.5 * free, "{held} with the penalty, {free} without");
    let none = Config { penalty: -1.0, ..Config::paper(2, 1) };
    let mut source = |_: usize| Ok(x.clone());
    let error = train(clip, &classifier, &none, (&labels, &mut source), None, &mut Unwatched).err().unwrap();
    assert!(error.to_string().contains("penalty"), "{error}");
}
