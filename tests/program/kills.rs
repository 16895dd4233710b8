//! Killed at random moments, over and over: `fit`, `eval` and `embed` lose nothing of the user's, leave nothing behind
//! that is not taken up or swept, and end with the bytes of a run that was left alone. Too long for every run:
//!
//! ```sh
//! cargo test --release --test kills -- --ignored --nocapture
//! ```
//!
//! `TIPI_KILLS=30` kills so many runs in all, 1,000 by default; `TIPI_SEED` chooses other moments, `TIPI_CASE` the cases with this
//! in their names.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

fn root() -> &'static Path {
    tipi_testing::root()
}

/// Every file below a folder with its contents.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

/// Files by name, as they are compared.
type Results = Vec<(String, Vec<u8>)>;

/// A command on pictures in DATA whose results lie in OUT, and what of them counts.
struct Case {
    name: &'static str,
    args: &'static str,
    /// The files that a whole run ends with, as they are compared.
    results: fn(&Path) -> Results,
}

fn file(out: &Path, name: &str) -> (String, Vec<u8>) {
    (name.to_string(), fs::read(out.join(name)).unwrap_or_default())
}

/// Results by task, whatever their order, and without time and memory, the last three columns.
fn results(out: &Path) -> Results {
    let text = fs::read_to_string(out.join("results.csv")).unwrap();
    let mut rows: Vec<String> = text.lines().skip(1).map(|l| l.rsplitn(4, ',').last().unwrap().to_string()).collect();
    rows.sort();
    vec![("results.csv".into(), rows.join("\n").into_bytes())]
}

const CASES: [Case; 4] = [
    Case {
        name: "fit tip-f",
        args: "fit tip-f --model weights/picto --data DATA --shots 2 --epochs 3 --seed 1 --out OUT/a.safetensors",
        results: |out| vec![file(out, "a.safetensors")],
    },
    Case {
        name: "fit pini",
        args: "fit pini --model weights/picto --data DATA --shots 2 --epochs 12 --seed 1 --no-augment --out OUT/a.safetensors",
        results: |out| vec![file(out, "a.safetensors")],
    },
    Case {
        name: "embed image",
        args: "embed image --model weights/picto --out OUT/a.safetensors DATA",
        results: |out| vec![file(out, "a.safetensors")],
    },
    Case {
        name: "eval",
        args: "eval --model weights/picto --dataset DATA --shots 1,2 --seeds 1 --key-views 2 --views 2 --pini-epochs 3 \
               --tip-f-epochs 3 --grid standard --out OUT",
        results,
    },
];

