//! Recorder and plans: equal bits from run to run, places shared, submissions cut.

use tipi::low_level::gpu::{DeviceOptions, Dispatch, Gpu, Grid, Plan, Recorder, Shader, Tensor, Variant};
use tipi::low_level::kernels::activation::{self, Activation};
use tipi::low_level::kernels::attention::{self, Pattern};
use tipi::low_level::kernels::gemm::{self, Epilogue, Layout};
use tipi::low_level::kernels::{layernorm, softmax};
use tipi::{Error, Result};

use crate::twins::Random;
use crate::{bits, gpu, invalid, plan_on, up};

/// A block of a tower, forward and backward, with temporaries dropped as soon as they may be.
fn block(rec: &mut Recorder, x: &Tensor, w: &Tensor, gain: &Tensor, pattern: &Pattern) -> Result<[Tensor; 2]> {
    let normed = layernorm::forward(rec, x, gain, gain, 1e-5)?;
    let qkv = gemm::matmul(rec, Layout::Nt, &normed.y, w, &Epilogue::default())?;
    let out = attention::forward(rec, &qkv, pattern, 2)?;
    let y = softmax::forward(rec, &out.y)?;
    let dy = softmax::backward(rec, &y, x)?;
    let dqkv = attention::backward(rec, &qkv, &out, &dy, pattern, 2)?;
    drop((out, qkv, dy));
    let dn = gemm::matmul(rec, Layout::Nn, &dqkv, w, &Epilogue::default())?;
    let dx = layernorm::backward(rec, x, &normed.stats, gain, &dn, Some(x))?;
    Ok([y, dx])
}

const BLOCK: (usize, usize) = (51, 24);

fn block_on(gpu: &Gpu) -> (Plan, [Tensor; 2]) {
    let (rows, width) = BLOCK;
    let mut random = Random::new(22);
    let mut up = |shape: &[usize]| gpu.upload("test", &random.vector(shape.iter().product()), shape).unwrap();
    let (x, w, gain) = (up(&[rows, width]), up(&[3 * width, width]), up(&[width]));
    let pattern = Pattern::uniform(gpu, 3, rows / 3, true).unwrap();
    plan_on(gpu, |rec| block(rec, &x, &w, &gain, &pattern))
}

fn read_all(gpu: &Gpu, out: &[Tensor; 2]) -> [Vec<u32>; 2] {
    [0, 1].map(|i| bits(&gpu.read(&out[i]).unwrap()))
}

#[test]
fn plans_run_twice_and_on_two_devices_give_equal_bits() {
    let (plan, out) = block_on(gpu());
    plan.run().unwrap();
    let first = read_all(gpu(), &out);
    assert!(first.iter().flatten().any(|b| *b != 0));
    for _ in 0..3 {
        plan.run().unwrap();
        assert_eq!(read_all(gpu(), &out), first);
    }
    let other = Gpu::open(&DeviceOptions { checked: Some(true), tune: Some(false), ..Default::default() }).unwrap();
    let (plan, out) = block_on(&other);
    plan.run().unwrap();
    assert_eq!(read_all(&other, &out), first, "another device");
    // Index checks change nothing for kernels that stay in bounds.
    let unchecked =
        Gpu::open(&DeviceOptions { checked: Some(false), tune: Some(false), ..Default::default() }).unwrap();
    let (plan, out) = block_on(&unchecked);
    plan.run().unwrap();
    let relative = |a: &[u32], b: &[u32]| {
        a.iter().zip(b).all(|(a, b)| {
            let (a, b) = (f32::from_bits(*a), f32::from_bits(*b));
            (a - b).abs() <= 1e-5 * (1.0 + a.abs())
        })
    };
    let got = read_all(&unchecked, &out);
    assert!(relative(&got[0], &first[0]) && relative(&got[1], &first[1]), "without checks");
}

