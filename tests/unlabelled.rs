//! The correction trained without labels: gradients of the whole step, what it computes, equal bits, and what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tipi::low_level::adapt::Place;
use tipi::low_level::adapt::dino::{self, Moment, SelfSupervised, Trainer};
use tipi::low_level::adapt::overlap::{self, Config, Correction, Generic};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::{Augment, Item, Rgb, Shelf, list_pictures};
use tipi::low_level::encode::{self, Crops};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::watch::{Unwatched, Watch};
use tipi::{CorrectionOptions, Error, Examples, Model, Picture, SelfSupervision};
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

fn picto() -> &'static Clip {
    static CLIP: OnceLock<Clip> = OnceLock::new();
    CLIP.get_or_init(|| Clip::load(gpu(), &folder("weights/picto")).unwrap())
}

/// A head small enough for a test, with odd sizes.
fn small() -> SelfSupervised {
    SelfSupervised { head: 37, hidden: 12, narrow: 5, local_crops: 3, ..SelfSupervised::default() }
}

fn config() -> Config {
    Config {
        bottleneck: 8,
        batch: 4,
        micro_batch: 3,
        epochs: 3,
        lr: 2e-3,
        self_supervised: Some(small()),
        ..Config::without_labels(5, 4)
    }
}

const NOW: Moment = Moment { rate: 1e-3, decay: 0.04, momentum: 0.9, temperature: 0.05 };

/// Pixels of a step's crops without a pattern.
fn noise(clip: &Clip, n: usize, settings: &SelfSupervised, seed: u64) -> Vec<Vec<f32>> {
    let local = clip.image.vit().unwrap().local_side().unwrap();
    let mut random = Random::new(seed);
    [(2 * n, clip.preprocess.size), (settings.local_crops * n, local)]
        .map(|(crops, side)| random.vector(crops * 3 * side * side))
        .into()
}

/// The loss rises along the gradient of each of the student's tensors as fast as the gradient says, with a teacher of its own; in
/// towers of 17 tokens (local crops of 5), and of one block.
#[test]
fn the_loss_follows_the_students_gradient() {
    for name in ["tests/golden/model_a", "weights/picto"] {
        let clip = Clip::load(gpu(), &folder(name)).unwrap();
        let (n, settings) = (3, small());
        let pixels = noise(&clip, n, &settings, 43);
        let config = Config { bottleneck: 7, scale: 0.5, ..config() };
        let mut random = Random::new(42);
        let start = Correction::init(&clip, &config).unwrap().download(gpu()).unwrap();
        // Away from the start, where `up` is zero and so are half of the gradients.
        let mut moved = |size: f64| -> Vec<Vec<f32>> {
            start.iter().map(|v| v.iter().map(|x| x + random.uniform(-size, size)).collect()).collect()
        };
        let (values, teacher) = (moved(0.2), moved(0.3));
        let width = clip.image.vit().unwrap().width();
        let upload = |values: &[Vec<f32>]| Correction::upload(gpu(), values, width, 7, 0.5).unwrap();
        let at = |values: &[Vec<f32>]| {
            let fresh = Trainer::fresh(&clip, &config, &settings).unwrap();
            let trainer = Trainer::new(&clip, [upload(values), upload(&teacher)], fresh.head, &settings).unwrap();
            let step = trainer.step(n).unwrap();
            trainer.run(&step, &pixels, (1.0, true), &NOW).unwrap();
            let grads: Vec<Vec<f32>> = step.grads.iter().map(|g| gpu().read(g).unwrap()).collect();
            (f64::from(gpu().read::<f32>(&step.loss).unwrap()[0]), grads)
        };
        let (_, grads) = at(&values);
        for (i, part) in overlap::parameter_names(clip.image.vit().unwrap().transformer.blocks.len()).iter().enumerate()
        {
            let norm = grads[i].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
            assert!(norm > 1e-5, "{name}, {part}: a gradient of {norm}");
            // Short where the gradient is large: the loss bends, and ReLUs have kinks.
            let h = (2e-3 / norm).clamp(1e-3, 1e-2);
            let moved = |sign: f64| {
                let mut all = values.clone();
                for (v, g) in all[i].iter_mut().zip(&grads[i]) {
                    *v = (f64::from(*v) + sign * h * f64::from(*g) / norm) as f32;
                }
                at(&all).0
            };
            let slope = (moved(1.0) - moved(-1.0)) / (2.0 * h);
            // Room for ReLU's kinks, and for the loss's own rounding (4e-7) over 2h.
            let tol = 0.02 * norm + 4e-7 / (2.0 * h);
            assert!((slope - norm).abs() < tol, "{name}, {part}: slope {slope}, gradient {norm}");
            assert!((1.2 * slope - norm).abs() > tol, "{name}, {part}: a gradient off by a fifth passed");
        }
    }
}

