//! Every function of C's: it gives what the library's door gives, to the bit, and refuses what cannot be by name.

// A test that cannot go on should stop where it stands; helpers here are tests too. What they call by pointers keeps to the header's rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::undocumented_unsafe_blocks,
    clippy::macro_metavars_in_unsafe,
    clippy::float_cmp
)]

#[macro_use]
mod common;

use std::fs;
use std::ptr::{null, null_mut};

use common::{
    Own, bits, device_options, door, got, gpu, icon, last, load, model, path, pictures, root, s, text, values,
};
use tipi::{Gallery, Picture, Unwatched};
use tipi_c::*;

/// Each function's name, and what stands above it.
fn functions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in fs::read_dir(root().join("bindings/c/src")).unwrap() {
        let source = fs::read_to_string(file.unwrap().path()).unwrap();
        let mut above = String::new();
        for line in source.lines() {
            if let Some((_, rest)) = line.split_once("extern \"C\" fn tipi_") {
                found.push((format!("tipi_{}", rest.split('(').next().unwrap()), std::mem::take(&mut above)));
            } else if line.starts_with("///") {
                above += line;
            } else if !line.starts_with("#[") {
                above.clear();
            }
        }
    }
    assert!(found.len() > 60, "{}", found.len());
    found
}

#[test]
fn every_function_is_in_the_header_says_whose_memory_is_whose_and_is_tested() {
    let header = fs::read_to_string(root().join("bindings/c/include/tipi.h")).unwrap();
    let tests = ["functions.rs", "learning.rs", "watching.rs", "common/mod.rs"]
        .map(|name| fs::read_to_string(root().join("bindings/c/tests").join(name)).unwrap())
        .concat();
    for (name, above) in functions() {
        assert!(header.contains(&format!(" {name}(")) || header.contains(&format!("*{name}(")), "{name}");
        assert!(above.contains("/// Ownership: "), "{name}");
        assert!(tests.contains(&format!("{name}(")), "{name} is not tested");
    }
    assert!(header.contains(&format!("#define TIPI_ABI_VERSION {ABI_VERSION}\n")));
}

#[test]
fn the_library_says_what_it_is() {
    assert_eq!((tipi_abi_version(), text(tipi_version())), (1, env!("CARGO_PKG_VERSION").to_string()));
    assert_eq!(text(tipi_status_name(TipiStatus::TipiOutOfMemory as i32)), "out of GPU memory");
    assert_eq!(text(tipi_status_name(-7)), "unknown status");
    assert!(tipi_live_handles() < usize::MAX);
}

#[test]
fn devices_are_listed_and_opened() {
    let devices = Own::of(|devices| unsafe { tipi_devices_list(devices) });
    let count = got(|count| unsafe { tipi_devices_count(devices.0, count) });
    let all = tipi::list_devices().unwrap();
    assert_eq!(count, all.len());
    for (i, report) in all.iter().enumerate() {
        let device: TipiDevice = got(|device| unsafe { tipi_devices_get(devices.0, i, device) });
        assert_eq!(
            (device.index, text(device.name), text(device.kind)),
            (report.index, report.name.clone(), report.kind.into())
        );
        assert_eq!((text(device.backend), text(device.driver)), (report.backend.clone(), report.driver.clone()));
        assert_eq!((text(device.uses), device.is_default), (report.uses.join(", "), report.default));
    }
    let mut device = std::mem::MaybeUninit::uninit();
    fails!(tipi_devices_get(devices.0, count, device.as_mut_ptr()), TipiInvalid, "counted from 0");
    fails!(tipi_devices_count(devices.0, null_mut()), TipiInvalid, "count is NULL");
    fails!(tipi_devices_list(null_mut()), TipiInvalid, "devices is NULL: give it a place");

    let info: TipiGpuInfo = got(|info| unsafe { tipi_gpu_info(gpu(), info) });
    assert_eq!(text(info.name), door().gpu().name());
    assert_eq!((text(info.kind), text(info.description)), (door().gpu().kind().into(), door().gpu().describe()));
    // What a driver on the processor has changes from moment to moment.
    assert_eq!(info.memory > 0, door().gpu().memory().is_some());
    assert!(info.peak >= info.allocated);
    let small = TipiDeviceOptions { memory: 1 << 30, ..device_options() };
    let small = Own::of(|gpu| unsafe { tipi_gpu_open(ABI_VERSION, &small, gpu) });
    let info: TipiGpuInfo = got(|info| unsafe { tipi_gpu_info(small.0, info) });
    assert_eq!(info.memory, 1 << 30);
    ok!(tipi_gpu_check(gpu()));
    ok!(tipi_gpu_release(gpu()));

    let mut opened = null_mut();
    fails!(tipi_gpu_open(99, null(), &raw mut opened), TipiAbi, "compiled for ABI 99");
    let nobody = TipiDeviceOptions { device: s("no such device"), ..device_options() };
    fails!(tipi_gpu_open(ABI_VERSION, &raw const nobody, &raw mut opened), TipiDeviceNotFound, "no such device");
    let unsized_options = TipiDeviceOptions { size: 3, ..device_options() };
    fails!(
        tipi_gpu_open(ABI_VERSION, &raw const unsized_options, &raw mut opened),
        TipiInvalid,
        "device_options.size is 3"
    );
    let wrong = TipiDeviceOptions { device: TipiStr { data: null(), length: 4 }, ..device_options() };
    fails!(tipi_gpu_open(ABI_VERSION, &raw const wrong, &raw mut opened), TipiInvalid, "device_options.device is NULL");
    fails!(tipi_gpu_open(ABI_VERSION, null(), null_mut()), TipiInvalid, "gpu is NULL");
    assert!(opened.is_null());
}

