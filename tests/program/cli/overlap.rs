//! `overlap`.

use safetensors::SafeTensors;
use serde_json::Value;

use crate::start::{MODEL, s};
use crate::{bad, fit_overlap, good, pictures};

#[test]
fn overlap_is_measured_before_and_after() {
    let data = pictures(6);
    let dir = tempfile::tempdir().unwrap();
    let (c, plot) = (dir.path().join("c.st"), dir.path().join("plots.of/overlap"));
    std::fs::create_dir(dir.path().join("plots.of")).unwrap();
    fit_overlap(&c, 3);
    let args = ["overlap", "--model", MODEL, "--data", s(data.path()), "--plot", s(&plot)];
    let (json, _) = good(&[&args[..], &["--json", "--adapter", s(&c)]].concat());
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json["pictures"].as_u64(), json["pairs"].as_u64()), (Some(18), Some(18 * 17 / 2)));
    for when in ["before", "after"] {
        let part = &json[when];
        let sum = |key: &str| part[key].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("same"), sum("different")), (3 * 15, 153 - 45), "{when}");
        let number = |key: &str| part[key].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&number("overlap")) && (0.0..=1.0).contains(&number("feature_variance")));
        assert!(number("mean_same") > number("mean_different") + 0.1, "{part}");
    }
    assert_ne!(json["before"]["overlap"], json["after"]["overlap"]);
    // The same numbers from the features themselves.
    let f = dir.path().join("f.safetensors");
    good(&["embed", "image", "--labels", "--model", MODEL, "--correction", s(&c), "--out", s(&f), s(data.path())]);
    let bytes = std::fs::read(&f).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let labels: Vec<i64> = bytemuck::pod_collect_to_vec(file.tensor("labels").unwrap().data());
    assert_eq!(labels, (0..18).map(|i| i / 6).collect::<Vec<i64>>());
    for (name, when) in [("features", "before"), ("adapted", "after")] {
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(file.tensor(name).unwrap().data());
        let unit: Vec<Vec<f64>> = values
            .chunks(192)
            .map(|row| {
                let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                row.iter().map(|v| f64::from(*v) / norm).collect()
            })
            .collect();
        let mean: Vec<f64> = (0..192).map(|d| unit.iter().map(|row| row[d]).sum::<f64>() / 18.0).collect();
        let variance = 1.0 - mean.iter().map(|v| v * v).sum::<f64>();
        assert!((variance - json[when]["feature_variance"].as_f64().unwrap()).abs() < 1e-5, "{when}");
        let (mut same, mut different) = (vec![0.0; 100], vec![0.0; 100]);
        for i in 0..18 {
            for j in i + 1..18 {
                let cosine: f64 = unit[i].iter().zip(&unit[j]).map(|(a, b)| a * b).sum();
                let bin = (((cosine + 1.0) * 50.0) as usize).min(99);
                if labels[i] == labels[j] { same[bin] += 1.0 / 45.0 } else { different[bin] += 1.0 / 108.0 }
            }
        }
        let overlap: f64 = same.iter().zip(&different).map(|(s, d): (&f64, &f64)| s.min(*d)).sum();
        // A pair at the edge of a bin may fall to either side.
        assert!((overlap - json[when]["overlap"].as_f64().unwrap()).abs() < 0.03, "{when}: {overlap}");
    }
    let svg = std::fs::read_to_string(dir.path().join("plots.of/overlap.svg")).unwrap();
    assert!(svg.contains("before correction") && svg.contains("after correction"));
    assert!(image::open(dir.path().join("plots.of/overlap.png")).unwrap().width() > 700);
    // Without an adapter only the plain model is measured; of one class there is nothing to measure.
    let (table, _) = good(&args);
    assert!(table.contains("before") && !table.contains("after"), "{table}");
    let one = tempfile::tempdir().unwrap();
    std::fs::rename(data.path().join("anchor"), one.path().join("anchor")).unwrap();
    bad(&["overlap", "--model", MODEL, "--data", s(one.path()), "--plot", s(&plot)], &["one class"]);
    bad(&["overlap", "--model", MODEL, "--data", s(one.path()), "--plot", "no/such/place"], &["no/such"]);
}
