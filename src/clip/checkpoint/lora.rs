//! LoRA adapters as PEFT saves them, merged with the weights as these are read: W + s·B·A (arXiv 2106.09685).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

use super::shard::{Place, Shard, is_float};
use super::{Checkpoint, lora_config};
use crate::{Error, Result, input, numbers};

/// What PEFT calls an adapter's configuration.
pub const CONFIG: &str = "adapter_config.json";
/// What it calls the matrices, the first that is there.
const WEIGHTS: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];
/// What stands before the names of the model's modules.
const PREFIX: &str = "base_model.model.";

/// An adapter in a folder.
pub(super) struct Lora {
    folder: PathBuf,
    shard: Shard,
    /// By the names of the weights that they change.
    deltas: BTreeMap<String, Delta>,
}

/// What is added to one weight: scale·B·A.
struct Delta {
    /// `[rank, in…]`
    a: String,
    /// `[out, rank, …]`
    b: String,
    rank: usize,
    scale: f32,
    /// Whether the weight is stored as `[in, out]`.
    transposed: bool,
}

/// What the configuration says of how matrices are scaled.
pub(super) struct Settings {
    pub rank: usize,
    pub alpha: f64,
    /// α/√r and not α/r.
    pub root: bool,
    /// Modules with ranks and α of their own, in the file's order.
    pub ranks: Vec<(Regex, f64)>,
    pub alphas: Vec<(Regex, f64)>,
    pub fan_in_fan_out: bool,
}

impl Settings {
    fn of(patterns: &[(Regex, f64)], module: &str, usual: f64) -> f64 {
        patterns.iter().find(|(pattern, _)| pattern.is_match(module)).map_or(usual, |(_, value)| *value)
    }

    /// Rank and scale of a module's matrices.
    fn scale(&self, module: &str) -> (usize, f32) {
        let rank = Settings::of(&self.ranks, module, self.rank as f64);
        let alpha = Settings::of(&self.alphas, module, self.alpha);
        (rank as usize, (alpha / if self.root { rank.sqrt() } else { rank }) as f32)
    }
}

/// Whether a folder holds an adapter.
pub(in super::super) fn is_one(folder: &Path) -> bool {
    input::is_file(&folder.join(CONFIG))
}

/// The model that an adapter says it was trained on.
pub(in super::super) fn base(folder: &Path) -> Result<Option<String>> {
    let path = folder.join(CONFIG);
    let json: Value = serde_json::from_slice(&input::read(&path, input::limit::CONFIG)?)
        .map_err(|e| Error::config(&path, format!("not valid JSON: {e}; fetch it again")))?;
    Ok(json.get("base_model_name_or_path").and_then(Value::as_str).filter(|name| !name.is_empty()).map(String::from))
}

impl Lora {
    /// Opens the adapter in a folder for a checkpoint.
    ///
    /// # Errors
    /// [`Error::Config`] for other kinds than LoRA, settings that tipi does not have, and matrices that do not belong to
    /// the checkpoint; the errors of opening files.
    pub fn open(folder: &Path, base: &Checkpoint) -> Result<Lora> {
        let path = folder.join(CONFIG);
        if !input::is_file(&path) {
            return Err(Error::config(folder, format!("holds no {CONFIG}; give the folder that PEFT saved a LoRA to")));
        }
        let settings = lora_config::read(&path)?;
        let Some(weights) = WEIGHTS.iter().map(|name| folder.join(name)).find(|path| input::is_file(path)) else {
            return Err(Error::config(
                folder,
                format!("holds neither {} nor {}; fetch it again", WEIGHTS[0], WEIGHTS[1]),
            ));
        };
        let mut lora = Lora { folder: folder.to_path_buf(), shard: Shard::open(&weights)?, deltas: BTreeMap::new() };
        let names: Vec<String> = lora.shard.metadata.names().cloned().collect();
        for name in &names {
            lora.add(name, &settings, base)?;
        }
        if lora.deltas.is_empty() {
            return Err(Error::config(&weights, "holds no matrices; fetch it again"));
        }
        Ok(lora)
    }

