//! The correction trained without labels: two steps of a student and its teacher.

use tipi::low_level::adapt::dino::{Head, Moment, SelfSupervised, Trainer, Values};
use tipi::low_level::adapt::overlap::{self, Config, Correction};
use tipi::low_level::clip::Clip;

use crate::{Array, Case, cases, chosen, floats, gpu, host, own};

/// Mistakes that are planted.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    /// The teacher takes the student's values as they are.
    TeacherTrains,
    /// The centre stays where it was.
    StillCentre,
    /// Biases decay, too.
    DecayOfAll,
    /// Gradients are cut to a third of the length; none of the case's is longer than what it says.
    CutShort,
    /// Positions by Pillow's bicubic.
    PillowsPositions,
    /// The teacher's temperature for the student.
    OneTemperature,
}

fn names(clip: &Clip) -> Vec<String> {
    overlap::parameter_names(clip.image.vit().unwrap().transformer.blocks.len())
}

fn settings(case: &Case) -> SelfSupervised {
    let number = |key: &str| case.param(key).as_f64().unwrap();
    let schedules = case.param("schedules");
    let crops = floats(case.param("crops"));
    SelfSupervised {
        local_crops: crops.len() - 2,
        student_temperature: number("student_temp"),
        centre_momentum: number("center_momentum"),
        clip: number("clip_grad"),
        momentum: schedules["ema"]["base"].as_f64().unwrap(),
        last_rate: schedules["lr"]["final"].as_f64().unwrap(),
        last_decay: schedules["weight_decay"]["final"].as_f64().unwrap(),
        warm_epochs: schedules["lr"]["warmup_epochs"].as_u64().unwrap() as usize,
        ..SelfSupervised::default()
    }
}

fn config(case: &Case) -> Config {
    let schedules = case.param("schedules");
    Config {
        bottleneck: case.param("bottleneck").as_u64().unwrap() as usize,
        scale: case.param("scale").as_f64().unwrap() as f32,
        lr: schedules["lr"]["base"].as_f64().unwrap(),
        weight_decay: schedules["weight_decay"]["base"].as_f64().unwrap(),
        epochs: schedules["epochs"].as_u64().unwrap() as usize,
        ..Config::without_labels(1, 120)
    }
}

#[test]
fn schedules_without_labels() {
    for case in cases(chosen(), "dino_training") {
        let (config, settings) = (config(&case), settings(&case));
        let schedules = case.param("schedules");
        let per_epoch = schedules["iterations_per_epoch"].as_u64().unwrap() as usize;
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 + 1e-9 * b.abs();
        let of = |key: &str| floats(&schedules[key]["values"]);
        let [rates, decays, momenta] = ["lr", "weight_decay", "ema"].map(of);
        assert_eq!(rates.len(), per_epoch * config.epochs);
        let at = |step: usize| settings.moment(&config, per_epoch, step);
        let mut noticed = 0;
        for (step, (rate, (decay, momentum))) in rates.iter().zip(decays.iter().zip(&momenta)).enumerate() {
            let now = at(step);
            assert!(close(now.rate, *rate), "rate of step {step}: {} for {rate}", now.rate);
            assert!(close(now.decay, *decay) && close(now.momentum, *momentum), "step {step}");
            noticed += usize::from(!close(at(step + 1).rate, *rate) && !close(at(step + 1).decay, *decay));
        }
        assert!(noticed + 2 >= rates.len(), "a schedule that is off by one must be noticed");
        for (epoch, want) in floats(&schedules["teacher_temp"]).iter().enumerate() {
            assert!(close(at(epoch * per_epoch).temperature, *want), "epoch {epoch}");
        }
    }
}

#[test]
fn training_without_labels() {
    for mut case in cases(chosen(), "dino_training") {
        let worst = training_case(&mut case, None, 99);
        assert!(worst <= 1.0);
        case.finish(|_| false);
    }
}

/// A batch in parts takes the same steps.
#[test]
fn training_without_labels_in_parts() {
    for mut case in cases(own(), "dino_training") {
        let worst = training_case(&mut case, Some(None), 2);
        assert!(worst <= 1.0, "{}: {worst:.3} times the bound", case.name);
    }
}

