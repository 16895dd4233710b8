//! Which pictures are learned from, whatever form they come in, and the files that features go to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use start::{MODEL, bad, good, root, s, tipi};

/// Classes with 6, 3 and 4 pictures.
fn unequal() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for (class, count) in [("bell", 6), ("car", 3), ("umbrella", 4)] {
        let from = root().join("examples/pictos/shifted").join(class);
        let mut files: Vec<_> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        fs::create_dir_all(data.join(class)).unwrap();
        for file in files.iter().take(count) {
            fs::copy(file, data.join(class).join(file.file_name().unwrap())).unwrap();
        }
    }
    (dir, data)
}

/// What `fit tip` says.
fn fit(data: &Path, more: &[&str], out: &Path) -> String {
    let args = ["fit", "tip", "--model", MODEL, "--key-views", "0", "--data", s(data), "--out", s(out)];
    good(&[&args[..], more].concat())
}

#[test]
fn classes_that_have_fewer_pictures_give_all_they_have() {
    let (dir, data) = unequal();
    let out = dir.path().join("a.safetensors");
    let said = fit(&data, &["--shots", "4"], &out);
    let short = "4 shots: 1 of 3 classes has fewer pictures to learn from ('car': 3)";
    assert_eq!(said.matches(short).count(), 1, "{said}");
    assert!(said.contains("11 pictures of 3 classes"), "{said}");
    assert!(said.contains("2 validation pictures"), "of bell two are left: {said}");
    let said = fit(&data, &["--shots", "3"], &out);
    assert!(!said.contains("fewer") && said.contains("9 pictures of 3 classes"), "{said}");
    let said = fit(&data, &["--shots", "all"], &out);
    assert!(!said.contains("fewer") && said.contains("13 pictures of 3 classes"), "{said}");
    assert!(!said.contains("validation pictures: "), "none are put aside: {said}");
    for wrong in ["0", "some", "1000001"] {
        let args = ["fit", "tip", "--model", MODEL, "--data", s(&data), "--out", s(&out), "--shots", wrong];
        assert!(bad(&args).contains("it must be a whole number from 1 to 1000000, or all"));
    }
}

#[test]
fn an_evaluation_with_all_pictures_has_its_name_everywhere() {
    let (dir, data) = unequal();
    let out = dir.path().join("out");
    let args = [
        "eval",
        "--dataset",
        s(&data),
        "--model",
        MODEL,
        "--methods",
        "zero-shot,tip",
        "--key-views",
        "0",
        "--seeds",
        "1",
        "--adapters",
        "--out",
        s(&out),
    ];
    good(&[&args[..], &["--shots", "1"]].concat());
    // Results of numbers alone, as they were written before there was another word, are gone on with.
    let said = good(&[&args[..], &["--shots", "1,all"]].concat());
    assert!(said.contains("[3/4]") && said.contains("tip-adapter all pictures seed 1:"), "{said}");
    let lines = fs::read_to_string(out.join("data/results.jsonl")).unwrap();
    let shots: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["shots"].clone()).collect();
    assert_eq!(shots, [1.into(), 1.into(), Value::from("all"), "all".into()]);
    assert!(out.join("data/details/tip-adapter-all-seed1.json").is_file());
    assert!(out.join("data/adapters/tip-adapter-all-seed1.safetensors").is_file());
    let summary = tipi(&["report", s(&out)]);
    assert!(String::from_utf8(summary.stdout).unwrap().contains("all pictures"));
    assert!(fs::read_to_string(out.join("summary.csv")).unwrap().contains(",all,"));
    let again = good(&[&args[..], &["--shots", "1,all"]].concat());
    assert!(again.contains("4 results are there already"), "{again}");
}

