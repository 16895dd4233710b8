//! Which of a repository's files make a model.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::clip::DESCRIPTIONS;
use crate::hub::names;
use crate::{Error, Result, input};

/// Configurations; a model has one of them at least.
pub(super) const CONFIGS: [&str; 2] = ["config.json", "open_clip_config.json"];
/// Weights in one file, or the index that names several; the first that a repository has is taken.
pub(super) const FORMS: [(&str, &str); 4] = [
    ("model.safetensors", "model.safetensors.index.json"),
    ("open_clip_model.safetensors", "open_clip_model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model.bin.index.json"),
    ("open_clip_pytorch_model.bin", "open_clip_pytorch_model.bin.index.json"),
];
/// How the names of weights end.
pub(super) const ENDINGS: [&str; 2] = [".safetensors", ".bin"];
/// The model's card: `info` reads the licence there.
const CARD: &str = "README.md";
/// Endings of weights that only Python and its kin read.
const FOREIGN: [&str; 7] = [".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx"];
/// Most bytes of an index.
const MAX_INDEX: u64 = 64 << 20;

/// What is wanted where it exists, but for weights and licences.
pub(super) fn beside() -> impl Iterator<Item = &'static str> {
    DESCRIPTIONS.into_iter().chain([CARD])
}

/// What to fetch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Small files, and weights in one file.
    pub(super) files: Vec<String>,
    /// The index of weights in several files.
    pub(super) index: Option<&'static str>,
}

/// What of a repository's files is needed; the error is the reason.
pub(super) fn wanted(repo: &str, listed: &BTreeSet<String>) -> Result<Wanted, String> {
    if let Some(hostile) = listed.iter().find(|name| names::escapes(name)) {
        return Err(format!("its listing names the file {hostile:?}, outside the repository; nothing was fetched"));
    }
    let is_license = |name: &str| name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("LICENSE"));
    let small = |name: &str| beside().any(|known| known == name) || is_license(name);
    let mut files: Vec<String> =
        listed.iter().filter(|name| small(name.as_str()) && names::file(name)).cloned().collect();
    for (file, index) in FORMS {
        if listed.contains(file) {
            files.push(file.to_owned());
        } else if !listed.contains(index) {
            continue;
        }
        if !CONFIGS.iter().any(|config| listed.contains(*config)) {
            return Err(format!("it has {file} but neither {} nor {}; is it a CLIP model?", CONFIGS[0], CONFIGS[1]));
        }
        return Ok(Wanted { files, index: (!listed.contains(file)).then_some(index) });
    }
    Err(without_weights(repo, listed))
}

/// Why a repository without fitting weights is of no use, and what is.
fn without_weights(repo: &str, listed: &BTreeSet<String>) -> String {
    let [(first, _), (second, _), (third, _), _] = FORMS;
    let Some(foreign) = listed.iter().find(|name| FOREIGN.iter().any(|ending| name.ends_with(ending))) else {
        return format!("it has none of {first}, {second} and {third}; is it a CLIP model?");
    };
    format!(
        "its weights come as {foreign:?} only, under no name that tipi looks for: fetch that file and give its path, look for \
         a repository of this model that has {first} or {second}, or convert it with Python's transformers, \
         `CLIPModel.from_pretrained(\"{repo}\").save_pretrained(\"FOLDER\")` (and the same with CLIPProcessor), and \
         give that folder"
    )
}

/// The files that an index names; the error is the reason.
fn parse(index: &[u8]) -> Result<BTreeSet<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let index: Index =
        serde_json::from_slice(index).map_err(|error| format!("not a sound index of shards: {error}"))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    match shards.iter().find(|name| !names::file(name) || !ENDINGS.iter().any(|ending| name.ends_with(ending))) {
        Some(bad) => Err(format!("the index names {bad:?}, which is no file of weights beside it; do not use it")),
        None if shards.is_empty() => Err("the index names no file; fetch it again".to_owned()),
        None => Ok(shards),
    }
}

/// The files that the index at `path` names.
pub(super) fn shards(path: &Path) -> Result<BTreeSet<String>> {
    parse(&input::read(path, MAX_INDEX)?).map_err(|reason| Error::config(path, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Result<Wanted, String> {
        wanted("org/name", &names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn only_what_is_needed() {
        let found = of(&[
            ".gitattributes",
            "LICENSE.txt",
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "merges.txt",
            "model.safetensors",
            "model.safetensors.index.json",
            "open_clip_config.json",
            "open_clip_model.safetensors",
            "pytorch_model.bin",
            "sub/config.json",
            "tokenizer.json",
        ])
        .unwrap();
        let expected =
            ["LICENSE.txt", "README.md", "config.json", "open_clip_config.json", "tokenizer.json", "model.safetensors"];
        assert_eq!(found.files, expected);
        assert_eq!(found.index, None);
    }

    #[test]
    fn forms_of_weights_in_order() {
        let found = of(&["config.json", "model.safetensors.index.json", "open_clip_model.safetensors"]).unwrap();
        assert_eq!((found.files.len(), found.index), (1, Some("model.safetensors.index.json")));
        let found = of(&["open_clip_config.json", "open_clip_model.safetensors"]).unwrap();
        assert_eq!(found.files, ["open_clip_config.json", "open_clip_model.safetensors"]);
        let found = of(&["open_clip_config.json", "open_clip_model.safetensors.index.json"]).unwrap();
        assert_eq!(found.index, Some("open_clip_model.safetensors.index.json"));
        // Torch's files only where there is nothing else.
        let found = of(&["config.json", "pytorch_model.bin"]).unwrap();
        assert_eq!((found.files, found.index), (vec!["config.json".into(), "pytorch_model.bin".into()], None));
        let found = of(&["config.json", "model.safetensors", "pytorch_model.bin"]).unwrap();
        assert_eq!(found.files, ["config.json", "model.safetensors"]);
    }

    #[test]
    fn useless_repositories_say_why() {
        assert!(of(&["config.json", "weights.pt"]).unwrap_err().contains("\"weights.pt\" only"));
        assert!(of(&["config.json", "README.md"]).unwrap_err().contains("is it a CLIP model"));
        assert!(of(&["model.safetensors"]).unwrap_err().contains("neither config.json"));
        assert!(of(&["config.json", "model.safetensors", "a/../../x"]).unwrap_err().contains("nothing was fetched"));
    }

    #[test]
    fn an_index_names_files_beside_it() {
        let shards =
            parse(br#"{"metadata":{},"weight_map":{"a":"x.safetensors","b":"y.safetensors","c":"x.safetensors"}}"#);
        assert_eq!(shards.unwrap().into_iter().collect::<Vec<_>>(), ["x.safetensors", "y.safetensors"]);
        for bad in ["../x.safetensors", "/x.safetensors", "a/x.safetensors", "x.pt", ".x.safetensors", ""] {
            let index = serde_json::json!({"weight_map": {"a": bad}}).to_string();
            assert!(parse(index.as_bytes()).unwrap_err().contains("do not use it"), "{bad}");
        }
        for bad in ["", "{}", "[]", r#"{"weight_map":{}}"#, r#"{"weight_map":{"a":1}}"#] {
            parse(bad.as_bytes()).unwrap_err();
        }
    }
}
