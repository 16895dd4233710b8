//! Files that lie.

use super::archive::{archive, dict, end, entry, int, saved, tensor, text};
use super::{ASKED, fixture, refuses};
use std::path::Path;
use std::sync::atomic::Ordering;

use tipi::low_level::clip::Checkpoint;

/// The name by which a checkpoint is taken for OpenAI's.
const NAME: &str = "visual.conv1.weight";

/// Fails unless a file of these bytes is refused.
fn bad(bytes: &[u8], parts: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    std::fs::write(&path, bytes).unwrap();
    refuses(&path, None, &[&["model.pt"][..], parts].concat())
}

fn open(bytes: &[u8], look: impl Fn(&Checkpoint)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    std::fs::write(&path, bytes).unwrap();
    look(&Checkpoint::open(&path).unwrap_or_else(|e| panic!("{e}")));
}

#[test]
fn what_is_put_together_here_is_read_where_it_is_sound() {
    let bytes: Vec<u8> = (0..12u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let pickle = dict(&[(NAME, tensor("0", 12, 1, &[2, 3], &[5, 2])), ("b", tensor("0", 12, 4, &[2], &[1]))]);
    open(&saved(&pickle, &[("0", &bytes)]), |checkpoint| {
        assert_eq!(checkpoint.values(NAME, &[2, 3]).unwrap(), [1., 3., 5., 6., 8., 10.]);
        assert_eq!(checkpoint.part(NAME, &[2, 3], 1..2).unwrap(), [6., 8., 10.]);
        assert_eq!(checkpoint.values("b", &[2]).unwrap(), [4., 5.]);
    });
    // In a wrapper and under prefixes.
    let name = format!("module._orig_mod.{NAME}");
    let inner = dict(&[(name.as_str(), tensor("0", 12, 0, &[12], &[1]))]);
    let inner = inner[2..inner.len() - 1].to_vec();
    let pickle = dict(&[("epoch", int(3)), ("best", tensor("0", 12, 0, &[], &[])), ("model_state_dict", inner)]);
    open(&saved(&pickle, &[("0", &bytes)]), |checkpoint| {
        assert_eq!(checkpoint.shape(NAME).unwrap(), [12]);
        assert!(!checkpoint.has("best"));
    });
}

#[test]
fn code_is_refused_by_name_and_never_run() {
    let folder = tempfile::tempdir().unwrap();
    let proof = folder.path().join("proof");
    let command = format!("touch {}", proof.display());
    let call = [b"cos\nsystem\n".to_vec(), text(&command), b"\x85R".to_vec()].concat();
    for pickle in [
        dict(&[(NAME, call.clone())]),
        [b"\x80\x02".to_vec(), call.clone(), b".".to_vec()].concat(),
        // Before and behind what is sound.
        [b"\x80\x02".to_vec(), call.clone(), b"0".to_vec(), dict(&[(NAME, tensor("0", 1, 0, &[1], &[1]))])].concat(),
        [b"\x80\x02".to_vec(), text("posix"), text("system"), b"\x93".to_vec(), text(&command), b"\x85R.".to_vec()]
            .concat(),
    ] {
        let error = bad(&saved(&pickle, &[("0", &[0; 4])]), &["system`", "runs no code from a file"]);
        assert!(error.contains("os.system") || error.contains("posix.system"), "{error}");
    }
    bad(&saved(b"\x80\x02c__main__\nModel\n)\x81}b.", &[]), &["`__main__.Model`", "state_dict"]);
    assert!(!proof.exists());
}

#[test]
fn tensors_that_claim_too_much_are_named() {
    let one = |tensor: Vec<u8>| saved(&dict(&[(NAME, tensor)]), &[("0", &[0; 16])]);
    let (huge, outside) = (1i64 << 60, "outside its storage");
    bad(&one(tensor("0", huge, 0, &[huge], &[1])), &[NAME, outside]);
    bad(&one(tensor("0", i64::MAX, 0, &[1], &[1])), &[NAME, outside]);
    bad(&one(tensor("0", 5, 0, &[5], &[1])), &[NAME, outside]);
    bad(&one(tensor("0", 4, 0, &[huge, huge], &[1, 1])), &[NAME, outside]);
    bad(&one(tensor("0", 4, 2, &[3], &[1])), &[NAME, outside]);
    bad(&one(tensor("0", 4, i64::MAX, &[1], &[1])), &[NAME, outside]);
    bad(&one(tensor("0", 4, 0, &[2, 2], &[huge, 1])), &[NAME, outside]);
    // A value that stands for many.
    bad(&one(tensor("0", 4, 0, &[huge], &[0])), &[NAME, "contiguous()"]);
    for wrong in [tensor("0", 4, -1, &[1], &[1]), tensor("0", 4, 0, &[-1], &[1]), tensor("0", 4, 0, &[1], &[1, 1])] {
        bad(&one(wrong), &["damaged"]);
    }
    bad(&one(tensor("7", 4, 0, &[4], &[1])), &["'a/data/7' is not in the archive"]);
    bad(&one(tensor("../../etc/passwd", 4, 0, &[4], &[1])), &["not in the archive"]);
}

#[test]
fn pickles_that_never_end_or_begin_are_errors() {
    let whole = dict(&[(NAME, tensor("0", 4, 0, &[4], &[1]))]);
    for cut in 0..whole.len() {
        bad(&saved(&whole[..cut], &[("0", &[0; 16])]), &[]);
    }
    bad(&saved(b"\x80\x02t.", &[]), &["more than it has put down"]);
    bad(&saved(b"\x80\x020000.", &[]), &["more than it has put down"]);
    bad(&saved(&[b"\x80\x02".to_vec(), b"]".repeat(3 << 20), b".".to_vec()].concat(), &[]), &["values"]);
    bad(&saved(&vec![b'('; 17 << 20], &[]), &["data.pkl", "at most"]);
    // A dictionary of dictionaries, each in the next one twice: 2⁶⁰ ways to the innermost.
    let mut bomb = b"\x80\x02c__torch__\nM\n)\x81q\x00".to_vec();
    for level in 0..60u8 {
        bomb.extend(b"c__torch__\nM\n)\x81}(");
        bomb.extend(
            [text("a"), vec![b'h', level], text("b"), vec![b'h', level], b"ubq".to_vec(), vec![level + 1]].concat(),
        );
    }
    bomb.push(b'.');
    bad(&saved(&bomb, &[]), &["entries"]);
    // One in itself.
    let inside = [b"\x80\x02c__torch__\nM\n)\x81q\x00}(".to_vec(), text("a"), b"h\x00ub.".to_vec()].concat();
    bad(&saved(&inside, &[]), &["deep"]);
    // A chain of a hundred thousand.
    let mut chain = b"\x80\x02c__torch__\nM\nq\x00)\x81".to_vec();
    for _ in 0..100_000 {
        chain.extend(b"q\x01h\x00)\x81}");
        chain.extend([text("a"), b"h\x01sb".to_vec()].concat());
    }
    chain.push(b'.');
    bad(&saved(&chain, &[]), &["deep"]);
    bad(&saved(&dict(&[("epoch", int(1))]), &[]), &["no tensors by name", "'epoch'"]);
}

#[test]
fn archives_that_lie_are_errors() {
    let pickle = dict(&[(NAME, tensor("0", 4, 0, &[4], &[1])), ("b", tensor("1", 4, 0, &[4], &[1]))]);
    let parts = [entry("a/data.pkl", &pickle), entry("a/data/0", &[1; 16]), entry("a/data/1", &[2; 16])];
    let changed = |change: &dyn Fn(&mut Vec<super::archive::Entry>)| {
        let mut parts = parts.to_vec();
        change(&mut parts);
        archive(&parts)
    };
    let sound = changed(&|_| {});
    open(&sound, |checkpoint| assert_eq!(checkpoint.shape(NAME).unwrap(), [4]));
    for cut in [0, 1, 3, 4, 30, sound.len() / 2, sound.len() - 22, sound.len() - 1] {
        bad(&sound[..cut], &[]);
    }
    bad(&changed(&|parts| parts[1].size = Some(1 << 30)), &["a/data/0", "within the archive"]);
    bad(&changed(&|parts| parts[1].place = Some(1 << 30)), &["a/data/0", "within the archive"]);
    bad(&changed(&|parts| parts[2].place = Some(0)), &["a/data/1", "not what the archive's directory says"]);
    bad(&changed(&|parts| parts[1].own_name = Some("a/data/9".into())), &["a/data/0", "directory says"]);
    bad(&changed(&|parts| parts[1].method = 8), &["a/data/0", "compressed"]);
    bad(&changed(&|parts| parts[0].method = 8), &["a/data.pkl", "compressed"]);
    bad(&changed(&|parts| parts.push(entry("a/data/0", b""))), &["twice"]);
    bad(&changed(&|parts| parts[0].name = "a/b.pkl".into()), &["no data.pkl"]);
    bad(&changed(&|parts| parts.push(entry("a/byteorder", b"big"))), &["bytes in the order"]);
    // Two storages in one place, each with a name of its own there: the first holds the second.
    let inner = archive(&[entry("a/data/1", &[2; 16])]);
    let place = changed(&|_| {}).windows(8).position(|w| w == b"a/data/0").unwrap() as u32 + 8;
    let nested = changed(&|parts| {
        parts[1].bytes = inner[..54].to_vec();
        parts[2].place = Some(place);
    });
    bad(&nested, &["each other's places"]);
    // Ends that claim a directory elsewhere, or one of very much.
    let files = &sound[..sound.len() - 22];
    for (count, size, start) in [(3, u32::MAX - 1, 0), (3, 10, u32::MAX - 1), (9, 200, 0), (u16::MAX, 0, 0)] {
        bad(&[files, &end(count, size, start)].concat(), &[]);
    }
    // A bomb is larger only when it is unpacked, and nothing is.
    bad(&changed(&|parts| (parts[1].method, parts[1].size) = (8, Some(u32::MAX - 1))), &["compressed"]);
}

#[test]
fn what_is_no_checkpoint_is_named() {
    bad(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", &["Git LFS"]);
    bad(b"", &["empty"]);
    bad(b"<!DOCTYPE html><html>", &["neither an archive nor a pickle"]);
    let old = std::fs::read(fixture("hf-old/pytorch_model.bin")).unwrap();
    for cut in (0..old.len()).step_by(509) {
        bad(&old[..cut], &[]);
    }
    let mut other = old.clone();
    // The number of values before the last storage.
    let from = old.len() - 400;
    other.truncate(from);
    bad(&other, &["not all there"]);
}

/// Bytes of a sound file changed one by one: any answer will do that comes at once and asks for little.
#[test]
fn no_changed_byte_asks_for_much() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pt");
    let pickle = dict(&[(NAME, tensor("0", 4, 0, &[4], &[1])), ("b", tensor("1", 4, 1, &[2], &[2]))]);
    let sound = saved(&pickle, &[("0", &[1; 16]), ("1", &[2; 16])]);
    let look = |path: &Path| {
        let Ok(checkpoint) = Checkpoint::open(path) else { return };
        for name in [NAME, "b"] {
            if let Ok(shape) = checkpoint.shape(name) {
                let _ = checkpoint.values(name, &shape);
            }
        }
    };
    ASKED.store(0, Ordering::Relaxed);
    for at in 0..sound.len() {
        for value in [0, 1, 0x7f, 0xff, sound[at] ^ 1] {
            let mut changed = sound.clone();
            changed[at] = value;
            std::fs::write(&path, &changed).unwrap();
            look(&path);
        }
    }
    assert!(ASKED.load(Ordering::Relaxed) < 128 << 20);
}
