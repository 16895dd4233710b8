//! `tipi neighbours`.

mod pictures;
mod print;

use std::path::{Path, PathBuf};

use anyhow::Result;
use tipi::Error;
use tipi::low_level::clip::Clip;
use tipi::low_level::neighbours::{NONE, Near, ROUNDING, Rows};
use tipi::low_level::numbers;
use tipi::low_level::watch::Watch;

use self::pictures::Known;
use crate::bars::Bars;
use crate::common::{self, GpuArgs, LoraArgs, PictureArgs, PrecisionArgs};
use crate::paths::Paths;
use crate::stop;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Model: a folder, a file of weights, or ORG/NAME (or ORG/NAME@REVISION) on the hub. With --features it is needed for --query and --text alone.
    #[arg(long, value_name = "PATH|ORG/NAME", required_unless_present = "features")]
    model: Option<PathBuf>,
    #[command(flatten)]
    lora: LoraArgs,
    /// Look for what is most like this picture. May be given several times. Without --query and --text, each picture is compared
    /// with all others.
    #[arg(long = "query", value_name = "PICTURE")]
    queries: Vec<PathBuf>,
    /// Look for the pictures that this text says most of. May be given several times.
    #[arg(long = "text", value_name = "TEXT")]
    texts: Vec<String>,
    /// How many to find, from 1 to 1000. By default 5.
    #[arg(long, value_name = "N", value_parser = common::count(1, MOST))]
    k: Option<usize>,
    /// Only what has at least this cosine, from -1 to 1. Without --query, --text and --k it gives groups of near duplicates.
    #[arg(long, value_name = "COSINE", allow_negative_numbers = true, value_parser = common::within(numbers::COSINE))]
    above: Option<f64>,
    /// Look among the rows of a file from `tipi embed` in place of pictures.
    #[arg(long, value_name = "F.safetensors", conflicts_with = "paths")]
    features: Option<PathBuf>,
    /// Pictures and folders of pictures to look among.
    #[arg(required_unless_present = "features")]
    paths: Vec<PathBuf>,
    /// Print JSON instead of a table.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV instead of a table.
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    gpu: GpuArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
}

/// The most neighbours that can be asked for.
const MOST: usize = 1000;

/// Neighbours where nobody says how many.
const USUAL: usize = 5;

/// What was asked about, and what was found for each.
struct Answers {
    asked: Vec<Asked>,
    found: Vec<Vec<Near>>,
}

/// What neighbours are of.
enum Asked {
    /// A picture that was named.
    Picture(PathBuf),
    /// A text.
    Text(String),
    /// One of those that are looked among, by its number.
    Row(usize),
}

/// Finds.
pub fn run(args: &Args) -> Result<()> {
    let asks = !args.queries.is_empty() || !args.texts.is_empty();
    if asks && args.model.is_none() {
        return Err(invalid("--query and --text need --model: the one that made the features"));
    }
    args.queries.iter().try_for_each(|query| pictures::check_query(query))?;
    if args.texts.iter().any(|text| text.trim().is_empty()) {
        return Err(invalid("--text is empty: say what to look for"));
    }
    let walk = args.pictures.walk()?;
    let listed = Paths(args.paths.iter().map(|path| (path.clone(), true)).collect()).list(&walk)?;
    let file = args.features.as_deref().map(pictures::File::open).transpose()?;
    let gpu = args.gpu.open()?;
    let load = |model: &Path| -> Result<Clip> {
        Ok(args.pictures.depth.of(args.precision.load(&gpu, &args.lora.source(model)?)?))
    };
    let clip = args.model.as_deref().map(load).transpose()?;
    if let Some(clip) = &clip {
        args.texts.iter().try_for_each(|text| check_text(clip, text))?;
    }
    let known = match (file, &clip) {
        (Some(file), clip) => file.known(clip.as_ref())?,
        (None, Some(clip)) => pictures::encode(clip, &args.pictures, &listed)?,
        (None, None) => return Err(invalid("--model is needed to look at pictures")),
    };
    common::announce(&gpu);
    let Known { names, values, width } = known;
    let rows = Rows::new(&gpu, values, width)?;
    let least = args.above.unwrap_or(-1.0);
    stop::listen();
    if !asks && args.above.is_some() && args.k.is_none() {
        let groups = compared(rows.len(), |done| rows.groups(least, done))?;
        print::groups(args, &names, &groups)?;
    } else {
        let most = args.k.unwrap_or(USUAL);
        let mut answers = match &clip {
            Some(clip) if asks => about_queries(args, clip, (&names, &rows), most)?,
            _ => Answers {
                asked: (0..rows.len()).map(Asked::Row).collect(),
                found: compared(rows.len(), |done| rows.nearest_others(most, done))?,
            },
        };
        for near in &mut answers.found {
            near.retain(|(_, cosine)| f64::from(*cosine) >= least - ROUNDING);
        }
        print::neighbours(args, &names, &answers)?;
    }
    common::finish(&gpu);
    Ok(())
}

/// What is most like pictures and texts that were given.
fn about_queries(args: &Args, clip: &Clip, (names, rows): (&[pictures::Name], &Rows), most: usize) -> Result<Answers> {
    let mut queries = pictures::encode_queries(clip, &args.pictures, &args.queries)?;
    if !args.texts.is_empty() {
        queries.extend(clip.encode_texts(&args.texts)?);
    }
    // A picture that is looked among is no neighbour of its own.
    let own = args.queries.iter().map(|query| pictures::place(query, names).map_or(NONE, |row| row as u32));
    let own: Vec<u32> = own.chain(args.texts.iter().map(|_| NONE)).collect();
    let pictures = args.queries.iter().cloned().map(Asked::Picture);
    Ok(Answers {
        asked: pictures.chain(args.texts.iter().cloned().map(Asked::Text)).collect(),
        found: compared(own.len(), |done| rows.nearest(queries, &own, most, done))?,
    })
}

/// Work on so many pictures, with a bar that shows how many are done.
fn compared<T>(
    count: usize,
    work: impl FnOnce(&mut dyn FnMut(f64) -> tipi::Result<()>) -> tipi::Result<T>,
) -> tipi::Result<T> {
    let mut bars = Bars::new();
    bars.begin("comparing", count);
    let found = work(&mut |share| bars.at((share * count as f64) as usize));
    bars.clear();
    found
}

/// A text that the model reads to its end.
fn check_text(clip: &Clip, text: &str) -> Result<()> {
    let (tokens, most) = (clip.tokenizer()?.ids(text)?.len(), clip.tokenizer()?.room());
    if tokens > most {
        return Err(invalid(&format!(
            "--text is {tokens} tokens long, and the model reads {most}: say it in fewer words"
        )));
    }
    Ok(())
}

fn invalid(text: &str) -> anyhow::Error {
    Error::Invalid(text.into()).into()
}
