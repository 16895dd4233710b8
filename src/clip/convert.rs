//! A model written anew: whatever its weights come as, a folder with `model.safetensors`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::json;

use super::checkpoint::{Checkpoint, WHOLE};
use super::source::{DESCRIPTIONS, Source};
use crate::watch::Watch;
use crate::{Error, Result, input};

/// What else belongs to a model's folder, for Python and for people.
const BESIDE: [&str; 6] =
    ["README.md", "added_tokens.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json"];
/// What archives of TorchScript keep beside the parameters: the mask of causal attention, which is no finite number.
const MASK: &str = "attn_mask";
/// Values that are moved at once.
const PIECE: usize = 1 << 22;

/// What became of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Tensors that were written.
    pub tensors: usize,
    /// Tensors of whole numbers and others that no tower reads, which were left out.
    pub left_out: usize,
    /// Bytes of `model.safetensors`.
    pub bytes: u64,
}

/// Writes the model of `checkpoint`, opened from `source`, to the new folder `to`: `model.safetensors` and copies of what lies
/// beside the weights. Floats stay what they are, but those that a LoRA changes become f32; with `half` all become f16. The
/// folder has its name only when all of it is there.
///
/// # Errors
/// [`Error::Data`] where something is at `to` already; [`Error::Io`]; a tensor that is damaged, or that f16 cannot hold; what
/// `watch` gives.
pub fn convert(
    source: &Source,
    checkpoint: &Checkpoint,
    to: &Path,
    half: bool,
    watch: &mut dyn Watch,
) -> Result<Converted> {
    let parent = free(to)?;
    let io = |e| Error::io(to, e);
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tipi-").suffix(".part");
    // Temporary folders are private by default. The system takes the umask off these, as for any new folder.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    let folder = builder.tempdir_in(parent).map_err(|e| Error::io(parent, e))?;
    let converted = write(checkpoint, &folder.path().join(WHOLE[0]), half, watch)?;
    copy(source, folder.path())?;
    // Another program may have made it meanwhile.
    free(to)?;
    fs::rename(folder.path(), to).map_err(io)?;
    // Nothing is left under the other name.
    drop(folder);
    Ok(converted)
}

/// The folder in which a new one is made; fails where there is something of its name.
pub fn free(to: &Path) -> Result<&Path> {
    if fs::symlink_metadata(to).is_ok() {
        return Err(Error::data(to, "is there already, and was left as it is; give the name of a new folder"));
    }
    match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => match parent.is_dir() {
            true => Ok(parent),
            false => Err(Error::data(to, format!("the folder {} does not exist; make it", parent.display()))),
        },
        Some(_) => Ok(Path::new(".")),
        None => Err(Error::data(to, "names no folder; give the name of a new one")),
    }
}

/// Copies what lies beside the weights: of a file's folder, only what a model is loaded with.
fn copy(source: &Source, to: &Path) -> Result<()> {
    let entries = fs::read_dir(source.folder()).map_err(|e| Error::io(source.folder(), e))?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(text) = name.to_str() else { continue };
        let licence =
            ["license", "licence", "copying", "notice"].iter().any(|start| text.to_lowercase().starts_with(start));
        let wanted = DESCRIPTIONS.contains(&text) || source.file().is_none() && (BESIDE.contains(&text) || licence);
        if wanted && entry.path().is_file() {
            let bytes = input::read(&entry.path(), input::limit::TOKENIZER)?;
            fs::write(to.join(&name), bytes).map_err(|e| Error::io(to.join(&name), e))?;
        }
    }
    Ok(())
}

/// A tensor as it will be.
struct Planned {
    name: String,
    shape: Vec<usize>,
    dtype: Dtype,
}

/// Writes the weights.
fn write(checkpoint: &Checkpoint, to: &Path, half: bool, watch: &mut dyn Watch) -> Result<Converted> {
    let io = |e| Error::io(to, e);
    let (mut planned, mut left_out) = (Vec::new(), 0);
    for (name, dtype, shape) in checkpoint.tensors() {
        let mask = name == MASK || name.ends_with(&format!(".{MASK}"));
        let kept = matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) && !mask;
        if !kept {
            left_out += 1;
            continue;
        }
        let dtype = match (half, checkpoint.is_merged(&name)) {
            (true, _) => Dtype::F16,
            (false, true) => Dtype::F32,
            (false, false) => dtype,
        };
        planned.push(Planned { name, shape, dtype });
    }
    let (mut header, mut at) = (BTreeMap::new(), 0usize);
    header.insert("__metadata__".to_string(), json!({ "format": "pt" }));
    for Planned { name, shape, dtype } in &planned {
        let end = at + shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let about = json!({ "dtype": format!("{dtype:?}"), "shape": shape, "data_offsets": [at, end] });
        header.insert(name.clone(), about);
        at = end;
    }
    let mut header = serde_json::to_vec(&header).map_err(|e| Error::data(to, e.to_string()))?;
    // Tensors begin at a multiple of eight.
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::with_capacity(1 << 20, File::create_new(to).map_err(io)?);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    file.write_all(&header).map_err(io)?;
    // In kilobytes, which fit any machine's numbers.
    watch.begin("converting", at.div_ceil(1024));
    let mut done = 0usize;
    for Planned { name, shape, dtype } in &planned {
        let rows = shape.first().copied().unwrap_or(1);
        let stride: usize = shape.iter().skip(1).product();
        let step = (PIECE / stride.max(1)).max(1);
        for first in (0..rows).step_by(step) {
            let values = match shape.is_empty() {
                true => checkpoint.values(name, shape)?,
                false => checkpoint.part(name, shape, first..(first + step).min(rows))?,
            };
            let bytes = narrowed(&values, *dtype).map_err(|value| {
                Error::data(
                    to,
                    format!(
                        "tensor '{name}' has the value {value}, which is too large for 16 bits; convert without them"
                    ),
                )
            })?;
            file.write_all(&bytes).map_err(io)?;
            done += bytes.len();
            watch.at(done / 1024)?;
        }
    }
    let file = file.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_all().map_err(io)?;
    watch.end();
    Ok(Converted { tensors: planned.len(), left_out, bytes: 8 + (header.len() + at) as u64 })
}

/// Values as bytes of a type; the error is one that it cannot hold.
fn narrowed(values: &[f32], dtype: Dtype) -> std::result::Result<Vec<u8>, f32> {
    match dtype {
        Dtype::F16 => {
            let halves = values.iter().map(|value| {
                let half = f16::from_f32(*value);
                if half.is_finite() { Ok(half.to_le_bytes()) } else { Err(*value) }
            });
            Ok(halves.collect::<std::result::Result<Vec<_>, _>>()?.concat())
        }
        Dtype::BF16 => Ok(values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect()),
        _ => Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
    }
}
