//! Drives the program as a person does: a real window on a virtual screen, a real pointer, real keys. What is learned is exported, and
//! `tipi predict` gives the same answers with it.
//!
//! It needs Xvfb, xdotool and ImageMagick (Debian: `apt-get install xvfb xdotool imagemagick`) and the built program `tipi`. Without
//! them it says so and passes, unless `TIPI_DRIVE=1` asks for it. `TIPI_SHOTS=DIR` keeps its pictures of the screen.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod screen;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use screen::{Screen, tools};
use serde_json::Value;

const CLASSES: [&str; 4] = ["bell", "car", "hammer", "umbrella"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The bundled pictures of some classes, all in one folder; their names say what they show.
fn photos(scratch: &Path) -> PathBuf {
    let folder = scratch.join("photos");
    fs::create_dir_all(&folder).unwrap();
    for class in CLASSES {
        for entry in fs::read_dir(repository().join("examples/pictos/shifted").join(class)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            fs::copy(&path, folder.join(format!("{class}-{name}"))).unwrap();
        }
    }
    fs::write(folder.join("torn.png"), b"\x89PNG\r\n\x1a\nno picture").unwrap();
    folder
}

/// Where photos are sorted to, by their files' names: the class, how sure that is, whether a person said so.
fn places(state: &Value) -> BTreeMap<String, (String, f64, bool)> {
    let places = state["places"].as_object().unwrap();
    let one = |(path, place): (&String, &Value)| {
        let name = Path::new(path).file_name().unwrap().to_string_lossy().into_owned();
        (name, (place[0].as_str().unwrap().to_owned(), place[1].as_f64().unwrap(), place[2].as_bool().unwrap()))
    };
    places.iter().map(one).collect()
}

/// Right ones among those that nobody put anywhere.
fn right(state: &Value) -> (usize, usize) {
    let places = places(state);
    let asked: Vec<_> = places.iter().filter(|(_, (_, _, by_hand))| !by_hand).collect();
    let right = asked.iter().filter(|(name, (class, ..))| name.split('-').next() == Some(class)).count();
    (right, asked.len())
}

fn learned(state: &Value) -> bool {
    state["task"].is_null() && state["stale"] == false && state["encoded"].as_u64() > Some(0)
}

fn names_of(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The program with a folder open and its photos encoded, and what it says of them.
fn opened(scratch: &Path, folder: &Path, scale: f32, theme: &str) -> (Screen, Value) {
    let mut screen = Screen::start(scratch, scale, &["--theme", theme, folder.to_str().unwrap()]);
    let encoded = |state: &Value| state["task"].is_null() && state["encoded"].as_u64() > Some(0);
    let state = screen.wait("the folder is encoded", encoded);
    (screen, state)
}

/// Makes classes by typing their names.
fn name(screen: &mut Screen, classes: &[&str]) {
    for class in classes {
        screen.click("new-class");
        screen.text(class);
        screen.key("Return");
    }
}

/// One window at a time: both draw on the processor where there is no GPU.
static WINDOW: Mutex<()> = Mutex::new(());

#[test]
fn a_person_sorts_a_folder() {
    if !tools() {
        return;
    }
    let _window = WINDOW.lock();
    let scratch = tempfile::tempdir().unwrap();
    let scratch = &scratch.path().canonicalize().unwrap();
    let folder = photos(scratch);
    let (mut screen, state) = opened(scratch, &folder, 1.0, "light");
    assert_eq!((state["broken"].as_u64(), &state["error"]), (Some(1), &Value::Bool(false)));
    screen.shot("1-opened");

    // Names alone sort it.
    name(&mut screen, &CLASSES);
    let state = screen.wait("names sort it", |state| state["classes"] == CLASSES.len() && learned(state));
    let by_names = right(&state);
    screen.shot("2-names");

    // Two pictures of each class, dragged onto it.
    screen.slide("least", 0.02);
    screen.wait("hardly any answer is unknown", |state| state["least"].as_f64() < Some(0.1));
    for class in CLASSES {
        let mine: Vec<String> = names_of(&folder).into_iter().filter(|name| name.starts_with(class)).take(2).collect();
        for name in &mine {
            screen.bring(&format!("photo:{name}"));
            screen.drag(&format!("photo:{name}"), &format!("class:{class}"));
            screen.wait("it is an example", |state| {
                places(state).get(name).is_some_and(|place| place.2 && place.0 == class)
            });
        }
    }
    let state = screen.wait("it learns from pictures", |state| learned(state) && state["learned"]["pictures"] == true);
    let by_pictures = right(&state);
    screen.shot("3-pictures");
    println!("right by names: {by_names:?}, by two pictures a class: {by_pictures:?}");
    assert!(by_pictures.0 * by_names.1 >= by_names.0 * by_pictures.1, "pictures make it no worse");

    // A photo that is looked at, and a mistake that is corrected: the answer is the person's, and it is learned at once.
    let (name, (class, ..)) = places(&state).into_iter().find(|(_, place)| !place.2).unwrap();
    let other = CLASSES.iter().find(|other| **other != class).unwrap();
    screen.bring(&format!("photo:{name}"));
    screen.click(&format!("photo:{name}"));
    screen.wait("it is looked at", |state| state["selected"].as_array().unwrap().len() == 1);
    screen.shot("4-looked-at");
    let version = state["learned"]["version"].as_u64();
    screen.drag(&format!("photo:{name}"), &format!("class:{other}"));
    let corrected = |state: &Value| learned(state) && state["learned"]["version"].as_u64() > version;
    let state = screen.wait("the correction is learned", corrected);
    assert_eq!(&places(&state)[&name].0, other);
    // And taken back.
    screen.click("undo");
    let state = screen.wait("it is taken back", |state| learned(state) && !places(state)[&name].2);
    assert_eq!(places(&state)[&name].0, class);

    // What it learned, for others.
    let adapter = scratch.join("adapter.safetensors");
    export(&mut screen, "export-adapter", &adapter);
    let table = scratch.join("table.csv");
    export(&mut screen, "export-table", &table);
    same_answers(&folder, &adapter, &table, &state);

    files(&mut screen, scratch, &folder);
}

/// Chooses from the menu of exports, and types a path.
fn export(screen: &mut Screen, what: &str, path: &Path) {
    screen.click("export");
    screen.click(what);
    screen.click("path");
    screen.key("ctrl+a");
    screen.text(path.to_str().unwrap());
    screen.click("ok");
    for _ in 0..100 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{} was not written", path.display());
}

/// `tipi predict` reads the adapter and says what the window says.
fn same_answers(folder: &Path, adapter: &Path, table: &Path, state: &Value) {
    let program =
        Path::new(env!("CARGO_BIN_EXE_tipi-sorter")).with_file_name(format!("tipi{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(program)
        .env("TIPI_TUNE", "off")
        .args(["predict", "--json", "--model"])
        .arg(repository().join("weights/picto"))
        .arg("--adapter")
        .arg(adapter)
        .arg(folder)
        .output()
        .expect("the program tipi, built beside this one");
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
    assert!(lines.len() > 10, "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let shown = places(state);
    let mut compared = 0;
    for line in &lines {
        let name = Path::new(line["path"].as_str().unwrap()).file_name().unwrap().to_string_lossy().into_owned();
        let Some((class, sure, false)) = shown.get(&name) else { continue };
        assert_eq!(line["class"], **class, "{name}");
        let theirs = line["probability"].as_f64().unwrap();
        assert!((theirs - sure).abs() <= 1e-6, "{name}: {theirs} and {sure}");
        compared += 1;
    }
    assert!(compared > 10);
    let rows = fs::read_to_string(table).unwrap();
    for (name, (class, ..)) in shown {
        assert!(
            rows.lines().any(|row| row.contains(&name) && row.contains(&format!(",\"{class}\","))),
            "{name}: {rows}"
        );
    }
}

/// Copies the files, takes that back, moves them, and takes that back.
fn files(screen: &mut Screen, scratch: &Path, folder: &Path) {
    let before = names_of(folder);
    let into = scratch.join("photos sorted");
    for way in ["copy", "move"] {
        screen.click("file");
        screen.click(way);
        screen.shot(&format!("5-{way}"));
        screen.click("ok");
        screen.wait("files are sorted", |state| {
            state["task"].is_null() && state["message"].as_str().is_some_and(|text| text.contains("filed"))
        });
        let count: usize = CLASSES.iter().map(|class| names_of(&into.join(class)).len()).sum();
        assert_eq!(count, before.len() - 1, "all but the torn one");
        assert_eq!(names_of(folder).len(), if way == "copy" { before.len() } else { 1 });
        screen.click("file");
        screen.click("take-back");
        screen.wait("it is taken back", |state| {
            state["task"].is_null() && state["message"].as_str().is_some_and(|text| text.contains("taken back"))
        });
        assert_eq!(names_of(folder), before);
        assert!(!into.exists(), "folders that it made are gone");
    }
}

#[test]
fn training_goes_on_beside_the_window_and_stops_when_told() {
    if !tools() {
        return;
    }
    let _window = WINDOW.lock();
    let scratch = tempfile::tempdir().unwrap();
    let scratch = &scratch.path().canonicalize().unwrap();
    let folder = photos(scratch);
    let (mut screen, _) = opened(scratch, &folder, 2.0, "dark");
    name(&mut screen, &CLASSES[..2]);
    screen.wait("names sort it", |state| state["classes"] == 2 && learned(state));
    // By keys: a photo is chosen, and a digit says its class.
    for (key, class) in [("1", CLASSES[0]), ("2", CLASSES[1])] {
        let name = names_of(&folder).into_iter().find(|name| name.starts_with(class)).unwrap();
        let path = folder.join(&name);
        // Not the one before.
        let chosen = |state: &Value| state["selected"] == serde_json::json!([path]);
        // While it learns, a busy machine draws a frame a second, in which photos may still move away from under the mouse.
        for _ in 0..3 {
            screen.bring(&format!("photo:{name}"));
            screen.click(&format!("photo:{name}"));
            let clicked = std::time::Instant::now();
            if chosen(&screen.watch(|state| chosen(state) || clicked.elapsed().as_secs() > 10)) {
                break;
            }
        }
        screen.wait("it is chosen", chosen);
        screen.key(key);
        screen.wait("it is an example", |state| places(state).get(&name).is_some_and(|place| place.2));
    }
    screen.wait("it learns", |state| learned(state) && state["learned"]["pictures"] == true);
    screen.click("how");
    screen.click("method");
    screen.click("method-pini");
    screen.wait("PiNI trains", |state| state["task"] == "Learning" && state["method"] == "pini");
    screen.shot("6-trains");
    let began = std::time::Instant::now();
    let state = screen.watch(|state| learned(state) || began.elapsed().as_secs() > 8);
    let frames = &state["frames"];
    println!(
        "beside PiNI: {} frames, {:.0} ms apart, longest gap {:.0} ms, on {}",
        frames["count"],
        frames["mean_ms"].as_f64().unwrap(),
        frames["longest_ms"].as_f64().unwrap(),
        state["device"]
    );
    assert!(frames["count"].as_u64() > Some(10), "the window is drawn meanwhile");
    if !learned(&state) {
        let asked = std::time::Instant::now();
        screen.click("cancel");
        screen.wait("it stops", |state| state["task"].is_null());
        println!("stopped after {:.1} s", asked.elapsed().as_secs_f64());
        screen.shot("7-stopped");
    }
}
