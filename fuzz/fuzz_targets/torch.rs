//! A model's weights as PyTorch saves them: the directory of an archive, a pickle, and where storages lie.
#![no_main]

use std::cell::LazyCell;

use tipi::low_level::clip::Checkpoint;
use tipi_fuzz::{MIB, Scratch, target};

thread_local! {
    static SCRATCH: LazyCell<Scratch> = LazyCell::new(Scratch::default);
}

/// Tensors whose values are read where they are there.
const NAMES: [&str; 3] = ["logit_scale", "visual.conv1.weight", "text_projection"];

target!(192 * MIB, |data| SCRATCH.with(|scratch| {
    let Ok(checkpoint) = Checkpoint::open(&scratch.write("model.pt", data)) else { return };
    for name in NAMES {
        let Ok(shape) = checkpoint.shape(name) else { continue };
        let Ok(values) = checkpoint.values(name, &shape) else { continue };
        assert_eq!(values.len(), shape.iter().product::<usize>());
        // No view has more values than the file has.
        assert!(values.len() as u64 * 2 <= checkpoint.file_bytes());
        if let Some(rows) = shape.first().filter(|rows| **rows > 1) {
            let part = checkpoint.part(name, &shape, 1..*rows).expect("the whole was read");
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&part), bits(&values[values.len() / rows..]));
        }
    }
}));
