//! Files of features, each written as what its ending says: safetensors, NumPy's .npy or CSV.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use safetensors::tensor::{Dtype, TensorView};
use tipi::Error;
use tipi::low_level::output::{Kind, NPY_HEADER, Output, mark_embeddings};
use tipi::low_level::text;

use crate::answers::field;
use crate::outputs::ForceArgs;
use crate::terminal::note;

/// Forms of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Safetensors,
    Npy,
    Csv,
}

const ENDINGS: &str = ".safetensors, .npy or .csv";

impl Form {
    fn of(path: &Path) -> Result<Form> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
        match ending.as_deref() {
            Some("safetensors") => Ok(Form::Safetensors),
            Some("npy") => Ok(Form::Npy),
            Some("csv") => Ok(Form::Csv),
            // Standard output, and pipes that have whatever name.
            _ if path == Path::new("-") || path.exists() && !path.is_file() && !path.is_dir() => Ok(Form::Safetensors),
            Some("parquet") => {
                Err(Error::Invalid(format!("--out: Parquet is not written: give a name that ends in {ENDINGS}")).into())
            }
            Some(other) => Err(Error::Invalid(format!(
                "--out: nothing is written as '.{other}': give a name that ends in {ENDINGS}"
            ))
            .into()),
            None => Err(Error::Invalid(format!(
                "--out: '{}' has no ending, which says in what form to write: give a name that ends in {ENDINGS}",
                path.display()
            ))
            .into()),
        }
    }
}

/// Where features go.
pub struct Target {
    form: Form,
    /// The file itself.
    pub output: Output,
    /// The names of the rows, for a form that has no place for them.
    names: Option<Output>,
}

/// What features go into a file.
pub struct Contents {
    /// What the rows are of: `path`, `text`, `class`.
    what: &'static str,
    tensors: Vec<(&'static str, Dtype, Vec<usize>, Vec<u8>)>,
    /// What each row is of.
    pub names: Vec<String>,
    /// SHA-256 of the model, where rows are of pictures.
    pub model: Option<String>,
}

impl Target {
    /// Looks at the file that `--out` names, and at the one beside it.
    pub fn open(force: &ForceArgs, path: &Path) -> Result<Target> {
        let form = Form::of(path);
        if form.is_err() && path.is_file() {
            // What is there says more than its ending: a forgotten name often makes a picture the output.
            force.open(path, Kind::Embeddings)?;
        }
        let form = form?;
        let output = match form {
            Form::Safetensors => force.open_or_stdout(path, Kind::Embeddings)?,
            Form::Npy | Form::Csv => force.open(path, Kind::Embeddings)?,
        };
        let names = match form {
            // Names belong to the features beside them, and go where those go.
            Form::Npy => Some(Output::open(&beside(path), Kind::Embeddings, force.force || path.is_file())?),
            _ => None,
        };
        Ok(Target { form, output, names })
    }

    /// Says that the work reads `path`.
    pub fn reads(&self, path: &Path, what: &str) -> tipi::Result<()> {
        std::iter::once(&self.output).chain(&self.names).try_for_each(|output| output.reads(path, what))
    }

    /// Fails for what has no place in this form.
    pub fn takes(&self, labels: bool, adapted: bool) -> Result<()> {
        match (self.form, labels || adapted) {
            (Form::Npy, true) => {
                let what = if labels { "--labels" } else { "--correction" };
                let reason =
                    format!("{what}: a .npy file holds one array: give a name that ends in .safetensors or .csv");
                Err(Error::Invalid(reason).into())
            }
            _ => Ok(()),
        }
    }

    /// Writes them, and says so.
    pub fn write(self, contents: &Contents) -> Result<()> {
        let bytes = match self.form {
            Form::Safetensors => contents.safetensors()?,
            Form::Npy => contents.npy(),
            Form::Csv => contents.csv(),
        };
        let written: Vec<_> = contents.tensors.iter().map(|(name, _, shape, _)| format!("{name} {shape:?}")).collect();
        let name = self.output.name();
        // The names first: whoever sees the features finds them.
        let mut also = String::new();
        if let Some(names) = self.names {
            also = format!(", and what its rows are of to {}", names.name());
            let lines = contents.names.iter().map(|name| format!("{}\n", text::escaped(name))).collect::<String>();
            names.write(lines.as_bytes())?;
        }
        self.output.write(&bytes)?;
        note!("wrote {} to {name}{also}", written.join(", "));
        Ok(())
    }
}

/// The file of names beside one of features: `x.paths.txt` beside `x.npy`.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path.file_stem().unwrap_or_default());
    name.push(".paths.txt");
    path.with_file_name(name)
}

impl Contents {
    /// Nothing so far; `what` says what the rows are of.
    pub fn new(what: &'static str) -> Contents {
        Contents { what, tensors: Vec::new(), names: Vec::new(), model: None }
    }

