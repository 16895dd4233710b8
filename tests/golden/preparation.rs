//! What comes before the towers: pictures and texts.

use serde_json::Value;
use tipi::low_level::clip::{Frame, Tokenizer};
use tipi::low_level::data::{Normalize, Rgb, center_crop, resize_center_crop, resize_shortest_edge, to_pixels};

use crate::{cases, chosen};

#[test]
fn image_preparation() {
    for mut case in cases(chosen(), "image_preparation") {
        let size = case.param("size").as_u64().unwrap() as usize;
        let count = case.param("shapes_wh").as_array().unwrap().len();
        for i in 0..count {
            let input = case.input(&format!("in.image{i}"));
            let picture = Rgb::new(input.shape[1], input.shape[0], input.u8()).unwrap();
            let resized = resize_shortest_edge(&picture, size);
            let as_f32: Vec<f32> = resized.data.iter().map(|v| f32::from(*v)).collect();
            let cropped = center_crop(&resized, size);
            assert_eq!(cropped, resize_center_crop(&picture, size), "the fused path differs for image {i}");
            case.compare(&format!("out.resized{i}"), &as_f32);
            case.compare(&format!("out.pixels{i}"), &to_pixels(&cropped, &Normalize::CLIP));
        }
        case.finish(|_| false);
    }
}

#[test]
fn tokenizer() {
    for case in cases(chosen(), "tokenizer") {
        let folder = case.root.join(case.json["folder"].as_str().unwrap());
        let cases: Value = serde_json::from_str(&std::fs::read_to_string(folder.join("cases.json")).unwrap()).unwrap();
        let context = cases["context"].as_u64().unwrap() as usize;
        let tokenizer = Tokenizer::open(&folder.join("tokenizer.json"), &Frame::clip(), context).unwrap();
        let numbers = |v: &Value| v.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect::<Vec<_>>();
        let texts = cases["cases"].as_array().unwrap();
        assert!(!texts.is_empty());
        for entry in texts {
            let text = entry["text"].as_str().unwrap();
            assert_eq!(tokenizer.ids(text).unwrap(), numbers(&entry["ids"]), "'{text}'");
            let mut padded = tokenizer.prompt(text).unwrap();
            padded.resize(context, 0);
            assert_eq!(padded, numbers(&entry["padded"]), "'{text}'");
        }
        println!("{:16} {} texts equal", case.name, texts.len());
    }
}
