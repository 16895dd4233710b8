//! Results and the files that are there already: nothing that is read is written over, and nothing of others' is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use safetensors::SafeTensors;

use start::{MODEL, command, good, root, s, tipi};

/// Fails with code 2 before the GPU is opened, says all of `needles`, and leaves all of `files` as they are.
fn refused(args: &[&str], files: &[&Path], needles: &[&str]) {
    let contents = || files.iter().map(|file| fs::read(file).ok()).collect::<Vec<_>>();
    let before = contents();
    let out = tipi(args);
    let stderr = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(!stderr.contains("device:"), "{args:?}: found only after the work began: {stderr}");
    for needle in needles {
        assert!(stderr.contains(needle), "{args:?}: no '{needle}' in: {stderr}");
    }
    assert!(contents() == before, "{args:?}: a file was changed");
}

/// A file's or folder's name in a folder, however deep.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Two classes of `count` bundled pictures each, below `data`, and a copy of the model, below `model`.
fn folders(count: usize) -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (data, model) = (dir.path().join("data"), dir.path().join("model"));
    for class in ["apple", "umbrella"] {
        let from = root().join("examples/pictos/shifted").join(class);
        fs::create_dir_all(data.join(class)).unwrap();
        for name in names(&from).iter().take(count) {
            fs::copy(from.join(name), data.join(class).join(name)).unwrap();
        }
    }
    fs::create_dir(&model).unwrap();
    // Files; how the model was made lies in a folder beside them.
    for name in names(&root().join(MODEL)).into_iter().filter(|name| root().join(MODEL).join(name).is_file()) {
        fs::copy(root().join(MODEL).join(&name), model.join(&name)).unwrap();
    }
    (dir, data, model)
}

/// The pictures of a class.
fn pictures(data: &Path) -> Vec<PathBuf> {
    let class = data.join("apple");
    names(&class).iter().map(|name| class.join(name)).collect()
}

fn tensor(path: &Path, name: &str) -> Vec<u8> {
    SafeTensors::deserialize(&fs::read(path).unwrap()).unwrap().tensor(name).unwrap().data().to_vec()
}

#[test]
fn a_forgotten_name_costs_no_picture() {
    let (_dir, data, model) = folders(3);
    let all = pictures(&data);
    let first = s(&all[0]);
    // What a shell makes of --out *.png.
    let mut args = vec!["embed", "image", "--model", MODEL, "--out"];
    args.extend(all.iter().map(|path| s(path)));
    refused(&args, &[&all[0]], &[first, "PNG picture", "embeddings", "--force"]);
    refused(&["embed", "text", "--model", MODEL, "--out", first, "a cat"], &[&all[0]], &["PNG picture"]);
    refused(&["embed", "classifier", "--model", MODEL, "--out", first, "a", "b"], &[&all[0]], &["PNG picture"]);
    let fit = |method, out, more: &[&str]| {
        let mut args = vec!["fit", method, "--model", s(&model), "--data", s(&data), "--out", out];
        if method != "overlap" {
            args.extend(["--shots", "1"]);
        }
        args.extend(more);
        args.into_iter().map(String::from).collect::<Vec<_>>()
    };
    let weights = model.join("model.safetensors");
    for method in ["tip", "tip-f", "tip-x", "pini", "overlap"] {
        for (file, what) in [(&all[0], "PNG picture"), (&weights, "safetensors file that tipi did not write")] {
            let args = fit(method, s(file), &[]);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            refused(&args, &[file], &[s(file), what, "an adapter"]);
            // What is read is never written over.
            let args = [&args[..], &["--force"]].concat();
            refused(&args, &[file], &[s(file), "read here"]);
        }
    }
    args.push("--force");
    args.push(first);
    refused(&args, &[&all[0]], &["nothing is written as '.png'"]);
}

