//! The few-shot choice of CoOp and Dassl, on which published numbers rest: the same seed chooses the same pictures
//! from the same list.

use std::collections::HashMap;
use std::path::Path;

use crate::data::{Item, PythonRandom, Shots};
use crate::{Error, Result, text};

/// How many classes are named that have too few pictures.
const NAMED: usize = 5;

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
/// order given. A class with fewer items than asked for, here and there, gives all of them in the order given and draws
/// nothing ([`too_few`] names these); such a class, and one with exactly as many, has no validation or test pictures.
///
/// `classes` are the class folders' names in `root`, by label; they serve to name a class in an error.
///
/// # Errors
///
/// [`Error::Invalid`] if `shots` is 0, [`Error::Data`] if a class has no item or an item's label is not that of a class.
pub fn few_shot(
    folder_items: &[Item],
    classes: &[String],
    root: &Path,
    shots: impl Into<Shots>,
    val_shots: usize,
    seed: u64,
) -> Result<Split> {
    let shots = shots.into();
    shots.check()?;
    let groups = by_label(folder_items, classes, root)?;
    if let Some(label) = (0..classes.len()).find(|label| groups.iter().all(|(other, _)| other != label)) {
        return Err(Error::data(root.join(&classes[label]), "the class has no picture to learn from: add some"));
    }

    let mut random = PythonRandom::new(seed);
    let mut unused = vec![true; folder_items.len()];
    let mut take = |shots: Shots| -> Result<Vec<Item>> {
        let mut taken = Vec::new();
        for (_, group) in &groups {
            let left: Vec<usize> = group.iter().copied().filter(|&index| unused[index]).collect();
            for index in drawn(&left, shots, &mut random)? {
                unused[index] = false;
                taken.push(folder_items[index].clone());
            }
        }
        Ok(taken)
    };
    let support = take(shots)?;
    let val = take(Shots::UpTo(val_shots))?;
    let test = folder_items.iter().zip(&unused).filter(|&(_, &unused)| unused).map(|(item, _)| item.clone()).collect();
    Ok(Split { support, val, test })
}

/// So many of a class, drawn; all of one that has fewer, as they are.
fn drawn(group: &[usize], shots: Shots, random: &mut PythonRandom) -> Result<Vec<usize>> {
    match shots {
        Shots::UpTo(count) if count <= group.len() => {
            Ok(random.sample(group.len(), count)?.into_iter().map(|place| group[place]).collect())
        }
        _ => Ok(group.to_vec()),
    }
}

/// The few shots of a set that has parts, as indices into its lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FewShot {
    /// Indices into train: the shots, class after class in the order drawn.
    pub support: Vec<usize>,
    /// Indices into val, or into train where there is no val: for choosing hyper-parameters.
    pub val: Vec<usize>,
}

/// Chooses `shots` pictures per class of `train`, and min(`shots`, 4) per class of `val`, as CoOp does.
///
/// As Dassl's `generate_fewshot_dataset` after Python's `random.seed(seed)`: items are grouped by label, groups in the order
/// in which their labels first appear; `random.sample(group, shots)` is drawn for every group of train, then, from the same
/// generator, for every group of val. A class that has fewer gives all of them in the order given and draws nothing
/// ([`short_classes`] names these). [`Shots::All`] takes all of train and all of val, and draws nothing.
///
/// If `val` is empty, [`FewShot::val`] are indices into `train` instead: of each class, min(`shots`, 4) of the items that
/// were not chosen, drawn after the shots from the same generator (all that are left, undrawn, where there are fewer; none
/// are where all are shots).
/// ImageNet is the case, whose validation set is what one tests on and so must not be searched on. CoOp has no such
/// choice, but the shots are its own.
///
/// # Errors
///
/// [`Error::Invalid`] if `shots` is 0.
pub fn coop_few_shot(train: &[Item], val: &[Item], shots: impl Into<Shots>, seed: u64) -> Result<FewShot> {
    let shots = shots.into();
    shots.check()?;
    let mut random = PythonRandom::new(seed);
    let mut choose = |groups: Vec<Vec<usize>>, shots: Shots| -> Result<Vec<usize>> {
        let mut chosen = Vec::new();
        for group in groups {
            chosen.extend(drawn(&group, shots, &mut random)?);
        }
        Ok(chosen)
    };
    let groups = |items: &[Item]| grouped(items).into_iter().map(|(_, group)| group).collect::<Vec<_>>();
    let support = choose(groups(train), shots)?;
    let left = if val.is_empty() {
        let mut unused = vec![true; train.len()];
        support.iter().for_each(|&index| unused[index] = false);
        let mut left = groups(train);
        left.iter_mut().for_each(|group| group.retain(|&index| unused[index]));
        left
    } else {
        groups(val)
    };
    let val = choose(left, shots.of_val())?;
    Ok(FewShot { support, val })
}

