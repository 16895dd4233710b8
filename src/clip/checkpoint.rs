//! Checkpoints: safetensors, one file or several, under any of the naming schemes in [`super::names`].
//!
//! Tensors are read from their places in files that stay open, piece by piece. A mapping would be no faster (every tensor is
//! copied anyway, to be widened and uploaded), and a file cut short under it would end the process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use half::{bf16, f16};
use safetensors::tensor::{Metadata, SafeTensors, TensorInfo};
use safetensors::{Dtype, SafeTensorError};
use serde::Deserialize;

use super::names::{Names, SIGNS};
use crate::{Error, Result, input, numbers};

/// An index larger than this lists no CLIP: the largest have some hundreds of tensors.
const LARGEST_INDEX: u64 = 16 << 20;

/// The most bytes of a header, as the format has it.
const LARGEST_HEADER: u64 = 100_000_000;
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// A safetensors file: it stays on disk and open, and tensors are read when they are asked for.
struct Shard {
    path: PathBuf,
    file: File,
    /// Size and time of change when it was opened.
    stamp: Stamp,
    metadata: Metadata,
    /// Where tensor data start in the file.
    data: u64,
}

/// What shows that a file was written to.
#[derive(PartialEq)]
struct Stamp {
    size: u64,
    changed: Option<SystemTime>,
}

impl Stamp {
    fn of(file: &File) -> std::io::Result<Stamp> {
        let found = file.metadata()?;
        // Where a system keeps no times, the size has to do.
        Ok(Stamp { size: found.len(), changed: found.modified().ok() })
    }
}

/// Where a tensor lies.
struct Place<'a> {
    name: &'a str,
    shard: &'a Shard,
    start: u64,
    bytes: usize,
    dtype: Dtype,
    /// Values in a row, its last dimension.
    width: usize,
}

impl Shard {
    /// Opens a file; reads its header only.
    fn open(path: &Path) -> Result<Shard> {
        let bad = |reason: String| Error::Safetensors { path: path.to_path_buf(), reason };
        let io = |e| Error::io(path, e);
        let file = input::open(path)?;
        let stamp = Stamp::of(&file).map_err(io)?;
        let Some(room) = stamp.size.checked_sub(8) else {
            return Err(bad("shorter than its 8-byte header length; download it again".into()));
        };
        let mut length = [0; 8];
        input::read_exact_at(&file, &mut length, 0).map_err(io)?;
        let header = u64::from_le_bytes(length).min(room).min(LARGEST_HEADER);
        let mut head = vec![0; 8 + header as usize];
        input::read_exact_at(&file, &mut head, 0).map_err(io)?;
        let room = room - header;
        let metadata = parse_header(&head, room).map_err(|e| {
            let cut = cut_tensor(&head, room).map(|name| format!(", and tensor '{name}' is not all there"));
            bad(format!("{e}{}; the file is truncated or damaged, fetch it again", cut.unwrap_or_default()))
        })?;
        Ok(Shard { path: path.to_path_buf(), file, stamp, metadata, data: 8 + header })
    }

    /// Reads bytes from a place in the file, a piece at a time.
    ///
    /// # Errors
    /// [`Error::Safetensors`] when the file was written to or cut short since it was opened; [`Error::Io`].
    fn read(&self, start: u64, bytes: usize, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut piece = vec![0; bytes.min(PIECE)];
        let mut at = 0;
        while at < bytes {
            let part = &mut piece[..(bytes - at).min(PIECE)];
            match input::read_exact_at(&self.file, part, start + at as u64) {
                Ok(()) => take(part),
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Err(self.rewritten()),
                Err(e) => return Err(Error::io(&self.path, e)),
            }
            at += part.len();
        }
        // After the bytes: what was read before the file changed is as it was.
        let stamp = Stamp::of(&self.file).map_err(|e| Error::io(&self.path, e))?;
        if stamp == self.stamp { Ok(()) } else { Err(self.rewritten()) }
    }

    fn rewritten(&self) -> Error {
        Error::Safetensors {
            path: self.path.clone(),
            reason: "the file was changed while the model is in use; load it again once it is whole".into(),
        }
    }
}