#[test]
fn only_a_file_of_the_same_kind_gives_way() {
    let (dir, data, _) = folders(2);
    let at = |name: &str| dir.path().join(name);
    let (adapter, features, plot) = (at("a.safetensors"), at("f.safetensors"), at("plot"));
    let [svg, png] = ["plot.svg", "plot.png"].map(at);
    let fit = |out: &Path| {
        let args =
            ["fit", "tip", "--model", MODEL, "--data", s(&data), "--shots", "1", "--views", "0", "--out", s(out)];
        args.map(String::from)
    };
    let embed = |out: &Path| ["embed", "text", "--model", MODEL, "a cat", "--out", s(out)].map(String::from);
    let overlap = ["overlap", "--model", MODEL, "--data", s(&data), "--plot", s(&plot)];
    let strs = |args: &[String]| -> Vec<&'static str> { args.iter().map(|a| &*a.clone().leak()).collect() };
    for _ in 0..2 {
        // The second time over its own.
        good(&strs(&fit(&adapter)));
        good(&strs(&embed(&features)));
        good(&overlap);
    }
    refused(&strs(&embed(&adapter)), &[&adapter], &["an adapter that tipi wrote", "embeddings"]);
    refused(&strs(&fit(&features)), &[&features], &["embeddings that tipi wrote", "an adapter"]);
    let demo = ["demo", "--sets", "novel", "--shots", "1", "--out"];
    refused(&[&demo[..], &[s(&svg)]].concat(), &[&svg], &["SVG drawing", "PNG picture that tipi drew"]);
    // Others' files of formats that tipi writes, too.
    let foreign: [(&Path, Vec<u8>); 2] = [
        (&svg, b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec()),
        (&png, fs::read(&pictures(&data)[0]).unwrap()),
    ];
    for (path, bytes) in foreign {
        let own = fs::read(path).unwrap();
        fs::write(path, bytes).unwrap();
        refused(&overlap, &[&svg, &png], &[s(path), "not overwritten"]);
        good(&[&overlap[..], &["--force"]].concat());
        assert!(fs::read(path).unwrap() == own);
    }
    let notes = at("notes.txt");
    fs::write(&notes, "mine").unwrap();
    refused(&strs(&embed(&notes)), &[&notes], &["a file that tipi did not write"]);
    refused(&strs(&fit(&notes)), &[&notes], &["a file that tipi did not write"]);
    refused(&[&demo[..], &[s(&notes)]].concat(), &[&notes], &["a file that tipi did not write"]);
    // An empty file, as mktemp makes it, is nothing to lose; and --force is told to.
    fs::write(at("empty.safetensors"), "").unwrap();
    good(&strs(&embed(&at("empty.safetensors"))));
    refused(&[&strs(&embed(&notes))[..], &["--force"]].concat(), &[&notes], &["nothing is written as '.txt'"]);
    let named = at("notes.safetensors");
    fs::rename(&notes, &named).unwrap();
    good(&[&strs(&embed(&named))[..], &["--force"]].concat());
    assert_eq!(tensor(&named, "features"), tensor(&features, "features"));
}

