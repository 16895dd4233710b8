//! Neighbours and groups as tables, JSON and CSV.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use tipi::low_level::neighbours::Near;
use tipi::low_level::text;

use super::pictures::Name;
use super::{Answers, Args, Asked};
use crate::terminal;
use crate::ui;

/// A cosine with the digits that are certain.
fn rounded(cosine: f32) -> f64 {
    (f64::from(cosine) * 1e6).round() / 1e6
}

/// A name as JSON, under `key`.
fn named(name: &Name, key: &str) -> Value {
    let mut object = json!({ key: name.shown });
    if let Some(bytes) = &name.bytes {
        object["path_bytes"] = bytes.clone().into();
    }
    object
}

fn near(names: &[Name], (row, cosine): Near) -> Value {
    let mut object = named(&names[row as usize], "path");
    object["cosine"] = rounded(cosine).into();
    object
}

/// A cell of CSV.
fn cell(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_string(),
    }
}

/// Lines of CSV, without the last end of a line.
fn print_csv(mut csv: String) -> Result<()> {
    csv.truncate(csv.trim_end_matches('\n').len());
    Ok(terminal::print(&csv)?)
}

impl Asked {
    fn shown(&self, names: &[Name]) -> String {
        match self {
            Asked::Picture(path) => text::path(path),
            Asked::Text(text) => text.clone(),
            Asked::Row(row) => names[*row].shown.clone(),
        }
    }

    fn json(&self, names: &[Name]) -> Value {
        match self {
            Asked::Picture(path) => named(&Name::of(Path::new(path)), "query"),
            Asked::Text(text) => json!({ "text": text }),
            Asked::Row(row) => named(&names[*row], "query"),
        }
    }
}

/// Prints what is near to what. Of rows that are compared with each other, those without any are left out of tables.
pub fn neighbours(args: &Args, names: &[Name], answers: &Answers) -> Result<()> {
    let all = || answers.asked.iter().zip(&answers.found);
    if args.json {
        let rows: Vec<Value> = all()
            .map(|(asked, found)| {
                let mut object = asked.json(names);
                object["neighbours"] = found.iter().map(|one| near(names, *one)).collect();
                object
            })
            .collect();
        return terminal::print_json(&rows, true);
    }
    if args.csv {
        let mut csv = String::from("query,rank,neighbour,cosine\n");
        for (asked, found) in all() {
            let asked = cell(&asked.shown(names));
            for (rank, (row, cosine)) in found.iter().enumerate() {
                let neighbour = cell(&names[*row as usize].shown);
                writeln!(csv, "{asked},{},{neighbour},{}", rank + 1, rounded(*cosine))?;
            }
        }
        return print_csv(csv);
    }
    let mut table = ui::table(&["of", "nearest", "cosine"]);
    let mut shown = 0;
    for (asked, found) in all() {
        let name = asked.shown(names);
        if found.is_empty() && !matches!(asked, Asked::Row(_)) {
            table.add_row([name.as_str(), "-", "-"]);
            shown += 1;
            continue;
        }
        for (rank, (row, cosine)) in found.iter().enumerate() {
            // A name stands once, before the first of its neighbours.
            let of = if rank == 0 { name.as_str() } else { "" };
            table.add_row([of, &names[*row as usize].shown, &format!("{cosine:.4}")]);
            shown += 1;
        }
    }
    match shown {
        0 => terminal::print(&nothing(args, names.len()))?,
        _ => terminal::print(&table.to_string())?,
    }
    Ok(())
}

/// Prints groups of near duplicates.
pub fn groups(args: &Args, names: &[Name], groups: &[Vec<Near>]) -> Result<()> {
    if args.json {
        let groups: Vec<Value> =
            groups.iter().map(|group| group.iter().map(|one| near(names, *one)).collect()).collect();
        return terminal::print_json(&groups, true);
    }
    if args.csv {
        let mut csv = String::from("group,picture,cosine\n");
        for (number, group) in groups.iter().enumerate() {
            for (row, cosine) in group {
                writeln!(csv, "{},{},{}", number + 1, cell(&names[*row as usize].shown), rounded(*cosine))?;
            }
        }
        return print_csv(csv);
    }
    if groups.is_empty() {
        return Ok(terminal::print(&nothing(args, names.len()))?);
    }
    let mut table = ui::table(&["group", "picture", "cosine with the first"]);
    for (number, group) in groups.iter().enumerate() {
        for (place, (row, cosine)) in group.iter().enumerate() {
            let (number, cosine) = match place {
                0 => ((number + 1).to_string(), String::new()),
                _ => (String::new(), format!("{cosine:.4}")),
            };
            table.add_row([&number, &names[*row as usize].shown, &cosine]);
        }
    }
    let more: usize = groups.iter().map(|group| group.len() - 1).sum();
    terminal::print(&format!(
        "{table}\n{} of {}, {} besides the first of each",
        text::count(groups.len(), "group", "groups"),
        text::count(names.len(), "picture", "pictures"),
        more
    ))?;
    Ok(())
}

/// That there is nothing, in words.
fn nothing(args: &Args, pictures: usize) -> String {
    let among = text::count(pictures, "picture", "pictures");
    match args.above {
        Some(above) => format!("no two of {among} have a cosine of {above} or more"),
        None => format!("{among}: there is nothing to compare with"),
    }
}
