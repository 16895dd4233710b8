//! `tipi overlap`.

use std::path::PathBuf;

use anyhow::Result;
use tipi::Error;
use tipi::low_level::adapt::adapter_file;
use tipi::low_level::adapt::similarity::{self, Similarities};
use tipi::low_level::encode::{self, Views};
use tipi::low_level::output::Kind;
use tipi::low_level::report::histogram::{self, Panel};
use tipi::low_level::text;

use crate::common::{self, GpuArgs, LoraArgs, PictureArgs, PrecisionArgs};
use crate::outputs::{self, ForceArgs};
use crate::terminal;
use crate::ui;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Model: a folder, a file of weights, or ORG/NAME (or ORG/NAME@REVISION) on the hub.
    #[arg(long, value_name = "PATH|ORG/NAME")]
    model: PathBuf,
    #[command(flatten)]
    lora: LoraArgs,
    /// Overlap correction from `tipi fit overlap`, or a ++ adapter. Without it, only the plain model is measured.
    #[arg(long, value_name = "FILE")]
    adapter: Option<PathBuf>,
    /// Folder with one sub-folder of pictures per class.
    #[arg(long, value_name = "FOLDER")]
    data: PathBuf,
    /// Name of the plot, to which .svg and .png are added.
    #[arg(long, value_name = "NAME", default_value = "overlap")]
    plot: PathBuf,
    #[command(flatten)]
    force: ForceArgs,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

/// Measures.
pub fn run(args: &Args) -> Result<()> {
    let plots = ["svg", "png"].map(|extension| {
        let mut name = args.plot.clone().into_os_string();
        name.push(".");
        name.push(extension);
        PathBuf::from(name)
    });
    outputs::refuse_stdout(&args.plot)?;
    let drawing = args.force.open(&plots[0], Kind::Svg)?;
    let picture = args.force.open(&plots[1], Kind::Png)?;
    let file = args.adapter.as_ref().map(|path| adapter_file::File::open(path)).transpose()?;
    let walk = args.pictures.walk()?;
    let folder = common::open_folder(&args.data, &walk)?;
    let model = args.lora.source(&args.model)?;
    for output in [&drawing, &picture] {
        args.adapter.iter().try_for_each(|path| output.reads(path, "an adapter"))?;
        outputs::read_items(output, &folder.items)?;
        walk.refuse_picture(output.path())?;
        common::read_model(output, &model)?;
    }
    let gpu = args.gpu.open()?;
    let clip = args.pictures.depth.of(args.precision.load(&gpu, &model)?);
    let adapter = file.map(|file| file.bind(&clip)).transpose()?;
    let correction = match &adapter {
        Some(adapter) => Some(adapter.correction().ok_or_else(|| {
            Error::Invalid("--adapter has no overlap correction; `tipi fit overlap` makes one".into())
        })?),
        None => None,
    };
    common::announce(&gpu);
    let mut encoder = args.pictures.encoder(&clip, folder.items.len(), common::tower(correction))?;
    let bar = ui::bar(folder.items.len(), "encoding pictures");
    let strict = args.pictures.strict;
    let all = encode::encode(&mut encoder, &folder.items, &Views::Center, strict, &mut |n| bar.inc(n as u64))?;
    bar.finish_and_clear();
    common::report_skipped(&all.skipped);
    let (labels, d) = (all.labels(), clip.config.embedding);
    let bar = ui::bar(1000, "counting pairs");
    let measure = |features: &[f32]| {
        similarity::measure(&gpu, features, &labels, d, &mut |share| bar.set_position((1000.0 * share) as u64))
    };
    let before = measure(&all.features.original)?;
    let after = all.features.adapted.as_deref().map(measure).transpose()?;
    bar.finish_and_clear();
    let mut panels = vec![Panel::new("before correction", &before)];
    panels.extend(after.as_ref().map(|after| Panel::new("after correction", after)));
    let title = format!(
        "{} of {}",
        text::count(labels.len(), "picture", "pictures"),
        text::count(folder.classes.len(), "class", "classes")
    );
    let svg = histogram::svg(&title, &panels);
    drawing.write(svg.as_bytes())?;
    picture.write(&tipi::low_level::report::png(&svg)?)?;
    print(args, labels.len(), &before, after.as_ref(), &plots)?;
    common::finish(&gpu);
    Ok(())
}

fn print(
    args: &Args,
    pictures: usize,
    before: &Similarities,
    after: Option<&Similarities>,
    plots: &[PathBuf; 2],
) -> Result<()> {
    if args.json {
        let json = |s: &Similarities| {
            serde_json::json!({
                "overlap": s.overlap(),
                "mean_same": Similarities::mean(&s.same),
                "mean_different": Similarities::mean(&s.different),
                "feature_variance": s.variance,
                "same": s.same,
                "different": s.different,
            })
        };
        let object = serde_json::json!({
            "pictures": pictures,
            "pairs": before.same.iter().chain(&before.different).sum::<u64>(),
            "bins": similarity::BINS,
            "range": [-1.0, 1.0],
            "before": json(before),
            "after": after.map(json),
            "plots": plots,
        });
        terminal::print_json(&object, false)?;
        return Ok(());
    }
    let mut table = ui::table(&["", "overlap", "same class", "different class", "feature variance"]);
    for (name, s) in [("before", Some(before)), ("after", after)] {
        let Some(s) = s else { continue };
        table.add_row([
            name.to_string(),
            format!("{:.4}", s.overlap()),
            format!("{:.4}", Similarities::mean(&s.same)),
            format!("{:.4}", Similarities::mean(&s.different)),
            format!("{:.4}", s.variance),
        ]);
    }
    terminal::print(&format!(
        "{table}\nmean cosine similarities of pairs; plot: {}",
        text::escaped(&text::path(&plots[1]))
    ))?;
    Ok(())
}
