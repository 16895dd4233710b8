//! The orientation that the metadata of a picture gives it.

use image::metadata::Orientation;

/// The orientation of EXIF data or, where these hold none, of XMP data; nothing if neither says anything sensible.
pub(super) fn orientation(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Option<Orientation> {
    // Some writers put the marker of the JPEG segment in front in other formats, too.
    let exif = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
    exif.and_then(Orientation::from_exif_chunk).or_else(|| Orientation::from_exif(from_xmp(xmp?)?))
}

/// The first number behind `tiff:Orientation`, as an attribute or as an element: what Pillow's regular expression
/// finds.
fn from_xmp(xmp: &[u8]) -> Option<u8> {
    const NAME: &[u8] = b"tiff:Orientation";
    xmp.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME).find_map(|(at, _)| {
        let rest = &xmp[at + NAME.len()..];
        let value = rest.strip_prefix(b"=\"").or(rest.strip_prefix(b">"))?;
        value.first().filter(|digit| digit.is_ascii_digit()).map(|digit| digit - b'0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xmp_counts_where_exif_is_silent() {
        let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0";
        let marked = [b"Exif\0\0", exif.as_slice()].concat();
        let silent = b"MM\0*\0\0\0\x08\0\0\0\0\0\0";
        let xmp = br#"<x tiff:Orientation="" tiff:Orientation="6"/>"#.as_slice();
        let element = b"<tiff:Orientation>8</tiff:Orientation>".as_slice();
        assert_eq!(orientation(Some(exif), Some(xmp)), Some(Orientation::Rotate180));
        assert_eq!(orientation(Some(&marked), None), Some(Orientation::Rotate180));
        assert_eq!(orientation(Some(silent), Some(xmp)), Some(Orientation::Rotate90));
        assert_eq!(orientation(None, Some(element)), Some(Orientation::Rotate270));
        for nothing in [b"".as_slice(), b"tiff:Orientation", b"tiff:Orientation>", b"tiff:Orientation=\"9\""] {
            assert_eq!(orientation(None, Some(nothing)), None);
        }
    }
}
