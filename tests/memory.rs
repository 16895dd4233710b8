//! Memory, on the host and on the GPU: loading a large checkpoint holds little of it twice, and what is foreseen is what
//! is then taken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tipi::Error;
use tipi::low_level::adapt::overlap::{self, Config, Correction};
use tipi::low_level::clip::Clip;
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::memory::{self, Setting};
use tipi::low_level::watch::Unwatched;

/// Writes the header of a checkpoint with zeros for values, as a file with holes: nothing of it needs room on the disk.
fn write_checkpoint(path: &Path, tensors: &[(String, Vec<usize>)]) -> u64 {
    let mut header = String::from("{");
    let mut at = 0u64;
    for (name, shape) in tensors {
        let bytes = 4 * shape.iter().product::<usize>() as u64;
        let comma = if at == 0 { "" } else { "," };
        write!(header, r#"{comma}"{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[{at},{}]}}"#, at + bytes)
            .unwrap();
        at += bytes;
    }
    header.push('}');
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len(8 + header.len() as u64 + at).unwrap();
    8 + header.len() as u64 + at
}

/// The tensors of a Hugging Face ViT-B/32: 151 million parameters.
fn vit_b_32() -> Vec<(String, Vec<usize>)> {
    let mut all = vec![("logit_scale".to_string(), vec![])];
    let mut add = |name: &str, shape: &[usize]| all.push((name.to_string(), shape.to_vec()));
    for (tower, width, layers) in [("vision_model", 768, 12), ("text_model", 512, 12)] {
        let mut pair = |name: String, out: usize, input: usize| {
            let weight: Vec<usize> = if input == 0 { vec![out] } else { vec![out, input] };
            add(&format!("{name}.weight"), &weight);
            add(&format!("{name}.bias"), &[out]);
        };
        for i in 0..layers {
            let at = format!("{tower}.encoder.layers.{i}");
            for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                pair(format!("{at}.self_attn.{part}"), width, width);
            }
            pair(format!("{at}.layer_norm1"), width, 0);
            pair(format!("{at}.layer_norm2"), width, 0);
            pair(format!("{at}.mlp.fc1"), 4 * width, width);
            pair(format!("{at}.mlp.fc2"), width, 4 * width);
        }
        let norms: &[&str] =
            if tower == "vision_model" { &["pre_layrnorm", "post_layernorm"] } else { &["final_layer_norm"] };
        for norm in norms {
            pair(format!("{tower}.{norm}"), width, 0);
        }
    }
    add("vision_model.embeddings.class_embedding", &[768]);
    add("vision_model.embeddings.patch_embedding.weight", &[768, 3, 32, 32]);
    add("vision_model.embeddings.position_embedding.weight", &[50, 768]);
    add("text_model.embeddings.token_embedding.weight", &[49408, 512]);
    add("text_model.embeddings.position_embedding.weight", &[77, 512]);
    add("visual_projection.weight", &[512, 768]);
    add("text_projection.weight", &[512, 512]);
    all
}

/// Bytes of this process that are no mapped files: its heap, and what the CPU's Vulkan driver shares with itself.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
    };
    field("RssAnon:") + field("RssShmem:")
}

/// One after the other: the first watches the memory of the whole process.
#[test]
fn memory_is_bounded_and_foreseen() {
    #[cfg(target_os = "linux")]
    loading_holds_little_twice_and_needs_what_was_foreseen();
    running_out_is_foreseen();
}

