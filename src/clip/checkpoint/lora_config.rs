//! What PEFT's `adapter_config.json` says. Whatever would change the result and is not done here is refused.

use std::fmt;
use std::path::Path;

use regex::Regex;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::lora::Settings;
use crate::{Error, Result, input, text};

/// The most patterns of ranks or α.
const MOST_PATTERNS: usize = 10_000;
/// The largest rank.
const LARGEST_RANK: f64 = 65_536.0;

/// Settings that say nothing of how matrices are merged, whatever their values.
const HARMLESS: [&str; 24] = [
    "auto_mapping",
    "base_model_class",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "lora_ga_config",
    "loftq_config",
    "megatron_config",
    "megatron_core",
    "parent_library",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "ephemeral_gpu_offload",
    "init_lora_weights",
];
/// Settings that are honoured.
const HONOURED: [&str; 9] = [
    "alpha_pattern",
    "bias",
    "fan_in_fan_out",
    "lora_alpha",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "use_rslora",
];
/// Ways to begin that change the model's own weights, too.
const CHANGING: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];

#[derive(Deserialize)]
struct Config {
    #[serde(default = "eight")]
    r: f64,
    #[serde(default = "eight")]
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: Option<bool>,
    #[serde(default)]
    fan_in_fan_out: Option<bool>,
    #[serde(default)]
    rank_pattern: Option<Ordered>,
    #[serde(default)]
    alpha_pattern: Option<Ordered>,
}

/// PEFT's default.
fn eight() -> f64 {
    8.0
}

/// An object's numbers in the order of the file: the first pattern that fits counts.
struct Ordered(Vec<(String, f64)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Ordered, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Ordered;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of numbers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Ordered, A::Error> {
                let mut all = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    all.push(entry);
                }
                Ok(Ordered(all))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Whether a setting is off.
fn off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || text == "none",
        Value::Array(all) => all.is_empty(),
        Value::Object(all) => all.is_empty(),
        _ => false,
    }
}

/// Reads the configuration of a LoRA.
pub(super) fn read(path: &Path) -> Result<Settings> {
    let bad = |reason: String| Error::config(path, reason);
    let bytes = input::read(path, input::limit::CONFIG)?;
    let malformed = |e: serde_json::Error| bad(format!("not a valid configuration of PEFT: {e}; fetch it again"));
    let all: serde_json::Map<String, Value> = serde_json::from_slice(&bytes).map_err(malformed)?;
    match all.get("peft_type").and_then(Value::as_str) {
        Some("LORA") => {}
        other => {
            let kind = text::cut(other.unwrap_or("none"), text::NAME);
            return Err(bad(format!("is an adapter of the type {kind}; tipi merges those of the type LORA")));
        }
    }
    let set = |key: &str| all.get(key).is_some_and(|value| !off(value));
    for (key, why) in [
        ("use_dora", "DoRA scales whole weights"),
        ("bias", "it changes biases, too"),
        ("lora_bias", "its matrices have biases"),
        ("modules_to_save", "it brings whole modules of its own"),
        ("trainable_token_indices", "it changes single tokens"),
        ("target_parameters", "it changes parameters outside of layers"),
        ("layer_replication", "it repeats layers"),
        ("alora_invocation_tokens", "it acts from a token on"),
        ("use_qalora", "QALoRA groups inputs"),
    ] {
        if set(key) {
            let advice = "merge it in Python with merge_and_unload() and save the model";
            return Err(bad(format!("sets '{key}' ({why}), which tipi does not merge; {advice}")));
        }
    }
    let begin = all.get("init_lora_weights").and_then(Value::as_str).unwrap_or_default();
    if CHANGING.iter().any(|way| begin.starts_with(way)) {
        let begin = text::cut(begin, text::NAME);
        return Err(bad(format!(
            "began as '{begin}', which changes the model's own weights, too; merge it in Python with merge_and_unload() and \
             save the model"
        )));
    }
    let foreign = |key: &&String| !HARMLESS.contains(&key.as_str()) && !HONOURED.contains(&key.as_str()) && set(key);
    if let Some(key) = all.keys().find(foreign) {
        let key = text::cut(key, text::NAME);
        return Err(bad(format!("sets '{key}', which this tipi does not know; merge it in Python and save the model")));
    }
    let config: Config = serde_json::from_slice(&bytes).map_err(malformed)?;
    let rank = |r: f64| (1.0..=LARGEST_RANK).contains(&r) && r.fract() == 0.0;
    let patterns = |patterns: Option<Ordered>| -> Result<Vec<(Regex, f64)>> {
        let all = patterns.map(|ordered| ordered.0).unwrap_or_default();
        if all.len() > MOST_PATTERNS {
            return Err(bad(format!("has {} patterns, of which {MOST_PATTERNS} at most are read", all.len())));
        }
        let compiled = |(pattern, value): (String, f64)| {
            let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$"));
            let shown = text::cut(&pattern, text::NAME).into_owned();
            regex
                .map(|regex| (regex, value))
                .map_err(|_| bad(format!("has the pattern '{shown}', which tipi cannot read")))
        };
        all.into_iter().map(compiled).collect()
    };
    let settings = Settings {
        rank: config.r as usize,
        alpha: config.lora_alpha,
        root: config.use_rslora.unwrap_or(false),
        ranks: patterns(config.rank_pattern)?,
        alphas: patterns(config.alpha_pattern)?,
        fan_in_fan_out: config.fan_in_fan_out.unwrap_or(false),
    };
    if !rank(config.r) || !settings.ranks.iter().all(|(_, r)| rank(*r)) {
        return Err(bad(format!("has a rank that is no whole number from 1 to {LARGEST_RANK}")));
    }
    Ok(settings)
}