#[test]
fn what_is_read_is_no_place_for_a_result() {
    let (dir, data, _) = folders(2);
    let correction = dir.path().join("c.safetensors");
    good(&["fit", "overlap", "--model", MODEL, "--data", s(&data), "--bottleneck", "4", "--out", s(&correction)]);
    for method in ["tip", "tip-x"] {
        let args =
            ["fit", method, "--model", MODEL, "--data", s(&data), "--shots", "1", "--correction", s(&correction)];
        // An adapter may take the place of an adapter, but not of this one.
        refused(&[&args[..], &["--out", s(&correction)]].concat(), &[&correction], &["correction", "read here"]);
    }
    let link = dir.path().join("hard link");
    fs::hard_link(&correction, &link).unwrap();
    let args = ["fit", "tip", "--model", MODEL, "--data", s(&data), "--shots", "1", "--correction", s(&correction)];
    refused(&[&args[..], &["--out", s(&link)]].concat(), &[&correction, &link], &["read here, as"]);
    let args = ["embed", "image", "--model", MODEL, "--force", "--correction", s(&correction), s(&data)];
    refused(&[&args[..], &["--out", s(&correction)]].concat(), &[&correction], &["read here"]);
    let lines = dir.path().join("lines.csv");
    fs::write(&lines, "a cat\na dog\n").unwrap();
    let list = format!("@{}", s(&lines));
    let args = ["embed", "text", "--model", MODEL, "--out", s(&lines), &list];
    refused(&args, &[&lines], &["a file that tipi did not write"]);
    refused(&[&args[..], &["--force"]].concat(), &[&lines], &["list of texts", "read here"]);
    #[cfg(unix)]
    {
        let link = dir.path().join("link.safetensors");
        std::os::unix::fs::symlink(&lines, &link).unwrap();
        let args = ["embed", "text", "--model", MODEL, "--force", "--out", s(&link), &list];
        refused(&args, &[&lines], &["list of texts", "read here, as"]);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}

#[test]
fn a_report_takes_the_place_of_a_report_only() {
    let (dir, data, _) = folders(4);
    let out = dir.path().join("results");
    fs::create_dir(&out).unwrap();
    let eval =
        ["eval", "--dataset", s(&data), "--model", MODEL, "--methods", "zero-shot", "--shots", "1", "--seeds", "1"];
    let eval = [&eval[..], &["--out", s(&out)]].concat();
    for name in ["report.html", "results.csv", "summary.csv", "results.json"] {
        let file = out.join(name);
        fs::write(&file, "mine").unwrap();
        refused(&eval, &[&file], &[s(&file), "did not write"]);
        fs::remove_file(&file).unwrap();
    }
    // Nor are results written among files of others.
    let set = out.join("data");
    fs::create_dir(&set).unwrap();
    fs::write(set.join("test.json"), "mine").unwrap();
    let ended = tipi(&eval);
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.code() == Some(2) && said.contains("test.json"), "{said}");
    assert_eq!(fs::read(set.join("test.json")).unwrap(), b"mine");
    fs::remove_file(set.join("test.json")).unwrap();
    good(&eval);
    good(&eval);
    good(&["report", s(&out)]);
    let report = out.join("report.html");
    fs::write(&report, "<!DOCTYPE html><title>mine</title>").unwrap();
    refused(&["report", s(&out)], &[&report], &[s(&report), "did not write"]);
    good(&["report", s(&out), "--force"]);
    let file = out.join("results.csv");
    let eval = ["eval", "--dataset", s(&data), "--model", MODEL, "--out", s(&file)];
    refused(&eval, &[&file], &[s(&file), "folder"]);
}

#[test]
fn a_dash_is_standard_output_or_refused() {
    let (dir, data, _) = folders(2);
    let features = dir.path().join("f.safetensors");
    let more: [&[&str]; 3] = [&["image", s(&data)], &["text", "a cat", "a dog"], &["classifier", "cat", "dog"]];
    for args in more {
        let args = [&["embed"], args, &["--model", MODEL, "--out"]].concat();
        good(&[&args[..], &[s(&features)]].concat());
        let out = tipi(&[&args[..], &["-"]].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert!(out.stdout == fs::read(&features).unwrap(), "{args:?}");
    }
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    let (model, data) = (root().join(MODEL), s(&data));
    let cases: [&[&str]; 5] = [
        &["fit", "tip", "--model", s(&model), "--data", data, "--shots", "1", "--out", "-"],
        &["fit", "overlap", "--model", s(&model), "--data", data, "--out", "-"],
        &["overlap", "--model", s(&model), "--data", data, "--plot", "-"],
        &["eval", "--model", s(&model), "--dataset", data, "--out", "-"],
        &["demo", "--out", "-"],
    ];
    for args in cases {
        let out = command(args).current_dir(&work).output().unwrap();
        let stderr = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(2) && stderr.contains("standard output"), "{args:?}: {stderr}");
        assert!(!stderr.contains("device:"), "{stderr}");
    }
    assert!(names(&work).is_empty());
}