    /// Adds the delta of which `name` is one of the two matrices.
    fn add(&mut self, name: &str, settings: &Settings, base: &Checkpoint) -> Result<()> {
        let bad = |reason: String| Error::config(&self.shard.path, reason);
        let stem = |kind: &str| {
            let module = name.strip_prefix(PREFIX)?.strip_suffix(".weight")?;
            module.strip_suffix(kind).or_else(|| module.strip_suffix(&format!("{kind}.default")))
        };
        let (Some(module), ending) = (match (stem(".lora_A"), stem(".lora_B")) {
            (Some(module), _) => (Some(module), "lora_A"),
            (None, module) => (module, "lora_B"),
        }) else {
            return Err(bad(format!(
                "holds '{name}', which is no matrix of a LoRA on a linear layer; tipi merges nothing else"
            )));
        };
        let other = |kind: &str| name.replacen(&format!(".{ending}."), &format!(".{kind}."), 1);
        let (a, b) = (other("lora_A"), other("lora_B"));
        if ending == "lora_B" {
            // What belongs to it adds both.
            return match self.shard.metadata.info(&a) {
                Some(_) => Ok(()),
                None => Err(bad(format!("holds '{name}' without '{a}'; fetch it again"))),
            };
        }
        // Attention of PyTorch's own keeps three matrices in one, and its adapter wraps what it does not change.
        let plain = module.replace(".base_layer", "");
        let candidates = [format!("{plain}.weight"), format!("{plain}.in_proj_weight")];
        let Some(target) = candidates.iter().find(|name| base.has(name)) else {
            return Err(Error::config(
                base.path(),
                format!(
                    "has no tensor '{}', which the LoRA in {} changes: it was made for another model{}",
                    candidates[0],
                    self.folder.display(),
                    self::base(&self.folder).ok().flatten().map(|name| format!(" ('{name}')")).unwrap_or_default()
                ),
            ));
        };
        let (info_a, Some(info_b)) = (self.shard.metadata.info(name), self.shard.metadata.info(&b)) else {
            return Err(bad(format!("holds '{name}' without '{b}'; fetch it again")));
        };
        let Some(info_a) = info_a else { return Ok(()) };
        let (outer, inner) = module.split_once(".base_layer").unwrap_or((module, ""));
        let (rank, mut scale) = settings.scale(outer);
        // What PEFT (0.21 and before) adds to the output of PyTorch's attention it adds twice: once itself, once by the layer
        // that it wraps. It does so in training as in merging, so that the matrices were learned that way.
        if inner == ".out_proj" {
            scale *= 2.0;
        }
        let flat = |shape: &[usize]| match shape.split_first() {
            Some((first, rest)) => Some((*first, rest.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?)),
            None => None,
        };
        let shape = base.shape(target)?;
        let (w, of_a, of_b) = (flat(&shape), flat(&info_a.shape), flat(&info_b.shape));
        let fits = |out: usize, input: usize| of_a == Some((rank, input)) && of_b == Some((out, rank));
        let (straight, across) = match w {
            Some((rows, cols)) => (fits(rows, cols), shape.len() == 2 && settings.fan_in_fan_out && fits(cols, rows)),
            None => (false, false),
        };
        if !is_float(info_a.dtype)
            || !is_float(info_b.dtype)
            || rank == 0
            || !(straight || across)
            || !scale.is_finite()
        {
            return Err(bad(format!(
                "'{name}' is {:?} of {:?} and '{b}' {:?} of {:?}, which do not fit rank {rank} and '{target}' {shape:?} of \
                 {}; it was made for another model, or the files do not belong together",
                info_a.shape,
                info_a.dtype,
                info_b.shape,
                info_b.dtype,
                base.path().display()
            )));
        }
        // PEFT sets the setting aside for linear layers, which all of a CLIP's are.
        let delta = Delta { a, b, rank, scale, transposed: !straight };
        if self.deltas.insert(target.clone(), delta).is_some() {
            return Err(bad(format!("changes '{target}' twice; fetch it again")));
        }
        Ok(())
    }

    /// Adds what belongs to some rows of a weight to their values; `cols` are the values of a row.
    pub fn add_to(&self, name: &str, rows: Range<usize>, cols: usize, values: &mut [f32]) -> Result<()> {
        let Some(delta) = self.deltas.get(name) else { return Ok(()) };
        let place = |name: &str| -> Result<Vec<f32>> {
            let info = self.shard.metadata.info(name);
            let info =
                info.ok_or_else(|| Error::MissingTensor { path: self.shard.path.clone(), tensor: name.into() })?;
            Place { name, shard: &self.shard, info }.all()
        };
        let (a, b, rank) = (place(&delta.a)?, place(&delta.b)?, delta.rank);
        for (row, values) in rows.zip(values.chunks_exact_mut(cols.max(1))) {
            // Each sum in f64, so that their order does not matter.
            let mut sums = vec![0.0f64; cols];
            for k in 0..rank {
                if delta.transposed {
                    let factor = f64::from(a[k * (a.len() / rank) + row]);
                    for (col, sum) in sums.iter_mut().enumerate() {
                        *sum += factor * f64::from(b[col * rank + k]);
                    }
                } else {
                    let factor = f64::from(b[row * rank + k]);
                    for (sum, a) in sums.iter_mut().zip(&a[k * cols..(k + 1) * cols]) {
                        *sum += factor * f64::from(*a);
                    }
                }
            }
            for (value, sum) in values.iter_mut().zip(&sums) {
                *value = (f64::from(*value) + f64::from(delta.scale) * sum) as f32;
            }
            numbers::check_tensor(&self.shard.path, name, values, row * cols, cols)?;
        }
        Ok(())
    }

    /// Whether a weight is changed.
    pub fn changes(&self, name: &str) -> bool {
        self.deltas.contains_key(name)
    }

    /// What tells it from others: what it changes and how, and the matrices.
    pub fn each_piece(&self, take: &mut dyn FnMut(&[u8])) -> Result<()> {
        take(b"LoRA");
        for (name, delta) in &self.deltas {
            take(name.as_bytes());
            take(&delta.scale.to_le_bytes());
        }
        self.shard.read(0, self.shard.stamp.size as usize, take)
    }

    /// A sentence for people.
    pub fn describe(&self) -> String {
        let mut ranks: Vec<usize> = self.deltas.values().map(|delta| delta.rank).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let ranks: Vec<String> = ranks.iter().map(usize::to_string).collect();
        format!("rank {} on {} matrices, from {}", ranks.join(", "), self.deltas.len(), self.folder.display())
    }
}
