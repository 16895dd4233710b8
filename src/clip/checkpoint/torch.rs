//! Files that torch.save and TorchScript write: a zip archive of a pickle, which says what tensors there are, and their
//! numbers. The pickle is read as data (`pickle`); nothing of the file is run.

use std::collections::BTreeMap;

use safetensors::Dtype;

use super::pickle;
use super::shard::{Info, Tensors, Unread};
use super::values::{Id, Node, Pickled, Tensor};
use super::zip::{Archive, Span};
use crate::input::Stored;

/// The most bytes of a pickle: a CLIP's has some 100 kB.
pub(super) const LARGEST_PICKLE: u64 = 16 << 20;
/// The most modules in each other, and values that are looked at in search of tensors.
const DEEPEST: usize = 64;
const MOST_STEPS: usize = 1 << 20;
/// The longest name of a tensor.
const LONGEST_NAME: usize = 1000;
/// What training scripts call the state dict among what else they keep.
const WRAPPERS: [&str; 6] = ["state_dict", "model_state_dict", "model_state", "model", "module", "net"];

/// Whether a file that begins with these bytes may be one.
pub(super) fn begins(head: &[u8]) -> bool {
    head.starts_with(b"PK\x03\x04")
}

/// Why a file that should be torch's, and begins so, is none.
pub(super) fn unknown(head: &[u8]) -> String {
    if head.starts_with(b"version https://") {
        return "it is a pointer of Git LFS and not the file itself; fetch that with `git lfs pull`".into();
    }
    if head.is_empty() {
        return "the file is empty; fetch it again".into();
    }
    if head.starts_with(b"\x80") {
        return "it is a pickle alone, in which tipi reads no tensors; save the weights with torch.save".into();
    }
    "it is neither an archive nor a pickle of torch.save; fetch it again, or save it with torch.save".into()
}

/// Where the tensors of an archive of `size` bytes lie.
pub(super) fn read(file: &Stored, size: u64) -> Result<Tensors, Unread> {
    let archive = Archive::open(file, size)?;
    // All files are in one folder, whose name is anybody's.
    let pickles = archive.names().filter_map(|name| name.strip_suffix("data.pkl"));
    let root = pickles.filter(|root| root.is_empty() || root.matches('/').count() == 1 && root.ends_with('/'));
    let root = root.min_by_key(|root| root.len()).map(String::from);
    let Some(root) = root else {
        return Err("the archive has no data.pkl; save the weights with torch.save".to_string().into());
    };
    let order = format!("{root}byteorder");
    if archive.names().any(|name| name == order) && archive.read(&order, 16)? != b"little" {
        return Err("its numbers have their bytes in the order of another kind of machine; save it again on this one"
            .to_string()
            .into());
    }
    let bytes = archive.read(&format!("{root}data.pkl"), LARGEST_PICKLE)?;
    let pickled = pickle::read(&bytes)?;
    let mut spans: BTreeMap<&str, Span> = BTreeMap::new();
    let tensors = state_dict(&pickled)?;
    for tensor in tensors.values() {
        let key = tensor.storage.key;
        if !spans.contains_key(key) {
            spans.insert(key, archive.span(&format!("{root}data/{key}"))?);
        }
    }
    // Each storage has a place of its own, whatever the directory says.
    let mut sorted: Vec<&Span> = spans.values().collect();
    sorted.sort_by_key(|span| span.header);
    if sorted.windows(2).any(|pair| pair[0].start + pair[0].bytes > pair[1].header) {
        return Err("its storages lie in each other's places; the file is damaged, fetch it again".to_string().into());
    }
    places(&tensors, &|key| spans.get(key).map(|span| (span.start, span.bytes)))
}

/// The tensors of a state dict with their places; `storage` says where a storage lies and how many bytes it has.
pub(super) fn places(
    tensors: &BTreeMap<String, &Tensor<'_>>,
    storage: &dyn Fn(&str) -> Option<(u64, u64)>,
) -> Result<Tensors, Unread> {
    tensors
        .iter()
        .map(|(name, tensor)| Ok((name.clone(), place(tensor, storage).map_err(|e| format!("tensor '{name}' {e}"))?)))
        .collect()
}

