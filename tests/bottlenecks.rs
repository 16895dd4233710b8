//! The corrected image tower: gradients of its bottlenecks against finite differences, and what training them computes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;
use std::sync::OnceLock;

use tipi::low_level::adapt::Place;
use tipi::low_level::adapt::overlap::{self, Config, Correction, Dropout, Generic, Trainer};
use tipi::low_level::clip::{Clip, ImageConfig, TowerConfig};
use tipi::low_level::data::{Item, list_pictures};
use tipi::low_level::gpu::{DeviceOptions, Gpu, Recorder, Tensor};
use tipi::low_level::kernels::activation::Activation;
use tipi::low_level::kernels::attention::Pattern;
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::kernels::optim::AdamW;
use tipi::low_level::nn::{
    Block, Bottleneck, FrozenLinear, Hidden, LayerNorm, Norms, Picked, TrainableLinear, Transformer,
};
use tipi::low_level::watch::{Unwatched, Watch};
use tipi_testing::twins;
use twins::tower::{Branch, Frozen, Sizes};
use twins::{Random, widen};

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        Gpu::open(&DeviceOptions { checked: Some(true), tune: Some(false), ..DeviceOptions::default() }).unwrap()
    })
}

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn up(x: &[f32], shape: &[usize]) -> Tensor {
    gpu().upload("test", x, shape).unwrap()
}

/// A tower's weights for both sides.
struct Weights {
    frozen: Frozen<f32>,
    bottleneck: Branch<f32>,
}

fn draw(random: &mut Random, s: Sizes) -> Weights {
    let (w, m, b) = (s.width, s.mlp, s.bottleneck);
    let mut v = |n: usize, size: f64| random.vector_in(n, -size, size);
    let frozen = Frozen {
        gain1: v(w, 0.3).iter().map(|g| g + 1.0).collect(),
        shift1: v(w, 0.2),
        qkv: v(3 * w * w, 0.5),
        qkv_bias: v(3 * w, 0.2),
        out: v(w * w, 0.4),
        out_bias: v(w, 0.2),
        gain2: v(w, 0.3).iter().map(|g| g + 1.0).collect(),
        shift2: v(w, 0.2),
        up: v(m * w, 0.4),
        up_bias: v(m, 0.2),
        down: v(w * m, 0.3),
        down_bias: v(w, 0.2),
    };
    Weights { frozen, bottleneck: [v(b * w, 0.5), v(b, 0.3), v(w * b, 0.5), v(w, 0.3)] }
}

fn block(f: &Frozen<f32>, s: Sizes) -> Block {
    let norm =
        |gain: &[f32], shift: &[f32]| LayerNorm { gain: up(gain, &[s.width]), shift: up(shift, &[s.width]), eps: 1e-5 };
    let linear =
        |w: &[f32], b: &[f32], input| FrozenLinear { weight: up(w, &[b.len(), input]), bias: Some(up(b, &[b.len()])) };
    Block {
        ln1: norm(&f.gain1, &f.shift1),
        qkv: linear(&f.qkv, &f.qkv_bias, s.width),
        mixed: None,
        out: linear(&f.out, &f.out_bias, s.width),
        ln2: norm(&f.gain2, &f.shift2),
        up: linear(&f.up, &f.up_bias, s.width),
        hidden: None,
        down: linear(&f.down, &f.down_bias, s.mlp),
    }
}

fn wide(f: &Frozen<f32>) -> Frozen<f64> {
    Frozen {
        gain1: widen(&f.gain1),
        shift1: widen(&f.shift1),
        qkv: widen(&f.qkv),
        qkv_bias: widen(&f.qkv_bias),
        out: widen(&f.out),
        out_bias: widen(&f.out_bias),
        gain2: widen(&f.gain2),
        shift2: widen(&f.shift2),
        up: widen(&f.up),
        up_bias: widen(&f.up_bias),
        down: widen(&f.down),
        down_bias: widen(&f.down_bias),
    }
}

