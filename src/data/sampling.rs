//! The few-shot choice of CoOp and Dassl, on which published numbers rest: the same seed chooses the same pictures
//! from the same list.

use std::path::Path;

use crate::data::{Item, PythonRandom};
use crate::{Error, Result};

/// A set divided for few-shot learning; no item is in two parts.
#[derive(Debug, Clone)]
pub struct Split {
    /// The shots, class after class in the order drawn.
    pub support: Vec<Item>,
    /// For choosing hyper-parameters, class after class.
    pub val: Vec<Item>,
    /// All else, in the order given.
    pub test: Vec<Item>,
}

/// Divides items into `shots` support pictures per class, `val_shots` validation pictures per class, and the rest.
///
/// As Dassl does after Python's `random.seed(seed)`: items are grouped by label, groups in the order in which their
/// labels first appear; `random.sample(group, shots)` is drawn for every group first; then, from the same generator,
/// `random.sample(left, val_shots)` for every group, where `left` are the group's items that were not drawn, in the
/// order given. A class with fewer than `val_shots` items left gives all of them and draws nothing; such a class, and
/// one with exactly as many, has no test pictures. That is allowed; make the set larger or `val_shots` smaller if
/// every class is to be tested.
///
/// `classes` are the class folders' names in `root`, by label; they serve to name a class in an error.
///
/// # Errors
///
/// [`Error::Invalid`] if `shots` is 0, [`Error::Data`] if a class has fewer than `shots` items or an item's label is
/// not that of a class.
pub fn few_shot(
    folder_items: &[Item],
    classes: &[String],
    root: &Path,
    shots: usize,
    val_shots: usize,
    seed: u64,
) -> Result<Split> {
    if shots == 0 {
        return Err(Error::invalid("0 shots leave nothing to learn from: ask for at least 1 per class"));
    }
    let groups = by_label(folder_items, classes, root)?;
    let counts = groups.iter().map(|(label, group)| (*label, group.len()));
    let absent = (0..classes.len()).filter(|label| groups.iter().all(|(other, _)| other != label));
    for (label, count) in counts.chain(absent.map(|label| (label, 0))) {
        if count < shots {
            return Err(Error::data(
                root.join(&classes[label]),
                format!(
                    "the class has {count} picture{}, {shots} shots need at least {shots}: ask for fewer shots or add \
                     pictures",
                    if count == 1 { "" } else { "s" }
                ),
            ));
        }
    }

    let mut random = PythonRandom::new(seed);
    let mut unused = vec![true; folder_items.len()];
    let mut support = Vec::with_capacity(groups.len() * shots);
    for (_, group) in &groups {
        for place in random.sample(group.len(), shots)? {
            unused[group[place]] = false;
            support.push(folder_items[group[place]].clone());
        }
    }
    let mut val = Vec::with_capacity(groups.len() * val_shots.min(folder_items.len()));
    for (_, group) in &groups {
        let left: Vec<usize> = group.iter().copied().filter(|&index| unused[index]).collect();
        let places =
            if left.len() < val_shots { (0..left.len()).collect() } else { random.sample(left.len(), val_shots)? };
        for place in places {
            unused[left[place]] = false;
            val.push(folder_items[left[place]].clone());
        }
    }
    let test = folder_items.iter().zip(&unused).filter(|&(_, &unused)| unused).map(|(item, _)| item.clone()).collect();
    Ok(Split { support, val, test })
}