#[test]
fn what_cannot_be_written_is_found_before_the_work() {
    let (dir, data, _) = folders(2);
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let long = dir.path().join("x".repeat(300));
    let slash = format!("{}/", dir.path().join("new").display());
    let missing = dir.path().join("nowhere/a.safetensors");
    let through = data.join("apple").join(&names(&data.join("apple"))[0]).join("a");
    for bad in [s(&folder), s(&long), &slash, s(&missing), s(&through), ""] {
        refused(&["embed", "text", "--model", MODEL, "a", "--out", bad], &[], &[]);
        refused(&["fit", "tip", "--model", MODEL, "--data", s(&data), "--shots", "1", "--out", bad], &[], &[]);
        refused(&["demo", "--out", bad], &[], &[]);
    }
    assert_eq!(names(dir.path()), ["data", "folder", "model"]);
}

#[cfg(unix)]
#[test]
fn a_pipe_is_written_to_while_somebody_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (pipe, file, copy) = (dir.path().join("pipe"), dir.path().join("f.safetensors"), dir.path().join("copy"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let embed = |out: &Path| tipi(&["embed", "text", "--model", MODEL, "a cat", "--out", s(out)]);
    assert!(embed(&file).status.success());
    let alone = embed(&pipe);
    assert_eq!(alone.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&alone.stderr).contains("nobody reads"));
    let mut reader = Command::new("cat").arg(&pipe).stdout(fs::File::create(&copy).unwrap()).spawn().unwrap();
    let mut done = embed(&pipe);
    // The reader may not have opened it yet.
    while !done.status.success() && String::from_utf8_lossy(&done.stderr).contains("nobody reads") {
        done = embed(&pipe);
    }
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(reader.wait().unwrap().success());
    assert!(fs::read(&copy).unwrap() == fs::read(&file).unwrap());
}

