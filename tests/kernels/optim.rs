//! Steps of the optimizers.

use tipi::low_level::kernels::optim;

use crate::twins::rowwise::{Adam, Sgd};
use crate::twins::{Random, Real, Tracked, check, check_rejects, widen};
use crate::{gpu, plan_on, twins, up};

#[test]
fn sgd_over_several_steps() {
    let mut random = Random::new(17);
    for n in [1, 67, 1000] {
        let options = [
            Sgd { lr: 0.1, momentum: 0.9, decay: 5e-2 },
            Sgd { lr: 0.02, momentum: 0.9, decay: 5e-2 }, // lr changes between runs of the one plan
            Sgd { lr: 0.3, momentum: 0.5, decay: 0.0 },
            Sgd { lr: 0.07, momentum: 0.0, decay: 0.1 },
        ];
        let w = random.vector(n);
        let (w_g, velocity_g) = (up(&w, &[n]), gpu().zeros("velocity", &[n]).unwrap());
        let (hyper_g, grad_g) = (gpu().zeros("hyper", &[4]).unwrap(), gpu().zeros("grad", &[n]).unwrap());
        let (plan, ()) = plan_on(gpu(), |rec| optim::sgd(rec, &hyper_g, &grad_g, &velocity_g, &w_g));
        let mut w_t = widen::<Tracked>(&w);
        let mut velocity_t = vec![Tracked::of(0.0); n];
        for (step, o) in options.into_iter().enumerate() {
            let grad = random.vector(n);
            gpu().write(&hyper_g, &[o.lr, o.momentum, o.decay, 0.0]).unwrap();
            gpu().write(&grad_g, &grad).unwrap();
            plan.run().unwrap();
            let grad = widen::<Tracked>(&grad);
            let before = (velocity_t.clone(), w_t.clone());
            twins::rowwise::sgd_step(o, &grad, &mut velocity_t, &mut w_t);
            let (got, velocity) = (gpu().read(&w_g).unwrap(), gpu().read(&velocity_g).unwrap());
            let what = format!("sgd, {n} weights, step {step}");
            check(&what, &got, &w_t);
            check(&format!("{what} velocity"), &velocity, &velocity_t);
            let wrong = |error: &str, o: Sgd| {
                let (mut velocity, mut w) = before.clone();
                twins::rowwise::sgd_step(o, &grad, &mut velocity, &mut w);
                check_rejects(&what, error, &got, &w);
            };
            if step > 0 && o.momentum > 0.0 {
                wrong("no momentum", Sgd { momentum: 0.0, ..o });
            }
            if o.decay > 0.0 {
                wrong("no decay", Sgd { decay: 0.0, ..o });
            }
            wrong("a step the other way", Sgd { lr: -o.lr, ..o });
        }
    }
}

#[test]
fn adamw_over_several_steps() {
    let mut random = Random::new(27);
    for n in [1, 67, 1000] {
        let w = random.vector(n);
        let (w_g, moments_g) = (up(&w, &[n]), gpu().zeros("moments", &[2, n]).unwrap());
        let (hyper_g, grad_g) = (gpu().zeros("hyper", &[8]).unwrap(), gpu().zeros("grad", &[n]).unwrap());
        let (plan, ()) = plan_on(gpu(), |rec| optim::adamw(rec, &hyper_g, &grad_g, &moments_g, &w_g));
        let mut w_t = widen::<Tracked>(&w);
        let (mut m_t, mut v_t) = (vec![Tracked::of(0.0); n], vec![Tracked::of(0.0); n]);
        for (step, (lr, decay, eps)) in
            [(0.1, 0.05, 1e-4), (0.02, 0.05, 1e-8), (0.3, 0.0, 1e-2)].into_iter().enumerate()
        {
            let grad = random.vector(n);
            let o = optim::AdamW { weight_decay: decay, eps, ..optim::AdamW::new(lr) };
            gpu().write(&hyper_g, &o.hyper(step as u32 + 1)).unwrap();
            gpu().write(&grad_g, &grad).unwrap();
            plan.run().unwrap();
            let grad = widen::<Tracked>(&grad);
            let before = (m_t.clone(), v_t.clone(), w_t.clone());
            let adam = Adam { lr, betas: o.betas, eps, decay, step: step as i32 + 1 };
            twins::rowwise::adamw_step(adam, &grad, &mut m_t, &mut v_t, &mut w_t);
            let (got, moments) = (gpu().read(&w_g).unwrap(), gpu().read::<f32>(&moments_g).unwrap());
            let what = format!("adamw, {n} weights, step {step}");
            check(&what, &got, &w_t);
            check(&format!("{what} mean"), &moments[..n], &m_t);
            check(&format!("{what} square"), &moments[n..], &v_t);
            let wrong = |error: &str, adam: Adam| {
                let (mut m, mut v, mut w) = before.clone();
                twins::rowwise::adamw_step(adam, &grad, &mut m, &mut v, &mut w);
                check_rejects(&what, error, &got, &w);
            };
            wrong("no bias correction", Adam { step: 1000, ..adam });
            wrong("another eps", Adam { eps: eps + 1e-3, ..adam });
            if decay > 0.0 {
                wrong("no decay", Adam { decay: 0.0, ..adam });
            }
        }
    }
}

#[test]
fn gradients_of_parts_add_up() {
    let n = 131;
    let mut random = Random::new(28);
    let (a, b) = (random.vector(n), random.vector(n));
    let sum = up(&vec![f32::NAN; n], &[n]);
    let (hyper, grad) = (up(&[0.0, 0.25], &[2]), up(&a, &[n]));
    let (plan, ()) = plan_on(gpu(), |rec| optim::accumulate(rec, &hyper, &grad, &sum));
    plan.run().unwrap();
    gpu().write(&hyper, &[1.0, 0.75]).unwrap();
    gpu().write(&grad, &b).unwrap();
    plan.run().unwrap();
    let of = |v: f64| Tracked::of(v);
    let want: Vec<Tracked> =
        widen::<Tracked>(&a).iter().zip(&widen::<Tracked>(&b)).map(|(a, b)| of(0.25) * *a + of(0.75) * *b).collect();
    let got = gpu().read(&sum).unwrap();
    check("accumulate", &got, &want);
    check_rejects("accumulate", "the last part only", &got, &widen::<Tracked>(&b));
}
