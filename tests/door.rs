//! The door: what an application calls gives what the parts behind it give, to the bit, and ends when it is told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tipi::low_level::adapt::zero_shot;
use tipi::low_level::clip::Clip;
use tipi::low_level::data::decode;
use tipi::{
    Classifier, DeviceOptions, Error, Examples, FitOptions, Gallery, Gpu, ImageFeatures, Job, Method, Model, Picture,
    Precision, Prediction, Progress, Shots, Unwatched, Watch,
};

const MODEL: &str = "weights/picto";
const SHIFTED: &str = "examples/pictos/shifted";

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap())
}

fn model() -> &'static Model {
    static MODELS: OnceLock<Model> = OnceLock::new();
    MODELS.get_or_init(|| Model::load(gpu(), MODEL).unwrap())
}

/// Keeps what it is told.
#[derive(Default)]
struct Said(Vec<String>);

impl Watch for Said {
    fn begin(&mut self, _what: &str, _total: usize) {}
    fn at(&mut self, _done: usize) -> tipi::Result<()> {
        Ok(())
    }
    fn end(&mut self) {}
    fn note(&mut self, text: &str) {
        self.0.push(text.into());
    }
}

/// The first `n` pictures of the bundled set, by name.
fn paths(n: usize) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for class in std::fs::read_dir(SHIFTED).unwrap() {
        let class = class.unwrap().path();
        if class.is_dir() {
            all.extend(std::fs::read_dir(class).unwrap().map(|file| file.unwrap().path()));
        }
    }
    all.sort();
    all.truncate(n);
    assert_eq!(all.len(), n);
    all
}

fn pictures(n: usize) -> Vec<Picture> {
    paths(n).into_iter().map(Picture::file).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn scores(answers: &[tipi::Result<Prediction>]) -> Vec<u32> {
    answers.iter().flat_map(|answer| bits(answer.as_ref().unwrap().scores())).collect()
}

fn zero_shot_classifier() -> Classifier {
    model().zero_shot(&["apple", "bell", "umbrella"], &["an icon of {}"]).unwrap()
}

/// Notes what is said.
#[derive(Default)]
struct Noted {
    stretches: Vec<(String, usize)>,
}

impl Watch for Noted {
    fn begin(&mut self, what: &str, total: usize) {
        self.stretches.push((what.into(), total));
    }

    fn at(&mut self, _done: usize) -> tipi::Result<()> {
        Ok(())
    }

    fn end(&mut self) {}

    fn note(&mut self, _text: &str) {}
}

#[test]
fn what_is_promised_of_threads_is_so() {
    fn both<T: Send + Sync>() {}
    fn send<T: Send>() {}
    both::<Gpu>();
    both::<Model>();
    both::<Classifier>();
    both::<Examples>();
    both::<FitOptions>();
    both::<tipi::Correction>();
    both::<tipi::CorrectionOptions>();
    both::<tipi::Dataset>();
    both::<tipi::EvaluationOptions>();
    both::<tipi::Evaluation>();
    both::<Picture>();
    both::<Prediction>();
    both::<ImageFeatures>();
    both::<Error>();
    both::<tipi::Stop>();
    both::<Progress>();
    send::<Job<(Classifier, tipi::Report)>>();
}

#[test]
fn answers_are_those_of_the_parts_however_many_are_asked_for() {
    let clip = Clip::load(gpu().low_level(), MODEL.as_ref()).unwrap();
    let labels = ["apple", "bell", "umbrella"].map(String::from);
    let parts = zero_shot::Classifier::new(&clip, &labels, &["an icon of {}".to_string()]).unwrap();
    let paths = paths(37);
    let pixels: Vec<f32> = paths.iter().flat_map(|path| clip.pixels(&decode(path).unwrap())).collect();
    let features = clip.image_encoder(8).unwrap().encode(&pixels, &mut |_| {}).unwrap();
    let want = bits(&parts.logits(&features, gpu().low_level()).unwrap());

    let (classifier, pictures) = (zero_shot_classifier(), pictures(37));
    let all = classifier.predict_all(&pictures, &mut Unwatched).unwrap();
    assert_eq!(scores(&all), want);
    // One at a time, from features, and after all that was kept was given back.
    let one_by_one: Vec<_> = pictures.iter().map(|picture| classifier.predict(picture)).collect();
    assert_eq!(scores(&one_by_one), want);
    let encoded = model().encode(&pictures, &mut Unwatched).unwrap();
    assert_eq!(bits(encoded.values()), bits(&features));
    let from_features = classifier.predict_features(&encoded).unwrap();
    assert_eq!(from_features.iter().flat_map(|answer| bits(answer.scores())).collect::<Vec<_>>(), want);
    classifier.release();
    model().release();
    assert_eq!(scores(&classifier.predict_all(&pictures[..3], &mut Unwatched).unwrap()), want[..9]);
    // Not by looking at nothing.
    assert_ne!(want[..3], want[3 * 36..]);
}

#[test]
fn pictures_from_memory_are_those_from_files() {
    let paths = paths(4);
    let file: Vec<Picture> = paths.iter().map(Picture::file).collect();
    let encoded =
        paths.iter().map(|path| Picture::encoded("in memory", std::fs::read(path).unwrap())).collect::<Vec<_>>();
    let buffers = paths.iter().map(|path| {
        let picture = decode(path).unwrap();
        let (row, stride) = (picture.width * 4, picture.width * 4 + 12);
        let mut bytes = vec![7; stride * picture.height];
        for (y, line) in picture.data.chunks(3 * picture.width).enumerate() {
            for (x, pixel) in line.chunks(3).enumerate() {
                bytes[y * stride + 4 * x..][..3].copy_from_slice(pixel);
            }
        }
        assert!(row < stride);
        Picture::rgba8("buffer", [picture.width, picture.height], stride, &bytes).unwrap()
    });
    let images = paths.iter().map(|path| {
        let picture = decode(path).unwrap();
        let image = image::RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.data).unwrap();
        Picture::image("image", &image.into()).unwrap()
    });
    let features = |pictures: &[Picture]| bits(model().encode(pictures, &mut Unwatched).unwrap().values());
    let want = features(&file);
    assert_eq!(features(&encoded), want);
    assert_eq!(features(&buffers.collect::<Vec<_>>()), want);
    assert_eq!(features(&images.collect::<Vec<_>>()), want);
    assert_ne!(features(&file[1..2])[..], want[..model().width()]);
}