/// The sizes of a model's vision transformer.
fn vit(clip: &Clip) -> &TowerConfig {
    match &clip.config.image {
        ImageConfig::Vit(vit) => &vit.tower,
        ImageConfig::ResNet(_) => panic!("a ResNet"),
    }
}

/// Five and seven tokens, with and without dropout, up to three blocks: each gradient of each bottleneck is the slope of an
/// f64 tower made of the twins.
#[test]
fn gradients_are_the_slopes_of_the_tower() {
    let mut random = Random::new(41);
    for (layers, s, dropped, all_rows) in [
        (1, Sizes { width: 6, heads: 2, mlp: 7, bottleneck: 3, batch: 2, tokens: 5 }, false, false),
        (2, Sizes { width: 12, heads: 3, mlp: 9, bottleneck: 5, batch: 3, tokens: 5 }, true, false),
        (2, Sizes { width: 8, heads: 2, mlp: 5, bottleneck: 3, batch: 2, tokens: 6 }, true, true),
        (3, Sizes { width: 10, heads: 1, mlp: 13, bottleneck: 4, batch: 1, tokens: 7 }, false, false),
    ] {
        let rows = s.batch * s.tokens;
        // The rows that the loss looks at: all, or the first of each picture and one more.
        let picked: Vec<u32> = match all_rows {
            true => (0..rows as u32).collect(),
            false => (0..s.batch).map(|b| (b * s.tokens) as u32).chain([3]).collect(),
        };
        let of_picked = |x: &[f64]| -> Vec<f64> {
            picked.iter().flat_map(|r| &x[*r as usize * s.width..(*r as usize + 1) * s.width]).copied().collect()
        };
        let weights: Vec<Weights> = (0..layers).map(|_| draw(&mut random, s)).collect();
        let (x, dy) = (random.vector(rows * s.width), random.vector(picked.len() * s.width));
        let masks: Vec<Vec<f32>> = (0..layers)
            .map(|_| (0..rows * s.bottleneck).map(|_| if random.below(4) == 0 { 0.0 } else { 4.0 / 3.0 }).collect())
            .collect();
        let scale = 0.7;

        let tower = Transformer {
            blocks: weights.iter().map(|w| block(&w.frozen, s)).collect(),
            heads: s.heads,
            hidden: Hidden::Activated(Activation::Gelu),
            angles: None,
            norms: Norms::Before,
        };
        let linear =
            |w: &[f32], b: &[f32], input| TrainableLinear { weight: up(w, &[b.len(), input]), bias: up(b, &[b.len()]) };
        let bottlenecks: Vec<Bottleneck> = weights
            .iter()
            .map(|w| {
                let [dw, db, uw, ub] = &w.bottleneck;
                Bottleneck { down: linear(dw, db, s.width), up: linear(uw, ub, s.bottleneck), scale }
            })
            .collect();
        let masks_g: Vec<Tensor> =
            if dropped { masks.iter().map(|m| up(m, &[rows, s.bottleneck])).collect() } else { Vec::new() };
        let pattern = Pattern::uniform(gpu(), s.batch, s.tokens, false).unwrap();
        let (x_g, dy_g) = (up(&x, &[rows, s.width]), up(&dy, &[picked.len(), s.width]));
        let wanted = Picked::new(gpu(), &picked, rows).unwrap();
        let mut rec = Recorder::new(gpu());
        let (y, saved) = tower.forward_adapted(&mut rec, x_g, &pattern, Some(&wanted), &bottlenecks, &masks_g).unwrap();
        let grads = tower.backward_adapted(&mut rec, dy_g, saved, &pattern, &bottlenecks).unwrap();
        rec.finish().unwrap().run().unwrap();

        let frozen: Vec<Frozen<f64>> = weights.iter().map(|w| wide(&w.frozen)).collect();
        let all: Vec<Branch<f64>> =
            weights.iter().map(|w| [0, 1, 2, 3].map(|i| widen::<f64>(&w.bottleneck[i]))).collect();
        let masks_t: Vec<Vec<f64>> = masks.iter().map(|m| widen(m)).collect();
        let masks_t = dropped.then_some(&masks_t[..]);
        let forward =
            |all: &[Branch<f64>]| of_picked(&twins::tower::forward(&widen::<f64>(&x), &frozen, all, masks_t, scale, s));
        let what = format!("{layers} blocks, {s:?}");
        let close = |got: &[f32], want: &[f64]| {
            let top = want.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
            got.len() == want.len()
                && got.iter().zip(want).all(|(g, w)| (f64::from(*g) - w).abs() <= 2e-5 * (top + 0.01))
        };
        let want = forward(&all);
        assert!(close(&gpu().read(&y).unwrap(), &want), "{what}: forward");
        for (i, grads) in grads.iter().enumerate() {
            let tensors = [&grads.down.weight, &grads.down.bias, &grads.up.weight, &grads.up.bias];
            for (part, tensor) in tensors.into_iter().enumerate() {
                let name = format!("{what}, block {i}, part {part}");
                let f = |v: &[f64]| {
                    let mut moved = all.clone();
                    moved[i][part] = v.to_vec();
                    forward(&moved)
                };
                let slopes = twins::slopes(&name, f, &all[i][part], &widen::<f64>(&dy));
                let got = gpu().read::<f32>(tensor).unwrap();
                assert!(close(&got, &slopes), "{name}: {got:?}, by differences {slopes:?}");
                // The comparison sees a thousandth, and a gradient without the branch's factor.
                let largest = (0..got.len()).max_by(|a, b| got[*a].abs().total_cmp(&got[*b].abs())).unwrap();
                let mut wrong = got.clone();
                wrong[largest] *= 1.001;
                assert!(!close(&wrong, &slopes), "{name}: a planted error passed");
                let unscaled: Vec<f32> = got.iter().map(|g| g / scale).collect();
                assert!(!close(&unscaled, &slopes), "{name}: no factor passed");
            }
        }
    }
}

