//! The prompts of the families after CLIP against transformers and open_clip: the ten thousand strings of
//! `tests/tokenizer.rs` and some more, with small tokenizers of the published forms that `tests/reference/frames.py` trained.
//! A prompt is known by half of its CRC-32.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flate2::Crc;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use tipi::low_level::clip::{Clean, Frame, Markers, Tokenizer};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn unpacked(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// Where tokenizers and prompts lie: `TIPI_FRAMES` names another folder, made with the strings in `TIPI_STRINGS`.
fn folder() -> PathBuf {
    std::env::var_os("TIPI_FRAMES").map_or_else(|| fixture("tokenizers"), PathBuf::from)
}

fn strings() -> Vec<String> {
    let mut strings: Vec<String> = serde_json::from_slice(&unpacked(&folder().join("extra.json.gz"))).unwrap();
    let rows = std::env::var_os("TIPI_STRINGS").map_or_else(|| fixture("tokenizer.jsonl.gz"), PathBuf::from);
    let rows = String::from_utf8(unpacked(&rows)).unwrap();
    strings
        .extend(rows.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()[0].as_str().unwrap().to_owned()));
    assert!(strings.len() > 10_000);
    strings
}

fn crc(ids: &[u32]) -> u16 {
    let mut crc = Crc::new();
    ids.iter().for_each(|id| crc.update(&id.to_le_bytes()));
    crc.sum() as u16
}

/// A tokenizer's file, with the table of replacements that the fixtures have once for all.
fn file(name: &str) -> Vec<u8> {
    let mut file = unpacked(&folder().join(format!("{name}.gz")));
    let table = unpacked(&folder().join("nmt_nfkc.gz"));
    if name.ends_with("spiece.model") {
        // Parts of one message that come apart are put together: field 2 of field 3.
        let part = [&[0x12][..], &varint(table.len()), &table].concat();
        file.extend([&[0x1a][..], &varint(part.len()), &part].concat());
        return file;
    }
    let text = String::from_utf8(file).unwrap();
    text.replace("\"precompiled_charsmap\":\"TABLE", &format!("\"precompiled_charsmap\":\"{}", base64(&table)))
        .into_bytes()
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let number = (0..3).fold(0, |number, at| number << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        (0..4).map(
            move |at| {
                if at > chunk.len() { '=' } else { char::from(DIGITS[(number >> (18 - 6 * at) & 63) as usize]) }
            },
        )
    });
    digits.collect()
}

/// A family, the file that its tokenizer is read from, and its prompts' length.
struct Kind {
    name: &'static str,
    file: &'static str,
    frame: Frame,
    context: usize,
}

fn kinds() -> Vec<Kind> {
    let kind = |name, file, frame, context| Kind { name, file, frame, context };
    let open_clip = Frame::siglip().cleaned(Clean::Canonicalize);
    vec![
        kind("siglip", "siglip.spiece.model", Frame::siglip(), 64),
        kind("siglip-open-clip", "siglip-open-clip.tokenizer.json", open_clip, 64),
        kind("siglip2", "siglip2.tokenizer.json", Frame::siglip2(), 64),
        kind("siglip2-open-clip", "siglip2.tokenizer.json", Frame::siglip2().cleaned(Clean::Canonicalize), 64),
        kind("metaclip2", "metaclip2.tokenizer.json", Frame::metaclip2(), 77),
        kind("metaclip2-open-clip", "metaclip2.tokenizer.json", Frame::metaclip2().cleaned(Clean::Whitespace), 77),
        kind("xlm-roberta", "xlm-roberta.tokenizer.json", Frame::roberta().cleaned(Clean::Whitespace), 77),
        kind("roberta", "roberta.tokenizer.json", Frame::roberta().cleaned(Clean::Whitespace), 77),
        kind("mt5", "mt5.tokenizer.json", Frame::mt5(), 77),
        kind("unigram-bytes", "unigram-bytes.tokenizer.json", Frame::mt5().cleaned(Clean::Own), 77),
        kind("clipa", "clipa.tokenizer.json", Frame::clipa(), 32),
    ]
}