#[cfg(target_os = "linux")]
fn loading_holds_little_twice_and_needs_what_was_foreseen() {
    let folder = tempfile::tempdir().unwrap();
    let size = write_checkpoint(&folder.path().join("model.safetensors"), &vit_b_32());
    std::fs::write(folder.path().join("config.json"), r#"{"text_config": {}, "vision_config": {}}"#).unwrap();
    assert!(size > 600_000_000, "{size} bytes");
    let open = || Gpu::open(&DeviceOptions { tune: Some(false), ..Default::default() }).unwrap();
    let gpu = open();
    // The device's memory is the host's where the device is the CPU: what tensors take there is not counted.
    let on_host = |gpu: &Gpu| if gpu.is_cpu() { gpu.allocated_bytes() } else { 0 };
    let before = resident();
    let (done, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Tensors first: memory that arrives in between must not be taken for an excess.
                let tensors = on_host(&gpu);
                peak.fetch_max(resident().saturating_sub(before + tensors), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let clip = Clip::load(&gpu, folder.path());
        // The first step carries over whatever still waits: only then are staged weights and tensors both there.
        let used = clip.and_then(|clip| {
            let pixels = vec![0.0; 3 * clip.preprocess.size.pow(2)];
            clip.image_encoder(1)?.encode(&pixels, &mut |_| {})
        });
        done.store(true, Ordering::Relaxed);
        used.unwrap();
    });
    let peak = peak.load(Ordering::Relaxed);
    println!("{} MB checkpoint: {} MB beside tensors at the most", size / 1_000_000, peak / 1_000_000);
    assert!(peak < 200_000_000, "{peak} bytes held beside the tensors while loading");
    // On a device that has done nothing else. The token table, a sixth of the file, stays there.
    drop(gpu);
    let gpu = open();
    let clip = Clip::load(&gpu, folder.path()).unwrap();
    let weights = gpu.allocated_bytes();
    assert!(weights < size - 4 * 49408 * 512 + 10_000_000, "{weights} bytes on the GPU");

    // What was foreseen is what is taken, to the byte.
    assert_eq!(memory::weights(&clip), weights);
    let setting = Setting { batch: 3, classes: 10, shots: 2 };
    let foreseen = memory::needs(&clip, setting).unwrap();
    let need = |what: &str| *foreseen.iter().find(|n| n.what == what).unwrap().bytes.as_ref().unwrap();
    gpu.forget_peak();
    drop(clip.image_encoder(setting.batch).unwrap());
    assert_eq!(gpu.peak_bytes(), need("encoding pictures"));
    let correction = Correction::init(&clip, &Config::paper(1)).unwrap();
    drop(clip.image_encoder_with(setting.batch, Some(&correction.blocks)).unwrap());
    let corrected = need("encoding pictures with a corrected tower");
    // The pool keeps the first encoder's pixels.
    let spread = gpu.peak_bytes().abs_diff(corrected);
    assert!(spread < 4_000_000, "{} bytes, {corrected} foreseen", gpu.peak_bytes());
    for n in &foreseen {
        let bytes = *n.bytes.as_ref().unwrap_or_else(|e| panic!("{}: {e}", n.what));
        // What goes back through the whole image tower, with a network before it or a wide head behind it, holds more.
        let most = if n.what.contains("pixels") || n.what.contains("without labels") { 8 } else { 2 };
        assert!(bytes > weights && bytes < most * weights, "{}: {bytes} bytes", n.what);
    }
}

/// A device with little memory: what does not fit is refused with the batch that would, and that one then works.
fn running_out_is_foreseen() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/picto");
    let open = |memory| Gpu::open(&DeviceOptions { tune: Some(false), memory: Some(memory), ..Default::default() });
    let gpu = open(30 << 20).unwrap();
    let clip = Clip::load(&gpu, &folder).unwrap();
    let Err(Error::OutOfMemory { what, needed, why }) = clip.image_encoder(250) else { panic!("250 pictures fit") };
    assert!(what.contains("250 pictures") && needed > 12 << 20, "{what} {needed}");
    let fits: usize = why.split("a batch of ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((1..250).contains(&fits), "{why}");
    assert_eq!(clip.largest_batch(500, None).unwrap(), fits);
    // Threads that ask at the same time do not count what the others rehearse.
    std::thread::scope(|scope| {
        let ask = || (0..8).all(|_| clip.largest_batch(500, None).unwrap() == fits);
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
    });
    assert!(clip.image_encoder(fits + 1).is_err());
    let size = 3 * clip.preprocess.size.pow(2);
    let features = clip.image_encoder(fits).unwrap().encode(&vec![0.5; size], &mut |_| {}).unwrap();
    assert!(features.iter().all(|f| f.is_finite()));
    // Training, too: before the first picture is asked for.
    let config = Config { micro_batch: 128, ..Config::paper(1) };
    let labels: Vec<u32> = (0..256).map(|i| i % 2).collect();
    let train = |config: &Config| {
        let mut asked = false;
        let mut pixels = |_: usize, which: &[usize]| {
            asked = true;
            Ok(vec![0.5; which.len() * size])
        };
        let error = overlap::train(&clip, 2, config, (&labels, &mut pixels), None, &mut Unwatched).err();
        (error.map(|e| e.to_string()), asked)
    };
    let (error, asked) = train(&config);
    let error = error.expect("a micro-batch of 128 fits");
    assert!(!asked && error.contains("training the correction with 128 pictures at a time"), "{error}");
    let fits: usize = error.split(" at a time would fit").next().unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    // With some room: a batch's last part is smaller and has a step of its own.
    assert_eq!(train(&Config { micro_batch: fits / 2, batch: fits, ..config }).0, None);
    // A model that does not fit is refused before any of it is there.
    let small = open(10 << 20).unwrap();
    let error = Clip::load(&small, &folder).err().unwrap();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert_eq!(small.peak_bytes(), 0);
}
