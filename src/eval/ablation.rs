//! Ablations: the tables of papers in which a method is run with one thing changed at a time. A row of such a table is a
//! [`Variant`], a method with some of its settings fixed; rows that say the same are one variant, which is run once.
//!
//! Another ablation is another entry of [`ALL`].

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Serialize, Serializer};

use super::correction::Teaching;
use super::summary::{Cell, percent, shots};
use crate::adapt::Method;
use crate::adapt::method::{Settings, find};
use crate::report::Table;
use crate::{Error, Result, text};

/// A setting's value.
#[derive(Debug)]
pub enum Given {
    /// One of the setting's words.
    Word(&'static str),
    /// A number.
    Count(u64),
}

/// A method with some settings fixed.
#[derive(Debug)]
pub struct Variant {
    /// Its name, in files of results: one of its own among those of a method.
    pub name: &'static str,
    /// The method's name.
    pub method: &'static str,
    /// What is fixed.
    pub settings: &'static [(&'static str, Given)],
    /// How the correction was taught that it takes, in an ablation that compares corrections.
    pub teaching: Option<Teaching>,
}

/// A row of an ablation's table.
#[derive(Debug)]
pub struct Row {
    /// What something is changed to.
    pub is: &'static str,
    /// The method and the name of the variant that is this.
    pub variant: (&'static str, &'static str),
}

/// A part of an ablation's table: what is changed, and the rows with what it is changed to.
#[derive(Debug)]
pub struct Group {
    /// What is changed.
    pub title: &'static str,
    /// To what.
    pub rows: &'static [Row],
}

/// An ablation.
#[derive(Debug)]
pub struct Ablation {
    /// The name that options have.
    pub name: &'static str,
    /// The name that people read.
    pub title: &'static str,
    /// What its table shows.
    pub about: &'static str,
    /// What is run.
    pub variants: &'static [Variant],
    /// Its table.
    pub groups: &'static [Group],
}

/// All ablations.
pub static ALL: &[&Ablation] = &[&PINI, &OVERLAP];

const fn pini(name: &'static str, settings: &'static [(&'static str, Given)]) -> Variant {
    Variant { name, method: "pini", settings, teaching: None }
}

const fn pini_row(is: &'static str, variant: &'static str) -> Row {
    Row { is, variant: ("pini", variant) }
}

/// PiNI's own. Variants that only predict otherwise stand beside each other: they are one training.
static PINI: Ablation = Ablation {
    name: "pini",
    title: "PiNI's ablation",
    about: "PiNI with one thing changed at a time: where the noise goes, draws a picture in training, what divides the width of the \
            cross-attention, and how predictions treat the noise. What is not named is as in PiNI: noise on prompts and image \
            features, one draw, no reduction, predictions at the noise's mean.",
    variants: &[
        pini("both", &[("noise", Given::Word("both"))]),
        pini("draw", &[("noise", Given::Word("both")), ("evaluate", Given::Word("draw"))]),
        pini("average", &[("noise", Given::Word("both")), ("evaluate", Given::Word("average:10"))]),
        pini("pixels", &[("noise", Given::Word("pixels"))]),
        pini("text", &[("noise", Given::Word("text"))]),
        pini("image", &[("noise", Given::Word("image"))]),
        pini("draws-2", &[("noise", Given::Word("both")), ("draws", Given::Count(2))]),
        pini("draws-4", &[("noise", Given::Word("both")), ("draws", Given::Count(4))]),
        pini("reduction-2", &[("noise", Given::Word("both")), ("reduction", Given::Count(2))]),
        pini("reduction-4", &[("noise", Given::Word("both")), ("reduction", Given::Count(4))]),
    ],
    groups: &[
        Group {
            title: "noise on",
            rows: &[
                pini_row("pixels", "pixels"),
                pini_row("text", "text"),
                pini_row("image", "image"),
                pini_row("both", "both"),
            ],
        },
        Group { title: "draws", rows: &[pini_row("1", "both"), pini_row("2", "draws-2"), pini_row("4", "draws-4")] },
        Group {
            title: "reduction",
            rows: &[pini_row("1", "both"), pini_row("2", "reduction-2"), pini_row("4", "reduction-4")],
        },
        Group {
            title: "evaluated by",
            rows: &[pini_row("mean", "both"), pini_row("draw", "draw"), pini_row("average of 10", "average")],
        },
    ],
};

const fn uncorrected(method: &'static str) -> Variant {
    Variant { name: "uncorrected", method, settings: &[], teaching: None }
}

const fn taught(method: &'static str, teaching: Teaching) -> Variant {
    Variant { name: teaching.name(), method, settings: &[], teaching: Some(teaching) }
}

const fn corrections(plain: &'static str, corrected: &'static str) -> [Row; 3] {
    [
        Row { is: "no correction", variant: (plain, "uncorrected") },
        Row { is: Teaching::Supervised.name(), variant: (corrected, Teaching::Supervised.name()) },
        Row { is: Teaching::SelfSupervised.name(), variant: (corrected, Teaching::SelfSupervised.name()) },
    ]
}

/// That of the overlap correction (arXiv 2409.11338).
static OVERLAP: Ablation = Ablation {
    name: "overlap",
    title: "Ablation of the overlap correction",
    about: "Tip-Adapter and Tip-X without a correction, with one that was trained with labels, and with one that was trained without. \
            Overlap and feature variance are those of test pictures, by the features that are compared with the cache: the share that \
            the similarities of pictures of one class and of different classes have in common, and the mean squared distance of \
            normalised features from their mean.",
    variants: &[
        uncorrected("tip-adapter"),
        taught("tip-adapter++", Teaching::Supervised),
        taught("tip-adapter++", Teaching::SelfSupervised),
        uncorrected("tip-x"),
        taught("tip-x++", Teaching::Supervised),
        taught("tip-x++", Teaching::SelfSupervised),
    ],
    groups: &[
        Group { title: "Tip-Adapter", rows: &corrections("tip-adapter", "tip-adapter++") },
        Group { title: "Tip-X", rows: &corrections("tip-x", "tip-x++") },
    ],
};

/// The ablation of this name.
///
/// # Errors
/// [`Error::Invalid`] with the names that there are.
pub fn find_ablation(name: &str) -> Result<&'static Ablation> {
    ALL.iter().copied().find(|ablation| ablation.name == name).ok_or_else(|| {
        let names: Vec<&str> = ALL.iter().map(|ablation| ablation.name).collect();
        let name = text::cut(name, text::NAME);
        Error::invalid(format!("there is no ablation '{name}'; there are: {}", names.join(", ")))
    })
}

/// The variant of this method and name, of any ablation.
///
/// # Errors
/// [`Error::Invalid`] for none.
pub(super) fn find_variant(method: &dyn Method, name: &str) -> Result<&'static Variant> {
    let found =
        ALL.iter().flat_map(|ablation| ablation.variants).find(|v| (v.method, v.name) == (method.info().name, name));
    found.ok_or_else(|| Error::invalid(format!("there is no variant '{}' of {method}", text::cut(name, text::NAME))))
}

