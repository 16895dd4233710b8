//! Models as PyTorch saves them and adapters as peft does, against those libraries (`tests/reference/torch_files.py` makes the
//! files); and files that lie, which must be errors at once, with nothing run and nothing large asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use safetensors::{Dtype, SafeTensors};
use tipi::Unwatched;
use tipi::low_level::clip::{Checkpoint, Clip, Source, convert};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::kernels::gemm::Precision;

#[path = "torch_files/archive.rs"]
mod archive;
#[path = "torch_files/hostile.rs"]
mod hostile;
#[path = "torch_files/lora.rs"]
mod lora;

/// The largest error of a feature, as a share of its length.
const OFF: f64 = 1e-4;

/// Remembers the largest request for memory.
struct Watching;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ASKED.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

fn gpu() -> &'static Gpu {
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| Gpu::open(&DeviceOptions { tune: Some(false), ..Default::default() }).unwrap())
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/torch").join(name)
}

/// A tensor of a safetensors file as words of four bytes.
fn words(file: &SafeTensors<'_>, name: &str) -> Vec<[u8; 4]> {
    file.tensor(name).unwrap().data().chunks_exact(4).map(|b| b.try_into().unwrap()).collect()
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    words(file, name).into_iter().map(f32::from_le_bytes).collect()
}

/// Features of the pictures and texts of an expectation.
fn features(source: &Source, expected: &SafeTensors<'_>) -> [Vec<f32>; 2] {
    let clip = Clip::load_source(gpu(), source, Precision::F32).unwrap_or_else(|e| panic!("{e}"));
    let context = expected.tensor("ids").unwrap().shape()[1];
    let ids: Vec<u32> = words(expected, "ids").into_iter().map(u32::from_le_bytes).collect();
    let ids: Vec<Vec<u32>> = ids.chunks(context).map(<[u32]>::to_vec).collect();
    let image = clip.image_encoder(ids.len()).unwrap().encode(&floats(expected, "pixels"), &mut |_| {}).unwrap();
    [image, clip.text.encode(&ids, clip.config.end).unwrap()]
}

/// The largest error of any row, as a share of its length.
fn off(got: &[f32], want: &[f32], width: usize) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |row: &mut dyn Iterator<Item = f64>| row.map(|v| v * v).sum::<f64>().sqrt();
    let rows = got.chunks_exact(width).zip(want.chunks_exact(width));
    let errors = rows.map(|(g, w)| {
        let off = norm(&mut g.iter().zip(w).map(|(g, w)| f64::from(*g) - f64::from(*w)));
        off / norm(&mut w.iter().map(|w| f64::from(*w)))
    });
    errors.fold(0.0, |worst: f64, e| if e.is_nan() { f64::INFINITY } else { worst.max(e) })
}

/// How far a model's features are from those in a file.
fn compared(source: &Source, expected: &Path) -> [f64; 2] {
    let bytes = std::fs::read(expected).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let width = file.tensor("image_features").unwrap().shape()[1];
    let [image, text] = features(source, &file);
    [off(&image, &floats(&file, "image_features"), width), off(&text, &floats(&file, "text_features"), width)]
}

fn source(path: &Path, lora: Option<&Path>) -> Source {
    Source::of(path, lora).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn torchs_files_give_torchs_features() {
    for (model, expected) in [
        ("openai.pt", "openai.expected.safetensors"),
        ("tuned", "tuned/expected.safetensors"),
        ("tuned/checkpoint.pth", "tuned/expected.safetensors"),
        ("hf", "hf/expected.safetensors"),
        ("hf-sharded", "hf/expected.safetensors"),
        ("hf-sharded/pytorch_model.bin.index.json", "hf/expected.safetensors"),
        ("hf-old", "hf/expected.safetensors"),
        ("hf-old/pytorch_model.bin", "hf/expected.safetensors"),
    ] {
        let errors = compared(&source(&fixture(model), None), &fixture(expected));
        println!("{model}: image {:.1e}, text {:.1e}", errors[0], errors[1]);
        assert!(errors.iter().all(|error| *error < OFF), "{model}: {errors:?}");
    }
    // Another model's are told.
    let errors = compared(&source(&fixture("tuned"), None), &fixture("lora/attention/expected.safetensors"));
    assert!(errors.iter().all(|error| *error > 10.0 * OFF), "{errors:?}");
}

/// Views of any kind come out as the tensors that they are, whole, in part and row by row.
#[test]
fn every_tensor_has_torchs_values() {
    let plain = std::fs::read(fixture("tuned/plain.safetensors")).unwrap();
    let plain = SafeTensors::deserialize(&plain).unwrap();
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let checkpoint = Checkpoint::of_folder(&fixture("tuned")).unwrap();
    for (name, view) in plain.iter().filter(|(_, view)| view.dtype() == Dtype::F32) {
        let (shape, want) = (view.shape(), floats(&plain, name));
        assert_eq!(checkpoint.shape(name).unwrap(), shape, "{name}");
        assert_eq!(bits(&checkpoint.values(name, shape).unwrap()), bits(&want), "{name}");
        if let Some((rows, rest)) = shape.split_first().filter(|(rows, _)| **rows > 3) {
            let stride: usize = rest.iter().product();
            let part = checkpoint.part(name, shape, 2..rows - 1).unwrap();
            assert_eq!(bits(&part), bits(&want[2 * stride..(rows - 1) * stride]), "{name}");
            if let [_, width] = *shape {
                let picked = checkpoint.rows(name, [*rows, width], &[3, 0]).unwrap();
                let expected = [&want[3 * width..4 * width], &want[..width]].concat();
                assert_eq!(bits(&picked), bits(&expected), "{name}");
            }
        }
    }
    for form in ["hf-sharded", "hf-old"] {
        let (one, other) = (Checkpoint::of_folder(&fixture("hf")), Checkpoint::of_folder(&fixture(form)));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.parameters(), other.parameters(), "{form}");
        assert_eq!(one.stored(), other.stored(), "{form}");
    }
}

