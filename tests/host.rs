//! tipi on a device that a program has open and draws with: the same results within whatever the device has, errors that stay
//! where they belong, frames that are not late, and an end without harm.

// A test that cannot go on should stop where it stands; helpers here are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use tipi::Error;
use tipi::low_level::adapt::method::{Settings, find, settled};
use tipi::low_level::adapt::pini::{Config, NoisyPrompts, Params, Trainer};
use tipi::low_level::adapt::{Choice, How, Lesson, Texts, learn};
use tipi::low_level::clip::Clip;
use tipi::low_level::data::{Folder, decode};
use tipi::low_level::encode::{self, Direct};
use tipi::low_level::gpu::{
    DType, DeviceOptions, Dispatch, Gpu, Grid, HostDevice, HostOptions, Plan, Recorder, Shader, Stop, Variant,
};
use tipi::low_level::watch::Unwatched;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn own(portable: bool) -> Gpu {
    Gpu::open(&DeviceOptions { tune: Some(false), portable, ..DeviceOptions::default() }).unwrap()
}

/// The adapter of the device that tipi opens here.
fn adapter() -> wgpu::Adapter {
    let name = own(false).name().to_string();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let adapters = pollster::block_on(instance.enumerate_adapters(backends));
    adapters.into_iter().find(|adapter| adapter.get_info().name == name).unwrap()
}

/// A program with a device, and what it hears of it.
struct Host {
    device: HostDevice,
    errors: Arc<AtomicUsize>,
    losses: Arc<AtomicUsize>,
}

impl Host {
    /// With what the program asks for by itself.
    fn asking(change: impl FnOnce(&wgpu::Adapter, &mut wgpu::DeviceDescriptor<'_>)) -> Host {
        let adapter = adapter();
        let mut descriptor = wgpu::DeviceDescriptor { label: Some("a program's"), ..Default::default() };
        change(&adapter, &mut descriptor);
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let (errors, losses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let count = errors.clone();
        device.on_uncaptured_error(Arc::new(move |_| {
            count.fetch_add(1, Ordering::SeqCst);
        }));
        let count = losses.clone();
        device.set_device_lost_callback(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        });
        Host { device: HostDevice { adapter, device, queue }, errors, losses }
    }

    /// With WebGPU's default limits and no features.
    fn plain() -> Host {
        Host::asking(|_, _| ())
    }

    /// With all that tipi can use.
    fn full() -> Host {
        Host::asking(|adapter, descriptor| Gpu::wanted_of(adapter).merge(descriptor))
    }

    fn gpu(&self) -> Gpu {
        self.late(Duration::from_millis(8))
    }

    fn late(&self, late: Duration) -> Gpu {
        let options = HostOptions { late: Some(late), tune: Some(false), ..HostOptions::default() };
        Gpu::on(self.device.clone(), &options).unwrap()
    }

    fn heard(&self) -> (usize, usize) {
        (self.errors.load(Ordering::SeqCst), self.losses.load(Ordering::SeqCst))
    }

    /// An invalid call of the program's.
    fn blunder(&self) {
        let size = self.device.device.limits().max_buffer_size + 4;
        let usage = wgpu::BufferUsages::STORAGE;
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        drop(self.device.device.create_buffer(&descriptor));
    }

    /// Draws: submits a little, waits until it has run, and says how long that took.
    fn draw(&self) -> Duration {
        let HostDevice { device, queue, .. } = &self.device;
        let usage = wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 4096, usage, mapped_at_creation: false };
        let picture = device.create_buffer(&descriptor);
        let start = Instant::now();
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.clear_buffer(&picture, 0, None);
        // wgpu 30 may panic where one thread asks for a submission for a moment only and another one polls, too.
        let ran = Arc::new(AtomicBool::new(false));
        let done = ran.clone();
        encoder.on_submitted_work_done(move || done.store(true, Ordering::SeqCst));
        queue.submit([encoder.finish()]);
        while !ran.load(Ordering::SeqCst) {
            device.poll(wgpu::PollType::Poll).unwrap();
            std::thread::sleep(Duration::from_micros(200));
        }
        start.elapsed()
    }

