//! Training of PiNI.

use tipi::low_level::adapt::pini::{self, NoisyPrompts};

use crate::{Case, cases, chosen, floats, gpu, host, own};

#[test]
fn pini_training() {
    for mut case in cases(chosen(), "pini_training") {
        let worst = pini_case(&mut case, None);
        assert!(worst <= 1.0);
        case.finish(|_| false);
    }
}

/// Deliberate mistakes in the step itself: each must be noticed in what training leaves behind.
#[test]
fn pini_training_notices_mistakes() {
    for mistake in ["decay", "momentum", "rate", "noise"] {
        let mut worst = 0f64;
        for mut case in cases(own(), "pini_training") {
            worst = worst.max(pini_case(&mut case, Some(mistake)));
        }
        println!("wrong {mistake}: {worst:.0} times the bound");
        assert!(worst > 10.0, "a wrong {mistake} went unnoticed: {worst}");
    }
}

/// Runs a case; with a mistake nothing is compared and the largest excess of what training leaves is given.
fn pini_case(case: &mut Case, mistake: Option<&str>) -> f64 {
    let clip = case.model();
    let (d, width) = (clip.config.embedding, clip.text.width());
    let (noisy, draws) =
        (case.param("template_len").as_u64().unwrap() as usize, case.param("draws").as_u64().unwrap() as usize);
    let e = d / case.param("reduction").as_u64().unwrap() as usize;
    assert!((f64::from(clip.logit_scale) / case.param("logit_scale_exp").as_f64().unwrap() - 1.0).abs() < 1e-6);
    let ids = case.input("in.prompt_ids").ids();
    let prompts = NoisyPrompts::from_ids(&clip, &ids, noisy).unwrap();
    let template = case.param("template").as_str().unwrap();
    let built = NoisyPrompts::new(&clip, template, &case.strings("classnames")).unwrap();
    assert_eq!(built, prompts, "{}: prompts built from class names differ", case.name);

    let values: Vec<Vec<f32>> = pini::PARAMETERS.iter().map(|p| case.input(&format!("in.param.{p}")).f32()).collect();
    let params = pini::Params::upload(gpu(), &values, noisy, width, d, e).unwrap();
    let trainer = pini::Trainer::new(&clip, prompts, params).unwrap();
    let pixels = case.input("in.pixel_values").f32();
    let batch = case.input("in.pixel_values").shape[0];
    let images = clip.image_encoder(batch).unwrap().encode(&pixels, &mut |_| {}).unwrap();
    if mistake.is_none() {
        case.compare("out.image_features", &images);
    }
    let step = trainer.step(batch, draws, false).unwrap();
    let mut config = pini::Config::paper(template, 0);
    config.momentum = case.param("momentum").as_f64().unwrap();
    config.weight_decay = case.param("weight_decay").as_f64().unwrap();
    match mistake {
        Some("decay") => config.weight_decay = 0.0,
        Some("momentum") => config.momentum = 0.0,
        _ => {}
    }
    for (i, lr) in floats(case.param("lr")).into_iter().enumerate() {
        let lr = if mistake == Some("rate") && i == 1 { lr * 1.01 } else { lr };
        let mut eps = case.input(&format!("in.step{i}.eps_text")).f32();
        if mistake == Some("noise") {
            eps.rotate_right(width);
        }
        let image = step.image.as_ref().unwrap();
        gpu().write(step.eps_text.as_ref().unwrap(), &eps).unwrap();
        gpu().write(&image.eps, &case.input(&format!("in.step{i}.eps_image")).f32()).unwrap();
        let labels = case.input(&format!("in.step{i}.labels")).u32();
        step.run(gpu(), &images, &labels, &config, lr, i as u32).unwrap();
        if mistake.is_some() {
            continue;
        }
        let spread: Vec<f32> = host(&image.spread).iter().map(|v| v.abs()).collect();
        let outputs = [
            ("logits", host(&step.logits)),
            ("text", host(&step.text)),
            ("mu", host(&image.mean)),
            ("spread", spread),
            ("attention", host(&image.attention)),
            ("noisy", host(&step.noisy)),
            ("loss", host(&step.loss)),
        ];
        for (name, got) in outputs {
            let name = format!("out.step{i}.{name}");
            if case.has(&name) {
                case.compare(&name, &got);
            }
        }
        for (name, grad) in pini::PARAMETERS.iter().zip(&step.grads) {
            let name = format!("out.step{i}.grad.{name}");
            if case.has(&name) {
                case.compare(&name, &host(grad));
            }
        }
    }
    let mut worst = 0f64;
    let last = trainer.params.download(gpu()).unwrap();
    for ((name, start), end) in pini::PARAMETERS.iter().zip(&values).zip(&last) {
        let delta: Vec<f32> = end.iter().zip(start).map(|(e, s)| (f64::from(*e) - f64::from(*s)) as f32).collect();
        for (what, got) in [("final", end), ("delta", &delta)] {
            let name = format!("out.{what}.{name}");
            if !case.has(&name) {
                continue;
            }
            if mistake.is_some() {
                worst = worst.max(case.excess(&name, got));
            } else {
                case.compare(&name, got);
            }
        }
    }
    worst
}
