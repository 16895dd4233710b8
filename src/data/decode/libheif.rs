//! The system's libheif, looked for when the first picture needs it. All that is unsafe about it is here.
//!
//! What is called has been in libheif since 1.3 and is promised to stay; what came later is called only where it is there.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr::{NonNull, null, null_mut};
use std::sync::OnceLock;

use libloading::Library as Dynamic;

/// Where another libheif lies, or `off`.
const VARIABLE: &str = "TIPI_LIBHEIF";

/// Names by which it is looked for.
#[cfg(target_os = "macos")]
const NAMES: [&str; 3] = ["libheif.1.dylib", "/opt/homebrew/lib/libheif.1.dylib", "/usr/local/lib/libheif.1.dylib"];
#[cfg(windows)]
const NAMES: [&str; 3] = ["heif.dll", "libheif.dll", "libheif-1.dll"];
#[cfg(not(any(target_os = "macos", windows)))]
const NAMES: [&str; 1] = ["libheif.so.1"];

/// `heif_colorspace_RGB`.
const RGB: c_int = 1;
/// `heif_chroma_interleaved_RGB` and `heif_channel_interleaved`.
const INTERLEAVED: c_int = 10;
/// `heif_error_Unsupported_filetype`, `heif_error_Unsupported_feature` and `heif_error_Decoder_plugin_error`.
const UNSUPPORTED: [c_int; 3] = [3, 4, 7];

/// `struct heif_error`.
#[repr(C)]
struct Outcome {
    code: c_int,
    subcode: c_int,
    message: *const c_char,
}

/// The beginning of `struct heif_decoding_options`, as far as its second version has it; libheif itself allocates it.
#[repr(C)]
struct Options {
    version: u8,
    ignore_transformations: u8,
    start_progress: *const c_void,
    on_progress: *const c_void,
    end_progress: *const c_void,
    progress_user_data: *const c_void,
    convert_hdr_to_8bit: u8,
}

/// Why a picture could not be decoded.
pub(super) enum Failure {
    /// libheif, or what it decodes with, does not know this.
    Unsupported(String),
    Damaged(String),
}

macro_rules! functions {
    ($($name:ident: fn($($of:ty),*) $(-> $gives:ty)?;)*) => {
        /// The functions of libheif that are called, by their names there without `heif_`.
        struct Functions {
            $($name: unsafe extern "C" fn($($of),*) $(-> $gives)?,)*
        }

        impl Functions {
            /// The functions of a library; the error is the name of one that is missing.
            fn of(library: &Dynamic) -> Result<Functions, &'static str> {
                Ok(Functions {
                    $($name: {
                        // SAFETY: libheif declares the function of this name so in heif.h, since 1.3.
                        let found = unsafe { library.get(concat!("heif_", stringify!($name), "\0").as_bytes()) };
                        *found.map_err(|_| concat!("heif_", stringify!($name)))?
                    },)*
                })
            }
        }
    };
}

functions! {
    context_alloc: fn() -> *mut c_void;
    context_free: fn(*mut c_void);
    context_read_from_memory_without_copy: fn(*mut c_void, *const c_void, usize, *const c_void) -> Outcome;
    context_get_primary_image_handle: fn(*mut c_void, *mut *mut c_void) -> Outcome;
    image_handle_get_width: fn(*const c_void) -> c_int;
    image_handle_get_height: fn(*const c_void) -> c_int;
    image_handle_release: fn(*const c_void);
    decoding_options_alloc: fn() -> *mut Options;
    decoding_options_free: fn(*mut Options);
    decode_image: fn(*const c_void, *mut *mut c_void, c_int, c_int, *const Options) -> Outcome;
    image_get_width: fn(*const c_void, c_int) -> c_int;
    image_get_height: fn(*const c_void, c_int) -> c_int;
    image_get_plane_readonly: fn(*const c_void, c_int, *mut c_int) -> *const u8;
    image_release: fn(*const c_void);
}

