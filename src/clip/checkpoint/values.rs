//! What a pickle's values become: see `pickle`, which makes them.

use safetensors::Dtype;

/// A value, by its number in [`Pickled::nodes`].
pub(super) type Id = u32;

/// A value. Those that hold others have their numbers, so that what is deep, shared or contains itself is flat here.
#[derive(Debug, PartialEq)]
pub(super) enum Node<'a> {
    /// What no tensor depends on.
    Other,
    Int(i64),
    Text(&'a str),
    /// A tuple or a list.
    Row(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// A module of a TorchScript archive: its attributes, once they are known.
    Module(Option<Id>),
    Name(Name),
    Storage(Storage<'a>),
    Tensor(Box<Tensor<'a>>),
}

/// What a global name stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Name {
    /// `torch._utils._rebuild_tensor_v2` and its predecessor.
    Tensor,
    /// What gives back its first argument, a tensor or a list.
    First,
    /// `torch._tensor._rebuild_from_type_v2`: calls its first argument with the third.
    OfType,
    Dict,
    /// A class that a TorchScript archive defines.
    Module,
    /// What a storage holds.
    Storage(Dtype),
    /// Plain values of which nothing is needed.
    Other,
}

/// Numbers in a file of their own, or a stretch of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage<'a> {
    pub key: &'a str,
    pub dtype: Dtype,
    pub count: u64,
}

/// A tensor: a view of a storage.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor<'a> {
    pub storage: Storage<'a>,
    pub offset: u64,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// What a pickle holds.
pub(super) struct Pickled<'a> {
    pub nodes: Vec<Node<'a>>,
    pub root: Id,
    /// Bytes up to its end.
    pub bytes: usize,
}

impl<'a> Pickled<'a> {
    pub fn node(&self, id: Id) -> &Node<'a> {
        self.nodes.get(id as usize).unwrap_or(&Node::Other)
    }
}

/// What `module.name` stands for; none where it is nothing that a checkpoint needs.
pub(super) fn known(module: &str, name: &str) -> Option<Name> {
    Some(match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Name::Tensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Name::First,
        ("torch._tensor", "_rebuild_from_type_v2") => Name::OfType,
        ("torch", "Size") => Name::First,
        (
            "torch.jit._pickle",
            "build_intlist" | "build_tensorlist" | "build_doublelist" | "build_boollist" | "restore_type_tag",
        ) => Name::First,
        ("collections", "OrderedDict" | "defaultdict" | "Counter") => Name::Dict,
        ("torch", storage) | ("torch.storage", storage) => match storage {
            "FloatStorage" => Name::Storage(Dtype::F32),
            "HalfStorage" => Name::Storage(Dtype::F16),
            "BFloat16Storage" => Name::Storage(Dtype::BF16),
            "DoubleStorage" => Name::Storage(Dtype::F64),
            "LongStorage" => Name::Storage(Dtype::I64),
            "IntStorage" => Name::Storage(Dtype::I32),
            "ShortStorage" => Name::Storage(Dtype::I16),
            "CharStorage" => Name::Storage(Dtype::I8),
            "ByteStorage" | "UntypedStorage" => Name::Storage(Dtype::U8),
            "BoolStorage" => Name::Storage(Dtype::BOOL),
            "device" | "dtype" | "Tensor" | "float32" | "float16" | "bfloat16" | "float64" | "int64" => Name::Other,
            _ => return None,
        },
        ("torch.nn.parameter", "Parameter") => Name::Other,
        // What training scripts leave beside the weights.
        ("argparse", "Namespace") | ("_codecs", "encode") | ("numpy", "dtype") => Name::Other,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Name::Other,
        ("__builtin__" | "builtins", "set" | "frozenset" | "slice" | "complex" | "bytearray") => Name::Other,
        _ if module == "__torch__" || module.starts_with("__torch__.") => Name::Module,
        _ => return None,
    })
}
