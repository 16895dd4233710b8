//! What the machine makes of pickles, sound and hostile.

use super::{MOST_NODES, read};
use crate::clip::checkpoint::values::Node;

fn error(data: &[u8]) -> String {
    read(data).err().unwrap_or_else(|| panic!("{data:02x?} was read"))
}

#[test]
fn plain_values_are_what_python_wrote() {
    // pickle.dumps({"a": [1, -2, 300, 70000], "b": ("x", None, 2.5, True)}, 2)
    let data = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01Jp\x11\x01\x00eX\x01\x00\x00\x00bq\x03(X\x01\x00\x00\x00xq\x04NG@\x04\x00\x00\x00\x00\x00\x00\x88tq\x05u.";
    let pickled = read(data).unwrap();
    assert_eq!(pickled.bytes, data.len());
    let Node::Dict(all) = pickled.node(pickled.root) else { panic!("no dictionary") };
    let row = |id: u32| match pickled.node(id) {
        Node::Row(row) => row.iter().map(|id| pickled.node(*id)).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(pickled.node(all[0].0), &Node::Text("a"));
    assert_eq!(row(all[0].1), [&Node::Int(1), &Node::Int(-2), &Node::Int(300), &Node::Int(70000)]);
    assert_eq!(row(all[1].1), [&Node::Text("x"), &Node::Other, &Node::Other, &Node::Other]);
}

#[test]
fn long_numbers_have_their_sign() {
    let of = |data: &[u8]| {
        let pickled = read(data).unwrap();
        match pickled.node(pickled.root) {
            Node::Int(number) => Some(*number),
            _ => None,
        }
    };
    assert_eq!(of(b"\x8a\x00."), Some(0));
    assert_eq!(of(b"\x8a\x01\xff."), Some(-1));
    assert_eq!(of(b"\x8a\x03\x00\x00\x80."), Some(-8_388_608));
    assert_eq!(of(b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."), Some(i64::MAX));
    assert_eq!(of(b"\x8a\x09\xff\xff\xff\xff\xff\xff\xff\xff\x00."), None);
    assert_eq!(of(b"I-12\n."), Some(-12));
}

#[test]
fn foreign_names_are_refused_by_name() {
    for (data, name) in [
        (&b"cos\nsystem\n(X\x02\x00\x00\x00ls\x85R."[..], "`os.system`"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.", "`posix.system`"),
        (b"cbuiltins\neval\n.", "`builtins.eval`"),
        (b"ctorch.hub\nload\n.", "`torch.hub.load`"),
        // A name that only begins as TorchScript's do.
        (b"c__torch__evil\nx\n.", "`__torch__evil.x`"),
    ] {
        let error = error(data);
        assert!(error.contains(name) && error.contains("runs no code"), "{error}");
    }
    // Instructions that call by other ways.
    for data in [&b"(ios\nsystem\n."[..], b"\x82\x01.", b"(cos\nsystem\no.", b"Pid\n."] {
        error(data);
    }
}

#[test]
fn what_is_broken_or_endless_is_an_error() {
    let wrong: [&[u8]; 12] = [
        b"",
        b"\x80",
        b".",
        b"0.",
        b"t.",
        b"(\x85.",
        b"K\x01\x86.",
        b"K\x01(0.",
        b"q\x00.",
        b"h\x07.",
        b"(K\x01d.",
        b"X\xff\xff\xff\xff.",
    ];
    for data in wrong {
        error(data);
    }
    for data in [&b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa"[..], b"\x8b\xff\xff\xff\x7f.", b"K\x01K\x01s.", b"\xff."] {
        error(data);
    }
    // More values than any checkpoint has, and lists in lists without end.
    let many: Vec<u8> = [b"]".repeat(MOST_NODES + 1), b".".to_vec()].concat();
    assert!(error(&many).contains("values"));
    let deep: Vec<u8> = [b"]".repeat(500_000), b"a".repeat(499_999), b".".to_vec()].concat();
    read(&deep).unwrap();
    // A list that contains itself.
    read(b"]q\x00h\x00a.").unwrap();
}
