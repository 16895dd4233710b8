//! What pictures there are: by the names of files and by how they begin. Kinds that are not read are known too, so that they
//! can be named.

use std::path::Path;

use super::brands::{self, Family};

/// Extensions (lower case) of what is read, those first that people are told.
pub(in crate::low_level::data) const EXTENSIONS: &[&str] = &[
    "png",
    "jpg",
    "jpeg",
    "webp",
    "gif",
    "bmp",
    "tif",
    "tiff",
    #[cfg(feature = "avif")]
    "avif",
    #[cfg(feature = "jxl")]
    "jxl",
];
/// Other names of the same.
const ALSO: &[&str] = &[
    "jpe",
    "jfif",
    "jif",
    "apng",
    #[cfg(feature = "avif")]
    "avifs",
    #[cfg(feature = "heif")]
    "heic",
    #[cfg(feature = "heif")]
    "heif",
    #[cfg(feature = "heif")]
    "hif",
];

/// A kind of picture that is not read.
struct Unread {
    /// What it is called, with an article.
    name: &'static str,
    /// Extensions, in lower case.
    extensions: &'static [&'static str],
    /// What a file of it begins with, where that says enough: a place, and what is there.
    begins: &'static [(usize, &'static [u8])],
    /// What to do with it.
    remedy: &'static str,
}

const MAGICK: &str = "convert it to PNG, for example with ImageMagick";
const RAW: &str =
    "develop it to JPEG, or take out the preview that the camera put in, with `exiftool -b -PreviewImage FILE`";
const RASTERIZE: &str = "draw it as PNG, for example with `rsvg-convert` or Inkscape";

const UNREAD: &[Unread] = &[
    Unread {
        name: "a camera's raw file",
        extensions: &[
            "3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "k25", "kdc", "mef", "mos", "mrw",
            "nef", "nrw", "orf", "pef", "raf", "rw2", "rwl", "sr2", "srf", "srw", "x3f",
        ],
        begins: &[
            (0, b"FUJIFILMCCD-RAW"),
            (0, b"IIRO\x08\0\0\0"),
            (0, b"IIRS\x08\0\0\0"),
            (0, b"IIU\0"),
            (8, b"CR\x02\0"),
            (6, b"HEAPCCDR"),
            (0, b"FOVb"),
            (0, b"\0MRM"),
        ],
        remedy: RAW,
    },
    Unread {
        name: "an HEIC picture, which this build of tipi does not read",
        extensions: &["heic", "heif", "hif", "heics", "heifs"],
        begins: &[],
        remedy: "convert it, for example with `heif-convert a.heic a.jpg`",
    },
    Unread {
        name: "an AVIF picture, which this build of tipi does not read",
        extensions: &["avif", "avifs"],
        begins: &[],
        remedy: MAGICK,
    },
    Unread {
        name: "a JPEG XL picture, which this build of tipi does not read",
        extensions: &["jxl"],
        begins: &[(0, b"\0\0\0\x0cJXL \r\n\x87\n")],
        remedy: "convert it, for example with `djxl a.jxl a.png`",
    },
    Unread { name: "a Photoshop file", extensions: &["psd", "psb"], begins: &[(0, b"8BPS")], remedy: MAGICK },
    Unread { name: "an SVG drawing", extensions: &["svg", "svgz"], begins: &[], remedy: RASTERIZE },
    Unread {
        name: "a drawing",
        extensions: &["ai", "cdr", "cgm", "emf", "eps", "wmf"],
        begins: &[(0, b"\xc5\xd0\xd3\xc6"), (0, b"%!PS-Adobe-3.0 EPSF")],
        remedy: RASTERIZE,
    },
    Unread { name: "an icon", extensions: &["cur", "icns", "ico"], begins: &[(0, b"icns")], remedy: MAGICK },
    Unread {
        name: "a JPEG 2000 picture",
        extensions: &["j2c", "j2k", "jp2", "jpc", "jpf", "jpm", "jpx"],
        begins: &[(0, b"\0\0\0\x0cjP  \r\n\x87\n"), (0, b"\xff\x4f\xff\x51")],
        remedy: MAGICK,
    },
    Unread {
        name: "a picture of high dynamic range",
        extensions: &["exr", "pfm"],
        begins: &[(0, b"\x76\x2f\x31\x01"), (0, b"#?RADIANCE")],
        remedy: "choose how bright it shall be, and save it as PNG",
    },
    Unread {
        name: "a DICOM picture",
        extensions: &["dcm", "dicom"],
        begins: &[(128, b"DICM")],
        remedy: "convert it to PNG, for example with `dcmj2pnm` of DCMTK",
    },
    Unread {
        name: "a painting program's file",
        extensions: &["afphoto", "clip", "kra", "ora", "pdn", "pxd", "xcf"],
        begins: &[(0, b"gimp xcf")],
        remedy: "export it as PNG",
    },
    Unread {
        name: "a picture of a kind that tipi does not read",
        extensions: &[
            "bpg", "dds", "dib", "djvu", "dpx", "fits", "flif", "jng", "jxr", "mng", "mpo", "pam", "pbm", "pcx", "pgm",
            "pict", "pnm", "ppm", "qoi", "ras", "sgi", "tga", "wdp", "xbm", "xpm",
        ],
        begins: &[(0, b"qoif"), (0, b"DDS "), (0, b"\x8aMNG"), (0, b"\x8bJNG"), (0, b"BPG\xfb"), (0, b"AT&TFORM")],
        remedy: MAGICK,
    },
];