/// libheif, loaded once and never given back.
pub(super) struct Library {
    functions: Functions,
    /// Its code lies here.
    _dynamic: Dynamic,
}

impl Library {
    /// The system's libheif; the error says why there is none.
    pub fn get() -> Result<&'static Library, &'static str> {
        static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
        LIBRARY.get_or_init(Library::load).as_ref().map_err(String::as_str)
    }

    fn load() -> Result<Library, String> {
        let set = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let dynamic = match &set {
            Some(off) if off == "off" => return Err(format!("which {VARIABLE}=off leaves out")),
            Some(path) => open(path).map_err(|_| format!("and {VARIABLE} does not name one"))?,
            None => NAMES
                .iter()
                .find_map(|name| open(OsStr::new(name)).ok())
                .ok_or_else(|| "which is not installed".to_owned())?,
        };
        let functions = Functions::of(&dynamic).map_err(|name| format!("and the one found has no {name}"))?;
        // The first context makes it load what it decodes with, which is better not left to several threads.
        // SAFETY: what is allocated here is freed here, once.
        unsafe {
            if let Ok(init) = dynamic.get::<unsafe extern "C" fn(*const c_void) -> Outcome>(b"heif_init\0") {
                init(null());
            }
            let context = (functions.context_alloc)();
            if !context.is_null() {
                (functions.context_free)(context);
            }
        }
        Ok(Library { functions, _dynamic: dynamic })
    }

    /// Reads what a file says of its picture; nothing is decoded.
    pub fn open<'a>(&'static self, bytes: &'a [u8]) -> Result<File<'a>, Failure> {
        let functions = &self.functions;
        // SAFETY: the function has no conditions.
        let context = NonNull::new(unsafe { (functions.context_alloc)() }).ok_or_else(no_memory)?;
        let mut file = File { functions, context, handle: null_mut(), _bytes: PhantomData };
        // SAFETY: the context is alive as long as `file`, which holds on to the bytes for as long; no options are given.
        let read = unsafe {
            let (start, length) = (bytes.as_ptr().cast(), bytes.len());
            (functions.context_read_from_memory_without_copy)(context.as_ptr(), start, length, null())
        };
        checked(&read)?;
        // SAFETY: the context is alive, and the handle is written to a place of ours.
        checked(&unsafe { (functions.context_get_primary_image_handle)(context.as_ptr(), &raw mut file.handle) })?;
        if file.handle.is_null() { Err(Failure::Damaged("it holds no picture".into())) } else { Ok(file) }
    }
}

/// Opens a dynamic library. On Windows it is not looked for in the current folder, where anybody may have put one.
fn open(name: &OsStr) -> Result<Dynamic, libloading::Error> {
    // SAFETY: libheif and what it depends on run nothing when they are loaded but what sets them up.
    #[cfg(windows)]
    unsafe {
        use libloading::os::windows::{LOAD_LIBRARY_SEARCH_DEFAULT_DIRS, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR};
        // Only a path can have a folder of its own.
        let own = if std::path::Path::new(name).is_absolute() { LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR } else { 0 };
        let flags = LOAD_LIBRARY_SEARCH_DEFAULT_DIRS | own;
        libloading::os::windows::Library::load_with_flags(name, flags).map(Dynamic::from)
    }
    // SAFETY: as above.
    #[cfg(not(windows))]
    unsafe {
        Dynamic::new(name)
    }
}

fn no_memory() -> Failure {
    Failure::Damaged("there is no memory for it".into())
}

/// What a function of libheif says of how it went.
fn checked(outcome: &Outcome) -> Result<(), Failure> {
    if outcome.code == 0 {
        return Ok(());
    }
    let message = if outcome.message.is_null() {
        format!("error {}.{}", outcome.code, outcome.subcode)
    } else {
        // SAFETY: libheif gives a text that ends with a zero, and that lives as long as what it is about: it is copied at once.
        unsafe { CStr::from_ptr(outcome.message) }.to_string_lossy().into_owned()
    };
    Err(if UNSUPPORTED.contains(&outcome.code) { Failure::Unsupported(message) } else { Failure::Damaged(message) })
}