    /// Bytes that the driver gave out.
    fn allocated(&self) -> Option<u64> {
        self.device.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
        self.device.device.generate_allocator_report().map(|report| report.total_allocated_bytes)
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The largest difference, as a share of the largest number.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let size = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / size
}

fn picto(gpu: &Gpu) -> Clip {
    Clip::load(gpu, &root().join("weights/picto")).unwrap()
}

/// Four classes of pictures.
fn pictures() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    for class in ["apple", "umbrella", "bell", "fish"] {
        let (from, to) = (root().join("examples/pictos/shifted").join(class), data.path().join(class));
        std::fs::create_dir(&to).unwrap();
        for picture in std::fs::read_dir(&from).unwrap().map(|entry| entry.unwrap()) {
            std::fs::copy(picture.path(), to.join(picture.file_name())).unwrap();
        }
    }
    data
}

/// Features of a few pictures, and what Tip-Adapter learned from others says to them.
fn results(gpu: &Gpu, data: &Path) -> [Vec<f32>; 2] {
    let clip = picto(gpu);
    let folder = Folder::open(data).unwrap();
    let split = encode::choose(&folder, 2, 1, false, &|_| {}).unwrap().split;
    let pictures = split.val.iter().take(5).map(|item| decode(&item.path).unwrap());
    let pixels: Vec<f32> = pictures.flat_map(|picture| clip.pixels(&picture)).collect();
    let features = clip.image_encoder(5).unwrap().encode(&pixels, &mut |_| {}).unwrap();
    let templates = ["an icon of {}".to_string()];
    let classes = folder.names();
    let texts = Texts { classes: &classes, templates: &templates, words: "an icon of", dataset: "" };
    let choice = Choice { support: &split.support, val: &split.val, seed: 1 };
    let (how, mut source) = (How::default(), Direct::new(&clip, None, None));
    let mut lesson = Lesson::new(&clip, texts, choice, &how, (None, &mut source)).unwrap();
    let method = find("tip-adapter").unwrap();
    let settings = settled(method, &Settings::new()).unwrap();
    let learned = learn(method, &settings, &mut lesson, &mut Unwatched).unwrap();
    let right = learned.val_accuracy.unwrap();
    assert!(right > 0.4, "{right} of four classes");
    [features, learned.evidence.logits]
}

#[test]
fn results_are_those_of_a_device_of_its_own() {
    let data = pictures();
    let data = data.path();
    let (whole, portable) = (results(&own(false), data), results(&own(true), data));
    let (full, plain) = (Host::full(), Host::plain());
    let gpu = full.gpu();
    assert_eq!(gpu.capabilities(), own(false).capabilities());
    let on_full = results(&gpu, data);
    let gpu = plain.gpu();
    let caps = *gpu.capabilities();
    assert!(caps.subgroups.is_none() && !caps.f16 && caps.matrices.is_none(), "{caps:?}");
    let on_plain = results(&gpu, data);
    for i in 0..2 {
        assert_eq!(bits(&on_full[i]), bits(&whole[i]));
        assert_eq!(bits(&on_plain[i]), bits(&portable[i]));
        let off = difference(&on_plain[i], &whole[i]);
        println!("{} values, portable kernels off by {off:.1e}", whole[i].len());
        assert!(off < 1e-4, "{off:e}");
    }
    assert_eq!((full.heard(), plain.heard()), ((0, 0), (0, 0)));
}

