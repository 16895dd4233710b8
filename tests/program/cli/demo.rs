//! `demo`.

use serde_json::Value;

use crate::start::s;
use crate::{bad, fit_overlap, good};

#[test]
fn demo_reports_in_json() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("grid.png");
    // A correction from a few classes: the demonstration's own takes a minute here.
    let correction = dir.path().join("c.safetensors");
    fit_overlap(&correction, 8);
    let (json, _) = good(&[
        "demo",
        "--json",
        "--sets",
        "shifted",
        "--shots",
        "1",
        "--epochs",
        "1",
        "--correction",
        s(&correction),
        "--out",
        s(&picture),
    ]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(!json["device"].as_str().unwrap().is_empty());
    let rows = json["rows"].as_array().unwrap();
    let methods: Vec<_> = rows.iter().map(|r| r["method"].as_str().unwrap()).collect();
    assert_eq!(
        methods,
        tipi::low_level::adapt::METHODS
            .iter()
            .map(|m| m.info())
            .filter(|i| !i.needs.others)
            .map(|i| i.name)
            .collect::<Vec<_>>()
    );
    for row in rows {
        assert_eq!((row["set"].as_str(), row["shots"].as_u64()), (Some("shifted"), Some(1)));
        let accuracy = row["accuracy"].as_f64().unwrap();
        // Sixty classes: guessing gives 0.017.
        assert!(accuracy > 0.1 && accuracy < 0.9, "{row}");
        assert!(row["seconds"].as_f64().unwrap() > 0.0);
    }
    let overlap = &json["overlap"][0];
    assert_eq!(overlap["set"], "shifted");
    assert!((0.3..0.6).contains(&overlap["before"].as_f64().unwrap()) && overlap["before"] != overlap["after"]);
    assert!(image::open(&picture).unwrap().width() > 300);
    bad(&["demo", "--sets", "nowhere"], &["nowhere", "shifted"]);
    bad(&["demo", "--out", "no/such/folder/grid.png"], &["no/such/folder/grid.png"]);
}
