//! Methods, and learning.

use serde_json::json;
use tipi::{FitOptions, Method, Report, Setting};

use crate::classifier::{Bound, TipiClassifier};
use crate::correction::{TipiCorrection, Trained};
use crate::examples::{Examples, TipiExamples};
use crate::foreign::{Options, Place, TipiStr, kept, options, place, texts};
use crate::gpu::NONE;
use crate::handle::{Held, held, held_or_none};
use crate::model::{Loaded, TipiModel};
use crate::owned::{Text, TipiText};
use crate::status::{Failure, Result, TipiStatus, guard};
use crate::watch::{TipiWatch, watched};

/// How learning went.
pub struct TipiReport {
    _private: [u8; 0],
}

impl Held for Report {
    type Handle = TipiReport;
    const KIND: &'static str = "a TipiReport";
}

/// A way to learn from few pictures.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiMethod {
    /// The name that options and files have.
    pub name: TipiStr,
    /// The name that people read.
    pub title: TipiStr,
    /// What it does, in a sentence.
    pub about: TipiStr,
    /// Where it was published.
    pub paper: TipiStr,
    /// Whether it needs a correction.
    pub needs_correction: bool,
    /// Whether it trains, which takes longer than a method that only computes.
    pub trains: bool,
}

/// How to learn.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiFitOptions {
    /// `sizeof(TipiFitOptions)`.
    pub size: usize,
    /// The method's name: one of `tipi_method_get`. It must be given.
    pub method: TipiStr,
    /// Its settings, as a JSON object: {"epochs": 20}. What is not in it, or all where it is empty, is the paper's. `tipi_method_settings`
    /// tells what there is.
    pub settings: TipiStr,
    /// How pictures are seen and parameters searched, as a JSON object of key_views, augment, views, grid and judge_by ("left-out" or
    /// "validation"). What is not in it, or all where it is empty, is the papers'.
    pub how: TipiStr,
    /// Prompts with {} where the class's name goes; several are averaged. NULL for "a photo of a {}.".
    pub templates: *const TipiStr,
    /// How many there are.
    pub template_count: usize,
    /// The prompt's words before the class's name, for PiNI; where it is empty, those of the first template.
    pub words: TipiStr,
    /// For methods that need one, or become another with one; NULL for none.
    pub correction: *const TipiCorrection,
    /// Seed of views and of training, counted where `has_seed` is not 0; else it is 1. The same seed gives the same adapter, to the bit,
    /// on the same device.
    pub seed: u64,
    /// Whether `seed` counts.
    pub has_seed: i32,
    /// A file that keeps a training's state on its way: one that was stopped goes on from it, with the same examples and options,
    /// and ends with the same bytes. It is removed once all is learned. Where it is empty, what was stopped is lost.
    pub checkpoint: TipiStr,
}

// SAFETY: it is so.
unsafe impl Options for TipiFitOptions {
    const USUAL: TipiFitOptions = TipiFitOptions {
        size: size_of::<TipiFitOptions>(),
        method: NONE,
        settings: NONE,
        how: NONE,
        templates: std::ptr::null(),
        template_count: 0,
        words: NONE,
        correction: std::ptr::null(),
        seed: 0,
        has_seed: 0,
        checkpoint: NONE,
    };
}

/// How learning went.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiReportInfo {
    /// Share of validation pictures that are right, from 0 to 1; NaN where there are none.
    pub validation_accuracy: f64,
    /// Validation pictures.
    pub validation_pictures: usize,
    /// Cross-entropy by epoch, where something was trained.
    pub losses: *const f32,
    /// How many there are.
    pub loss_count: usize,
}

/// How many methods there are.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_method_count() -> usize {
    Method::all().count()
}

/// The method of this number, from 0 on, in the order in which tables have them.
///
/// Ownership: the texts of `*method` are there as long as the process is.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_method_get(number: usize, method: *mut TipiMethod) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let found = Method::all().nth(number);
        let wrong = || Failure::invalid(format!("number is {number}, and there are {} methods", Method::all().count()));
        let found = found.ok_or_else(wrong)?;
        let words = words_of(found);
        place("method", method)?.write(TipiMethod {
            name: words[0],
            title: words[1],
            about: words[2],
            paper: words[3],
            needs_correction: found.needs_correction(),
            trains: found.trains(),
        });
        Ok(())
    })
}