#[test]
fn models_are_loaded() {
    let info: TipiModelInfo = got(|info| unsafe { tipi_model_info(model(), info) });
    assert_eq!((text(info.folder), info.width), (path(common::MODEL), door().width()));
    let digest = got(|digest| unsafe { tipi_model_digest(model(), digest) });
    assert_eq!(text(digest), door().digest().unwrap());
    ok!(tipi_model_release(model()));

    let usual = TipiModelOptions { size: size_of::<TipiModelOptions>(), lora: s(""), precision: 0, depth: 0, fetch: 0 };
    let mut loaded = null_mut();
    let mut refused = |options: TipiModelOptions, folder: TipiStr, status, said: &str| {
        let got = unsafe { tipi_model_load(gpu(), folder, &raw const options, null(), &raw mut loaded) };
        assert_eq!(got, status, "{}", last());
        assert!(last().contains(said) && loaded.is_null(), "{}", last());
    };
    let folder = path(common::MODEL);
    refused(TipiModelOptions { precision: 9, ..usual }, s(&folder), TipiStatus::TipiInvalid, "precision is 9");
    refused(TipiModelOptions { depth: -1, ..usual }, s(&folder), TipiStatus::TipiInvalid, "depth is -1");
    refused(
        TipiModelOptions { lora: s("x"), fetch: 1, ..usual },
        s(&folder),
        TipiStatus::TipiInvalid,
        "leave out fetch or lora",
    );
    refused(TipiModelOptions { lora: s("/no/such"), ..usual }, s(&folder), TipiStatus::TipiConfig, "/no/such");
    refused(usual, s("/no/such/folder"), TipiStatus::TipiConfig, "/no/such/folder");
    let latin = TipiStr { data: b"caf\xe9".as_ptr().cast(), length: 4 };
    refused(usual, latin, TipiStatus::TipiInvalid, "model is no UTF-8: byte 3");
    fails!(
        tipi_model_load(null(), s(&folder), null(), null(), &raw mut loaded),
        TipiInvalid,
        "gpu is NULL: give it a TipiGpu"
    );

    // A folder needs no fetching.
    let asked = TipiModelOptions { precision: 1, depth: 1, fetch: 1, ..usual };
    let half = Own::of(|model| unsafe { tipi_model_load(gpu(), s(&folder), &raw const asked, null(), model) });
    let info: TipiModelInfo = got(|info| unsafe { tipi_model_info(half.0, info) });
    assert_eq!(info.width, door().width());
}

