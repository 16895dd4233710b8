//! The overlap correction: gradients, and what training leaves behind.

use tipi::low_level::adapt::overlap::{self, Correction, Dropout};
use tipi::low_level::clip::Clip;
use tipi::low_level::gpu::Tensor;
use tipi::low_level::kernels::optim::AdamW;
use tipi::low_level::nn::TrainableLinear;

use crate::{Case, cases, chosen, floats, gpu, host, own};

/// The correction and the head of a case.
fn correction_of(case: &Case, clip: &Clip) -> (Correction, TrainableLinear, Vec<String>) {
    let names = overlap::parameter_names(clip.image.vit().unwrap().transformer.blocks.len());
    let values: Vec<Vec<f32>> = names.iter().map(|n| case.input(&format!("in.param.{n}")).f32()).collect();
    let bottleneck = case.param("bottleneck").as_u64().unwrap() as usize;
    let scale = case.param("scale").as_f64().unwrap() as f32;
    let correction = Correction::upload(gpu(), &values, clip.image.vit().unwrap().width(), bottleneck, scale).unwrap();
    let classes = case.param("classes").as_u64().unwrap() as usize;
    let (w, b) = (case.input("in.param.predictor.weight").f32(), case.input("in.param.predictor.bias").f32());
    let head = TrainableLinear::upload(gpu(), "head", classes, clip.config.embedding, &w, &b).unwrap();
    let mut all = names;
    all.extend(["predictor.weight".to_string(), "predictor.bias".to_string()]);
    (correction, head, all)
}

#[test]
fn correction_gradients() {
    for mut case in cases(chosen(), "adapter_gradients") {
        let clip = case.model();
        let (correction, head, names) = correction_of(&case, &clip);
        let pixels = case.input("in.pixel_values").f32();
        let labels = case.input("in.labels").u32();
        let n = labels.len();

        // As people use it: both kinds of features from one call, in a batch that does not divide the number.
        let both =
            clip.image_encoder_with(4, Some(&correction.blocks)).unwrap().encode_all(&pixels, &mut |_| {}).unwrap();
        case.compare("out.features_plain", &both.original);
        case.compare("out.features", both.adapted.as_ref().unwrap());
        assert!(case.excess("out.features", &both.original) > 10.0, "the correction must change something");

        let taps = clip.image.vit().unwrap().tapped_adapted(&pixels, n, &correction.blocks).unwrap();
        let tokens = clip.image.vit().unwrap().picture_tokens();
        let first = |t: &Tensor| host(t)[..t.cols() * tokens].to_vec();
        for (i, block) in taps.blocks.iter().enumerate() {
            case.compare(&format!("out.act.image.block{i}"), &first(block));
        }
        case.compare("out.act.image.last.adapter", &first(&taps.branch));

        let trainer = overlap::Trainer::new(&clip, correction, head).unwrap();
        for (dropout, prefix) in [(Dropout::Off, "out"), (Dropout::Given, "out.dropped")] {
            let step = trainer.step(n, dropout).unwrap();
            for (i, mask) in step.masks.iter().enumerate() {
                gpu().write(mask, &case.input(&format!("in.drop{i}")).f32()).unwrap();
            }
            trainer.run(&step, (&pixels, &labels), (1.0, true), (0, 0)).unwrap();
            if dropout == Dropout::Off {
                case.compare("out.features", &host(&step.features));
            }
            case.compare(&format!("{prefix}.logits"), &host(&step.logits));
            case.compare(&format!("{prefix}.loss"), &host(&step.loss));
            for (name, grad) in names.iter().zip(&step.grads) {
                let name = format!("{prefix}.grad.{name}");
                if case.has(&name) {
                    case.compare(&name, &host(grad));
                }
            }
        }
        case.finish(|_| false);
    }
}

#[test]
fn correction_training() {
    for mut case in cases(chosen(), "adapter_training") {
        let worst = training_case(&mut case, None, 99);
        assert!(worst <= 1.0);
        case.finish(|_| false);
    }
}

/// A batch in parts, whose gradients are added up, takes the same steps.
#[test]
fn correction_training_in_parts() {
    for mut case in cases(own(), "adapter_training") {
        let worst = training_case(&mut case, Some("nothing"), 4);
        assert!(worst <= 1.0, "{}: {worst:.3} times the bound", case.name);
    }
}