/// Starts a command. `fit pini` takes up what it left, as its message says.
fn start(case: &Case, data: &Path, out: &Path, resume: bool) -> std::process::Child {
    let fill = |arg: &str| arg.replace("DATA", data.to_str().unwrap()).replace("OUT", out.to_str().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipi"));
    command.env("TIPI_TUNE", "off").args(case.args.split_whitespace().map(fill));
    if resume {
        command.arg("--resume");
    }
    command.current_dir(root()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(case: &Case, data: &Path, out: &Path, resume: bool) {
    let ended = start(case, data, out, resume).wait_with_output().unwrap();
    assert!(ended.status.success(), "{}: {}", case.name, String::from_utf8_lossy(&ended.stderr));
}

/// Temporary files below a folder.
fn parts(folder: &Path) -> Vec<PathBuf> {
    contents(folder).into_keys().filter(|p| p.extension().is_some_and(|e| e == "part")).collect()
}

#[test]
#[ignore = "half an hour"]
fn a_thousand_kills_lose_nothing_and_leave_nothing() {
    let number = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |n| n.parse().unwrap());
    let (kills, mut state) = (number("TIPI_KILLS", 1000), number("TIPI_SEED", 1));
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 31) as f64
    };
    // A few classes of the bundled pictures, copied: what is at stake is the user's.
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut classes: Vec<_> =
        fs::read_dir(root().join("examples/pictos/novel")).unwrap().map(|e| e.unwrap().path()).collect();
    classes.sort();
    for class in classes.iter().filter(|c| c.is_dir()).take(3) {
        let to = data.join(class.file_name().unwrap());
        fs::create_dir_all(&to).unwrap();
        let mut pictures: Vec<_> = fs::read_dir(class).unwrap().map(|e| e.unwrap().path()).collect();
        pictures.sort();
        for picture in pictures.iter().take(8) {
            fs::copy(picture, to.join(picture.file_name().unwrap())).unwrap();
        }
    }
    let before = contents(&data);
    let model = contents(&root().join("weights/picto"));
    let chosen = std::env::var("TIPI_CASE").unwrap_or_default();
    for case in CASES.iter().filter(|case| case.name.contains(&chosen)) {
        let whole = tempfile::tempdir().unwrap();
        let clock = Instant::now();
        end(case, &data, whole.path(), false);
        let mut time = clock.elapsed();
        let expected = (case.results)(whole.path());
        assert!(expected.iter().all(|(_, bytes)| !bytes.is_empty()), "{}", case.name);
        let (mut killed, mut swept, mut finished) = (0, 0, 0);
        let mut out = tempfile::tempdir().unwrap();
        while killed < kills.div_ceil(CASES.len() as u64) {
            let checkpoint = out.path().join("a.safetensors.checkpoint");
            let mut child = start(case, &data, out.path(), checkpoint.is_file());
            let wait = time.mul_f64(1.05 * random());
            let clock = Instant::now();
            while clock.elapsed() < wait && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            if child.try_wait().unwrap().is_none() {
                child.kill().unwrap();
                killed += 1;
            } else {
                // The machine does less besides than when this was measured: later moments would come too late.
                time = time.min(clock.elapsed());
            }
            let ended = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&ended.stderr).into_owned();
            assert!(ended.status.success() || ended.status.code().is_none(), "{}: {said}", case.name);
            assert!(!said.contains("panicked"), "{}: {said}", case.name);
            // What is there is whole: an adapter or a file of features is either not yet there, or all of it.
            for (name, bytes) in &expected {
                let path = out.path().join(name);
                assert!(
                    !name.ends_with(".safetensors") || !path.exists() || fs::read(&path).unwrap() == *bytes,
                    "{}: {name} is there in part",
                    case.name
                );
            }
            // Now and then it is left to end, with the same bytes, and another begins in a new folder.
            if ended.status.success() || random() < 0.04 {
                if !ended.status.success() {
                    end(case, &data, out.path(), checkpoint.is_file());
                }
                // Not by assert_eq, which would print a file of numbers.
                assert!((case.results)(out.path()) == expected, "{}: other bytes after {killed} kills", case.name);
                finished += 1;
                // Temporary files of killed runs go once they are old.
                let left = parts(out.path());
                swept += left.len();
                let old = SystemTime::now() - Duration::from_secs(50 * 3600);
                for part in &left {
                    fs::File::options().write(true).open(part).unwrap().set_modified(old).unwrap();
                }
                end(case, &data, out.path(), false);
                assert!((case.results)(out.path()) == expected, "{}: other bytes, run once more", case.name);
                assert_eq!(parts(out.path()), Vec::<PathBuf>::new(), "{}", case.name);
                if case.name != "eval" {
                    let names: Vec<_> = contents(out.path()).into_keys().collect();
                    assert_eq!(names, [out.path().join("a.safetensors")], "{}", case.name);
                }
                out = tempfile::tempdir().unwrap();
            }
        }
        println!("{}: {killed} killed, {finished} left to end, {swept} temporary files swept", case.name);
        assert!(contents(&data) == before, "{}: the pictures changed", case.name);
        assert!(contents(&root().join("weights/picto")) == model, "{}: the model changed", case.name);
    }
}
