//! `tipi search`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use tipi::Error;
use tipi::low_level::adapt::method::{self, Method};
use tipi::low_level::adapt::search::{self, Grid};
use tipi::low_level::adapt::tip::{self, Cache};
use tipi::low_level::adapt::tip_x::TipX;
use tipi::low_level::adapt::zero_shot::Classifier;
use tipi::low_level::adapt::{METHODS, accuracy};
use tipi::low_level::clip::Features;
use tipi::low_level::gpu::Gpu;
use tipi::low_level::numbers;

use crate::common::{self, FormerGpuArgs};
use crate::tensors::TensorFile;
use crate::terminal;
use crate::ui;

/// The methods that are searched over a grid.
fn searched(text: &str) -> Result<&'static dyn Method, String> {
    let known =
        || METHODS.iter().filter(|m| m.info().needs.grid && !m.info().needs.training && !m.info().needs.correction);
    match method::find(text) {
        Ok(method) if known().any(|known| *known == method) => Ok(method),
        _ => Err(format!("it must be one of {}", known().map(|m| m.info().name).collect::<Vec<_>>().join(", "))),
    }
}

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// tip-adapter or tip-x. If all files have `adapted` features, it is the ++ form.
    #[arg(long, value_parser = searched)]
    method: &'static dyn Method,
    /// Cache: a file with `features` [n,D] f32 and `labels` [n] i64; for ++ with `adapted` [n,D] f32, too.
    #[arg(long, value_name = "F.safetensors")]
    cache: PathBuf,
    /// Text classifier: `weights` [C,D] f32.
    #[arg(long, value_name = "F.safetensors")]
    classifier: PathBuf,
    /// Pictures to choose on: a file like the cache.
    #[arg(long, value_name = "F.safetensors")]
    val: PathBuf,
    /// Pictures to test the choice on: a file like the cache.
    #[arg(long, value_name = "F.safetensors")]
    test: Option<PathBuf>,
    /// `paper`, `tip-adapter:DATASET`, or ranges with both ends: alpha=lo:hi:n,beta=lo:hi:n,gamma=lo:hi:n. α and γ lie within
    /// -1e9 to 1e9, β within -20 to 1e9; at most 10000000 points in all.
    #[arg(long, default_value = "paper")]
    grid: String,
    /// The model's logit scale, exp(logit_scale), from 1e-6 to 1e6.
    #[arg(long, default_value_t = 100.0, allow_negative_numbers = true, value_parser = common::within(numbers::LOGIT_SCALE))]
    scale: f64,
    /// Accept a cache in which a class has no pictures.
    #[arg(long)]
    allow_empty_classes: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    gpu: FormerGpuArgs,
}

/// Features with their labels.
struct Set {
    path: PathBuf,
    features: Features,
    labels: Vec<u32>,
}

/// Reads features of width `d` with labels below `classes`.
fn read(path: &Path, d: usize, classes: usize) -> Result<Set, Error> {
    let file = TensorFile::open(path)?;
    let rows = |name: &str| {
        let (shape, values) = file.f32(name)?;
        match shape[..] {
            [n, width] if width == d && n > 0 => Ok(values),
            [0, _] => Err(Error::data(path, format!("'{name}' has no rows: it must hold at least one picture"))),
            _ => Err(file.form(name, format!("[n, {d}] of F32, as wide as the classifier"))),
        }
    };
    let original = rows("features")?;
    let adapted = if file.has("adapted") { Some(rows("adapted")?) } else { None };
    let n = original.len() / d;
    if adapted.as_ref().is_some_and(|a| a.len() != original.len()) {
        return Err(file.form("adapted", format!("[{n}, {d}] of F32, as 'features'")));
    }
    let (shape, labels) = file.integers("labels")?;
    if shape != [n] {
        return Err(file.form("labels", format!("[{n}] integers, one for each of 'features'")));
    }
    let labels = labels
        .iter()
        .enumerate()
        .map(|(row, label)| match u32::try_from(*label) {
            Ok(label) if (label as usize) < classes => Ok(label),
            _ => Err(Error::data(
                path,
                format!("row {row} of 'labels' is {label}; the classifier has {classes} classes, 0…{}", classes - 1),
            )),
        })
        .collect::<Result<Vec<u32>, Error>>()?;
    Ok(Set { path: path.to_path_buf(), features: Features { original, adapted }, labels })
}

fn read_classifier(gpu: &Gpu, path: &Path, scale: f32) -> Result<Classifier, Error> {
    let file = TensorFile::open(path)?;
    let (shape, weights) = file.f32("weights")?;
    let [classes, d] = shape[..] else {
        return Err(file.form("weights", "[C, D] of F32".into()));
    };
    if classes == 0 || d == 0 {
        return Err(file.form("weights", "[C, D] of F32 with C and D above 0".into()));
    }
    Classifier::from_features(gpu, &weights, classes, d, scale)
}