/// Name, title, what it does and where it was published, with NULs at their ends.
fn words_of(method: Method) -> [TipiStr; 4] {
    use std::collections::BTreeMap;
    use std::sync::LazyLock;
    static WORDS: LazyLock<BTreeMap<&str, Vec<crate::foreign::Kept>>> = LazyLock::new(|| {
        let of = |method: Method| {
            let words = [method.name(), method.title(), method.about(), method.paper()];
            (method.name(), kept(&words.map(String::from)))
        };
        Method::all().map(of).collect()
    });
    let words = WORDS.get(method.name());
    std::array::from_fn(|i| words.and_then(|words| words.get(i)).map_or_else(TipiStr::default, |word| word.str()))
}

/// The settings of the method of this name, as a JSON array of {"name", "help", "default"}.
///
/// Ownership: `method` is copied. `*settings` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_method_settings(method: TipiStr, settings: *mut *mut TipiText) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let settings = Place::at("settings", settings)?;
        let method = Method::named(method.text("method")?)?;
        let of = |setting: Setting| json!({"name": setting.name, "help": setting.help, "default": setting.default});
        let all: serde_json::Value = method.settings().into_iter().map(of).collect();
        settings.put(Text(all.to_string().as_str().into()));
        Ok(())
    })
}

/// # Safety
/// The options are what their type says.
unsafe fn fit_options(asked: &TipiFitOptions) -> Result<FitOptions> {
    // SAFETY: as promised.
    unsafe {
        let Some(method) = asked.method.given("fit_options.method")? else {
            let names = Method::all().map(Method::name).collect::<Vec<_>>().join(", ");
            return Err(Failure::invalid(format!("fit_options.method is empty: give one of {names}")));
        };
        let mut options = FitOptions::new(Method::named(method)?);
        if let Some(settings) = asked.settings.given("fit_options.settings")? {
            options = options.with_settings(settings)?;
        }
        if let Some(how) = asked.how.given("fit_options.how")? {
            options = options.with_how(how)?;
        }
        let templates = texts("fit_options.templates", asked.templates, asked.template_count)?;
        if let Some(first) = templates.first() {
            options = options.with_template(first);
            options.templates = templates.into_iter().map(String::from).collect();
        }
        if let Some(words) = asked.words.given("fit_options.words")? {
            options.words = words.into();
        }
        let correction = held_or_none::<Trained>("fit_options.correction", asked.correction)?;
        options.correction = correction.map(|trained| trained.correction.clone());
        if asked.has_seed != 0 {
            options.seed = asked.seed;
        }
        options.checkpoint = asked.checkpoint.given("fit_options.checkpoint")?.map(Into::into);
        Ok(options)
    }
}

/// Learns from examples. `report` says how it went. `watch` and `report` may be NULL.
///
/// Ownership: the options are copied. `*classifier` and `*report` are the caller's, to be freed with `tipi_free`. The classifier keeps
/// the model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_model_fit(
    model: *const TipiModel,
    examples: *const TipiExamples,
    fit_options: *const TipiFitOptions,
    watch: *const TipiWatch,
    classifier: *mut *mut TipiClassifier,
    report: *mut *mut TipiReport,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let report = Place::at_or_none("report", report)?;
        let classifier = Place::at("classifier", classifier)?;
        let loaded = held::<Loaded>("model", model)?;
        let examples = held::<Examples>("examples", examples)?.now();
        let asked = self::fit_options(&options("fit_options", fit_options)?)?;
        let (fitted, went) = watched(watch, |watch| loaded.model.fit(&examples, &asked, watch))?;
        classifier.put(Bound::new(fitted));
        report.into_iter().for_each(|place| place.put(went.clone()));
        Ok(())
    })
}

/// How learning went.
///
/// Ownership: the losses of `*info` are those of `report`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_report_get(report: *const TipiReport, info: *mut TipiReportInfo) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let report = held::<Report>("report", report)?;
        place("info", info)?.write(TipiReportInfo {
            validation_accuracy: report.validation_accuracy.unwrap_or(f64::NAN),
            validation_pictures: report.validation_pictures,
            losses: report.losses.as_ptr(),
            loss_count: report.losses.len(),
        });
        Ok(())
    })
}
