//! Both towers, inside and out.

use serde_json::Value;
use tipi::low_level::clip::{Clip, ImageConfig, Prompts, TowerConfig};
use tipi::low_level::gpu::{DType, DeviceOptions, Gpu, Tensor};
use tipi::low_level::kernels::gemm::{self, Kernel, Layout, Precision, Problem};

use crate::{Case, cases, chosen, gpu, host, own, product, unit};

/// The sizes of a model's vision transformer.
fn vit(clip: &Clip) -> &TowerConfig {
    match &clip.config.image {
        ImageConfig::Vit(vit) => &vit.tower,
        ImageConfig::ResNet(_) => panic!("a ResNet"),
    }
}

#[test]
fn clip_forward() {
    for mut case in cases(chosen(), "clip_forward") {
        let clip = case.model();
        clip_forward_case(&mut case, &clip);
        case.finish(|_| false);
    }
}

/// Features by each kernel that this device can run, with weights of f32, f16 and int8 as far as it takes them, and without
/// optional features.
#[test]
fn clip_features_by_every_kernel() {
    let mut options = vec![(None, true)];
    options.extend(Kernel::ALL.into_iter().filter(|k| k.runs_on(gpu().capabilities())).map(|k| (Some(k), false)));
    let (mut rounded, mut halves) = (0, 0);
    for (kernel, portable) in options {
        let gpu = Gpu::open(&DeviceOptions {
            checked: Some(true),
            tune: Some(false),
            kernel: kernel.map(|k| k.name().to_string()),
            portable,
            ..DeviceOptions::default()
        })
        .unwrap();
        let name = kernel.map_or("portable", Kernel::name);
        let mut runs = 0;
        for mut case in cases(chosen(), "clip_forward") {
            let pixels = case.input("in.pixel_values").f32();
            let ids = case.input("in.input_ids").ids();
            let folder = case.root.join(case.json["model"].as_str().unwrap());
            // Nothing where the products would go by another kernel than the one that is looked at.
            let encode = |precision| {
                let clip = Clip::load_as(&gpu, &folder, precision).unwrap();
                let weight = &clip.text.transformer.blocks[0].up.weight;
                let problem = Problem {
                    layout: Layout::Nt,
                    m: 50,
                    n: weight.rows(),
                    k: weight.cols(),
                    a: DType::F32,
                    b: weight.dtype(),
                };
                if kernel.is_some_and(|kernel| gemm::choose(&gpu, &problem).ok() != Some(kernel)) {
                    return None;
                }
                let image = clip.image_encoder(3).unwrap().encode(&pixels, &mut |_| {}).unwrap();
                Some((image, clip.text.encode(&ids, clip.config.end).unwrap()))
            };
            if let Some((image, text)) = encode(Precision::F32) {
                runs += 1;
                case.compare("out.image_features", &image);
                case.compare("out.text_features", &text);
            }
            for (precision, most) in [(Precision::F16, 5e-3), (Precision::Int8, 4e-2)] {
                let Some((image, text)) = encode(precision) else { continue };
                runs += 1;
                halves += usize::from(precision == Precision::F16);
                for (tensor, got) in [("out.image_features", image), ("out.text_features", text)] {
                    let want = &case.input(tensor).values;
                    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
                    let off = norm(&mut got.iter().zip(want).map(|(g, w)| f64::from(*g) - w));
                    let error = off / norm(&mut want.iter().copied());
                    let what = format!("{}: {name}, {}: {tensor} off by {error:.1e}", case.name, precision.name());
                    println!("{what} of its length");
                    assert!(error < most, "{what}");
                    // Were it f32 all the way, the error would be a hundred times smaller; but a checkpoint may hold nothing
                    // that f16 does not.
                    match precision {
                        Precision::F16 => rounded += usize::from(error > 1e-5),
                        _ => assert!(error > 1e-3, "{what}: not rounded"),
                    }
                }
            }
        }
        assert!(runs > 0, "{name} computed nothing");
    }
    assert!(2 * rounded >= halves, "weights were not rounded to f16");
}

