//! Sets of pictures kept as one folder per class, and decoding many pictures on all cores.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use unicode_normalization::UnicodeNormalization;

use crate::data::Rgb;
use crate::data::decode::decoded;
use crate::data::walk::{self, Walk};
use crate::{Error, Result};

/// A picture and its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The picture's file.
    pub path: PathBuf,
    /// Its class: an index into the list of classes.
    pub label: usize,
}

/// A set of pictures kept as one folder per class.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The folder that holds the class folders.
    pub root: PathBuf,
    /// The class folders' names as they are on disk, sorted; [`Folder::names`] has them as text for a prompt.
    pub classes: Vec<String>,
    /// All pictures, by class and then by path; `label` is an index into `classes`.
    pub items: Vec<Item>,
}

impl Folder {
    /// Lists a set by a strict walk without patterns; see [`Folder::open_with`].
    ///
    /// # Errors
    ///
    /// As [`Folder::open_with`].
    pub fn open(root: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(root, &Walk::default())
    }

    /// Lists a set: every sub-folder of `root` is a class, the pictures in it (at any depth) are the class's items. Files
    /// beside the class folders are none; [`walk`] says what else is passed over.
    ///
    /// A class folder that cannot be read is left out, and is among [`Walk::found`], unless the walk is strict.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if `root` is no folder, has fewer than two class folders, or if a class folder holds no picture,
    /// has a name that is not UTF-8 or leaves nothing for a prompt, or has the name of another class ([`class_key`]), or
    /// is, perhaps by a link, another class's folder or within it; [`Error::Io`] if `root`, or in a strict walk a folder
    /// below it, cannot be read.
    pub fn open_with(root: impl AsRef<Path>, walk: &Walk) -> Result<Self> {
        let root = root.as_ref();
        let tree = walk.at(root);
        Self::list(root, tree)
    }

    /// [`Folder::open_with`] for a folder within one that is walked.
    pub(super) fn list(root: &Path, tree: walk::Tree<'_>) -> Result<Self> {
        if !root.is_dir() {
            let found = if root.exists() { "this is a file" } else { "there is no such folder" };
            return Err(Error::data(root, format!("{found}: give the folder that holds one folder per class")));
        }
        let folders = tree.folders(root)?;
        if folders.len() < 2 {
            let found = match folders.first() {
                Some((name, _)) => format!("there is just one class folder, '{name}'"),
                None if tree.pictures(root)?.is_some_and(|pictures| !pictures.is_empty()) => {
                    "there are pictures but no class folders".to_owned()
                }
                None => "there are no class folders".to_owned(),
            };
            return Err(Error::data(root, format!("{found}: put the pictures of each class into a folder of its own")));
        }
        apart(&folders)?;
        let mut classes: Vec<String> = Vec::with_capacity(folders.len());
        let mut keys: HashMap<String, String> = HashMap::new();
        let mut items = Vec::new();
        for (name, path) in folders {
            let key = class_key(&name);
            if key.is_empty() {
                return Err(Error::data(path, "the folder's name must name the class: rename it"));
            }
            if let Some(other) = keys.insert(key, name.clone()) {
                let reason = format!(
                    "the class '{}' is also that of the folder '{other}', which text cannot tell from it: rename or merge \
                     them",
                    class_name(&name)
                );
                return Err(Error::data(path, reason));
            }
            // One that cannot be read has been noted.
            let Some(pictures) = tree.pictures_below(&path)? else { continue };
            if pictures.is_empty() {
                let more = tree.unread_below(&path);
                let reason = format!("the class folder holds no picture: add some or remove the folder{more}");
                return Err(Error::data(path, reason));
            }
            let label = classes.len();
            items.extend(pictures.into_iter().map(|path| Item { path, label }));
            classes.push(name);
        }
        if classes.len() < 2 {
            let reason = format!("{} of its class folders can be read: at least two are needed", classes.len());
            return Err(Error::data(root, reason));
        }
        Ok(Self { root: root.to_path_buf(), classes, items })
    }

    /// The classes as text for a prompt: [`class_name`] of each.
    pub fn names(&self) -> Vec<String> {
        self.classes.iter().map(|class| class_name(class)).collect()
    }