/// The labels below `classes` that have fewer than `shots` items in `train`, each with the number that it has.
pub fn short_classes(train: &[Item], classes: usize, shots: usize) -> Vec<(usize, usize)> {
    let mut counts: HashMap<usize, usize> = HashMap::new();
    for item in train {
        *counts.entry(item.label).or_default() += 1;
    }
    let count = |label: usize| counts.get(&label).copied().unwrap_or_default();
    (0..classes).map(|label| (label, count(label))).filter(|&(_, count)| count < shots).collect()
}

/// Says which classes have fewer pictures to learn from than `shots`; nothing where all are taken, or there are none at all.
pub fn too_few(train: &[Item], classes: &[String], shots: Shots) -> Option<String> {
    let asked = shots.number().filter(|_| !train.is_empty())?;
    let short = short_classes(train, classes.len(), asked);
    let named = |(label, have): &(usize, usize)| format!("'{}': {have}", classes[*label]);
    let names = short.iter().take(NAMED).map(named).collect::<Vec<_>>().join(", ");
    let more = if short.len() > NAMED { format!(" and {} more", short.len() - NAMED) } else { String::new() };
    (!short.is_empty()).then(|| {
        format!(
            "{}: {} of {} {} fewer pictures to learn from ({names}{more})",
            text::count(asked, "shot", "shots"),
            short.len(),
            text::count(classes.len(), "class", "classes"),
            if short.len() == 1 { "has" } else { "have" },
        )
    })
}

/// What is then said: the rule for such classes.
pub const ALL_TAKEN: &str = "all they have are taken, as CoOp's code does";

/// [`grouped`], if every label is that of a class.
fn by_label(items: &[Item], classes: &[String], root: &Path) -> Result<Vec<(usize, Vec<usize>)>> {
    if let Some(item) = items.iter().find(|item| item.label >= classes.len()) {
        let reason = format!(
            "'{}' has the label {} but there are {} classes: labels count from 0",
            item.path.display(),
            item.label,
            classes.len()
        );
        return Err(Error::data(root, reason));
    }
    Ok(grouped(items))
}