#[test]
fn training_without_labels_notices_mistakes() {
    use Mistake::{CutShort, DecayOfAll, OneTemperature, PillowsPositions, StillCentre, TeacherTrains};
    for mistake in [TeacherTrains, StillCentre, DecayOfAll, CutShort, PillowsPositions, OneTemperature] {
        let mut worst = 0f64;
        for mut case in cases(own(), "dino_training") {
            worst = worst.max(training_case(&mut case, Some(Some(mistake)), 99));
        }
        println!("{mistake:?}: {worst:.0} times the bound");
        assert!(worst > 10.0, "{mistake:?} went unnoticed: {worst}");
    }
}

/// Crops of a part of the pictures, view after view, those of one size in one.
fn part(crops: &[&Array], sizes: &[usize], pictures: std::ops::Range<usize>) -> Vec<Vec<f32>> {
    let of = |crop: &Array| -> Vec<f32> {
        let one = crop.values.len() / crop.shape[0];
        crop.f32()[pictures.start * one..pictures.end * one].to_vec()
    };
    let mut all: Vec<(usize, Vec<f32>)> = Vec::new();
    for (crop, size) in crops.iter().zip(sizes) {
        match all.last_mut() {
            Some((last, values)) if last == size => values.extend(of(crop)),
            _ => all.push((*size, of(crop))),
        }
    }
    all.into_iter().map(|(_, values)| values).collect()
}

