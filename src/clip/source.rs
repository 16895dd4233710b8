//! What a model is loaded from: a folder, or a file in one, and perhaps a LoRA.

use std::path::{Component, Path, PathBuf, Prefix};

use super::checkpoint::{Checkpoint, is_lora, lora_base};
use crate::named::Files;
use crate::{Error, Result, input, text};

/// What describes a model beside its weights, and is read with them. All of it counts in the model's identity, the first three
/// even where they are not there. None of them has more than [`crate::input::limit::TOKENIZER`] bytes.
pub(crate) const DESCRIPTIONS: [&str; 6] = [
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "open_clip_config.json",
    "processor_config.json",
    "spiece.model",
];

/// Where a model's weights and what describes them lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    given: PathBuf,
    /// The folder or file of the weights.
    weights: PathBuf,
    lora: Option<PathBuf>,
    /// Keeps the model's files there, where a program gave them.
    files: Option<Files>,
}

impl Source {
    /// The model in a folder, or in a file whose folder may hold what describes it; with a LoRA's folder, merged with that. A
    /// folder that holds a LoRA and no weights stands for both: for the model that it was trained on, where that is a folder
    /// here or in the hub's cache, and itself.
    ///
    /// # Errors
    /// [`Error::Config`] where there is no such file or folder, or where a LoRA's model is not to be found; [`Error::Io`].
    pub fn of(model: &Path, lora: Option<&Path>) -> Result<Source> {
        if !input::exists(model) {
            return Err(Error::config(
                model,
                "no such model; give the folder that holds model.safetensors, or a file of weights",
            ));
        }
        let given = model.to_path_buf();
        let files = Files::at(model);
        let source =
            |weights: PathBuf, lora: Option<&Path>| Source { given, weights, lora: lora.map(Path::to_path_buf), files };
        if !Source::is_lora(model) {
            return Ok(source(model.to_path_buf(), lora));
        }
        if lora.is_some() {
            return Err(Error::config(model, "holds a LoRA and no model to merge another with; give the model itself"));
        }
        Ok(source(base_of(model)?, Some(model)))
    }

    /// Whether a folder holds a LoRA and no weights of its own.
    pub fn is_lora(folder: &Path) -> bool {
        input::is_folder(folder) && is_lora(folder) && !Checkpoint::is_in(folder)
    }

    /// What was given as the model.
    pub fn model(&self) -> &Path {
        &self.given
    }

    /// The folder of the LoRA, if there is one.
    pub fn lora(&self) -> Option<&Path> {
        self.lora.as_deref()
    }

    /// The LoRA's folder where it was given beside the model.
    pub fn given_lora(&self) -> Option<&Path> {
        self.lora().filter(|lora| *lora != self.given)
    }

    /// The folder or file of the weights.
    pub(super) fn weights(&self) -> &Path {
        &self.weights
    }

    /// The folder of what describes the weights.
    pub fn folder(&self) -> &Path {
        if input::is_folder(&self.weights) {
            return &self.weights;
        }
        match self.weights.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// The file of the weights, where one was given and not a folder.
    pub fn file(&self) -> Option<&Path> {
        (!input::is_folder(&self.weights)).then_some(self.weights.as_path())
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        let of = |path: &Path| {
            let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
            let name = if input::is_folder(&path) { path.file_name() } else { path.file_stem() };
            name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
        };
        match &self.lora {
            Some(lora) => format!("{}+{}", of(&self.weights), of(lora)),
            None => of(&self.weights),
        }
    }
}

/// The folder or file of the model that the LoRA in `folder` was trained on.
fn base_of(folder: &Path) -> Result<PathBuf> {
    let advice = "give that model, and this folder as its LoRA";
    let Some(name) = lora_base(folder)? else {
        return Err(Error::config(
            folder,
            format!("is a LoRA that does not say on which model it was trained; {advice}"),
        ));
    };
    let path = Path::new(&name);
    let shown = text::cut(&name, text::NAME);
    // The words are anybody's: they lead to no other computer.
    if !is_network(path) && path.exists() {
        if Source::is_lora(path) {
            return Err(Error::config(folder, format!("is a LoRA on another, '{shown}'; merge that first")));
        }
        return Ok(path.to_path_buf());
    }
    #[cfg(feature = "hub")]
    if let Some(cached) = crate::hub::Hub::from_env().ok().and_then(|hub| hub.cached(&name, crate::hub::REVISION)) {
        return Ok(cached);
    }
    Err(Error::config(
        folder,
        format!("is a LoRA on '{shown}', which is neither a folder here nor in the hub's cache; fetch it, or {advice}"),
    ))
}

/// Whether a path leads to another computer, as far as a path tells.
fn is_network(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    // `//server/share` and `\\\\server\\share`; a verbatim path of a disk begins so, too.
    match path.components().next() {
        Some(Component::Prefix(prefix)) => !matches!(prefix.kind(), Prefix::Disk(_) | Prefix::VerbatimDisk(_)),
        _ => text.starts_with(b"//") || text.starts_with(b"\\\\"),
    }
}

/// Whether a path is whole, and on this computer as far as a path tells.
pub(crate) fn is_local(path: &Path) -> bool {
    path.is_absolute() && !is_network(path)
}
