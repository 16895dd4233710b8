//! Pictures and folders that are not as they should be.

use safetensors::SafeTensors;

use crate::start::{MODEL, s};
use crate::{bad, features, good, pictures};

#[test]
fn corrupt_pictures_are_named_skipped_and_counted_unless_strict() {
    let data = pictures(5);
    let broken = data.path().join("apple/aaa.png");
    std::fs::write(&broken, b"\x89PNG\r\n\x1a\n and then nothing").unwrap();
    let out = tempfile::tempdir().unwrap();
    let f = out.path().join("f.safetensors");
    let (_, stderr) = good(&["embed", "image", "--model", MODEL, "--out", s(&f), s(data.path())]);
    assert!(stderr.contains("aaa.png") && stderr.contains("1 picture skipped"), "{stderr}");
    assert_eq!(features(&f).0, [15, 192]);
    let g = out.path().join("g.safetensors");
    bad(&["embed", "image", "--model", MODEL, "--out", s(&g), s(data.path()), "--strict"], &["aaa.png"]);
    bad(&["embed", "image", "--model", MODEL, "--out", s(&g), s(&broken)], &["aaa.png"]);
    assert!(!g.exists(), "nothing half-written");

    // Whichever pictures the seed chooses, each class gets its two.
    for seed in ["1", "2", "3"] {
        let args = |strict: &'static str| {
            [
                "fit",
                "tip",
                "--model",
                MODEL,
                "--data",
                s(data.path()),
                "--shots",
                "4",
                "--views",
                "0",
                "--out",
                s(&g),
                "--seed",
                seed,
                strict,
            ]
            .into_iter()
            .filter(|a| !a.is_empty())
            .collect::<Vec<_>>()
        };
        let (_, stderr) = good(&args(""));
        assert!(stderr.contains("aaa.png") && stderr.contains("1 picture skipped"), "whatever the seed: {stderr}");
        bad(&args("--strict"), &["aaa.png"]);
        let bytes = std::fs::read(&g).unwrap();
        assert_eq!(SafeTensors::deserialize(&bytes).unwrap().tensor("labels").unwrap().shape(), [12]);
    }
}

#[test]
fn bad_data_is_an_error_that_names_it() {
    let data = pictures(2);
    let fit = |extra: &[&str], needles: &[&str]| {
        let mut args = vec!["fit", "tip", "--model", MODEL, "--data", s(data.path())];
        args.extend(extra);
        bad(&args, needles);
    };
    let out = data.path().join("a.safetensors");
    assert!(!out.exists());
    fit(&["--shots", "1", "--out", "/no/such/folder/a.safetensors"], &["/no/such/folder/a.safetensors"]);
    fit(&["--shots", "1", "--out", s(data.path())], &["is a folder"]);
    bad(&["fit", "tip", "--model", MODEL, "--data", "nowhere", "--shots", "1", "--out", s(&out)], &["nowhere"]);
    // A class whose only picture is broken has nothing to learn from: the error says so.
    let one = data.path().join("broken/broken.png");
    std::fs::create_dir(data.path().join("broken")).unwrap();
    std::fs::write(&one, b"no picture").unwrap();
    fit(&["--shots", "3", "--out", s(&out)], &["no picture to learn from", "broken.png"]);
    assert!(!out.exists());
    std::fs::create_dir(data.path().join("empty")).unwrap();
    fit(&["--shots", "1", "--out", s(&out)], &["empty"]);
}