/// What is asked for is merged with what the host wants, and takes nothing from it.
#[test]
fn what_tipi_asks_for_takes_nothing_from_the_host() {
    let adapter = adapter();
    let wanted = Gpu::wanted_of(&adapter);
    assert!(adapter.features().contains(wanted.features));
    let mut descriptor = wgpu::DeviceDescriptor {
        label: Some("a program's"),
        required_features: wgpu::Features::DEPTH_CLIP_CONTROL,
        required_limits: wgpu::Limits { max_bind_groups: 3, max_texture_dimension_2d: 4096, ..wgpu::Limits::default() },
        ..Default::default()
    };
    wanted.merge(&mut descriptor);
    let (limits, has) = (&descriptor.required_limits, adapter.limits());
    assert_eq!(descriptor.required_features, wgpu::Features::DEPTH_CLIP_CONTROL | wanted.features);
    assert_eq!(limits.max_bind_groups, 3);
    assert_eq!(limits.max_texture_dimension_2d, has.max_texture_dimension_2d);
    assert_eq!(limits.max_storage_buffer_binding_size, has.max_storage_buffer_binding_size);
    // A host that asks for next to nothing still gets what tipi needs.
    let least = Host::asking(|adapter, descriptor| {
        descriptor.required_limits = wgpu::Limits::downlevel_webgl2_defaults();
        Gpu::wanted_of(adapter).merge(descriptor);
    });
    drop(least.gpu());
}

#[test]
fn devices_without_what_is_needed_are_refused_at_once() {
    for (limits, named) in [
        (wgpu::Limits::downlevel_defaults(), "max_storage_buffers_per_shader_stage is 4, tipi needs 8"),
        (wgpu::Limits::downlevel_webgl2_defaults(), "max_compute_invocations_per_workgroup is 0, tipi needs 128"),
    ] {
        let host = Host::asking(|_, descriptor| descriptor.required_limits = limits);
        let error = Gpu::on(host.device.clone(), &HostOptions::default()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Unsupported { .. }), "{text}");
        assert!(text.contains(&host.device.adapter.get_info().name) && text.contains(named), "{text}");
        assert!(text.contains("Gpu::wanted_of"), "{text}");
        assert_eq!(host.heard(), (0, 0));
    }
    let host = Host::plain();
    let options = HostOptions { late: Some(Duration::ZERO), ..HostOptions::default() };
    assert!(matches!(Gpu::on(host.device.clone(), &options), Err(Error::Invalid(_))));
    assert_eq!(host.heard(), (0, 0));
}

static SHADERS: Shader = Shader {
    name: "host_test",
    text: "host_test",
    texts: &[(
        "host_test",
        "struct Params { turns: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;

@compute @workgroup_size(64)
fn count(@builtin(local_invocation_index) li: u32) {
    var x = li;
    for (var i = 0u; i < p.turns; i++) {
        x = x * 1664525u + 1013904223u;
    }
    // Never so: it keeps the loop.
    if (x == 1u && p.turns == 7u) {
        counts[1] = x;
    }
    if (li == 0u) {
        counts[0] += 1u;
    }
}

@compute @workgroup_size(8, 8, 1000)
fn too_large(@builtin(local_invocation_index) li: u32) {
    counts[0] = li + p.turns;
}
",
    )],
    instead: &[],
};

/// A plan of dispatches that each count one up and take a while.
fn counting(gpu: &Gpu, entry: &'static str, dispatches: usize) -> tipi::Result<(Plan, tipi::low_level::gpu::Tensor)> {
    let counts = gpu.upload("counts", &[0u32; 2], &[2])?;
    assert_eq!(counts.dtype(), DType::U32);
    let mut recorder = Recorder::new(gpu);
    for _ in 0..dispatches {
        recorder.dispatch(&Dispatch {
            variant: Variant::new(&SHADERS, entry, &[]),
            label: "count",
            params: &200_000u32.to_le_bytes(),
            bindings: &[&counts],
            grid: Grid::Cube(1, 1, 1),
            flops: 1e12,
            bytes: 0.0,
        })?;
    }
    Ok((recorder.finish()?, counts))
}