impl Ablation {
    /// The methods that take part, each once.
    ///
    /// # Errors
    /// A method that is not in the register.
    pub fn methods(&self) -> Result<Vec<&'static dyn Method>> {
        let all: BTreeSet<&'static dyn Method> = self.variants.iter().map(Variant::method).collect::<Result<_>>()?;
        Ok(all.into_iter().collect())
    }

    /// Whether it compares corrections, which are given it or trained for it.
    pub fn compares_corrections(&self) -> bool {
        self.variants.iter().any(|variant| variant.teaching.is_some())
    }

    /// The table of `cells`: a row for each thing that was changed, a column for each number of shots, and before these overlap and
    /// feature variance where they were measured. None without any cells.
    pub fn table(&self, cells: &[&Cell]) -> Option<Table> {
        let own: Vec<&Cell> =
            cells.iter().copied().filter(|c| c.variant.is_some_and(|v| self.variants.contains(v))).collect();
        if own.is_empty() {
            return None;
        }
        let shots = shots(&own);
        let mut head = ["what", "is"].map(String::from).to_vec();
        if self.compares_corrections() {
            head.extend(["overlap", "feature variance"].map(String::from));
        }
        let before = head.len();
        head.extend(shots.iter().map(|k| k.title()));
        let mut table = Table { head, rows: Vec::new(), bold: Vec::new() };
        for group in self.groups {
            let first = table.rows.len();
            let mut best: Vec<Option<(f64, usize)>> = vec![None; shots.len()];
            for row in group.rows {
                let of_row: Vec<&&Cell> = own.iter().filter(|cell| row.is_of(cell)).collect();
                let title = if table.rows.len() == first { group.title } else { "" };
                let mut line = vec![title.to_string(), row.is.to_string()];
                if self.compares_corrections() {
                    let number = |of: fn(&Cell) -> Option<f64>| {
                        let found = of_row.iter().find_map(|cell| of(cell));
                        found.map_or_else(|| "–".into(), |value| format!("{value:.4}"))
                    };
                    line.extend([number(|cell| cell.overlap), number(|cell| cell.feature_variance)]);
                }
                for (column, k) in shots.iter().enumerate() {
                    let cell = of_row.iter().find(|c| c.shots == *k);
                    line.push(cell.map_or_else(|| "–".into(), |cell| percent(cell)));
                    if let Some(cell) = cell
                        && best[column].is_none_or(|(top, _)| cell.mean > top)
                    {
                        best[column] = Some((cell.mean, table.rows.len()));
                    }
                }
                table.rows.push(line);
            }
            let best = best.iter().enumerate();
            table.bold.extend(best.filter_map(|(column, best)| best.map(|(_, row)| (row, column + before))));
        }
        Some(table)
    }
}

