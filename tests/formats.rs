//! Decoding AVIF, JPEG XL and HEIC against libavif, libjxl and libheif: the pictures of `tests/formats`, which
//! `tests/reference/formats.py` writes together with what those libraries make of them. They round otherwise than tipi, and put
//! chroma between pixels otherwise, so samples may differ a little; what is stored without loss may not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use tipi::low_level::data::{Rgb, decode, decode_from};

/// The most that samples may differ by: of all, and on average over a picture.
struct Allowed {
    most: u8,
    mean: f64,
}

/// What was measured on these pictures, and a little.
fn allowed(name: &str) -> Allowed {
    match name {
        _ if name.contains("lossless") || name == "rgb-16.jxl" || name == "grey-16.jxl" => {
            Allowed { most: 0, mean: 0.0 }
        }
        // Chroma between pixels.
        _ if name.ends_with(".avif") => Allowed { most: 4, mean: 0.8 },
        _ => Allowed { most: 2, mean: 0.5 },
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats")
}

/// The expected pictures by name.
fn expectations() -> BTreeMap<String, Rgb> {
    let bytes = fs::read(folder().join("expected.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let picture = |tensor: safetensors::tensor::TensorView<'_>| {
        let &[height, width, 3] = tensor.shape() else { panic!("a tensor has the shape {:?}", tensor.shape()) };
        Rgb::new(width, height, tensor.data().to_vec()).unwrap()
    };
    tensors.iter().map(|(name, tensor)| (name.to_owned(), picture(tensor))).collect()
}

/// How a picture differs from what is expected, if by more than is allowed.
fn difference(name: &str, found: &Rgb, expected: &Rgb) -> Option<String> {
    if (found.width, found.height) != (expected.width, expected.height) {
        let [a, b] = [found, expected].map(|picture| format!("{}x{}", picture.width, picture.height));
        return Some(format!("{name} is {a}, expected {b}"));
    }
    let differences = found.data.iter().zip(&expected.data).map(|(a, b)| a.abs_diff(*b));
    let most = differences.clone().max().unwrap();
    let mean = differences.map(f64::from).sum::<f64>() / found.data.len() as f64;
    let Allowed { most: allowed_most, mean: allowed_mean } = allowed(name);
    (most > allowed_most || mean > allowed_mean)
        .then(|| format!("{name} differs by up to {most}, on average by {mean:.3}"))
}

/// Compares the pictures with an extension, of which there must be some.
fn compare(extension: &str, at_least: usize) {
    let expected = expectations();
    let of_kind: Vec<_> = expected.iter().filter(|(name, _)| name.ends_with(extension)).collect();
    assert!(of_kind.len() >= at_least, "only {} pictures of {extension}", of_kind.len());
    let failures: Vec<String> = of_kind
        .into_iter()
        .filter_map(|(name, expected)| match decode(&folder().join(name)) {
            Ok(found) => difference(name, &found, expected),
            Err(error) => Some(error.to_string()),
        })
        .collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn file(name: &str) -> Vec<u8> {
    fs::read(folder().join(name)).unwrap()
}

/// Why bytes cannot be decoded.
fn refusal(bytes: &[u8]) -> String {
    decode_from("a picture".as_ref(), bytes).map(drop).unwrap_err().to_string()
}

/// A file whose bytes `from`, which occur in it, are others.
fn patched(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(from.len()).position(|window| window == from) {
        bytes[at + found..][..to.len()].copy_from_slice(to);
        at += found + to.len();
    }
    assert!(at > 0, "there is nothing to change");
    bytes
}

/// The box that states width and height.
fn stated(width: u32, height: u32) -> Vec<u8> {
    [&b"ispe\0\0\0\0"[..], &width.to_be_bytes(), &height.to_be_bytes()].concat()
}

#[test]
fn a_planted_error_is_found() {
    let expected = &expectations()["lossless.avif"];
    assert_eq!(difference("lossless.avif", expected, expected), None);
    let mut wrong = expected.clone();
    wrong.data[4] ^= 1;
    assert!(difference("lossless.avif", &wrong, expected).unwrap().contains("by up to 1"));
    assert_eq!(difference("rgba.avif", &wrong, expected), None);
    wrong.data[4] ^= 8;
    assert!(difference("rgba.avif", &wrong, expected).unwrap().contains("by up to"));
}

#[cfg(feature = "avif")]
#[test]
fn every_avif_is_as_by_libavif() {
    compare(".avif", 25);
}

#[cfg(feature = "jxl")]
#[test]
fn every_jpeg_xl_is_as_by_libjxl() {
    compare(".jxl", 12);
}

/// Where there is a libheif, which other systems of the project's need not have.
#[cfg(feature = "heif")]
#[test]
fn every_heic_is_as_by_libheif() {
    match decode(&folder().join("rgb.heic")) {
        Ok(_) => compare(".heic", 5),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("libheif") && error.contains("heif-convert a.heic a.jpg"), "{error}");
        }
    }
}

#[cfg(feature = "avif")]
#[test]
fn an_avif_that_states_too_much_is_refused_before_it_is_decoded() {
    let avif = file("444-35x18.avif");
    let of = |width, height| patched(avif.clone(), &stated(35, 18), &stated(width, height));
    let start = std::time::Instant::now();
    for (width, height) in [(65_535, 65_535), (u32::MAX, 1), (262_145, 1), (20_000, 10_000)] {
        let error = refusal(&of(width, height));
        assert!(error.contains("a picture: ") && error.contains("178956970 pixels"), "{width}x{height}: {error}");
    }
    // Within the limits, and more than is there.
    for (width, height) in [(10_000, 10_000), (36, 18), (34, 18)] {
        let error = refusal(&of(width, height));
        assert!(error.contains("size than it states") || error.contains("larger than it states"), "{error}");
    }
    assert!(refusal(&of(0, 18)).contains("no pixels"));
    // A grid whose tiles are large, or whose whole is.
    let grid = file("grid.avif");
    assert!(refusal(&patched(grid.clone(), &stated(64, 64), &stated(60_000, 60_000))).contains("do not cover"));
    for (width, height) in [(50, 60), (69, 79)] {
        let error = refusal(&patched(grid.clone(), &stated(64, 64), &stated(width, height)));
        assert!(error.contains("than it states"), "{error}");
    }
    assert!(refusal(&patched(grid.clone(), &stated(64, 64), &stated(16, 16))).contains("do not cover"));
    assert!(refusal(&patched(grid, &stated(140, 80), &stated(40_000, 40_000))).contains("178956970"));
    assert!(start.elapsed().as_secs() < 20);
}

#[cfg(feature = "heif")]
#[test]
fn an_heic_that_states_too_much_is_refused() {
    if decode(&folder().join("rgb.heic")).is_ok() {
        // Chroma goes by twos, so HEVC's own size is even and the picture is cut out of it.
        for size in [(65_535, 65_535), (20_000, 10_000)] {
            let bytes = patched(file("rgb.heic"), &stated(70, 66), &stated(size.0, size.1));
            let error = refusal(&bytes);
            assert!(error.contains("178956970 pixels") || error.contains("HEIC: "), "{error}");
        }
    }
}

#[cfg(any(feature = "avif", feature = "jxl"))]
#[test]
fn files_cut_short_and_changed_are_errors_or_pictures() {
    let names = expectations().into_keys().filter(|name| {
        name.ends_with(".avif") && cfg!(feature = "avif") || name.ends_with(".jxl") && cfg!(feature = "jxl")
    });
    for name in names {
        let whole = file(&name);
        for eighths in 0..7 {
            // What follows the first picture of an animation is not looked at.
            let cut = decode_from(name.as_ref(), &whole[..whole.len() * eighths / 8]);
            if let Err(error) = cut {
                assert!(!error.to_string().contains('\n'), "{error}");
            } else {
                assert!(eighths > 3, "{name}, {eighths} eighths of it");
            }
        }
        // Any byte, among them all of the description's.
        for at in (0..whole.len()).step_by(1 + whole.len() / 60) {
            let mut changed = whole.clone();
            changed[at] ^= 0x55;
            let _ = decode_from(name.as_ref(), &changed);
        }
    }
}
