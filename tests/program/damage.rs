//! Results of an evaluation that were damaged on the disk: the report names file and field, and draws nothing from them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tipi::low_level::eval::report;

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn damaged_results_are_named_by_file_and_field() {
    let root = tipi_testing::root();
    let dir = tempfile::tempdir().unwrap();
    for class in ["ant", "bear", "bell"] {
        let to = dir.path().join("set").join(class);
        fs::create_dir_all(&to).unwrap();
        let from = root.join("examples/pictos").join(if class == "bell" { "shifted" } else { "novel" }).join(class);
        for entry in fs::read_dir(from).unwrap().take(6) {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    let (set, out) = (dir.path().join("set"), dir.path().join("out"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tipi"));
    command.args(["eval", "--methods", "zero-shot,tip-adapter", "--shots", "1", "--seeds", "1", "--grid", "standard"]);
    command.args(["--key-views", "0", "--model"]).arg(root.join("weights/picto")).arg("--dataset").arg(&set);
    let run = command.arg("--out").arg(&out).env("TIPI_TUNE", "off").output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    report::write(&out).unwrap();

    let results = out.join("set");
    let detail = "details/tip-adapter-1shot-seed1.json";
    let whole = |file: &str| if file == "results.jsonl" { json!(null) } else { read(&results.join(file)) };
    let (test, overlap, details) = (whole("test.json"), whole("overlap.json"), whole(detail));
    let short = |value: &Value| json!(value.as_array().unwrap()[1..]);
    let first = |value: &Value, entry: Value| {
        let mut value = value.clone();
        value[0] = entry;
        value
    };
    let bins = &details["reliability"]["bins"];
    let cases = [
        ("overlap.json", "/before/same", json!([1]), "before.same"),
        ("overlap.json", "/before/different", short(&overlap["before"]["different"]), "before.different"),
        ("overlap.json", "/before/variance", json!(-3.0), "before.variance"),
        ("overlap.json", "/after", json!({"same": [], "different": [], "variance": 0.5}), "after.same"),
        ("test.json", "/paths", short(&test["paths"]), "labels"),
        ("test.json", "/labels", json!([]), "labels"),
        ("test.json", "/labels", first(&test["labels"], json!(3)), "labels: entry 0 is class 3, there are 3"),
        ("test.json", "/classes", short(&test["classes"]), "classes"),
        ("test.json", "/digest", json!("x"), "digest"),
        ("settings.json", "/settings/classes", json!(4_294_967_297_u64), "classes"),
        ("settings.json", "/settings/format", json!("tipi-eval/9"), "format"),
        ("settings.json", "/settings/how/grid", json!("alpha=1"), "how.grid"),
        ("settings.json", "/settings/how/methods/tip-adapter/alpha", json!("x"), "how.methods.tip-adapter"),
        ("settings.json", "/settings/templates", json!([]), "templates"),
        ("settings.json", "/about/parts", json!([9, 3, 0]), "about.parts"),
        (detail, "/predicted", short(&details["predicted"]), "predicted"),
        (detail, "/predicted", first(&details["predicted"], json!(99)), "predicted: entry 0 is class 99"),
        (detail, "/confidence", short(&details["confidence"]), "confidence"),
        (detail, "/confidence", first(&details["confidence"], json!(7.0)), "confidence: entry 0"),
        (detail, "/reliability/bins", short(bins), "reliability.bins"),
        (
            detail,
            "/reliability/bins",
            first(bins, json!({"count": 1, "confidence": 0.0, "right": 2})),
            "reliability.bins",
        ),
        (detail, "/reliability/log_loss", json!(-1.0), "reliability.log_loss"),
        (detail, "/search/correct", short(&details["search"]["correct"]), "search.correct"),
        (detail, "/search/alphas", json!([]), "search.alphas"),
        (detail, "/search/of", json!(0), "search.of"),
        (detail, "/support", short(&details["support"]), "support"),
        (detail, "/support", first(&details["support"], json!(["x.png", 3])), "support: entry 0 is class 3"),
        (
            detail,
            "/noise",
            json!({"tokens": ["a"], "text_mean": [1.0], "text_spread": [], "classes": [], "image_mean": [],
            "image_spread": []}),
            "noise.text_spread",
        ),
    ];
    for (file, pointer, value, field) in cases {
        let path = results.join(file);
        let before = fs::read(&path).unwrap();
        let mut damaged = read(&path);
        *damaged.pointer_mut(pointer).unwrap() = value;
        fs::write(&path, serde_json::to_vec(&damaged).unwrap()).unwrap();
        let error = report::write(&out).err().unwrap_or_else(|| panic!("{file} {pointer} passes")).to_string();
        assert!(error.contains(file) && error.contains(field), "{file} {pointer}: {error}");
        fs::write(&path, before).unwrap();
    }

    // A line of a result.
    let path = results.join("results.jsonl");
    let before = fs::read_to_string(&path).unwrap();
    let line = before.lines().position(|line| line.contains("tip-adapter")).unwrap();
    for (field, value) in [
        ("accuracy", json!(4_294_967_297.0)),
        ("accuracy", json!(0.123)),
        ("accuracy", json!(null)),
        ("correct", json!(1000)),
        ("test", json!(0)),
        ("shots", json!(0)),
        ("support", json!(1000)),
        ("val", json!(1000)),
        ("val_accuracy", json!(-0.5)),
        ("val_accuracy", json!(null)),
        ("temperature", json!(0)),
        ("temperature", json!(1e9)),
        ("temperature", json!(null)),
        ("calibration_error", json!(2)),
        ("calibration_error_fitted", json!(null)),
        ("log_loss", json!(-5)),
        ("epoch", json!(4_294_967_297_u64)),
        ("fit_seconds", json!(-1)),
        ("dataset", json!("other")),
        ("data", json!("")),
    ] {
        let mut lines: Vec<String> = before.lines().map(str::to_string).collect();
        let mut record: Value = serde_json::from_str(&lines[line]).unwrap();
        record[field] = value.clone();
        lines[line] = record.to_string();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        let error = report::write(&out).err().unwrap_or_else(|| panic!("{field} {value} passes")).to_string();
        let at = format!("line {}: not a result (", line + 1);
        assert!(error.contains("results.jsonl") && error.contains(&at), "{field} {value}: {error}");
        assert!(error.contains(field) || value.is_null(), "{field} {value}: {error}");
    }
    fs::write(&path, format!("{before}{before}")).unwrap();
    let error = report::write(&out).err().unwrap().to_string();
    assert!(error.contains("line 3: ") && error.contains("is in line 1 too"), "{error}");
    fs::write(&path, before).unwrap();
    // Two folders of one dataset's results.
    fs::create_dir_all(out.join("copy")).unwrap();
    for file in ["settings.json", "results.jsonl", "test.json"] {
        fs::copy(results.join(file), out.join("copy").join(file)).unwrap();
    }
    assert!(report::write(&out).err().unwrap().to_string().contains("holds results of 'set', too"));
    fs::remove_dir_all(out.join("copy")).unwrap();
    report::write(&out).unwrap();
}
