//! What the tests call C's functions with.

#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use tipi_c::*;

pub const MODEL: &str = "weights/picto";

/// A function of C's, which must do well.
#[macro_export]
macro_rules! ok {
    ($call:expr) => {{
        // SAFETY: the tests keep to the header's rules but where they break them on purpose, in ways that it says are checked.
        #[allow(unused_unsafe)]
        let status = unsafe { $call };
        assert_eq!(status, tipi_c::TipiStatus::TipiOk, "{}: {}", stringify!($call), $crate::common::last());
    }};
}

/// A function of C's, which must fail with this status and say this.
#[macro_export]
macro_rules! fails {
    ($call:expr, $status:ident, $said:expr) => {{
        // SAFETY: as above.
        #[allow(unused_unsafe)]
        let status = unsafe { $call };
        assert_eq!(status, tipi_c::TipiStatus::$status, "{}: {}", stringify!($call), $crate::common::last());
        let last = $crate::common::last();
        assert!(last.contains($said), "{}: {last}", stringify!($call));
    }};
}

/// The message of this thread.
pub fn last() -> String {
    text(tipi_last_error())
}

/// What a text of tipi's says; it ends with a NUL that is not counted.
pub fn text(given: TipiStr) -> String {
    // SAFETY: tipi gave it.
    let bytes = unsafe { std::slice::from_raw_parts(given.data.cast::<u8>(), given.length + 1) };
    assert_eq!(bytes.last(), Some(&0));
    String::from_utf8(bytes[..given.length].to_vec()).unwrap()
}

/// A text for tipi, with no NUL.
pub fn s(text: &str) -> TipiStr {
    TipiStr { data: text.as_ptr().cast(), length: text.len() }
}

/// `count` values of tipi's.
pub fn values<T: Copy>(first: *const T, count: usize) -> Vec<T> {
    // SAFETY: tipi gave them.
    if count == 0 { Vec::new() } else { unsafe { std::slice::from_raw_parts(first, count) }.to_vec() }
}

pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf())
}

pub fn path(below: &str) -> String {
    root().join(below).to_str().unwrap().to_string()
}

/// A bundled picture.
pub fn icon(name: &str) -> String {
    path(&format!("examples/pictos/shifted/{name}.png"))
}

/// Options that do not measure.
pub fn device_options() -> TipiDeviceOptions {
    TipiDeviceOptions {
        size: size_of::<TipiDeviceOptions>(),
        device: s(""),
        cache: s(""),
        memory: 0,
        checked: 0,
        tune: -1,
        portable: 0,
    }
}

/// A handle that is freed at the end. It may be sent: handles are for all threads.
pub struct Own<T>(pub *mut T);

// SAFETY: the header says so.
unsafe impl<T> Send for Own<T> {}
// SAFETY: the header says so.
unsafe impl<T> Sync for Own<T> {}

impl<T> Own<T> {
    /// The handle, for threads: closures take the whole of this.
    pub fn get(&self) -> *mut T {
        self.0
    }

    /// What a function makes.
    pub fn of(make: impl FnOnce(*mut *mut T) -> TipiStatus) -> Own<T> {
        let mut made = null_mut();
        assert_eq!(make(&raw mut made), TipiStatus::TipiOk, "{}", last());
        assert!(!made.is_null());
        Own(made)
    }
}

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        assert_eq!(tipi_free(self.0.cast()), TipiStatus::TipiOk);
    }
}

/// What a function writes.
pub fn got<T>(get: impl FnOnce(*mut T) -> TipiStatus) -> T {
    let mut place = std::mem::MaybeUninit::uninit();
    assert_eq!(get(place.as_mut_ptr()), TipiStatus::TipiOk, "{}", last());
    // SAFETY: it did well, so it wrote.
    unsafe { place.assume_init() }
}

pub fn gpu() -> *mut TipiGpu {
    static GPU: OnceLock<Own<TipiGpu>> = OnceLock::new();
    // SAFETY: the header's rules are kept to.
    GPU.get_or_init(|| Own::of(|gpu| unsafe { tipi_gpu_open(ABI_VERSION, &device_options(), gpu) })).0
}

pub fn load(gpu: *const TipiGpu) -> Own<TipiModel> {
    // SAFETY: the header's rules are kept to.
    Own::of(|model| unsafe { tipi_model_load(gpu, s(&path(MODEL)), null(), null(), model) })
}

pub fn model() -> *mut TipiModel {
    static MODELS: OnceLock<Own<TipiModel>> = OnceLock::new();
    MODELS.get_or_init(|| load(gpu())).0
}

/// The same model through the library's door.
pub fn door() -> &'static tipi::Model {
    static DOOR: OnceLock<tipi::Model> = OnceLock::new();
    DOOR.get_or_init(|| {
        let options = tipi::DeviceOptions { tune: Some(false), ..tipi::DeviceOptions::default() };
        tipi::Model::load(&tipi::Gpu::open(&options).unwrap(), path(MODEL)).unwrap()
    })
}

/// A list of picture files.
pub fn pictures(paths: &[String]) -> Own<TipiPictures> {
    // SAFETY: the header's rules are kept to.
    let list = Own::of(|list| unsafe { tipi_pictures_new(list) });
    paths.iter().for_each(|path| ok!(tipi_pictures_add_file(list.0, s(path))));
    list
}

/// Examples of three classes, two pictures of each to learn from and one to validate on, and the same at the door.
pub fn examples() -> (Own<TipiExamples>, tipi::Examples) {
    // SAFETY: the header's rules are kept to.
    let examples = Own::of(|examples| unsafe { tipi_examples_new(examples) });
    let mut same = tipi::Examples::new();
    for class in ["apple", "bell", "car"] {
        let of = |set: &str| icon(&format!("{class}/{set}-{class}"));
        ok!(tipi_examples_add(examples.0, s(class), pictures(&[of("lucide"), of("iconoir")]).0));
        ok!(tipi_examples_add_validation(examples.0, s(class), pictures(&[of("glyphs-poly")]).0));
        same.add(class, tipi::Picture::file(of("lucide"))).add(class, tipi::Picture::file(of("iconoir")));
        same.add_validation(class, tipi::Picture::file(of("glyphs-poly")));
    }
    (examples, same)
}

/// Options with this method and template.
pub fn fit_options(method: &str, templates: &[TipiStr]) -> TipiFitOptions {
    TipiFitOptions {
        size: size_of::<TipiFitOptions>(),
        method: TipiStr { data: method.as_ptr().cast(), length: method.len() },
        settings: s(""),
        how: s(""),
        templates: templates.as_ptr(),
        template_count: templates.len(),
        words: s(""),
        correction: null(),
        seed: 0,
        has_seed: 0,
        checkpoint: s(""),
    }
}

pub fn fit(options: &TipiFitOptions) -> Own<TipiClassifier> {
    let (examples, _) = examples();
    // SAFETY: the header's rules are kept to.
    Own::of(|classifier| unsafe {
        tipi_model_fit(model(), examples.0, &raw const *options, null(), classifier, null_mut())
    })
}

/// What a classifier is kept as.
pub fn bytes_of(classifier: *const TipiClassifier) -> Vec<u8> {
    // SAFETY: the header's rules are kept to.
    let bytes = Own::of(|bytes| unsafe { tipi_classifier_to_bytes(classifier, bytes) });
    contents(&bytes)
}

pub fn contents(bytes: &Own<TipiBytes>) -> Vec<u8> {
    let (mut data, mut length) = (null(), 0);
    ok!(tipi_bytes_get(bytes.0, &raw mut data, &raw mut length));
    values(data, length)
}
