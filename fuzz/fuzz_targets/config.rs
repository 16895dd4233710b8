//! A model's configuration: `config.json`, `open_clip_config.json` and `preprocessor_config.json`.
#![no_main]

use std::cell::LazyCell;

use tipi::low_level::clip::{ClipConfig, ImageConfig, Source, TowerConfig};
use tipi::low_level::data::Rgb;
use tipi_fuzz::{MIB, Scratch, target};

/// Largest pictures that are prepared.
const SIDE: usize = 512;

thread_local! {
    /// Models under either naming scheme, and one whose configuration is sound.
    static FOLDERS: LazyCell<[Scratch; 3]> = LazyCell::new(|| {
        let folders = [(); 3].map(|()| Scratch::default());
        folders[0].write("model.safetensors", include_bytes!("../seeds/checkpoint/hf.safetensors"));
        folders[1].write("open_clip_model.safetensors", include_bytes!("../seeds/checkpoint/openai.safetensors"));
        folders[2].write("model.safetensors", include_bytes!("../seeds/checkpoint/hf.safetensors"));
        folders[2].write("config.json", include_bytes!("../../tests/golden/model_a/config.json"));
        folders
    });
}

fn check_tower(tower: &TowerConfig) {
    assert!(tower.width > 0 && tower.mlp > 0 && tower.layers > 0 && tower.heads > 0);
    assert!(tower.width.is_multiple_of(tower.heads), "{tower:?}");
    assert!(tower.eps.is_finite(), "{tower:?}");
}

target!(64 * MIB, |data| FOLDERS.with(|folders| {
    let names = ["config.json", "open_clip_config.json", "preprocessor_config.json"];
    for (folder, name) in folders.iter().zip(names) {
        folder.write(name, data);
        let open = || Source::of(folder.path(), None).and_then(|source| ClipConfig::open(&source));
        let Ok((_, config, preprocess)) = open() else { continue };
        check_tower(&config.text);
        match &config.image {
            ImageConfig::Vit(vit) => {
                check_tower(&vit.tower);
                assert!(vit.patch > 0 && vit.patch <= config.image_size);
            }
            ImageConfig::ResNet(net) => assert!(net.width > 0 && net.heads > 0),
        }
        let (_, again, prepared_again) = open().expect("it was opened a moment ago");
        assert!(config == again && preprocess.describe() == prepared_again.describe());
        if preprocess.size <= SIDE {
            let picture = Rgb::new(5, 3, (0..45).collect()).expect("45 bytes are 5×3 pixels");
            let view = preprocess.prepare(&picture);
            assert_eq!((view.width, view.height), (preprocess.size, preprocess.size));
            assert!(preprocess.normalized(&view).iter().all(|value| value.is_finite()));
        }
    }
}));