/// Waits for a file or folder, as long as the program runs.
#[cfg(unix)]
fn wait_for(child: &mut std::process::Child, there: impl Fn() -> bool) {
    while !there() {
        assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[cfg(unix)]
#[test]
fn two_trainings_never_share_a_checkpoint() {
    let (dir, data, _) = folders(3);
    let out = dir.path().join("a.safetensors");
    let fit = ["fit", "pini", "--model", MODEL, "--data", s(&data), "--shots", "2", "--no-augment", "--out", s(&out)];
    let long = [&fit[..], &["--epochs", "100000"]].concat();
    let mut first = command(&long).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = dir.path().join("a.safetensors.checkpoint");
    wait_for(&mut first, || checkpoint.exists());
    // Not its bytes, which change with every epoch.
    refused(&fit, &[&out], &["a.safetensors", "another tipi"]);
    assert!(checkpoint.exists());
    first.kill().unwrap();
    first.wait().unwrap();
    // A killed one's lock is nobody's.
    good(&[&fit[..], &["--epochs", "2"]].concat());
    assert_eq!(names(dir.path()), ["a.safetensors", "data", "model"]);
}

#[cfg(unix)]
#[test]
fn a_checkpoint_goes_through_no_link_and_over_nothing_of_others() {
    let (dir, data, _) = folders(3);
    let at = |name: &str| dir.path().join(name);
    let (out, precious, checkpoint) = (at("a.safetensors"), at("precious"), at("a.safetensors.checkpoint"));
    fs::write(&precious, "mine").unwrap();
    let fit = ["fit", "pini", "--model", MODEL, "--data", s(&data), "--shots", "2", "--epochs", "2", "--no-augment"];
    let fit = [&fit[..], &["--out", s(&out)]].concat();
    for target in [&precious, &at("nothing")] {
        std::os::unix::fs::symlink(target, &checkpoint).unwrap();
        refused(&fit, &[&precious], &[s(&checkpoint), "link"]);
        assert!(fs::symlink_metadata(&checkpoint).unwrap().is_symlink());
        fs::remove_file(&checkpoint).unwrap();
    }
    fs::write(&checkpoint, "mine, too").unwrap();
    refused(&fit, &[&checkpoint], &[s(&checkpoint), "a file that tipi did not write"]);
    let lock = at(".a.safetensors.lock");
    fs::rename(&checkpoint, &lock).unwrap();
    refused(&fit, &[&lock], &[s(&lock), "another file"]);
    assert_eq!(names(dir.path()), [".a.safetensors.lock", "data", "model", "precious"]);
}

#[cfg(unix)]
#[test]
fn embedding_goes_on_after_a_stop_and_a_kill_with_the_same_bits() {
    let (dir, data, _) = folders(20);
    // One that cannot be decoded, and one picture twice.
    fs::write(data.join("apple/broken.png"), "no picture").unwrap();
    fs::copy(&pictures(&data)[1], data.join("umbrella/again.png")).unwrap();
    let [whole, out] = ["whole.safetensors", "a.safetensors"].map(|name| dir.path().join(name));
    let embed = ["embed", "image", "--model", MODEL, "--labels", "--batch", "1", s(&data), "--out"];
    good(&[&embed[..], &[s(&whole)]].concat());
    let embed = [&embed[..], &[s(&out)]].concat();
    let kept = dir.path().join(".a.safetensors.features");
    let begin = || {
        let mut child = command(&embed).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&mut child, || kept.exists());
        child
    };
    let stopped = begin();
    assert!(Command::new("kill").args(["-INT", &stopped.id().to_string()]).status().unwrap().success());
    let ended = stopped.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("goes on") && said.contains(".a.safetensors.features"), "{said}");
    let rows = |folder: &Path| -> Vec<PathBuf> {
        let stores = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).filter(|store| store.is_dir());
        let files = stores.flat_map(|store| fs::read_dir(store).unwrap().map(|e| e.unwrap().path()));
        files.filter(|path| path.extension().is_some_and(|e| e == "safetensors")).collect()
    };
    let first = rows(&kept);
    assert!(!first.is_empty(), "nothing was kept");
    let mut killed = begin();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let second = rows(&kept);
    assert!(first.iter().all(|file| second.contains(file)), "a killed run lost what was there");
    good(&embed);
    assert!(fs::read(&out).unwrap() == fs::read(&whole).unwrap(), "other bits");
    assert_eq!(names(dir.path()), ["a.safetensors", "data", "model", "whole.safetensors"]);
}

#[test]
fn what_killed_runs_left_is_swept_and_what_others_have_there_stays() {
    let (dir, data, _) = folders(2);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
    let aged = |path: &Path| fs::File::create(path).unwrap().set_modified(old).unwrap();
    aged(&dir.path().join(".tipi-aB3xYz.part"));
    aged(&dir.path().join(".tipi-mine.part"));
    fs::write(dir.path().join(".tipi-Recent.part"), "").unwrap();
    // A folder of that name with something in it.
    let kept = dir.path().join(".f.safetensors.features");
    fs::create_dir_all(kept.join("mine")).unwrap();
    fs::write(kept.join("mine/notes.txt"), "mine").unwrap();
    let out = dir.path().join("f.safetensors");
    good(&["embed", "image", "--model", MODEL, s(&data), "--out", s(&out)]);
    let left = [".f.safetensors.features", ".tipi-Recent.part", ".tipi-mine.part", "data", "f.safetensors", "model"];
    assert_eq!(names(dir.path()), left);
    assert_eq!(names(&kept), ["mine"]);
    assert_eq!(fs::read(kept.join("mine/notes.txt")).unwrap(), b"mine");
}

#[cfg(unix)]
#[test]
fn features_are_not_kept_through_a_link() {
    let (dir, data, _) = folders(2);
    let (out, elsewhere) = (dir.path().join("f.safetensors"), dir.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    let link = dir.path().join(".f.safetensors.features");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    refused(&["embed", "image", "--model", MODEL, s(&data), "--out", s(&out)], &[&out], &[s(&link), "link"]);
    assert!(names(&elsewhere).is_empty());
}
