//! Small files that stand for very much: decoding them stays within the memory and the time that all pictures share.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::write::DeflateEncoder;
use flate2::{Compress, Compression, Crc, FlushCompress};
use image::{ImageFormat, RgbImage};
use serde_json::{Value, json};
use tipi::low_level::clip::{Frame, Tokenizer};
use tipi::low_level::data::{Item, Rgb, decode_from, decode_map, resize_center_crop};

/// Far longer than any of these takes, and shorter than without bounds.
const PATIENCE: Duration = Duration::from_secs(60);

fn decoded(bytes: &[u8]) -> tipi::Result<Rgb> {
    decode_from("bomb".as_ref(), bytes)
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A zlib stream that unpacks to so many megabytes of zeros, made without packing them all.
fn zeros(megabytes: usize) -> Vec<u8> {
    let mut compress = Compress::new(Compression::best(), false);
    let mut block = Vec::with_capacity(1 << 16);
    // A full flush forgets what came before, so that the block may be repeated.
    compress.compress_vec(&vec![0; 1 << 20], &mut block, FlushCompress::Full).unwrap();
    let mut stream = vec![0x78, 0xda];
    (0..megabytes).for_each(|_| stream.extend(&block));
    stream.extend(DeflateEncoder::new(Vec::new(), Compression::fast()).finish().unwrap());
    stream
}

/// A PNG chunk.
fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(data);
    [&(data.len() as u32).to_be_bytes()[..], kind, data, &crc.sum().to_be_bytes()].concat()
}

/// A small PNG with a chunk put behind its header.
fn png_with(extra: &[u8]) -> Vec<u8> {
    let png = encoded(&RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 9])), ImageFormat::Png);
    [&png[..33], extra, &png[33..]].concat()
}

/// 35 bytes: a canvas of 16000 × 11000 and a frame of one pixel.
fn gif() -> Vec<u8> {
    let mut gif = b"GIF89a".to_vec();
    for side in [16000u16, 11000] {
        gif.extend(side.to_le_bytes());
    }
    gif.extend([0, 0, 0]);
    gif.extend([b',', 0, 0, 0, 0, 1, 0, 1, 0, 0]);
    // Codes of 9 bits: clear, index 0, end.
    gif.extend([8, 4, 0, 1, 4, 4, 0, b';']);
    gif
}

/// The most memory that this process has had, in megabytes.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

#[test]
fn pictures_that_unpack_to_very_much_share_one_budget() {
    let dir = tempfile::tempdir().unwrap();
    let plain = decoded(&png_with(&[])).unwrap();
    let packed = zeros(1200);
    let profile = chunk(b"iCCP", &[b"x\0\0", &packed[..]].concat());
    let text = chunk(b"zTXt", &[b"x\0\0", &packed[..]].concat());
    let xmp = chunk(b"iTXt", &[b"XML:com.adobe.xmp\0\x01\0\0\0", &packed[..]].concat());
    let mut bombs = Vec::new();
    for extra in [&profile, &text, &xmp] {
        let png = png_with(extra);
        assert_eq!(decoded(&png).unwrap(), plain);
        bombs.push(png);
    }
    let frame = gif();
    assert!(frame.len() < 40);
    bombs.extend(std::iter::repeat_n(frame, 4));
    let items: Vec<Item> = (0..bombs.len()).map(|i| Item { path: dir.path().join(i.to_string()), label: 0 }).collect();
    for (item, bytes) in items.iter().zip(&bombs) {
        std::fs::File::create(&item.path).unwrap().write_all(bytes).unwrap();
    }
    // More threads than cores, so that there would be several pictures of 528 MB at a time.
    let threads = rayon::ThreadPoolBuilder::new().num_threads(6).build().unwrap();
    let small =
        threads.install(|| decode_map(&items, true, &|_| {}, |_, picture| resize_center_crop(&picture, 8))).unwrap();
    assert_eq!(small.items.len(), bombs.len());
    if let Some(peak) = peak() {
        assert!(peak < 1200, "{peak} MB at the peak");
    }
}

