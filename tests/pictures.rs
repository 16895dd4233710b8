//! Decoding and resizing against Pillow: the pictures of `tests/pictures`, which `tests/reference/pictures.py` writes
//! together with what Pillow makes of them. All formats are compared bit for bit but JPEG within TIFF, whose decoder is not
//! libjpeg: see [`JPEG_DIFFERENCE`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tipi::low_level::data::{Filter, Rgb, decode, resize, resize_bicubic, resize_center_crop, resize_longest_pad};

/// Side of the crops in the expectations.
const SIZE: usize = 10;
/// Side of the pictures that `resize_longest_pad` makes.
const LONGEST: usize = 16;

/// The most that a sample of a JPEG within TIFF may differ by: what was measured on these pictures.
const JPEG_DIFFERENCE: u8 = 2;
/// Pictures that Pillow reads and [`decode`] does not, and what the error says.
const UNSUPPORTED: [(&str, &str); 2] =
    [("bilevel-group3.tif", "TIFF with compression 3"), ("bilevel-tiff-ccitt.tif", "TIFF with compression 2")];

/// The most that the samples made from a picture may differ by.
fn allowed(name: &str) -> u8 {
    match name {
        _ if name.starts_with("jpeg-") => JPEG_DIFFERENCE,
        _ => 0,
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pictures")
}

/// The expected pictures by name.
fn expectations() -> BTreeMap<String, Rgb> {
    let bytes = fs::read(folder().join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .iter()
        .map(|(name, tensor)| {
            let &[height, width, 3] = tensor.shape() else { panic!("{name} has the shape {:?}", tensor.shape()) };
            (name.to_owned(), Rgb::new(width, height, tensor.data().to_vec()).unwrap())
        })
        .collect()
}

/// The picture files, sorted.
fn files() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension != "safetensors"));
    files.sort();
    files
}

/// How two pictures differ, for the list of failures; nothing if no sample does by more than `allowed`.
fn difference(found: &Rgb, expected: &Rgb, allowed: u8) -> Option<String> {
    if (found.width, found.height) != (expected.width, expected.height) {
        return Some(format!("is {}x{}, expected {}x{}", found.width, found.height, expected.width, expected.height));
    }
    let wrong: Vec<_> = (0..found.data.len()).filter(|&i| found.data[i].abs_diff(expected.data[i]) > allowed).collect();
    let first = wrong.first()?;
    let largest = wrong.iter().map(|&i| found.data[i].abs_diff(expected.data[i])).max()?;
    let (pixel, channel) = (first / 3, first % 3);
    Some(format!(
        "{} of {} samples differ, by up to {largest}; the first at x {}, y {}, channel {channel}: {}, expected {}",
        wrong.len(),
        found.data.len(),
        pixel % found.width,
        pixel / found.width,
        found.data[*first],
        expected.data[*first]
    ))
}

/// The differences of everything made from `name`'s picture, a line each.
fn compare(name: &str, rgb: &Rgb, expected: &BTreeMap<String, Rgb>) -> Vec<String> {
    let mut failures = Vec::new();
    let mut check = |what: &str, found: &Rgb| {
        let key = format!("{name}/{what}");
        if let Some(expected) = expected.get(&key) {
            failures
                .extend(difference(found, expected, allowed(name)).map(|difference| format!("{key}: {difference}")));
        }
    };
    check("rgb", rgb);
    check("crop", &resize_center_crop(rgb, SIZE));
    check("squash", &resize_bicubic(rgb, SIZE, SIZE));
    failures
}

