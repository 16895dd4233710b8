//! Learning rates over time.

use tipi::low_level::adapt::schedule;

use crate::{cases, chosen, floats};

#[test]
fn schedules() {
    for case in cases(chosen(), "schedules") {
        let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 + 1e-9 * b.abs();
        let want = floats(case.param("pini_lr_per_epoch"));
        assert!(!want.is_empty());
        for (epoch, want) in want.iter().enumerate() {
            assert!(close(schedule::pini(epoch, 100, 0.001), *want), "epoch {epoch}");
        }
        assert!(!close(schedule::pini(2, 100, 0.001), want[1]), "a schedule that is off by one must be noticed");
        let key = "tip_f_lr_per_step_total_40";
        for (step, want) in floats(case.param(key)).iter().enumerate() {
            assert!(close(schedule::cosine(step, 40, 0.001), *want), "step {step}");
        }
    }
}