#[test]
fn what_can_be_checked_can_be_learned_from() {
    let (dir, data) = unequal();
    let out = dir.path().join("a.safetensors");
    let all: Vec<(String, String)> = ["bell", "car", "umbrella"]
        .iter()
        .flat_map(|class| {
            let mut files: Vec<_> = fs::read_dir(data.join(class)).unwrap().map(|e| e.unwrap().path()).collect();
            files.sort();
            files.into_iter().map(move |file| (s(&file).to_owned(), (*class).to_owned()))
        })
        .collect();
    let lines = |split: &dyn Fn(usize) -> &'static str| -> String {
        all.iter().enumerate().map(|(at, (path, class))| format!("{path},{class}{}\n", split(at))).collect()
    };
    let csv = dir.path().join("list.csv");
    // A list without parts is as good as folders: the same adapter, to the byte.
    fs::write(&csv, format!("path,label\n{}", lines(&|_| ""))).unwrap();
    fit(&csv, &["--shots", "2", "--template", "an icon of {}"], &out);
    let of_list = fs::read(&out).unwrap();
    fit(&data, &["--shots", "2", "--template", "an icon of {}"], &out);
    assert!(of_list == fs::read(&out).unwrap());
    // One with parts is learned from by them, and needs no part to test on.
    fs::write(&csv, format!("path,label,split\n{}", lines(&|at| if at % 3 == 2 { ",val" } else { ",train" }))).unwrap();
    let said = fit(&csv, &["--shots", "all"], &out);
    assert!(said.contains("9 pictures of 3 classes") && said.contains("4 validation pictures"), "{said}");
    assert!(bad(&["data", "check", s(&csv)]).contains("there is no picture to test on"));
    // CoOp's form.
    let split = dir.path().join("split.json");
    let entries = |which: std::ops::Range<usize>| -> Vec<Value> {
        let of = |(path, class): &(String, String)| {
            let path = Path::new(path).strip_prefix(dir.path()).unwrap();
            let label = ["bell", "car", "umbrella"].iter().position(|c| c == class).unwrap();
            serde_json::json!([s(path), label, class])
        };
        let mut mixed: Vec<_> = all.iter().collect();
        mixed.sort_by_key(|(path, _)| Path::new(path).file_name().unwrap().to_owned());
        mixed.sort_by_key(|(path, class)| all.iter().filter(|(p, c)| c == class && p < path).count());
        mixed[which].iter().map(|item| of(item)).collect()
    };
    let file = serde_json::json!({"train": entries(0..6), "val": entries(6..9), "test": entries(9..13)});
    fs::write(&split, file.to_string()).unwrap();
    let said = fit(&split, &["--shots", "1"], &out);
    assert!(said.contains("split: the split file") && said.contains("3 pictures of 3 classes"), "{said}");
    assert!(tipi(&["data", "check", s(&split)]).status.success());
    // Folders for parts, without one to test on.
    let parts = dir.path().join("parts");
    for (at, (path, class)) in all.iter().enumerate() {
        let folder = parts.join(if at % 3 == 2 { "val" } else { "train" }).join(class);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(path, folder.join(Path::new(path).file_name().unwrap())).unwrap();
    }
    let said = fit(&parts, &["--shots", "all"], &out);
    assert!(said.contains("9 pictures of 3 classes") && said.contains("4 validation pictures"), "{said}");
    assert!(bad(&["data", "check", s(&parts)]).contains("rename val to test"));
    // A known dataset has its own words.
    tipi_testing::miniatures::write("oxford_pets", dir.path());
    let args = ["fit", "tip", "--model", MODEL, "--key-views", "0", "--data", "pets", "--shots", "2", "--out", s(&out)];
    assert!(bad(&args).contains("--root DIR"));
    let said = good(&[&args[..], &["--root", s(dir.path())]].concat());
    assert!(
        said.contains("OxfordPets: split_zhou_OxfordPets.json") && said.contains("8 pictures of 4 classes"),
        "{said}"
    );
    let bytes = fs::read(&out).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("a type of pet"), "the template is the set's own");
    let split = dir.path().join("oxford_pets/split_zhou_OxfordPets.json");
    let said = fit(&split, &["--shots", "2"], &out);
    assert!(said.contains("OxfordPets: split_zhou_OxfordPets.json") && fs::read(&out).unwrap() == bytes, "{said}");
}