#[test]
fn a_broken_picture_is_an_error_of_its_own() {
    let mut all = pictures(3);
    all.insert(1, Picture::encoded("torn.png", &b"\x89PNG\r\n\x1a\nno more"[..]));
    all.push(Picture::file("/no/such/picture.png"));
    let answers = zero_shot_classifier().predict_all(&all, &mut Unwatched).unwrap();
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, true, false]);
    assert!(answers[1].as_ref().unwrap_err().to_string().contains("torn.png"));
    let good = zero_shot_classifier().predict_all(&pictures(3), &mut Unwatched).unwrap();
    let rest: Vec<_> = answers.into_iter().filter(Result::is_ok).collect();
    assert_eq!(scores(&rest), scores(&good));
    assert!(matches!(model().encode(&all, &mut Unwatched), Err(Error::Image { .. })));
    let (features, read) = model().encode_all(&all, &mut Unwatched).unwrap();
    assert_eq!(read.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, true, false]);
    assert!(read[1].as_ref().unwrap_err().to_string().contains("torn.png"));
    assert_eq!(bits(features.values()), bits(model().encode(&pictures(3), &mut Unwatched).unwrap().values()));
    let (none, read) = model().encode_all(&all[4..], &mut Unwatched).unwrap();
    assert!(none.is_empty() && matches!(&read[..], [Err(Error::Io { .. })]));
    // None that can be decoded.
    let broken = zero_shot_classifier().predict_all(&all[4..], &mut Unwatched).unwrap();
    assert!(matches!(&broken[..], [Err(Error::Io { .. })]));
}

/// Two pictures of each of four classes, and one to validate on.
fn examples(from_memory: bool) -> Examples {
    let mut examples = Examples::new();
    for class in ["apple", "bell", "backpack", "umbrella"] {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(Path::new(SHIFTED).join(class)).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        for (i, path) in files.iter().take(3).enumerate() {
            let picture = match from_memory {
                true => Picture::encoded(path, std::fs::read(path).unwrap()),
                false => Picture::file(path),
            };
            if i < 2 {
                examples.add(class, picture)
            } else {
                examples.add_validation(class, picture)
            };
        }
    }
    examples
}

