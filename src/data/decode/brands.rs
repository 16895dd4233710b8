//! The brands of ISO base media files, which tell pictures from films.

/// What a file's first box says of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// Pictures coded with AV1.
    Avif,
    /// Pictures coded with HEVC.
    Heif,
    /// Canon's raw files.
    Cr3,
}

/// The family that the brands of a file belong to; nothing for films and for what is no such file.
pub(super) fn family(bytes: &[u8]) -> Option<Family> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    if bytes.get(4..8) != Some(b"ftyp") || !(16..=4096).contains(&length) {
        return None;
    }
    let brands = bytes.get(8..length.min(bytes.len()))?;
    // The second four bytes are a version.
    let brands = || brands.chunks_exact(4).enumerate().filter(|(at, _)| *at != 1).map(|(_, brand)| brand);
    let has = |wanted: &[&[u8; 4]]| brands().any(|brand| wanted.iter().any(|wanted| brand == *wanted));
    if has(&[b"avif", b"avis"]) {
        Some(Family::Avif)
    } else if has(&[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"]) {
        Some(Family::Heif)
    } else if has(&[b"crx "]) {
        Some(Family::Cr3)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brands_tell_pictures_from_films() {
        let file = |brands: &[u8]| [&(brands.len() as u32 + 8).to_be_bytes()[..], b"ftyp", brands].concat();
        assert_eq!(family(&file(b"avif\0\0\0\0mif1miaf")), Some(Family::Avif));
        assert_eq!(family(&file(b"mif1\0\0\0\0avifmiaf")), Some(Family::Avif));
        assert_eq!(family(&file(b"heic\0\0\0\0mif1heic")), Some(Family::Heif));
        assert_eq!(family(&file(b"crx \0\0\0\x01crx isom")), Some(Family::Cr3));
        assert_eq!(family(&file(b"isom\0\0\x02\0isommp41")), None);
        // The version is no brand.
        assert_eq!(family(&file(b"isomavifisom")), None);
        assert_eq!(family(b"\0\0\0\x18ftyp"), None);
    }
}