/// The tokenizer in a file of bytes.
fn opened(name: &str, bytes: &[u8], frame: &Frame, context: usize) -> tipi::Result<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    let pieces = name.ends_with("spiece.model");
    let path = folder.path().join(if pieces { "spiece.model" } else { "tokenizer.json" });
    fs::write(&path, bytes).unwrap();
    if pieces { Tokenizer::open_pieces(&path, frame, context) } else { Tokenizer::open(&path, frame, context) }
}

impl Kind {
    fn open(&self) -> Tokenizer {
        opened(self.file, &file(self.file), &self.frame, self.context).unwrap()
    }
}

/// The strings whose prompts are not those of the authors' code, in words.
fn differences(name: &str, tokenizer: &Tokenizer, strings: &[String]) -> Vec<String> {
    let crcs = fs::read(folder().join(format!("{name}.crc"))).unwrap();
    let crcs: Vec<u16> = crcs.as_chunks::<2>().0.iter().map(|crc| u16::from_le_bytes(*crc)).collect();
    assert_eq!(crcs.len(), strings.len(), "{name}");
    let mut all = Vec::new();
    for (number, (text, want)) in strings.iter().zip(crcs).enumerate() {
        let prompt = tokenizer.prompt(text).unwrap();
        if crc(&prompt) != want {
            all.push(format!("{name}, string {number}, {text:?}: {prompt:?}"));
        }
    }
    all
}