/// A method's settings that make it quick.
fn quick(name: &str) -> FitOptions {
    let options = FitOptions::new(Method::named(name).unwrap()).with_template("an icon of {}");
    let known = options.method.settings();
    match known.iter().any(|setting| setting.name == "epochs") {
        true => options.with("epochs", 2).unwrap(),
        false => options,
    }
}

#[test]
fn every_method_learns_from_memory_as_from_files_and_is_kept() {
    let (files, memory) = (examples(false), examples(true));
    let all = pictures(5);
    let folder = tempfile::tempdir().unwrap();
    for method in Method::all().filter(|method| !method.needs_correction()) {
        let options = quick(method.name());
        let (classifier, report) = model().fit(&files, &options, &mut Unwatched).unwrap();
        assert_eq!(report.validation_pictures, 4);
        assert_eq!(report.losses.is_empty(), !method.trains() || method.name() == "auto", "{method}");
        let (same, _) = model().fit(&memory, &options, &mut Unwatched).unwrap();
        assert!(classifier.to_bytes().unwrap() == same.to_bytes().unwrap(), "{method}");

        let path = folder.path().join(format!("{method}.safetensors"));
        classifier.save(&path).unwrap();
        let opened = model().open_adapter(&path).unwrap();
        let want = scores(&classifier.predict_all(&all, &mut Unwatched).unwrap());
        assert_eq!(scores(&opened.predict_all(&all, &mut Unwatched).unwrap()), want, "{method}");
        assert_eq!(opened.temperature(), classifier.temperature());
        let bytes = model().adapter_from_bytes("bytes", classifier.to_bytes().unwrap()).unwrap();
        assert_eq!(bytes.classes(), ["apple", "bell", "backpack", "umbrella"]);
        // The recorded way and the one from features.
        match opened.predict_features(&model().encode(&all, &mut Unwatched).unwrap()) {
            Ok(answers) => {
                assert_eq!(answers.iter().flat_map(|a| bits(a.scores())).collect::<Vec<_>>(), want, "{method}");
            }
            Err(error) => {
                assert!(method.name() == "prolip" && error.to_string().contains("give it pictures"), "{error}");
            }
        }
        // Another seed makes another adapter where chance plays a part.
        if method.trains() && method.name() != "auto" {
            let other = FitOptions { seed: 2, ..options };
            let (other, _) = model().fit(&files, &other, &mut Unwatched).unwrap();
            assert!(other.to_bytes().unwrap() != classifier.to_bytes().unwrap(), "{method}");
        }
    }
}

#[test]
fn what_was_computed_of_examples_is_remembered() {
    let mut few = examples(false);
    let options = quick("tip-adapter");
    let encoded = |examples: &Examples| {
        let mut noted = Noted::default();
        let (classifier, _) = model().fit(examples, &options, &mut noted).unwrap();
        let pictures =
            noted.stretches.iter().filter(|(what, _)| what == "encoding pictures").map(|(_, n)| n).sum::<usize>();
        (pictures, classifier.to_bytes().unwrap())
    };
    let (first, bytes) = encoded(&few);
    // Eight to learn from, in views and as they are, and four to validate on.
    assert_eq!(first, 20);
    assert_eq!(encoded(&few), (0, bytes.clone()));
    // One more example: that one is looked at, and the adapter is what it would be without memory.
    few.add("bell", Picture::file(&paths(40)[39]));
    let (more, with) = encoded(&few);
    assert_eq!(more, 2);
    assert_ne!(with, bytes);
    let mut anew = examples(false);
    anew.add("bell", Picture::file(&paths(40)[39]));
    assert_eq!(encoded(&anew), (22, with));
    // Moved to another class, one that was learned from is not looked at again; one that was validated on is, in views.
    few.clear();
    assert!(few.classes().is_empty());
    let apples = paths(3);
    for (class, at) in [("a", 0), ("b", 2)] {
        few.add(class, Picture::file(&apples[at]));
    }
    assert_eq!(encoded(&few).0, 1);
}