/// The indices of each label's items, labels in the order of their first appearance.
fn by_label(items: &[Item], classes: &[String], root: &Path) -> Result<Vec<(usize, Vec<usize>)>> {
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    // Where each label's group is in `groups`.
    let mut places = vec![None; classes.len()];
    for (index, item) in items.iter().enumerate() {
        let Some(place) = places.get_mut(item.label) else {
            let reason = format!(
                "'{}' has the label {} but there are {} classes: labels count from 0",
                item.path.display(),
                item.label,
                classes.len()
            );
            return Err(Error::data(root, reason));
        };
        let place = *place.get_or_insert_with(|| {
            groups.push((item.label, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(index);
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forty items of three classes of 30, 4 and 6, mixed, in which label 1 appears first.
    fn forty() -> Vec<Item> {
        let labels = [vec![1; 10], [0, 2].repeat(4), vec![1; 20], vec![2; 2]].concat();
        labels
            .into_iter()
            .enumerate()
            .map(|(index, label)| Item { path: format!("{index:02}").into(), label })
            .collect()
    }

    fn classes() -> Vec<String> {
        ["ant", "bee", "cat"].map(String::from).to_vec()
    }

    fn split(shots: usize, val_shots: usize, seed: u64) -> Result<Split> {
        few_shot(&forty(), &classes(), Path::new("/set"), shots, val_shots, seed)
    }

    fn numbers(items: &[Item]) -> Vec<usize> {
        items.iter().map(|item| item.path.to_str().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn the_choice_is_that_of_python() {
        // From CPython 3.11 with the steps described above. In the second a class has nothing left for validation, in
        // the third fewer than asked for, in the fourth exactly as many (which are still drawn, here in reverse).
        let cases = [
            (3, 2, 1, vec![4, 26, 35, 10, 12, 16, 17, 39, 38], vec![30, 21, 14, 11, 15]),
            (4, 1, 2, vec![35, 1, 2, 19, 12, 14, 16, 10, 38, 13, 11, 15], vec![32, 17]),
            (1, 4, 3, vec![7, 12, 15], vec![28, 24, 29, 27, 10, 14, 16, 11, 39, 13, 17]),
            (2, 2, 6, vec![33, 26, 10, 12, 15, 11], vec![0, 4, 16, 14, 38, 13]),
        ];
        for (shots, val_shots, seed, support, val) in cases {
            let split = split(shots, val_shots, seed).unwrap();
            assert_eq!(numbers(&split.support), support, "seed {seed}");
            assert_eq!(numbers(&split.val), val, "seed {seed}");
            let rest: Vec<usize> = (0..40).filter(|i| !support.contains(i) && !val.contains(i)).collect();
            assert_eq!(numbers(&split.test), rest, "seed {seed}");
        }
    }

    #[test]
    fn labels_stay_with_their_pictures() {
        let split = split(2, 1, 5).unwrap();
        let items = forty();
        for item in split.support.iter().chain(&split.val).chain(&split.test) {
            assert!(items.contains(item), "{item:?}");
        }
        assert_eq!(split.support.iter().map(|item| item.label).collect::<Vec<_>>(), [1, 1, 0, 0, 2, 2]);
    }

    #[test]
    fn no_validation_leaves_the_support_as_it_is() {
        let (with, without) = (split(3, 2, 9).unwrap(), split(3, 0, 9).unwrap());
        assert_eq!(with.support, without.support);
        assert!(without.val.is_empty());
        assert_eq!(without.test.len(), 31);
    }

    #[test]
    fn validation_may_take_all_that_is_left() {
        let split = split(1, usize::MAX, 1).unwrap();
        assert_eq!((split.support.len(), split.val.len(), split.test.len()), (3, 37, 0));
    }

    #[test]
    fn a_class_too_small_is_named_with_its_counts() {
        let error = split(5, 1, 1).unwrap_err().to_string();
        assert!(error.starts_with(&*Path::new("/set").join("ant").to_string_lossy()), "{error}");
        assert!(error.contains("has 4 pictures, 5 shots need at least 5"), "{error}");
    }

    #[test]
    fn a_class_without_any_picture_is_named() {
        let mut classes = classes();
        classes.push("dog".to_owned());
        let error = few_shot(&forty(), &classes, Path::new("/set"), 1, 0, 1).unwrap_err().to_string();
        assert!(error.contains("dog: the class has 0 pictures"), "{error}");
    }

    #[test]
    fn no_shots_and_foreign_labels_are_refused() {
        assert!(split(0, 1, 1).unwrap_err().to_string().contains("0 shots"));
        let error = few_shot(&forty(), &classes()[..2], Path::new("/set"), 1, 0, 1).unwrap_err().to_string();
        assert!(error.contains("label 2 but there are 2 classes"), "{error}");
    }
}
