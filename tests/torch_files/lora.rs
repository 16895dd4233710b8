//! Adapters of peft.

use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};
use tipi::low_level::clip::{Clip, Source};

use super::{OFF, compared, fixture, gpu, refuses, source};

#[test]
fn adapters_give_pefts_features() {
    for (name, base) in
        [("plain", "hf"), ("patterns", "hf"), ("fan", "hf"), ("attention", "tuned"), ("plain", "hf-old")]
    {
        let lora = fixture("lora").join(name);
        let expected = lora.join("expected.safetensors");
        let errors = compared(&source(&fixture(base), Some(&lora)), &expected);
        println!("{name} on {base}: image {:.1e}, text {:.1e}", errors[0], errors[1]);
        assert!(errors.iter().all(|error| *error < OFF), "{name}: {errors:?}");
        // Without it, features are others.
        let errors = compared(&source(&fixture(base), None), &expected);
        assert!(errors.iter().all(|error| *error > 10.0 * OFF), "{name}: {errors:?}");
    }
}

/// An adapter's matrices: names, shapes and bytes.
type Matrices = Vec<(String, Vec<usize>, Vec<u8>)>;

/// A copy of an adapter with its configuration changed.
fn changed(name: &str, change: &dyn Fn(&mut Value)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture("lora").join(name)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let path = copy.path().join("adapter_config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(&path, config.to_string()).unwrap();
    copy
}

#[test]
fn every_setting_counts() {
    let differs = |name: &str, key: &str, value: Value| {
        let lora = changed(name, &|config| config[key] = value.clone());
        let errors = compared(
            &source(&fixture("hf"), Some(lora.path())),
            &fixture("lora").join(name).join("expected.safetensors"),
        );
        assert!(errors.iter().any(|error| *error > 10.0 * OFF), "{key}: {errors:?}");
    };
    differs("plain", "lora_alpha", json!(17));
    differs("patterns", "use_rslora", json!(false));
    differs("patterns", "alpha_pattern", json!({}));
    // Of patterns that fit, the first counts.
    let lora = changed("patterns", &|config| config["alpha_pattern"] = json!("HERE"));
    let path = lora.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let other = r#"{"vision_model.encoder.layers.1.mlp.fc1": 9, "fc1": 2}"#;
    std::fs::write(&path, text.replace("\"HERE\"", other)).unwrap();
    let expected = fixture("lora/patterns/expected.safetensors");
    let errors = compared(&source(&fixture("hf"), Some(lora.path())), &expected);
    assert!(errors[0] > 10.0 * OFF && errors[1] < OFF, "{errors:?}");
}

#[test]
fn what_cannot_be_merged_is_refused() {
    let refused = |key: &str, value: Value, parts: &[&str]| {
        let lora = changed("plain", &|config| config[key] = value.clone());
        refuses(&fixture("hf"), Some(lora.path()), &[&["adapter_config.json"][..], parts].concat());
    };
    refused("peft_type", json!("LOHA"), &["type LOHA"]);
    refused("peft_type", Value::Null, &["type none"]);
    refused("use_dora", json!(true), &["use_dora", "merge_and_unload"]);
    refused("bias", json!("all"), &["'bias'"]);
    refused("lora_bias", json!(true), &["lora_bias"]);
    refused("modules_to_save", json!(["visual_projection"]), &["modules_to_save"]);
    refused("trainable_token_indices", json!([1]), &["trainable_token_indices"]);
    refused("target_parameters", json!(["x"]), &["target_parameters"]);
    refused("init_lora_weights", json!("pissa_niter_4"), &["pissa_niter_4"]);
    refused("kasa_config", json!({ "beta": 1 }), &["kasa_config", "does not know"]);
    refused("something_new", json!(3), &["something_new", "does not know"]);
    refused("rank_pattern", json!({ "(": 3 }), &["pattern '('"]);
    refused("rank_pattern", json!({ "q_proj": 2.5 }), &["rank"]);
    refused("r", json!(0), &["rank"]);
    refused("lora_alpha", json!("a"), &["not a valid configuration"]);
    // Settings that change nothing.
    let lora = changed("plain", &|config| {
        config["init_lora_weights"] = json!("gaussian");
        config["loftq_config"] = json!({});
        config["task_type"] = json!("FEATURE_EXTRACTION");
        config["inference_mode"] = json!(false);
    });
    source(&fixture("hf"), Some(lora.path()));
    let errors = compared(&source(&fixture("hf"), Some(lora.path())), &fixture("lora/plain/expected.safetensors"));
    assert!(errors.iter().all(|error| *error < OFF));
    // A rank that is not the matrices'.
    let lora = changed("plain", &|config| config["r"] = json!(4));
    refuses(&fixture("hf"), Some(lora.path()), &["q_proj.lora_A.weight", "rank 4"]);
}

#[test]
fn adapters_of_other_models_are_refused() {
    let attention = fixture("lora/attention");
    let parts = ["model.safetensors", "resblocks.0.attn.out_proj.weight", "another model"];
    refuses(&fixture("hf"), Some(&attention), &parts);
    // The golden model has the names, and other shapes.
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/model_a");
    refuses(&golden, Some(&fixture("lora/plain")), &["lora_A.weight", "do not fit", "another model"]);
    refuses(&fixture("hf"), Some(&fixture("hf")), &["adapter_config.json"]);
    // Matrices that are of something else, or alone.
    let with = |change: &dyn Fn(&mut Matrices)| {
        let lora = changed("plain", &|_| {});
        let path = lora.path().join("adapter_model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let mut all: Matrices =
            file.iter().map(|(name, view)| (name.to_string(), view.shape().to_vec(), view.data().to_vec())).collect();
        all.sort();
        change(&mut all);
        let views =
            all.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        std::fs::write(&path, serialize(views, None).unwrap()).unwrap();
        lora
    };
    let refused = |change: &dyn Fn(&mut Matrices), parts: &[&str]| {
        refuses(&fixture("hf"), Some(with(change).path()), parts);
    };
    refused(&|all| drop(all.remove(0)), &["without", "lora_A"]);
    refused(&|all| drop(all.remove(1)), &["without", "lora_B"]);
    let embedding = |all: &mut Matrices| {
        all.iter_mut().take(2).for_each(|(name, ..)| *name = name.replace("lora_", "lora_embedding_"));
    };
    refused(&embedding, &["lora_embedding_A", "nothing else"]);
    let bias = "base_model.model.visual_projection.bias";
    refused(&|all| all.push((bias.into(), vec![1], vec![0; 4])), &[bias, "nothing else"]);
    refused(&Vec::clear, &["no matrices"]);
}

#[test]
fn an_adapter_alone_finds_its_model() {
    let base = fixture("hf");
    let lora = changed("plain", &|config| config["base_model_name_or_path"] = json!(base.to_str().unwrap()));
    let expected = fixture("lora/plain/expected.safetensors");
    let errors = compared(&source(lora.path(), None), &expected);
    assert!(errors.iter().all(|error| *error < OFF), "{errors:?}");
    // It is the same model by whichever way it is named, and another than without the adapter or with another.
    let id =
        |source: &Source| Clip::load_source(gpu(), source, tipi::Precision::F32).unwrap().id().unwrap().sha256.clone();
    let ids = [
        id(&source(lora.path(), None)),
        id(&source(&base, Some(&fixture("lora/plain")))),
        id(&source(&base, None)),
        id(&source(&base, Some(&fixture("lora/fan")))),
        id(&source(&base, Some(changed("plain", &|config| config["lora_alpha"] = json!(15)).path()))),
    ];
    assert_eq!(ids[0], ids[1]);
    for (i, id) in ids.iter().enumerate().skip(1) {
        assert!(!ids[i + 1..].contains(id), "{i}");
    }
    for (name, part) in [(json!("no/such-model"), "no/such-model"), (Value::Null, "does not say")] {
        let lora = changed("plain", &|config| config["base_model_name_or_path"] = name.clone());
        refuses(lora.path(), None, &[part]);
    }
    let lora = changed("plain", &|config| config["base_model_name_or_path"] = json!("//server/share"));
    refuses(lora.path(), None, &["neither a folder here"]);
}