/// Searches.
pub fn run(args: &Args) -> Result<()> {
    let gamma = args.method.info().needs.gamma;
    let grid = Grid::parse(&args.grid, gamma)?;
    let gpu = args.gpu.open()?;
    let gpu = &gpu;
    let classifier = read_classifier(gpu, &args.classifier, args.scale as f32)?;
    let (classes, d) = (classifier.classes(), classifier.weights.cols());
    let cached = read(&args.cache, d, classes)?;
    let val = read(&args.val, d, classes)?;
    let test = args.test.as_ref().map(|path| read(path, d, classes)).transpose()?;
    let corrected = cached.features.adapted.is_some();
    for set in [Some(&val), test.as_ref()].into_iter().flatten() {
        if set.features.adapted.is_some() != corrected {
            let (with, without) = if corrected { (&cached, set) } else { (set, &cached) };
            return Err(Error::data(
                &without.path,
                format!(
                    "there are no 'adapted' features, but {} has them: all files need them, or none",
                    with.path.display()
                ),
            )
            .into());
        }
    }
    let empty = (0..classes as u32).find(|c| !cached.labels.contains(c));
    if let Some(class) = empty.filter(|_| !args.allow_empty_classes) {
        return Err(Error::data(
            &args.cache,
            format!("class {class} has no key; add a picture of it, or accept that with --allow-empty-classes"),
        )
        .into());
    }
    common::announce(gpu);
    let clock = Instant::now();
    let keys = tip::keys_of_pictures(gpu, &cached.features, 1, d)?;
    let cache = Cache::new(gpu, keys.affinity(), &cached.labels, classes, d)?;
    let tip_x = match gamma {
        false => None,
        true => {
            let tip_x = TipX::new(gpu, &classifier, cache.clone(), &keys.original, &cached.labels)?;
            let psi = tip_x.range(gpu, &classifier, &val.features)?;
            Some((tip_x, psi))
        }
    };
    let searched = match &tip_x {
        Some((tip_x, psi)) => (tip_x, *psi).into(),
        None => (&cache).into(),
    };
    let bar = ui::bar(1000, "searching");
    let found = search::search(gpu, &classifier, searched, &val.features, &val.labels, &grid, &mut |share| {
        bar.set_position((1000.0 * share) as u64);
    })?;
    bar.finish_and_clear();
    let seconds = clock.elapsed().as_secs_f64();
    let val_accuracy = f64::from(found.correct) / val.labels.len() as f64;
    // Tip-X's ψ depends on the pictures it is taken over. The paper takes all test pictures; with the range frozen on
    // val no answer depends on the others.
    let (mut test_accuracy, mut frozen) = (None, None);
    if let Some(test) = &test {
        let right = |logits: Vec<f32>| accuracy(&logits, &test.labels, classes);
        match &tip_x {
            Some((tip_x, psi)) => {
                let logits = |psi| tip_x.logits(gpu, &classifier, &test.features, found.params, psi);
                test_accuracy = Some(right(logits(None)?));
                frozen = Some(right(logits(Some(*psi))?));
            }
            None => test_accuracy = Some(right(cache.logits(gpu, &classifier, &test.features, found.params.tip())?)),
        }
    }
    let name = args.method.corrected().filter(|_| corrected).unwrap_or(args.method).info().name;
    let params = found.params;
    if args.json {
        let mut object = serde_json::json!({
            "method": name,
            "best": { "alpha": params.alpha, "beta": params.beta, "gamma": params.gamma },
            "val_accuracy": val_accuracy,
            "test_accuracy": test_accuracy,
            "points": grid.len(),
            "seconds": seconds,
        });
        if let Some(frozen) = frozen {
            object["test_accuracy_frozen_range"] = frozen.into();
        }
        terminal::print_json(&object, true)?;
    } else {
        let percent = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.2} %", 100.0 * v));
        let mut table = ui::table(&["method", "alpha", "beta", "gamma", "val", "test", "points", "seconds"]);
        table.add_row([
            name.to_string(),
            format!("{:.4}", params.alpha),
            format!("{:.4}", params.beta),
            format!("{:.4}", params.gamma),
            percent(Some(val_accuracy)),
            percent(test_accuracy),
            grid.len().to_string(),
            format!("{seconds:.2}"),
        ]);
        terminal::print(&table.to_string())?;
        if let Some(frozen) = frozen {
            terminal::print(&format!(
                "test with ψ's range frozen on val, as `tipi predict` does: {:.2} %",
                100.0 * frozen
            ))?;
        }
    }
    common::finish(gpu);
    Ok(())
}
