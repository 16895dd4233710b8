//! Callbacks: progress, notes, and stopping from within and from without.

// A test that cannot go on should stop where it stands; helpers here are tests too. What they call by pointers keeps to the header's rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::undocumented_unsafe_blocks)]
#![allow(clippy::macro_metavars_in_unsafe)]

#[macro_use]
mod common;

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::time::{Duration, Instant};

use common::{Own, fit_options, gpu, model, path, s, text};
use tipi_c::*;

#[derive(Default)]
struct Seen {
    progress: Vec<(String, u64, u64, String)>,
    notes: Vec<String>,
    /// After so many calls it wants to stop.
    stop_after: Option<usize>,
    /// What it stops where it is called the first time.
    stop: Option<Own<TipiStop>>,
}

unsafe extern "C" fn on_progress(data: *mut c_void, progress: *const TipiProgress) -> i32 {
    // SAFETY: the tests give a Seen.
    let (seen, progress) = unsafe { (&mut *data.cast::<Seen>(), *progress) };
    seen.progress.push((text(progress.what), progress.done, progress.total, text(progress.beside)));
    // A callback may call tipi.
    assert_eq!(tipi_abi_version(), ABI_VERSION);
    if let Some(stop) = &seen.stop {
        ok!(tipi_stop_now(stop.0));
    }
    i32::from(seen.stop_after.is_some_and(|after| seen.progress.len() >= after))
}

unsafe extern "C" fn on_note(data: *mut c_void, note: TipiStr) {
    // SAFETY: the tests give a Seen.
    unsafe { &mut *data.cast::<Seen>() }.notes.push(text(note));
}

fn watch(seen: &mut Seen, stop: *const TipiStop) -> TipiWatch {
    let data = (&raw mut *seen).cast();
    TipiWatch { size: size_of::<TipiWatch>(), progress: Some(on_progress), note: Some(on_note), data, stop }
}

fn folder() -> Own<TipiPictures> {
    let list = common::pictures(&[]);
    ok!(tipi_pictures_add_folder(list.0, s(&path("examples/pictos/shifted")), null_mut()));
    list
}

#[test]
fn progress_is_told_to_the_end() {
    let list = folder();
    let mut seen = Seen::default();
    let watching = watch(&mut seen, null());
    let _features = Own::of(|made| unsafe { tipi_model_encode(model(), list.0, &raw const watching, made) });
    let count = common::got(|count| unsafe { tipi_pictures_count(list.0, count) }) as u64;
    let done: Vec<u64> = seen.progress.iter().map(|told| told.1).collect();
    assert!(done.len() > 3 && done.is_sorted() && done.first() == Some(&0) && done.last() == Some(&count), "{done:?}");
    assert!(seen.progress.iter().all(|told| told.0 == "encoding pictures" && told.2 == count && told.3.is_empty()));
}

#[test]
fn a_callback_stops_the_work() {
    let list = folder();
    let mut seen = Seen { stop_after: Some(2), ..Seen::default() };
    let watching = watch(&mut seen, null());
    let mut features = null_mut();
    fails!(tipi_model_encode(model(), list.0, &raw const watching, &raw mut features), TipiStopped, "stopped");
    assert!(features.is_null());
    assert_eq!(seen.progress.len(), 2);

    // A training, which puts losses beside its progress.
    let (examples, _) = common::examples();
    let templates = [s("an icon of {}")];
    let options = TipiFitOptions { settings: s(r#"{"epochs": 100000}"#), ..fit_options("tip-adapter-f", &templates) };
    let mut seen = Seen { stop_after: Some(60), ..Seen::default() };
    let watching = watch(&mut seen, null());
    let mut made = null_mut();
    fails!(
        tipi_model_fit(model(), examples.0, &raw const options, &raw const watching, &raw mut made, null_mut()),
        TipiStopped,
        "stopped"
    );
    assert!(made.is_null());
    assert!(seen.progress.iter().any(|told| told.3.contains("loss")), "{:?}", seen.progress);
}

#[test]
fn another_thread_stops_the_work() {
    let (examples, _) = common::examples();
    let templates = [s("an icon of {}")];
    let options = TipiFitOptions { settings: s(r#"{"epochs": 1000000}"#), ..fit_options("tip-adapter-f", &templates) };
    let stop = Own::of(|stop| unsafe { tipi_stop_new(stop) });
    let silent = TipiWatch { size: size_of::<TipiWatch>(), progress: None, note: None, data: null_mut(), stop: stop.0 };
    std::thread::scope(|scope| {
        let stop = &stop;
        let asked = scope.spawn(move || {
            std::thread::sleep(Duration::from_secs(2));
            ok!(tipi_stop_now(stop.get()));
            Instant::now()
        });
        let mut made = null_mut();
        fails!(
            tipi_model_fit(model(), examples.0, &raw const options, &raw const silent, &raw mut made, null_mut()),
            TipiStopped,
            "stopped"
        );
        assert!(asked.join().unwrap().elapsed() < Duration::from_secs(5));
    });
    // It stays wished.
    let mut features = null_mut();
    let list = folder();
    fails!(tipi_model_encode(model(), list.0, &raw const silent, &raw mut features), TipiStopped, "stopped");
    // From within a callback, by the same way.
    let own = Own::of(|stop| unsafe { tipi_stop_new(stop) });
    let handle = own.0;
    let mut seen = Seen { stop: Some(own), ..Seen::default() };
    let watching = watch(&mut seen, handle);
    fails!(tipi_model_encode(model(), list.0, &raw const watching, &raw mut features), TipiStopped, "stopped");
    fails!(tipi_stop_now(null()), TipiInvalid, "stop is NULL");
    let gone = TipiWatch { stop: gpu().cast(), ..silent };
    fails!(
        tipi_model_encode(model(), list.0, &raw const gone, &raw mut features),
        TipiInvalid,
        "watch.stop is a TipiGpu"
    );
    let short = TipiWatch { size: 1, ..silent };
    fails!(tipi_model_encode(model(), list.0, &raw const short, &raw mut features), TipiInvalid, "watch.size is 1");
    assert!(features.is_null());
}

#[test]
fn notes_are_told() {
    let (examples, _) = common::examples();
    let mut seen = Seen::default();
    let watching = watch(&mut seen, null());
    let _chosen =
        Own::of(|chosen| unsafe { tipi_examples_choose(examples.0, 50, 1, &raw const watching, chosen, null_mut()) });
    assert!(seen.notes.iter().any(|note| note.contains("fewer") || note.contains("50")), "{:?}", seen.notes);
}