#[test]
fn temporaries_are_reused_and_clobber_nothing() {
    let n = 4096;
    let x = Random::new(23).vector(n);
    let x_g = up(&x, &[n]);
    let links = 12;
    let chain = |rec: &mut Recorder, keep: &mut Vec<Tensor>, kept: &[usize]| -> Result<Tensor> {
        let mut y = x_g.clone();
        for i in 0..links {
            y = activation::forward(rec, Activation::Gelu, &y)?;
            if kept.contains(&i) {
                keep.push(y.clone());
            }
        }
        Ok(y)
    };
    let mut all = Vec::new();
    let every: Vec<usize> = (0..links).collect();
    let (plan, last) = plan_on(gpu(), |rec| chain(rec, &mut all, &every));
    plan.run().unwrap();
    let want: Vec<Vec<f32>> = all.iter().map(|t| gpu().read(t).unwrap()).collect();
    assert_eq!(plan.allocated_bytes(), (links * n * 4) as u64, "held tensors share nothing");
    assert_eq!(bits(&gpu().read::<f32>(&last).unwrap()), bits(&want[links - 1]));

    let mut some = Vec::new();
    let (plan, last) = plan_on(gpu(), |rec| chain(rec, &mut some, &[2, 5]));
    // Two held, and two between which the rest alternates.
    assert_eq!(plan.allocated_bytes(), (4 * n * 4) as u64);
    assert_eq!(plan.live_bytes(), plan.allocated_bytes(), "no layout could do with less");
    for _ in 0..2 {
        plan.run().unwrap();
        assert_eq!(bits(&gpu().read::<f32>(&some[0]).unwrap()), bits(&want[2]));
        assert_eq!(bits(&gpu().read::<f32>(&some[1]).unwrap()), bits(&want[5]));
        assert_eq!(bits(&gpu().read::<f32>(&last).unwrap()), bits(&want[links - 1]));
        assert_eq!(bits(&gpu().read::<f32>(&x_g).unwrap()), bits(&x), "the input");
    }

    // A plan keeps what it reads alive: an input dropped by its owner is not handed to the next who asks.
    let input = up(&x, &[n]);
    let (plan, y) = plan_on(gpu(), |rec| activation::forward(rec, Activation::Gelu, &input));
    drop(input);
    let others: Vec<Tensor> = (0..4).map(|_| up(&vec![9.0; n], &[n])).collect();
    plan.run().unwrap();
    assert_eq!(bits(&gpu().read::<f32>(&y).unwrap()), bits(&want[0]));
    drop(others);
    // And what a plan made stays whole when the plan is gone.
    drop(plan);
    let others: Vec<Tensor> = (0..4).map(|_| up(&vec![9.0; n], &[n])).collect();
    assert_eq!(bits(&gpu().read::<f32>(&y).unwrap()), bits(&want[0]));
    drop(others);
}

/// A kernel of the tests' own, so that its cost can be stated at will.
static TWICE: Shader = Shader {
    name: "twice",
    text: "twice",
    texts: &[(
        "twice",
        "@group(0) @binding(0) var<uniform> n: vec4<u32>;
        @group(0) @binding(1) var<storage, read> x: array<f32>;
        @group(0) @binding(2) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(64)
        fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < n.x { y[id.x] = 2.0 * x[id.x] + 1.0; }
        }",
    )],
    instead: &[],
};

fn twice(rec: &mut Recorder, x: &Tensor, flops: f64) -> Result<Tensor> {
    let y = rec.temp("twice", x.shape())?;
    rec.dispatch(&Dispatch {
        variant: Variant::new(&TWICE, "main", &[]),
        label: "twice",
        params: bytemuck::bytes_of(&[x.len() as u32, 0, 0, 0]),
        bindings: &[x, &y],
        grid: Grid::cover(x.len(), 64),
        flops,
        bytes: 0.0,
    })?;
    Ok(y)
}

