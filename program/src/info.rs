//! `tipi info`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};
use tipi::low_level::clip::{
    Checkpoint, ClipConfig, EndToken, ImageConfig, Pool, Preprocess, Source, Stem, Tokenizer, TowerConfig, VitConfig,
};
use tipi::low_level::gpu::Gpu;
use tipi::low_level::input;
use tipi::low_level::kernels::activation::Activation;
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::memory::{self, Need, Setting};
use tipi::low_level::nn::{Hidden, Norms};
use tipi::low_level::text;

use crate::common::{self, FormerGpuArgs, LoraArgs, PrecisionArgs};
use crate::terminal::{self, note};
use crate::ui;

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Model: a folder, a file of weights, or ORG/NAME on the hub.
    model: PathBuf,
    #[command(flatten)]
    lora: LoraArgs,
    #[command(flatten)]
    precision: PrecisionArgs,
    #[command(flatten)]
    gpu: FormerGpuArgs,
    /// Pictures per step for which to work out the memory, from 1 to 65536.
    #[arg(long, default_value_t = 32, value_parser = common::count(1, common::MOST_BATCH))]
    batch: usize,
    /// Classes for which to work out the memory, from 1 to 100000.
    #[arg(long, default_value_t = 100, value_parser = common::count(1, memory::MOST_CLASSES))]
    classes: usize,
    /// Pictures per class for which to work out the memory, from 1 to 1000000; at most 10000000 in all classes.
    #[arg(long, default_value_t = 16, value_parser = common::count(1, common::MOST_SHOTS))]
    shots: usize,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

impl Args {
    fn setting(&self) -> Setting {
        Setting { batch: self.batch, classes: self.classes, shots: self.shots }
    }
}

/// Describes a model and what it needs. Only the header of the weights is read.
pub fn run(args: &Args) -> Result<()> {
    args.setting().check()?;
    let source = args.lora.source_of_argument(&args.model)?;
    let (checkpoint, config, preprocess) = ClipConfig::open(&source)?;
    let facts = facts(source.folder(), &checkpoint, &config, &preprocess);
    // A model can be described without a GPU. How much memory it would need is then unknown.
    let needs = match args.gpu.open() {
        Ok(gpu) => Some(Needs::of(&gpu, args, &source)?),
        Err(error) if matches!(error.downcast_ref(), Some(tipi::Error::NoDevice)) => {
            note!("the memory that it needs is unknown: {error}");
            None
        }
        Err(error) => return Err(error),
    };
    if args.json {
        let mut all: serde_json::Map<String, Value> =
            facts.iter().map(|(key, value)| ((*key).to_string(), json!(value))).collect();
        all.insert("memory".into(), needs.map_or(Value::Null, |needs| needs.json(args)));
        terminal::print_json(&Value::Object(all), true)?;
        return Ok(());
    }
    let mut table = ui::table(&["", &text::path(source.model())]);
    for (key, value) in &facts {
        table.add_row([*key, value.as_str()]);
    }
    terminal::print(&table.to_string())?;
    if let Some(needs) = needs {
        terminal::print(&needs.table(args))?;
    }
    Ok(())
}

/// As far as batches are looked for.
const LARGEST: usize = 4096;

/// What a model needs of a device.
struct Needs {
    device: String,
    /// What the device has, where that is known.
    available: Option<u64>,
    weights: u64,
    /// Whether it may be more: which matrices int8 would spoil, so that they stay in f16, only their values say.
    least: bool,
    methods: Vec<Need>,
    /// The largest batch of pictures, up to [`LARGEST`]; none where not even one fits.
    largest: Option<usize>,
}

impl Needs {
    fn of(gpu: &Gpu, args: &Args, source: &Source) -> Result<Needs> {
        let clip = args.precision.load(&gpu.rehearsal(), source)?;
        let setting = args.setting();
        Ok(Needs {
            device: gpu.name().into(),
            available: gpu.memory(),
            weights: memory::weights(&clip),
            least: clip.precision() == Precision::Int8,
            methods: memory::needs(&clip, setting)?,
            largest: clip.largest_batch(LARGEST, None).ok(),
        })
    }

    fn json(&self, args: &Args) -> Value {
        let methods: serde_json::Map<String, Value> = self
            .methods
            .iter()
            .map(|n| {
                let value = match &n.bytes {
                    Ok(bytes) => json!(bytes),
                    Err(error) => json!({ "error": error.to_string() }),
                };
                (n.what.to_string(), value)
            })
            .collect();
        json!({
            "device": self.device, "available": self.available, "weights": self.weights, "at least": self.least,
            "batch": args.batch, "classes": args.classes, "shots": args.shots, "methods": methods,
            "largest batch": self.largest,
        })
    }

