//! Checkpoints: safetensors or what torch.save writes, one file or several, under any of the naming schemes in
//! [`super::names`], and perhaps a LoRA that is merged with them.
//!
//! Tensors are read from their places in files that stay open, piece by piece. A mapping would be no faster (every tensor is
//! copied anyway, to be widened and uploaded), and a file cut short under it would end the process.

mod legacy;
mod lora;
mod lora_config;
mod pickle;
mod safetensors;
mod shard;
mod torch;
mod values;
mod zip;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use ::safetensors::Dtype;
use serde::Deserialize;

use self::lora::Lora;
use self::shard::{Info, Place, Shard, is_float};
use super::names::{Names, SIGNS};
use super::source::Source;
use crate::{Error, Result, input};

pub(super) use self::lora::{base as lora_base, is_one as is_lora};

/// An index larger than this lists no CLIP: the largest have some hundreds of tensors.
const LARGEST_INDEX: u64 = 16 << 20;

/// A checkpoint: all tensors of a model.
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<Shard>,
    names: Names,
    /// Whether the text tower's names begin with `text.`: open_clip's CustomTextCLIP.
    custom_text: bool,
    lora: Option<Lora>,
}

/// Numbers of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Of the image tower, its projection among them.
    pub image: usize,
    /// Of the text tower, its projection among them.
    pub text: usize,
    /// Of neither: the logit scale.
    pub other: usize,
}

/// Weights in one file, in the order in which they are looked for; an index of shards has `.index.json` after the name.
pub const WHOLE: [&str; 4] =
    ["model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin"];

/// What wrappers of models put before all names.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// Takes off the prefixes that all names have.
fn strip(shards: &mut [Shard]) {
    let shared = |shards: &[Shard], prefix: &str| {
        let mut names = shards.iter().flat_map(|shard| shard.metadata.names()).peekable();
        names.peek().is_some() && names.all(|name| name.starts_with(prefix))
    };
    while let Some(prefix) = PREFIXES.iter().find(|prefix| shared(shards, prefix)) {
        shards.iter_mut().for_each(|shard| shard.metadata.strip(prefix));
    }
}

