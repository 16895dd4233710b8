//! A model's weights: the header of a safetensors file, or an index of several.
#![no_main]

use std::cell::LazyCell;

use tipi::low_level::clip::{Checkpoint, ClipConfig};
use tipi_fuzz::{MIB, Scratch, target};

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(Scratch::default);
}

/// Tensors whose values are read where they are there.
const NAMES: [&str; 4] = ["logit_scale", "visual.conv1.weight", "text_projection", "vision_model.post_layernorm.bias"];

target!(128 * MIB, |data| SCRATCH.with(|scratch| {
    // An index begins as JSON does; its only shard is a file that is sound.
    let whole = if data.first() == Some(&b'{') {
        scratch.remove("model.safetensors");
        scratch.write("model.safetensors.index.json", data);
        scratch.write("a.safetensors", include_bytes!("../seeds/checkpoint/openai.safetensors"));
        false
    } else {
        scratch.write("model.safetensors", data);
        true
    };
    let Ok(checkpoint) = Checkpoint::of_folder(scratch.path()) else { return };
    // All tensors lie in the file.
    let (stored, parameters) = (checkpoint.stored(), checkpoint.parameters());
    if whole {
        let bytes: usize = stored.iter().map(|(kind, n)| if kind == "F32" { 4 * n } else { 2 * n }).sum();
        assert!(bytes as u64 <= checkpoint.file_bytes(), "{stored:?} in {} bytes", checkpoint.file_bytes());
        let counted = parameters.image + parameters.text + parameters.other;
        assert_eq!(counted, stored.iter().map(|(_, n)| n).sum::<usize>());
    }
    for name in NAMES {
        let Ok(shape) = checkpoint.shape(name) else { continue };
        if let Ok(values) = checkpoint.values(name, &shape) {
            assert_eq!(values.len(), shape.iter().product::<usize>());
            if let Some(rows) = shape.first().filter(|rows| **rows > 1) {
                let part = checkpoint.part(name, &shape, 1..*rows).expect("the whole was read");
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&part), bits(&values[values.len() / rows..]));
            }
        }
    }
    if let Ok((config, _)) = ClipConfig::of_folder(scratch.path(), &checkpoint) {
        assert!(config.image_size > 0 && config.embedding > 0 && config.context > 0);
    }
}));