#[test]
fn pictures_come_from_files_bytes_and_pixels() {
    let list = pictures(&[icon("bell/lucide-bell")]);
    let bytes = fs::read(icon("bell/lucide-bell")).unwrap();
    ok!(tipi_pictures_add_encoded(list.0, s("bell.png"), bytes.as_ptr(), bytes.len()));
    let pixels: Vec<u8> = (0..5u8 * 4 * 3).collect();
    ok!(tipi_pictures_add_rgb(list.0, s("tight"), 5, 4, 15, pixels.as_ptr(), pixels.len()));
    // The same with alpha, and two bytes between rows.
    let mut padded = Vec::new();
    for row in pixels.chunks(15) {
        row.chunks(3).for_each(|pixel| padded.extend([pixel[0], pixel[1], pixel[2], 200]));
        padded.extend([77, 77]);
    }
    ok!(tipi_pictures_add_rgba(list.0, s("padded"), 5, 4, 22, padded.as_ptr(), padded.len()));
    assert_eq!(got(|count| unsafe { tipi_pictures_count(list.0, count) }), 4);
    let name = |number| {
        let name = Own::of(|name| unsafe { tipi_pictures_name(list.0, number, name) });
        text(got(|content| unsafe { tipi_text_get(name.0, content) }))
    };
    assert_eq!([name(0), name(1), name(2)], [icon("bell/lucide-bell"), "bell.png".into(), "tight".into()]);
    let (mut width, mut height) = (0, 0);
    ok!(tipi_pictures_check(list.0, 3, &raw mut width, &raw mut height));
    assert_eq!((width, height), (5, 4));
    let features = encode(&list);
    let row = |i: usize| bits(&features[i * door().width()..][..door().width()]);
    assert_eq!((row(0), row(2)), (row(1), row(3)));
    assert_ne!(row(0), row(2));

    let folder = path("examples/pictos/shifted/bell");
    let mut added = 0;
    ok!(tipi_pictures_add_folder(list.0, s(&folder), &raw mut added));
    assert_eq!(added, Picture::in_folder(&folder).unwrap().len());
    ok!(tipi_pictures_add_folder(list.0, s(&folder), null_mut()));
    assert_eq!(got(|count| unsafe { tipi_pictures_count(list.0, count) }), 4 + 2 * added);
    ok!(tipi_pictures_clear(list.0));
    assert_eq!(got(|count| unsafe { tipi_pictures_count(list.0, count) }), 0);

    fails!(tipi_pictures_add_rgba(list.0, s("frame"), 5, 4, 22, padded.as_ptr(), 70), TipiInvalid, "picture 'frame'");
    fails!(tipi_pictures_add_rgb(list.0, s("frame"), 5, 4, 14, pixels.as_ptr(), 60), TipiInvalid, "stride of 14");
    fails!(tipi_pictures_add_rgb(list.0, s("frame"), 0, 4, 0, pixels.as_ptr(), 0), TipiInvalid, "each side");
    fails!(
        tipi_pictures_add_rgb(list.0, s("x"), usize::MAX, usize::MAX, usize::MAX, pixels.as_ptr(), 9),
        TipiInvalid,
        "each side"
    );
    fails!(tipi_pictures_add_encoded(list.0, s("x"), null(), 7), TipiInvalid, "bytes is NULL, and its count is 7");
    fails!(tipi_pictures_add_encoded(list.0, s("x"), bytes.as_ptr(), usize::MAX), TipiInvalid, "no memory holds");
    fails!(tipi_pictures_add_file(list.0, TipiStr { data: null(), length: 2 }), TipiInvalid, "path is NULL");
    fails!(tipi_pictures_add_folder(list.0, s("/no/such"), null_mut()), TipiData, "/no/such");
    fails!(tipi_pictures_check(list.0, 0, &raw mut width, &raw mut height), TipiInvalid, "number is 0");
    ok!(tipi_pictures_add_encoded(list.0, s("cut.png"), bytes.as_ptr(), bytes.len() / 2));
    fails!(tipi_pictures_check(list.0, 0, &raw mut width, &raw mut height), TipiImage, "cut.png");
    let mut features = null_mut();
    fails!(tipi_model_encode(model(), list.0, null(), &raw mut features), TipiImage, "cut.png");
    assert!(features.is_null());
}