/// A file whose description was read.
pub(super) struct File<'a> {
    functions: &'static Functions,
    context: NonNull<c_void>,
    /// Of the picture; null until there is one.
    handle: *mut c_void,
    /// The context reads them until it is freed.
    _bytes: PhantomData<&'a [u8]>,
}

impl File<'_> {
    /// Width and height, upright; 0 where it does not make sense.
    pub fn size(&self) -> (u32, u32) {
        // SAFETY: the handle is one of a living context.
        let sides = unsafe {
            [
                (self.functions.image_handle_get_width)(self.handle),
                (self.functions.image_handle_get_height)(self.handle),
            ]
        };
        (u32::try_from(sides[0]).unwrap_or(0), u32::try_from(sides[1]).unwrap_or(0))
    }

    /// `[height, width, 3]`, of the size that [`File::size`] gave.
    pub fn rgb(&self, width: usize, height: usize) -> Result<Vec<u8>, Failure> {
        let functions = self.functions;
        // SAFETY: the function has no conditions.
        let options = NonNull::new(unsafe { (functions.decoding_options_alloc)() }).ok_or_else(no_memory)?;
        // SAFETY: libheif allocated and filled in the options. The field is there from their second version on.
        unsafe {
            if (*options.as_ptr()).version >= 2 {
                (*options.as_ptr()).convert_hdr_to_8bit = 1;
            }
        }
        let mut image = null_mut();
        // SAFETY: the handle is one of a living context, the options are libheif's, and the image is written to a place of ours.
        let decoded =
            unsafe { (functions.decode_image)(self.handle, &raw mut image, RGB, INTERLEAVED, options.as_ptr()) };
        // SAFETY: libheif allocated them, and nothing holds on to them.
        unsafe { (functions.decoding_options_free)(options.as_ptr()) };
        checked(&decoded)?;
        let image = Image { functions, image };
        image.samples(width, height).ok_or_else(|| Failure::Damaged("its samples contradict its header".into()))
    }
}

impl Drop for File<'_> {
    fn drop(&mut self) {
        // SAFETY: both were allocated by libheif, and are given back once, the picture's handle first.
        unsafe {
            if !self.handle.is_null() {
                (self.functions.image_handle_release)(self.handle);
            }
            (self.functions.context_free)(self.context.as_ptr());
        }
    }
}

/// A decoded picture.
struct Image {
    functions: &'static Functions,
    image: *mut c_void,
}

impl Image {
    /// A copy of its samples, if it is of this size.
    fn samples(&self, width: usize, height: usize) -> Option<Vec<u8>> {
        if self.image.is_null() {
            return None;
        }
        let mut stride: c_int = 0;
        // SAFETY: the image is alive, and the stride is written to a place of ours.
        let (plane, found) = unsafe {
            let found = [
                (self.functions.image_get_width)(self.image, INTERLEAVED),
                (self.functions.image_get_height)(self.image, INTERLEAVED),
            ];
            ((self.functions.image_get_plane_readonly)(self.image, INTERLEAVED, &raw mut stride), found)
        };
        let stride = usize::try_from(stride).ok()?;
        let row = width.checked_mul(3)?;
        if plane.is_null() || found.map(usize::try_from) != [Ok(width), Ok(height)] || stride < row || height == 0 {
            return None;
        }
        let mut data = Vec::with_capacity(row * height);
        for y in 0..height {
            // SAFETY: the plane has `height` rows of `width` pixels of three bytes, `stride` bytes apart, and lives as long as the
            // image.
            data.extend_from_slice(unsafe { std::slice::from_raw_parts(plane.add(y * stride), row) });
        }
        Some(data)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if !self.image.is_null() {
            // SAFETY: libheif allocated it, and it is given back once.
            unsafe { (self.functions.image_release)(self.image) };
        }
    }
}