    fn table(&self, args: &Args) -> String {
        let title = format!(
            "GPU memory at batch {}, {}, {}",
            args.batch,
            text::count(args.classes, "class", "classes"),
            text::count(args.shots, "shot", "shots")
        );
        let mut table = ui::table(&[&title, "MB", "of what there is"]);
        let share = |bytes: u64| match self.available {
            Some(all) => format!("{:.1} %", 100.0 * bytes as f64 / all as f64),
            None => "unknown".into(),
        };
        table.add_row(["the weights alone".to_string(), megabytes(self.weights), share(self.weights)]);
        for need in &self.methods {
            match &need.bytes {
                Ok(bytes) => table.add_row([need.what.to_string(), megabytes(*bytes), share(*bytes)]),
                Err(tipi::Error::OutOfMemory { why, .. }) => {
                    table.add_row([need.what.to_string(), "-".into(), format!("does not fit: {why}")]);
                }
                Err(error) => table.add_row([need.what.to_string(), "-".into(), error.to_string()]),
            };
        }
        let has = match self.available {
            Some(all) => format!("{} has {} MB", self.device, megabytes(all)),
            None => format!("{} does not say how much it has", self.device),
        };
        let largest = match self.largest {
            Some(LARGEST) => format!("pictures can be encoded {LARGEST} at a time and more"),
            Some(batch) => format!("at most {} can be encoded at a time", text::count(batch, "picture", "pictures")),
            None => "not even one picture can be encoded".into(),
        };
        let least = match self.least {
            true => "\nat least: matrices that int8 would spoil stay in f16, as is seen when they are read",
            false => "",
        };
        format!("{table}\n{has}; {largest}{least}")
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// The facts about a model, the most wanted first.
fn facts(
    folder: &Path,
    checkpoint: &Checkpoint,
    config: &ClipConfig,
    preprocess: &Preprocess,
) -> Vec<(&'static str, String)> {
    let blocks =
        |t: &TowerConfig| format!("{} blocks of width {}, {} heads, MLP {}", t.layers, t.width, t.heads, t.mlp);
    let size = config.image_size;
    let (image, activation) = match &config.image {
        ImageConfig::Vit(vit) => {
            let (tower, patch, tokens) = (&vit.tower, vit.patch, config.image_tokens());
            let parts = parts(vit);
            let what =
                format!("ViT, {}; patches of {patch} on {size}×{size} pictures, {tokens} tokens{parts}", blocks(tower));
            (what, activations(tower.hidden, config.text.hidden))
        }
        ImageConfig::ResNet(net) => {
            let [a, b, c, d] = net.stages;
            let what = format!(
                "modified ResNet, stages of {a}, {b}, {c}, {d} blocks, width {}, attention pooling with {} heads; {size}×{size} \
                 pictures",
                net.width, net.heads
            );
            (what, format!("ReLU in the image tower, {} in the text tower", name(config.text.hidden)))
        }
    };
    let end = match config.end {
        EndToken::HighestId => "highest id".to_string(),
        EndToken::First(id) => format!("id {id}"),
        EndToken::Last => "the last position".to_string(),
        EndToken::Mean { .. } => "none: the mean of all tokens is read".to_string(),
    };
    let attention = if config.causal { "" } else { ", each of which sees all others" };
    let inside: String = inside(&config.text).map(|part| format!(", {part}")).collect();
    let count = checkpoint.parameters();
    let stored = checkpoint.stored();
    let types: Vec<String> = stored.iter().map(|(dtype, _)| dtype.clone()).collect();
    let tokenizer = match Tokenizer::of_folder(folder, config) {
        Ok(tokenizer) => tokenizer.describe().to_string(),
        Err(error) => format!("none: {error}"),
    };
    let mut facts = vec![
        ("image tower", image),
        (
            "text tower",
            format!(
                "{}{inside}; {} tokens{attention}, vocabulary {}",
                blocks(&config.text),
                config.context,
                config.vocabulary
            ),
        ),
        ("joint width", config.embedding.to_string()),
        ("activation", activation),
        ("end token", end),
        (
            "parameters",
            format!(
                "{:.2} M: image {:.2} M, text {:.2} M",
                (count.image + count.text + count.other) as f64 / 1e6,
                count.image as f64 / 1e6,
                count.text as f64 / 1e6
            ),
        ),
        ("stored", format!("{} in {} MB", types.join(", "), megabytes(checkpoint.file_bytes()))),
        ("pictures", preprocess.describe()),
        ("tokenizer", tokenizer),
        ("licence", licence(folder).unwrap_or_else(|| "not stated in the folder".into())),
    ];
    facts.extend(checkpoint.lora().map(|lora| ("LoRA", lora)));
    facts
}

/// What a tower's blocks have beside CLIP's own parts.
fn inside(tower: &TowerConfig) -> impl Iterator<Item = &'static str> {
    let norms = match tower.norms {
        Norms::Before => None,
        Norms::Behind => Some("norms behind attention and MLP"),
        Norms::OfSum => Some("norms of sums"),
    };
    let parts = [
        tower.inner_norms.then_some("norms inside attention and MLP"),
        norms,
        tower.layer_scale.then_some("LayerScale"),
    ];
    parts.into_iter().flatten()
}

/// What a vision transformer has beside or instead of CLIP's own parts.
fn parts(vit: &VitConfig) -> String {
    let pool = match vit.pool {
        Pool::Class => None,
        Pool::Mean { .. } => Some("mean of the patches".to_string()),
        Pool::Attention { heads, .. } => Some(format!("attention pooling with {heads} heads")),
    };
    let has = |has: bool, what: &str| has.then(|| what.to_string());
    let parts = [
        has(!vit.class, "no class token"),
        has(vit.stem == Stem::Convolutions, "a stem of convolutions"),
        has(vit.rotary.is_some(), "rotary positions"),
    ];
    let parts = parts.into_iter().flatten().chain(inside(&vit.tower).map(str::to_string)).chain(pool);
    parts.map(|part| format!(", {part}")).collect()
}

fn name(hidden: Hidden) -> &'static str {
    match hidden {
        Hidden::Activated(Activation::QuickGelu) => "QuickGELU",
        Hidden::Activated(Activation::Gelu) => "GELU (erf)",
        Hidden::Activated(Activation::GeluTanh) => "GELU (tanh)",
        Hidden::Activated(Activation::Relu) => "ReLU",
        Hidden::Gated => "SwiGLU",
    }
}