#[test]
fn features_are_written_as_their_files_ending_says() {
    let dir = tempfile::tempdir().unwrap();
    let bells = "examples/pictos/shifted/bell";
    let embed = |name: &str, more: &[&str]| {
        let file = dir.path().join(name);
        let out = tipi(&[&["embed", "image", "--model", MODEL, "--out", s(&file)], more, &[bells]].concat());
        (file, out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    let (file, code, said) = embed("f.safetensors", &[]);
    assert_eq!(code, Some(0), "{said}");
    let bytes = fs::read(file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let features = tensors.tensor("features").unwrap();
    // NumPy's: a header of a known length, then the same bytes; the names beside it.
    for _ in 0..2 {
        let (file, code, said) = embed("f.npy", &[]);
        assert_eq!(code, Some(0), "its own files give way: {said}");
        let npy = fs::read(file).unwrap();
        assert!(npy.starts_with(b"\x93NUMPY\x01\x00"));
        let length = 10 + usize::from(u16::from_le_bytes([npy[8], npy[9]]));
        let head = String::from_utf8(npy[10..length].to_vec()).unwrap();
        assert!(
            head.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (16, 192), }") && head.ends_with('\n')
        );
        assert_eq!(length % 64, 0);
        assert!(npy[length..] == *features.data());
    }
    let names = fs::read_to_string(dir.path().join("f.paths.txt")).unwrap();
    assert_eq!(names.lines().count(), 16);
    let (file, code, said) = embed("f.csv", &[]);
    assert_eq!(code, Some(0), "{said}");
    let csv = fs::read_to_string(file).unwrap();
    let mut values: Vec<f32> = Vec::new();
    for (line, name) in csv.lines().skip(1).zip(names.lines()) {
        let mut fields = line.split(',');
        assert_eq!(fields.next(), Some(name));
        values.extend(fields.map(|field| field.parse::<f32>().unwrap()));
    }
    assert!(csv.starts_with("path,f0,f1,") && csv.lines().next().unwrap().ends_with(",f191"));
    assert!(bytemuck::cast_slice::<f32, u8>(&values) == features.data(), "every number is read as it was");
    // No file is another one than its name says.
    for name in ["f.parquet", "f.bin", "f"] {
        let (file, code, said) = embed(name, &[]);
        assert!(code == Some(2) && said.contains(".safetensors, .npy or .csv") && !file.exists(), "{said}");
    }
    let (_, code, said) = embed("l.npy", &["--labels"]);
    assert!(code == Some(2) && said.contains("one array"), "{said}");
    // What others wrote stays.
    fs::write(dir.path().join("f.csv"), "name,value\n").unwrap();
    assert_eq!(embed("f.csv", &[]).1, Some(2));
    fs::write(dir.path().join("g.paths.txt"), "mine\n").unwrap();
    let (file, code, said) = embed("g.npy", &[]);
    assert!(code == Some(2) && !file.exists() && said.contains("g.paths.txt"), "{said}");
}

#[test]
fn pictures_with_several_labels_are_learned_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, out, labels) =
        (dir.path().join("list.csv"), dir.path().join("a.safetensors"), dir.path().join("labels.txt"));
    // Pictures of five classes; the first three are things of one kind.
    let classes = ["bell", "umbrella", "apple", "car", "backpack"];
    let mut list = String::from("path,label\n");
    let mut tested = Vec::new();
    for (number, class) in classes.iter().enumerate() {
        let folder = root().join("examples/pictos/shifted").join(class);
        let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for (at, file) in files.iter().enumerate() {
            match at {
                0..4 if number < 3 => list += &format!("{},{class}{}thing\n", s(file), [";", "|"][at % 2]),
                0..4 => list += &format!("{},{class}\n", s(file)),
                _ => tested.push((file.clone(), number)),
            }
        }
    }
    fs::write(&csv, &list).unwrap();
    let fit = [
        "fit",
        "tip",
        "--model",
        MODEL,
        "--multi-label",
        "--key-views",
        "0",
        "--template",
        "an icon of {}",
        "--shots",
        "all",
        "--data",
        s(&csv),
        "--out",
        s(&out),
    ];
    let said = good(&fit);
    assert!(
        said.contains("20 pictures of 6 labels") && said.contains("F1 0.") && !said.contains("fewer than"),
        "{said}"
    );
    let bytes = fs::read(&out).unwrap();
    good(&fit);
    assert!(bytes == fs::read(&out).unwrap(), "the same bytes again");
    let paths: Vec<&str> = tested.iter().map(|(path, _)| s(path)).collect();
    let answers = |more: &[&str]| {
        let answer = tipi(&[&["predict", "--adapter", s(&out)][..], more, &paths].concat());
        assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8(answer.stdout).unwrap()
    };
    let rows: Vec<Value> = serde_json::from_str(&answers(&["--json"])).unwrap();
    let (mut right, mut wrong, mut missed, mut both) = (0, 0, 0, 0);
    for (row, (_, number)) in rows.iter().zip(&tested) {
        let has: Vec<&str> = row["labels"].as_array().unwrap().iter().map(|label| label.as_str().unwrap()).collect();
        let wanted: Vec<&str> = [classes[*number]].into_iter().chain((*number < 3).then_some("thing")).collect();
        right += has.iter().filter(|label| wanted.contains(label)).count();
        wrong += has.iter().filter(|label| !wanted.contains(label)).count();
        missed += wanted.iter().filter(|label| !has.contains(label)).count();
        both += usize::from(has.contains(&"thing") && has.len() > 1);
        for score in row["scores"].as_array().unwrap() {
            let [logit, threshold] = ["logit", "threshold"].map(|key| score[key].as_f64().unwrap());
            assert_eq!(score["has"], logit >= threshold, "{score}");
        }
    }
    let f1 = 2.0 * right as f64 / (2 * right + wrong + missed) as f64;
    assert!(f1 > 0.6 && both > 0, "F1 {f1} with {right} right, {wrong} wrong, {missed} missed");
    let table = answers(&["--top", "6", "--scores"]);
    assert!(table.contains("threshold") && table.contains("cosine"), "{table}");
    assert!(answers(&["--csv"]).starts_with("path,labels,apple,backpack,bell,car,thing,umbrella\n"));
    // What is declared is all there is, in that order.
    fs::write(&labels, "umbrella\nthing\nbell\ncar\nbackpack\napple\n").unwrap();
    good(&[&fit[..], &["--labels-file", s(&labels)]].concat());
    assert!(answers(&["--csv"]).starts_with("path,labels,umbrella,thing,bell,car,backpack,apple\n"));
    fs::write(&labels, "umbrella\nthing\nbell\ncar\napple\n").unwrap();
    let said = bad(&[&fit[..], &["--labels-file", s(&labels)]].concat());
    assert!(said.contains("list.csv: line 18: the label 'backpack' is none of those"), "{said}");
    // A label of one picture has the threshold of all, which is said.
    fs::write(&csv, format!("{list}{},rare;thing\n", s(&tested[0].0))).unwrap();
    let said = good(&fit);
    assert!(said.contains("1 of 7 labels has fewer than 3 pictures") && said.contains("(rare)"), "{said}");
    let other = ["predict", "--adapter", s(&out), "--min-confidence", "0.5", paths[0]];
    assert!(bad(&other).contains("a threshold for each label"));
    fs::write(&csv, format!("{list}{},;thing\n", s(&tested[0].0))).unwrap();
    assert!(bad(&fit).contains("line 22: there is an empty label"));
    // Methods that cannot, data that has one label a picture, and an adapter of such.
    let of = |method: &str, data: &str| {
        bad(&["fit", method, "--model", MODEL, "--multi-label", "--shots", "all", "--data", data, "--out", s(&out)])
    };
    assert!(of("gda", s(&csv)).contains("gda cannot tell several labels"));
    assert!(of("tip", "examples/pictos/shifted").contains("takes a CSV file"));
    let (_kept, data) = unequal();
    let plain = dir.path().join("plain.safetensors");
    good(&["fit", "tip", "--model", MODEL, "--key-views", "0", "--data", s(&data), "--shots", "2", "--out", s(&plain)]);
    assert!(bad(&["predict", "--adapter", s(&plain), "--multi-label", paths[0]]).contains("fit it with --multi-label"));
}