/// Fits the same examples with another model as soon as it is asked how far the work is.
struct Meanwhile<'a> {
    other: Option<&'a Model>,
    examples: &'a Examples,
    options: &'a FitOptions,
}

impl Watch for Meanwhile<'_> {
    fn begin(&mut self, _what: &str, _total: usize) {}

    fn at(&mut self, _done: usize) -> tipi::Result<()> {
        match self.other.take() {
            Some(other) => other.fit(self.examples, self.options, &mut Unwatched).map(drop),
            None => Ok(()),
        }
    }

    fn end(&mut self) {}

    fn note(&mut self, _text: &str) {}
}

#[test]
fn what_is_remembered_is_never_another_model_s() {
    let options = quick("tip-adapter");
    let bytes = |model: &Model, examples: &Examples| {
        model.fit(examples, &options, &mut Unwatched).unwrap().0.to_bytes().unwrap()
    };
    // The same weights on a device that adds in another order: one set of examples serves both, and mixes nothing.
    let portable = DeviceOptions { portable: true, tune: Some(false), ..DeviceOptions::default() };
    let other = Model::load(&Gpu::open(&portable).unwrap(), MODEL).unwrap();
    let alone = [bytes(model(), &examples(false)), bytes(&other, &examples(false))];
    assert_ne!(alone[0], alone[1], "the devices do not differ, and nothing is shown");
    let shared = examples(false);
    assert!(bytes(model(), &shared) == alone[0] && bytes(&other, &shared) == alone[1]);

    // Another model's features take the place of those that were remembered while the last one is being encoded.
    let mut grown = examples(false);
    bytes(model(), &grown);
    grown.add("bell", Picture::file(&paths(40)[39]));
    let mut fresh = examples(false);
    fresh.add("bell", Picture::file(&paths(40)[39]));
    let mut meanwhile = Meanwhile { other: Some(&other), examples: &grown.clone(), options: &options };
    let (grown, _) = model().fit(&grown, &options, &mut meanwhile).unwrap();
    assert!(meanwhile.other.is_none() && grown.to_bytes().unwrap() == bytes(model(), &fresh));
}

#[test]
fn examples_are_chosen_as_the_program_chooses() {
    let all = Examples::of_folder(SHIFTED).unwrap();
    let (chosen, broken) = all.choose(2, 3, &mut Unwatched).unwrap();
    let folder = tipi::low_level::data::Folder::open(SHIFTED).unwrap();
    let want = tipi::low_level::encode::choose(&folder, 2, 3, false, &|_| {}).unwrap().split;
    let found = |examples: &mut dyn Iterator<Item = (usize, &Picture)>| -> Vec<(usize, PathBuf)> {
        examples.map(|(class, picture)| (class, picture.path().to_path_buf())).collect()
    };
    let items = |items: &[tipi::low_level::data::Item]| -> Vec<_> {
        items.iter().map(|item| (item.label, item.path.clone())).collect()
    };
    assert_eq!(found(&mut chosen.support()), items(&want.support));
    assert_eq!(found(&mut chosen.validation()), items(&want.val));
    assert!(broken.is_empty() && !want.val.is_empty());
    // A broken one is left out first.
    let mut torn = all.clone();
    torn.add(&all.classes()[0].clone(), Picture::encoded("torn.png", &b"no picture"[..]));
    let (chosen, broken) = torn.choose(2, 3, &mut Unwatched).unwrap();
    assert_eq!(found(&mut chosen.support()), items(&want.support));
    assert!(broken.len() == 1 && broken[0].to_string().contains("torn.png"));
    assert!(all.choose(0, 1, &mut Unwatched).is_err());
    // A class that has fewer gives all it has, which is said; all leaves none aside.
    let (few, mut said) = (examples(false), Said::default());
    let (chosen, _) = few.choose(3, 1, &mut said).unwrap();
    assert_eq!((chosen.support().count(), chosen.validation().count()), (few.support().count(), 0));
    assert!(said.0.len() == 1 && said.0[0].contains("'apple': 2"), "{:?}", said.0);
    let (chosen, _) = all.choose(Shots::All, 1, &mut Unwatched).unwrap();
    assert_eq!((chosen.support().count(), chosen.validation().count()), (all.support().count(), 0));
    // One who stops it once is heeded, whatever is said later.
    struct Once(bool);
    impl Watch for Once {
        fn begin(&mut self, _what: &str, _total: usize) {}
        fn at(&mut self, _done: usize) -> tipi::Result<()> {
            if std::mem::replace(&mut self.0, true) { Ok(()) } else { Err(Error::Stopped) }
        }
        fn end(&mut self) {}
        fn note(&mut self, _text: &str) {}
    }
    assert!(matches!(all.choose(2, 3, &mut Once(false)), Err(Error::Stopped)));
}

