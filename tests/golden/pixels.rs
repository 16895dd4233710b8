//! PiNI's noise on pixels: the gradients of its network, through the frozen image tower.

use tipi::low_level::adapt::pini::Config;
use tipi::low_level::adapt::pini::pixels::PixelTrainer;
use tipi::low_level::gpu::{Recorder, Tensor};
use tipi::low_level::kernels::planes;
use tipi::low_level::nn::{NoiseNet, Statistics};

use crate::{Array, Case, cases, chosen, gpu, host, own};

/// The channels of a case's network.
fn widths(case: &Case) -> [usize; 2] {
    let all: Vec<usize> = crate::floats(case.param("widths")).iter().map(|v| *v as usize).collect();
    [all[0], all[1]]
}

/// The network of a case. Running statistics, which it does not have, are those of a fresh one.
fn network(case: &Case) -> NoiseNet {
    NoiseNet::load(gpu(), widths(case), &mut |name, shape| match name.rsplit('.').next() {
        Some("running_mean") => Ok(vec![0.0; shape[0]]),
        Some("running_var") => Ok(vec![1.0; shape[0]]),
        _ => {
            let values = case.input(&format!("in.param.{name}"));
            assert_eq!(values.shape, shape, "{name}");
            Ok(values.f32())
        }
    })
    .unwrap()
}

/// Means and spreads (without their sign) of planes [n, 6, area].
fn halves(planes: &[f32], pictures: usize) -> [Vec<f32>; 2] {
    let one = planes.len() / pictures / 2;
    let half = |which: usize| planes.chunks(one).skip(which).step_by(2).flatten().copied().collect::<Vec<f32>>();
    [half(0), half(1).iter().map(|v| v.abs()).collect()]
}

#[test]
fn pixel_noise_gradients() {
    for mut case in cases(chosen(), "pini_cnn_gradients") {
        // Layers in one tensor, and in tensors of two pictures and of one.
        for layer in [u64::MAX, 4 * 12 * 32 * 32 * 2, 1] {
            let worst = pixel_case(&mut case, None, layer);
            assert!(worst <= 1.0);
        }
        case.finish(|_| false);
    }
}

/// Deliberate mistakes: each must be noticed in what the step gives.
#[test]
fn pixel_noise_notices_mistakes() {
    for mistake in ["running", "planes", "noise", "sign", "texts"] {
        let mut worst = 0f64;
        for mut case in cases(own(), "pini_cnn_gradients") {
            worst = worst.max(pixel_case(&mut case, Some(mistake), u64::MAX));
        }
        println!("wrong {mistake}: {worst:.0} times the bound");
        assert!(worst > 10.0, "a wrong {mistake} went unnoticed: {worst}");
    }
}

/// Runs a case; with a mistake nothing is compared and the largest excess is given.
fn pixel_case(case: &mut Case, mistake: Option<&str>, layer: u64) -> f64 {
    let clip = case.model();
    let net = network(case).in_parts(layer);
    let Array { shape, .. } = case.input("in.pixel_values");
    let (batch, size) = (shape[0], shape[3]);
    let (pixels, labels) = (case.input("in.pixel_values").f32(), case.input("in.labels").u32());
    let mut text = case.input("in.text_features").f32();
    let mut eps = case.input("in.eps").f32();
    match mistake {
        Some("noise") => eps.rotate_right(1),
        Some("texts") => text.rotate_right(clip.config.embedding),
        _ => {}
    }
    if let Some(kind @ ("running" | "planes")) = mistake {
        return planes_of(case, &net, (&pixels, batch, size), kind);
    }
    let text = gpu().upload("texts", &text, &[text.len() / clip.config.embedding, clip.config.embedding]).unwrap();
    let trainer = PixelTrainer::new(&clip, &text, net).unwrap();
    let step = trainer.step(batch, 1, false).unwrap();
    gpu().write(&step.eps, &eps).unwrap();
    // At a rate of 0 the parameters stay.
    step.run(gpu(), &pixels, &labels, &Config::paper("", 0), 0.0, 0).unwrap();
    let [mean, mut spread] = halves(&host(&step.planes), batch);
    if mistake == Some("sign") {
        let one = spread.len();
        spread = host(&step.planes).chunks(one / batch).skip(1).step_by(2).flatten().copied().collect();
    }
    let grads: Vec<Vec<f32>> = step.grads.iter().map(host).collect();
    let mut outputs: Vec<(String, Vec<f32>)> = vec![
        ("out.mu".into(), mean),
        ("out.spread".into(), spread),
        ("out.logits".into(), host(&step.logits)),
        ("out.loss".into(), host(&step.loss)),
    ];
    outputs.extend(
        trainer.net.published(&grads).into_iter().map(|(name, _, values)| (format!("out.grad.{name}"), values)),
    );
    let mut worst = 0f64;
    for (name, got) in outputs {
        match mistake {
            None => case.compare(&name, &got),
            Some(_) => worst = worst.max(case.excess(&name, &got)),
        }
    }
    worst
}

/// How far the noise is off where batch norm goes by the running statistics, or where planes are scaled together.
fn planes_of(case: &Case, net: &NoiseNet, (pixels, batch, size): (&[f32], usize, usize), kind: &str) -> f64 {
    let pixels: Tensor = gpu().upload("pixels", pixels, &[batch, 3, size, size]).unwrap();
    let by = if kind == "running" { Statistics::Running } else { Statistics::Batch };
    let mut rec = Recorder::new(gpu());
    let (raw, saved) = net.forward_saved(&mut rec, &pixels, by).unwrap();
    drop(saved);
    let scaled = planes::scale(&mut rec, &raw, 0.1).unwrap().planes;
    rec.finish().unwrap().run().unwrap();
    let mut values = host(&scaled);
    if kind == "planes" {
        // The RMS of the three colours together, in place of each one's own.
        let raw = host(&raw);
        let area = size * size;
        for (number, plane) in values.chunks_mut(area).enumerate() {
            let (picture, first) = (number / 6, number % 6 / 3 * 3);
            let of = |at: usize, plane: usize| f64::from(raw[(picture * area + at) * 6 + plane]);
            let squares: f64 = (0..area * 3).map(|i| of(i / 3, first + i % 3).powi(2)).sum();
            let rms = (squares / (3 * area) as f64).sqrt();
            plane.iter_mut().enumerate().for_each(|(at, v)| *v = (0.1 * of(at, number % 6) / rms) as f32);
        }
    }
    let [mean, _] = halves(&values, batch);
    case.excess("out.mu", &mean)
}
