//! Zero-shot classifiers.

use tipi::low_level::adapt::zero_shot::{self, Classifier};

use crate::{cases, chosen, gpu, host, unit};

#[test]
fn zero_shot() {
    for mut case in cases(chosen(), "zero_shot") {
        let clip = case.model();
        let (classes, templates) = (case.strings("classnames"), case.strings("templates"));
        let d = clip.config.embedding;
        let texts = zero_shot::prompts(&classes, &templates).unwrap();
        for (text, want) in texts.iter().zip(case.input("in.input_ids").ids()) {
            let got = clip.tokenizer().unwrap().prompt(text).unwrap();
            assert_eq!(got, want[..got.len()], "{}: '{text}'", case.name);
        }
        let mut classifier = Classifier::new(&clip, &classes, &templates).unwrap();
        classifier.scale = case.param("scale").as_f64().unwrap() as f32;
        let weights = host(&classifier.weights);
        let by_column: Vec<f32> = (0..d).flat_map(|i| weights.iter().skip(i).step_by(d).copied()).collect();
        case.compare("out.class_weights", &by_column);
        let pixels = case.input("in.pixel_values").f32();
        let features = clip.image_encoder(4).unwrap().encode(&pixels, &mut |_| {}).unwrap();
        case.compare("out.logits", &classifier.logits(&features, gpu()).unwrap());

        // Planted: templates averaged without normalising each first.
        let raw = clip.encode_texts(&texts).unwrap();
        let mean: Vec<f32> = raw
            .chunks(templates.len() * d)
            .flat_map(|c| (0..d).map(|i| c.iter().skip(i).step_by(d).sum::<f32>()).collect::<Vec<_>>())
            .collect();
        let wrong = unit(&mean, d);
        let wrong: Vec<f32> = (0..d).flat_map(|i| wrong.iter().skip(i).step_by(d).copied()).collect();
        // With one template it makes no difference.
        assert!(templates.len() == 1 || case.excess("out.class_weights", &wrong) > 10.0);
        case.finish(|_| false);
    }
}