/// A progressive JPEG: `scans` copies of the last scan of one that the program's own encoder made would be no JPEG, so the
/// scans refine nothing: each states an empty band of the first component.
fn progressive(side: u16, scans: usize) -> Vec<u8> {
    let mut jpeg = vec![0xff, 0xd8];
    // One quantisation table of ones.
    jpeg.extend([0xff, 0xdb, 0, 67, 0]);
    jpeg.extend([1; 64]);
    let [high, low] = side.to_be_bytes();
    jpeg.extend([0xff, 0xc2, 0, 11, 8, high, low, high, low, 1, 1, 0x11, 0]);
    // DC: one code of one bit for a difference of zero bits; AC: the run of 2^14 blocks that hold nothing, and the end.
    let table = |class: u8, value: u8| {
        let mut lengths = [0u8; 16];
        lengths[0] = 1;
        [&[0xff, 0xc4, 0, 20, class << 4][..], &lengths, &[value]].concat()
    };
    jpeg.extend(table(0, 0));
    jpeg.extend(table(1, 0xe0));
    jpeg.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0]);
    // One bit 0 for each block.
    let blocks = usize::from(side).div_ceil(8).pow(2);
    jpeg.extend(vec![0; blocks.div_ceil(8)]);
    for _ in 1..scans {
        jpeg.extend([0xff, 0xda, 0, 8, 1, 1, 0, 1, 63, 0]);
        // The code, and 14 bits of the run's length, each time.
        jpeg.extend(vec![0; (blocks.div_ceil(1 << 14) * 15).div_ceil(8)]);
    }
    jpeg.extend([0xff, 0xd9]);
    jpeg
}

#[test]
fn scans_without_end_are_refused_and_honest_ones_are_not() {
    let start = Instant::now();
    for scans in [1, 2, 12, 100] {
        let picture = decoded(&progressive(64, scans)).unwrap();
        assert_eq!((picture.width, picture.data[0]), (64, 128), "{scans}");
    }
    for (side, scans) in [(64, 8_000), (1000, 30_000), (6000, 300)] {
        let error = decoded(&progressive(side, scans)).unwrap_err().to_string();
        assert!(error.contains(&format!("{scans} scans")), "{error}");
    }
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_panorama_is_a_picture_in_every_format() {
    for (width, height) in [(17_000, 40), (40, 17_000), (60_000, 2)] {
        let panorama = RgbImage::from_fn(width, height, |x, y| image::Rgb([(x >> 8) as u8, (y >> 8) as u8, 200]));
        for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::Gif] {
            if format == ImageFormat::Gif && width * height > 700_000 {
                continue;
            }
            let picture = decoded(&encoded(&panorama, format)).unwrap();
            assert_eq!((picture.width as u32, picture.height as u32), (width, height), "{format:?}");
            if matches!(format, ImageFormat::Png | ImageFormat::Bmp | ImageFormat::Tiff) {
                assert!(picture.data == *panorama.as_raw(), "{format:?}");
            }
            let crop = resize_center_crop(&picture, 32);
            assert_eq!(crop.data.len(), 32 * 32 * 3);
        }
    }
}