/// Runs a case in parts of up to `micro` pictures, comparing everything; where something is planted (perhaps nothing) only the
/// largest excess is given.
fn training_case(case: &mut Case, planted: Option<Option<Mistake>>, micro: usize) -> f64 {
    let clip = case.model();
    let vit = clip.image.vit().unwrap();
    let (compares, mistake) = (planted.is_none(), planted.flatten());
    let names = names(&clip);
    let values: Vec<Vec<f32>> = names.iter().map(|n| case.input(&format!("in.param.{n}")).f32()).collect();
    let (config, mut settings) = (config(case), settings(case));
    if mistake == Some(Mistake::CutShort) {
        settings.clip /= 3.0;
    }
    let correction = || Correction::upload(gpu(), &values, vit.width(), config.bottleneck, config.scale).unwrap();
    let head = |part: &str| case.input(&format!("in.param.head.{part}")).f32();
    let layers = [0, 2, 4].map(|i| (head(&format!("mlp.{i}.weight")), head(&format!("mlp.{i}.bias"))));
    let layers = layers.each_ref().map(|(weight, bias)| Values { weight, bias });
    let wide = (head("last_layer.weight_v"), head("last_layer.weight_g"));
    let head = Head::upload(gpu(), clip.config.embedding, layers, (&wide.0, &wide.1)).unwrap();
    let trainer = Trainer::new(&clip, [correction(), correction()], head, &settings).unwrap();
    gpu().write(&trainer.centre, &case.input("in.center").f32()).unwrap();

    let sizes: Vec<usize> = floats(case.param("crops")).iter().map(|side| *side as usize).collect();
    assert_eq!(vit.local_side().unwrap(), sizes[2]);
    let mut worst = 0f64;
    for side in [16, 24] {
        let name = format!("out.positions{side}");
        let slope = (mistake == Some(Mistake::PillowsPositions)).then_some(-0.5);
        let got = vit.crop_positions(side, slope).unwrap();
        worst = worst.max(case.excess(&name, &got));
        if compares {
            case.compare(&name, &got);
            assert!(case.excess(&name, &vit.crop_positions(side, Some(-0.5)).unwrap()) > 10.0);
        }
    }
    let schedules = case.param("schedules");
    let per_epoch = schedules["iterations_per_epoch"].as_u64().unwrap() as usize;
    let first = case.param("epoch").as_u64().unwrap() as usize * per_epoch;
    let rates = floats(case.param("lr"));
    // The case's two steps are not an epoch's first: where they are is told by their rates.
    let place = floats(&schedules["lr"]["values"]).iter().position(|rate| *rate == rates[0]).unwrap();
    assert!(place >= first && place < first + per_epoch);
    for i in 0.. {
        if !case.has(&format!("in.step{i}.crop0")) {
            assert_eq!(i, rates.len());
            break;
        }
        let mut now = settings.moment(&config, per_epoch, place + i);
        let given = |key: &str| floats(case.param(key))[i];
        let close = |a: f64, b: f64| (a - b).abs() < 1e-9 * b.abs();
        assert!(close(now.rate, given("lr")) && close(now.decay, given("weight_decay")));
        assert!(close(now.momentum, given("ema")));
        assert!(close(now.temperature, case.param("teacher_temp").as_f64().unwrap()));
        if mistake == Some(Mistake::OneTemperature) {
            now = Moment { temperature: settings.student_temperature, ..now };
        }
        let crops: Vec<&Array> = (0..sizes.len()).map(|c| case.input(&format!("in.step{i}.crop{c}"))).collect();
        let pictures = crops[0].shape[0];
        let parts: Vec<_> = (0..pictures)
            .step_by(micro)
            .map(|from| (from, part(&crops, &sizes, from..(from + micro).min(pictures))))
            .collect();
        for (from, pixels) in &parts {
            let n = micro.min(pictures - from);
            let step = trainer.step_tapped(n).unwrap();
            trainer.run(&step, pixels, (n as f32 / pictures as f32, *from == 0), &now).unwrap();
            if compares {
                let [student, teacher] = step.logits.as_ref().unwrap();
                case.compare(&format!("out.step{i}.student_out"), &host(student));
                case.compare(&format!("out.step{i}.teacher_out"), &host(teacher));
                for (name, grad) in names.iter().zip(&step.grads) {
                    let name = format!("out.step{i}.grad.{name}");
                    if case.has(&name) {
                        case.compare(&name, &host(grad));
                    }
                }
            }
        }
        let centre = host(&trainer.centre);
        let kept_teacher = trainer.teacher.download(gpu()).unwrap();
        trainer.update(&now, i as u32 + 1).unwrap();
        match mistake {
            Some(Mistake::StillCentre) => gpu().write(&trainer.centre, &centre).unwrap(),
            Some(Mistake::TeacherTrains) => {
                let student = trainer.student.download(gpu()).unwrap();
                assert_ne!(student, kept_teacher);
                trainer.teacher.tensors().iter().zip(&student).for_each(|(t, v)| gpu().write(t, v).unwrap());
            }
            Some(Mistake::DecayOfAll) => {
                for tensor in trainer.student.tensors().iter().filter(|t| t.shape().len() == 1) {
                    let less: Vec<f32> = host(tensor).iter().map(|v| v * (1.0 - now.rate * now.decay) as f32).collect();
                    gpu().write(tensor, &less).unwrap();
                }
            }
            _ => {}
        }
        let mut look = |case: &mut Case, name: String, got: &[f32]| {
            if !case.has(&name) {
                return;
            }
            worst = worst.max(case.excess(&name, got));
            if compares {
                case.compare(&name, got);
            }
        };
        let loss = trainer.begin_loss().unwrap().finish().unwrap();
        look(case, format!("out.step{i}.loss"), &loss);
        look(case, format!("out.step{i}.center"), &host(&trainer.centre));
        for (name, sum) in names.iter().zip(&trainer.sums) {
            look(case, format!("out.step{i}.clipped.{name}"), &host(sum));
        }
        // Adam's first steps are the signs of gradients: where those are all rounding, nothing can be compared.
        for (who, correction) in [("student", &trainer.student), ("teacher", &trainer.teacher)] {
            for (name, tensor) in names.iter().zip(correction.tensors()) {
                let name_out = format!("out.step{i}.{who}.{name}");
                if !case.has(&name_out) {
                    continue;
                }
                let want = case.input(&name_out).f32();
                let mask = format!("mask.step1.student.{name}");
                let mask = if case.has(&mask) { case.input(&mask).u8() } else { vec![1; want.len()] };
                let got: Vec<f32> = host(tensor)
                    .iter()
                    .zip(&want)
                    .zip(&mask)
                    .map(|((g, w), m)| if *m == 1 { *g } else { *w })
                    .collect();
                look(case, name_out, &got);
            }
        }
    }
    worst
}
