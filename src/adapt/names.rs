//! What pictures are called in an adapter's file.

use std::path::Path;

use super::tip::by_class;
use crate::data::Item;
use crate::text;

/// Names of pictures in the order of a cache's keys: their paths below the folder that holds all of them, with `/` between the
/// parts on every system. They do not tell where on a disk that folder is.
pub fn of_keys(support: &[Item]) -> Vec<String> {
    let parts = |path: &Path| path.components().map(|part| text::path(part.as_ref())).collect::<Vec<String>>();
    let all: Vec<Vec<String>> = support.iter().map(|item| parts(&item.path)).collect();
    let folder = |parts: &Vec<String>| parts.len().saturating_sub(1);
    let shared = all.iter().skip(1).fold(all.first().map_or(0, folder), |shared, parts| {
        let same = parts.iter().zip(&all[0]).take_while(|(a, b)| a == b).count();
        shared.min(same).min(folder(parts))
    });
    let labels: Vec<u32> = support.iter().map(|item| item.label as u32).collect();
    by_class(&labels).into_iter().map(|i| all[i][shared..].join("/")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pictures: &[(&str, usize)]) -> Vec<String> {
        of_keys(&pictures.iter().map(|(path, label)| Item { path: path.into(), label: *label }).collect::<Vec<_>>())
    }

    #[test]
    fn names_begin_below_the_shared_folder_in_the_order_of_classes() {
        assert_eq!(
            names(&[("/d/s/b/2.png", 1), ("/d/s/a/1.png", 0), ("/d/s/b/1.png", 1)]),
            ["a/1.png", "b/2.png", "b/1.png"]
        );
        assert_eq!(names(&[("s/a/x/1.png", 0), ("s/a/1.png", 0)]), ["x/1.png", "1.png"]);
        // A name is never empty, and a folder is shared as a whole or not at all.
        assert_eq!(names(&[("s/a.png", 0), ("s/a.png", 1)]), ["a.png", "a.png"]);
        assert_eq!(names(&[("s/ab/1.png", 0), ("s/a/1.png", 1)]), ["ab/1.png", "a/1.png"]);
        assert_eq!(names(&[("1.png", 0)]), ["1.png"]);
        assert!(names(&[]).is_empty());
    }
}
