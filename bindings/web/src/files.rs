//! A model's files: bytes, or blobs of which only the parts that are asked for come into memory.

use std::io::{self, ErrorKind};

use js_sys::Uint8Array;
use tipi::{Files, ReadAt, Result};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Blob, FileReaderSync};

use crate::values::{field, list, text};

/// A blob, as a file from a disk or from the browser's cache is one. A worker may read it while it waits.
struct OfBlob {
    blob: Blob,
    size: u64,
}

// SAFETY: the module is built without atomics, so that there is one thread only.
unsafe impl Send for OfBlob {}
// SAFETY: as above.
unsafe impl Sync for OfBlob {}

impl ReadAt for OfBlob {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_exact_at(&self, bytes: &mut [u8], start: u64) -> io::Result<()> {
        let end =
            start.checked_add(bytes.len() as u64).filter(|end| *end <= self.size).ok_or(ErrorKind::UnexpectedEof)?;
        let failed = |error: JsValue| io::Error::other(format!("the browser cannot read it: {error:?}"));
        let part = self.blob.slice_with_f64_and_f64(start as f64, end as f64).map_err(failed)?;
        let read = FileReaderSync::new().and_then(|reader| reader.read_as_array_buffer(&part)).map_err(failed)?;
        let read = Uint8Array::new(&read);
        if read.length() as usize != bytes.len() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        read.copy_to(bytes);
        Ok(())
    }
}

/// The files of a request: a list of {name, blob} or {name, bytes}.
pub fn files(request: &JsValue) -> Result<Files> {
    let mut all: Vec<(String, Box<dyn ReadAt>)> = Vec::new();
    for file in list(request, "files")?.iter() {
        let bytes: Box<dyn ReadAt> = match field(&file, "blob").dyn_into::<Blob>() {
            Ok(blob) => Box::new(OfBlob { size: blob.size() as u64, blob }),
            Err(_) => Box::new(crate::values::bytes(&file, "bytes")?),
        };
        all.push((text(&file, "name")?, bytes));
    }
    Files::new(&text(request, "name")?, all)
}