#[test]
fn errors_stay_where_they_belong() {
    let host = Host::plain();
    let gpu = host.gpu();
    // A pipeline that the device does not make: an error that no scope of the compiler's own catches.
    let error = counting(&gpu, "too_large", 1).err().unwrap();
    assert!(matches!(&error, Error::Gpu(text) if text.contains("workgroup")), "{error}");
    assert!(gpu.check().is_err());
    assert_eq!(host.heard(), (0, 0), "tipi's error reached the host");

    // The other way round, on one thread in turns and on two at once.
    let gpu = host.gpu();
    let clip = picto(&gpu);
    let side = clip.config.image_size;
    let pixels = vec![0.5; 8 * 3 * side * side];
    let mut encoder = clip.image_encoder(8).unwrap();
    host.blunder();
    let first = encoder.encode(&pixels, &mut |_| {}).unwrap();
    let done = AtomicBool::new(false);
    let blunders = std::thread::scope(|scope| {
        let blundering = scope.spawn(|| {
            let mut blunders = 0;
            while !done.load(Ordering::Relaxed) {
                host.blunder();
                blunders += 1;
                std::thread::sleep(Duration::from_micros(100));
            }
            blunders
        });
        let over = Over(&done);
        for _ in 0..5 {
            assert_eq!(bits(&encoder.encode(&pixels, &mut |_| {}).unwrap()), bits(&first));
        }
        drop(over);
        blundering.join().unwrap()
    });
    gpu.check().unwrap();
    println!("{blunders} errors of the host's");
    assert!(blunders > 5);
    assert_eq!(host.heard(), (1 + blunders, 0), "the host did not hear of all of its errors");
    // A scope of the host's own is not disturbed by what tipi does within it.
    let scope = host.device.device.push_error_scope(wgpu::ErrorFilter::Validation);
    assert!(counting(&gpu, "too_large", 1).is_err());
    assert!(pollster::block_on(scope.pop()).is_none());
}

#[test]
fn a_lost_device_is_an_error_at_once() {
    let host = Host::plain();
    let gpu = host.gpu();
    let (plan, counts) = counting(&gpu, "count", 400).unwrap();
    let running = Barrier::new(2);
    let (error, destroyed) = std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            running.wait();
            let error = loop {
                if let Err(error) = plan.run() {
                    break error;
                }
            };
            (error, Instant::now())
        });
        running.wait();
        std::thread::sleep(Duration::from_millis(60));
        let destroyed = Instant::now();
        host.device.device.destroy();
        let (error, ended) = run.join().unwrap();
        (error, ended - destroyed)
    });
    println!("{error}, {destroyed:?} after the end");
    assert!(matches!(error, Error::DeviceLost(_)), "{error}");
    assert!(destroyed < Duration::from_secs(5));
    // Whatever is asked for afterwards says so, too.
    let start = Instant::now();
    let lost = |error: Option<Error>| matches!(error, Some(Error::DeviceLost(_)));
    assert!(lost(gpu.read::<u32>(&counts).err()) && lost(gpu.wait().err()) && lost(gpu.check().err()));
    assert!(lost(plan.run().err()) && lost(counting(&gpu, "count", 1).err()));
    assert!(lost(Clip::load(&gpu, &root().join("weights/picto")).err()));
    assert!(lost(Gpu::on(host.device.clone(), &HostOptions::default()).err()));
    drop((plan, counts, gpu));
    assert!(start.elapsed() < Duration::from_secs(10));
    let _ = host.device.device.poll(wgpu::PollType::Poll);
    assert_eq!(host.heard(), (0, 1), "errors and losses that the host heard of");
}

#[test]
fn a_read_that_is_under_way_when_the_device_is_lost_is_an_error() {
    let host = Host::plain();
    let gpu = host.gpu();
    let (plan, counts) = counting(&gpu, "count", 3).unwrap();
    plan.run().unwrap();
    let read = gpu.begin_read::<u32>(&counts).unwrap();
    host.device.device.destroy();
    assert!(matches!(read.finish(), Err(Error::DeviceLost(_))));
    assert_eq!(host.errors.load(Ordering::SeqCst), 0);
}

#[test]
fn a_wish_to_stop_ends_a_plan_between_its_submissions() {
    let host = Host::plain();
    let gpu = host.gpu();
    let (plan, counts) = counting(&gpu, "count", 400).unwrap();
    let stop = Stop::new();
    let (ended, wished) = std::thread::scope(|scope| {
        let wish = stop.clone();
        let wishing = scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(60));
            wish.stop();
            Instant::now()
        });
        assert!(matches!(stop.during(|| plan.run()), Err(Error::Stopped)));
        let ended = Instant::now();
        (ended, wishing.join().unwrap())
    });
    let ran = gpu.read::<u32>(&counts).unwrap()[0];
    println!("{ran} of 400 dispatches, the last {:?} after the wish", ended.saturating_duration_since(wished));
    assert!((1..400).contains(&ran), "{ran} dispatches ran");
    // Nobody wishes any more: all of it runs.
    plan.run().unwrap();
    assert_eq!(gpu.read::<u32>(&counts).unwrap()[0], ran + 400);
}

