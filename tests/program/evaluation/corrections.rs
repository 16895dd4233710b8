//! The ablation of the overlap correction, as a user runs it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;
use tipi::low_level::adapt::adapter_file;
use tipi::low_level::data::Item;
use tipi::low_level::encode::{self, Views};
use tipi::low_level::eval::ablation::find_ablation;
use tipi::low_level::eval::journal::Journal;

use crate::start::{MODEL, bad, good, root, s, tipi};
use crate::{clip, pictures};

const FILES: [(&str, &str); 2] = [("supervised", "labels.st"), ("self-supervised", "pictures.st")];

/// Copies the first classes of the generic pictures to a folder.
fn generic(to: &Path, classes: usize) {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root().join("examples/pictos-generic")).unwrap().map(|e| e.unwrap().path()).collect();
    folders.retain(|path| path.is_dir());
    folders.sort();
    for folder in &folders[..classes] {
        let copy = to.join(folder.file_name().unwrap());
        fs::create_dir_all(&copy).unwrap();
        for file in fs::read_dir(folder).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
}

/// Learns a correction of either kind, quickly and so that it shows.
fn fit(data: &Path, out: &Path, teaching: &str) {
    let args = ["fit", "overlap", "--model", MODEL, "--data", s(data), "--out", s(out), "--bottleneck", "8"];
    let quick: &[&str] = match teaching {
        "supervised" => &["--batch", "8", "--epochs", "2", "--scale", "0.3"],
        _ => &[
            "--self-supervised",
            "--epochs",
            "2",
            "--batch",
            "8",
            "--head",
            "40",
            "--local-crops",
            "2",
            "--momentum",
            "0.9",
            "--lr",
            "0.01",
            "--scale",
            "0.3",
        ],
    };
    good(&[&args[..], quick].concat());
}

fn evaluate<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = "eval --model weights/picto --shots 1,2 --seeds 1,2 --key-views 0 --grid alpha=0:20:9,beta=0:10:4,gamma=0:10:3 \
                 --template icon:{}";
    fixed.split_whitespace().chain(["--dataset", data, "--out", out]).chain(more.iter().copied()).collect()
}

/// Overlap and variance of features `[n, d]` in plain loops, and how far overlap may be off where a pair lies at the edge of a bin.
fn measured(features: &[f32], labels: &[u32], d: usize) -> (f64, f64, f64) {
    let unit: Vec<Vec<f64>> = features
        .chunks(d)
        .map(|row| {
            let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            row.iter().map(|v| f64::from(*v) / norm).collect()
        })
        .collect();
    let n = unit.len();
    // Pairs by bin, and those that another rounding may put into another.
    let (mut bins, mut doubtful) = ([[0u32; 100]; 2], [0u32; 2]);
    for i in 0..n {
        for j in i + 1..n {
            let cosine: f64 = unit[i].iter().zip(&unit[j]).map(|(a, b)| a * b).sum();
            let (place, which) = ((cosine + 1.0) * 50.0, usize::from(labels[i] != labels[j]));
            bins[which][(place as usize).min(99)] += 1;
            doubtful[which] += u32::from((place - place.round()).abs() < 1e-3);
        }
    }
    let all = bins.map(|bins| f64::from(bins.iter().sum::<u32>()));
    let overlap = (0..100).map(|b| (f64::from(bins[0][b]) / all[0]).min(f64::from(bins[1][b]) / all[1])).sum();
    let mean: Vec<f64> = (0..d).map(|k| unit.iter().map(|row| row[k]).sum::<f64>() / n as f64).collect();
    let off = f64::from(doubtful[0]) / all[0] + f64::from(doubtful[1]) / all[1] + 1e-9;
    (overlap, 1.0 - mean.iter().map(|v| v * v).sum::<f64>(), off)
}

