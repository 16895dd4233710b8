//! Training of Tip-Adapter-F.

use tipi::low_level::adapt::schedule;
use tipi::low_level::adapt::tip::{Cache, TipParams};
use tipi::low_level::adapt::tip_f;
use tipi::low_level::adapt::zero_shot::Classifier;
use tipi::low_level::kernels::optim::AdamW;

use crate::{Case, cases, chosen, class_rows, floats, gpu, host, own};

#[test]
fn tip_adapter_f() {
    for mut case in cases(chosen(), "tip_adapter_f") {
        let worst = tip_f_case(&mut case, None);
        assert!(worst <= 1.0);
        case.finish(|_| false);
    }
}

#[test]
fn tip_adapter_f_notices_mistakes() {
    for mistake in ["eps", "decay", "rate", "beta"] {
        let mut worst = 0f64;
        for mut case in cases(own(), "tip_adapter_f") {
            worst = worst.max(tip_f_case(&mut case, Some(mistake)));
        }
        println!("wrong {mistake}: {worst:.0} times the bound");
        assert!(worst > 10.0, "a wrong {mistake} went unnoticed: {worst}");
    }
}

/// Runs a case; with a mistake nothing is compared and the largest excess of what training leaves is given.
fn tip_f_case(case: &mut Case, mistake: Option<&str>) -> f64 {
    let params = &case.json["params"];
    let number = |key: &str| params[key].as_f64().unwrap();
    let classes = case.param("classes").as_u64().unwrap() as usize;
    let w = case.input("in.W");
    let d = w.shape[0];
    let weights = class_rows(w);
    let classifier = Classifier::from_weights(gpu(), &weights, classes, 100.0).unwrap();
    let (keys, labels) = (case.input("in.keys").f32(), case.input("in.cache_labels").u32());
    let cache = Cache::new(gpu(), &keys, &labels, classes, d).unwrap();
    let mut initial = TipParams { alpha: number("alpha"), beta: number("beta") };
    if mistake == Some("beta") {
        initial.beta *= 1.01;
    }
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by_key(|i| labels[*i]);
    // Ours are sorted by class, the reference's as they were given.
    let unsort = |sorted: Vec<f32>| {
        let mut rows = vec![0f32; sorted.len()];
        for (row, at) in sorted.chunks(d).zip(&order) {
            rows[at * d..(at + 1) * d].copy_from_slice(row);
        }
        rows
    };
    let trainer = tip_f::Trainer::new(gpu(), &classifier, &cache, initial).unwrap();
    let step = trainer.step(case.input("in.step0.labels").values.len()).unwrap();
    let betas = floats(case.param("betas"));
    let mut optimizer =
        AdamW { lr: 0.0, betas: (betas[0], betas[1]), eps: number("eps"), weight_decay: number("weight_decay") };
    match mistake {
        Some("eps") => optimizer.eps = 1e-8,
        Some("decay") => optimizer.weight_decay = 0.0,
        _ => {}
    }
    let total = case.param("total_steps").as_u64().unwrap() as usize;
    for (i, lr) in floats(case.param("lr_per_step")).into_iter().enumerate() {
        assert!((schedule::cosine(i, total, number("lr")) - lr).abs() < 1e-12);
        optimizer.lr = if mistake == Some("rate") && i == 1 { lr * 1.01 } else { lr };
        let (f, labels) = (case.input(&format!("in.step{i}.f")).f32(), case.input(&format!("in.step{i}.labels")).u32());
        trainer.run(&step, &f, &labels, optimizer, i as u32 + 1).unwrap();
        if mistake.is_none() {
            case.compare(&format!("out.step{i}.loss"), &host(&step.loss));
            case.compare(&format!("out.step{i}.grad"), &unsort(host(&step.grad)));
            case.compare(&format!("out.step{i}.keys"), &unsort(host(&trainer.keys.keys)));
        }
    }
    let last = unsort(host(&trainer.keys.keys));
    let delta: Vec<f32> = last.iter().zip(&keys).map(|(e, s)| (f64::from(*e) - f64::from(*s)) as f32).collect();
    if mistake.is_none() {
        case.compare("out.delta", &delta);
        return 0.0;
    }
    case.excess("out.delta", &delta)
}
