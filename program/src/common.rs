//! Options and steps that several commands share.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use tipi::Error;
use tipi::low_level::adapt::adapter_file;
use tipi::low_level::adapt::overlap::Correction;
use tipi::low_level::clip::{Clip, ImageEncoder, Source};
use tipi::low_level::data::decode::take_clipped;
use tipi::low_level::data::{Depth, Folder, Item, Shots, Walk, decode_map};
use tipi::low_level::encode::source::BATCH;
use tipi::low_level::encode::{self, Tower};
use tipi::low_level::gpu::{DeviceOptions, Gpu};
use tipi::low_level::kernels::gemm::Precision;
use tipi::low_level::nn::Bottleneck;
use tipi::low_level::numbers::Range;
use tipi::low_level::output::Output;
use tipi::low_level::text;

use crate::terminal::note;
use crate::ui;

/// Which GPU, and whether to time its kernels.
#[derive(Args, Clone)]
pub struct GpuArgs {
    /// The GPU to use: its number or a part of its name, as `tipi devices` lists them. The variable TIPI_DEVICE sets it, too.
    #[arg(long, value_name = "NAME|INDEX")]
    pub device: Option<String>,
    /// Print how long each kernel took.
    #[arg(long)]
    pub profile: bool,
}

impl GpuArgs {
    /// Opens the device. [`announce`] says which it is and why, after all other checks of the command.
    pub fn open(&self) -> Result<Gpu> {
        Ok(Gpu::open(&self.options())?)
    }

    /// As [`GpuArgs::open`], but measures kernels and keeps the result, whatever TIPI_TUNE says.
    pub fn open_to_measure(&self) -> Result<Gpu> {
        Ok(Gpu::open(&DeviceOptions { tune: Some(true), ..self.options() })?)
    }

    fn options(&self) -> DeviceOptions {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        if self.device.is_none() && set("TIPI_ADAPTER") && !set("TIPI_DEVICE") {
            note!("TIPI_ADAPTER is called TIPI_DEVICE now");
        }
        // A kernel that may crash the process is tried in another one: this program calls itself with `try-kernels`.
        let trial = std::env::current_exe().ok();
        DeviceOptions { device: self.device.clone(), profile: self.profile, trial, ..DeviceOptions::default() }
    }
}

/// [`GpuArgs`] of the commands that take no adapter file, in which `--device` was once called `--adapter`.
#[derive(Args, Clone)]
pub struct FormerGpuArgs {
    #[command(flatten)]
    gpu: GpuArgs,
    #[arg(long = "adapter", id = "former_device", hide = true, conflicts_with = "device", value_name = "NAME|INDEX")]
    former: Option<String>,
}

impl FormerGpuArgs {
    /// As [`GpuArgs::open`].
    pub fn open(&self) -> Result<Gpu> {
        self.now().open()
    }

    /// As [`GpuArgs::open_to_measure`].
    pub fn open_to_measure(&self) -> Result<Gpu> {
        self.now().open_to_measure()
    }

    /// What is said under either name.
    fn now(&self) -> GpuArgs {
        let mut gpu = self.gpu.clone();
        if let Some(device) = &self.former {
            note!("--adapter is called --device now");
            gpu.device = Some(device.clone());
        }
        gpu
    }
}

/// In what precision inference runs.
#[derive(Args, Clone)]
pub struct PrecisionArgs {
    /// Precision of the model's frozen matrices on the GPU. f16 takes half the memory and int8 a quarter, and both use matrix
    /// units if there are any; sums are always f32.
    #[arg(long, value_enum, default_value_t = Stored::F32)]
    pub precision: Stored,
}

/// How frozen matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stored {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 8-bit whole numbers with a scale for each output.
    Int8,
}

impl PrecisionArgs {
    /// Loads a model in the precision asked for.
    pub fn load(&self, gpu: &Gpu, source: &Source) -> Result<Clip> {
        Ok(Clip::load_source(gpu, source, self.stored())?)
    }

    /// How matrices are stored.
    pub fn stored(&self) -> Precision {
        match self.precision {
            Stored::F32 => Precision::F32,
            Stored::F16 => Precision::F16,
            Stored::Int8 => Precision::Int8,
        }
    }
}

/// What is merged with the model.
#[derive(Args, Clone)]
pub struct LoraArgs {
    /// Folder of a LoRA that PEFT saved, to be merged with the model.
    #[arg(long, value_name = "DIR", requires = "model")]
    lora: Option<PathBuf>,
}

impl LoraArgs {
    /// What a model is loaded from: the folder or file that `model` names, or the cached folder of a model on the hub, which
    /// is fetched first where it is not there yet; with the LoRA, if one is given.
    pub fn source(&self, model: &Path) -> Result<Source> {
        self.source_of(model, "--model BASE")
    }

