//! GIF files to pixels.
#![no_main]

use tipi_fuzz::{MIB, picture, target};

target!(2304 * MIB, |data| picture(data, &[(0, b"GIF87a"), (0, b"GIF89a")], false));
