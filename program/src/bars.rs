//! Shows progress: a bar for the current work, one for results, and lines of text where there is no terminal.

use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar};
use tipi::low_level::eval::{self, Record};
use tipi::low_level::watch::Watch;

use crate::terminal::note;
use crate::{stop, ui};

/// Progress: results so far, and the work under way.
pub struct Bars {
    all: MultiProgress,
    results: Option<ProgressBar>,
    work: Option<ProgressBar>,
    /// Whether results are told one by one.
    tells: bool,
    start: Instant,
    /// When progress was last written as text, which happens where stderr is not a terminal.
    told: Instant,
}

/// How often progress is written as text.
const TELL: Duration = Duration::from_secs(30);

impl Bars {
    /// Bars that stop the work when the user asks for it.
    pub fn new() -> Bars {
        let now = Instant::now();
        let all = MultiProgress::new();
        Bars { all, results: None, work: None, tells: true, start: now, told: now }
    }

    /// The same, without a line for each result.
    pub fn quiet(self) -> Bars {
        Bars { tells: false, ..self }
    }

    fn say(&self, text: &str) {
        self.all.suspend(|| note!("{text}"));
    }

    /// Takes all bars away.
    pub fn clear(&mut self) {
        for bar in self.work.take().into_iter().chain(self.results.take()) {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Bars {
    fn begin(&mut self, what: &str, total: usize) {
        self.end();
        self.work = Some(self.all.add(ui::bar(total, what)));
    }

    fn at(&mut self, done: usize) -> tipi::Result<()> {
        if let Some(bar) = &self.work {
            bar.set_position(done as u64);
            if bar.is_hidden() && self.told.elapsed() >= TELL {
                self.told = Instant::now();
                let (all, rate) = (bar.length().unwrap_or_default(), bar.per_sec());
                note!("{}: {done}/{all}, {rate:.1}/s, {} left", bar.message(), HumanDuration(bar.eta()));
            }
        }
        stop::check()
    }

    fn show(&mut self, text: &str) {
        if let Some(bar) = &self.work {
            ui::show(bar, text);
        }
    }

    fn end(&mut self) {
        if let Some(bar) = self.work.take() {
            bar.finish_and_clear();
        }
    }

    fn note(&mut self, text: &str) {
        self.say(text);
    }
}

impl eval::Watch for Bars {
    fn result(&mut self, record: &Record, done: usize, all: usize) {
        let bar = self.results.get_or_insert_with(|| self.all.insert(0, ui::bar(all, "results"))).clone();
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        let task = record.task;
        if self.tells {
            self.say(&format!(
                "[{done}/{all}] {} {} {} seed {}: {:.1} % of {} right ({:.0} s so far)",
                record.dataset,
                task.what(),
                task.shots.number().map_or_else(|| task.shots.title(), |count| format!("{count}-shot")),
                task.seed,
                100.0 * record.accuracy,
                record.test,
                self.start.elapsed().as_secs_f64()
            ));
        }
        if done == all {
            bar.finish_and_clear();
            self.results = None;
        }
    }
}