/// Student and teacher share all below the first bottleneck; the teacher has no backward.
#[test]
fn what_is_common_is_computed_once() {
    let (clip, settings) = (picto(), small());
    let trainer = Trainer::fresh(clip, &config(), &settings).unwrap();
    let step = trainer.step(2).unwrap();
    let count = |label: &str| step.plan.labels().iter().filter(|l| **l == label).count();
    let blocks = clip.image.vit().unwrap().transformer.blocks.len();
    assert_eq!(count("patch unfold"), 2);
    assert_eq!(count("attention"), 2 * blocks - 1);
    assert_eq!(count("attention dq"), blocks - 1);
    // Weights' gradients: two of each of the student's bottlenecks, none of the head.
    assert_eq!(count("gemm tn"), 2 * blocks);
}

/// A batch in parts gives the same student, up to rounding; a teacher that equals its student is told what it says itself.
#[test]
fn parts_of_a_batch_add_up() {
    let (clip, settings) = (picto(), small());
    let n = 5;
    let whole = noise(clip, n, &settings, 47);
    let views = [2, settings.local_crops];
    let grads = |parts: &[std::ops::Range<usize>]| {
        let trainer = Trainer::fresh(clip, &config(), &settings).unwrap();
        for pictures in parts {
            let of = |(values, views): (&Vec<f32>, usize)| -> Vec<f32> {
                let one = values.len() / (views * n);
                (0..views)
                    .flat_map(|v| &values[(v * n + pictures.start) * one..(v * n + pictures.end) * one])
                    .copied()
                    .collect()
            };
            let pixels: Vec<Vec<f32>> = whole.iter().zip(views).map(of).collect();
            let step = trainer.step(pictures.len()).unwrap();
            let share = pictures.len() as f32 / n as f32;
            trainer.run(&step, &pixels, (share, pictures.start == 0), &NOW).unwrap();
        }
        trainer.update(&NOW, 1).unwrap();
        let all: Vec<f32> = trainer.sums.iter().flat_map(|sum| gpu().read::<f32>(sum).unwrap()).collect();
        (all, gpu().read::<f32>(&trainer.centre).unwrap())
    };
    let off = |a: &[f32], b: &[f32]| {
        let top = a.iter().fold(0f32, |m, v| m.max(v.abs()));
        a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / top
    };
    let ((one, centre), (parts, of_parts)) = (grads(std::slice::from_ref(&(0..5))), grads(&[0..2, 2..5]));
    assert!(
        off(&one, &parts) < 1e-4 && off(&centre, &of_parts) < 1e-5,
        "{} {}",
        off(&one, &parts),
        off(&centre, &of_parts)
    );
    let (short, _) = grads(&[0..2, 2..4]);
    assert!(off(&one, &short) > 1e-3, "a picture that is missing went unnoticed");
}

fn items(n: usize) -> Vec<Item> {
    let mut paths = list_pictures(&folder("examples/pictos/shifted")).unwrap();
    paths.truncate(n);
    paths.into_iter().map(|path| Item { path, label: 0 }).collect()
}

fn learn(
    items: &[Item],
    config: &Config,
    place: Option<Place>,
    watch: &mut dyn Watch,
) -> tipi::Result<(Vec<Vec<f32>>, Vec<f32>)> {
    let (correction, losses) = overlap::learn(picto(), Generic::of_files(items, &[]), config, place, watch)?;
    Ok((correction.download(gpu())?, losses))
}

/// Stops after so many steps.
struct Stop {
    left: usize,
    notes: Vec<String>,
}

impl Watch for Stop {
    fn begin(&mut self, _: &str, _: usize) {}
    fn at(&mut self, _: usize) -> tipi::Result<()> {
        self.left = self.left.checked_sub(1).ok_or(Error::Stopped)?;
        Ok(())
    }
    fn end(&mut self) {}
    fn note(&mut self, text: &str) {
        self.notes.push(text.into());
    }
}