/// The indices of each label's items, labels in the order of their first appearance.
fn grouped(items: &[Item]) -> Vec<(usize, Vec<usize>)> {
    let mut groups: Vec<(usize, Vec<usize>)> = Vec::new();
    // Where each label's group is in `groups`.
    let mut places = HashMap::new();
    for (index, item) in items.iter().enumerate() {
        let place = *places.entry(item.label).or_insert_with(|| {
            groups.push((item.label, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(index);
    }
    groups
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

    fn split(shots: impl Into<Shots>, val_shots: usize, seed: u64) -> Result<Split> {
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
    fn a_class_too_small_gives_all_it_has_and_is_named_with_its_counts() {
        let few = split(5, 1, 1).unwrap();
        let of = |items: &[Item], label: usize| items.iter().filter(|item| item.label == label).count();
        assert_eq!([0, 1, 2].map(|label| of(&few.support, label)), [4, 5, 5]);
        assert_eq!([0, 1, 2].map(|label| of(&few.val, label)), [0, 1, 1]);
        let said = too_few(&forty(), &classes(), Shots::UpTo(5)).unwrap();
        assert_eq!(said, "5 shots: 1 of 3 classes has fewer pictures to learn from ('ant': 4)");
        let said = too_few(&forty(), &classes(), Shots::UpTo(7)).unwrap();
        assert_eq!(said, "7 shots: 2 of 3 classes have fewer pictures to learn from ('ant': 4, 'cat': 6)");
        assert_eq!(too_few(&forty(), &classes(), Shots::UpTo(4)), None);
        assert_eq!(too_few(&forty(), &classes(), Shots::All), None);
    }

    #[test]
    fn all_leaves_nothing_aside_but_takes_a_validation_part() {
        let all = split(Shots::All, Shots::All.aside(), 1).unwrap();
        assert_eq!((all.support.len(), all.val.len(), all.test.len()), (40, 0, 0));
        let (train, val) = (forty(), items(&[2, 2, 2, 2, 2, 2, 0]));
        let chosen = coop_few_shot(&train, &val, Shots::All, 9).unwrap();
        assert_eq!((chosen.support.len(), chosen.val.len()), (40, 7));
        assert!(coop_few_shot(&train, &[], Shots::All, 9).unwrap().val.is_empty());
        // It is not one choice among many: the seed does not show.
        assert_eq!(chosen, coop_few_shot(&train, &val, Shots::All, 10).unwrap());
    }

    #[test]
    fn a_class_without_any_picture_is_named() {
        let mut classes = classes();
        classes.push("dog".to_owned());
        let error = few_shot(&forty(), &classes, Path::new("/set"), 1, 0, 1).unwrap_err().to_string();
        assert!(error.contains("dog: the class has no picture"), "{error}");
    }

    #[test]
    fn no_shots_and_foreign_labels_are_refused() {
        assert!(split(0, 1, 1).unwrap_err().to_string().contains("0 shots"));
        let error = few_shot(&forty(), &classes()[..2], Path::new("/set"), 1, 0, 1).unwrap_err().to_string();
        assert!(error.contains("label 2 but there are 2 classes"), "{error}");
    }

    #[derive(serde::Deserialize)]
    struct Fixture {
        labels: Vec<usize>,
        val_labels: Vec<usize>,
        few_shot: Vec<Expected>,
        few_shot_without_val: Vec<Expected>,
    }

    #[derive(serde::Deserialize)]
    struct Expected {
        seed: u64,
        shots: usize,
        support: Vec<usize>,
        val: Vec<usize>,
    }

    /// Written by `tests/reference/coop_splits.py`.
    fn fixture() -> Fixture {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/coop_splits.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    fn items(labels: &[usize]) -> Vec<Item> {
        let items = labels.iter().enumerate();
        items.map(|(index, &label)| Item { path: index.to_string().into(), label }).collect()
    }

    #[test]
    fn the_choice_is_that_of_coop() {
        let fixture = fixture();
        let (train, val) = (items(&fixture.labels), items(&fixture.val_labels));
        for (expected, val) in
            [(&fixture.few_shot, &val[..]), (&fixture.few_shot_without_val, &[])].iter().flat_map(|(all, val)| {
                assert_eq!(all.len(), 15, "three seeds, five numbers of shots");
                all.iter().map(move |expected| (expected, val))
            })
        {
            let chosen = coop_few_shot(&train, val, expected.shots, expected.seed).unwrap();
            let case = format!("seed {}, {} shots, {} val", expected.seed, expected.shots, val.len());
            assert_eq!(chosen.support, expected.support, "{case}");
            assert_eq!(chosen.val, expected.val, "{case}");
        }
    }

    #[test]
    fn without_val_no_picture_is_both_shot_and_searched_on() {
        let train = items(&fixture().labels);
        let chosen = coop_few_shot(&train, &[], 8, 3).unwrap();
        assert!(!chosen.val.is_empty() && chosen.val.iter().all(|index| !chosen.support.contains(index)));
        assert!(coop_few_shot(&train, &[], 0, 3).unwrap_err().to_string().contains("0 shots"));
    }

    #[test]
    fn short_classes_are_named_with_what_they_have() {
        let train = items(&[2, 0, 2, 2, 1, 1]);
        assert_eq!(short_classes(&train, 4, 2), [(0, 1), (3, 0)]);
        assert_eq!(short_classes(&train, 3, 1), []);
    }
}
