//! What is learned from.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tipi::{Picture, Shots};

use crate::foreign::{Place, TipiStr, item, place};
use crate::handle::{Held, held};
use crate::owned::{Messages, Text, TipiMessages, TipiText};
use crate::pictures::{Pictures, TipiPictures};
use crate::status::{Result, TipiStatus, guard};
use crate::watch::{TipiWatch, watched};

/// Pictures with their classes, to learn from and to validate on. What a fit computes of them is remembered: the next one, with an
/// example more or moved, takes little time.
pub struct TipiExamples {
    _private: [u8; 0],
}

#[derive(Default)]
pub(crate) struct Examples(Mutex<tipi::Examples>);

impl Held for Examples {
    type Handle = TipiExamples;
    const KIND: &'static str = "TipiExamples";
}

impl Examples {
    fn of(examples: tipi::Examples) -> Examples {
        Examples(Mutex::new(examples))
    }

    fn lock(&self) -> MutexGuard<'_, tipi::Examples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As they are now: long work does not keep others from adding.
    pub fn now(&self) -> tipi::Examples {
        self.lock().clone()
    }
}

/// How much there is in examples.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TipiExamplesInfo {
    /// Classes.
    pub classes: usize,
    /// Pictures to learn from.
    pub support: usize,
    /// Pictures to validate on.
    pub validation: usize,
}

/// Makes examples that have nothing in them yet.
///
/// Ownership: `*examples` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_examples_new(examples: *mut *mut TipiExamples) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        Place::at("examples", examples)?.put(Examples::default());
        Ok(())
    })
}

/// All pictures of a folder with a sub-folder for each class, whose name names it, to learn from.
///
/// Ownership: `folder` is copied. `*examples` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_examples_of_folder(folder: TipiStr, examples: *mut *mut TipiExamples) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let examples = Place::at("examples", examples)?;
        examples.put(Examples::of(tipi::Examples::of_folder(folder.text("folder")?)?));
        Ok(())
    })
}

/// Adds all pictures of a list to learn from. The first one of a class makes the class.
///
/// Ownership: `class_name` is copied; the list stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_examples_add(
    examples: *mut TipiExamples,
    class_name: TipiStr,
    pictures: *const TipiPictures,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        add(examples, class_name, pictures, |examples, class, picture| {
            examples.add(class, picture);
        })
    })
}

/// Adds all pictures of a list to validate on: they choose settings and make confidence true, and nothing is learned from them.
///
/// Ownership: `class_name` is copied; the list stays the caller's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_examples_add_validation(
    examples: *mut TipiExamples,
    class_name: TipiStr,
    pictures: *const TipiPictures,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        add(examples, class_name, pictures, |examples, class, picture| {
            examples.add_validation(class, picture);
        })
    })
}

/// # Safety
/// As [`TipiStr::text`] for the class.
unsafe fn add(
    examples: *mut TipiExamples,
    class: TipiStr,
    pictures: *const TipiPictures,
    one: impl Fn(&mut tipi::Examples, &str, Picture),
) -> Result<()> {
    let examples = held::<Examples>("examples", examples)?;
    // SAFETY: as promised.
    let class = unsafe { class.text("class_name") }?;
    let pictures = held::<Pictures>("pictures", pictures)?.now();
    let mut examples = examples.lock();
    pictures.into_iter().for_each(|picture| one(&mut examples, class, picture));
    Ok(())
}

/// Takes all pictures and classes away. What was computed of them is still remembered.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub extern "C" fn tipi_examples_clear(examples: *mut TipiExamples) -> TipiStatus {
    guard(|| {
        held::<Examples>("examples", examples)?.lock().clear();
        Ok(())
    })
}

/// How much there is.
///
/// Ownership: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_examples_info(examples: *const TipiExamples, info: *mut TipiExamplesInfo) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let examples = held::<Examples>("examples", examples)?;
        let examples = examples.lock();
        place("info", info)?.write(TipiExamplesInfo {
            classes: examples.classes().len(),
            support: examples.support().count(),
            validation: examples.validation().count(),
        });
        Ok(())
    })
}

/// The name of the class of this number, from 0 on, in the order in which they came.
///
/// Ownership: `*name` is the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_examples_class(
    examples: *const TipiExamples,
    number: usize,
    name: *mut *mut TipiText,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let name = Place::at("name", name)?;
        let examples = held::<Examples>("examples", examples)?;
        name.put(Text(item("number", examples.lock().classes(), number)?.as_str().into()));
        Ok(())
    })
}

/// Chooses by chance, always the same way for a `seed`: of the pictures to learn from `shots` of each class, and of the rest as many, up to
/// four, to validate on. A class that has fewer gives all it has, which the watch is told. 0 shots takes all of every class, and
/// puts none aside. Pictures that cannot be decoded are left out, and told in `left_out`. `tipi fit` chooses the same. `watch` and
/// `left_out` may be NULL.
///
/// Ownership: `*chosen` and `*left_out` are the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_examples_choose(
    examples: *const TipiExamples,
    shots: usize,
    seed: u64,
    watch: *const TipiWatch,
    chosen: *mut *mut TipiExamples,
    left_out: *mut *mut TipiMessages,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let left_out = Place::at_or_none("left_out", left_out)?;
        let chosen = Place::at("chosen", chosen)?;
        let examples = held::<Examples>("examples", examples)?.now();
        let shots = if shots == 0 { Shots::All } else { Shots::UpTo(shots) };
        let (of, broken) = watched(watch, |watch| examples.choose(shots, seed, watch))?;
        chosen.put(Examples::of(of));
        left_out.into_iter().for_each(|place| place.put(Messages::of(broken.iter())));
        Ok(())
    })
}

/// The same examples without pictures that cannot be decoded, which are told in `left_out`. `watch` and `left_out` may be NULL.
///
/// Ownership: `*sound` and `*left_out` are the caller's, to be freed with `tipi_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tipi_examples_sound(
    examples: *const TipiExamples,
    watch: *const TipiWatch,
    sound: *mut *mut TipiExamples,
    left_out: *mut *mut TipiMessages,
) -> TipiStatus {
    // SAFETY: what the header asks of callers.
    guard(|| unsafe {
        let left_out = Place::at_or_none("left_out", left_out)?;
        let sound = Place::at("sound", sound)?;
        let examples = held::<Examples>("examples", examples)?.now();
        let (of, broken) = watched(watch, |watch| examples.sound(watch))?;
        sound.put(Examples::of(of));
        left_out.into_iter().for_each(|place| place.put(Messages::of(broken.iter())));
        Ok(())
    })
}