/// A list's features.
fn encode(list: &Own<TipiPictures>) -> Vec<f32> {
    let features = Own::of(|features| unsafe { tipi_model_encode(model(), list.0, null(), features) });
    let matrix: TipiMatrix = got(|matrix| unsafe { tipi_features_get(features.0, matrix) });
    assert_eq!((matrix.width, matrix.kind), (door().width(), TipiFeatureKind::TipiOfPictures));
    values(matrix.values, matrix.rows * matrix.width)
}

fn near(neighbours: &Own<TipiNeighbours>) -> Vec<Vec<(usize, u32)>> {
    let count = got(|count| unsafe { tipi_neighbours_count(neighbours.0, count) });
    let list = |i| {
        let (mut first, mut count) = (null(), 0);
        ok!(tipi_neighbours_get(neighbours.0, i, &raw mut first, &raw mut count));
        values(first, count).iter().map(|near: &TipiNeighbour| (near.row, near.cosine.to_bits())).collect()
    };
    (0..count).map(list).collect()
}

fn same(lists: &[Vec<tipi::Neighbour>]) -> Vec<Vec<(usize, u32)>> {
    lists.iter().map(|list| list.iter().map(|near| (near.row, near.cosine.to_bits())).collect()).collect()
}

#[test]
fn features_and_galleries_are_the_doors() {
    let paths =
        ["bell/lucide-bell", "bell/ph-bell-bold", "car/lucide-car", "apple/lucide-apple", "apple/iconoir-apple"]
            .map(icon);
    let list = pictures(&paths);
    let wanted = door().encode(&paths.clone().map(Picture::file), &mut Unwatched).unwrap();
    assert_eq!(bits(&encode(&list)), bits(wanted.values()));

    let asked = ["an icon of a bell", "an icon of a car"];
    let texts = Own::of(|features| unsafe { tipi_model_encode_texts(model(), asked.map(s).as_ptr(), 2, features) });
    let matrix: TipiMatrix = got(|matrix| unsafe { tipi_features_get(texts.0, matrix) });
    let wanted_texts = door().encode_texts(&asked).unwrap();
    assert_eq!((matrix.rows, matrix.kind), (2, TipiFeatureKind::TipiOfTexts));
    assert_eq!(bits(&values(matrix.values, 2 * matrix.width)), bits(wanted_texts.values()));

    // Features that were kept.
    let kept = |kind: i32, of: &[f32], rows| {
        Own::of(|features| unsafe { tipi_features_new(kind, of.as_ptr(), rows, door().width(), features) })
    };
    let (images, kept_texts) = (kept(0, wanted.values(), 5), kept(1, wanted_texts.values(), 2));
    let mut cosines = vec![0.0f32; 10];
    ok!(tipi_features_cosines(images.0, kept_texts.0, cosines.as_mut_ptr(), 10));
    assert_eq!(bits(&cosines), bits(&wanted.cosines(&wanted_texts).unwrap()));
    let nearest = Own::of(|near| unsafe { tipi_features_nearest(images.0, images.0, 3, near) });
    assert_eq!(near(&nearest), same(&wanted.nearest(&wanted, 3).unwrap()));

    let gallery = Own::of(|gallery| unsafe { tipi_gallery_new(gpu(), images.0, gallery) });
    let (mut rows, mut width) = (0, 0);
    ok!(tipi_gallery_size(gallery.0, &raw mut rows, &raw mut width));
    assert_eq!((rows, width), (5, door().width()));
    let door_gallery = Gallery::new(door().gpu(), wanted.clone()).unwrap();
    let found = Own::of(|near| unsafe { tipi_gallery_nearest(gallery.0, images.0, 2, null(), near) });
    assert_eq!(near(&found), same(&door_gallery.nearest(&wanted, 2, &mut Unwatched).unwrap()));
    let found = Own::of(|near| unsafe { tipi_gallery_nearest(gallery.0, texts.0, 2, null(), near) });
    assert_eq!(near(&found), same(&door_gallery.nearest_to_texts(&wanted_texts, 2, &mut Unwatched).unwrap()));
    let found = Own::of(|near| unsafe { tipi_gallery_nearest_others(gallery.0, 2, null(), near) });
    assert_eq!(near(&found), same(&door_gallery.nearest_others(2, &mut Unwatched).unwrap()));
    let found = Own::of(|near| unsafe { tipi_gallery_duplicates(gallery.0, 0.5, null(), near) });
    let groups = same(&door_gallery.duplicates(0.5, &mut Unwatched).unwrap());
    assert!(!groups.is_empty());
    assert_eq!(near(&found), groups);

    let mut none = null_mut();
    fails!(tipi_features_new(7, cosines.as_ptr(), 1, 10, &raw mut none), TipiInvalid, "kind is 7");
    fails!(tipi_features_new(0, cosines.as_ptr(), usize::MAX, 10, &raw mut none), TipiInvalid, "no memory holds");
    fails!(tipi_features_new(0, [f32::NAN].as_ptr(), 1, 1, &raw mut none), TipiInvalid, "NaN");
    let askew = cosines.as_ptr().cast::<u8>().wrapping_add(1).cast::<f32>();
    fails!(tipi_features_new(0, askew, 1, 4, &raw mut none), TipiInvalid, "values does not lie on a multiple of 4");
    fails!(tipi_features_cosines(images.0, images.0, cosines.as_mut_ptr(), 10), TipiInvalid, "give those of texts");
    fails!(
        tipi_features_cosines(images.0, texts.0, cosines.as_mut_ptr(), 9),
        TipiInvalid,
        "count is 9, and there are 10"
    );
    fails!(tipi_features_cosines(images.0, texts.0, null_mut(), 10), TipiInvalid, "cosines is NULL");
    let mut lists = null_mut();
    fails!(tipi_features_nearest(images.0, texts.0, 1, &raw mut lists), TipiInvalid, "others are features of texts");
    fails!(tipi_gallery_duplicates(gallery.0, f64::NAN, null(), &raw mut lists), TipiInvalid, "NaN");
    let mut gallery = null_mut();
    fails!(tipi_gallery_new(gpu(), texts.0, &raw mut gallery), TipiInvalid, "features are features of texts");
    let mut list = null();
    fails!(
        tipi_neighbours_get(nearest.0, 5, &raw mut list, &raw mut rows),
        TipiInvalid,
        "number is 5, and there are 5"
    );
    fails!(tipi_model_encode_texts(model(), null(), 2, &raw mut none), TipiInvalid, "texts_given is NULL");
    let latin = [s("good"), TipiStr { data: b"\xff".as_ptr().cast(), length: 1 }];
    fails!(
        tipi_model_encode_texts(model(), latin.as_ptr(), 2, &raw mut none),
        TipiInvalid,
        "texts_given[1] is no UTF-8"
    );
}

