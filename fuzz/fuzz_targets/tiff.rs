//! TIFF files to pixels.
#![no_main]

use tipi_fuzz::{MIB, picture, target};

target!(2304 * MIB, |data| picture(data, &[(0, b"II*\0"), (0, b"MM\0*")], false));