#[test]
fn correction_training_notices_mistakes() {
    for mistake in ["decay", "rate", "scale", "shares"] {
        let mut worst = 0f64;
        for mut case in cases(own(), "adapter_training") {
            worst = worst.max(training_case(&mut case, Some(mistake), 4));
        }
        println!("wrong {mistake}: {worst:.0} times the bound");
        assert!(worst > 10.0, "a wrong {mistake} went unnoticed: {worst}");
    }
}

/// Runs a case in parts of up to `micro` pictures; with a mistake nothing is compared and the largest excess of what
/// training leaves is given.
fn training_case(case: &mut Case, mistake: Option<&str>, micro: usize) -> f64 {
    let clip = case.model();
    let (mut correction, head, names) = correction_of(case, &clip);
    if mistake == Some("scale") {
        correction.blocks.iter_mut().for_each(|b| b.scale *= 1.01);
    }
    let trainer = overlap::Trainer::new(&clip, correction, head).unwrap();
    let number = |key: &str| case.param(key).as_f64().unwrap();
    let betas = floats(case.param("betas"));
    let mut optimizer = AdamW {
        lr: number("lr"),
        betas: (betas[0], betas[1]),
        eps: number("eps"),
        weight_decay: number("weight_decay"),
    };
    if mistake == Some("decay") {
        optimizer.weight_decay = 0.0;
    }
    for i in 0.. {
        let name = format!("in.step{i}.pixel_values");
        if !case.has(&name) {
            break;
        }
        let (pixels, labels) = (case.input(&name).f32(), case.input(&format!("in.step{i}.labels")).u32());
        let one = pixels.len() / labels.len();
        for (part, chosen) in labels.chunks(micro).enumerate() {
            let step = trainer.step(chosen.len(), Dropout::Off).unwrap();
            let at = part * micro * one;
            let share = chosen.len() as f32 / labels.len() as f32;
            let share = if mistake == Some("shares") { 1.0 / labels.len().div_ceil(micro) as f32 } else { share };
            trainer.run(&step, (&pixels[at..at + chosen.len() * one], chosen), (share, part == 0), (0, 0)).unwrap();
            if mistake.is_none() {
                for (name, grad) in names.iter().zip(&step.grads) {
                    let name = format!("out.step{i}.grad.{name}");
                    if case.has(&name) {
                        case.compare(&name, &host(grad));
                    }
                }
            }
        }
        if mistake.is_none() {
            case.compare(&format!("out.step{i}.loss"), &[trainer.loss().unwrap()]);
        }
        let changed = AdamW { lr: if mistake == Some("rate") { 1.01 } else { 1.0 } * optimizer.lr, ..optimizer };
        trainer.update(changed, i as u32 + 1).unwrap();
    }
    // What predicts afterwards: the trained bottlenecks in the tower as people run it.
    let mut encoder = clip.image_encoder_with(4, Some(&trainer.correction.blocks)).unwrap();
    let pixels = case.input("in.step0.pixel_values").f32();
    let after = encoder.encode_all(&pixels, &mut |_| {}).unwrap().adapted.unwrap();
    let name = "out.features_after";
    if mistake.is_none() {
        case.compare(name, &after);
    }
    // Adam's first steps are the signs of gradients: where those are all rounding, nothing can be compared.
    let (mut worst, mut compared) = (case.excess(name, &after), 0);
    for (name, tensor) in names.iter().zip(trainer.parameters()) {
        let name = format!("out.final.{name}");
        let mask = case.input(&name.replacen("out.", "mask.", 1)).u8();
        let want = case.input(&name).f32();
        let got: Vec<f32> =
            host(tensor).iter().zip(&want).zip(&mask).map(|((g, w), m)| if *m == 1 { *g } else { *w }).collect();
        compared += mask.iter().filter(|m| **m == 1).count();
        if mistake.is_none() {
            case.compare(&name, &got);
        } else {
            worst = worst.max(case.excess(&name, &got));
        }
    }
    assert!(compared > 1000, "{}: only {compared} values are well conditioned", case.name);
    worst
}