#[test]
fn training_repeats_bit_by_bit_and_goes_on_where_it_stopped() {
    let (pictures, config) = (items(9), config());
    let (first, losses) = learn(&pictures, &config, None, &mut Unwatched).unwrap();
    assert!(losses.len() == 3 && losses.iter().all(|loss| loss.is_finite()));
    let start = Correction::init(picto(), &config).unwrap().download(gpu()).unwrap();
    assert!(first != start, "nothing was learned");
    assert!(learn(&pictures, &config, None, &mut Unwatched).unwrap().0 == first, "one seed, one correction");
    let other = Config { seed: 6, ..config.clone() };
    assert!(learn(&pictures, &other, None, &mut Unwatched).unwrap().0 != first);
    // Labels are not looked at.
    let labelled: Vec<Item> = pictures.iter().enumerate().map(|(label, item)| Item { label, ..item.clone() }).collect();
    assert!(learn(&labelled, &config, None, &mut Unwatched).unwrap().0 == first);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (mut stops, mut resumed) = (0, 0);
    let (last, same) = loop {
        let place = Some(Place { path: path.clone(), resume: stops > 0 });
        let mut watch = Stop { left: [2, 0, 1][stops % 3], notes: Vec::new() };
        let ended = learn(&pictures, &config, place, &mut watch);
        resumed += watch.notes.iter().filter(|note| note.starts_with("going on after step")).count();
        match ended {
            Err(Error::Stopped) => stops += 1,
            other => break other.unwrap(),
        }
        assert!(stops < 50);
    };
    assert!(stops > 1 && resumed == stops, "{stops} stops, gone on with {resumed} times");
    assert!(last == first && same == losses, "other bits after {stops} stops");
    // A state of other settings is refused.
    let place = || Some(Place { path: path.clone(), resume: true });
    let mut stop = Stop { left: 1, notes: Vec::new() };
    std::fs::remove_file(&path).ok();
    assert!(matches!(learn(&pictures, &config, place(), &mut stop), Err(Error::Stopped)));
    let wider = Config { self_supervised: Some(SelfSupervised { head: 38, ..small() }), ..config.clone() };
    let error = learn(&pictures, &wider, place(), &mut Unwatched).unwrap_err().to_string();
    assert!(error.contains("other settings") && error.contains("head"), "{error}");
}

#[test]
fn crops_are_of_their_picture_seed_and_epoch() {
    let clip = picto();
    let pictures = items(3);
    let kinds =
        [Crops { augment: Augment::GLOBAL, count: 2, side: 64 }, Crops { augment: Augment::LOCAL, count: 3, side: 32 }];
    let draw = |items: &[Item], at| encode::crops(clip, items, Shelf::empty(), &kinds, at).unwrap();
    let all = draw(&pictures, (1, 0));
    assert_eq!((all[0].len(), all[1].len()), (2 * 3 * 3 * 64 * 64, 3 * 3 * 3 * 32 * 32));
    assert_eq!(draw(&pictures, (1, 0)), all);
    assert!(draw(&pictures, (2, 0)) != all && draw(&pictures, (1, 1)) != all);
    // View after view: of each view, one picture alone has the same crops.
    let alone = draw(&pictures[1..2], (1, 0));
    for (kind, side) in [(0, 64), (1, 32)] {
        let one = 3 * side * side;
        for (view, crop) in alone[kind].chunks(one).enumerate() {
            assert!(all[kind][(view * 3 + 1) * one..][..one] == *crop, "kind {kind}, view {view}");
        }
    }
    // No two of a picture are alike.
    assert!(alone[0][..3 * 64 * 64] != alone[0][3 * 64 * 64..]);
}

/// Pictures smaller than the crops that are made of them, down to one pixel, are enlarged.
#[test]
fn crops_may_be_larger_than_the_picture() {
    let dir = tempfile::tempdir().unwrap();
    let mut pictures = Vec::new();
    for (i, (width, height)) in [(1, 1), (3, 2), (2, 300), (31, 7)].into_iter().enumerate() {
        let path = dir.path().join(format!("{i}.png"));
        let pixel = |x: u32, y: u32| image::Rgb([(x * 91 + i as u32) as u8, (y * 57) as u8, (x * y) as u8]);
        image::RgbImage::from_fn(width, height, pixel).save(&path).unwrap();
        pictures.push(Item { path, label: 0 });
    }
    let (trained, losses) = learn(&pictures, &config(), None, &mut Unwatched).unwrap();
    assert!(losses.iter().all(|loss| loss.is_finite()));
    assert!(trained.iter().flatten().all(|v| v.is_finite()));
    let whole = Augment::GLOBAL.view(
        &Rgb::new(1, 1, vec![7, 8, 9]).unwrap(),
        5,
        &mut tipi::low_level::data::PythonRandom::new(1),
    );
    assert_eq!(whole.data, [7, 8, 9].repeat(25));
}