#[test]
fn words_alone_classify() {
    let (classes, templates) = (["apple", "bell", "car"], ["an icon of {}"]);
    let (c_classes, c_templates) = (classes.map(s), templates.map(s));
    let classifier =
        Own::of(|made| unsafe { tipi_model_zero_shot(model(), c_classes.as_ptr(), 3, c_templates.as_ptr(), 1, made) });
    let wanted = door().zero_shot(&classes, &templates).unwrap();
    let info: TipiClassifierInfo = got(|info| unsafe { tipi_classifier_info(classifier.0, info) });
    assert_eq!((info.classes, text(info.method), text(info.facts)), (3, "zero-shot".into(), wanted.facts()));
    assert!(info.temperature.is_nan() && info.takes_features && info.thresholds.is_null());
    assert_eq!((info.evidence_validation, info.evidence_left_out), (0, 0));
    assert_eq!((info.supported, info.supported_per_class), (wanted.supported(false), wanted.supported(true)));
    assert_eq!(text(got(|name| unsafe { tipi_classifier_class(classifier.0, 1, name) })), "bell");

    // One that cannot be decoded is in the answers.
    let list = pictures(&[icon("bell/lucide-bell"), path("Cargo.toml"), icon("car/ph-car-bold")]);
    let answers = Own::of(|answers| unsafe { tipi_classifier_predict(classifier.0, list.0, null(), answers) });
    assert_eq!(got(|count| unsafe { tipi_predictions_count(answers.0, count) }), 3);
    let answer =
        |number| -> TipiPrediction { got(|answer| unsafe { tipi_predictions_get(answers.0, number, answer) }) };
    for (number, name) in [(0, "bell/lucide-bell"), (2, "car/ph-car-bold")] {
        let (answer, wanted) = (answer(number), wanted.predict(&Picture::file(icon(name))).unwrap());
        assert_eq!((answer.status, text(answer.message), answer.unknown), (TipiStatus::TipiOk, String::new(), false));
        assert_eq!(bits(&values(answer.scores, answer.classes)), bits(wanted.scores()));
        assert_eq!(values(answer.probabilities, answer.classes), wanted.probabilities());
        assert!(answer.familiarity.is_nan());
        let best = wanted.best();
        assert_eq!((answer.best.class_number, text(answer.best.name)), (best.class, best.name.to_string()));
        assert_eq!((answer.best.probability, answer.best.score), (best.probability, best.score));
        let mut top = [answer.best; 5];
        let mut written = 0;
        ok!(tipi_predictions_top(answers.0, number, 5, top.as_mut_ptr(), &raw mut written));
        let names: Vec<String> = top[..written].iter().map(|scored| text(scored.name)).collect();
        assert_eq!(names, wanted.top(5).map(|scored| scored.name.to_string()).collect::<Vec<_>>());
        ok!(tipi_predictions_top(answers.0, number, 2, top.as_mut_ptr(), &raw mut written));
        assert_eq!(written, 2);
        ok!(tipi_predictions_set(answers.0, number, 5, top.as_mut_ptr(), &raw mut written));
        assert_eq!(written, 0);
    }
    let broken = answer(1);
    assert_eq!((broken.status, broken.classes), (TipiStatus::TipiImage, 0));
    assert!(text(broken.message).contains("Cargo.toml"));
    let mut top = [broken.best; 2];
    let mut written = 0;
    fails!(tipi_predictions_top(answers.0, 1, 2, top.as_mut_ptr(), &raw mut written), TipiImage, "Cargo.toml");
    fails!(tipi_predictions_set(answers.0, 1, 2, top.as_mut_ptr(), &raw mut written), TipiImage, "Cargo.toml");
    fails!(tipi_predictions_top(answers.0, 0, 2, null_mut(), &raw mut written), TipiInvalid, "top is NULL");

    // The same from features.
    let of_file = pictures(&[icon("bell/lucide-bell")]);
    let features = Own::of(|features| unsafe { tipi_model_encode(model(), of_file.0, null(), features) });
    let again = Own::of(|answers| unsafe { tipi_classifier_predict_features(classifier.0, features.0, answers) });
    let again: TipiPrediction = got(|answer| unsafe { tipi_predictions_get(again.0, 0, answer) });
    assert_eq!(bits(&values(again.scores, 3)), bits(&values(answer(0).scores, 3)));
    let texts = Own::of(|features| unsafe { tipi_model_encode_texts(model(), c_classes.as_ptr(), 3, features) });
    let mut none = null_mut();
    fails!(
        tipi_classifier_predict_features(classifier.0, texts.0, &raw mut none),
        TipiInvalid,
        "features are features of texts"
    );
    ok!(tipi_classifier_release(classifier.0));

    // Classes with prompts of their own.
    let prompts = ["an icon of an apple", "an icon of a bell", "a bell", "an icon of a car"];
    let of = |counts: [usize; 3], count, made| unsafe {
        tipi_model_zero_shot_of(model(), c_classes.as_ptr(), counts.as_ptr(), 3, prompts.map(s).as_ptr(), count, made)
    };
    let own = Own::of(|made| of([1, 2, 1], 4, made));
    let wanted = [("apple", &prompts[..1]), ("bell", &prompts[1..3]), ("car", &prompts[3..])];
    let wanted =
        wanted.map(|(class, prompts)| (class, prompts.iter().map(ToString::to_string).collect::<Vec<String>>()));
    let wanted = door().zero_shot_of(&wanted).unwrap().predict(&Picture::file(icon("bell/lucide-bell"))).unwrap();
    let answers = Own::of(|answers| unsafe { tipi_classifier_predict(own.0, of_file.0, null(), answers) });
    let answer: TipiPrediction = got(|answer| unsafe { tipi_predictions_get(answers.0, 0, answer) });
    assert_eq!(bits(&values(answer.scores, 3)), bits(wanted.scores()));
    let mut made = null_mut();
    assert_eq!((of([1, 2, 2], 4, &raw mut made), made), (TipiStatus::TipiInvalid, null_mut()));
    assert!(last().contains("do not add up to prompt_count, which is 4"), "{}", last());
    assert_eq!(of([1, usize::MAX, 2], 2, &raw mut made), TipiStatus::TipiInvalid);
    fails!(tipi_model_zero_shot(model(), null(), 0, c_templates.as_ptr(), 1, &raw mut made), TipiInvalid, "class");
    fails!(tipi_model_zero_shot(model(), c_classes.as_ptr(), 3, null(), 0, &raw mut made), TipiInvalid, "template");
}