#[test]
fn a_frame_larger_than_its_canvas_counts() {
    // A WebP of one pixel, whose lossless frame claims 16384 × 16384.
    let webp = encoded(&RgbImage::new(1, 1), ImageFormat::WebP);
    let at = webp.windows(4).position(|kind| kind == b"VP8L").unwrap();
    let frame = [&webp[at..at + 9], &[0xff, 0xff, 0xff, 0x0f][..], &webp[at + 13..]].concat();
    let canvas = [b"VP8X", &10u32.to_le_bytes()[..], &[0; 10]].concat();
    let body = [b"WEBP", &canvas[..], &frame].concat();
    let file = [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat();
    assert!(decoded(&file).unwrap_err().to_string().contains("scale it down"));
}

#[test]
fn tiff_values_outside_the_file_and_strips_on_top_of_each_other_are_refused() {
    let tiff = encoded(&RgbImage::new(4, 4), ImageFormat::Tiff);
    let directory = u32::from_le_bytes(tiff[4..8].try_into().unwrap()) as usize;
    let entry = |tag: u16| {
        let entries = tiff[directory + 2..].chunks_exact(12);
        directory + 2 + 12 * entries.take(30).position(|entry| entry[..2] == tag.to_le_bytes()).unwrap()
    };
    // The bytes of each strip: very many, or very many values.
    let mut long = tiff.clone();
    long[entry(279) + 8..entry(279) + 12].copy_from_slice(&(1u32 << 28).to_le_bytes());
    let error = decoded(&long).unwrap_err().to_string();
    assert!(error.contains("strips or tiles"), "{error}");
    let mut many = tiff.clone();
    many[entry(279) + 4..entry(279) + 8].copy_from_slice(&(1u32 << 28).to_le_bytes());
    let error = decoded(&many).unwrap_err().to_string();
    assert!(error.contains("tag 279 lie outside"), "{error}");
    assert!(decoded(&tiff).is_ok());
}

#[test]
fn a_tokenizer_that_asks_for_too_much_is_an_error_in_time() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/picto/tokenizer.json");
    let own: Value = serde_json::from_slice(&std::fs::read(own).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let ids = |field: &str, value: Value| -> tipi::Result<Vec<u32>> {
        let mut file = own.clone();
        *file.pointer_mut(field).unwrap() = value;
        std::fs::write(&path, file.to_string()).unwrap();
        Tokenizer::open(&path, &Frame::clip(), 40)?.ids("an apple and a bell")
    };
    let start = Instant::now();
    let plain = ids("/normalizer", own["normalizer"].clone()).unwrap();
    assert!(!plain.is_empty());
    let replace = |content: &str| json!({"type": "Replace", "pattern": {"String": "a"}, "content": content});
    let sequence = |rules: Vec<Value>| json!({"type": "Sequence", "normalizers": rules});
    let one = ids("/normalizer", sequence(vec![json!({"type": "Lowercase"}), replace("a")])).unwrap();
    assert_eq!(one, plain);
    for (field, value) in [
        ("/normalizer", sequence(vec![replace("aa"); 34])),
        ("/normalizer", sequence(vec![sequence(vec![replace("aa"); 12]); 3])),
        ("/normalizer", replace(&"a".repeat(1 << 20))),
        (
            "/decoder",
            (0..500).fold(json!({"type": "Fuse"}), |inner, _| json!({"type": "Sequence", "decoders": [inner]})),
        ),
        ("/model/dropout", json!(0.5)),
    ] {
        let error = ids(field, value).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("not a valid tokenizer"), "{field}: {error}");
    }
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_token_whose_id_is_not_the_one_that_it_would_get_is_an_error() {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/picto/tokenizer.json");
    let own: Value = serde_json::from_slice(&std::fs::read(own).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    let open = |change: &dyn Fn(&mut Value)| {
        let mut file = own.clone();
        change(&mut file["added_tokens"]);
        std::fs::write(&path, file.to_string()).unwrap();
        Tokenizer::open(&path, &Frame::clip(), 40).map(drop)
    };
    open(&|_| {}).unwrap();
    let extra = |id: u64, content: &str| {
        let mut token = own["added_tokens"][0].clone();
        token["id"] = json!(id);
        token["content"] = json!(content);
        token
    };
    open(&|added| added.as_array_mut().unwrap().push(extra(4096, "<extra>"))).unwrap();
    // A gap before it, the id of another, the same one twice, and the end token elsewhere.
    for (id, content, got) in
        [(4098, "<extra>", 4096), (7, "<extra>", 4096), (4096, "<|endoftext|>", 4095), (4094, "<|endoftext|>", 4095)]
    {
        let error = open(&|added| added.as_array_mut().unwrap().push(extra(id, content))).unwrap_err().to_string();
        assert!(error.contains(&format!("'{content}' has id {id}, and would get {got}")), "{error}");
        assert!(error.contains("tokenizer.json"), "{error}");
    }
}
