//! Text, bytes and messages that are made when they are asked for.

use crate::foreign::{Kept, TipiStr, item, place};
use crate::handle::{Held, held};
use crate::status::{TipiStatus, guard};

/// A text.
pub struct TipiText {
    _private: [u8; 0],
}

/// Bytes: of an adapter's file.
pub struct TipiBytes {
    _private: [u8; 0],
}

/// Messages, each with its status: of pictures that were left out.
pub struct TipiMessages {
    _private: [u8; 0],
}

pub(crate) struct Text(pub Kept);

pub(crate) struct Bytes(pub Vec<u8>);

pub(crate) struct Messages(Vec<(TipiStatus, Kept)>);

impl Held for Text {
    type Handle = TipiText;
    const KIND: &'static str = "a TipiText";
}

impl Held for Bytes {
    type Handle = TipiBytes;
    const KIND: &'static str = "TipiBytes";
}

impl Held for Messages {
    type Handle = TipiMessages;
    const KIND: &'static str = "TipiMessages";
}

impl Messages {
    pub fn of<'a>(errors: impl Iterator<Item = &'a tipi::Error>) -> Messages {
        Messages(errors.map(|error| (TipiStatus::of(error), error.to_string().as_str().into())).collect())
    }
}

/// What a text says.
///
/// Ownership: `*content` is the text's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_text_get(text: *const TipiText, content: *mut TipiStr) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        place("content", content)?.write(held::<Text>("text", text)?.0.str());
        Ok(())
    })
}

/// Where bytes lie, and how many.
///
/// Ownership: `*data` is that of `bytes`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_bytes_get(
    bytes: *const TipiBytes,
    data: *mut *const u8,
    length: *mut usize,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let bytes = held::<Bytes>("bytes", bytes)?;
        let (data, length) = (place("data", data)?, place("length", length)?);
        data.write(bytes.0.as_ptr());
        length.write(bytes.0.len());
        Ok(())
    })
}

/// How many messages there are.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_messages_count(messages: *const TipiMessages, count: *mut usize) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        place("count", count)?.write(held::<Messages>("messages", messages)?.0.len());
        Ok(())
    })
}

/// The message of this number, from 0 on, and its status. `status` may be NULL.
///
/// Ownership: `*message` is that of `messages`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_messages_get(
    messages: *const TipiMessages,
    number: usize,
    status: *mut TipiStatus,
    message: *mut TipiStr,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let messages = held::<Messages>("messages", messages)?;
        let (its, text) = item("number", &messages.0, number)?;
        let message = place("message", message)?;
        if !status.is_null() {
            place("status", status)?.write(*its);
        }
        message.write(text.str());
        Ok(())
    })
}
