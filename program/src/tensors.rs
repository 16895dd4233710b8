//! Tensors in the user's safetensors files, with errors that name file and tensor.

use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, SafeTensors};
use tipi::Error;
use tipi::low_level::numbers;

/// A safetensors file, read whole.
pub struct TensorFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl TensorFile {
    /// Reads a file and checks its header.
    pub fn open(path: &Path) -> Result<TensorFile, Error> {
        let bytes = tipi::low_level::input::read(path, tipi::low_level::input::limit::TENSORS)?;
        SafeTensors::deserialize(&bytes).map_err(|e| Error::Safetensors {
            path: path.into(),
            reason: format!("{e}; the file is truncated or damaged"),
        })?;
        Ok(TensorFile { path: path.into(), bytes })
    }

    fn parsed(&self) -> Option<SafeTensors<'_>> {
        SafeTensors::deserialize(&self.bytes).ok()
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.parsed().is_some_and(|file| file.tensor(name).is_ok())
    }

    /// Shape, dtype and bytes.
    pub fn raw(&self, name: &str) -> Result<(Vec<usize>, Dtype, Vec<u8>), Error> {
        let missing = || Error::MissingTensor { path: self.path.clone(), tensor: name.into() };
        let file = self.parsed().ok_or_else(missing)?;
        let view = file.tensor(name).map_err(|_| missing())?;
        Ok((view.shape().to_vec(), view.dtype(), view.data().to_vec()))
    }

    /// Shape and values of an f32 tensor, all finite.
    pub fn f32(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), Error> {
        match self.raw(name)? {
            (shape, Dtype::F32, bytes) => {
                let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
                numbers::check_tensor(&self.path, name, &values, 0, shape.last().copied().unwrap_or(1))?;
                Ok((shape, values))
            }
            _ => Err(self.form(name, "F32".into())),
        }
    }

    /// Shape and values of a tensor of integers of any width.
    pub fn integers(&self, name: &str) -> Result<(Vec<usize>, Vec<i64>), Error> {
        fn widen<T: bytemuck::Pod + Into<i64>>(bytes: &[u8]) -> Vec<i64> {
            bytemuck::pod_collect_to_vec::<u8, T>(bytes).into_iter().map(Into::into).collect()
        }
        let (shape, dtype, bytes) = self.raw(name)?;
        let values = match dtype {
            Dtype::I64 | Dtype::U64 => bytemuck::pod_collect_to_vec(&bytes),
            Dtype::I32 => widen::<i32>(&bytes),
            Dtype::U32 => widen::<u32>(&bytes),
            Dtype::I16 => widen::<i16>(&bytes),
            Dtype::U16 => widen::<u16>(&bytes),
            Dtype::U8 => widen::<u8>(&bytes),
            _ => return Err(self.form(name, "integers".into())),
        };
        Ok((shape, values))
    }

    /// The error of a tensor that is not as it should be.
    pub fn form(&self, tensor: &str, expected: String) -> Error {
        let found = self.raw(tensor).map_or("not there".into(), |(shape, dtype, _)| format!("{shape:?} of {dtype:?}"));
        Error::TensorForm { path: self.path.clone(), tensor: tensor.into(), expected, found }
    }
}