/// Where a tensor lies.
fn place(tensor: &Tensor<'_>, storage: &dyn Fn(&str) -> Option<(u64, u64)>) -> Result<Info, String> {
    let outside = || "lies outside its storage; the file is damaged, fetch it again".to_string();
    let (start, bytes) = storage(tensor.storage.key).ok_or_else(outside)?;
    let (dtype, shape, strides) = (tensor.storage.dtype, &tensor.shape, &tensor.strides);
    let size = size(dtype);
    let stored = tensor.storage.count;
    if stored.checked_mul(size).is_none_or(|needed| needed > bytes) {
        return Err(outside());
    }
    let count = shape.iter().try_fold(1u64, |n, d| n.checked_mul(*d as u64)).ok_or_else(outside)?;
    // From its first value to behind its last.
    let reach = |(count, stride): (&usize, &usize)| (*count as u64).checked_sub(1)?.checked_mul(*stride as u64);
    let span = match count {
        0 => 0,
        _ => {
            let reaches = shape.iter().zip(strides).map(reach);
            reaches
                .reduce(|sum, one| sum?.checked_add(one?))
                .unwrap_or(Some(0))
                .and_then(|n| n.checked_add(1))
                .ok_or_else(outside)?
        }
    };
    if tensor.offset.checked_add(span).is_none_or(|end| end > stored) {
        return Err(outside());
    }
    // A view that repeats values would grow as it is read.
    if count > stored {
        return Err(format!("has {count} values in a storage of {stored}; save it with .contiguous()"));
    }
    Ok(Info {
        dtype,
        shape: shape.clone(),
        start: start + tensor.offset * size,
        bytes: span * size,
        strides: (!in_order(shape, strides)).then(|| strides.clone()),
    })
}

/// Whether values lie one after the other in the order of the indices.
fn in_order(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    for (count, stride) in shape.iter().zip(strides).rev() {
        if *count != 1 && *stride != expected {
            return shape.contains(&0);
        }
        expected = expected.saturating_mul(*count);
    }
    true
}

/// The tensors of what was saved by their names: a state dict, one among other things, or a TorchScript module.
pub(super) fn state_dict<'p, 'a>(pickled: &'p Pickled<'a>) -> Result<BTreeMap<String, &'p Tensor<'a>>, String> {
    let mut root = pickled.root;
    for _ in 0..WRAPPERS.len() {
        match wrapped(pickled, root) {
            Some(inner) => root = inner,
            None => break,
        }
    }
    let mut found = Found { pickled, tensors: BTreeMap::new(), steps: 0 };
    found.gather(root, "", 0)?;
    if found.tensors.is_empty() {
        let mut what = match pickled.node(root) {
            Node::Dict(all) => {
                let keys = all.iter().filter_map(|(key, _)| match pickled.node(*key) {
                    Node::Text(text) => Some(format!("'{text}'")),
                    _ => None,
                });
                keys.take(5).collect::<Vec<_>>().join(", ")
            }
            _ => String::new(),
        };
        if !what.is_empty() {
            what = format!(", but {what}");
        }
        return Err(format!(
            "it holds no tensors by name{what}; save the weights with torch.save(model.state_dict(), FILE)"
        ));
    }
    Ok(found.tensors)
}

/// What a dictionary has under the name that a state dict usually has among other things.
fn wrapped(pickled: &Pickled<'_>, id: Id) -> Option<Id> {
    let Node::Dict(all) = pickled.node(id) else { return None };
    let value = |wrapper: &str| {
        // The last of equal keys, as in Python.
        let of = all.iter().rev().find(|(key, _)| matches!(pickled.node(*key), Node::Text(text) if *text == wrapper));
        of.map(|(_, value)| *value).filter(|value| match pickled.node(*value) {
            Node::Dict(inner) => !inner.is_empty(),
            Node::Module(_) => true,
            _ => false,
        })
    };
    WRAPPERS.iter().find_map(|wrapper| value(wrapper))
}

/// A search for tensors.
struct Found<'p, 'a> {
    pickled: &'p Pickled<'a>,
    tensors: BTreeMap<String, &'p Tensor<'a>>,
    steps: usize,
}

impl Found<'_, '_> {
    /// Adds what is in a dictionary or module, whose own name is `prefix`.
    fn gather(&mut self, id: Id, prefix: &str, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err(format!("its modules are more than {DEEPEST} deep in each other, which no model's are"));
        }
        let pickled = self.pickled;
        let (all, module) = match pickled.node(id) {
            Node::Dict(all) => (all, depth > 0),
            Node::Module(Some(state)) => match pickled.node(*state) {
                Node::Dict(all) => (all, true),
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        for (key, value) in all {
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return Err(format!("it has more than {MOST_STEPS} entries, which no model has"));
            }
            let Node::Text(key) = pickled.node(*key) else { continue };
            // Where modules keep what is theirs, in older archives.
            let plain = module && ["_parameters", "_buffers", "_modules"].contains(key);
            let name = match (plain, prefix) {
                (true, _) => prefix.to_string(),
                (false, "") => (*key).to_string(),
                (false, _) => format!("{prefix}.{key}"),
            };
            if name.len() > LONGEST_NAME {
                return Err(format!("it has names of more than {LONGEST_NAME} letters, which no model has"));
            }
            match pickled.node(*value) {
                Node::Tensor(tensor) => drop(self.tensors.insert(name, tensor)),
                Node::Module(_) => self.gather(*value, &name, depth + 1)?,
                Node::Dict(_) if plain => self.gather(*value, &name, depth + 1)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Bytes of a value.
pub(super) fn size(dtype: Dtype) -> u64 {
    (dtype.bitsize() / 8) as u64
}