#[test]
fn safetensors_win_and_several_files_are_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::copy(fixture("openai.pt"), at("a.pt")).unwrap();
    // What training leaves is no model.
    std::fs::write(at("optimizer.pt"), b"x").unwrap();
    assert_eq!(Checkpoint::of_folder(folder.path()).unwrap().path(), at("a.pt"));
    std::fs::copy(fixture("openai.pt"), at("b.pth")).unwrap();
    let error = Checkpoint::of_folder(folder.path()).err().unwrap().to_string();
    assert!(error.contains("'a.pt', 'b.pth'") && error.contains("by its path"), "{error}");
    std::fs::copy(fixture("openai.pt"), at("pytorch_model.bin")).unwrap();
    assert_eq!(Checkpoint::of_folder(folder.path()).unwrap().path(), at("pytorch_model.bin"));
    std::fs::copy(fixture("hf/model.safetensors"), at("model.safetensors")).unwrap();
    assert_eq!(Checkpoint::of_folder(folder.path()).unwrap().path(), at("model.safetensors"));
    // A file says itself what it is, whatever it is called.
    std::fs::copy(fixture("openai.pt"), at("c.safetensors")).unwrap();
    Checkpoint::open(&at("c.safetensors")).unwrap();
    std::fs::copy(fixture("hf/model.safetensors"), at("d.bin")).unwrap();
    Checkpoint::open(&at("d.bin")).unwrap();
}

#[test]
fn what_is_converted_gives_the_same_features() {
    let out = tempfile::tempdir().unwrap();
    let cases = [
        ("openai.pt", None, "openai.expected.safetensors"),
        ("tuned", None, "tuned/expected.safetensors"),
        ("hf-sharded", None, "hf/expected.safetensors"),
        ("hf", Some("lora/patterns"), "hf/expected.safetensors"),
        ("tuned", Some("lora/attention"), "tuned/expected.safetensors"),
    ];
    let count = cases.len();
    for (number, (model, lora, expected)) in cases.into_iter().enumerate() {
        let lora = lora.map(fixture);
        let before = source(&fixture(model), lora.as_deref());
        let (full, half) = (out.path().join(format!("{number}")), out.path().join(format!("{number}-half")));
        let checkpoint = Checkpoint::of(&before).unwrap();
        let write = |to: &Path, halves| convert::convert(&before, &checkpoint, to, halves, &mut Unwatched);
        let written = write(&full, false).unwrap();
        assert_eq!(std::fs::metadata(full.join("model.safetensors")).unwrap().len(), written.bytes);
        assert!(write(&full, false).unwrap_err().to_string().contains("is there already"));
        write(&half, true).unwrap();
        let expected = std::fs::read(fixture(expected)).unwrap();
        let expected = SafeTensors::deserialize(&expected).unwrap();
        let want = features(&before, &expected);
        assert_eq!(features(&source(&full, None), &expected), want, "{model}");
        let width = expected.tensor("image_features").unwrap().shape()[1];
        for (got, want) in features(&source(&half, None), &expected).iter().zip(&want) {
            assert!(off(got, want, width) < 5e-3, "{model}");
        }
    }
    // Nothing else is left beside the results.
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 2 * count);
}

/// Fails unless opening fails in time, with all of `parts` in the message and nothing large asked for.
fn refuses(path: &Path, lora: Option<&Path>, parts: &[&str]) -> String {
    let start = Instant::now();
    ASKED.store(0, Ordering::Relaxed);
    let opened = Source::of(path, lora).and_then(|source| Checkpoint::of(&source).map(drop));
    let (took, asked) = (start.elapsed(), ASKED.load(Ordering::Relaxed));
    let error = match opened {
        Ok(()) => panic!("opened where an error with {parts:?} was expected"),
        Err(error) => error.to_string(),
    };
    assert!(took < Duration::from_secs(20), "{error}: after {took:?}");
    // What other tests ask for beside this one is small.
    assert!(asked < 64 << 20, "{error}: asked for {asked} bytes");
    for part in parts {
        assert!(error.contains(part), "'{error}' does not name '{part}'");
    }
    error
}