    /// Adds rows of numbers.
    pub fn f32(&mut self, name: &'static str, width: usize, values: &[f32]) {
        let shape = vec![values.len() / width, width];
        self.tensors.push((name, Dtype::F32, shape, bytemuck::cast_slice(values).to_vec()));
    }

    /// Adds the numbers of the rows' classes.
    pub fn labels(&mut self, labels: &[i64]) {
        let bytes = bytemuck::cast_slice(labels).to_vec();
        self.tensors.push(("labels", Dtype::I64, vec![labels.len()], bytes));
    }

    fn safetensors(&self) -> Result<Vec<u8>> {
        let metadata = HashMap::from([("inputs".to_string(), serde_json::to_string(&self.names)?)]);
        let mut views = Vec::new();
        for (name, dtype, shape, bytes) in &self.tensors {
            views.push((*name, TensorView::new(*dtype, shape.clone(), bytes)?));
        }
        Ok(mark_embeddings(&safetensors::serialize(views, Some(metadata))?, self.model.as_deref())?)
    }

    /// The first array, in version 1.0 of NumPy's format.
    fn npy(&self) -> Vec<u8> {
        let Some((_, _, shape, values)) = self.tensors.first() else { return Vec::new() };
        let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
        let description = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}), }}", shape.join(", "));
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        // The length of what follows it. Blanks fill the header up to a length by which tipi knows its own.
        bytes.extend(((NPY_HEADER - bytes.len() - 2) as u16).to_le_bytes());
        bytes.extend(description.bytes());
        bytes.resize(NPY_HEADER - 1, b' ');
        bytes.push(b'\n');
        bytes.extend(values);
        bytes
    }

    /// A line a row: what it is of, its class where there are labels, its values.
    fn csv(&self) -> Vec<u8> {
        let mut lines = self.what.to_owned();
        let labels = self.tensors.iter().find(|(name, ..)| *name == "labels");
        let labels: Vec<i64> = labels.map(|(.., bytes)| bytemuck::pod_collect_to_vec(bytes)).unwrap_or_default();
        if !labels.is_empty() {
            lines.push_str(",label");
        }
        let arrays = self.tensors.iter().filter(|(_, dtype, ..)| *dtype == Dtype::F32);
        let arrays: Vec<(&str, usize, Vec<f32>)> =
            arrays.map(|(name, _, shape, bytes)| (*name, shape[1], bytemuck::pod_collect_to_vec(bytes))).collect();
        for (name, width, _) in &arrays {
            let letter = if *name == "adapted" { 'a' } else { 'f' };
            (0..*width).for_each(|at| {
                let _ = write!(lines, ",{letter}{at}");
            });
        }
        lines.push('\n');
        for (row, name) in self.names.iter().enumerate() {
            lines.push_str(&field(&text::escaped_lines(name)));
            if let Some(label) = labels.get(row) {
                let _ = write!(lines, ",{label}");
            }
            // As few digits as tell an f32 from all others.
            for value in arrays.iter().flat_map(|(_, width, values)| &values[row * width..][..*width]) {
                let _ = write!(lines, ",{value}");
            }
            lines.push('\n');
        }
        lines.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        let mut contents = Contents::new("path");
        contents.f32("features", 2, &[1.5, -0.1, 3.0, 4e-30]);
        contents.names = vec!["a,b.png".into(), "c.png".into()];
        contents
    }

    #[test]
    fn an_ending_says_what_is_written() {
        for (path, form) in [("a.NPY", Form::Npy), ("a.csv", Form::Csv), ("-", Form::Safetensors)] {
            assert_eq!(Form::of(Path::new(path)).unwrap(), form);
        }
        for path in ["a.parquet", "a.bin", "a", ".npy"] {
            let error = Form::of(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(ENDINGS), "{error}");
        }
        assert_eq!(beside(Path::new("x/a.b.npy")), Path::new("x/a.b.paths.txt"));
    }

    #[test]
    fn rows_are_written_as_they_are() {
        let mut contents = contents();
        let npy = contents.npy();
        assert_eq!(npy.len(), NPY_HEADER + 16);
        assert_eq!((npy[8], npy[9]), (246, 0), "the length of what follows it");
        assert!(npy[10..].starts_with(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }"));
        assert_eq!(npy[NPY_HEADER - 1], b'\n');
        assert_eq!(bytemuck::pod_collect_to_vec::<u8, f32>(&npy[NPY_HEADER..]), [1.5, -0.1, 3.0, 4e-30]);
        contents.labels(&[1, 0]);
        let csv = String::from_utf8(contents.csv()).unwrap();
        assert_eq!(csv.lines().next(), Some("path,label,f0,f1"));
        assert_eq!(csv.lines().nth(1), Some("\"a,b.png\",1,1.5,-0.1"));
        let last: f32 = csv.lines().nth(2).unwrap().rsplit(',').next().unwrap().parse().unwrap();
        assert_eq!(last, 4e-30);
    }
}
