//! How pictures are seen and parameters searched.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::adapt::search::Grid;
use crate::data::Augment;
use crate::encode::Views;

/// How pictures are seen and parameters searched, whatever the method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct How {
    /// Random views averaged into each cache key; 0 takes the picture itself.
    pub key_views: usize,
    /// Whether training sees random views, or the pictures as they are.
    pub augment: bool,
    /// Random views that training draws from; 0 for a fresh view of each picture every epoch.
    pub views: usize,
    /// The search's grid: `paper`, `standard`, `tip-adapter` or ranges.
    pub grid: String,
    /// What weights and confidence rest on. What was written down before there was a choice rests on validation pictures.
    #[serde(default = "JudgeBy::former")]
    pub judge_by: JudgeBy,
}

/// Which pictures weights are chosen by and confidence is fitted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JudgeBy {
    /// Validation pictures; where there are fewer than [`ENOUGH`](crate::adapt::evidence::ENOUGH), those to learn from as well, each
    /// judged by what was learned without it. Little evidence moves weights little from where the papers begin.
    #[default]
    LeftOut,
    /// Validation pictures alone, as in the papers.
    Validation,
}

impl JudgeBy {
    fn former() -> JudgeBy {
        JudgeBy::Validation
    }
}

impl Default for How {
    /// The papers' settings.
    fn default() -> How {
        How { key_views: 10, augment: true, views: 0, grid: "paper".into(), judge_by: JudgeBy::default() }
    }
}

impl How {
    /// The search's grid on a dataset.
    ///
    /// # Errors
    /// A grid that is not understood, or Tip-Adapter's for a dataset that it has none for.
    pub(crate) fn grid(&self, dataset: &str, divergence: bool) -> Result<Grid> {
        match self.grid.as_str() {
            "tip-adapter" => Grid::parse(&format!("tip-adapter:{dataset}"), divergence),
            // One option serves methods with and without γ.
            text if !divergence => {
                let parts: Vec<&str> = text.split(',').filter(|part| !part.trim_start().starts_with("gamma")).collect();
                Grid::parse(&parts.join(","), false)
            }
            text => Grid::parse(text, true),
        }
    }

    /// The views that make a cache key.
    pub(crate) fn of_keys(&self, seed: u64) -> Views {
        match self.key_views {
            0 => Views::Center,
            count => Views::Random { augment: Augment::TIP, count, first: 0, seed },
        }
    }

    /// In words.
    pub(super) fn describe(&self) -> String {
        match (self.augment, self.views) {
            (false, _) => "no views".into(),
            (true, views) => format!("{views} views"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_grid_option_serves_methods_with_and_without_a_divergence_term() {
        let how = |grid: &str| How { grid: grid.into(), ..How::default() };
        let ranges = how("alpha=0:1:2,beta=0:1:3,gamma=0:1:4");
        assert_eq!((ranges.grid("x", true).unwrap().len(), ranges.grid("x", false).unwrap().len()), (24, 6));
        assert_eq!(how("paper").grid("x", false).unwrap(), Grid::paper(false));
        assert_eq!(how("tip-adapter").grid("eurosat", false).unwrap(), Grid::tip_adapter_for("eurosat").unwrap());
        assert!(how("tip-adapter").grid("novel", false).is_err());
    }
}
