//! `tipi data`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;
use serde_json::{Value, json};
use tipi::Error;
use tipi::low_level::data::dataset::Placed;
use tipi::low_level::data::{Dataset, ELEVEN, Item, SHIFTS, Walk, decode_map};
use tipi::low_level::text;

use crate::common::WalkArgs;
use crate::terminal;
use crate::ui;

/// How many missing or broken files are named.
const NAMED: usize = 5;
/// How many pictures are decoded before their results are freed.
const AT_ONCE: usize = 4096;

/// What to do with data.
#[derive(Subcommand)]
pub enum Args {
    /// Check a dataset: count its parts and classes, find missing pictures, and find equal pictures in several parts or
    /// classes.
    Check(Check),
}

/// Options of `data check`.
#[derive(clap::Args)]
pub struct Check {
    /// The name of a known dataset, `all` of them, a folder with a sub-folder per class, a folder with train, val and test, a CSV
    /// file with the columns path,label or path,label,split, or a split file of CoOp's form.
    #[arg(value_name = "NAME|FOLDER|FILE|all")]
    what: PathBuf,
    /// The folder that holds the known datasets, each in its own folder.
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Also decode every picture.
    #[arg(long)]
    decode: bool,
    #[command(flatten)]
    walk: WalkArgs,
    /// Print JSON instead of tables: one object, or with `all` an array of objects.
    #[arg(long)]
    json: bool,
}

/// Runs what was asked for.
pub fn run(args: &Args) -> Result<()> {
    match args {
        Args::Check(args) => check(args),
    }
}

fn check(args: &Check) -> Result<()> {
    // With --root, `all` means the datasets even if there is a folder of that name. Write ./all for the folder.
    if args.what.as_os_str() == "all" && (args.root.is_some() || !Path::new("all").exists()) {
        return check_all(args);
    }
    let walk = args.walk.walk(false)?;
    let checked = Checked::of(Dataset::open_with(&args.what, args.root.as_deref(), &walk)?, &walk, args.decode);
    if args.json {
        terminal::print_json(&checked.json(), false)?;
    } else {
        terminal::print(&checked.text())?;
    }
    match checked.fault() {
        Some(fault) => Err(Error::Invalid(format!("{}: {fault}", checked.dataset.title)).into()),
        None => Ok(()),
    }
}

/// Checks the known datasets. Those that are missing or cannot be opened do not end the check.
fn check_all(args: &Check) -> Result<()> {
    let Some(root) = args.root.as_deref() else {
        return Err(Error::Invalid("all: say where the datasets are with --root DIR".into()).into());
    };
    let walk = args.walk.walk(false)?;
    let (mut found, mut faults, mut objects) = (0, Vec::new(), Vec::new());
    for name in ELEVEN.into_iter().chain(SHIFTS) {
        let folder = Dataset::folder(name, root).unwrap_or_else(|| root.join(name));
        let (object, text) = if !folder.is_dir() {
            (json!({"name": name, "error": "not found"}), format!("{name}: not found ({})\n", shown(&folder)))
        } else {
            found += 1;
            match Dataset::open_with(name.as_ref(), Some(root), &walk) {
                Ok(dataset) => {
                    let checked = Checked::of(dataset, &walk, args.decode);
                    faults.extend(checked.fault().map(|fault| format!("{name}: {fault}")));
                    (checked.json(), checked.text() + "\n")
                }
                Err(error) => {
                    faults.push(format!("{name} cannot be opened"));
                    (
                        json!({"name": name, "error": error.to_string()}),
                        format!("{}\n", text::escaped(&format!("{name}: {error}"))),
                    )
                }
            }
        };
        if args.json {
            objects.push(object);
        } else {
            terminal::print(&text)?;
        }
    }
    if args.json {
        terminal::print_json(&objects, false)?;
    }
    if found == 0 {
        return Err(Error::data(root, "none of the known datasets is in this folder: check the path").into());
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(Error::Invalid(faults.join("; ")).into()),
    }
}

/// A dataset, and what is wrong with its files.
struct Checked {
    dataset: Dataset,
    /// Why folders could not be read.
    unreadable: Vec<String>,
    /// Why files are not taken that look like pictures.
    unread: Vec<String>,
    missing: Vec<PathBuf>,
    /// What the decoder said about each broken picture; none if pictures were not decoded.
    broken: Option<Vec<String>>,
}

impl Checked {
    fn of(dataset: Dataset, walk: &Walk, decode: bool) -> Self {
        let found = walk.found();
        let unreadable = found.unreadable.into_values().map(|error| error.to_string()).collect();
        let unread = found.unread.into_values().map(|error| error.to_string()).collect();
        let missing: Vec<PathBuf> = dataset.missing().into_iter().map(|item| item.path.clone()).collect();
        let broken = decode.then(|| broken(&dataset, &missing));
        Self { dataset, unreadable, unread, missing, broken }
    }

    /// What makes the check fail.
    fn fault(&self) -> Option<String> {
        let broken = self.broken.as_ref().map_or(0, Vec::len);
        let missing = self.missing.first().map(|path| text::path(path));
        let broken_first = self.broken.as_ref().and_then(|all| all.first());
        let first = missing.or_else(|| broken_first.or(self.unreadable.first()).cloned())?;
        let mut faults = Vec::new();
        for (count, what) in [(self.missing.len(), "missing"), (broken, "broken")] {
            if count > 0 {
                faults.push(format!("{} {what}", text::count(count, "picture is", "pictures are")));
            }
        }
        if !self.unreadable.is_empty() {
            faults.push(format!("{} not be read", text::count(self.unreadable.len(), "folder could", "folders could")));
        }
        Some(format!("{}, first {first}", faults.join(" and ")))
    }

