//! Looking over a set's parts.

use rayon::prelude::*;

use super::Dataset;
use crate::data::Item;

/// How large a part of a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartSummary {
    /// `train`, `val` or `test`.
    pub part: &'static str,
    /// Pictures in all.
    pub pictures: usize,
    /// Classes that have some.
    pub classes: usize,
    /// Pictures of the class that has fewest, of those that have some.
    pub fewest: usize,
    /// Pictures of the class that has most.
    pub most: usize,
}

impl Dataset {
    /// The parts by name: `train`, `val` and `test`.
    pub fn parts(&self) -> [(&'static str, &[Item]); 3] {
        [("train", &self.train), ("val", &self.val), ("test", &self.test)]
    }

    /// How large the parts are.
    pub fn summary(&self) -> [PartSummary; 3] {
        self.parts().map(|(part, items)| {
            let mut counts = vec![0; self.classes.len()];
            items.iter().for_each(|item| counts[item.label] += 1);
            let counts: Vec<usize> = counts.into_iter().filter(|&count| count > 0).collect();
            PartSummary {
                part,
                pictures: items.len(),
                classes: counts.len(),
                fewest: counts.iter().copied().min().unwrap_or(0),
                most: counts.iter().copied().max().unwrap_or(0),
            }
        })
    }

    /// The items whose file is not there, in the order train, val, test. Asks the system about every file, on all cores.
    pub fn missing(&self) -> Vec<&Item> {
        let all: Vec<&Item> = self.train.iter().chain(&self.val).chain(&self.test).collect();
        all.into_par_iter().filter(|item| !item.path.is_file()).collect()
    }
}