#[test]
fn every_prompt_is_that_of_the_authors_code() {
    let strings = strings();
    let mut all = Vec::new();
    for kind in kinds() {
        all.push((kind.name, differences(kind.name, &kind.open(), &strings)));
    }
    for (name, frame) in [
        ("clip-canonicalize", Frame::clip().cleaned(Clean::Canonicalize)),
        ("clip-whitespace", Frame::clip().cleaned(Clean::Whitespace)),
        ("clip-padded", Frame::clip_padded()),
    ] {
        let tokenizer = Tokenizer::built_in(Markers::OpenClip, &frame, 77).unwrap();
        all.push((name, differences(name, &tokenizer, &strings)));
    }
    let wrong: Vec<String> = all
        .iter()
        .filter(|(_, differences)| !differences.is_empty())
        .map(|(name, all)| format!("{name}: {} differ:\n{}", all.len(), all[..all.len().min(12)].join("\n")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_planted_error_is_found() {
    let strings = strings();
    for mut kind in kinds() {
        let few = |kind: &Kind| differences(kind.name, &kind.open(), &strings).len();
        // Another cleaning, and another length.
        kind.frame.clean = if kind.frame.clean == Clean::Own { Clean::Letters } else { Clean::Own };
        if kind.file != "siglip.spiece.model" {
            assert!(few(&kind) > 100, "{}", kind.name);
        }
        kind.context += 1;
        assert!(few(&kind) > 0, "{}", kind.name);
    }
}

#[test]
fn prompts_are_framed_and_cut_as_their_families_do() {
    let long = "a photo of a cat ".repeat(60);
    for kind in kinds() {
        let tokenizer = kind.open();
        let (full, empty) = (tokenizer.prompt(&long).unwrap(), tokenizer.prompt("").unwrap());
        assert_eq!(full.len(), kind.context, "{}", kind.name);
        let marks = usize::from(kind.frame.start.is_some()) + 1;
        assert_eq!(empty.len(), if kind.frame.pad.is_some() { kind.context } else { marks }, "{}", kind.name);
        assert_eq!(full.last(), empty.get(marks - 1), "{}", kind.name);
        assert_eq!(tokenizer.room(), kind.context - marks, "{}", kind.name);
    }
}

#[test]
fn what_is_missing_is_named() {
    let error = opened("tokenizer.json", &file("siglip2.tokenizer.json"), &Frame::clipa(), 64)
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("tokenizer.json") && error.contains("'[CLS]' is missing"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sentencepiece.bpe.model"), "").unwrap();
    let path = folder.path().join("tokenizer.json");
    let error = Tokenizer::open(&path, &Frame::metaclip2(), 77).map(drop).unwrap_err().to_string();
    assert!(
        error.contains("sentencepiece.bpe.model cannot be used") && error.contains("fetch the tokenizer.json"),
        "{error}"
    );
}

/// Far longer than any of these takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Numerical Recipes' generator: the same damage on every run.
fn drawing() -> impl FnMut(usize) -> usize {
    let mut state = 1u32;
    move |below| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    }
}

#[test]
fn a_spiece_model_that_lies_is_an_error() {
    let whole = file("siglip.spiece.model");
    let says = |bytes: &[u8]| {
        let error = opened("spiece.model", bytes, &Frame::siglip(), 64).map(drop).unwrap_err().to_string();
        assert!(error.contains("spiece.model"), "{error}");
        error
    };
    let start = Instant::now();
    assert!(says(b"").contains("none of its pieces stands for what is unknown"));
    // A piece of 2^60 bytes, a number without end, and a kind of field that there is none of.
    for lie in [&[0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10][..], &[0xff; 11], &[0x0b]] {
        assert!(says(lie).contains("cut short or damaged"));
        assert!(says(&[&whole, lie].concat()).contains("cut short or damaged"));
    }
    // Messages with more fields: the last one counts.
    let with = |field: u8, part: &[u8]| [&whole[..], &[field << 3 | 2], &varint(part.len()), part].concat();
    assert!(says(&with(2, &[0x18, 2])).contains("no unigram model"));
    assert!(says(&with(1, &[0x0a, 1, b'x', 0x18, 4])).contains("'x' is a piece of a user's own"));
    assert!(says(&with(1, &[0x0a, 1, b'x', 0x18, 2])).contains("two of its pieces stand for what is unknown"));
    assert!(says(&with(1, &[0x0a, 4, b'<', b'/', b's', b'>'])).contains("two of its pieces are the same"));
    assert!(says(&with(1, &[0x0a, 1, 0xff])).contains("no UTF-8"));
    assert!(says(&with(1, &[0x0a, 1, b'~', 0x15, 0, 0, 0xc0, 0x7f])).contains("the score of piece"));
    assert!(says(&with(3, &[0x12, 4, 0xff, 0xff, 0xff, 0xff])).contains("its table of replacements cannot be used"));
    assert!(says(&with(2, &[0x98, 2, 1])).contains("lacks pieces for them"));
    let error = opened("spiece.model", &whole, &Frame::siglip2(), 64).map(drop).unwrap_err().to_string();
    assert!(error.contains("'<eos>' is missing"), "{error}");
    let mut draw = drawing();
    for _ in 0..60 {
        let mut bytes = whole.clone();
        (0..4).for_each(|_| bytes[draw(whole.len())] = draw(256) as u8);
        bytes.truncate(whole.len() - draw(3) * draw(whole.len() / 2));
        if let Ok(tokenizer) = opened("spiece.model", &bytes, &Frame::siglip(), 64) {
            assert_eq!(tokenizer.prompt("Ünïcödé 猫 🎉 it's ① ﷺ").unwrap().len(), 64);
        }
    }
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

#[test]
fn a_tokenizer_json_whose_tables_lie_is_an_error() {
    let frame = Frame::metaclip2();
    let whole: Value = serde_json::from_slice(&file("metaclip2.tokenizer.json")).unwrap();
    let with = |field: &str, value: Value| {
        let mut file = whole.clone();
        *file.pointer_mut(field).unwrap() = value;
        opened("tokenizer.json", file.to_string().as_bytes(), &frame, 77)
    };
    let says = |field: &str, value: Value| {
        let error = with(field, value).map(drop).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("not a valid tokenizer"), "{error}");
        error
    };
    let start = Instant::now();
    let table = unpacked(&folder().join("nmt_nfkc.gz"));
    let lies = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut table = table.clone();
        change(&mut table);
        says("/normalizer/precompiled_charsmap", json!(base64(&table)))
    };
    assert!(lies(&|table| table[..4].fill(0xff)).contains("ends behind the table"));
    assert!(lies(&|table| table.truncate(9)).contains("ends behind the table"));
    assert!(lies(&|table| table.resize(3 << 20, 0)).contains("at most"));
    assert!(lies(&|table| *table.last_mut().unwrap() = 0xff).contains("UTF-8"));
    // Every value's text without an end.
    assert!(
        lies(&|table| table.truncate(4 + u32::from_le_bytes(table[..4].try_into().unwrap()) as usize))
            .contains("without a text")
    );
    assert!(lies(&|table| table[4..8].fill(0xff)).contains("out of itself"));
    // One character that becomes a book.
    let long = |table: &mut Vec<u8>| {
        let size = 4 + u32::from_le_bytes(table[..4].try_into().unwrap()) as usize;
        let texts = table.len() - size;
        table[size..].fill(b'a');
        table[size + texts - 1] = 0;
    };
    assert!(lies(&long).contains("64 times as long"));
    assert!(says("/model/unk_id", json!(1u64 << 40)).contains("is not one of its"));
    assert!(says("/model/vocab/5/1", json!("x")).contains("not a valid tokenizer"));
    // What no character of the text is in, where nothing stands for such.
    let none = with("/model/unk_id", Value::Null).unwrap();
    assert!(none.ids("\u{16ee}").unwrap_err().to_string().contains("is unknown"));
    // Damage anywhere in the table is seen at once or does no harm.
    let mut draw = drawing();
    for _ in 0..30 {
        let mut table = table.clone();
        for _ in 0..3 {
            let at = draw(table.len());
            table[at] = draw(256) as u8;
        }
        if let Ok(tokenizer) = with("/normalizer/precompiled_charsmap", json!(base64(&table))) {
            tokenizer.prompt("Ünïcödé 猫 🎉 it's ① ﷺ e\u{301}").unwrap();
        }
    }
    // Pieces within pieces, without end.
    let nested: Vec<Value> = (1..2000).map(|length| json!(["a".repeat(length), -1.0])).collect();
    let mut vocab = whole["model"]["vocab"].as_array().unwrap().clone();
    let mask = vocab.pop();
    vocab.extend(nested);
    vocab.extend(mask);
    let mut file = whole.clone();
    let id = vocab.len() - 1;
    file["model"]["vocab"] = json!(vocab);
    for added in file["added_tokens"].as_array_mut().unwrap() {
        if added["content"] == "<mask>" {
            added["id"] = json!(id);
        }
    }
    let tokenizer = opened("tokenizer.json", file.to_string().as_bytes(), &frame, 77).unwrap();
    assert_eq!(tokenizer.prompt(&"a".repeat(2000)).unwrap().len(), 4);
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
}

/// Whoever has the published files of a family can time them: `TIPI_TOKENIZER` names one.
#[test]
fn a_large_file_is_read_in_little_time() {
    let Some(path) = std::env::var_os("TIPI_TOKENIZER") else { return };
    for frame in [Frame::siglip2(), Frame::metaclip2(), Frame::siglip().cleaned(Clean::Own)] {
        let start = Instant::now();
        match Tokenizer::open(Path::new(&path), &frame, 64) {
            Ok(tokenizer) => {
                let read = start.elapsed();
                let start = Instant::now();
                let prompt = tokenizer.prompt("a photo of a cat").unwrap();
                println!("{:?}: read in {read:?}, {} ids in {:?}", path, prompt.len(), start.elapsed());
                return;
            }
            Err(error) => println!("{error}"),
        }
    }
    panic!("no frame fits");
}
