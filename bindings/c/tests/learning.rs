//! C's functions for learning and for what is learned: they give what the library's door gives, to the bit, and refuse what cannot be
//! by name. The others are in `functions.rs`.

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
    Own, bits, bytes_of, contents, door, examples, fit, fit_options, got, icon, model, path, pictures, s, text, values,
};
use tipi::{Examples, FitOptions, Method, Picture, Unwatched};
use tipi_c::*;

#[test]
fn the_register_is_there_and_every_method_fits_as_at_the_door() {
    let (_, examples) = examples();
    let templates = [s("an icon of {}")];
    assert_eq!(tipi_method_count(), Method::all().count());
    let correction = correction();
    for (i, method) in Method::all().enumerate() {
        let found: TipiMethod = got(|found| unsafe { tipi_method_get(i, found) });
        assert_eq!((text(found.name), text(found.title)), (method.name().into(), method.title().into()));
        assert_eq!((text(found.about), text(found.paper)), (method.about().into(), method.paper().into()));
        assert_eq!((found.needs_correction, found.trains), (method.needs_correction(), method.trains()));
        let settings = Own::of(|settings| unsafe { tipi_method_settings(found.name, settings) });
        let settings = text(got(|content| unsafe { tipi_text_get(settings.0, content) }));
        let settings: Vec<serde_json::Value> = serde_json::from_str(&settings).unwrap();
        let wanted = method.settings();
        assert_eq!(settings.len(), wanted.len());
        for (setting, wanted) in settings.iter().zip(&wanted) {
            assert_eq!((&setting["name"], &setting["help"]), (&wanted.name.into(), &wanted.help.into()));
            assert_eq!(setting["default"], wanted.default);
        }
        // Little training, which is enough to be the same.
        let given = match wanted.iter().any(|setting| setting.name == "epochs") {
            true => r#"{"epochs": 2}"#,
            false => "",
        };
        let how = r#"{"key_views": 2, "views": 2, "grid": "standard"}"#;
        let options = TipiFitOptions {
            settings: s(given),
            how: s(how),
            seed: 3,
            has_seed: 1,
            correction: if method.needs_correction() { correction.0 } else { null() },
            ..fit_options(method.name(), &templates)
        };
        let mut wanted = FitOptions::new(method).with_template("an icon of {}").with_how(how).unwrap();
        if !given.is_empty() {
            wanted = wanted.with_settings(given).unwrap();
        }
        if method.needs_correction() {
            let bytes = Own::of(|bytes| unsafe { tipi_correction_to_bytes(correction.0, bytes) });
            wanted.correction = Some(door().correction_from_bytes("correction", contents(&bytes)).unwrap());
        }
        wanted.seed = 3;
        let (wanted, report) = door().fit(&examples, &wanted, &mut Unwatched).unwrap();
        let (given, _) = common::examples();
        let mut went = null_mut();
        let classifier = Own::of(|made| unsafe {
            tipi_model_fit(model(), given.0, &raw const options, null(), made, &raw mut went)
        });
        // Which method `auto` takes may depend on the clock, but not with so little to do.
        assert_eq!(bytes_of(classifier.0), wanted.to_bytes().unwrap(), "{method}");
        let went = Own(went);
        let info: TipiReportInfo = got(|info| unsafe { tipi_report_get(went.0, info) });
        assert_eq!(info.validation_accuracy, report.validation_accuracy.unwrap());
        assert_eq!(info.validation_pictures, 3);
        assert_eq!(values(info.losses, info.loss_count), report.losses);
    }
    let mut found = std::mem::MaybeUninit::uninit();
    fails!(tipi_method_get(tipi_method_count(), found.as_mut_ptr()), TipiInvalid, "number is");
    let mut settings = null_mut();
    fails!(tipi_method_settings(s("tip-y"), &raw mut settings), TipiInvalid, "no method 'tip-y'");

    let (given, _) = common::examples();
    let refused = |options: TipiFitOptions, said: &str| {
        let mut made = null_mut();
        fails!(
            tipi_model_fit(model(), given.0, &raw const options, null(), &raw mut made, null_mut()),
            TipiInvalid,
            said
        );
        assert!(made.is_null());
    };
    let usual = fit_options("tip-adapter-f", &templates);
    refused(fit_options("", &templates), "fit_options.method is empty: give one of zero-shot, tip-adapter");
    refused(fit_options("tip-y", &templates), "no method 'tip-y'");
    refused(TipiFitOptions { settings: s("{"), ..usual }, "the settings are no JSON object");
    refused(TipiFitOptions { settings: s(r#"{"epochs": 0}"#), ..usual }, "epochs is 0");
    refused(TipiFitOptions { how: s(r#"{"key_view": 1}"#), ..usual }, "no 'key_view'");
    refused(TipiFitOptions { templates: null(), ..usual }, "fit_options.templates is NULL");
    refused(TipiFitOptions { correction: model().cast(), ..usual }, "fit_options.correction is a TipiModel");
    refused(TipiFitOptions { size: 0, ..usual }, "fit_options.size is 0");
    let mut made = null_mut();
    fails!(tipi_model_fit(model(), given.0, null(), null(), &raw mut made, null_mut()), TipiInvalid, "method is empty");
}

/// A correction that was trained a little.
fn correction() -> Own<TipiCorrection> {
    let (examples, _) = examples();
    let options = r#"{"epochs": 1, "bottleneck": 4, "batch": 3, "micro_batch": 3}"#;
    Own::of(|made| unsafe { tipi_model_fit_correction(model(), examples.0, s(options), null(), made, null_mut()) })
}

#[test]
fn corrections_are_trained_and_kept() {
    let trained = correction();
    let info: TipiCorrectionInfo = got(|info| unsafe { tipi_correction_info(trained.0, info) });
    assert_eq!(
        (text(info.facts), info.epochs, info.classes),
        ("4 wide, scale 0.03, 1 epoch over 3 classes".into(), 1, 3)
    );
    assert_eq!(text(got(|name| unsafe { tipi_correction_class(trained.0, 2, name) })), "car");
    let bytes_of = |correction: &Own<TipiCorrection>| {
        contents(&Own::of(|bytes| unsafe { tipi_correction_to_bytes(correction.0, bytes) }))
    };
    let bytes = bytes_of(&trained);
    let options = r#"{"epochs": 1, "bottleneck": 4, "batch": 3, "micro_batch": 3}"#;
    let options = tipi::CorrectionOptions::of_json(options).unwrap();
    let (wanted, report) = door().fit_correction(&examples().1, &options, &mut Unwatched).unwrap();
    assert_eq!(bytes, wanted.to_bytes().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("correction.safetensors");
    let file = file.to_str().unwrap();
    ok!(tipi_correction_save(trained.0, s(file)));
    assert_eq!(fs::read(file).unwrap(), bytes);
    let opened = Own::of(|made| unsafe { tipi_model_open_correction(model(), s(file), made) });
    let read =
        Own::of(|made| unsafe { tipi_model_correction_from_bytes(model(), s("c"), bytes.as_ptr(), bytes.len(), made) });
    assert_eq!((bytes_of(&opened), bytes_of(&read)), (bytes.clone(), bytes.clone()));

    let (mut made, mut went) = (null_mut(), null_mut());
    let (given, _) = examples();
    ok!(tipi_model_fit_correction(
        model(),
        given.0,
        s(r#"{"epochs": 1, "bottleneck": 4, "batch": 3, "micro_batch": 3}"#),
        null(),
        &raw mut made,
        &raw mut went
    ));
    let (_made, went) = (Own(made), Own(went));
    let info: TipiReportInfo = got(|info| unsafe { tipi_report_get(went.0, info) });
    assert!(info.validation_accuracy.is_nan());
    assert_eq!(values(info.losses, info.loss_count), report.losses);
    let mut made = null_mut();
    fails!(
        tipi_model_fit_correction(model(), given.0, s(r#"{"epoch": 1}"#), null(), &raw mut made, null_mut()),
        TipiInvalid,
        "no 'epoch'"
    );
    fails!(tipi_model_open_correction(model(), s("/no/such"), &raw mut made), TipiIo, "/no/such");
    let cut = bytes.len() / 2;
    fails!(
        tipi_model_correction_from_bytes(model(), s("cut"), bytes.as_ptr(), cut, &raw mut made),
        TipiSafetensors,
        "cut"
    );
    assert!(made.is_null());
}

#[test]
fn adapters_are_kept_and_say_unknown() {
    let templates = [s("an icon of {}")];
    let classifier = fit(&fit_options("tip-adapter", &templates));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("adapter.safetensors");
    let file = file.to_str().unwrap();
    ok!(tipi_classifier_save(classifier.0, s(file)));
    let bytes = bytes_of(classifier.0);
    assert_eq!(fs::read(file).unwrap(), bytes);
    let opened = Own::of(|made| unsafe { tipi_model_open_adapter(model(), s(file), made) });
    let read =
        Own::of(|made| unsafe { tipi_model_adapter_from_bytes(model(), s("a"), bytes.as_ptr(), bytes.len(), made) });
    assert_eq!((bytes_of(opened.0), bytes_of(read.0)), (bytes.clone(), bytes.clone()));
    // A file of another kind stays.
    let notes = folder.path().join("notes.txt");
    fs::write(&notes, "mine").unwrap();
    fails!(tipi_classifier_save(classifier.0, s(notes.to_str().unwrap())), TipiForeign, "notes.txt");
    assert_eq!(fs::read_to_string(&notes).unwrap(), "mine");

    let wanted = door().open_adapter(file).unwrap();
    let picture = Picture::file(icon("bell/iconoir-bell"));
    let list = pictures(&[icon("bell/iconoir-bell")]);
    let ask = |classifier: &Own<TipiClassifier>| {
        Own::of(|answers| unsafe { tipi_classifier_predict(classifier.0, list.0, null(), answers) })
    };
    let first = |answers: &Own<TipiPredictions>| -> TipiPrediction {
        got(|answer| unsafe { tipi_predictions_get(answers.0, 0, answer) })
    };
    let asking = Own::of(|made| unsafe { tipi_classifier_asking_for(opened.0, 1.0, made) });
    let answers = ask(&asking);
    assert!(first(&answers).unknown);
    assert_eq!(text(first(&answers).best.name), "bell");
    for (by, kind) in
        [tipi::UnknownBy::Probability, tipi::UnknownBy::Energy, tipi::UnknownBy::Distance].into_iter().enumerate()
    {
        let keeping = Own::of(|made| unsafe { tipi_classifier_keeping(opened.0, 0.5, by as i32, made) });
        let wanted = wanted.keeping(0.5, kind).unwrap().predict(&picture).unwrap();
        let answers = ask(&keeping);
        assert_eq!(Some(first(&answers).familiarity), wanted.familiarity());
        assert_eq!(first(&answers).unknown, wanted.class().is_none());
    }
    for per_class in [false, true] {
        let covering = Own::of(|made| unsafe { tipi_classifier_covering(opened.0, 0.6, i32::from(per_class), made) });
        let wanted = wanted.covering(0.6, per_class).unwrap().predict(&picture).unwrap();
        let answers = ask(&covering);
        let mut set = [first(&answers).best; 3];
        let mut count = 0;
        ok!(tipi_predictions_set(answers.0, 0, 3, set.as_mut_ptr(), &raw mut count));
        assert_eq!(
            set[..count].iter().map(|scored| scored.class_number).collect::<Vec<_>>(),
            wanted.set().map(|scored| scored.class).collect::<Vec<_>>()
        );
    }
    let batched = Own::of(|made| unsafe { tipi_classifier_in_batches_of(opened.0, 3, made) });
    let (a, b) = (ask(&batched), ask(&opened));
    assert_eq!(bits(&values(first(&a).scores, 3)), bits(&values(first(&b).scores, 3)));

    let mut made = null_mut();
    fails!(tipi_classifier_asking_for(opened.0, 1.5, &raw mut made), TipiInvalid, "1.5");
    fails!(tipi_classifier_keeping(opened.0, 0.5, 3, &raw mut made), TipiInvalid, "by is 3");
    fails!(tipi_classifier_covering(opened.0, f64::NAN, 0, &raw mut made), TipiInvalid, "NaN");
    fails!(tipi_classifier_in_batches_of(opened.0, 0, &raw mut made), TipiInvalid, "pictures is 0");
    fails!(
        tipi_model_adapter_from_bytes(model(), s("cut"), bytes.as_ptr(), 100, &raw mut made),
        TipiSafetensors,
        "cut"
    );
    fails!(tipi_model_open_adapter(model(), s(&path("Cargo.toml")), &raw mut made), TipiSafetensors, "Cargo.toml");
    let mut name = std::mem::MaybeUninit::uninit();
    fails!(tipi_classifier_class(opened.0, 3, name.as_mut_ptr()), TipiInvalid, "number is 3");
    assert!(made.is_null());
}

#[test]
fn examples_are_chosen_as_at_the_door() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["bell", "car"] {
        let to = folder.path().join(class);
        fs::create_dir(&to).unwrap();
        for set in ["lucide", "iconoir", "glyphs-poly"] {
            fs::copy(icon(&format!("{class}/{set}-{class}")), to.join(set).with_extension("png")).unwrap();
        }
    }
    fs::write(folder.path().join("car/broken.png"), "no picture").unwrap();
    let at = folder.path().to_str().unwrap();
    let all = Own::of(|examples| unsafe { tipi_examples_of_folder(s(at), examples) });
    let info = |examples: *const TipiExamples| -> TipiExamplesInfo {
        got(|info| unsafe { tipi_examples_info(examples, info) })
    };
    assert_eq!(info(all.0), TipiExamplesInfo { classes: 2, support: 7, validation: 0 });
    let name = Own::of(|name| unsafe { tipi_examples_class(all.0, 1, name) });
    assert_eq!(text(got(|content| unsafe { tipi_text_get(name.0, content) })), "car");

    let (mut chosen, mut left_out) = (null_mut(), null_mut());
    ok!(tipi_examples_choose(all.0, 2, 5, null(), &raw mut chosen, &raw mut left_out));
    let (chosen, left_out) = (Own(chosen), Own(left_out));
    let (wanted, broken) = Examples::of_folder(at).unwrap().choose(2, 5, &mut Unwatched).unwrap();
    assert_eq!(info(chosen.0), TipiExamplesInfo { classes: 2, support: 4, validation: 2 });
    assert_eq!((wanted.support().count(), wanted.validation().count()), (4, 2));
    let said = |messages: &Own<TipiMessages>| {
        assert_eq!(got(|count| unsafe { tipi_messages_count(messages.0, count) }), 1);
        let mut status = TipiStatus::TipiOk;
        let message = got(|message| unsafe { tipi_messages_get(messages.0, 0, &raw mut status, message) });
        assert_eq!(status, TipiStatus::TipiImage);
        assert_eq!(
            text(got(|message| unsafe { tipi_messages_get(messages.0, 0, null_mut(), message) })),
            text(message)
        );
        text(message)
    };
    assert_eq!(said(&left_out), broken[0].to_string());
    let mut message = std::mem::MaybeUninit::uninit();
    fails!(tipi_messages_get(left_out.0, 1, null_mut(), message.as_mut_ptr()), TipiInvalid, "number is 1");

    let (mut sound, mut broken) = (null_mut(), null_mut());
    ok!(tipi_examples_sound(all.0, null(), &raw mut sound, &raw mut broken));
    let (sound, broken) = (Own(sound), Own(broken));
    assert_eq!(info(sound.0).support, 6);
    assert!(said(&broken).contains("broken.png"));
    let every = Own::of(|every| unsafe { tipi_examples_choose(all.0, 0, 5, null(), every, null_mut()) });
    assert_eq!(info(every.0), TipiExamplesInfo { classes: 2, support: 6, validation: 0 });

    // Fits of both are the same.
    let templates = [s("an icon of {}")];
    let options = fit_options("tip-adapter", &templates);
    let classifier =
        Own::of(|made| unsafe { tipi_model_fit(model(), chosen.0, &raw const options, null(), made, null_mut()) });
    let asked = FitOptions::new(Method::named("tip-adapter").unwrap()).with_template("an icon of {}");
    let (wanted, _) = door().fit(&wanted, &asked, &mut Unwatched).unwrap();
    assert_eq!(bytes_of(classifier.0), wanted.to_bytes().unwrap());

    ok!(tipi_examples_clear(all.0));
    assert_eq!(info(all.0), TipiExamplesInfo { classes: 0, support: 0, validation: 0 });
    let mut made = null_mut();
    fails!(
        tipi_model_fit(model(), all.0, &raw const options, null(), &raw mut made, null_mut()),
        TipiInvalid,
        "at least two"
    );
    let mut none = null_mut();
    fails!(tipi_examples_of_folder(s("/no/such"), &raw mut none), TipiData, "/no/such");
    fails!(
        tipi_examples_add(all.0, TipiStr { data: null(), length: 1 }, pictures(&[]).0),
        TipiInvalid,
        "class_name is NULL"
    );
    fails!(tipi_examples_add(all.0, s("x"), null()), TipiInvalid, "pictures is NULL");
    let mut name = null_mut();
    fails!(tipi_examples_class(all.0, 0, &raw mut name), TipiInvalid, "number is 0");
}
