//! Training put down in a file after every epoch, with the optimizer's state, and taken up from it with the same bits.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use super::{Config, Form, NoisyPrompts, State};
use crate::adapt::adapter_file::floats;
use crate::clip::{Clip, ModelId};
use crate::files::write_own;
use crate::{Error, Result, input, numbers};

const FORMAT: &str = "tipi-pini-checkpoint/1";

/// What training must have in common to be taken up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    model: ModelId,
    classes: Vec<String>,
    config: Config,
    /// What is trained on, in words or as a digest: pictures, labels and views.
    data: String,
}

impl Run {
    /// Training of `clip` on `data`, a description or digest of the pictures, their labels and their views.
    ///
    /// # Errors
    /// As [`Clip::id`].
    pub fn new(clip: &Clip, classes: &[String], config: &Config, data: &str) -> Result<Run> {
        Ok(Run { model: clip.id()?.clone(), classes: classes.to_vec(), config: config.clone(), data: data.into() })
    }

    /// What in another run differs first, in words.
    fn difference(&self, found: &Run) -> Option<String> {
        if self.model.sha256 != found.model.sha256 {
            return Some(format!("it is of model '{}', this is '{}'", found.model.name, self.model.name));
        }
        if self.classes != found.classes {
            return Some(format!("it has {} classes, these are {} others", found.classes.len(), self.classes.len()));
        }
        if let Some(text) = crate::settings::difference(&found.config, &self.config) {
            return Some(text);
        }
        (self.data != found.data).then(|| "it was trained on other pictures or other views of them".into())
    }
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    #[serde(flatten)]
    run: Run,
    epoch: usize,
    step: usize,
    losses: Vec<f32>,
}

/// Writes a state through a temporary file.
///
/// # Errors
/// [`Error::Io`], also for a link at `path`; a state of another form than the run's.
pub fn save(path: &Path, clip: &Clip, run: &Run, state: &State) -> Result<()> {
    let bad = |e: &dyn std::fmt::Display| Error::adapter_file(path, format!("cannot be written: {e}"));
    let mut views = Vec::new();
    for (i, (name, shape)) in form(clip, run)?.parameters().into_iter().enumerate() {
        for (name, values) in [(name.to_string(), &state.params), (format!("velocity.{name}"), &state.velocity)] {
            let values = values.get(i).ok_or_else(|| bad(&"a parameter is missing"))?;
            let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
            views.push((name, view.map_err(|e| bad(&e))?));
        }
    }
    let (epoch, step, losses) = (state.epoch, state.step, state.losses.clone());
    let header = Header { format: FORMAT.into(), run: run.clone(), epoch, step, losses };
    let json = serde_json::to_string(&header).map_err(|e| bad(&e))?;
    let bytes = safetensors::serialize(views, Some(HashMap::from([("tipi".to_string(), json)])));
    write_own(path, &bytes.map_err(|e| bad(&e))?)
}

fn form(clip: &Clip, run: &Run) -> Result<Form> {
    let noisy = NoisyPrompts::of(clip, &run.config, &run.classes)?.noisy;
    Form::new(clip, noisy, &run.config)
}

/// Reads the state that the same run left.
///
/// # Errors
/// [`Error::Io`] when there is no such file; [`Error::AdapterFile`] for a file of another run, with what differs, or one
/// that is no checkpoint; [`Error::MissingTensor`], [`Error::TensorForm`], [`Error::NotFinite`].
pub fn load(path: &Path, clip: &Clip, run: &Run) -> Result<State> {
    let bytes = input::read(path, input::limit::TENSORS)?;
    let unsound = |e: safetensors::SafeTensorError| Error::Safetensors {
        path: path.to_path_buf(),
        reason: format!("{e}; the file is truncated or damaged, remove it to start anew"),
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(unsound)?;
    let json = metadata.metadata().as_ref().and_then(|m| m.get("tipi"));
    let json = json.ok_or_else(|| Error::adapter_file(path, "this is no checkpoint of PiNI's"))?;
    let header: Header = serde_json::from_str(json)
        .map_err(|e| Error::adapter_file(path, format!("this is no checkpoint of PiNI's: {e}")))?;
    if header.format != FORMAT {
        let reason = format!("format '{}', this tipi reads '{FORMAT}'; remove it to start anew", header.format);
        return Err(Error::adapter_file(path, reason));
    }
    if let Some(difference) = run.difference(&header.run) {
        let reason = format!("a checkpoint of other settings: {difference}; give those, or remove it to start anew");
        return Err(Error::adapter_file(path, reason));
    }
    let sound = header.losses.len() == header.epoch && numbers::not_finite(&header.losses).is_none();
    if !sound || header.epoch > run.config.epochs || u32::try_from(header.step).is_err() {
        let reason = format!(
            "epoch {} of {}, step {} and {} losses do not belong together; remove it to start anew",
            header.epoch,
            run.config.epochs,
            header.step,
            header.losses.len()
        );
        return Err(Error::adapter_file(path, reason));
    }
    let file = SafeTensors::deserialize(&bytes).map_err(unsound)?;
    let read = |name: &str, shape: &[usize]| floats(path, &file, name, shape);
    let parameters = form(clip, run)?.parameters();
    let params = parameters.iter().map(|(name, shape)| read(name, shape)).collect::<Result<_>>()?;
    let velocity = parameters.iter().map(|(name, shape)| read(&format!("velocity.{name}"), shape));
    let velocity = velocity.collect::<Result<_>>()?;
    Ok(State { epoch: header.epoch, step: header.step, losses: header.losses, params, velocity })
}
