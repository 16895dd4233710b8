//! Pictures as people bring them: AVIF, JPEG XL and HEIC beside PNG, kinds that are not read, and greyscale of 16 bits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod start;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use image::{ImageBuffer, Luma};
use safetensors::SafeTensors;
use serde_json::Value;

use start::{MODEL, command, root, s};

fn run(args: &[&str], libheif: Option<&str>) -> Output {
    let mut command = command(args);
    libheif.map(|value| command.env("TIPI_LIBHEIF", value));
    command.output().unwrap()
}

/// Exit code, stdout and stderr.
fn tipi(args: &[&str]) -> (Option<i32>, String, String) {
    let out = run(args, None);
    (out.status.code(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
}

/// Stdout and stderr of a command that succeeds.
fn good(args: &[&str]) -> (String, String) {
    let (code, stdout, stderr) = tipi(args);
    assert_eq!(code, Some(0), "{args:?}: {stderr}");
    (stdout, stderr)
}

/// Stderr of a command that fails with code 2.
fn bad(args: &[&str]) -> String {
    let (code, _, stderr) = tipi(args);
    assert_eq!(code, Some(2), "{args:?}: {stderr}");
    stderr
}

fn sample(name: &str) -> PathBuf {
    root().join("tests/formats").join(name)
}

fn classify<'a>(paths: &[&'a str]) -> Vec<&'a str> {
    [&["classify", "--model", MODEL, "--labels", "apple,bell", "--json"], paths].concat()
}

/// The names of the pictures that were classified.
fn classified(stdout: &str) -> Vec<String> {
    let rows: Value = serde_json::from_str(stdout).unwrap();
    let name =
        |row: &Value| Path::new(row["path"].as_str().unwrap()).file_name().unwrap().to_string_lossy().into_owned();
    rows.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn new_formats_are_pictures_in_folders() {
    let dir = tempfile::tempdir().unwrap();
    for (name, to) in [("rgba.avif", "a.avif"), ("photo.jxl", "b.JXL"), ("grid.avif", "no-name.png")] {
        fs::copy(sample(name), dir.path().join(to)).unwrap();
    }
    fs::copy(root().join("examples/pictos/shifted/bell/ph-bell-bold.png"), dir.path().join("d.png")).unwrap();
    let (stdout, _) = good(&classify(&[s(dir.path())]));
    assert_eq!(classified(&stdout), ["a.avif", "b.JXL", "d.png", "no-name.png"]);
}

#[test]
fn heic_is_read_by_libheif_or_says_how_to_convert_it() {
    let heic = sample("rgb.heic");
    let args = classify(&[s(&heic)]);
    let (code, stdout, stderr) = tipi(&args);
    match code {
        Some(0) => assert_eq!(classified(&stdout), ["rgb.heic"]),
        _ => assert!(stderr.contains("libheif"), "{stderr}"),
    }
    for (value, why) in
        [("off", "which TIPI_LIBHEIF=off leaves out"), ("/no/such/file", "TIPI_LIBHEIF does not name one")]
    {
        let out = run(&args, Some(value));
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(2) && said.contains("rgb.heic") && said.contains(why), "{said}");
        assert!(said.contains("heif-convert a.heic a.jpg"), "{said}");
    }
}

