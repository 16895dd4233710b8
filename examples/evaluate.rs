//! The papers' protocol on a folder of pictures, from a program of your own.
//!
//! ```sh
//! cargo run --release --example evaluate -- weights/picto examples/pictos/shifted out
//! ```

use tipi::{Dataset, DeviceOptions, Error, EvaluationOptions, Gpu, How, Method, Model, Shots, Watch};

/// Prints what happens. An application would move its progress bar, and return `Error::Stopped` from `at` when the user wants
/// to stop (or run all this as a `Job`): the same run goes on later.
struct Print;

impl Watch for Print {
    fn begin(&mut self, what: &str, total: usize) {
        println!("{what} ({total})");
    }

    fn at(&mut self, _done: usize) -> tipi::Result<()> {
        Ok(())
    }

    fn end(&mut self) {}

    fn note(&mut self, text: &str) {
        println!("note: {text}");
    }
}

fn main() -> tipi::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, data, out] = &arguments[..] else {
        let reason = "give a model folder, a folder of pictures by class, and a folder for results";
        return Err(Error::Invalid(reason.into()));
    };
    let gpu = Gpu::open(&DeviceOptions::default())?;
    let model = Model::load(&gpu, model)?;
    let methods = ["zero-shot", "tip-adapter", "tip-x"].map(Method::named);
    let options = EvaluationOptions {
        methods: methods.into_iter().collect::<tipi::Result<_>>()?,
        shots: [1, 2].map(Shots::UpTo).to_vec(),
        how: How { views: 10, grid: "standard".into(), ..How::default() },
        ..EvaluationOptions::new(out).with_template("an icon of {}")
    };
    let results = model.evaluate_each(&[Dataset::open(data)?], &options, &mut Print, &mut |outcome, done, all| {
        let (method, shots, seed) = (outcome.method, outcome.shots, outcome.seed);
        println!("{done}/{all}: {method}, {shots} shots, seed {seed}: {:.1} %", 100.0 * outcome.accuracy);
    })?;
    for mean in results.means() {
        let (accuracy, deviation) = (100.0 * mean.accuracy, 100.0 * mean.deviation);
        println!("{}, {} shots: {accuracy:.1} ± {deviation:.1} %", mean.method.title(), mean.shots);
    }
    println!("{}", results.write_report()?.display());
    Ok(())
}