/// Extensions of files that are plainly no pictures, and need not be looked into.
const OTHER: &[&str] = &[
    "7z",
    "avi",
    "bin",
    "bz2",
    "c",
    "cfg",
    "conf",
    "cpp",
    "css",
    "csv",
    "db",
    "doc",
    "docx",
    "exe",
    "gz",
    "h",
    "h5",
    "htm",
    "html",
    "ini",
    "ipynb",
    "js",
    "json",
    "jsonl",
    "lock",
    "log",
    "m4a",
    "m4v",
    "mat",
    "md",
    "mkv",
    "mov",
    "mp3",
    "mp4",
    "mpg",
    "npy",
    "npz",
    "onnx",
    "parquet",
    "pdf",
    "pickle",
    "pkl",
    "pt",
    "pth",
    "py",
    "rar",
    "rs",
    "safetensors",
    "sh",
    "sqlite",
    "sqlite3",
    "tar",
    "toml",
    "tsv",
    "ttf",
    "txt",
    "wav",
    "webm",
    "xls",
    "xlsx",
    "xml",
    "xmp",
    "yaml",
    "yml",
    "zip",
    "zst",
];

fn extension(path: &Path) -> Option<String> {
    path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase)
}

/// Whether the file name's extension is that of a picture that tipi reads, in any case: png, jpg, jpeg, webp, gif, bmp, tif or
/// tiff, and with the features of these names avif, jxl and heic.
pub fn is_picture(path: &Path) -> bool {
    extension(path).is_some_and(|extension| [EXTENSIONS, ALSO].concat().contains(&&extension[..]))
}

/// Why a file is not read whose name is that of a picture of a kind that is not; nothing for other names.
pub(in crate::low_level::data) fn refusal_by_name(path: &Path) -> Option<String> {
    unread_by_name(path).map(Unread::refusal)
}

fn unread_by_name(path: &Path) -> Option<&'static Unread> {
    let extension = extension(path)?;
    let found = UNREAD.iter().find(|kind| kind.extensions.contains(&&extension[..]))?;
    // What is read under this name begins otherwise than such a file, which is damaged then, or something else.
    (!is_picture(path)).then_some(found)
}

/// Whether the file's name says that it is none, so that nobody needs to look into it.
pub(in crate::low_level::data) fn is_named_otherwise(path: &Path) -> bool {
    extension(path).is_some_and(|extension| OTHER.contains(&&extension[..]))
}

/// How many bytes of a file [`begins_as_picture`] wants to see.
pub(in crate::low_level::data) const BEGINNING: usize = 160;

/// What kind of picture a file begins as, whatever its name. Signatures of two bytes say too little.
pub(in crate::low_level::data) fn begins_as_picture(bytes: &[u8]) -> Option<&'static str> {
    const READ: [(&str, &[u8]); 8] = [
        ("a PNG picture", b"\x89PNG\r\n\x1a\n"),
        ("a JPEG picture", b"\xff\xd8\xff"),
        ("a GIF picture", b"GIF87a"),
        ("a GIF picture", b"GIF89a"),
        ("a TIFF picture", b"II*\0"),
        ("a TIFF picture", b"MM\0*"),
        ("a TIFF picture", b"II+\0"),
        ("a TIFF picture", b"MM\0+"),
    ];
    if let Some((name, _)) = READ.iter().find(|(_, begins)| bytes.starts_with(begins)) {
        return Some(name);
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Some("a WebP picture");
    }
    match brands::family(bytes) {
        Some(Family::Avif) => return Some("an AVIF picture"),
        Some(Family::Heif) => return Some("an HEIC picture"),
        Some(Family::Cr3) => return Some(UNREAD[0].name),
        None => {}
    }
    UNREAD.iter().find(|kind| kind.is_begun(bytes)).map(|kind| kind.name)
}

impl Unread {
    fn is_begun(&self, bytes: &[u8]) -> bool {
        self.begins.iter().any(|(at, begins)| bytes.get(*at..).is_some_and(|bytes| bytes.starts_with(begins)))
    }

    fn refusal(&self) -> String {
        format!("this is {}: {}", self.name, self.remedy)
    }
}