    /// As [`LoraArgs::source`], for commands whose model is no option but an argument.
    pub fn source_of_argument(&self, model: &Path) -> Result<Source> {
        self.source_of(model, "BASE")
    }

    fn source_of(&self, model: &Path, base: &str) -> Result<Source> {
        let folder = model_folder(model)?;
        Source::of(&folder, self.lora.as_deref()).map_err(|error| {
            if self.lora.is_some() || !Source::is_lora(&folder) {
                return error.into();
            }
            // Only the program knows how both are given.
            Error::Invalid(format!("{error}: {base} --lora {}", text::path(model))).into()
        })
    }
}

/// Says that the work reads a model.
pub fn read_model(output: &Output, source: &Source) -> Result<()> {
    match source.file() {
        // Whatever else is in its folder need not be the model's.
        Some(file) => output.reads(file, "the model")?,
        None => output.reads_folder(source.folder(), "a file of the model")?,
    }
    Ok(source.lora().map_or(Ok(()), |lora| output.reads_folder(lora, "a file of the LoRA"))?)
}

/// The folder of the model that `--model` names: itself, or the cached one of a model on the hub, which is fetched first
/// where it is not there yet.
#[cfg(feature = "hub")]
fn model_folder(model: &Path) -> Result<PathBuf> {
    let Some(spec) = model.to_str() else { return Ok(model.to_path_buf()) };
    let bar = ui::bytes();
    let folder =
        tipi::low_level::hub::Hub::from_env()?.resolve(spec, &mut |p| ui::show_fetch(&bar, p.file, p.done, p.total))?;
    bar.finish_and_clear();
    Ok(folder)
}

/// The folder of the model that `--model` names.
#[cfg(not(feature = "hub"))]
fn model_folder(model: &Path) -> Result<PathBuf> {
    Ok(model.to_path_buf())
}

/// Says which device was taken and why.
pub fn announce(gpu: &Gpu) {
    note!("device: {}", gpu.describe());
}

/// Prints the profile when there is one.
pub fn finish(gpu: &Gpu) {
    if let Some(profile) = gpu.profile() {
        ui::print_profile(&profile);
    }
}

/// How folders of pictures are walked.
#[derive(Args, Clone)]
pub struct WalkArgs {
    /// Pass over files and folders that match this pattern, which follows the rules of .gitignore: '*.gif', 'drafts/',
    /// '/cat/old'. '!NAME' takes what would be passed over. May be given several times.
    #[arg(long = "exclude", value_name = "GLOB")]
    exclude: Vec<String>,
}

impl WalkArgs {
    /// The walk for all folders of a run. With `strict` a sub-folder that cannot be read is an error.
    pub fn walk(&self, strict: bool) -> Result<Walk> {
        let walk = Walk::excluding(&self.exclude).map_err(|error| Error::Invalid(format!("--exclude: {error}")))?;
        Ok(walk.strict(strict))
    }
}

/// Opens a folder with a sub-folder per class, and says what was passed over and what could not be read.
pub fn open_folder(folder: &Path, walk: &Walk) -> Result<Folder> {
    let folder = Folder::open_with(folder, walk)?;
    say_walk(walk);
    Ok(folder)
}

/// Prints what a walk passed over, and which folders it could not read.
pub fn say_walk(walk: &Walk) {
    if let Some(text) = walk.take_passed_over() {
        note!("{text}");
    }
    let found = walk.found();
    for error in found.unreadable.values().chain(found.unread.values()) {
        note!("skipped: {error}");
    }
    for (count, one, many) in [
        (found.unreadable.len(), "folder", "folders"),
        (found.unread.len(), "file that looks like a picture", "files that look like pictures"),
    ] {
        if count > 0 {
            note!("{} skipped (--strict makes that an error)", text::count(count, one, many));
        }
    }
}

/// What becomes of grey of 16 bits.
#[derive(Args, Clone)]
pub struct DepthArgs {
    /// What becomes of greyscale of 16 bits in PNG and TIFF files. Give the same to every command that works with one model's
    /// features or adapters.
    #[arg(long, value_enum, default_value_t = Depths::Clip)]
    depth: Depths,
}

/// [`Depth`] by the names of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Depths {
    /// Clip it to 0…255 as Pillow does, which turns most such pictures white.
    Clip,
    /// Scale 0…65535 to 0…255.
    Scale,
}

impl DepthArgs {
    /// A model that takes grey of 16 bits so.
    pub fn of(&self, mut clip: Clip) -> Clip {
        clip.preprocess.depth = match self.depth {
            Depths::Clip => Depth::Clip,
            Depths::Scale => Depth::Scale,
        };
        clip
    }
}