#[test]
fn handles_outlive_nothing_and_are_never_followed() {
    // What was made goes on without what it was made of.
    let other = Own::of(|gpu| unsafe { tipi_gpu_open(ABI_VERSION, &device_options(), gpu) });
    let loaded = load(other.0);
    let (classes, templates) = (["bell", "car"].map(s), [s("an icon of {}")]);
    let classifier =
        Own::of(|made| unsafe { tipi_model_zero_shot(loaded.0, classes.as_ptr(), 2, templates.as_ptr(), 1, made) });
    let (gone, gone_gpu) = (loaded.0, other.0);
    drop(other);
    drop(loaded);
    let list = pictures(&[icon("bell/lucide-bell")]);
    let answers = Own::of(|answers| unsafe { tipi_classifier_predict(classifier.0, list.0, null(), answers) });
    let answer: TipiPrediction = got(|answer| unsafe { tipi_predictions_get(answers.0, 0, answer) });
    assert_eq!(text(answer.best.name), "bell");

    let mut features = null_mut();
    fails!(tipi_model_encode(gone, list.0, null(), &raw mut features), TipiInvalid, "model is no handle, or was freed");
    fails!(tipi_gpu_check(gone_gpu), TipiInvalid, "gpu is no handle, or was freed");
    fails!(tipi_free(gone.cast()), TipiInvalid, "freed before");
    // Of another kind, and no handle at all.
    fails!(
        tipi_model_encode(list.0.cast(), list.0, null(), &raw mut features),
        TipiInvalid,
        "model is TipiPictures: give it a TipiModel"
    );
    let mut here = 7u64;
    fails!(tipi_gpu_check((&raw mut here).cast()), TipiInvalid, "no handle");
    fails!(tipi_gpu_check(std::ptr::without_provenance(0x10)), TipiInvalid, "no handle");
    assert_eq!(tipi_free(null_mut()), TipiStatus::TipiOk);

    // Messages are a thread's own.
    fails!(tipi_gpu_check(null()), TipiInvalid, "gpu is NULL");
    assert_eq!(std::thread::spawn(last).join().unwrap(), "");
    assert!(last().contains("gpu is NULL"));

    // Freed in the middle of work: it goes on to its end.
    let list = Own::of(|list| unsafe { tipi_pictures_new(list) });
    ok!(tipi_pictures_add_folder(list.0, s(&path("examples/pictos/shifted")), null_mut()));
    let working = load(gpu());
    let handle = Own(working.0);
    std::mem::forget(working);
    std::thread::scope(|scope| {
        let work = scope.spawn(|| {
            let features = Own::of(|features| unsafe { tipi_model_encode(handle.get(), list.get(), null(), features) });
            let matrix: TipiMatrix = got(|matrix| unsafe { tipi_features_get(features.0, matrix) });
            matrix.rows
        });
        std::thread::sleep(std::time::Duration::from_millis(300));
        let before = got(|count| unsafe { tipi_pictures_count(list.0, count) });
        ok!(tipi_free(handle.0.cast()));
        ok!(tipi_pictures_clear(list.0));
        assert_eq!(work.join().unwrap(), before);
    });
    std::mem::forget(handle);
}
