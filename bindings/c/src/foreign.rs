//! What comes from C by pointers, and what goes back by them.

use std::ffi::{CStr, CString, c_char};

use crate::handle::{Held, put};
use crate::status::{Failure, Result, terminated};

/// Text in UTF-8, `length` bytes long. What tipi gives has a NUL after its last byte, which is not counted; what it is given needs none.
/// `data` may be NULL where `length` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct TipiStr {
    /// Its first byte.
    pub data: *const c_char,
    /// Bytes.
    pub length: usize,
}

impl Default for TipiStr {
    fn default() -> TipiStr {
        TipiStr::of_c(c"")
    }
}

impl TipiStr {
    /// A constant of this library, which ends with NUL.
    pub(crate) fn fixed(text: &'static str) -> TipiStr {
        debug_assert!(text.ends_with('\0'));
        TipiStr { data: text.as_ptr().cast(), length: text.len().saturating_sub(1) }
    }

    /// Text that somebody keeps.
    pub(crate) fn of_c(text: &CStr) -> TipiStr {
        TipiStr { data: text.as_ptr(), length: text.count_bytes() }
    }

    /// The text; `argument` names it in errors.
    ///
    /// # Safety
    /// There are `length` bytes at `data`, which nobody changes meanwhile.
    pub(crate) unsafe fn text<'a>(self, argument: &str) -> Result<&'a str> {
        // SAFETY: as promised.
        let bytes = unsafe { slice(argument, self.data.cast::<u8>(), self.length) }?;
        std::str::from_utf8(bytes).map_err(|error| {
            Failure::invalid(format!("{argument} is no UTF-8: byte {} does not belong there", error.valid_up_to()))
        })
    }

    /// The text; none where it is empty.
    ///
    /// # Safety
    /// As [`TipiStr::text`].
    pub(crate) unsafe fn given<'a>(self, argument: &str) -> Result<Option<&'a str>> {
        // SAFETY: as promised.
        let text = unsafe { self.text(argument) }?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }
}

/// `count` values at a pointer; `argument` names it in errors.
///
/// # Safety
/// They are there, and nobody changes them meanwhile.
pub(crate) unsafe fn slice<'a, T>(argument: &str, first: *const T, count: usize) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if first.is_null() {
        return Err(Failure::invalid(format!("{argument} is NULL, and its count is {count}")));
    }
    if !first.is_aligned() {
        return Err(Failure::invalid(format!("{argument} does not lie on a multiple of {} bytes", align_of::<T>())));
    }
    if count.checked_mul(size_of::<T>()).is_none_or(|bytes| isize::try_from(bytes).is_err()) {
        return Err(Failure::invalid(format!("{argument}: no memory holds {count} of them")));
    }
    // SAFETY: it is neither NULL nor askew nor longer than memory; the rest is promised.
    Ok(unsafe { std::slice::from_raw_parts(first, count) })
}

/// `count` texts, each named by its number in errors.
///
/// # Safety
/// They are there, and nobody changes them meanwhile.
pub(crate) unsafe fn texts<'a>(argument: &str, first: *const TipiStr, count: usize) -> Result<Vec<&'a str>> {
    // SAFETY: as promised.
    let all = unsafe { slice(argument, first, count) }?;
    // SAFETY: as promised.
    all.iter().enumerate().map(|(i, text)| unsafe { text.text(&format!("{argument}[{i}]")) }).collect()
}

/// A structure of options that begins with its size; the usual one for NULL.
///
/// # Safety
/// There are so many bytes of it as it says.
pub(crate) unsafe fn options<T: Options>(argument: &str, given: *const T) -> Result<T> {
    if given.is_null() {
        return Ok(T::USUAL);
    }
    if !given.is_aligned() {
        return Err(Failure::invalid(format!("{argument} does not lie on a multiple of {} bytes", align_of::<T>())));
    }
    // SAFETY: every structure of options begins with its size.
    let size = unsafe { given.cast::<usize>().read() };
    if size != size_of::<T>() {
        return Err(Failure::invalid(format!(
            "{argument}.size is {size}, and must be {}: set it to sizeof and everything else to 0",
            size_of::<T>()
        )));
    }
    // SAFETY: it is as long as its type, and made of plain numbers and pointers.
    Ok(unsafe { given.read() })
}

/// Options that begin with their size, for which any bits will do.
///
/// # Safety
/// It is `repr(C)`, its first field is a `usize`, and its fields are numbers, pointers and [`TipiStr`]s.
pub(crate) unsafe trait Options {
    const USUAL: Self;
}

/// Where a result goes.
///
/// # Safety
/// NULL, or a place for one.
pub(crate) unsafe fn place<'a, T>(argument: &str, place: *mut T) -> Result<&'a mut std::mem::MaybeUninit<T>> {
    if place.is_null() {
        return Err(Failure::invalid(format!("{argument} is NULL: give it a place for the result")));
    }
    if !place.is_aligned() {
        return Err(Failure::invalid(format!("{argument} does not lie on a multiple of {} bytes", align_of::<T>())));
    }
    // SAFETY: it is neither NULL nor askew; the rest is promised. What lies there need not be a T yet.
    Ok(unsafe { &mut *place.cast() })
}

/// Where a handle goes. It is NULL until then.
pub(crate) struct Place<'a, T: Held>(&'a mut *mut T::Handle);

impl<T: Held> Place<'_, T> {
    /// # Safety
    /// NULL, or a place for one.
    pub unsafe fn at<'a>(argument: &str, at: *mut *mut T::Handle) -> Result<Place<'a, T>> {
        // SAFETY: as promised.
        Ok(Place(unsafe { place(argument, at) }?.write(std::ptr::null_mut())))
    }

    /// The same; none for NULL.
    ///
    /// # Safety
    /// As [`Place::at`].
    pub unsafe fn at_or_none<'a>(argument: &str, at: *mut *mut T::Handle) -> Result<Option<Place<'a, T>>> {
        // SAFETY: as promised.
        if at.is_null() { Ok(None) } else { unsafe { Place::at(argument, at) }.map(Some) }
    }

    pub fn put(self, value: T) {
        *self.0 = put(value);
    }
}

/// Text that lives as long as what keeps it.
#[derive(Default)]
pub(crate) struct Kept(CString);

impl Kept {
    pub fn str(&self) -> TipiStr {
        TipiStr::of_c(&self.0)
    }

    pub fn text(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl From<&str> for Kept {
    fn from(text: &str) -> Kept {
        Kept(terminated(text))
    }
}

/// Several such texts.
pub(crate) fn kept(texts: &[String]) -> Vec<Kept> {
    texts.iter().map(|text| text.as_str().into()).collect()
}

/// The item of this number.
pub(crate) fn item<'a, T>(argument: &str, all: &'a [T], number: usize) -> Result<&'a T> {
    all.get(number)
        .ok_or_else(|| Failure::invalid(format!("{argument} is {number}, and there are {}, counted from 0", all.len())))
}
