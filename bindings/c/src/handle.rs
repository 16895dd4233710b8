//! What handles stand for. A handle is a number in a pointer's clothes and is never followed: it is looked up. So a handle that was
//! freed, or never was one, is an error; numbers are not given twice; and what a call works with stays until it ends, whoever frees it
//! meanwhile. A look-up takes some ten nanoseconds.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use crate::status::{Failure, Result, TipiStatus, guard};

/// Something that has a handle.
pub(crate) trait Held: Any + Send + Sync {
    /// What the handle points to, as C sees it.
    type Handle;
    /// Its kind, for messages.
    const KIND: &'static str;
}

struct Entry {
    kind: &'static str,
    value: Arc<dyn Any + Send + Sync>,
}

static LIVE: LazyLock<RwLock<HashMap<usize, Entry>>> = LazyLock::new(RwLock::default);

/// Where numbers begin: no address that a program can have on 64-bit machines, so that following a handle faults at once.
const FIRST: usize = 0x7AF1 << (usize::BITS - 16);

/// The distance of two handles, as of two pointers.
const STEP: usize = 16;

/// A handle of a value.
pub(crate) fn put<T: Held>(value: T) -> *mut T::Handle {
    static NEXT: AtomicUsize = AtomicUsize::new(FIRST);
    let number = NEXT.fetch_add(STEP, Ordering::Relaxed);
    let entry = Entry { kind: T::KIND, value: Arc::new(value) };
    LIVE.write().unwrap_or_else(PoisonError::into_inner).insert(number, entry);
    std::ptr::without_provenance_mut(number)
}

/// What a handle stands for; `argument` names it in errors.
pub(crate) fn held<T: Held>(argument: &str, handle: *const T::Handle) -> Result<Arc<T>> {
    if handle.is_null() {
        return Err(Failure::invalid(format!("{argument} is NULL: give it {}", T::KIND)));
    }
    let live = LIVE.read().unwrap_or_else(PoisonError::into_inner);
    let Some(entry) = live.get(&handle.addr()) else {
        return Err(Failure::invalid(format!("{argument} is no handle, or was freed: give it {}", T::KIND)));
    };
    let wrong = |_| Failure::invalid(format!("{argument} is {}: give it {}", entry.kind, T::KIND));
    entry.value.clone().downcast().map_err(wrong)
}

/// The same; none for NULL.
pub(crate) fn held_or_none<T: Held>(argument: &str, handle: *const T::Handle) -> Result<Option<Arc<T>>> {
    if handle.is_null() { Ok(None) } else { held(argument, handle).map(Some) }
}

/// Frees what a handle of any kind stands for, and all that was given of it. What other handles need of it stays. NULL does nothing.
/// `TIPI_INVALID` for what is no handle, or was freed before.
///
/// Ownership: the handle is gone, whatever this returns.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_free(handle: *mut c_void) -> TipiStatus {
    guard(|| {
        if handle.is_null() {
            return Ok(());
        }
        let entry = LIVE.write().unwrap_or_else(PoisonError::into_inner).remove(&handle.addr());
        // What it stood for is dropped here, with nothing locked: that may take a while.
        entry.map(drop).ok_or_else(|| Failure::invalid("handle is no handle, or was freed before"))
    })
}

/// How many handles there are that were not freed, of all kinds: to look for leaks, which tools that know only pointers do not see.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_live_handles() -> usize {
    LIVE.read().unwrap_or_else(PoisonError::into_inner).len()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Apple(u32);
    struct Pear;
    struct TipiApple;
    struct TipiPear;

    impl Held for Apple {
        type Handle = TipiApple;
        const KIND: &'static str = "an apple";
    }

    impl Held for Pear {
        type Handle = TipiPear;
        const KIND: &'static str = "a pear";
    }

    #[test]
    fn handles_are_of_a_kind_and_freed_once() {
        let says = |failure: Failure| failure.message;
        let (apple, pear) = (put(Apple(7)), put(Pear));
        assert_eq!(held::<Apple>("fruit", apple).map(|apple| apple.0).map_err(says), Ok(7));
        assert_eq!(
            held::<Apple>("fruit", pear.cast()).map(drop).map_err(says),
            Err("fruit is a pear: give it an apple".into())
        );
        assert_eq!(
            held::<Apple>("fruit", std::ptr::null()).map(drop).map_err(says),
            Err("fruit is NULL: give it an apple".into())
        );
        assert!(matches!(held_or_none::<Apple>("fruit", std::ptr::null()), Ok(None)));
        // What is in use stays.
        let kept = held::<Apple>("fruit", apple).map_err(says).unwrap();
        assert_eq!(tipi_free(apple.cast()), TipiStatus::TipiOk);
        assert_eq!(kept.0, 7);
        let gone = held::<Apple>("fruit", apple).map(drop).map_err(says).unwrap_err();
        assert_eq!(gone, "fruit is no handle, or was freed: give it an apple");
        assert_eq!(tipi_free(apple.cast()), TipiStatus::TipiInvalid);
        assert_eq!(tipi_free(std::ptr::null_mut()), TipiStatus::TipiOk);
        let other = put(Apple(8));
        assert_ne!(other, apple);
        assert_eq!((tipi_free(other.cast()), tipi_free(pear.cast())), (TipiStatus::TipiOk, TipiStatus::TipiOk));
    }
}