/// Says how many pictures of 16-bit grey were clipped in this run, where there were some.
pub fn say_clipped() {
    let count = take_clipped();
    if count > 0 {
        let pictures = text::count(count, "picture of 16-bit grey was", "pictures of 16-bit grey were");
        note!("{pictures} clipped as by Pillow, which turns most of them white (--depth scale scales them instead)");
    }
}

/// How pictures are read.
#[derive(Args, Clone)]
pub struct PictureArgs {
    #[command(flatten)]
    walk: WalkArgs,
    #[command(flatten)]
    pub depth: DepthArgs,
    /// Stop with an error at the first picture that cannot be decoded, folder that cannot be read, or file that looks like a
    /// picture and is of a kind that tipi does not read, instead of skipping it.
    #[arg(long)]
    pub strict: bool,
    /// Pictures per step, from 1 to 65536. By default up to 32, or as many as fit into memory.
    #[arg(long, value_parser = count(1, MOST_BATCH))]
    batch: Option<usize>,
}

/// The most pictures per step that can be asked for.
pub const MOST_BATCH: usize = tipi::low_level::memory::MOST_BATCH;
/// The most passes over pictures.
pub const MOST_EPOCHS: usize = tipi::low_level::memory::MOST_EPOCHS;
/// The most random views of a picture.
pub const MOST_VIEWS: usize = 1000;
/// The most pictures of a class to learn from.
pub const MOST_SHOTS: usize = 1_000_000;

impl PictureArgs {
    /// The walk for all folders of a run.
    pub fn walk(&self) -> Result<Walk> {
        self.walk.walk(self.strict)
    }

    /// Pictures per step, if `--batch` was given.
    pub fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// An encoder of a tower for `pictures` in all. If `--batch` was given, it has that batch, or the error says which batch
    /// would fit. Otherwise it takes as many pictures per step as fit.
    pub fn encoder<'a>(
        &self,
        clip: &'a Clip,
        pictures: usize,
        (tower, bottlenecks): (Tower, Option<&[Bottleneck]>),
    ) -> Result<ImageEncoder<'a>> {
        let most = self.batch.unwrap_or(BATCH).min(pictures).max(1);
        Ok(encode::encoder(clip, tower, bottlenecks, (most, self.batch.is_some()))?)
    }
}

/// The tower with a correction's bottlenecks if there is a correction, else the plain one.
pub fn tower(correction: Option<&Correction>) -> (Tower, Option<&[Bottleneck]>) {
    match correction {
        Some(correction) => (Tower::Corrected, Some(&correction.blocks)),
        None => (Tower::Plain, None),
    }
}

/// The overlap correction in an adapter file.
pub fn correction(file: &adapter_file::File, clip: &Clip) -> Result<Correction> {
    file.bind(clip)?.into_correction().map_err(|error| Error::Invalid(format!("--correction: {error}")).into())
}

/// The generic pictures that can be decoded. They are checked before hours of training. The others are named, or are an
/// error with `strict`.
pub fn sound_pictures(items: &[Item], strict: bool) -> Result<Vec<Item>> {
    let bar = ui::bar(items.len(), "checking pictures");
    let checked = decode_map(items, strict, &|n| bar.set_position(n as u64), |_, _| ())?;
    bar.finish_and_clear();
    report_skipped(&checked.skipped);
    Ok(checked.items.into_iter().map(|(item, ())| item).collect())
}

/// Names the pictures that were left out, and says how many.
pub fn report_skipped(errors: &[Error]) {
    for error in errors {
        note!("skipped: {error}");
    }
    note_skipped(errors.len());
}

/// Says how many pictures were left out.
fn note_skipped(count: usize) {
    if count > 0 {
        note!("{} skipped (--strict makes that an error)", text::count(count, "picture", "pictures"));
    }
}

/// Reads an option that says how many pictures of each class are learned from.
pub fn shots(text: &str) -> Result<Shots, String> {
    match text.parse::<Shots>() {
        Ok(Shots::All) => Ok(Shots::All),
        Ok(Shots::UpTo(count)) if (1..=MOST_SHOTS).contains(&count) => Ok(Shots::UpTo(count)),
        _ => Err(format!("it must be a whole number from 1 to {MOST_SHOTS}, or all")),
    }
}

/// Reads an option that is a number within a range.
pub fn within(range: Range) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| match text.parse::<f64>() {
        Ok(value) if (range.least..=range.most).contains(&value) => Ok(value),
        _ => Err(format!("it must be a number from {range}")),
    }
}

/// Reads an option that counts something.
pub fn count(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse::<usize>() {
        Ok(value) if (least..=most).contains(&value) => Ok(value),
        _ => Err(format!("it must be a whole number from {least} to {most}")),
    }
}