#[test]
fn bad_input_is_refused_in_words_of_the_library() {
    let says = |result: tipi::Result<(Classifier, tipi::Report)>| result.map(drop).unwrap_err().to_string();
    let fit = |examples: &Examples, options: &FitOptions| says(model().fit(examples, options, &mut Unwatched));
    let tip = quick("tip-adapter");
    let mut few = Examples::new();
    assert!(fit(&few, &tip).contains("examples of 0 classes: at least two"));
    few.add("bell", pictures(1).remove(0));
    assert!(fit(&few, &tip).contains("1 class"));
    few.add_validation("apple", pictures(1).remove(0));
    assert!(fit(&few, &tip).contains("the class 'apple' has no picture to learn from"));
    let (few, corrected) = (examples(false), quick("tip-adapter++"));
    assert!(fit(&few, &corrected).contains("needs an overlap correction"));
    let unknown = tip.clone().with("epoch", 3).map(drop).unwrap_err().to_string();
    assert!(unknown.contains("has no setting 'epoch'"), "{unknown}");
    assert!(quick("pini").with("epochs", -1).is_err());
    assert!(Method::named("tip-y").map(drop).unwrap_err().to_string().contains("tip-adapter"));
    let mut grid = tip;
    grid.how.grid = "alpha=1:0:2".into();
    assert!(!fit(&few, &grid).contains("--"));

    let classifier = zero_shot_classifier();
    assert!(classifier.asking_for(1.5).is_err());
    let narrow = ImageFeatures::new(vec![0.0; 3], 3).unwrap();
    assert!(classifier.predict_features(&narrow).map(drop).unwrap_err().to_string().contains("3 wide"));
    assert!(ImageFeatures::new(vec![f32::NAN; model().width()], model().width()).is_err());
    assert!(model().zero_shot::<&str, &str>(&[], &["{}"]).is_err());

    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("a.safetensors");
    classifier.save(&adapter).unwrap();
    classifier.save(&adapter).unwrap();
    let other = Model::load(gpu(), "tests/golden/model_a").unwrap();
    let error = other.open_adapter(&adapter).map(drop).unwrap_err().to_string();
    assert!(error.contains("fitted to model 'picto'"), "{error}");
    let mine = folder.path().join("mine.txt");
    std::fs::write(&mine, "mine").unwrap();
    assert!(matches!(classifier.save(&mine), Err(Error::Foreign { .. })));
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "mine");
    assert!(
        model().adapter_from_bytes("nothing", vec![1, 2, 3]).map(drop).unwrap_err().to_string().contains("nothing")
    );
}

#[test]
fn unsure_answers_are_unknown() {
    let classifier = zero_shot_classifier();
    let picture = pictures(1).remove(0);
    let best = classifier.predict(&picture).unwrap().best().probability;
    assert!(best < 1.0);
    assert!(classifier.asking_for(best).unwrap().predict(&picture).unwrap().class().is_some());
    assert!(classifier.asking_for((best + 1.0) / 2.0).unwrap().predict(&picture).unwrap().class().is_none());
}