    /// The pictures whose classes are not among `names`, compared by [`class_key`], with labels from 0 among the classes
    /// that are left, and the names of those: what may be learned from where `names` are tested.
    pub fn without(&self, names: &[String]) -> (Vec<Item>, Vec<String>) {
        without(&self.items, &self.names(), names)
    }
}

/// [`Folder::without`] of items of the classes `own`.
pub(crate) fn without(items: &[Item], own: &[String], names: &[String]) -> (Vec<Item>, Vec<String>) {
    let tested: HashSet<String> = names.iter().map(|name| class_key(name)).collect();
    let kept: Vec<usize> = (0..own.len()).filter(|class| !tested.contains(&class_key(&own[*class]))).collect();
    let mut labels = vec![None; own.len()];
    kept.iter().enumerate().for_each(|(label, class)| labels[*class] = Some(label));
    let items = items.iter().filter_map(|item| Some(Item { path: item.path.clone(), label: labels[item.label]? }));
    (items.collect(), kept.into_iter().map(|class| own[class].clone()).collect())
}

/// A class folder's name as text for a prompt: underscores become spaces, and those at the ends go.
pub fn class_name(raw: &str) -> String {
    raw.replace('_', " ").trim().to_owned()
}

/// What two classes must not share: the text that [`class_name`] gives, without what a reader does not see in it or a
/// tokenizer does not. Case, Unicode's several forms of a character (NFKC), characters without width and the number of
/// spaces do not count.
pub fn class_key(raw: &str) -> String {
    let seen: String = class_name(raw).nfkc().filter(|c| !is_unseen(*c)).flat_map(char::to_lowercase).nfkc().collect();
    seen.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a character is drawn as nothing: Unicode's default ignorable ones, and control characters.
fn is_unseen(c: char) -> bool {
    c.is_control() && !c.is_whitespace()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Checks that no class folder is another one, or lies within it: by links, since they lie beside each other.
fn apart(folders: &[(String, PathBuf)]) -> Result<()> {
    let resolved = |path: &PathBuf| path.canonicalize().unwrap_or_else(|_| path.clone());
    let mut places: Vec<(PathBuf, &PathBuf)> = folders.iter().map(|(_, path)| (resolved(path), path)).collect();
    // What lies in a folder follows it.
    places.sort();
    match places.windows(2).find(|pair| pair[1].0.starts_with(&pair[0].0)) {
        Some([(outer, one), (inner, other)]) => {
            let (lies, name) = (if inner == outer { "is" } else { "lies in" }, one.file_name().unwrap_or_default());
            let reason = format!(
                "this class folder {lies} that of the class '{}', by a link: its pictures would be of two classes",
                name.display()
            );
            Err(Error::data(other, reason))
        }
        _ => Ok(()),
    }
}

/// What [`decode_map`] made of a list of items.
#[derive(Debug)]
pub struct Decoded<T = Rgb> {
    /// The items that could be decoded, in the order given, each with its picture or what was made of it.
    pub items: Vec<(Item, T)>,
    /// Why each of the others could not, in the same order; every error names its file.
    pub skipped: Vec<Error>,
}

/// Decodes pictures on all cores and keeps `map(index, picture)` of each, `index` being its place in `items`.
///
/// `map` runs on the thread that decoded the picture, so a resize there is spread over the cores, and no more whole
/// pictures are in memory than there are threads. `progress` is called after every picture with the number done so
/// far; calls come from several threads and may overtake each other. The result does not depend on either.
///
/// # Errors
///
/// Pictures that cannot be decoded end up in [`Decoded::skipped`]. With `strict`, the first of them in the order of
/// `items` is the error instead, and the pictures after it are left alone.
pub fn decode_map<T: Send>(
    items: &[Item],
    strict: bool,
    progress: &(dyn Fn(usize) + Sync),
    map: impl Fn(usize, Rgb) -> T + Sync,
) -> Result<Decoded<T>> {
    map_items(items, strict, progress, |index, item| decoded(&item.path, |picture| map(index, picture)))
}

/// [`decode_map`] for what reads the pictures' files itself.
pub(crate) fn map_items<T: Send>(
    items: &[Item],
    strict: bool,
    progress: &(dyn Fn(usize) + Sync),
    map: impl Fn(usize, &Item) -> Result<T> + Sync,
) -> Result<Decoded<T>> {
    let done = AtomicUsize::new(0);
    let first_failed = AtomicUsize::new(usize::MAX);
    let results: Vec<Option<Result<T>>> = items
        .par_iter()
        .enumerate()
        .map(|(index, item)| {
            // Only what follows a failure is given up, so the first failure in order is always reached.
            if strict && first_failed.load(Ordering::Relaxed) < index {
                return None;
            }
            let result = map(index, item);
            if result.is_err() {
                first_failed.fetch_min(index, Ordering::Relaxed);
            }
            progress(done.fetch_add(1, Ordering::Relaxed) + 1);
            Some(result)
        })
        .collect();
    let mut decoded = Decoded { items: Vec::with_capacity(items.len()), skipped: Vec::new() };
    for (item, result) in items.iter().zip(results) {
        match result {
            Some(Ok(value)) => decoded.items.push((item.clone(), value)),
            Some(Err(error)) if strict => return Err(error),
            Some(Err(error)) => decoded.skipped.push(error),
            None => {}
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;

    use super::*;
    use crate::data::walk::tests::files;

    fn refused(names: &[&str]) -> String {
        Folder::open(files(names).path()).unwrap_err().to_string()
    }

    #[test]
    fn classes_and_pictures_are_sorted() {
        let folder = files(&[
            "wild_cat/b.png",
            "wild_cat/a/z.jpg",
            "ant/2.png",
            "ant/10.png",
            "ant/readme.txt",
            ".git/x.png",
            "stray.png",
            "wild_cat/.thumb.png",
        ]);
        let set = Folder::open(folder.path()).unwrap();
        assert_eq!(set.classes, ["ant", "wild_cat"]);
        assert_eq!(set.names(), ["ant", "wild cat"]);
        let items: Vec<_> = set.items.iter().map(|item| (item.path.clone(), item.label)).collect();
        let expected = [("ant/10.png", 0), ("ant/2.png", 0), ("wild_cat/a/z.jpg", 1), ("wild_cat/b.png", 1)];
        assert_eq!(items, expected.map(|(path, label)| (folder.path().join(path), label)));
    }

    #[test]
    fn sets_without_two_classes_are_refused() {
        assert!(refused(&["a.txt"]).contains("no class folders"));
        assert!(refused(&["a.png"]).contains("pictures but no class folders"));
        assert!(refused(&["only/a.png"]).contains("just one class folder, 'only'"));
        assert!(refused(&["only/a.png", ".hidden/b.png"]).contains("just one"));
    }

    #[test]
    fn a_class_without_pictures_is_refused_by_name() {
        let error = refused(&["a/1.png", "b/notes.txt", "c/1.png"]);
        assert!(error.contains("b: the class folder holds no picture"), "{error}");
    }

    #[test]
    fn a_root_that_is_no_folder_is_refused() {
        let folder = files(&["file.png"]);
        let error = Folder::open(folder.path().join("file.png")).unwrap_err().to_string();
        assert!(error.contains("file.png: this is a file"), "{error}");
        let error = Folder::open(folder.path().join("gone")).unwrap_err().to_string();
        assert!(error.contains("gone: there is no such folder"), "{error}");
    }

    #[test]
    fn classes_of_the_same_name_are_refused() {
        let error = refused(&["big_cat/1.png", "big cat/1.png"]);
        assert!(error.contains("'big cat' is also that of the folder"), "{error}");
        assert!(refused(&["_/1.png", "a/1.png"]).contains("must name the class"));
    }

    #[test]
    fn classes_that_text_cannot_tell_apart_are_refused() {
        for (one, other) in [
            ("Cat", "cat"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("cat", "cat\u{200b}"),
            ("big_cat", "Big  Cat"),
            ("\u{ff43}at", "cat"),
            ("STRASSE", "strasse"),
            ("heart\u{fe0f}", "heart"),
        ] {
            let error = refused(&[&format!("{one}/1.png"), &format!("{other}/1.png")]);
            assert!(error.contains(one) && error.contains(other) && error.contains("rename or merge"), "{error}");
            assert_eq!(class_key(one), class_key(other));
        }
        assert!(refused(&["\u{200b}/1.png", "a/1.png"]).contains("must name the class"));
        for (one, other) in [("cat", "cats"), ("\u{65e5}\u{672c}", "\u{65e5}"), ("c-a-t", "cat")] {
            assert_ne!(class_key(one), class_key(other));
        }
    }

    #[test]
    fn names_become_text() {
        assert_eq!(class_name("annual_crop_land"), "annual crop land");
        assert_eq!(class_name("_tench_ "), "tench");
    }

    /// Five items, of which 1 and 3 are damaged, of growing width.
    fn five() -> (tempfile::TempDir, Vec<Item>) {
        let folder = tempfile::tempdir().unwrap();
        let items = (0..5)
            .map(|label| {
                let path = folder.path().join(format!("{label}.png"));
                if label % 2 == 1 {
                    fs::write(&path, "damaged").unwrap();
                } else {
                    image::RgbImage::new(label as u32 + 1, 1).save(&path).unwrap();
                }
                Item { path, label }
            })
            .collect();
        (folder, items)
    }

    #[test]
    fn damaged_pictures_are_skipped_and_named() {
        let (_folder, items) = five();
        let seen = Mutex::new(Vec::new());
        let decoded = decode_map(&items, false, &|done| seen.lock().unwrap().push(done), |_, picture| picture).unwrap();
        let kept: Vec<_> = decoded.items.iter().map(|(item, rgb)| (item.label, rgb.width)).collect();
        assert_eq!(kept, [(0, 1), (2, 3), (4, 5)]);
        let skipped: Vec<_> = decoded.skipped.iter().map(ToString::to_string).collect();
        assert_eq!(skipped.len(), 2);
        assert!(skipped[0].contains("1.png") && skipped[1].contains("3.png"), "{skipped:?}");
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn strict_gives_the_first_damaged_picture() {
        let (_folder, mut items) = five();
        let error = decode_map(&items, true, &|_| {}, |_, picture| picture).unwrap_err().to_string();
        assert!(error.contains("1.png"), "{error}");
        items.reverse();
        let error = decode_map(&items, true, &|_| {}, |_, picture| picture).unwrap_err().to_string();
        assert!(error.contains("3.png"), "{error}");
        items.retain(|item| item.label % 2 == 0);
        assert_eq!(decode_map(&items, true, &|_| {}, |_, picture| picture).unwrap().items.len(), 3);
    }

    #[test]
    fn strict_gives_the_first_damaged_picture_even_where_a_later_one_fails_sooner() {
        let (folder, items) = five();
        // On two threads or more, the second half fails at once, long before the first half reaches its failure.
        let list: Vec<Item> = (0..200)
            .map(|index| match index {
                49 => items[1].clone(),
                0..100 => items[0].clone(),
                _ => Item { path: folder.path().join("missing.png"), label: 0 },
            })
            .collect();
        let slow = |_, _| std::thread::sleep(std::time::Duration::from_millis(1));
        let error = decode_map(&list, true, &|_| {}, slow).unwrap_err().to_string();
        assert!(error.contains("1.png"), "{error}");
    }

    #[test]
    fn map_sees_the_place_in_the_list() {
        let (_folder, items) = five();
        let decoded = decode_map(&items[2..], false, &|_| {}, |index, picture| (index, picture.width)).unwrap();
        let values: Vec<_> = decoded.items.into_iter().map(|(_, value)| value).collect();
        assert_eq!(values, [(0, 3), (2, 5)]);
    }

    #[test]
    fn nothing_is_learned_of_what_is_tested() {
        let open =
            |name: &str| Folder::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)).unwrap();
        let generic = open("pictos-generic");
        // The bundled sets have no concept in common.
        for set in ["pictos/shifted", "pictos/novel"] {
            assert_eq!(generic.without(&open(set).names()).1.len(), generic.classes.len(), "{set}");
        }
        let tested: Vec<String> = generic.names().into_iter().step_by(7).collect();
        let shared = tested.len();
        let (pictures, left) = generic.without(&tested);
        assert_eq!(left.len(), generic.classes.len() - shared);
        assert!(left.iter().all(|name| !tested.contains(name)));
        let mut seen = vec![false; left.len()];
        for item in &pictures {
            let class = item.path.parent().unwrap().file_name().unwrap().to_str().unwrap();
            assert_eq!(class_name(class), left[item.label]);
            seen[item.label] = true;
        }
        assert!(seen.iter().all(|seen| *seen));
    }

    #[test]
    fn no_items_give_none() {
        let decoded = decode_map(&[], true, &|_| {}, |_, picture| picture).unwrap();
        assert!(decoded.items.is_empty() && decoded.skipped.is_empty());
    }
}