#[test]
fn a_plan_in_several_submissions_gives_equal_bits() {
    let (rows, width) = BLOCK;
    let mut random = Random::new(24);
    let (x, w) =
        (up(&random.vector(rows * width), &[rows, width]), up(&random.vector(3 * width * width), &[3 * width, width]));
    let gain = up(&random.vector(width), &[width]);
    let pattern = Pattern::uniform(gpu(), 3, rows / 3, false).unwrap();
    let mut results = Vec::new();
    for flops in [0.0, 3e10, 1e12] {
        let (plan, out) = plan_on(gpu(), |rec| {
            let x = twice(rec, &x, flops)?;
            let [y, dx] = block(rec, &x, &w, &gain, &pattern)?;
            let x = twice(rec, &dx, flops)?;
            let [_, dx] = block(rec, &x, &w, &gain, &pattern)?;
            Ok([twice(rec, &y, flops)?, twice(rec, &dx, flops)?])
        });
        plan.run().unwrap();
        results.push((plan.submissions(), read_all(gpu(), &out)));
    }
    assert_eq!(results.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(results[0].1, results[1].1);
    assert_eq!(results[0].1, results[2].1);
}

/// Submissions run one after the other, and a timeline holds those between its beginning and its end.
#[test]
fn a_timeline_says_when_submissions_ran() {
    // Of its own: others' submissions would be in it.
    let gpu = Gpu::open(&DeviceOptions { checked: Some(true), tune: Some(false), ..Default::default() }).unwrap();
    invalid("no timeline", gpu.end_timeline());
    match gpu.begin_timeline() {
        Err(Error::Unsupported { .. }) => return,
        begun => begun.unwrap(),
    }
    invalid("two timelines", gpu.begin_timeline());
    assert_eq!(gpu.end_timeline().unwrap(), []);
    let x = gpu.upload("x", &[1.0f32; 8], &[8]).unwrap();
    let (plan, _out) = plan_on(&gpu, |rec| Ok([twice(rec, &x, 3e10).and_then(|x| twice(rec, &x, 3e10))?]));
    plan.run().unwrap();
    gpu.begin_timeline().unwrap();
    let before = std::time::Instant::now();
    (0..5).for_each(|_| plan.run().unwrap());
    let spans = gpu.end_timeline().unwrap();
    let wall = before.elapsed().as_secs_f64();
    assert_eq!(spans.len(), 5 * plan.submissions());
    assert!(spans.iter().all(|span| span.begin <= span.end), "{spans:?}");
    assert!(spans.windows(2).all(|pair| pair[0].begin <= pair[1].begin), "{spans:?}");
    let last = spans.iter().map(|span| span.end).fold(0.0, f64::max);
    assert!(spans[0].begin == 0.0 && last <= wall, "{spans:?} within {wall} s");
    plan.run().unwrap();
    invalid("it has ended", gpu.end_timeline());
}

#[test]
fn dispatches_that_would_race_or_do_not_fit_are_errors() {
    let rec = &mut Recorder::new(gpu());
    let x = up(&[1.0; 8], &[8]);
    let dispatch = |rec: &mut Recorder, bindings: &[&Tensor], groups| {
        rec.dispatch(&Dispatch {
            variant: Variant::new(&TWICE, "main", &[]),
            label: "twice",
            params: bytemuck::bytes_of(&[8u32, 0, 0, 0]),
            bindings,
            grid: Grid::Cube(groups, 1, 1),
            flops: 0.0,
            bytes: 0.0,
        })
    };
    invalid("in place", dispatch(rec, &[&x, &x.reshape(&[2, 4]).unwrap()], 1));
    invalid("one binding", dispatch(rec, &[&x], 1));
    let y = rec.temp("y", &[8]).unwrap();
    invalid("no workgroups", dispatch(rec, &[&x, &y], 0));
    invalid("too many workgroups", dispatch(rec, &[&x, &y], 1 << 20));
    dispatch(rec, &[&x, &y], 1).unwrap();
}