/// Why a file that begins as no kind that is read is refused: what it is by how it begins or else by its name.
pub(super) fn refusal(path: &Path, bytes: &[u8]) -> String {
    match brands::family(bytes) {
        Some(Family::Cr3) => return UNREAD[0].refusal(),
        Some(Family::Avif) => return of_extension("avif"),
        _ => {}
    }
    let begun = UNREAD.iter().find(|kind| kind.is_begun(bytes));
    begun.or_else(|| unread_by_name(path)).map_or_else(not_one, Unread::refusal)
}

fn of_extension(extension: &str) -> String {
    UNREAD.iter().find(|kind| kind.extensions.contains(&extension)).map_or_else(not_one, Unread::refusal)
}

fn not_one() -> String {
    const MORE: &str = match (cfg!(feature = "avif"), cfg!(feature = "jxl"), cfg!(feature = "heif")) {
        (true, true, true) => ", TIFF, AVIF, JPEG XL or HEIC",
        (true, true, false) => ", TIFF, AVIF or JPEG XL",
        (true, false, false) => ", TIFF or AVIF",
        (false, true, false) => ", TIFF or JPEG XL",
        (true, false, true) => ", TIFF, AVIF or HEIC",
        (false, true, true) => ", TIFF, JPEG XL or HEIC",
        (false, false, true) => ", TIFF or HEIC",
        (false, false, false) => " or TIFF",
    };
    format!("not a PNG, JPEG, WebP, GIF, BMP{MORE} file: convert or remove it")
}

/// Why a TIFF file is refused that holds a camera's raw picture: what is first in it is a small preview.
pub(super) fn raw_refusal() -> String {
    UNREAD[0].refusal()
}

/// Whether a file's name is that of a camera's raw file, many of which begin as TIFF files.
pub(super) fn is_named_raw(path: &Path) -> bool {
    extension(path).is_some_and(|extension| UNREAD[0].extensions.contains(&&extension[..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_in_any_case() {
        for yes in ["a.png", "b/c.JPG", "d.JpEg", "e.webp", "f.gif", "g.BMP", "h.tif", "i.tiff", "j.JFIF"] {
            assert!(is_picture(Path::new(yes)) && refusal_by_name(Path::new(yes)).is_none(), "{yes}");
        }
        for no in ["png", "a.txt", "a.png.bak", ".png", ""] {
            assert!(!is_picture(Path::new(no)) && refusal_by_name(Path::new(no)).is_none(), "{no}");
        }
        for unread in ["a.NEF", "b.psd", "c.svg", "d.ico", "e.exr", "f.xcf", "h.Dng"] {
            let refused = refusal_by_name(Path::new(unread)).unwrap();
            assert!(!is_picture(Path::new(unread)) && refused.starts_with("this is a"), "{unread}: {refused}");
        }
        // With the features they are read, and without them refused.
        for either in ["a.heic", "b.avif", "c.jxl"] {
            assert_ne!(is_picture(Path::new(either)), refusal_by_name(Path::new(either)).is_some(), "{either}");
        }
        assert!(is_named_otherwise(Path::new("Thumbs.db")) && !is_named_otherwise(Path::new("photo")));
    }

    #[test]
    fn no_extension_means_two_things() {
        let mut all: Vec<&str> = [EXTENSIONS, ALSO, OTHER].concat();
        for kind in UNREAD {
            all.extend(kind.extensions.iter().filter(|extension| !is_picture(Path::new(&format!("a.{extension}")))));
        }
        all.sort_unstable();
        let twice: Vec<_> = all.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    #[test]
    fn what_is_not_read_is_named_with_a_remedy() {
        for (name, bytes, says) in [
            ("a.svg", &b"<svg xmlns='http://www.w3.org/2000/svg'/>"[..], "an SVG drawing: draw it"),
            ("a.png", b"8BPS\0\x01", "a Photoshop file: convert"),
            ("a.cr3", b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "raw file: develop"),
            ("a.raf", b"FUJIFILMCCD-RAW 0201", "raw file: develop"),
            ("a.ico", b"\0\0\x01\0\x01\0", "an icon: convert"),
            ("a.png", b"hello", "not a PNG"),
        ] {
            let refused = refusal(Path::new(name), bytes);
            assert!(refused.contains(says), "{name}: {refused}");
        }
    }

    #[test]
    fn beginnings_of_pictures_are_known_and_others_are_not() {
        for (bytes, kind) in [
            (&b"\x89PNG\r\n\x1a\n\0"[..], Some("a PNG picture")),
            (b"RIFF\0\0\0\0WEBPVP8 ", Some("a WebP picture")),
            (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", Some("an HEIC picture")),
            (b"8BPS\0\x01", Some("a Photoshop file")),
            (b"RIFF\0\0\0\0WAVEfmt ", None),
            (b"\0\0\0\x18ftypmp42\0\0\0\0isommp42", None),
            (b"BMW, year, price", None),
            (b"", None),
        ] {
            assert_eq!(begins_as_picture(bytes), kind, "{bytes:?}");
        }
    }
}
