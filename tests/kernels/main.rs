//! Every kernel against its f64 twin on odd shapes, the twins against finite differences, and the GPU layer's promises.
//!
//! Each comparison is also shown to fail: on elements that are off by a few bounds (`twins::assert_close`), and on
//! twins with an error in their mathematics (`check_rejects`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tipi_testing::twins;

mod affinity;
mod attention;
mod batchnorm;
mod conv;
mod device;
mod dino;
mod divergence;
mod errors;
mod gemm;
mod nearest;
mod noise;
mod optim;
mod planes;
mod plans;
mod proofs;
mod reduce;
mod rowwise;
mod samples;
mod search;
mod slices;
mod tokens;

use std::cell::Cell;
use std::sync::OnceLock;

use tipi::low_level::gpu::{DeviceOptions, Gpu, LimitSet, Plan, Recorder, Tensor};
use tipi::low_level::kernels::activation::Activation;
use tipi::{Error, Result};

const ACTIVATIONS: [Activation; 4] = Activation::ALL;

/// What a test's device is opened with.
#[derive(Clone, Copy, Debug)]
enum Features {
    /// All that it has.
    All,
    /// None that is optional: what runs on any device.
    None,
    /// Those of an integrated GPU, kernels chosen as there: sums of rows by subgroups of any size, where it has subgroups.
    Integrated,
}

thread_local! {
    /// What this thread's tests run with.
    static FEATURES: Cell<Features> = const { Cell::new(Features::All) };
}

/// The device that `TIPI_DEVICE` asks for, else the best one, with index checks in the shaders.
fn gpu() -> &'static Gpu {
    static GPUS: [OnceLock<Gpu>; 3] = [const { OnceLock::new() }; 3];
    let features = FEATURES.get();
    GPUS[features as usize].get_or_init(|| {
        let options = DeviceOptions { checked: Some(true), tune: Some(false), ..Default::default() };
        let options = match features {
            Features::All => options,
            Features::None => DeviceOptions { portable: true, ..options },
            Features::Integrated => DeviceOptions { limits: Some(LimitSet::Integrated), ..options },
        };
        Gpu::open(&options).unwrap()
    })
}

/// Runs a test with the kernels that this device takes, with those that any device can run, and with a GPU's.
fn with_and_without_features(test: impl Fn()) {
    for features in [Features::All, Features::None, Features::Integrated] {
        FEATURES.set(features);
        test();
    }
    FEATURES.set(Features::All);
}

fn up(x: &[f32], shape: &[usize]) -> Tensor {
    gpu().upload("test", x, shape).unwrap()
}

fn up_u32(x: &[u32]) -> Tensor {
    gpu().upload("test", x, &[x.len()]).unwrap()
}

fn plan_on<R>(gpu: &Gpu, record: impl FnOnce(&mut Recorder) -> Result<R>) -> (Plan, R) {
    let mut rec = Recorder::new(gpu);
    let out = record(&mut rec).unwrap();
    (rec.finish().unwrap(), out)
}

/// Records, runs, and reads back what the recording returned.
fn run<const N: usize>(record: impl FnOnce(&mut Recorder) -> Result<[Tensor; N]>) -> [Vec<f32>; N] {
    let (plan, out) = plan_on(gpu(), record);
    plan.run().unwrap();
    out.map(|t| gpu().read(&t).unwrap())
}

fn run1(record: impl FnOnce(&mut Recorder) -> Result<Tensor>) -> Vec<f32> {
    let [y] = run(|rec| Ok([record(rec)?]));
    y
}

/// As [`run1`], of a result that is stored as f16.
fn run1_half(record: impl FnOnce(&mut Recorder) -> Result<Tensor>) -> Vec<f32> {
    let (plan, [y]) = plan_on(gpu(), |rec| Ok([record(rec)?]));
    plan.run().unwrap();
    gpu().read::<half::f16>(&y).unwrap().into_iter().map(half::f16::to_f32).collect()
}

/// That numbers stored as f16 are those of f32, each rounded to one of its two neighbours: which, is left to devices.
fn check_half(what: &str, half: &[f32], whole: &[f32]) {
    assert_eq!(half.len(), whole.len(), "{what}");
    let near = |half: f32, whole: f32| (half - whole).abs() <= whole.abs().max(2f32.powi(-14)) * 2f32.powi(-10);
    for (i, (half, whole)) in half.iter().zip(whole).enumerate() {
        assert!(near(*half, *whole), "{what} at {i}: {half} as f16, {whole} as f32");
    }
    // Halves of words that are swapped would be seen.
    let swapped = half.chunks_exact(2).zip(whole.chunks_exact(2));
    let mut swapped = swapped.map(|(half, whole)| near(half[1], whole[0]) && near(half[0], whole[1]));
    assert!(!swapped.all(|near| near), "{what}: the comparison does not see swapped halves");
}

fn invalid<T>(what: &str, result: Result<T>) {
    match result {
        Err(Error::Invalid(_)) => {}
        Err(other) => panic!("{what}: {other} where Invalid was expected"),
        Ok(_) => panic!("{what}: no error"),
    }
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|v| v.to_bits()).collect()
}