/// The header of a file whose first bytes are `head`, with `room` bytes behind them.
fn parse_header(head: &[u8], room: u64) -> std::result::Result<Metadata, SafeTensorError> {
    // Asked about the header alone, the crate finds everything else first and the missing tensors last.
    match SafeTensors::read_metadata(head) {
        Ok((_, metadata)) if room == 0 => return Ok(metadata),
        Ok(_) | Err(SafeTensorError::MetadataIncompleteBuffer) => {}
        Err(error) => return Err(error),
    }
    let json = head.get(8..).unwrap_or_default();
    let metadata: Metadata = serde_json::from_slice(json).map_err(SafeTensorError::InvalidHeaderDeserialization)?;
    if metadata.data_len() as u64 == room { Ok(metadata) } else { Err(SafeTensorError::MetadataIncompleteBuffer) }
}

/// The first tensor that does not lie within a file as a whole, for the message about a damaged one.
fn cut_tensor(head: &[u8], room: u64) -> Option<String> {
    #[derive(Deserialize)]
    struct Offsets {
        data_offsets: (u64, u64),
    }
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(head.get(8..)?).ok()?;
    let places =
        header.into_iter().filter_map(|(name, place)| Some((serde_json::from_value::<Offsets>(place).ok()?, name)));
    let cut = places.filter(|(place, _)| place.data_offsets.1 > room);
    cut.min_by_key(|(place, _)| place.data_offsets.0).map(|(_, name)| name)
}

/// A checkpoint: all tensors of a model.
pub struct Checkpoint {
    path: PathBuf,
    shards: Vec<Shard>,
    names: Names,
    /// Whether the text tower's names begin with `text.`: open_clip's CustomTextCLIP.
    custom_text: bool,
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

/// What `model.safetensors.index.json` says.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Checkpoint {
    /// The checkpoint of a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names, or
    /// the same under open_clip's name, `open_clip_model`.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none of them; the errors of [`Checkpoint::open`] and of a broken index.
    pub fn of_folder(folder: &Path) -> Result<Checkpoint> {
        for stem in ["model", "open_clip_model"] {
            let (whole, index) = (format!("{stem}.safetensors"), format!("{stem}.safetensors.index.json"));
            if folder.join(&whole).exists() {
                return Checkpoint::open(&folder.join(whole));
            }
            if folder.join(&index).exists() {
                return Checkpoint::open_index(&folder.join(index));
            }
        }
        let pickled = ["pytorch_model.bin", "open_clip_pytorch_model.bin"].iter().find(|f| folder.join(f).exists());
        Err(Error::config(
            folder,
            match pickled {
                Some(file) => format!(
                    "holds {file} but no model.safetensors; tipi reads safetensors only, which run no code: convert the file"
                ),
                None => {
                    "holds no model.safetensors, open_clip_model.safetensors or index of shards of these; give the \
                         folder of a CLIP"
                        .into()
                }
            },
        ))
    }

