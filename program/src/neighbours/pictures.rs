//! What is looked among and asked about: pictures, and rows of a file of features.

use std::path::{Path, PathBuf};

use anyhow::Result;
use safetensors::tensor::{Dtype, SafeTensors};
use tipi::Error;
use tipi::low_level::clip::Clip;
use tipi::low_level::data::Item;
use tipi::low_level::encode::{self, Tower, Views};
use tipi::low_level::{input, numbers, text};

use super::invalid;
use crate::common::{self, PictureArgs};
use crate::ui;

/// What a row is of.
pub struct Name {
    /// As people see it.
    pub shown: String,
    /// A path that text cannot show, in bytes.
    pub bytes: Option<String>,
}

impl Name {
    /// Of a picture.
    pub fn of(path: &Path) -> Name {
        Name { shown: text::path(path), bytes: text::path_bytes(path) }
    }
}

/// What is looked among.
pub struct Known {
    pub names: Vec<Name>,
    /// Features `[names, width]`.
    pub values: Vec<f32>,
    pub width: usize,
}

/// A file of features, read whole.
pub struct File {
    path: PathBuf,
    values: Vec<f32>,
    width: usize,
    names: Option<Vec<String>>,
    /// The model that made them, by its digest, where the file says so.
    model: Option<String>,
}

impl File {
    /// Reads `features` [n,D].
    pub fn open(path: &Path) -> Result<File> {
        let bytes = input::read(path, input::limit::TENSORS)?;
        let damaged = |e| Error::Safetensors {
            path: path.into(),
            reason: format!("{e}; it is no safetensors file, or truncated or damaged"),
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
        let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
        let tensor = file.tensor("features").map_err(|_| {
            let reason = "it has no tensor 'features'; `tipi embed image` writes files that have one".into();
            Error::Safetensors { path: path.into(), reason }
        })?;
        let width = match (tensor.shape(), tensor.dtype()) {
            ([rows, width], Dtype::F32) if *rows > 0 && *width > 0 => *width,
            (shape, dtype) => {
                let (tensor, expected) = ("features".into(), "[n, D] of F32".into());
                let found = format!("{shape:?} of {dtype:?}");
                return Err(Error::TensorForm { path: path.into(), tensor, expected, found }.into());
            }
        };
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(tensor.data());
        numbers::check_tensor(path, "features", &values, 0, width)?;
        let said = header.metadata().clone().unwrap_or_default();
        let names: Option<Vec<String>> = said.get("inputs").and_then(|json| serde_json::from_str(json).ok());
        let mark: Option<serde_json::Value> = said.get("tipi").and_then(|json| serde_json::from_str(json).ok());
        let model = mark.and_then(|mark| Some(mark.get("model")?.as_str()?.to_string()));
        if let Some(names) = names.as_ref().filter(|names| names.len() * width != values.len()) {
            let reason = format!("its metadata names {} inputs of {} rows", names.len(), values.len() / width);
            return Err(Error::Safetensors { path: path.into(), reason }.into());
        }
        Ok(File { path: path.into(), values, width, names, model })
    }

    /// What it holds, which must be of this model's making where there is one.
    pub fn known(self, clip: Option<&Clip>) -> Result<Known> {
        let File { path, values, width, names, model } = self;
        if let Some(clip) = clip {
            let own = clip.config.embedding;
            if width != own {
                return Err(invalid(&format!(
                    "--features {}: its rows have {width} values, and features of the model in {} have {own}: give the model that \
                     made them",
                    path.display(),
                    clip.folder().display()
                )));
            }
            if model.is_some_and(|model| clip.id().is_ok_and(|id| id.sha256 != model)) {
                return Err(invalid(&format!(
                    "--features {}: another model made them than that in {}: give the one that did, or embed the pictures again",
                    path.display(),
                    clip.folder().display()
                )));
            }
        }
        let names = names.unwrap_or_else(|| (0..values.len() / width).map(|row| format!("#{row}")).collect());
        let names = names.into_iter().map(|shown| Name { shown, bytes: None }).collect();
        Ok(Known { names, values, width })
    }
}

/// A picture to ask about.
pub fn check_query(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(invalid(&format!("--query {}: this is a folder: name a picture", path.display())));
    }
    if !path.exists() {
        return Err(invalid(&format!("--query {}: there is no such file: check the path", path.display())));
    }
    Ok(())
}

/// Features of pictures, of which those that cannot be decoded are named and skipped, but for those that were given directly.
pub fn encode(clip: &Clip, args: &PictureArgs, listed: &[(PathBuf, bool)]) -> Result<Known> {
    let mut encoder = args.encoder(clip, listed.len(), (Tower::Plain, None))?;
    let bar = ui::bar(listed.len(), "encoding pictures");
    let (mut names, mut values, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
    for run in listed.chunk_by(|a, b| a.1 == b.1) {
        let items: Vec<Item> = run.iter().map(|(path, _)| Item { path: path.clone(), label: 0 }).collect();
        let strict = run[0].1 || args.strict;
        let all = encode::encode(&mut encoder, &items, &Views::Center, strict, &mut |n| bar.inc(n as u64))?;
        names.extend(all.items.iter().map(|item| Name::of(&item.path)));
        values.extend(all.features.original);
        skipped.extend(all.skipped);
    }
    bar.finish_and_clear();
    common::report_skipped(&skipped);
    if names.is_empty() {
        return Err(invalid("none of the pictures could be decoded"));
    }
    Ok(Known { names, values, width: clip.config.embedding })
}

/// Features of the pictures that are asked about.
pub fn encode_queries(clip: &Clip, args: &PictureArgs, queries: &[PathBuf]) -> Result<Vec<f32>> {
    if queries.is_empty() {
        return Ok(Vec::new());
    }
    let listed: Vec<(PathBuf, bool)> = queries.iter().map(|query| (query.clone(), true)).collect();
    Ok(encode(clip, args, &listed)?.values)
}

/// The row of a picture among those that are looked among, if it is one of them.
pub fn place(query: &Path, names: &[Name]) -> Option<usize> {
    let own = query.canonicalize().ok()?;
    let same = |name: &Name| {
        let path = Path::new(&name.shown);
        path.file_name() == query.file_name() && path.canonicalize().is_ok_and(|path| path == own)
    };
    names.iter().position(same)
}
