//! A machine for Python's pickles that knows tensors and plain values and nothing else. It makes no objects and calls no
//! functions: the few names that a checkpoint needs stand for what is written here, and every other is an error.

use std::collections::HashMap;

use super::values::{Id, Name, Node, Pickled, Storage, Tensor, known};

/// The most values that a pickle may make; a checkpoint makes some ten thousand.
const MOST_NODES: usize = 1 << 20;

/// Reads the pickle that `data` begins with.
pub(super) fn read(data: &[u8]) -> Result<Pickled<'_>, String> {
    let mut machine =
        Machine { data, at: 0, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new(), nodes: Vec::new() };
    let root = loop {
        if let Some(root) = machine.step()? {
            break root;
        }
    };
    Ok(Pickled { nodes: machine.nodes, root, bytes: machine.at })
}

/// That the pickle ends in the middle.
pub(super) const CUT: &str = "its pickle ends in the middle; the file is truncated, fetch it again";

struct Machine<'a> {
    data: &'a [u8],
    at: usize,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    nodes: Vec<Node<'a>>,
}

impl<'a> Machine<'a> {
    /// Takes one instruction; the last one gives the value.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let code = self.number(1)? as u8;
        match code {
            // PROTO, FRAME
            0x80 => drop(self.number(1)?),
            0x95 => drop(self.number(8)?),
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.popped_to_mark()?),
            b'2' => {
                let top = *self.stack.last().ok_or_else(underflow)?;
                self.stack.push(top);
            }
            // NONE, NEWTRUE, NEWFALSE, and a float of 8 bytes
            b'N' | 0x88 | 0x89 => self.push(Node::Other)?,
            b'G' => {
                self.take(8)?;
                self.push(Node::Other)?;
            }
            b'K' => self.push_int(1)?,
            b'M' => self.push_int(2)?,
            b'J' => {
                let number = self.number(4)? as u32 as i32;
                self.push(Node::Int(number.into()))?;
            }
            // LONG1, LONG4: two's complement of any length
            0x8a | 0x8b => {
                let length = self.length(if code == 0x8a { 1 } else { 4 })?;
                let bytes = self.take(length)?;
                self.push(long(bytes))?;
            }
            b'I' | b'L' => {
                let line = self.line()?.trim_end_matches('L');
                let node = line.parse().map_or(Node::Other, Node::Int);
                self.push(node)?;
            }
            b'F' => {
                self.line()?;
                self.push(Node::Other)?;
            }
            // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
            b'X' => self.push_text(4)?,
            0x8c => self.push_text(1)?,
            0x8d => self.push_text(8)?,
            b'V' => {
                let line = self.line()?;
                self.push(Node::Text(line))?;
            }
            // BINSTRING, SHORT_BINSTRING: Python 2's strings, names among them
            b'T' => self.push_text(4)?,
            b'U' => self.push_text(1)?,
            // BINBYTES, SHORT_BINBYTES, BINBYTES8, BYTEARRAY8
            b'B' => self.push_bytes(4)?,
            b'C' => self.push_bytes(1)?,
            0x8e | 0x96 => self.push_bytes(8)?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            // EMPTY_LIST, EMPTY_TUPLE, EMPTY_SET
            b']' | b')' | 0x8f => self.push(Node::Row(Vec::new()))?,
            b'l' | b't' | 0x91 => {
                let row = self.popped_to_mark()?;
                self.push(Node::Row(row))?;
            }
            0x85..=0x87 => {
                let from = self.stack.len().checked_sub(code as usize - 0x84).ok_or_else(underflow)?;
                let from = from.max(self.floor());
                if self.stack.len() - from != code as usize - 0x84 {
                    return Err(underflow());
                }
                let row = self.stack.split_off(from);
                self.push(Node::Row(row))?;
            }
            b'd' => {
                let pairs = pairs(&self.popped_to_mark()?)?;
                self.push(Node::Dict(pairs))?;
            }
            b'a' => {
                let value = self.pop()?;
                self.append(&[value])?;
            }
            b'e' | 0x90 => {
                let values = self.popped_to_mark()?;
                self.append(&values)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let values = self.popped_to_mark()?;
                self.set(&values)?;
            }
            // Memo: PUT, BINPUT, LONG_BINPUT, MEMOIZE; GET, BINGET, LONG_BINGET
            b'p' | b'q' | b'r' | 0x94 => {
                let place = match code {
                    b'p' => self.line_number()?,
                    b'q' => self.number(1)?,
                    b'r' => self.number(4)?,
                    _ => self.memo.len() as u64,
                };
                let top = *self.stack.last().ok_or_else(underflow)?;
                if self.memo.insert(place, top).is_none() && self.memo.len() > MOST_NODES {
                    return Err(too_many());
                }
            }
            b'g' | b'h' | b'j' => {
                let place = match code {
                    b'g' => self.line_number()?,
                    b'h' => self.number(1)?,
                    _ => self.number(4)?,
                };
                let known = self.memo.get(&place).copied();
                self.stack.push(known.ok_or("its pickle asks for a value that it has not made; the file is damaged")?);
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.nodes.get(module as usize), self.nodes.get(name as usize)) {
                    (Some(Node::Text(module)), Some(Node::Text(name))) => {
                        let (module, name) = (*module, *name);
                        self.global(module, name)?;
                    }
                    _ => return Err(malformed("a name")),
                }
            }
            b'R' => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments, 0)?;
            }
            // NEWOBJ, NEWOBJ_EX
            0x81 | 0x92 => {
                if code == 0x92 {
                    self.pop()?;
                }
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.call(class, arguments, 0)?;
            }
            b'b' => {
                let state = self.pop()?;
                let object = *self.stack.last().ok_or_else(underflow)?;
                // Anything else with a state (a dictionary with attributes) is as good without.
                if let Some(Node::Module(attributes)) = self.nodes.get_mut(object as usize) {
                    *attributes = Some(state);
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)?;
            }
            _ => return Err(format!("its pickle has the instruction {code:#04x}, which no checkpoint needs")),
        }
        Ok(None)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let bytes = self.at.checked_add(count).and_then(|end| self.data.get(self.at..end)).ok_or(CUT)?;
        self.at += count;
        Ok(bytes)
    }

    /// A whole number of so many bytes, the least first.
    fn number(&mut self, bytes: usize) -> Result<u64, String> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, bytes: usize) -> Result<usize, String> {
        usize::try_from(self.number(bytes)?).map_err(|_| CUT.to_string())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.data[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or(CUT)?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| malformed("a line"))
    }

    fn line_number(&mut self) -> Result<u64, String> {
        self.line()?.parse().map_err(|_| malformed("a number"))
    }

    fn push(&mut self, node: Node<'a>) -> Result<(), String> {
        if self.nodes.len() >= MOST_NODES {
            return Err(too_many());
        }
        self.stack.push(self.nodes.len() as Id);
        self.nodes.push(node);
        Ok(())
    }

    fn push_int(&mut self, bytes: usize) -> Result<(), String> {
        let number = self.number(bytes)? as i64;
        self.push(Node::Int(number))
    }

    fn push_text(&mut self, length: usize) -> Result<(), String> {
        let length = self.length(length)?;
        let bytes = self.take(length)?;
        // Python 2's strings may be bytes of any kind.
        self.push(std::str::from_utf8(bytes).map_or(Node::Other, Node::Text))
    }

    fn push_bytes(&mut self, length: usize) -> Result<(), String> {
        let length = self.length(length)?;
        self.take(length)?;
        self.push(Node::Other)
    }

    /// Below this the stack belongs to what is under the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, String> {
        if self.stack.len() <= self.floor() {
            return Err(underflow());
        }
        self.stack.pop().ok_or_else(underflow)
    }

    fn popped_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or_else(underflow)?;
        Ok(self.stack.split_off(mark))
    }

    fn append(&mut self, values: &[Id]) -> Result<(), String> {
        let list = *self.stack.last().ok_or_else(underflow)?;
        match self.nodes.get_mut(list as usize) {
            Some(Node::Row(row)) => row.extend(values),
            Some(Node::Other) => {}
            _ => return Err(malformed("a list")),
        }
        Ok(())
    }

    fn set(&mut self, values: &[Id]) -> Result<(), String> {
        let dict = *self.stack.last().ok_or_else(underflow)?;
        match self.nodes.get_mut(dict as usize) {
            Some(Node::Dict(all)) => all.extend(pairs(values)?),
            Some(Node::Other) => {}
            _ => return Err(malformed("a dictionary")),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        match known(module, name) {
            Some(known) => self.push(Node::Name(known)),
            None => Err(format!(
                "the pickle asks for `{module}.{name}`; tipi runs no code from a file: save the weights alone, \
                 torch.save(model.state_dict(), FILE)"
            )),
        }
    }

    /// What stands for calling `callee` with a tuple of arguments.
    fn call(&mut self, callee: Id, arguments: Id, depth: usize) -> Result<(), String> {
        let Some(Node::Row(row)) = self.nodes.get(arguments as usize) else { return Err(malformed("a call")) };
        let first = row.first().copied();
        match self.nodes.get(callee as usize) {
            Some(Node::Name(Name::Tensor)) => {
                let tensor = self.tensor(&row.clone())?;
                self.push(Node::Tensor(Box::new(tensor)))
            }
            Some(Node::Name(Name::First)) => match first {
                // The same value, not a copy.
                Some(first) => {
                    self.stack.push(first);
                    Ok(())
                }
                None => self.push(Node::Row(Vec::new())),
            },
            Some(Node::Name(Name::OfType)) => match row[..] {
                [function, _, arguments, ..] if depth == 0 => self.call(function, arguments, 1),
                _ => Err(malformed("a call")),
            },
            Some(Node::Name(Name::Dict)) => {
                // From a row of pairs, if any.
                let mut dict = Vec::new();
                if let Some(Node::Row(rows)) = first.and_then(|first| self.nodes.get(first as usize)) {
                    for pair in rows {
                        match self.nodes.get(*pair as usize) {
                            Some(Node::Row(pair)) if pair.len() == 2 => dict.push((pair[0], pair[1])),
                            _ => return Err(malformed("a dictionary")),
                        }
                    }
                }
                self.push(Node::Dict(dict))
            }
            Some(Node::Name(Name::Module)) => self.push(Node::Module(None)),
            Some(Node::Name(Name::Other)) => self.push(Node::Other),
            _ => Err(malformed("a call")),
        }
    }

    fn tensor(&self, arguments: &[Id]) -> Result<Tensor<'a>, String> {
        let broken = || malformed("a tensor");
        let node = |at: usize| arguments.get(at).and_then(|id| self.nodes.get(*id as usize));
        let sizes = |at: usize| match node(at) {
            Some(Node::Row(row)) if row.len() <= 16 => {
                row.iter().map(|id| self.size(*id)).collect::<Option<Vec<usize>>>()
            }
            _ => None,
        };
        let Some(Node::Storage(storage)) = node(0) else { return Err(broken()) };
        let offset = arguments.get(1).and_then(|id| self.size(*id)).ok_or_else(broken)?;
        let (shape, strides) = (sizes(2).ok_or_else(broken)?, sizes(3).ok_or_else(broken)?);
        if shape.len() != strides.len() {
            return Err(broken());
        }
        Ok(Tensor { storage: storage.clone(), offset: offset as u64, shape, strides })
    }

    fn size(&self, id: Id) -> Option<usize> {
        match self.nodes.get(id as usize) {
            Some(Node::Int(number)) => usize::try_from(*number).ok(),
            _ => None,
        }
    }

    /// `('storage', type, key, location, count)`.
    fn storage(&mut self, id: Id) -> Result<(), String> {
        let node = |id: &Id| self.nodes.get(*id as usize);
        let Some(Node::Row(row)) = node(&id) else { return Err(malformed("a storage")) };
        let [what, kind, key, _, count, rest @ ..] = &row[..] else { return Err(malformed("a storage")) };
        // A storage that is a part of another: files of long ago.
        if rest.iter().any(|rest| !matches!(node(rest), Some(Node::Other))) {
            return Err("its storages are parts of others; save it again with a newer torch".into());
        }
        match (node(what), node(kind), node(key), self.size(*count)) {
            (
                Some(Node::Text("storage")),
                Some(Node::Name(Name::Storage(dtype))),
                Some(Node::Text(key)),
                Some(count),
            ) => {
                let storage = Storage { key, dtype: *dtype, count: count as u64 };
                self.push(Node::Storage(storage))
            }
            _ => Err(malformed("a storage")),
        }
    }
}

fn pairs(values: &[Id]) -> Result<Vec<(Id, Id)>, String> {
    if values.len() % 2 == 1 {
        return Err(malformed("a dictionary"));
    }
    Ok(values.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// A number in two's complement; none of those that fit no i64 is needed.
fn long<'a>(bytes: &[u8]) -> Node<'a> {
    let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { -1 } else { 0 };
    if bytes.len() > 8 {
        return Node::Other;
    }
    Node::Int(bytes.iter().rev().fold(sign, |number, byte| number << 8 | i64::from(*byte)))
}

fn underflow() -> String {
    "its pickle takes more than it has put down; the file is damaged, fetch it again".into()
}

fn too_many() -> String {
    format!("its pickle makes more than {MOST_NODES} values, which no checkpoint does")
}

fn malformed(what: &str) -> String {
    format!("its pickle has {what} in a form that torch does not write; the file is damaged, fetch it again")
}

#[cfg(test)]
mod tests;