/// Small random numbers without a seed from the clock.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn work_that_is_cancelled_ends_soon_and_gives_its_memory_back() {
    // A model of its own, so that other tests' memory does not count.
    let gpu = Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
    let model = Model::load(&gpu, MODEL).unwrap();
    let classifier = model.zero_shot(&["apple", "bell"], &["an icon of {}"]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("never.safetensors");
    gpu.release();
    let before = gpu.allocated_bytes();
    let (mut state, mut ends) = (7, BTreeMap::<&str, usize>::new());
    let mut longest = Duration::ZERO;
    for round in 0..20 {
        let (model, pictures, out) = (model.clone(), pictures(120), out.clone());
        let (what, most) = [("encode", 300), ("predict", 300), ("fit pini", 1500), ("fit tip", 700)][round % 4];
        let (classifier, examples) = (classifier.clone(), examples(false));
        let (fit, tip) =
            (quick("pini").with("epochs", 1000).unwrap(), quick("tip-adapter-f").with("epochs", 1000).unwrap());
        let mut job = Job::start(move |watch| match what {
            "encode" => model.encode(&pictures, watch).map(drop),
            "predict" => classifier.predict_all(&pictures, watch).map(drop),
            _ => {
                let options = if what == "fit pini" { fit } else { tip };
                model.fit(&examples, &options, watch)?.0.save(out)
            }
        });
        std::thread::sleep(Duration::from_millis(random(&mut state) % most));
        let asked = Instant::now();
        job.cancel();
        let ended = loop {
            if let Some(ended) = job.take() {
                break ended;
            }
            std::thread::sleep(Duration::from_millis(1));
            assert!(asked.elapsed() < Duration::from_secs(60), "{what} goes on");
        };
        longest = longest.max(asked.elapsed());
        match ended {
            Err(Error::Stopped) => *ends.entry(what).or_default() += 1,
            Ok(()) => assert!(!what.starts_with("fit"), "{what} came to its end"),
            Err(error) => panic!("{what}: {error}"),
        }
    }
    println!("stopped {ends:?}, the longest wait {longest:?}");
    classifier.release();
    model.release();
    assert_eq!(gpu.allocated_bytes(), before);
    assert!(!out.exists() && ends.values().sum::<usize>() >= 10, "{ends:?}");
}

#[test]
fn devices_and_models_go_in_any_order() {
    let rounds = std::env::var("TIPI_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    for round in 0..rounds {
        let open = || Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
        let (one, other) = (open(), open());
        let model = Model::load(&one, MODEL).unwrap();
        let second = Model::load(&other, MODEL).unwrap();
        let classifier = model.zero_shot(&["apple", "bell"], &["an icon of {}"]).unwrap();
        let want = scores(&classifier.predict_all(&pictures(3), &mut Unwatched).unwrap());
        std::thread::scope(|scope| {
            for thread in 0..2 {
                let (classifier, model, want) = (classifier.clone(), model.clone(), &want);
                scope.spawn(move || {
                    if thread == round % 2 {
                        drop(model);
                    }
                    for _ in 0..3 {
                        let got = scores(&classifier.predict_all(&pictures(3), &mut Unwatched).unwrap());
                        assert_eq!(got, *want);
                    }
                });
            }
        });
        assert_eq!(
            bits(second.encode_texts(&["x"]).unwrap().values()),
            bits(model.encode_texts(&["x"]).unwrap().values())
        );
        let ledger = one.clone();
        match round % 3 {
            0 => drop((one, model, classifier, other, second)),
            1 => drop((classifier, second, other, one, model)),
            _ => drop((second, model, one, other, classifier)),
        }
        ledger.release();
        assert_eq!(ledger.allocated_bytes(), 0, "memory is left");
    }
}

#[test]
fn f16_and_int8_are_other_models_in_less_memory() {
    let gpu = Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
    let full = Model::load(&gpu, MODEL).unwrap();
    let whole = gpu.allocated_bytes();
    drop(full);
    gpu.release();
    let own = model().encode(&pictures(2), &mut Unwatched).unwrap();
    let mut before = whole * 3 / 4;
    for precision in [Precision::F16, Precision::Int8] {
        let other = Model::load_as(&gpu, MODEL, precision).unwrap();
        assert!(gpu.allocated_bytes() < before, "{} of {whole}", gpu.allocated_bytes());
        before = gpu.allocated_bytes() * 3 / 4;
        let near = other.encode(&pictures(2), &mut Unwatched).unwrap().nearest(&own, 1).unwrap();
        assert!(near.iter().enumerate().all(|(row, near)| near[0].row == row && near[0].cosine > 0.999));
        drop(other);
        gpu.release();
    }
}