/// The whole way from pixels to the loss, on a tower with 17 tokens: the loss rises along its gradient as fast as the
/// gradient says.
#[test]
fn the_loss_follows_its_gradient_on_an_odd_number_of_tokens() {
    let clip = Clip::load(gpu(), &folder("tests/golden/model_a")).unwrap();
    assert_eq!(clip.image.vit().unwrap().picture_tokens() % 2, 1);
    follows_its_gradient("model_a", &clip);
}

/// The same on towers with other parts: rotary positions, gates, norms within, means, attention pooling, no projection.
#[test]
fn the_loss_follows_its_gradient_in_every_family() {
    for name in
        ["timm-eva02", "timm-eva02-e", "timm-pe-core", "timm-siglip2", "timm-mean", "openclip-clipa", "hf-siglip"]
    {
        let clip = tipi_testing::load(gpu(), &folder("tests/fixtures/towers").join(name), Precision::F32);
        follows_its_gradient(name, &clip);
    }
}

fn follows_its_gradient(family: &str, clip: &Clip) {
    let config = Config { bottleneck: 20, scale: 0.5, ..Config::paper(3) };
    let mut random = Random::new(42);
    let start = Correction::init(clip, &config).unwrap().download(gpu()).unwrap();
    // Away from the start, where `up` is zero and so are half of the gradients.
    let values: Vec<Vec<f32>> =
        start.iter().map(|v| v.iter().map(|x| x + random.uniform(-0.2, 0.2)).collect()).collect();
    let (n, classes) = (3, 5);
    let pixels = random.vector(n * 3 * clip.preprocess.size.pow(2));
    let labels = [4, 0, 2];
    let head = || Trainer::fresh_head(clip, classes, 9).unwrap();
    let width = clip.image.vit().unwrap().width();
    let at = |values: &[Vec<f32>]| {
        let correction = Correction::upload(gpu(), values, width, 20, 0.5).unwrap();
        let trainer = Trainer::new(clip, correction, head()).unwrap();
        let step = trainer.step(n, Dropout::Off).unwrap();
        trainer.run(&step, (&pixels, &labels), (1.0, true), (0, 0)).unwrap();
        let grads: Vec<Vec<f32>> = step.grads.iter().map(|g| gpu().read(g).unwrap()).collect();
        (f64::from(gpu().read::<f32>(&step.loss).unwrap()[0]), grads)
    };
    let (_, grads) = at(&values);
    for (i, name) in overlap::parameter_names(clip.image.vit().unwrap().transformer.blocks.len()).iter().enumerate() {
        let name = format!("{family}, {name}");
        // Along the gradient of this tensor alone.
        let norm = grads[i].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        assert!(norm > 1e-4, "{name}: a gradient of {norm}");
        let h = 0.004;
        let moved = |sign: f64| {
            let mut all = values.clone();
            for (v, g) in all[i].iter_mut().zip(&grads[i]) {
                *v = (f64::from(*v) + sign * h * f64::from(*g) / norm) as f32;
            }
            at(&all).0
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * h);
        // Room for ReLU's kinks, and for the loss's own rounding (2e-7) over 2h.
        let tol = 0.02 * norm + 2e-7 / (2.0 * h);
        assert!((slope - norm).abs() < tol, "{name}: slope {slope}, gradient {norm}");
        assert!((1.05 * slope - norm).abs() > tol, "{name}: a gradient off by a twentieth passed");
    }
}

