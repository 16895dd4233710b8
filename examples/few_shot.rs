//! Few-shot adaptation from an application: learn from a folder of pictures by any method, on a thread of its own, and keep what
//! was learned as a file that `tipi predict` reads too.
//!
//! `cargo run --release --example few_shot -- examples/pictos/shifted adapter.safetensors tip-adapter`

use std::time::Duration;

use tipi::{DeviceOptions, Examples, FitOptions, Gpu, Job, Method, Model, Unwatched};

fn main() -> tipi::Result<()> {
    let mut args = std::env::args().skip(1);
    let data = args.next().unwrap_or_else(|| "examples/pictos/shifted".into());
    let out = args.next().unwrap_or_else(|| "adapter.safetensors".into());
    let method = Method::named(&args.next().unwrap_or_else(|| "tip-adapter".into()))?;

    let gpu = Gpu::open(&DeviceOptions::default())?;
    let model = Model::load(&gpu, "weights/picto")?;

    // Two pictures of each class to learn from, and up to two to choose settings on.
    let (examples, broken) = Examples::of_folder(data)?.choose(2, 1, &mut Unwatched)?;
    broken.iter().for_each(|error| println!("left out: {error}"));

    let options = FitOptions::new(method).with_template("an icon of {}");
    let mut job = Job::start(move |watch| model.fit(&examples, &options, watch));
    let (classifier, report) = loop {
        // A program with a window would draw this, and `job.cancel()` where the user wants to stop.
        let progress = job.progress();
        println!("{} {:.0} % {}", progress.what, 100.0 * progress.share(), progress.beside);
        if let Some(result) = job.take() {
            break result?;
        }
        std::thread::sleep(Duration::from_millis(200));
    };

    let right = 100.0 * report.validation_accuracy.unwrap_or(0.0);
    println!(
        "{method}: {}; {right:.1} % of {} validation pictures right",
        classifier.facts(),
        report.validation_pictures
    );
    classifier.save(&out)?;
    println!("{} classes: {out}", classifier.classes().len());
    Ok(())
}