#[test]
fn a_gallery_finds_what_is_compared_on_the_host() {
    let features = model().encode(&pictures(12), &mut Unwatched).unwrap();
    let gallery = Gallery::new(model().gpu(), features.clone()).unwrap();
    assert_eq!((gallery.len(), gallery.width(), gallery.is_empty()), (12, model().width(), false));
    let asked =
        ImageFeatures::new([features.row(3).unwrap(), features.row(7).unwrap()].concat(), features.width()).unwrap();
    let mut noted = Noted::default();
    let near = gallery.nearest(&asked, 5, &mut noted).unwrap();
    assert_eq!(noted.stretches, [("comparing".to_string(), 2)]);
    assert_eq!((near[0][0].row, near[1][0].row), (3, 7));
    let same = |ours: &[Vec<tipi::Neighbour>], theirs: &[Vec<tipi::Neighbour>]| {
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(
                ours.iter().map(|near| near.row).collect::<Vec<_>>(),
                theirs.iter().map(|near| near.row).collect::<Vec<_>>()
            );
            assert!(ours.iter().zip(theirs).all(|(ours, theirs)| (ours.cosine - theirs.cosine).abs() < 1e-6));
        }
    };
    same(&near, &asked.nearest(&features, 5).unwrap());
    // The first of all is each itself, which its others leave out.
    let others = gallery.nearest_others(4, &mut Unwatched).unwrap();
    let all = features.nearest(&features, 5).unwrap();
    same(&others, &all.iter().map(|near| near[1..].to_vec()).collect::<Vec<_>>());
    let texts = model().encode_texts(&["an icon of an ambulance"]).unwrap();
    let near = gallery.nearest_to_texts(&texts, 12, &mut Unwatched).unwrap();
    let cosines = features.cosines(&texts).unwrap();
    assert!(near[0].iter().all(|near| (near.cosine - cosines[near.row]).abs() < 1e-6));
    assert!(near[0].is_sorted_by(|a, b| a.cosine >= b.cosine) && near[0].len() == 12);
    assert!(gallery.duplicates(1.0, &mut Unwatched).unwrap().is_empty());
    let twice = ImageFeatures::new([features.values(), features.values()].concat(), features.width()).unwrap();
    let groups = Gallery::new(model().gpu(), twice).unwrap().duplicates(1.0, &mut Unwatched).unwrap();
    assert!(groups.iter().enumerate().all(|(i, group)| group.iter().map(|near| near.row).eq([i, i + 12])));
    assert_eq!(groups.len(), 12);
    let narrow = ImageFeatures::new(vec![1.0; 4], 2).unwrap();
    let error = gallery.nearest(&narrow, 1, &mut Unwatched).unwrap_err().to_string();
    assert!(error.contains("features 2 wide"), "{error}");
    assert!(matches!(gallery.duplicates(1.5, &mut Unwatched), Err(Error::Invalid(_))));
}

#[test]
fn an_adapter_names_the_pictures_of_its_keys() {
    let (classifier, _) = model().fit(&examples(true), &quick("tip-adapter"), &mut Unwatched).unwrap();
    let file = |classifier: &Classifier| {
        tipi::low_level::adapt::adapter_file::File::from_bytes("a".as_ref(), classifier.to_bytes().unwrap()).unwrap()
    };
    let names = file(&classifier).meta.pictures;
    assert_eq!(names.len(), 8);
    // Classes in their own order, which is not that of their names.
    let classes = ["apple", "bell", "backpack", "umbrella"];
    assert!(names.iter().zip(0..).all(|(name, i)| name.starts_with(&format!("{}/", classes[i / 2]))), "{names:?}");
    assert!(names.iter().all(|name| Path::new(SHIFTED).join(name).is_file()), "{names:?}");
    // They are kept from file to file.
    let again = model().adapter_from_bytes("a", classifier.to_bytes().unwrap()).unwrap();
    assert_eq!(file(&again).meta.pictures, names);
    let (gda, _) = model().fit(&examples(false), &quick("gda"), &mut Unwatched).unwrap();
    assert!(file(&gda).meta.pictures.is_empty());
}