#[test]
fn what_cannot_be_trained_is_said_before_it_starts() {
    let error = |items: &[Item], config: &Config| learn(items, config, None, &mut Unwatched).unwrap_err().to_string();
    let says = |config: Config, needle: &str| {
        let error = error(&items(4), &config);
        assert!(error.contains(needle), "{error}");
    };
    let with = |settings: SelfSupervised| Config { self_supervised: Some(settings), ..config() };
    let one = error(&items(1), &config());
    assert!(one.contains("at least two pictures") && one.contains("1 picture"), "{one}");
    says(Config { dropout: 0.1, ..config() }, "no dropout");
    says(Config { batch: 0, ..config() }, "batch");
    says(Config { micro_batch: 0, ..config() }, "micro-batch");
    says(Config { bottleneck: 0, ..config() }, "bottleneck");
    says(with(SelfSupervised { head: 1, ..small() }), "a head of 1 outputs");
    says(with(SelfSupervised { hidden: 0, ..small() }), "must be 1 to");
    says(with(SelfSupervised { local_crops: 0, ..small() }), "0 local crops");
    says(with(SelfSupervised { momentum: 1.5, ..small() }), "the teacher's momentum 1.5");
    says(with(SelfSupervised { clip: 0.0, ..small() }), "the length of gradients 0");
    says(with(SelfSupervised { student_temperature: f64::NAN, ..small() }), "the student's temperature");

    // Towers whose tokens are not those of a class token and a grid of learned positions.
    for (name, needle) in [("timm-eva02", "rotary"), ("hf-siglip", "class token")] {
        let clip = tipi_testing::load(gpu(), &folder("tests/fixtures/towers").join(name), Precision::F32);
        let mut crops = |_: usize, _: &[usize]| -> tipi::Result<Vec<Vec<f32>>> { panic!("asked for crops") };
        let settings = small();
        let error = dino::train(&clip, (&config(), &settings), (4, &mut crops), None, &mut Unwatched).err().unwrap();
        assert!(error.to_string().contains(needle), "{name}: {error}");
    }
}

/// A head that does not fit is refused before a picture is looked at, with what would fit; and that does.
#[test]
fn a_head_that_does_not_fit_is_refused_with_one_that_does() {
    let options = DeviceOptions { tune: Some(false), memory: Some(60 << 20), ..DeviceOptions::default() };
    let gpu = Gpu::open(&options).unwrap();
    let clip = Clip::load(&gpu, &folder("weights/picto")).unwrap();
    let train = |config: &Config| {
        let settings = config.self_supervised.clone().unwrap();
        let (mut asked, side) = (false, clip.image.vit().unwrap().local_side().unwrap());
        let mut crops = |_: usize, which: &[usize]| {
            asked = true;
            let of = |count: usize, side: usize| vec![0.5; which.len() * count * 3 * side * side];
            Ok(vec![of(2, clip.preprocess.size), of(settings.local_crops, side)])
        };
        let ended = dino::train(&clip, (config, &settings), (8, &mut crops), None, &mut Unwatched);
        (ended.err().map(|error| error.to_string()), asked)
    };
    let with = |head| {
        let settings = SelfSupervised { head, local_crops: 3, ..SelfSupervised::default() };
        Config { epochs: 1, self_supervised: Some(settings), ..config() }
    };
    let (error, asked) = train(&with(65_536));
    let error = error.expect("a head of 65536 fits 60 MB");
    assert!(!asked && error.contains("a head of 65536 and 3 pictures at a time"), "{error}");
    let fits: usize = error.rsplit("a head of ").next().unwrap().split([' ', ',']).next().unwrap().parse().unwrap();
    assert!((1000..65_536).contains(&fits), "{error}");
    // With some room: a batch's last part has a step of its own.
    let (error, asked) = train(&with(fits / 2));
    assert!(error.is_none() && asked, "{error:?}");
}

/// The door trains the same.
#[test]
fn the_door_trains_without_labels() {
    let gpu = tipi::Gpu::open(&tipi::DeviceOptions { tune: Some(false), ..Default::default() }).unwrap();
    let model = Model::load(&gpu, folder("weights/picto")).unwrap();
    let pictures = items(5);
    // One class, which with labels would be too few.
    let mut examples = Examples::new();
    for item in &pictures {
        examples.add("anything", Picture::file(&item.path));
    }
    let options = CorrectionOptions {
        epochs: 2,
        bottleneck: 4,
        micro_batch: 2,
        self_supervision: Some(SelfSupervision { head: 50, local_crops: 2, ..SelfSupervision::default() }),
        ..CorrectionOptions::without_labels(4)
    };
    let (correction, report) = model.fit_correction(&examples, &options, &mut Unwatched).unwrap();
    assert_eq!(report.losses.len(), 2);
    assert!(correction.classes().is_empty() && correction.facts().contains("without labels"), "{}", correction.facts());
    assert_eq!(correction.options(), options);
    let bytes = correction.to_bytes().unwrap();
    let (again, _) = model.fit_correction(&examples, &options, &mut Unwatched).unwrap();
    assert!(again.to_bytes().unwrap() == bytes);
    let read = model.correction_from_bytes("c", bytes.clone()).unwrap();
    assert!(read.options() == options && read.to_bytes().unwrap() == bytes);
    let mut one = Examples::new();
    one.add("anything", Picture::file(&pictures[0].path));
    let error = model.fit_correction(&one, &options, &mut Unwatched).map(drop).unwrap_err().to_string();
    assert!(error.contains("at least two pictures"), "{error}");
}