/// Pearson's coefficient in one plain loop.
fn coefficient(points: &[(f64, f64)]) -> f64 {
    let n = points.len() as f64;
    let (mut x, mut y, mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (a, b) in points {
        (x, y, xx, yy, xy) = (x + a, y + b, xx + a * a, yy + b * b, xy + a * b);
    }
    (n * xy - x * y) / ((n * xx - x * x) * (n * yy - y * y)).sqrt()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The accuracy of each result, by method and variant, shots and seed.
fn accuracies(out: &Path) -> BTreeMap<(String, String, u64, u64), f64> {
    let results = json(&out.join("results.json"));
    let all = results["datasets"][0]["results"].as_array().unwrap().iter();
    let of = |r: &Value| {
        let text = |key: &str| r[key].as_str().unwrap_or_default().to_string();
        let number = |key: &str| r[key].as_u64().unwrap();
        ((text("method"), text("variant"), number("shots"), number("seed")), r["accuracy"].as_f64().unwrap())
    };
    all.map(of).collect()
}

#[test]
fn corrections_are_compared_in_one_table() {
    let (dir, _) = pictures(6, 8);
    let data = dir.path().join("novel");
    let at = |name: &str| dir.path().join(name);
    generic(&at("generic"), 3);
    FILES.iter().for_each(|(teaching, file)| fit(&at("generic"), &at(file), teaching));
    let (features, out) = (at("features"), at("out"));
    let [labels, unlabelled] = FILES.map(|(_, file)| at(file));
    let given = ["--ablation", "overlap", "--correction", s(&unlabelled), "--correction", s(&labels)];
    let args = [&evaluate(s(&data), s(&out), &given)[..], &["--features", s(&features)]].concat();
    let run = tipi(&args);
    let (stdout, stderr) = (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap());
    assert!(run.status.success(), "{stderr}");

    // Overlap and variance of the test pictures by each correction, from features that are made here.
    let (journal, ..) = Journal::look(&out.join("novel")).unwrap();
    let test = journal.test().unwrap();
    let items: Vec<Item> = test.paths.iter().map(|path| Item { path: path.clone(), label: 0 }).collect();
    let width = clip().config.embedding;
    let mut expected = BTreeMap::new();
    for (teaching, file) in FILES {
        let correction = adapter_file::File::open(&at(file)).unwrap().bind(clip()).unwrap().into_correction().unwrap();
        let mut encoder = clip().image_encoder_with(4, Some(&correction.blocks)).unwrap();
        let all = encode::encode(&mut encoder, &items, &Views::Center, true, &mut |_| {}).unwrap().features;
        expected.insert("uncorrected", measured(&all.original, &test.labels, width));
        expected.insert(teaching, measured(all.adapted.as_ref().unwrap(), &test.labels, width));
    }
    let overlaps: Vec<f64> = expected.values().map(|(overlap, ..)| *overlap).collect();
    assert!((overlaps[0] - overlaps[1]).abs() > 0.01 && (overlaps[1] - overlaps[2]).abs() > 0.01, "{expected:?}");
    assert_eq!(journal.records.len(), 6 * 2 * 2);
    for record in &journal.records {
        let (overlap, variance, off) = expected[record.task.variant.unwrap().name];
        assert!((record.overlap.unwrap() - overlap).abs() <= off, "{:?} {overlap}", record.overlap);
        assert!((record.feature_variance.unwrap() - variance).abs() < 1e-5, "{:?} {variance}", record.feature_variance);
        // The accuracy is that of what the details say.
        let said = journal.detail(record.task).unwrap().predicted;
        let right = said.iter().zip(&test.labels).filter(|(said, truth)| said == truth).count();
        assert_eq!(record.accuracy, right as f64 / test.labels.len() as f64);
    }

    // The same results as methods have with each correction by itself.
    let compared = accuracies(&out);
    for (teaching, file) in FILES {
        let (alone, file) = (at(&format!("alone-{teaching}")), at(file));
        let methods = ["--methods", "tip-adapter,tip-adapter++,tip-x,tip-x++", "--features", s(&features)];
        good(&[&evaluate(s(&data), s(&alone), &methods)[..], &["--correction", s(&file)]].concat());
        for ((method, _, shots, seed), accuracy) in accuracies(&alone) {
            let variant = if method.ends_with("++") { teaching } else { "uncorrected" };
            assert_eq!(compared[&(method.clone(), variant.into(), shots, seed)], accuracy, "{method} {teaching}");
        }
    }

    // The table, on the terminal, has these numbers.
    let results = json(&out.join("results.json"));
    let cells = results["summary"]["variants"].as_array().unwrap();
    assert_eq!(cells.len(), 6 * 2);
    let row_of = |method: &str, variant: &str| {
        let own = |c: &&Value| c["method"] == method && c["variant"] == variant;
        let mut own: Vec<&Value> = cells.iter().filter(own).collect();
        own.sort_by_key(|cell| cell["shots"].as_u64());
        let number = |cell: &Value, key: &str| cell[key].as_f64().unwrap();
        let percent =
            |cell: &&Value| format!("{:.1} ± {:.1}", 100.0 * number(cell, "mean"), 100.0 * number(cell, "deviation"));
        let first = [format!("{:.4}", number(own[0], "overlap")), format!("{:.4}", number(own[0], "feature_variance"))];
        first.into_iter().chain(own.iter().map(percent)).collect::<Vec<String>>()
    };
    for group in find_ablation("overlap").unwrap().groups {
        for row in group.rows {
            let numbers = row_of(row.variant.0, row.variant.1);
            let found = stdout.lines().any(|line| line.contains(row.is) && numbers.iter().all(|n| line.contains(n)));
            assert!(found, "no row of {} {} with {numbers:?} in\n{stdout}", group.title, row.is);
        }
    }
    // So has the coefficient: of a method, of both, and of what is left without the mean of each.
    let correlations = results["summary"]["correlations"].as_array().unwrap();
    assert_eq!(correlations.len(), 4 * 2);
    for c in correlations {
        let title =
            |cell: &Value| if cell["method"].as_str().unwrap().starts_with("tip-x") { "Tip-X" } else { "Tip-Adapter" };
        let own = |cell: &&Value| cell["shots"] == c["shots"] && (c["of"].is_null() || c["of"] == title(cell));
        let own: Vec<&Value> = cells.iter().filter(own).collect();
        let point = |cell: &&Value| (cell["overlap"].as_f64().unwrap(), cell["mean"].as_f64().unwrap());
        let mut points: Vec<(f64, f64)> = own.iter().map(point).collect();
        if c["within"] == true {
            let all = points.clone();
            for (i, point) in points.iter_mut().enumerate() {
                let same = |j: &usize| title(own[*j]) == title(own[i]);
                let of: Vec<(f64, f64)> = (0..all.len()).filter(same).map(|j| all[j]).collect();
                let n = of.len() as f64;
                point.0 -= of.iter().map(|p| p.0).sum::<f64>() / n;
                point.1 -= of.iter().map(|p| p.1).sum::<f64>() / n;
            }
        }
        assert_eq!(c["points"].as_u64(), Some(points.len() as u64), "{c}");
        let r = coefficient(&points);
        match c["r"].as_f64() {
            Some(found) => {
                assert!((found - r).abs() < 1e-9, "{c}: {r}");
                let shown = format!("{found:+.3} ({})", points.len()).replace('-', "−");
                assert!(stdout.contains(&shown), "no {shown} in\n{stdout}");
            }
            // Accuracies that are all the same go with nothing.
            None => assert!(points.iter().all(|p| (p.1 - points[0].1).abs() < 1e-12), "{c}"),
        }
    }
    assert!(correlations.iter().any(|c| c["r"].is_number()), "{stdout}");

    let html = fs::read_to_string(out.join("report.html")).unwrap();
    for needle in ["id=\"ablation-overlap\"", "overlap and accuracy, 2 shot", "feature variance", "each less its mean"]
    {
        assert!(html.contains(needle), "no '{needle}' in the report");
    }
    assert!(html.contains("Tip-X, self-supervised, novel: overlap "), "a point says what it is of");
    assert!(
        out.join("plots/novel-overlap-accuracy.png").is_file()
            && out.join("plots/novel-overlap-accuracy.svg").is_file()
    );
    let csv = fs::read_to_string(out.join("results.csv")).unwrap();
    assert!(csv.lines().next().unwrap().contains(",overlap,feature_variance,"), "{csv}");
    let line = csv.lines().find(|line| line.starts_with("novel,tip-adapter++ self-supervised,1,1,")).unwrap();
    let place = csv.lines().next().unwrap().split(',').position(|name| name == "overlap").unwrap();
    let (overlap, _, off) = expected["self-supervised"];
    assert!((line.split(',').nth(place).unwrap().parse::<f64>().unwrap() - overlap).abs() <= off, "{line}");
    assert!(fs::read_to_string(out.join("summary.csv")).unwrap().contains("novel,tip-x++ supervised,2,1 2,"));

    // Again: all is there. Methods may join, another correction of a kind may not.
    let before = fs::read(out.join("novel/results.jsonl")).unwrap();
    assert!(good(&args).contains("24 results are there already"));
    good(
        &[&evaluate(s(&data), s(&out), &["--methods", "zero-shot,tip-x++"])[..], &["--correction", s(&labels)]]
            .concat(),
    );
    let (other, more) = (at("other.st"), ["--ablation", "overlap"]);
    fs::write(&other, doubled(&labels)).unwrap();
    let refused = bad(&[&evaluate(s(&data), s(&out), &more)[..], &["--correction", s(&other)]].concat());
    assert!(refused.contains("compared.supervised") && refused.contains("other settings"), "{refused}");
    assert!(fs::read(out.join("novel/results.jsonl")).unwrap().starts_with(&before));
}

/// The bytes of a correction with all values doubled.
fn doubled(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize + 8;
    for value in bytes[header..].chunks_exact_mut(4) {
        let number = f32::from_le_bytes(value.try_into().unwrap()) * 2.0;
        value.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// Both corrections are trained on generic pictures, none of which is tested: they are those that `fit overlap` learns without them.
#[test]
fn corrections_that_are_compared_see_no_test_picture() {
    let (dir, folder) = pictures(3, 8);
    let data = dir.path().join("novel");
    let at = |name: &str| dir.path().join(name);
    generic(&at("generic"), 3);
    generic(&at("clean"), 3);
    // A class that is tested, and a test picture under another name and another class.
    let out = at("out");
    let small = [
        "--generic",
        s(&at("generic")),
        "--self-supervised-epochs",
        "1",
        "--self-supervised-batch",
        "8",
        "--self-supervised-head",
        "40",
        "--self-supervised-local-crops",
        "2",
    ]
    .map(String::from);
    let small: Vec<&str> = small.iter().map(String::as_str).collect();
    let class = at("generic").join(folder.classes[0].to_uppercase());
    fs::create_dir_all(&class).unwrap();
    fs::copy(&folder.items[0].path, class.join("known.png")).unwrap();
    let dataset = tipi::low_level::data::Dataset::open(s(&data), None).unwrap();
    let some = fs::read_dir(at("generic")).unwrap().map(|e| e.unwrap().path()).find(|path| *path != class).unwrap();
    fs::copy(&dataset.test[0].path, some.join("seen.png")).unwrap();
    let mut args = evaluate(s(&data), s(&out), &["--ablation", "overlap"]);
    args.extend(&small);
    let said = good(&args);
    assert!(said.contains("1 generic picture is among the test pictures, and left out"), "{said}");
    let tensors = |path: &Path| -> Vec<(String, Vec<u8>)> {
        let bytes = fs::read(path).unwrap();
        let mut all: Vec<(String, Vec<u8>)> = SafeTensors::deserialize(&bytes)
            .unwrap()
            .iter()
            .map(|(name, t)| (name.to_string(), t.data().to_vec()))
            .collect();
        all.sort();
        all
    };
    let fit =
        ["fit", "overlap", "--model", MODEL, "--data", s(&at("clean")), "--out", s(&at("x.st"))].map(String::from);
    let fit: Vec<&str> = fit.iter().map(String::as_str).collect();
    let unlabelled = ["--self-supervised", "--epochs", "1", "--batch", "8", "--head", "40", "--local-crops", "2"];
    for (kept, more) in [("correction.safetensors", &[][..]), ("correction-self-supervised.safetensors", &unlabelled)] {
        good(&[&fit[..], more].concat());
        assert!(tensors(&out.join(kept)) == tensors(&at("x.st")), "{kept}");
    }
    assert!(fs::read_dir(&out).unwrap().all(|e| e.unwrap().path().extension().is_none_or(|e| e != "checkpoint")));
    // The corrections are there, and serve again; with other settings they are not taken.
    let again = good(&args);
    assert!(again.contains("24 results are there already") && !again.contains("generic picture"), "{again}");
    args.extend(["--correction-epochs", "3"]);
    let refused = bad(&args);
    assert!(refused.contains("correction.safetensors") && refused.contains("was trained otherwise"), "{refused}");
}

#[test]
fn corrections_that_cannot_be_compared_are_refused() {
    let (dir, _) = pictures(3, 6);
    let data = dir.path().join("novel");
    let at = |name: &str| dir.path().join(name);
    generic(&at("generic"), 2);
    fit(&at("generic"), &at("labels.st"), "supervised");
    fs::copy(at("labels.st"), at("copy.st")).unwrap();
    let (labels, copy, out) = (at("labels.st"), at("copy.st"), at("out"));
    let refused = |more: &[&str], needles: &[&str]| {
        let said = bad(&evaluate(s(&data), s(&out), more));
        let last = said.lines().last().unwrap();
        needles.iter().for_each(|needle| assert!(last.contains(needle), "{more:?}: no '{needle}' in: {last}"));
        assert!(last.starts_with("error: "), "{said}");
    };
    let overlap = ["--ablation", "overlap"];
    refused(&overlap, &["--ablation overlap compares overlap corrections", "--correction", "fit overlap", "--generic"]);
    let two = ["--correction", s(&labels), "--correction", s(&copy)];
    let kinds = ["labels.st", "copy.st", "both trained with labels", "one of each kind", "--self-supervised"];
    refused(&[&overlap[..], &two].concat(), &kinds);
    refused(&two, &["--correction is given several times", "--ablation overlap"]);
    // One correction alone is compared with none; what is missing is missing in the table, too.
    let one = tipi(&evaluate(s(&data), s(&out), &[&overlap[..], &two[..2]].concat()));
    let stdout = String::from_utf8(one.stdout).unwrap();
    assert!(one.status.success() && stdout.contains("self-supervised") && stdout.contains('–'), "{stdout}");
    // A method's adapter is none, nor is a correction of another model, or a folder that is not there.
    let method = at("method.st");
    good(&["fit", "tip", "--model", MODEL, "--data", s(&data), "--shots", "1", "--views", "0", "--out", s(&method)]);
    refused(&["--ablation", "overlap", "--correction", s(&method)], &["method.st", "no overlap correction"]);
    let mut args = evaluate(s(&data), s(&out), &["--ablation", "overlap", "--correction", s(&labels)]);
    let model = args.iter().position(|arg| *arg == MODEL).unwrap();
    args[model] = "tests/golden/model_a";
    let said = bad(&args);
    assert!(said.contains("labels.st") && said.contains("model"), "{said}");
    refused(&["--ablation", "overlap", "--generic", "nowhere"], &["nowhere"]);
    refused(&["--ablation", "overlap", "--correction", "nowhere.st"], &["nowhere.st"]);
}