#[test]
fn every_picture_equals_pillow() {
    let expected = expectations();
    let mut failures = Vec::new();
    let files = files();
    for path in &files {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(expected.contains_key(&format!("{name}/rgb")), "{name} has no expectation");
        let unsupported = UNSUPPORTED.iter().find(|(file, _)| *file == name);
        match (decode(path), unsupported) {
            (Err(error), Some((file, what))) => {
                let error = error.to_string();
                assert!(error.contains(file) && error.contains(what) && error.contains("not supported"), "{error}");
            }
            (Ok(_), Some(_)) => failures.push(format!("{name} is supported")),
            (Ok(rgb), None) => failures.extend(compare(name, &rgb, &expected)),
            (Err(error), None) => failures.push(error.to_string()),
        }
    }
    let named = expected.keys().filter(|name| name.ends_with("/rgb")).count();
    assert_eq!(files.len(), named, "files and expectations do not go together: run tests/reference/pictures.py");
    assert!(named > 150, "only {named} pictures");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn a_planted_error_is_found() {
    let expected = expectations();
    let path = &files()[0];
    let name = path.file_name().unwrap().to_str().unwrap();
    let rgb = decode(path).unwrap();
    assert_eq!(compare(name, &rgb, &expected), [""; 0]);
    let mut wrong = rgb.clone();
    wrong.data[4] ^= 1;
    let failures = compare(name, &wrong, &expected);
    assert!(failures[0].contains("1 of") && failures[0].contains("by up to 1;"), "{failures:?}");
    assert!(failures[0].contains("at x 1, y 0, channel 1:"), "{failures:?}");
    let narrow = Rgb::new(1, 1, vec![0; 3]).unwrap();
    assert!(compare(name, &narrow, &expected)[0].contains("is 1x1, expected"));
}

#[test]
fn jpeg_in_tiff_differs_as_stated() {
    let expected = expectations();
    let mut largest = 0;
    for path in files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if allowed(name) > 0 {
            let (rgb, wanted) = (decode(&path).unwrap(), &expected[&format!("{name}/rgb")]);
            largest = rgb.data.iter().zip(&wanted.data).map(|(&a, &b)| a.abs_diff(b)).fold(largest, u8::max);
        }
    }
    assert_eq!(largest, JPEG_DIFFERENCE);
}

#[test]
fn resizes_equal_pillow() {
    let expected = expectations();
    let mut failures = Vec::new();
    let mut checked = 0;
    for (key, wanted) in &expected {
        let mut parts = key.split('/');
        let (Some("resize"), Some(size), Some(filter), Some(target)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let source = &expected[&format!("resize/{size}/source")];
        let filter = match filter {
            "bicubic" => Filter::Bicubic,
            "bilinear" => Filter::Bilinear,
            other => panic!("{key}: no filter is called {other}"),
        };
        let found = if target == "longest" {
            // The corner is padding wherever there is any.
            let fill = if source.width == source.height { 0 } else { wanted.data[0] };
            resize_longest_pad(source, LONGEST, fill, filter)
        } else {
            resize(source, wanted.width, wanted.height, filter)
        };
        failures.extend(difference(&found, wanted, 0).map(|difference| format!("{key}: {difference}")));
        if filter == Filter::Bicubic && target != "longest" {
            assert_eq!(found, resize_bicubic(source, wanted.width, wanted.height), "{key}");
        }
        checked += 1;
    }
    assert!(checked > 100, "only {checked} resizes");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Decodes `bytes` through a file.
fn decoded(folder: &Path, bytes: &[u8]) -> tipi::Result<Rgb> {
    let path = folder.join("damaged");
    fs::write(&path, bytes).unwrap();
    decode(&path)
}

#[test]
fn cut_pictures_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    for path in files() {
        let whole = fs::read(&path).unwrap();
        for eighths in 0..7 {
            let keep = whole.len() * eighths / 8;
            let result = decoded(folder.path(), &whole[..keep]);
            // Later frames and pages, and what follows the end, are not read.
            let name = path.file_name().unwrap().to_str().unwrap();
            let rest_unread = ["pages", "animated", "bytes-after"].iter().any(|start| name.starts_with(start));
            if let Ok(found) = result {
                assert!(rest_unread, "{name} cut to {keep} of {} bytes decodes", whole.len());
                assert_eq!(found, decode(&path).unwrap(), "{name} cut to {keep} of {} bytes", whole.len());
            }
        }
    }
}

#[test]
fn damaged_pictures_do_not_panic() {
    let folder = tempfile::tempdir().unwrap();
    // Numerical Recipes' generator: the same damage on every run.
    let mut state = 1u32;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for path in files() {
        let whole = fs::read(&path).unwrap();
        for round in 0..24 {
            let mut bytes = whole.clone();
            for _ in 0..=round % 3 {
                let at = draw(if round % 2 == 0 { bytes.len() } else { bytes.len().min(120) });
                bytes[at] = draw(256) as u8;
            }
            if round % 4 == 3 {
                bytes.truncate(draw(whole.len()));
            }
            if let Ok(rgb) = decoded(folder.path(), &bytes) {
                assert_eq!(rgb.data.len(), rgb.width * rgb.height * 3, "{}", path.display());
            }
        }
    }
}