/// A folder with a sound picture, some that are not read, and files that are none.
fn mixed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let png = fs::read(root().join("examples/pictos/shifted/bell/ph-bell-bold.png")).unwrap();
    for (name, bytes) in [
        ("bell.png", &png[..]),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("IMG_1.CR2", b"II*\0\x10\0\0\0CR\x02\0"),
        ("layers.psd", b"8BPS\0\x01"),
        ("icon.ico", b"\0\0\x01\0\x01\0"),
        // By how they begin: under no name, and under another.
        ("bell", &png),
        ("bell.png.bak", &png),
        ("notes.txt", &png),
        ("list.csv", b"path,label\n"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0"),
        (".DS_Store", b"\0\0\0\x01Bud1"),
        ("film", b"\0\0\0\x18ftypmp42\0\0\0\0isommp42"),
        ("README", b"BMW\n"),
    ] {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[test]
fn what_looks_like_a_picture_and_is_not_read_is_named_and_counted() {
    let dir = mixed();
    let (stdout, stderr) = good(&classify(&[s(dir.path())]));
    assert_eq!(classified(&stdout), ["bell.png"]);
    for (name, says) in [
        ("drawing.svg", "this is an SVG drawing: draw it as PNG"),
        ("IMG_1.CR2", "this is a camera's raw file: develop it"),
        ("layers.psd", "this is a Photoshop file: convert it"),
        ("icon.ico", "this is an icon: convert it"),
        ("bell:", "begins as a PNG picture, but is not called so"),
        ("bell.png.bak", "begins as a PNG picture, but is not called so"),
    ] {
        let line = stderr
            .lines()
            .find(|line| line.contains(&format!("/{name}")))
            .unwrap_or_else(|| panic!("{name}: {stderr}"));
        assert!(line.starts_with("skipped: ") && line.contains(says), "{line}");
    }
    assert!(stderr.contains("6 files that look like pictures skipped (--strict makes that an error)"), "{stderr}");
    for silent in ["notes.txt", "list.csv", "Thumbs.db", ".DS_Store", "film", "README"] {
        assert!(!stderr.contains(silent), "{silent}: {stderr}");
    }
    // Strict, excluded, and named.
    let strict = bad(&[&classify(&[s(dir.path())])[..], &["--strict"]].concat());
    assert!(strict.contains("cannot decode picture"), "{strict}");
    let excluded =
        ["--exclude", "*.svg", "--exclude", "*.CR2", "--exclude", "*.psd", "--exclude", "*.ico", "--exclude", "bell"];
    let mut args = classify(&[s(dir.path())]);
    args.extend(excluded.iter().chain(&["--exclude", "*.bak", "--strict"]));
    good(&args);
    let raw = dir.path().join("IMG_1.CR2");
    assert!(bad(&classify(&[s(&raw)])).contains("IMG_1.CR2: cannot decode picture: this is a camera's raw file"));
}

#[test]
fn a_folder_of_nothing_else_says_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.svg"), "<svg/>").unwrap();
    fs::write(dir.path().join("b.psd"), "8BPS").unwrap();
    let error = bad(&classify(&[s(dir.path())]));
    assert!(error.contains("there is no picture") && error.contains("2 files that look like pictures"), "{error}");
    assert!(error.contains("a.svg: cannot decode picture: this is an SVG drawing"), "{error}");
    // A class of a set, and what a check says of one.
    let set = dir.path().join("set");
    for (class, names) in [
        ("car", &[][..]),
        ("dog", &["openmoji-bell.png", "lucide-bell.png"]),
        ("owl", &["openmoji-bell.png", "lucide-bell.png"]),
    ] {
        fs::create_dir_all(set.join(class)).unwrap();
        for name in names {
            fs::copy(root().join("examples/pictos/shifted/bell").join(name), set.join(class).join(name)).unwrap();
        }
        fs::write(set.join(class).join("a.svg"), "<svg/>").unwrap();
    }
    let error = bad(&["data", "check", s(&set)]);
    assert!(error.contains("car: the class folder holds no picture") && error.contains("a.svg"), "{error}");
    fs::remove_dir_all(set.join("car")).unwrap();
    let (text, _) = good(&["data", "check", s(&set)]);
    assert_eq!(text.matches("not taken: ").count(), 2, "{text}");
    let (json, _) = good(&["data", "check", "--json", s(&set)]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["unread"].as_array().unwrap().len(), 2);
}

/// A 16-bit grey gradient whose darkest value is above 255.
fn deep_grey(path: &Path) {
    let picture = ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(64, 64, |x, y| Luma([(1000 * x + 16 * y + 300) as u16]));
    picture.save(path).unwrap();
}

fn features(path: &Path) -> Vec<u8> {
    let bytes = fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor("features").unwrap().data().to_vec()
}

#[test]
fn grey_of_16_bits_is_clipped_with_a_note_or_scaled() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("in")).unwrap();
    deep_grey(&at("in/a.png"));
    deep_grey(&at("in/b.tif"));
    fs::copy(root().join("examples/pictos/shifted/bell/ph-bell-bold.png"), at("in/c.png")).unwrap();
    // What the grey looks like at 8 bits, and white.
    let shown = image::open(at("in/a.png")).unwrap().into_luma16();
    fs::create_dir(at("out")).unwrap();
    image::GrayImage::from_fn(64, 64, |x, y| Luma([(shown.get_pixel(x, y)[0] >> 8) as u8]))
        .save(at("out/a.png"))
        .unwrap();
    image::GrayImage::from_pixel(64, 64, Luma([255])).save(at("out/b.png")).unwrap();
    let embed = |input: &Path, out: &str, more: &[&str]| -> (Vec<u8>, String) {
        let out = at(out);
        let args = ["embed", "image", "--model", MODEL, "--out", s(&out), s(input)];
        let (_, stderr) = good(&[&args[..], more].concat());
        (features(&out), stderr)
    };
    let note = "pictures of 16-bit grey were clipped as by Pillow";
    let (clipped, said) = embed(&at("in"), "clipped.safetensors", &[]);
    assert!(said.matches(&format!("2 {note}")).count() == 1 && said.contains("--depth scale"), "{said}");
    let (scaled, said) = embed(&at("in"), "scaled.safetensors", &["--depth", "scale"]);
    assert!(!said.contains(note), "{said}");
    let (plain, said) = embed(&at("out"), "plain.safetensors", &[]);
    assert!(!said.contains(note), "{said}");
    let row =
        |features: &[u8], at: usize, of: usize| features[features.len() / of * at..][..features.len() / of].to_vec();
    for picture in [0, 1] {
        assert_eq!(row(&clipped, picture, 3), row(&plain, 1, 2), "{picture} is not white");
        assert_eq!(row(&scaled, picture, 3), row(&plain, 0, 2), "{picture} is not what it is at 8 bits");
    }
    assert_eq!(row(&clipped, 2, 3), row(&scaled, 2, 3));

    // Classifying goes another way.
    let (_, said) = good(&classify(&[s(&at("in"))]));
    assert!(said.contains(&format!("2 {note}")), "{said}");
    let (_, said) = good(&[&classify(&[s(&at("in"))])[..], &["--depth", "scale"]].concat());
    assert!(!said.contains(note), "{said}");
}