    fn text(&self) -> String {
        let dataset = &self.dataset;
        let mut table = ui::table(&["part", "pictures", "classes", "fewest per class", "most per class"]);
        for row in dataset.summary() {
            let numbers = [row.pictures, row.classes, row.fewest, row.most].map(|number| number.to_string());
            table.add_row([row.part.to_owned()].into_iter().chain(numbers));
        }
        let classes = match &dataset.subset {
            Some(subset) => {
                format!("{}, tested among {}", text::count(dataset.classes.len(), "class", "classes"), subset.len())
            }
            None => text::count(dataset.classes.len(), "class", "classes"),
        };
        let mut lines = vec![
            format!("{}: {classes}, in {}", text::escaped(&dataset.title), shown(&dataset.root)),
            table.to_string(),
            format!("parts: {}", text::escaped(&dataset.source)),
        ];
        lines.extend(dataset.notes.iter().map(|note| format!("note: {}", text::escaped(note))));
        let equal = dataset.equal_pictures();
        lines.extend(equal.iter().take(NAMED).map(|group| format!("equal: {}", text::escaped(&self.equal(group)))));
        lines.extend(self.unreadable.iter().take(NAMED).map(|error| format!("unreadable: {}", text::escaped(error))));
        lines.extend(self.unread.iter().take(NAMED).map(|error| format!("not taken: {}", text::escaped(error))));
        lines.extend(self.missing.iter().take(NAMED).map(|path| format!("missing: {}", shown(path))));
        let broken = self.broken.as_deref();
        lines.extend(
            broken.unwrap_or_default().iter().take(NAMED).map(|error| format!("broken: {}", text::escaped(error))),
        );
        let more = |count: usize, what: &str| (count > NAMED).then(|| format!("{} more {what}", count - NAMED));
        lines.extend(more(equal.len(), "groups of equal pictures in several parts or classes"));
        lines.extend(more(self.unreadable.len(), "unreadable"));
        lines.extend(more(self.unread.len(), "files that look like pictures and are not taken"));
        lines.extend(more(self.missing.len(), "missing"));
        lines.extend(more(broken.map_or(0, <[_]>::len), "broken"));
        if self.fault().is_none() {
            let how = if broken.is_some() { "there and sound" } else { "there (--decode looks into them)" };
            lines.push(format!("all pictures are {how}"));
        }
        lines.join("\n")
    }

    /// Pictures of the same bytes, with their parts and classes, on one line.
    fn equal(&self, group: &[Placed<'_>]) -> String {
        let dataset = &self.dataset;
        let of = |placed: &Placed<'_>| {
            let path = placed.item.path.strip_prefix(&dataset.root).unwrap_or(&placed.item.path);
            format!("{} ({}, {})", text::path(path), placed.part, dataset.classes[placed.item.label])
        };
        let mut text = group.iter().take(NAMED).map(of).collect::<Vec<_>>().join(" = ");
        if group.len() > NAMED {
            text.push_str(&format!(" and {} more", group.len() - NAMED));
        }
        text
    }

    fn json(&self) -> Value {
        let dataset = &self.dataset;
        let equal: Vec<Vec<Value>> = dataset.equal_pictures().iter().map(|group| {
            let of = |placed: &Placed<'_>| {
                json!({"path": text::path(&placed.item.path), "part": placed.part, "class": dataset.classes[placed.item.label]})
            };
            group.iter().map(of).collect()
        }).collect();
        let parts = dataset.summary().map(|row| {
            let counts = json!({
                "pictures": row.pictures, "classes": row.classes, "fewest": row.fewest, "most": row.most,
            });
            (row.part.to_owned(), counts)
        });
        json!({
            "name": dataset.name,
            "title": dataset.title,
            "root": text::path(&dataset.root),
            "source": dataset.source,
            "classes": dataset.classes,
            "subset": dataset.subset,
            "templates": dataset.templates,
            "parts": serde_json::Map::from_iter(parts),
            "notes": dataset.notes,
            "equal": equal,
            "unreadable": self.unreadable,
            "unread": self.unread,
            "missing": self.missing.iter().map(|path| text::path(path)).collect::<Vec<_>>(),
            "broken": self.broken,
        })
    }
}

/// A path on one line.
fn shown(path: &Path) -> String {
    text::escaped(&text::path(path)).into_owned()
}

/// Decodes all pictures but those `missing`, on all cores; says what is wrong with those that cannot be. Nothing of a
/// picture is kept.
fn broken(dataset: &Dataset, missing: &[PathBuf]) -> Vec<String> {
    let missing: std::collections::HashSet<&Path> = missing.iter().map(PathBuf::as_path).collect();
    let all = dataset.parts().into_iter().flat_map(|(_, items)| items);
    let there: Vec<&Item> = all.filter(|item| !missing.contains(item.path.as_path())).collect();
    let bar = ui::bar(there.len(), "decoding pictures");
    let mut broken = Vec::new();
    for chunk in there.chunks(AT_ONCE) {
        let chunk: Vec<Item> = chunk.iter().map(|&item| item.clone()).collect();
        // It is not strict, so it cannot fail.
        if let Ok(decoded) = decode_map(&chunk, false, &|_| bar.inc(1), |_, _| ()) {
            broken.extend(decoded.skipped.iter().map(ToString::to_string));
        }
    }
    bar.finish_and_clear();
    broken
}
