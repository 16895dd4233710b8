//! Ablations: the tables of papers in which a method is run with one thing changed at a time. A row of such a table is a
//! [`Variant`], a method with some of its settings fixed; rows that say the same are one variant, which is run once.
//!
//! Another ablation is another entry of [`ALL`].

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

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
    /// Its name, in files of results.
    pub name: &'static str,
    /// The method's name.
    pub method: &'static str,
    /// What is fixed.
    pub settings: &'static [(&'static str, Given)],
}

/// A part of an ablation's table: what is changed, and the rows with what it is changed to.
#[derive(Debug)]
pub struct Group {
    /// What is changed.
    pub title: &'static str,
    /// To what, and the variant that is this.
    pub rows: &'static [(&'static str, &'static str)],
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
pub static ALL: &[&Ablation] = &[&PINI];

const fn pini(name: &'static str, settings: &'static [(&'static str, Given)]) -> Variant {
    Variant { name, method: "pini", settings }
}

/// PiNI's own.
static PINI: Ablation = Ablation {
    name: "pini",
    title: "PiNI's ablation",
    about: "PiNI with one thing changed at a time: where the noise goes, draws a picture in training, what divides the width of the \
            cross-attention, and how predictions treat the noise. What is not named is as in PiNI: noise on prompts and image \
            features, one draw, no reduction, predictions at the noise's mean.",
    variants: &[
        pini("both", &[("noise", Given::Word("both"))]),
        pini("pixels", &[("noise", Given::Word("pixels"))]),
        pini("text", &[("noise", Given::Word("text"))]),
        pini("image", &[("noise", Given::Word("image"))]),
        pini("draws-2", &[("noise", Given::Word("both")), ("draws", Given::Count(2))]),
        pini("draws-4", &[("noise", Given::Word("both")), ("draws", Given::Count(4))]),
        pini("reduction-2", &[("noise", Given::Word("both")), ("reduction", Given::Count(2))]),
        pini("reduction-4", &[("noise", Given::Word("both")), ("reduction", Given::Count(4))]),
        pini("draw", &[("noise", Given::Word("both")), ("evaluate", Given::Word("draw"))]),
        pini("average", &[("noise", Given::Word("both")), ("evaluate", Given::Word("average:10"))]),
    ],
    groups: &[
        Group {
            title: "noise on",
            rows: &[("pixels", "pixels"), ("text", "text"), ("image", "image"), ("both", "both")],
        },
        Group { title: "draws", rows: &[("1", "both"), ("2", "draws-2"), ("4", "draws-4")] },
        Group { title: "reduction", rows: &[("1", "both"), ("2", "reduction-2"), ("4", "reduction-4")] },
        Group { title: "evaluated by", rows: &[("mean", "both"), ("draw", "draw"), ("average of 10", "average")] },
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

impl Ablation {
    /// The methods that take part, each once.
    ///
    /// # Errors
    /// A method that is not in the register.
    pub fn methods(&self) -> Result<Vec<&'static dyn Method>> {
        let all: BTreeSet<&'static dyn Method> = self.variants.iter().map(Variant::method).collect::<Result<_>>()?;
        Ok(all.into_iter().collect())
    }

    /// The table of `cells`: a row for each thing that was changed, a column for each number of shots. None without any.
    pub fn table(&self, cells: &[&Cell]) -> Option<Table> {
        let own: Vec<&Cell> =
            cells.iter().copied().filter(|c| c.variant.is_some_and(|v| self.variants.contains(v))).collect();
        if own.is_empty() {
            return None;
        }
        let shots = shots(&own);
        let mut table = Table {
            head: ["what", "is"].map(String::from).into_iter().chain(shots.iter().map(|k| k.title())).collect(),
            rows: Vec::new(),
            bold: Vec::new(),
        };
        for group in self.groups {
            let first = table.rows.len();
            let mut best: Vec<Option<(f64, usize)>> = vec![None; shots.len()];
            for (what, variant) in group.rows {
                let title = if table.rows.len() == first { group.title } else { "" };
                let mut row = vec![title.to_string(), (*what).to_string()];
                for (column, k) in shots.iter().enumerate() {
                    let cell = own.iter().find(|c| c.shots == *k && c.variant.is_some_and(|v| v.name == *variant));
                    row.push(cell.map_or_else(|| "–".into(), |cell| percent(cell)));
                    if let Some(cell) = cell
                        && best[column].is_none_or(|(top, _)| cell.mean > top)
                    {
                        best[column] = Some((cell.mean, table.rows.len()));
                    }
                }
                table.rows.push(row);
            }
            let best = best.iter().enumerate();
            table.bold.extend(best.filter_map(|(column, best)| best.map(|(_, row)| (row, column + 2))));
        }
        Some(table)
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

impl<'de> Deserialize<'de> for &'static Variant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let all = ALL.iter().flat_map(|ablation| ablation.variants);
        let found = { all }.find(|variant| variant.name == name);
        found.ok_or_else(|| D::Error::custom(format!("there is no variant '{}'", text::cut(&name, text::NAME))))
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
            let rows: HashSet<&str> = ablation.groups.iter().flat_map(|g| g.rows.iter().map(|(_, v)| *v)).collect();
            for variant in ablation.variants {
                assert!(names.insert(variant.name), "{variant} is there twice");
                assert!(rows.contains(variant.name), "{variant} is in no row");
                let method = variant.method().unwrap();
                // What is fixed are settings of the method, with values that they may have.
                settled(method, &variant.of(method.defaults())).unwrap();
                let back: &'static Variant = serde_json::from_value(variant.name.into()).unwrap();
                assert_eq!(back, variant);
            }
            assert!(rows.iter().all(|row| ablation.variants.iter().any(|v| v.name == *row)));
        }
        let error = find_ablation("overlaps").unwrap_err().to_string();
        assert!(error.contains("there is no ablation 'overlaps'") && error.contains("pini"), "{error}");
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
}