#[test]
fn kept_features_of_one_depth_are_not_taken_for_those_of_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let set = dir.path().join("set");
    for (class, turned) in [("dark", false), ("bright", true)] {
        fs::create_dir_all(set.join(class)).unwrap();
        for number in 0..4u16 {
            let value = |x: u32| if turned { 60_000 - 500 * number } else { 300 + (x as u16) * 20 + 100 * number };
            let picture = ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(64, 64, |x, _| Luma([value(x)]));
            picture.save(set.join(class).join(format!("{number}.png"))).unwrap();
        }
    }
    let (out, kept) = (dir.path().join("results"), dir.path().join("kept"));
    let eval = |out: &Path, depth: &str| -> (Option<i32>, String) {
        let args = [
            "eval",
            "--dataset",
            s(&set),
            "--model",
            MODEL,
            "--methods",
            "tip",
            "--shots",
            "1",
            "--seeds",
            "1",
            "--out",
            s(out),
            "--features",
            s(&kept),
            "--depth",
            depth,
            "--json",
        ];
        let (code, _, stderr) = tipi(&args);
        (code, stderr)
    };
    let rows = || {
        let stores = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        let files = stores.flat_map(|store| fs::read_dir(store).unwrap().map(|entry| entry.unwrap().path()));
        let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
        files
            .map(|path| {
                SafeTensors::deserialize(&fs::read(path).unwrap()).unwrap().tensor("digests").unwrap().shape()[0]
            })
            .sum()
    };
    let (code, said) = eval(&out, "clip");
    assert_eq!(code, Some(0), "{said}");
    let clipped: usize = rows();
    // In the same folder that would mix results of two settings.
    let (code, said) = eval(&out, "scale");
    assert!(code == Some(2) && said.contains("depth"), "{said}");
    let (code, said) = eval(&dir.path().join("scaled"), "scale");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(rows(), 2 * clipped, "rows of clipped pictures were taken for scaled ones");
    // The same again finds everything there.
    let (code, said) = eval(&dir.path().join("again"), "scale");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(rows(), 2 * clipped);
}