impl Row {
    /// Whether a cell is of its variant.
    pub fn is_of(&self, cell: &Cell) -> bool {
        cell.variant.is_some_and(|variant| (variant.method, variant.name) == self.variant)
    }
}

impl Variant {
    /// The method.
    ///
    /// # Errors
    /// None of this name.
    pub fn method(&self) -> Result<&'static dyn Method> {
        find(self.method)
    }

    /// A method's settings with what is fixed.
    pub fn of(&self, mut settings: Settings) -> Settings {
        for (name, given) in self.settings {
            let value = match given {
                Given::Word(word) => (*word).into(),
                Given::Count(count) => (*count).into(),
            };
            settings.insert((*name).to_string(), value);
        }
        settings
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Variant {
    fn eq(&self, other: &Self) -> bool {
        (self.method, self.name) == (other.method, other.name)
    }
}

impl Eq for Variant {}

impl Hash for Variant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl Serialize for Variant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::adapt::method::settled;

    #[test]
    fn tables_name_what_is_run_and_all_of_it() {
        let mut names = HashSet::new();
        for ablation in ALL {
            assert_eq!(find_ablation(ablation.name).unwrap().title, ablation.title);
            let rows: HashSet<_> = ablation.groups.iter().flat_map(|g| g.rows.iter().map(|row| row.variant)).collect();
            for variant in ablation.variants {
                let name = (variant.method, variant.name);
                assert!(names.insert(name), "{variant} is there twice");
                assert!(rows.contains(&name), "{variant} is in no row");
                let method = variant.method().unwrap();
                // What is fixed are settings of the method, with values that they may have.
                settled(method, &variant.of(method.defaults())).unwrap();
                assert_eq!(find_variant(method, variant.name).unwrap(), variant);
                assert_eq!(method.info().needs.correction, variant.teaching.is_some(), "{variant}");
            }
            assert!(rows.iter().all(|row| ablation.variants.iter().any(|v| (v.method, v.name) == *row)));
        }
        let error = find_ablation("overlaps").unwrap_err().to_string();
        assert!(error.contains("there is no ablation 'overlaps'") && error.contains("pini, overlap"), "{error}");
        assert!(find_variant(find("pini").unwrap(), "uncorrected").is_err());
    }

    #[test]
    fn tables_have_a_row_for_each_change() {
        use crate::eval::summary::{Summary, tests::record};
        let ablation = find_ablation("pini").unwrap();
        let of = |name: &str, seed, correct| {
            let mut record = record("a", "pini", 4, seed, correct);
            record.task.variant = ablation.variants.iter().find(|v| v.name == name);
            record
        };
        let records = [of("both", 1, 70), of("both", 2, 80), of("text", 1, 60), of("draws-4", 1, 90)];
        let summary = Summary::of(&[&records]);
        assert!(summary.cells.is_empty(), "variants are no methods");
        let cells: Vec<&Cell> = summary.variants.iter().collect();
        let table = ablation.table(&cells).unwrap();
        assert_eq!(table.rows[1], ["", "text", "60.0"]);
        assert_eq!(table.rows[3], ["", "both", "75.0 ± 5.0"]);
        assert_eq!(table.rows[4], ["draws", "1", "75.0 ± 5.0"]);
        assert_eq!((&table.rows[6][1..], &table.rows[0][2][..]), (&["4".to_string(), "90.0".into()][..], "–"));
        assert!(table.bold.contains(&(6, 2)) && table.bold.contains(&(3, 2)) && !table.bold.contains(&(4, 2)));
        assert!(ablation.table(&[]).is_none());
    }
    #[test]
    fn corrections_are_compared_by_overlap_and_variance() {
        use crate::eval::summary::{Summary, tests::record};
        let ablation = find_ablation("overlap").unwrap();
        assert!(ablation.compares_corrections() && !find_ablation("pini").unwrap().compares_corrections());
        let of = |variant: &'static Variant, correct, overlap: f64| {
            let mut record = record("a", variant.method, 4, 1, correct);
            record.task.variant = Some(variant);
            (record.overlap, record.feature_variance) = (Some(overlap), Some(1.0 - overlap));
            record
        };
        let all = ablation.variants;
        let records = [of(&all[0], 70, 0.5), of(&all[1], 80, 0.25), of(&all[3], 71, 0.5)];
        let summary = Summary::of(&[&records]);
        let table = ablation.table(&summary.variants.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(table.head, ["what", "is", "overlap", "feature variance", "4 shot"]);
        assert_eq!(table.rows[0], ["Tip-Adapter", "no correction", "0.5000", "0.5000", "70.0"]);
        assert_eq!(table.rows[1], ["", "supervised", "0.2500", "0.7500", "80.0"]);
        assert_eq!(table.rows[2], ["", "self-supervised", "–", "–", "–"]);
        assert_eq!((table.rows.len(), &table.bold[..]), (6, &[(1, 4), (3, 4)][..]));
    }
}
