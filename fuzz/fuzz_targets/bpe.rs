//! CLIP's own tokenizer: cleaning a text up, and splitting it.
#![no_main]

use std::sync::LazyLock;

use tipi::low_level::clip::{Bpe, Markers};
use tipi_fuzz::{MIB, target};

static RULES: LazyLock<[Bpe; 2]> =
    LazyLock::new(|| [Markers::OpenAi, Markers::OpenClip].map(|markers| Bpe::new(markers).expect("they are built in")));

const VOCABULARY: u32 = 49_408;

target!(96 * MIB, |data| {
    let text = String::from_utf8_lossy(data);
    for rules in RULES.iter() {
        let ids = rules.ids(&text);
        assert!(ids.iter().all(|id| *id < VOCABULARY));
        assert_eq!(ids, rules.ids(&text));
    }
});
