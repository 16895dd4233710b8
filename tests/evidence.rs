//! What is left out is left out: evidence is what an adapter says that was fitted to the other pictures alone, with the same choices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use tipi::Settings;
use tipi::low_level::adapt::lesson::Folds;
use tipi::low_level::adapt::method::{find, settled};
use tipi::low_level::adapt::{Choice, How, JudgeBy, Learned, Lesson, Texts, learn};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::Item;
use tipi::low_level::encode::{Direct, Source, Tower, Views};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::watch::Unwatched;

const CLASSES: [&str; 3] = ["bell", "car", "umbrella"];

/// Three pictures of each class to learn from, and one of each to validate on.
fn pictures(root: &Path) -> (Vec<Item>, Vec<Item>) {
    let (mut support, mut val) = (Vec::new(), Vec::new());
    for (label, class) in CLASSES.iter().enumerate() {
        let folder = root.join("examples/pictos/shifted").join(class);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        support.extend(paths[..3].iter().map(|path| Item { path: path.clone(), label }));
        val.push(Item { path: paths[3].clone(), label });
    }
    (support, val)
}

#[test]
fn evidence_is_what_the_other_pictures_say() {
    let gpu = Gpu::open(&DeviceOptions { tune: Some(false), ..DeviceOptions::default() }).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let clip = Clip::load(&gpu, &root.join("weights/picto")).unwrap();
    let (support, val) = pictures(root);
    let (classes, templates) = (CLASSES.map(String::from), ["an icon of {}".to_string()]);
    let texts = Texts { classes: &classes, templates: &templates, words: "an icon of", dataset: "" };
    let how = How { key_views: 2, grid: "standard".into(), ..How::default() };
    let fit = |method, settings: &Settings, support: &[Item], val: &[Item], how: &How| -> Learned {
        let mut source = Direct::new(&clip, None, None);
        let choice = Choice { support, val, seed: 3 };
        let mut lesson = Lesson::new(&clip, texts, choice, how, (None, &mut source)).unwrap();
        learn(method, &settled(method, settings).unwrap(), &mut lesson, &mut Unwatched).unwrap()
    };
    for name in ["tip-adapter", "tip-x", "gda", "tip-adapter-f"] {
        let method = find(name).unwrap();
        let mut settings = Settings::new();
        let trains = method.info().needs.training;
        if trains {
            settings.insert("epochs".into(), 2.into());
        }
        let learned = fit(method, &settings, &support, &val, &how);
        let evidence = &learned.evidence;
        assert_eq!((evidence.counts.validation, evidence.counts.left_out), (3, 9), "{name}");
        // The same by hand, fold by fold: fitted to the others, with what was chosen, and asked about those left out.
        let mut given = settings.clone();
        given.extend(learned.fitted.chosen());
        let labels: Vec<u32> = support.iter().map(|item| item.label as u32).collect();
        let folds = Folds::new(&labels, if trains { 2 } else { 8 });
        assert_eq!(folds.len(), if trains { 2 } else { 3 });
        let (mut want, mut truth) = (Vec::new(), Vec::new());
        let alone = How { judge_by: JudgeBy::Validation, ..how.clone() };
        for (out, rest) in folds.iter() {
            let stay: Vec<Item> = rest.iter().map(|i| support[*i].clone()).collect();
            let asked: Vec<Item> = out.iter().map(|i| support[*i].clone()).collect();
            // Tip-X's ψ and Tip-Adapter-F's epoch are those of the validation pictures.
            let fitted = fit(method, &given, &stay, &val, &if trains { how.clone() } else { alone.clone() }).fitted;
            let features =
                Direct::new(&clip, None, None).features(Tower::Plain, &asked, &Views::Center, &mut Unwatched);
            want.extend(fitted.logits(&clip, &features.unwrap(), 0).unwrap());
            truth.extend(asked.iter().map(|item| item.label as u32));
        }
        assert_eq!(evidence.labels[3..], truth, "{name}");
        let got = &evidence.logits[9..];
        let off = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(got.len() == want.len() && off(got, &want) < 1e-3, "{name}: off by {}", off(got, &want));
        // What has learned from them says something else.
        let all =
            Direct::new(&clip, None, None).features(Tower::Plain, &support, &Views::Center, &mut Unwatched).unwrap();
        let seen = learned.fitted.logits(&clip, &all, 0).unwrap();
        let order: Vec<f32> =
            folds.iter().flat_map(|(out, _)| out).flat_map(|i| seen[3 * i..3 * i + 3].to_vec()).collect();
        assert!(off(got, &order) > 0.01, "{name}: pictures that were learned from passed for left out");
        // None of them is the picture itself.
        assert!(evidence.similarity.iter().all(|cosine| *cosine < 0.9999), "{name}: {:?}", evidence.similarity);
        if let Some(map) = learned.search {
            assert_eq!(map.of, if trains { 3 } else { 12 }, "{name}");
        }
    }
}
