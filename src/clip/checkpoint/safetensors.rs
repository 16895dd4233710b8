//! The header of a safetensors file.

use std::collections::BTreeMap;
use std::io;

use safetensors::SafeTensorError;
use safetensors::tensor::{Metadata, SafeTensors};
use serde::Deserialize;

use super::shard::{Info, Tensors, Unread};
use crate::input::Stored;

/// The most bytes of a header, as the format has it.
const LARGEST_HEADER: u64 = 100_000_000;

/// Where the tensors of a file of `size` bytes lie; only its header is read.
pub(super) fn read(file: &Stored, size: u64) -> Result<Tensors, Unread> {
    let Some(room) = size.checked_sub(8) else {
        return Err("shorter than its 8-byte header length; download it again".to_string().into());
    };
    let mut length = [0; 8];
    file.read_exact_at(&mut length, 0)?;
    let header = u64::from_le_bytes(length).min(room).min(LARGEST_HEADER);
    let mut head = vec![0; 8 + header as usize];
    file.read_exact_at(&mut head, 0)?;
    let room = room - header;
    let metadata = parse_header(&head, room).map_err(|e| {
        let cut = cut_tensor(&head, room).map(|name| format!(", and tensor '{name}' is not all there"));
        format!("{e}{}; the file is truncated or damaged, fetch it again", cut.unwrap_or_default())
    })?;
    let table = metadata.tensors().into_iter().map(|(name, info)| {
        let (start, end) = info.data_offsets;
        // The crate has checked the lengths against shapes and types.
        let bytes = end.saturating_sub(start) as u64;
        let start = 8 + header + start as u64;
        (name, Info { dtype: info.dtype, shape: info.shape.clone(), start, bytes, strides: None })
    });
    Ok(table.collect())
}

/// Whether a file that begins with these bytes may be one.
pub(super) fn begins(head: &[u8]) -> bool {
    head.get(8) == Some(&b'{')
}

/// The header of a file whose first bytes are `head`, with `room` bytes behind them.
fn parse_header(head: &[u8], room: u64) -> Result<Metadata, SafeTensorError> {
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

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Unread {
        Unread::Io(error)
    }
}

impl From<String> for Unread {
    fn from(reason: String) -> Unread {
        Unread::Bad(reason)
    }
}