fn clip_forward_case(case: &mut Case, clip: &Clip) {
    let pixels = case.input("in.pixel_values").f32();
    let batch = case.input("in.pixel_values").shape[0];
    let ids = case.input("in.input_ids").ids();
    let d = clip.config.embedding;

    // The tokenizer gives the same ids, up to the padding.
    let tokenizer = clip.tokenizer().unwrap();
    for (text, want) in case.strings("texts").iter().zip(&ids) {
        let got = tokenizer.prompt(text).unwrap();
        assert_eq!(got, want[..got.len()], "{}: '{text}'", case.name);
        let pad = case.param("pad_id").as_u64().unwrap() as u32;
        assert!(want[got.len()..].iter().all(|id| *id == pad));
    }

    let ends: Vec<f32> = ids.iter().map(|row| clip.config.end.position(row).unwrap() as f32).collect();
    case.compare("out.end_positions", &ends);

    // As people use it: pictures through a batch that does not divide their number, texts cut at the end token.
    let image = clip.image_encoder(3).unwrap().encode(&pixels, &mut |_| {}).unwrap();
    let text = clip.text.encode(&ids, clip.config.end).unwrap();
    case.compare("out.image_features", &image);
    case.compare("out.text_features", &text);
    let (image_unit, text_unit) = (unit(&image, d), unit(&text, d));
    case.compare("out.image_unit", &image_unit);
    case.compare("out.text_unit", &text_unit);
    case.compare("out.logits_per_image", &product(&image_unit, &text_unit, d, clip.logit_scale));

    // The insides, from the kernels that training uses.
    let taps = clip.image.vit().unwrap().tapped(&pixels, batch).unwrap();
    let first = |t: &Tensor, tokens: usize| host(t)[..t.len() / t.rows() * tokens].to_vec();
    let tokens = clip.config.image_tokens();
    let prefix = "out.act.image";
    case.compare(&format!("{prefix}.embedded"), &first(&taps.embedded, tokens));
    case.compare(&format!("{prefix}.pre"), &first(&taps.pre, tokens));
    compare_insides(case, prefix, &taps.blocks, &taps.last, vit(clip).heads, tokens);
    case.compare(&format!("{prefix}.pooled"), &first(&taps.pooled, 1));
    case.compare("out.image_features", &host(&taps.features));

    let whole = Prompts::pack_whole(&ids, clip.config.end).unwrap();
    let taps = clip.text.tapped(&whole).unwrap();
    let tokens = ids[0].len();
    let prefix = "out.act.text";
    compare_insides(case, prefix, &taps.blocks, &taps.last, clip.config.text.heads, tokens);
    case.compare(&format!("{prefix}.pooled"), &first(&taps.pooled, 1));
    case.compare("out.text_features", &host(&taps.features));
}

fn compare_insides(
    case: &mut Case,
    prefix: &str,
    blocks: &[Tensor],
    last: &tipi::low_level::nn::Taps,
    heads: usize,
    tokens: usize,
) {
    let first = |t: &Tensor| host(t)[..t.cols() * tokens].to_vec();
    for (i, block) in blocks.iter().enumerate() {
        case.compare(&format!("{prefix}.block{i}"), &first(block));
    }
    // Ours is [rows, heads, keys], the reference's [1, heads, rows, keys].
    let weights = host(&last.weights);
    let keys = last.weights.cols();
    let by_head: Vec<f32> = (0..heads)
        .flat_map(|h| (0..tokens).map(move |t| (t * heads + h) * keys))
        .flat_map(|at| weights[at..at + tokens].to_vec())
        .collect();
    case.compare(&format!("{prefix}.last.prob"), &by_head);
    let rest = [
        ("n1", &last.n1),
        ("mixed", &last.mixed),
        ("mid", &last.mid),
        ("n2", &last.n2),
        ("up", &last.up),
        ("mlp", &last.mlp),
    ];
    for (name, tensor) in rest {
        case.compare(&format!("{prefix}.last.{name}"), &first(tensor));
    }
}

/// A wrong activation, eps, width of the head or end token "still works": the cases must notice each.
#[test]
fn clip_forward_notices_a_wrong_configuration() {
    let case = cases(own(), "clip_forward")
        .into_iter()
        .find(|c| c.root.join(c.json["model"].as_str().unwrap()).join("config.json").exists());
    let Some(case) = case else { panic!("no case with a Hugging Face folder") };
    let folder = case.root.join(case.json["model"].as_str().unwrap());
    let config: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let (pixels, ids) = (case.input("in.pixel_values").f32(), case.input("in.input_ids").ids());
    let mut mistakes: Vec<(&str, &str, Value)> = Vec::new();
    for side in ["vision_config", "text_config"] {
        let act = if config[side]["hidden_act"] == "gelu" { "quick_gelu" } else { "gelu" };
        mistakes.push((side, "hidden_act", act.into()));
        mistakes.push((side, "layer_norm_eps", 1e-3.into()));
        let heads = config[side]["num_attention_heads"].as_u64().unwrap();
        mistakes.push((side, "num_attention_heads", if heads == 1 { 2 } else { 1 }.into()));
    }
    for (side, key, value) in mistakes {
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        let mut wrong = config.clone();
        wrong[side][key] = value;
        std::fs::write(copy.path().join("config.json"), wrong.to_string()).unwrap();
        let clip = Clip::load(gpu(), copy.path()).unwrap();
        let excess = if side == "vision_config" {
            case.excess("out.image_features", &clip.image_encoder(4).unwrap().encode(&pixels, &mut |_| {}).unwrap())
        } else {
            case.excess("out.text_features", &clip.text.encode(&ids, clip.config.end).unwrap())
        };
        println!("wrong {side}.{key}: {excess:.0} times the bound");
        assert!(excess > 10.0, "a wrong {side}.{key} went unnoticed: {excess}");
    }
}
