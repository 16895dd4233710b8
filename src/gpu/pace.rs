//! Work in small pieces, for a queue on which a host program draws: a frame is never late by more than a bound.
//!
//! A frame runs behind whatever was submitted before it. So a plan is handed over in submissions that are estimated to take
//! half of the bound each, two of which are under way at the most, the second so that the device does not wait for the host.
//! How much work that is, is learned from how long earlier ones took. One dispatch is never split.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::device::PATIENCE;
use super::link::{Link, Submission};
use super::plan::Step;
use super::recorder::SUBMIT_COST;
use crate::Result;
use crate::platform::Instant;

/// Submissions that may be under way.
const UNDER_WAY: usize = 2;

/// Work per second that a device is trusted with at first: what a slow integrated GPU does.
const FIRST: f64 = 5e10;

/// The least and the most work of a submission.
const WORK: [f64; 2] = [1e6, SUBMIT_COST];

/// What a submission is meant to take, as a share of what it may: estimates are rough.
const MEANT: f64 = 0.75;

/// How much more than before is tried after a submission that took less than it may.
const GROWTH: f64 = 1.5;

/// The way onto a host's queue.
pub(super) struct Pace {
    /// What a submission may take.
    bound: Duration,
    queue: Mutex<Queue>,
}

#[derive(Debug)]
struct Queue {
    /// The work of one submission.
    work: f64,
    under_way: VecDeque<UnderWay>,
    /// When the last one before those had run, where that was seen and not just found.
    seen: Option<Instant>,
}

#[derive(Debug)]
struct UnderWay {
    submission: Submission,
    work: f64,
    since: Instant,
}

impl Pace {
    /// A pace at which a frame comes at most `bound` late.
    pub fn new(bound: Duration) -> Pace {
        let bound = bound / UNDER_WAY as u32;
        let work = (FIRST * bound.as_secs_f64()).clamp(WORK[0], WORK[1]);
        Pace { bound, queue: Mutex::new(Queue { work, under_way: VecDeque::new(), seen: None }) }
    }

    /// How many of `steps`, the first of a plan's rest, go into the next submission.
    pub fn next(&self, steps: &[&Step]) -> usize {
        let work = self.queue.lock().unwrap_or_else(PoisonError::into_inner).work;
        fitting(steps.iter().map(|step| step.cost()), work)
    }

    /// Submits steps, behind others that had to make room.
    ///
    /// # Errors
    /// As [`Link::wait`].
    pub fn submit(&self, link: &Link, steps: &[&Step]) -> Result<()> {
        let pass = link.pass();
        // Whoever comes from another thread waits here.
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.under_way.len() >= UNDER_WAY
            && let Some(first) = queue.under_way.pop_front()
        {
            let waited = link.wait(Some(&first.submission), PATIENCE)?;
            let now = Instant::now();
            // It began when it was submitted, or when the one before had run.
            let begun = queue.seen.map_or(first.since, |seen| seen.max(first.since));
            queue.seen = waited.then_some(now);
            // What had run before anybody looked took less than it seems.
            if waited || now - begun <= self.bound {
                queue.work = learned(queue.work, first.work, now - begun, self.bound);
            }
        }
        let since = Instant::now();
        let submission = link.submit_with(&pass, |encoder| Step::encode(steps.iter().copied(), encoder, None));
        queue.under_way.push_back(UnderWay { submission, work: steps.iter().map(|step| step.cost()).sum(), since });
        link.check()
    }
}

/// How many of these there is room for in `work`: at least one, if there is one.
fn fitting(costs: impl Iterator<Item = f64>, work: f64) -> usize {
    let mut sum = 0.0;
    let mut within = |cost: &f64| {
        sum += cost;
        sum <= work
    };
    costs.enumerate().take_while(|(i, cost)| within(cost) || *i == 0).count()
}

/// The work to give a submission after one of `done` work `took` so long, where `work` was meant and `bound` is the most that
/// it may take.
fn learned(work: f64, done: f64, took: Duration, bound: Duration) -> f64 {
    let right = MEANT * done * bound.as_secs_f64() / took.as_secs_f64().max(1e-6);
    let next = if took > bound {
        // Too long: less at once, but not on the word of one frame of the host's that was long.
        right.min(work).max(work / 8.0)
    } else if done >= work / 2.0 {
        right.min(GROWTH * work).max(work)
    } else {
        // A small one takes what any submission takes, and says little of large ones.
        work
    };
    next.clamp(WORK[0], WORK[1])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{WORK, fitting, learned};

    const BOUND: Duration = Duration::from_millis(4);

    /// The work after `turns` submissions, full ones, on a device that does so much in a second and begins so late.
    fn after(turns: usize, mut work: f64, per_second: f64, late: f64) -> f64 {
        for _ in 0..turns {
            work = learned(work, work, Duration::from_secs_f64(late + work / per_second), BOUND);
        }
        work
    }

    #[test]
    fn devices_fast_and_slow_are_learned_from_a_cautious_start() {
        for (per_second, late) in [(1e9, 0.0), (5e10, 1e-4), (1e12, 3e-4), (1e13, 3e-4)] {
            let work = after(40, 2e8, per_second, late);
            let takes = late + work / per_second;
            assert!((0.5..=1.0).contains(&(takes / BOUND.as_secs_f64())), "{per_second:e}: {takes} s");
        }
        // From one device's work to a tenth of its speed, as when the host begins to draw: at once.
        let work = after(40, 2e8, 1e12, 0.0);
        assert!(after(2, work, 1e11, 0.0) <= 1e11 * BOUND.as_secs_f64());
    }

    #[test]
    fn nothing_leads_out_of_bounds() {
        assert_eq!(learned(WORK[0], WORK[0], Duration::from_secs(100), BOUND), WORK[0]);
        assert_eq!(learned(WORK[1], WORK[1], Duration::ZERO, BOUND), WORK[1]);
        // A small one that was quick, and one that was slow.
        assert_eq!(learned(1e9, 1e6, Duration::from_millis(1), BOUND), 1e9);
        assert!(learned(1e9, 1e6, Duration::from_millis(8), BOUND) < 1e9);
        // A single long one costs no more than seven eighths.
        assert_eq!(learned(1e9, 1e9, Duration::from_secs(100), BOUND), 1e9 / 8.0);
    }

    #[test]
    fn steps_go_together_while_they_fit_and_one_always_goes() {
        let costs = [3.0, 3.0, 5.0, 1.0];
        let counts = [0.0, 3.0, 5.9, 6.0, 11.0, 12.0, 99.0].map(|work| fitting(costs.into_iter(), work));
        assert_eq!(counts, [1, 1, 1, 2, 3, 4, 4]);
        assert_eq!(fitting([].into_iter(), 5.0), 0);
    }
}
