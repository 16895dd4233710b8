//! A SigLIP with random weights that reads texts: the small fixture, with as many token rows as its tokenizer has pieces.

use std::fs;
use std::io::Read;
use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::root;
use crate::twins::Random;

/// Pieces of the tokenizer.
const PIECES: usize = 3000;

/// Writes the model into an empty folder, as transformers would have saved it.
pub fn write(folder: &Path) {
    let from = root().join("tests/fixtures/towers/hf-siglip");
    fs::copy(from.join("preprocessor_config.json"), folder.join("preprocessor_config.json")).unwrap();
    let packed = fs::File::open(root().join("tests/fixtures/tokenizers/siglip.spiece.model.gz")).unwrap();
    let mut pieces = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut pieces).unwrap();
    fs::write(folder.join("spiece.model"), pieces).unwrap();
    let text = fs::read_to_string(from.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
    config["text_config"]["vocab_size"] = PIECES.into();
    let width = usize::try_from(config["text_config"]["hidden_size"].as_u64().unwrap()).unwrap();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let bytes = fs::read(from.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let rows: Vec<u8> = Random::new(9).vector(PIECES * width).iter().flat_map(|v| (v * 0.5).to_le_bytes()).collect();
    let table = "text_model.embeddings.token_embedding.weight";
    let tensors = file.iter().map(|(name, tensor)| match name == table {
        true => (name, TensorView::new(Dtype::F32, vec![PIECES, width], &rows).unwrap()),
        false => (name, tensor),
    });
    fs::write(folder.join("model.safetensors"), safetensors::serialize(tensors, None).unwrap()).unwrap();
}