/// Collects the losses that are shown.
struct Losses(Vec<f32>);

impl Watch for Losses {
    fn begin(&mut self, _: &str, _: usize) {}
    fn at(&mut self, _: usize) -> tipi::Result<()> {
        Ok(())
    }
    fn show(&mut self, text: &str) {
        self.0.push(text.rsplit(' ').next().unwrap().parse().unwrap());
    }
    fn end(&mut self) {}
    fn note(&mut self, _: &str) {}
}

fn picto() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| Clip::load(gpu(), &folder("weights/picto")).unwrap())
}

#[test]
fn a_fresh_correction_changes_nothing_and_shares_the_first_block() {
    let clip = picto();
    let correction = Correction::init(clip, &Config::paper(1)).unwrap();
    let n = 3;
    let pixels = Random::new(43).vector(n * 3 * clip.preprocess.size.pow(2));
    let mut encoder = clip.image_encoder_with(n, Some(&correction.blocks)).unwrap();
    let both = encoder.encode_all(&pixels, &mut |_| {}).unwrap();
    let (plain, adapted) = (&both.original, both.adapted.as_ref().unwrap());
    let top = plain.iter().fold(0f32, |m, v| m.max(v.abs()));
    assert!(plain.iter().zip(adapted).all(|(a, b)| (a - b).abs() < 1e-5 * top));
    let alone = clip.image.plan(n).unwrap().plan;
    let both = clip.image.plan_with(n, Some(&correction.blocks)).unwrap().plan;
    // Attention runs once for the first block and twice for each other: the first is shared.
    let count = |plan: &tipi::low_level::gpu::Plan, label: &str| plan.labels().iter().filter(|l| **l == label).count();
    let blocks = clip.image.vit().unwrap().transformer.blocks.len();
    assert_eq!((count(&alone, "attention"), count(&both, "attention")), (blocks, 2 * blocks - 1));
    assert!(both.flops() < 2.0 * alone.flops(), "{} of {}", both.flops(), alone.flops());
}