/// What an index of shards says.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// The checkpoint of a model, merged with its LoRA where it has one.
    ///
    /// # Errors
    /// Those of [`Checkpoint::of_folder`] and [`Checkpoint::open`]; [`Error::Config`] for a LoRA that tipi cannot merge, or
    /// that was made for another model.
    pub fn of(source: &Source) -> Result<Checkpoint> {
        let weights = source.weights();
        let mut checkpoint = if input::is_folder(weights) {
            Checkpoint::of_folder(weights)?
        } else if weights.to_string_lossy().ends_with(".index.json") {
            Checkpoint::open_index(weights)?
        } else {
            Checkpoint::open(weights)?
        };
        if let Some(folder) = source.lora() {
            checkpoint.lora = Some(Lora::open(folder, &checkpoint)?);
        }
        Ok(checkpoint)
    }

    /// The checkpoint of a model folder: the first that is there of [`WHOLE`] and the indices of their shards, or else the
    /// only file of torch's that there is.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none of them; the errors of [`Checkpoint::open`] and of a broken index.
    pub fn of_folder(folder: &Path) -> Result<Checkpoint> {
        for whole in WHOLE {
            let (whole, index) = (folder.join(whole), folder.join(format!("{whole}.index.json")));
            if input::exists(&whole) {
                return Checkpoint::open(&whole);
            }
            if input::exists(&index) {
                return Checkpoint::open_index(&index);
            }
        }
        let mut found = Checkpoint::others(folder);
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Checkpoint::open(&only),
            (Some(last), false) => {
                found.push(last);
                let names = found.iter().map(|path| format!("'{}'", path.file_name().unwrap_or_default().display()));
                let names = names.take(5).collect::<Vec<_>>().join(", ");
                Err(Error::config(
                    folder,
                    format!("holds several files of weights, {names}; give one of them by its path"),
                ))
            }
            (None, _) => Err(Error::config(
                folder,
                "holds no model.safetensors, open_clip_model.safetensors, pytorch_model.bin, index of shards of these or .pt \
                 file; give the folder of a CLIP, or a file of its weights",
            )),
        }
    }

    /// Whether a folder holds weights by one of the names that are looked for.
    pub(super) fn is_in(folder: &Path) -> bool {
        let there =
            |name: &str| input::exists(&folder.join(name)) || input::exists(&folder.join(format!("{name}.index.json")));
        WHOLE.iter().any(|name| there(name)) || !Checkpoint::others(folder).is_empty()
    }

    /// Files of torch's in a folder under names of their own, sorted.
    fn others(folder: &Path) -> Vec<PathBuf> {
        let torch = |path: &PathBuf| {
            // What training leaves beside the weights.
            let state =
                path.file_stem().is_some_and(|stem| ["optimizer", "scheduler", "scaler"].iter().any(|s| stem == *s));
            let ending = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
            !state && ["pt", "pth"].iter().any(|known| ending.eq_ignore_ascii_case(known)) && input::is_file(path)
        };
        input::list(folder).into_iter().filter(torch).collect()
    }

    /// Opens a file of safetensors or of torch's, whatever it is called; reads only what says where its tensors lie.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Safetensors`] or [`Error::Torch`] for a truncated or hostile file; [`Error::MissingTensor`]
    /// for a file that is no CLIP.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        Checkpoint::of_shards(path, vec![Shard::open(path)?])
    }

    /// Opens the shards that an index names.
    ///
    /// # Errors
    /// As [`Checkpoint::open`]; [`Error::Config`] for an index that is malformed, names a shard that is not there, or a
    /// file outside its own folder; [`Error::MissingTensor`] for a shard without a tensor that the index says it has.
    pub fn open_index(path: &Path) -> Result<Checkpoint> {
        let text = input::read(path, LARGEST_INDEX)?;
        let index: Index = serde_json::from_slice(&text)
            .map_err(|e| Error::config(path, format!("not a valid index of shards: {e}; fetch it again")))?;
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        let mut shards: Vec<Shard> = Vec::new();
        for (tensor, file) in &index.weight_map {
            // A name and nothing else: no folder, no way up, no other disk.
            let mut parts = Path::new(file).components();
            let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
            if !plain || file.contains(['/', '\\', ':']) {
                return Err(Error::config(
                    path,
                    format!("puts tensor '{tensor}' into '{file}'; shards must lie in the index's own folder"),
                ));
            }
            let at = folder.join(file);
            let shard = match shards.iter().position(|s| s.path == at) {
                Some(known) => &shards[known],
                None if !input::is_file(&at) => {
                    return Err(Error::config(
                        path,
                        format!("puts tensor '{tensor}' into '{file}', which is not in the folder; fetch it"),
                    ));
                }
                None => {
                    shards.push(Shard::open(&at)?);
                    &shards[shards.len() - 1]
                }
            };
            if shard.metadata.info(tensor).is_none() {
                return Err(Error::MissingTensor { path: at, tensor: tensor.clone() });
            }
        }
        Checkpoint::of_shards(path, shards)
    }

    fn of_shards(path: &Path, mut shards: Vec<Shard>) -> Result<Checkpoint> {
        strip(&mut shards);
        let has = |name: &str| shards.iter().any(|s| s.metadata.info(name).is_some());
        let Some((_, names)) = SIGNS.iter().find(|(sign, _)| has(sign)) else {
            let foreign = [
                ("visual.trunk.", "an image tower from timm that is no plain vision transformer"),
                ("image_encoder.", "MobileCLIP's own image tower"),
            ];
            let known =
                |prefix: &str| shards.iter().any(|s| s.metadata.tensors().keys().any(|k| k.starts_with(prefix)));
            if let Some((_, what)) = foreign.iter().find(|(prefix, _)| known(prefix)) {
                return Err(Error::config(
                    path,
                    format!("holds {what}, which tipi does not have; give a CLIP or SigLIP"),
                ));
            }
            return Err(Error::MissingTensor {
                path: path.to_path_buf(),
                tensor: "vision_model.embeddings.patch_embedding.weight' or OpenAI's 'visual.conv1.weight".into(),
            });
        };
        let names = *names;
        let custom_text = matches!(names, Names::OpenAi | Names::Timm)
            && !has("token_embedding.weight")
            && has("text.token_embedding.weight");
        Ok(Checkpoint { path: path.to_path_buf(), shards, names, custom_text, lora: None })
    }

    /// The file, or the index of its shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Which naming scheme the file uses.
    pub fn names(&self) -> Names {
        self.names
    }

    /// The name of one of the text tower's tensors, given by what OpenAI calls it: open_clip puts `text.` in front where
    /// the tower is a module of its own.
    pub fn text_name(&self, name: &str) -> String {
        if self.custom_text { format!("text.{name}") } else { name.into() }
    }

    /// Whether the image tower is a ResNet.
    pub fn has_resnet(&self) -> bool {
        self.names == Names::OpenAi && self.has("visual.layer1.0.conv1.weight")
    }

    /// Hands over the whole files, one after the other and a piece at a time, for hashing.
    ///
    /// # Errors
    /// [`Error::Safetensors`] for a file that was changed since it was opened; [`Error::Io`].
    pub(super) fn each_piece(&self, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.shards.iter().try_for_each(|s| s.read(0, s.stamp.size as usize, take))?;
        self.lora.as_ref().map_or(Ok(()), |lora| lora.each_piece(take))
    }

    /// Bytes of all files.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|s| s.stamp.size).sum()
    }

    /// The types that the float tensors are stored in, most values first, with the number of values.
    pub fn stored(&self) -> Vec<(String, usize)> {
        let mut counts = BTreeMap::new();
        let all = self.shards.iter().flat_map(|s| s.metadata.tensors().into_values());
        for info in all.filter(|info| is_float(info.dtype)) {
            if let Some(n) = info.shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) {
                *counts.entry(format!("{:?}", info.dtype)).or_insert(0) += n;
            }
        }
        let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        counts
    }

    /// How many parameters the towers have: all numbers stored as floats, running statistics among them.
    pub fn parameters(&self) -> Parameters {
        let mut count = Parameters::default();
        for (name, info) in self.shards.iter().flat_map(|s| s.metadata.tensors()) {
            if !is_float(info.dtype) {
                continue;
            }
            let n = info.shape.iter().fold(1usize, |n, d| n.saturating_mul(*d));
            let begins = |prefixes: &[&str]| prefixes.iter().any(|p| name.starts_with(p));
            if begins(&["visual", "vision_model."]) {
                count.image += n;
            } else if begins(&["text", "transformer.", "token_embedding.", "positional_embedding", "ln_final."]) {
                count.text += n;
            } else {
                count.other += n;
            }
        }
        count
    }

    /// All tensors' names, types and shapes, by their names.
    pub(super) fn tensors(&self) -> Vec<(String, Dtype, Vec<usize>)> {
        let all = self.shards.iter().flat_map(|shard| shard.metadata.tensors());
        let mut all: Vec<_> = all.map(|(name, info)| (name, info.dtype, info.shape.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        // The first of several files that have it counts.
        all.dedup_by(|a, b| a.0 == b.0);
        all
    }

    /// Whether a LoRA changes a tensor.
    pub(super) fn is_merged(&self, name: &str) -> bool {
        self.lora.as_ref().is_some_and(|lora| lora.changes(name))
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.shards.iter().any(|s| s.metadata.info(name).is_some())
    }

    /// A tensor's shape.
    ///
    /// # Errors
    /// [`Error::MissingTensor`].
    pub fn shape(&self, name: &str) -> Result<Vec<usize>> {
        Ok(self.info(name)?.1.shape.clone())
    }

    fn info(&self, name: &str) -> Result<(&Shard, &Info)> {
        let found = self.shards.iter().find_map(|s| Some((s, s.metadata.info(name)?)));
        found.ok_or_else(|| Error::MissingTensor { path: self.path.clone(), tensor: name.into() })
    }

    /// How many numbered layers follow `prefix` (`<prefix><number>.…`), counting from 0 to the highest number.
    pub fn count_layers(&self, prefix: &str) -> usize {
        let number = |name: &String| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        let names = self.shards.iter().flat_map(|s| s.metadata.tensors().into_keys());
        names.filter_map(|n| number(&n)).max().map_or(0, |n| n.saturating_add(1))
    }

    /// Checks that a tensor has `shape`, or that with dimensions of one in front, and a float type.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorForm`], [`Error::Safetensors`].
    pub fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.checked(name, shape).map(|_| ())
    }

    fn checked<'a>(&'a self, name: &'a str, shape: &[usize]) -> Result<Place<'a>> {
        let (shard, info) = self.info(name)?;
        // A parameter may be stored with dimensions of one in front: class tokens, positions, scalars.
        let same = info.shape.strip_suffix(shape).is_some_and(|front| front.iter().all(|d| *d == 1));
        let float = is_float(info.dtype);
        if !same || !float {
            return Err(Error::TensorForm {
                path: shard.path.clone(),
                tensor: name.into(),
                expected: format!("{shape:?} of F32, F16 or BF16"),
                found: format!("{:?} of {:?}", info.shape, info.dtype),
            });
        }
        Ok(Place { name, shard, info })
    }

    /// What a LoRA adds to values of a tensor, from `row` of its first dimension on.
    fn merged(&self, place: &Place<'_>, row: usize, mut values: Vec<f32>) -> Result<Vec<f32>> {
        if let Some(lora) = &self.lora {
            let cols = place.stride();
            lora.add_to(place.name, row..row + values.len() / cols.max(1), cols, &mut values)?;
        }
        Ok(values)
    }

    /// A tensor's values as f32.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorForm`], [`Error::Safetensors`], [`Error::NotFinite`].
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let place = self.checked(name, shape)?;
        self.merged(&place, 0, place.all()?)
    }

    /// The values of `range` along a tensor's first dimension as f32: nothing else is read.
    ///
    /// # Errors
    /// As [`Checkpoint::values`]; [`Error::Invalid`] for a range past the end.
    pub fn part(&self, name: &str, shape: &[usize], range: Range<usize>) -> Result<Vec<f32>> {
        let place = self.checked(name, shape)?;
        if range.start > range.end || range.end > shape.first().copied().unwrap_or_default() {
            return Err(Error::invalid(format!("{name}: rows {range:?} of shape {shape:?}")));
        }
        let first = range.start;
        self.merged(&place, first, place.rows(range)?)
    }

    /// Rows `rows` of a tensor `[n, width]` as f32, one after the other: nothing else is read.
    ///
    /// # Errors
    /// As [`Checkpoint::values`]; [`Error::Invalid`] for a row past the end.
    pub fn rows(&self, name: &str, shape: [usize; 2], rows: &[u32]) -> Result<Vec<f32>> {
        let place = self.checked(name, &shape)?;
        let mut values = Vec::with_capacity(rows.len() * shape[1]);
        for row in rows {
            let row = *row as usize;
            if row >= shape[0] {
                return Err(Error::invalid(format!("token id {row} is past the vocabulary of {}", shape[0])));
            }
            values.extend(self.merged(&place, row, place.rows(row..row + 1)?)?);
        }
        Ok(values)
    }

    /// What the LoRA that it is merged with is, for people.
    pub fn lora(&self) -> Option<String> {
        self.lora.as_ref().map(Lora::describe)
    }
}