    /// Opens a safetensors file; reads its header only.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Safetensors`] for a truncated or hostile file; [`Error::MissingTensor`] for a file
    /// that is no CLIP.
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
                None if !at.is_file() => {
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

    fn of_shards(path: &Path, shards: Vec<Shard>) -> Result<Checkpoint> {
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
        Ok(Checkpoint { path: path.to_path_buf(), shards, names, custom_text })
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
        self.shards.iter().try_for_each(|s| s.read(0, s.stamp.size as usize, take))
    }

    /// Bytes of all files.
    pub fn file_bytes(&self) -> u64 {
        self.shards.iter().map(|s| s.stamp.size).sum()
    }

    /// The types that the float tensors are stored in, most values first, with the number of values.
    pub fn stored(&self) -> Vec<(String, usize)> {
        let mut counts = BTreeMap::new();
        let all = self.shards.iter().flat_map(|s| s.metadata.tensors().into_values());
        for info in all.filter(|info| matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)) {
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
            if !matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
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

    fn info(&self, name: &str) -> Result<(&Shard, &TensorInfo)> {
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
        let float = matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
        if !same || !float {
            return Err(Error::TensorForm {
                path: shard.path.clone(),
                tensor: name.into(),
                expected: format!("{shape:?} of F32, F16 or BF16"),
                found: format!("{:?} of {:?}", info.shape, info.dtype),
            });
        }
        let (start, end) = info.data_offsets;
        let length = shape.iter().try_fold(size(info.dtype), |n: usize, d| n.checked_mul(*d));
        match end.checked_sub(start) {
            Some(bytes) if Some(bytes) == length => {
                let width = info.shape.last().copied().unwrap_or(1);
                Ok(Place { name, shard, start: shard.data + start as u64, bytes, dtype: info.dtype, width })
            }
            _ => Err(Error::Safetensors {
                path: shard.path.clone(),
                reason: format!("tensor '{name}' lies outside the file"),
            }),
        }
    }

    /// A tensor's values as f32.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorForm`], [`Error::Safetensors`], [`Error::NotFinite`].
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let place = self.checked(name, shape)?;
        place.widened(0, place.bytes)
    }

    /// The values of `range` along a tensor's first dimension as f32: nothing else is read.
    ///
    /// # Errors
    /// As [`Checkpoint::values`]; [`Error::Invalid`] for a range past the end.
    pub fn part(&self, name: &str, shape: &[usize], range: Range<usize>) -> Result<Vec<f32>> {
        let place = self.checked(name, shape)?;
        let stride = shape.iter().skip(1).product::<usize>() * size(place.dtype);
        let (start, end) = (range.start.saturating_mul(stride), range.end.saturating_mul(stride));
        if start > end || end > place.bytes {
            return Err(Error::invalid(format!("{name}: rows {range:?} of shape {shape:?}")));
        }
        place.widened(start, end - start)
    }

    /// Rows `rows` of a tensor `[n, width]` as f32, one after the other: nothing else is read.
    ///
    /// # Errors
    /// As [`Checkpoint::values`]; [`Error::Invalid`] for a row past the end.
    pub fn rows(&self, name: &str, shape: [usize; 2], rows: &[u32]) -> Result<Vec<f32>> {
        let place = self.checked(name, &shape)?;
        let stride = shape[1] * size(place.dtype);
        let mut values = Vec::with_capacity(rows.len() * shape[1]);
        for row in rows {
            if *row as usize >= shape[0] {
                return Err(Error::invalid(format!("token id {row} is past the vocabulary of {}", shape[0])));
            }
            values.extend(place.widened(*row as usize * stride, stride)?);
        }
        Ok(values)
    }
}

impl Place<'_> {
    /// So many bytes of the tensor from one on, as f32; all of them are finite.
    fn widened(&self, from: usize, bytes: usize) -> Result<Vec<f32>> {
        let first = from / size(self.dtype);
        let mut values = Vec::with_capacity(bytes / size(self.dtype));
        // Pieces end between values: their length is a multiple of every float's.
        self.shard.read(self.start + from as u64, bytes, &mut |piece| widen(piece, self.dtype, &mut values))?;
        numbers::check_tensor(&self.shard.path, self.name, &values, first, self.width)?;
        Ok(values)
    }
}

/// Bytes of a float.
fn size(dtype: Dtype) -> usize {
    if dtype == Dtype::F32 { 4 } else { 2 }
}

fn widen(bytes: &[u8], dtype: Dtype, values: &mut Vec<f32>) {
    match dtype {
        Dtype::F16 => values.extend(bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())),
        Dtype::BF16 => values.extend(bytes.chunks_exact(2).map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())),
        _ => values.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Dtype, widen};
    use half::{bf16, f16};

    #[test]
    fn all_float_types_widen_to_their_values() {
        let values = [0.0f32, -1.5, 0.15625, 240.0];
        let widen = |bytes: &[u8], dtype| {
            let mut out = Vec::new();
            widen(bytes, dtype, &mut out);
            out
        };
        let bytes: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(widen(&bytes, Dtype::F16), values);
        let bytes: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(widen(&bytes, Dtype::BF16), values);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(widen(&bytes, Dtype::F32), values);
    }
}