fn activations(image: Hidden, text: Hidden) -> String {
    if image == text {
        name(image).into()
    } else {
        format!("{} in the image tower, {} in the text tower", name(image), name(text))
    }
}

/// The licence, as the model card's front matter states it, else the first line of a licence file.
fn licence(folder: &Path) -> Option<String> {
    let card = input::read_text(&folder.join("README.md"), input::limit::TEXT).unwrap_or_default();
    let mut lines = card.lines();
    if lines.next().map(str::trim) == Some("---") {
        let matter: Vec<&str> = lines.take_while(|line| line.trim() != "---").collect();
        let value = |key: &str| {
            let line = matter.iter().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix(':'))?;
            let value = line.trim().trim_matches(['"', '\'']);
            (!value.is_empty()).then(|| value.to_string())
        };
        // "other" is further named by a key of its own.
        let stated = value("license").map(|l| if l == "other" { value("license_name").unwrap_or(l) } else { l });
        if stated.is_some() {
            return stated;
        }
    }
    let files = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut files: Vec<PathBuf> = files
        .filter(|path| {
            let name = path.file_name().map(|n| n.to_string_lossy().to_lowercase()).unwrap_or_default();
            ["license", "licence", "copying"].iter().any(|start| name.starts_with(start))
        })
        .collect();
    files.sort();
    let text = input::read_text(files.first()?, input::limit::TEXT).ok()?;
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(String::from)
}

#[cfg(test)]
mod tests {
    use super::licence;

    #[test]
    fn licences_are_read_from_the_card_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(licence(folder.path()), None);
        write("LICENSE.txt", "\n  MIT License\n\nCopyright");
        assert_eq!(licence(folder.path()).as_deref(), Some("MIT License"));
        write("README.md", "---\ntags:\n- clip\nlicense: \"apache-2.0\"\n---\nlicense: no\n");
        assert_eq!(licence(folder.path()).as_deref(), Some("apache-2.0"));
        write("README.md", "---\nlicense: other\nlicense_name: apple-amlr\n---\n");
        assert_eq!(licence(folder.path()).as_deref(), Some("apple-amlr"));
        write("README.md", "# no front matter\nlicense: x\n");
        assert_eq!(licence(folder.path()).as_deref(), Some("MIT License"));
    }
}