/// Says that something is over, also where it ended in a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a program would have run: an encoding of 64 pictures, and a few steps of a training.
struct Work<'c> {
    clip: &'c Clip,
    pixels: Vec<f32>,
    config: Config,
}

impl<'c> Work<'c> {
    fn new(clip: &'c Clip) -> Work<'c> {
        let side = clip.config.image_size;
        let pixels = (0..64 * 3 * side * side).map(|i| ((i * 7919 % 1000) as f32) / 500.0 - 1.0).collect();
        Work { clip, pixels, config: Config::paper("an icon of", 1) }
    }

    fn encode(&self) -> Vec<f32> {
        self.clip.image_encoder(64).unwrap().encode(&self.pixels, &mut |_| {}).unwrap()
    }

    /// Features, and the parameters that steps gave.
    fn all(&self) -> Vec<Vec<f32>> {
        let (clip, gpu) = (self.clip, &self.clip.gpu);
        let features = self.encode();
        let classes = ["apple", "bell", "credit card", "fire extinguisher", "fish"].map(String::from);
        let prompts = NoisyPrompts::new(clip, "an icon of", &classes).unwrap();
        let params = Params::init(clip, prompts.noisy, 1, 1).unwrap();
        let trainer = Trainer::new(clip, prompts, params).unwrap();
        let step = trainer.step(8, 1, true).unwrap();
        let (images, labels) = (&features[..8 * clip.config.embedding], [0, 1, 2, 3, 4, 0, 1, 2]);
        for number in 0..4 {
            step.run(gpu, images, &labels, &self.config, 0.02, number).unwrap();
        }
        let mut all = trainer.params.download(gpu).unwrap();
        all.push(features);
        all
    }
}

#[test]
fn frames_are_drawn_while_tipi_works() {
    let host = Host::full();
    let gpu = host.gpu();
    let clip = picto(&gpu);
    let quiet = Work::new(&clip).all();
    let done = AtomicBool::new(false);
    let (work, mut frames) = std::thread::scope(|scope| {
        let drawing = scope.spawn(|| {
            let mut frames = Vec::new();
            while !done.load(Ordering::Relaxed) {
                frames.push(host.draw());
                std::thread::sleep(Duration::from_millis(4));
            }
            frames
        });
        let (start, over) = (Instant::now(), Over(&done));
        for _ in 0..3 {
            let all = Work::new(&clip).all();
            assert!(all.iter().zip(&quiet).all(|(a, b)| bits(a) == bits(b)), "frames changed what was computed");
        }
        let work = start.elapsed();
        drop(over);
        (work, drawing.join().unwrap())
    });
    frames.sort_unstable();
    let longest = *frames.last().unwrap();
    println!(
        "{} frames in {work:?}, half of them within {:?}, the last {longest:?} late",
        frames.len(),
        frames[frames.len() / 2]
    );
    assert!(frames.len() > 3 && longest < Duration::from_secs(5), "{longest:?}");
    assert_eq!(host.heard(), (0, 0));
}

/// What `Surface::configure` asks for and refuses to go on without: that all work is done once it waited for it.
fn idle(host: &Host) -> bool {
    let wait = wgpu::PollType::Wait { submission_index: None, timeout: Some(Duration::from_secs(30)) };
    host.device.device.poll(wait).unwrap() == wgpu::PollStatus::QueueEmpty
}

#[test]
fn a_host_that_holds_finds_the_queue_empty() {
    let host = Host::full();
    let gpu = host.gpu();
    let (plan, counts) = counting(&gpu, "count", 64).unwrap();
    let done = AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            let mut rounds = 0u32;
            while !done.load(Ordering::Relaxed) {
                plan.run().unwrap();
                rounds += 1;
            }
            rounds
        });
        let over = Over(&done);
        let mut refused = 0;
        for _ in 0..40 {
            {
                let _hold = gpu.hold();
                assert!(idle(&host), "something was submitted meanwhile");
                // What this thread asks for goes through.
                gpu.read::<u32>(&counts).unwrap();
            }
            // Without it, others are in between: the test would see that.
            std::thread::sleep(Duration::from_millis(5));
            refused += usize::from(!idle(&host));
        }
        drop(over);
        assert!(refused > 0, "nothing was under way: this shows nothing");
        working.join().unwrap()
    });
    assert_eq!(gpu.read::<u32>(&counts).unwrap()[0], 64 * rounds, "held work is done later");
    assert_eq!(host.heard(), (0, 0));
}

