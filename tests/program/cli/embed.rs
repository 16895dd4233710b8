//! `embed`.

use safetensors::SafeTensors;

use crate::start::{MODEL, root, s};
use crate::{bad, features, good, pictures};

#[test]
fn embed_writes_what_the_reference_has() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("f.safetensors");
    let golden = root().join("tests/golden");
    let case = golden.join("clip_b.safetensors");
    let bytes = std::fs::read(&case).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (what, input, output) in
        [("image", "in.pixel_values", "out.image_features"), ("text", "in.input_ids", "out.text_features")]
    {
        // Under the names that `embed` takes.
        let plain = dir.path().join("in.safetensors");
        let name = if what == "image" { "pixel_values" } else { "input_ids" };
        let data = safetensors::serialize([(name, file.tensor(input).unwrap())], None).unwrap();
        std::fs::write(&plain, data).unwrap();
        good(&["embed", what, "--model", s(&golden.join("model_b")), "--out", s(&out), s(&plain), "--batch", "3"]);
        let (shape, got) = features(&out);
        let want = file.tensor(output).unwrap();
        assert_eq!(shape, want.shape());
        let want: Vec<f32> = bytemuck::pod_collect_to_vec(want.data());
        assert!(got.iter().zip(&want).all(|(g, w)| (g - w).abs() < 4e-5), "{what}");
        assert!(got.iter().any(|g| g.abs() > 0.5), "the comparison must have something to compare");
    }
}

#[test]
fn embed_keeps_the_order_of_files_folders_lines_and_arguments() {
    let dir = pictures(2);
    let out = dir.path().join("f.safetensors");
    let (apple, umbrella) = (dir.path().join("apple"), dir.path().join("umbrella"));
    good(&["embed", "image", "--model", MODEL, "--out", s(&out), s(&umbrella), s(&apple)]);
    let (shape, both) = features(&out);
    assert_eq!(shape, [4, 192]);
    good(&["embed", "image", "--model", MODEL, "--out", s(&out), s(&apple)]);
    let (_, alone) = features(&out);
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
    assert!(close(&both[2 * 192..], &alone));
    assert!(!close(&both[..2 * 192], &alone));

    let lines = dir.path().join("lines.txt");
    std::fs::write(&lines, "a bell\nan apple\n").unwrap();
    good(&["embed", "text", "--model", MODEL, "--out", s(&out), "an umbrella", &format!("@{}", s(&lines))]);
    let (shape, mixed) = features(&out);
    assert_eq!(shape, [3, 192]);
    good(&["embed", "text", "--model", MODEL, "--out", s(&out), "an apple"]);
    assert!(close(&mixed[2 * 192..], &features(&out).1));
}

#[test]
fn inputs_of_the_wrong_form_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (input, out) = (dir.path().join("in.safetensors"), dir.path().join("out.safetensors"));
    let write = |name: &str, dtype, shape: Vec<usize>, bytes: &[u8]| {
        let view = safetensors::tensor::TensorView::new(dtype, shape, bytes).unwrap();
        std::fs::write(&input, safetensors::serialize([(name, view)], None).unwrap()).unwrap();
    };
    use safetensors::Dtype::{F32, I32};
    write("pixel_values", F32, vec![1, 3, 2, 2], &[0; 48]);
    bad(&["embed", "image", "--model", MODEL, "--out", s(&out), s(&input)], &["pixel_values", "[n, 3, 64, 64]"]);
    write("other", F32, vec![1], &[0; 4]);
    bad(&["embed", "image", "--model", MODEL, "--out", s(&out), s(&input)], &["pixel_values", "missing"]);
    let ids: Vec<u8> = [4094i32, 5000, 4095].iter().flat_map(|v| v.to_le_bytes()).collect();
    write("input_ids", I32, vec![1, 3], &ids);
    bad(&["embed", "text", "--model", MODEL, "--out", s(&out), s(&input)], &["5000", "4096"]);
    let ids: Vec<u8> = [4094i32, -1, 4095].iter().flat_map(|v| v.to_le_bytes()).collect();
    write("input_ids", I32, vec![1, 3], &ids);
    bad(&["embed", "text", "--model", MODEL, "--out", s(&out), s(&input)], &["input_ids"]);
    let ids: Vec<u8> = [4094i32, 7, 7].iter().flat_map(|v| v.to_le_bytes()).collect();
    write("input_ids", I32, vec![1, 3], &ids);
    bad(&["embed", "text", "--model", MODEL, "--out", s(&out), s(&input)], &["end token"]);
    let ids: Vec<u8> = std::iter::repeat_n(7i32, 60).chain([4095]).flat_map(i32::to_le_bytes).collect();
    write("input_ids", I32, vec![1, 61], &ids);
    bad(&["embed", "text", "--model", MODEL, "--out", s(&out), s(&input)], &["context of 40"]);
    assert!(!out.exists());
}

#[test]
fn the_profile_is_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("f.safetensors");
    let (_, stderr) = good(&["embed", "text", "--model", MODEL, "--out", s(&out), "a bell", "--profile"]);
    assert!(stderr.contains("gemm nt") && stderr.contains("GFLOP/s"), "{stderr}");
}