#[test]
fn training_computes_no_gradient_of_the_tower_and_stops_at_the_first_bottleneck() {
    let clip = picto();
    let config = Config::paper(1);
    let trainer =
        Trainer::new(clip, Correction::init(clip, &config).unwrap(), Trainer::fresh_head(clip, 7, 1).unwrap()).unwrap();
    let step = trainer.step(4, Dropout::Drawn(0.1)).unwrap();
    let count = |label: &str| step.plan.labels().iter().filter(|l| **l == label).count();
    let blocks = clip.image.vit().unwrap().transformer.blocks.len();
    // Weight gradients: two per bottleneck and the head's.
    assert_eq!(count("gemm tn"), 2 * blocks + 1);
    // Backward through attention: every block but the first.
    assert_eq!(count("attention dq"), blocks - 1);
    // dX: projection, head, four frozen layers and two of the bottleneck in each block but the first, where the bottleneck's
    // hidden layer is all.
    assert_eq!(count("gemm nn"), 2 + 6 * (blocks - 1) + 1);
    assert_eq!(count("dropout"), blocks);

    // What is kept: in each block but the first the inputs of its two norms with their statistics, queries, keys and
    // values, the attention's output and log-sums and the MLP before its activation; in each block the bottleneck's input
    // and hidden layer before and after its ReLU. The inputs of frozen layers (two norms' outputs and the activated MLP,
    // 6·width) would be 40 % more.
    let (rows, width, mlp) =
        (4 * clip.image.vit().unwrap().picture_tokens(), clip.image.vit().unwrap().width(), vit(clip).mlp);
    let frozen = 6 * width + mlp + vit(clip).heads + 4;
    let branch = 2 * config.bottleneck;
    let kept = 4 * rows * ((blocks - 1) * frozen + blocks * branch + width);
    let grads: usize = step.grads.iter().map(|g| g.len() * 4).sum();
    // One block's temporaries in flight, and pools that take up to twice what is asked.
    let flying = 4 * rows * (3 * mlp + 6 * width);
    let most = kept + grads + flying;
    let planned = step.plan.allocated_bytes() as usize;
    println!("{planned} bytes planned, {kept} kept, {grads} of gradients, bound {most}");
    assert!(planned < most, "{planned} bytes planned, {most} expected at most");
    let more = 4 * rows * (blocks - 1) * (2 * width + mlp);
    assert!(planned + more > most, "the bound would not notice {more} bytes of saved inputs");
}

#[test]
fn training_learns_and_repeats_bit_by_bit() {
    let clip = picto();
    let size = 3 * clip.preprocess.size.pow(2);
    let classes = 4;
    let labels: Vec<u32> = (0..22).map(|i| i % classes).collect();
    // Each class has a colour of its own, and each picture noise.
    let mut random = Random::new(44);
    let colour = |class: u32, i: usize| if i / (size / 3) == class as usize { 1.5 } else { -1.0 };
    let patterns: Vec<Vec<f32>> = (0..classes).map(|c| (0..size).map(|i| colour(c, i)).collect()).collect();
    let pictures: Vec<Vec<f32>> =
        labels.iter().map(|l| patterns[*l as usize].iter().map(|p| p + random.uniform(-0.5, 0.5)).collect()).collect();
    let config = Config { batch: 8, micro_batch: 3, epochs: 6, bottleneck: 16, lr: 4e-3, ..Config::paper(5) };
    let train = |config: &Config| {
        let mut pixels = |_: usize, which: &[usize]| Ok(which.iter().flat_map(|i| pictures[*i].clone()).collect());
        let mut watch = Losses(Vec::new());
        let trained = overlap::train(clip, classes as usize, config, (&labels, &mut pixels), None, &mut watch);
        (trained.unwrap().0.download(gpu()).unwrap(), watch.0)
    };
    let (first, losses) = train(&config);
    assert_eq!(losses.len(), 18);
    assert!(losses[17] < 0.5 * losses[0], "{losses:?}");
    let (second, _) = train(&config);
    assert_eq!(first, second, "one seed, one correction");
    let (other, _) = train(&Config { seed: 6, ..config.clone() });
    assert_ne!(first, other);

    let bad = |config: Config, needle: &str| {
        let mut none = |_: usize, _: &[usize]| Ok(Vec::new());
        let error = overlap::train(clip, classes as usize, &config, (&labels, &mut none), None, &mut Unwatched);
        let error = error.map(|_| ());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(needle), "{error}");
    };
    bad(Config { batch: 0, ..config.clone() }, "batch");
    bad(Config { bottleneck: 0, ..config.clone() }, "bottleneck");
    bad(config.clone(), "0 values");
    let mut none = |_: usize, _: &[usize]| Ok(Vec::new());
    let error = overlap::train(clip, 3, &config, (&labels, &mut none), None, &mut Unwatched).err().unwrap().to_string();
    assert!(error.contains("label 3") && error.contains("3 classes"), "{error}");
    let step = AdamW::new(1.0);
    assert_eq!(step.hyper(1)[1], 10.0, "at the first step the rate is over 1 − β1");
}