#[test]
fn devices_come_and_go_in_any_order() {
    let host = Host::plain();
    // What the host's queue keeps for itself is there after a first round.
    let round = |number: usize| {
        let (on, own) = (host.gpu(), own(number.is_multiple_of(2)));
        let sums = [&on, &own].map(|gpu| {
            let (plan, counts) = counting(gpu, "count", 3).unwrap();
            plan.run().unwrap();
            let before = gpu.allocated_bytes();
            drop(plan);
            assert!(before > 0 && gpu.allocated_bytes() <= before);
            gpu.read::<u32>(&counts).unwrap()[0]
        });
        assert_eq!(sums, [3, 3]);
        let (plan, counts) = counting(&on, "count", 2).unwrap();
        plan.run().unwrap();
        // A read that nobody fetches, and work that may be under way.
        let read = on.begin_read::<u32>(&counts).unwrap();
        match number % 3 {
            0 => drop((on, own, read, plan, counts)),
            1 => drop((plan, own, counts, on, read)),
            _ => drop((read, counts, plan, own, on)),
        }
    };
    round(0);
    let before = host.allocated();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let round = &round;
            scope.spawn(move || (0..20).for_each(|number| round(number + thread)));
        }
    });
    println!("{:?}, {before:?} bytes before, {:?} after", start.elapsed(), host.allocated());
    assert!(start.elapsed() < Duration::from_secs(300));
    if let (Some(before), Some(after)) = (before, host.allocated()) {
        assert!(after <= before, "{before} bytes before, {after} after");
    }
    host.draw();
    assert_eq!(host.heard(), (0, 0));
    // The books are closed with the last handle: a new one begins at nothing.
    assert_eq!(host.gpu().allocated_bytes(), 0);
}

/// A bound on memory holds for what tipi takes.
#[test]
fn memory_is_bounded_as_asked() {
    let host = Host::plain();
    let options = HostOptions { memory: Some(1 << 20), ..HostOptions::default() };
    let gpu = Gpu::on(host.device.clone(), &options).unwrap();
    assert_eq!(gpu.memory(), Some(1 << 20));
    assert!(matches!(Clip::load(&gpu, &root().join("weights/picto")), Err(Error::OutOfMemory { .. })));
    assert_eq!(host.heard(), (0, 0));
}

/// `cargo test --release --test host -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn what_pacing_costs() {
    let host = Host::full();
    let gpus = [("own", own(false)), ("host's", host.gpu()), ("host's, 2 ms", host.late(Duration::from_millis(2)))];
    let clips = gpus.each_ref().map(|(name, gpu)| (*name, picto(gpu)));
    let mut works = clips.each_ref().map(|(name, clip)| (*name, Work::new(clip), clip.image_encoder(64).unwrap()));
    let mut least = [f64::MAX; 3];
    for round in 0..12 {
        for (i, (_, work, encoder)) in works.iter_mut().enumerate() {
            let start = Instant::now();
            encoder.encode(&work.pixels, &mut |_| {}).unwrap();
            if round > 1 {
                least[i] = least[i].min(start.elapsed().as_secs_f64());
            }
        }
    }
    for ((name, ..), least) in works.iter().zip(least) {
        println!("64 pictures, {name}: {:.1} ms", 1e3 * least);
    }
}
