//! `classify`.

use serde_json::Value;

use crate::start::{MODEL, s};
use crate::{bad, good, pictures, right};

#[test]
fn classify_names_what_is_in_the_pictures() {
    let labels = "apple,credit card,umbrella";
    let dir = pictures(4);
    let (json, stderr) = good(&[
        "classify",
        "--model",
        MODEL,
        "--labels",
        labels,
        "--template",
        "an icon of {}",
        "--json",
        s(dir.path()),
    ]);
    assert!(stderr.contains("device:"), "which device and why must be said: {stderr}");
    let rows: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!(rows.len(), 12);
    let right = right(&rows);
    assert!(right >= 9, "{right} of 12");
    for row in &rows {
        let (p, q) = (row["probability"].as_f64().unwrap(), row["runner_up_probability"].as_f64().unwrap());
        assert!(p >= q && p + q <= 1.0 + 1e-9);
    }
    let (table, _) = good(&["classify", "--model", MODEL, "--labels", labels, s(dir.path())]);
    assert!(table.contains("runner-up"));
    bad(&["classify", "--model", MODEL, "--labels", " , ", s(dir.path())], &["--labels"]);
    bad(&["classify", "--model", MODEL, "--labels", "a", "--template", "no place", s(dir.path())], &["no place", "{}"]);
}