/// Stops after so many steps.
struct Stop(usize);

impl Watch for Stop {
    fn begin(&mut self, _: &str, _: usize) {}
    fn at(&mut self, _: usize) -> tipi::Result<()> {
        self.0 = self.0.checked_sub(1).ok_or(tipi::Error::Stopped)?;
        Ok(())
    }
    fn end(&mut self) {}
    fn note(&mut self, _: &str) {}
}

/// A list of which nothing is read but for its step trains as one that was looked through before, goes on after a stop within its
/// one epoch, and leaves out what cannot be decoded.
#[test]
fn a_list_that_streams_trains_as_one_that_was_looked_through() {
    let dir = tempfile::tempdir().unwrap();
    let mut items = Vec::new();
    for (i, path) in list_pictures(&folder("examples/pictos/shifted")).unwrap().into_iter().take(9).enumerate() {
        let copy = dir.path().join(format!("{i}.png"));
        std::fs::copy(path, &copy).unwrap();
        items.push(Item { path: copy, label: i % 3 });
    }
    let names: Vec<String> = ["a", "b", "c"].map(String::from).into();
    let config = Config { batch: 2, micro_batch: 2, bottleneck: 4, ..Config::paper(1) };
    let stream = |items: &[Item], strict, place, watch: &mut dyn Watch| {
        let (correction, _) =
            overlap::learn_streaming(picto(), Generic::of_files(items, &names), (&config, strict), place, watch)?;
        correction.download(gpu())
    };
    let (whole, _) = overlap::learn(picto(), Generic::of_files(&items, &names), &config, None, &mut Unwatched).unwrap();
    let whole = whole.download(gpu()).unwrap();
    assert!(stream(&items, true, None, &mut Unwatched).unwrap() == whole);

    let path = dir.path().join("state");
    let place = |resume| Some(Place { path: path.clone(), resume });
    assert!(matches!(stream(&items, true, place(false), &mut Stop(1)), Err(tipi::Error::Stopped)));
    assert!(matches!(stream(&items, true, place(true), &mut Stop(0)), Err(tipi::Error::Stopped)));
    let kept = std::fs::read(&path).unwrap();
    assert!(stream(&items, true, place(true), &mut Unwatched).unwrap() == whole, "other bits after two stops");
    // A file that was written anew since is another list's, though its pixels are the same.
    std::fs::write(&path, &kept).unwrap();
    let time = std::fs::File::options().append(true).open(&items[4].path).unwrap();
    time.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
    let error = stream(&items, true, place(true), &mut Unwatched).unwrap_err().to_string();
    assert!(error.contains("other pictures"), "{error}");

    std::fs::write(&items[4].path, "no picture").unwrap();
    let less = stream(&items, false, None, &mut Unwatched).unwrap();
    assert!(less != whole && less == stream(&items, false, None, &mut Unwatched).unwrap());
    let error = stream(&items, true, None, &mut Unwatched).unwrap_err().to_string();
    assert!(error.contains("4.png"), "{error}");
    let broken = vec![items[4].clone(), Item { label: 1, ..items[4].clone() }];
    let error = stream(&broken, false, None, &mut Unwatched).unwrap_err().to_string();
    assert!(error.contains("none of the 2 pictures"), "{error}");
}
