use std::fs;

use super::*;

#[test]
fn listing_is_recursive_sorted_and_skips_what_is_hidden() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("b/deep")).unwrap();
    fs::create_dir_all(root.join(".cache")).unwrap();
    for name in ["z.PNG", "a.jpg", "notes.txt", ".hidden.png", "b/c.gif", "b/deep/d.bmp", ".cache/e.png"] {
        fs::write(root.join(name), "").unwrap();
    }
    let expected: Vec<_> = ["a.jpg", "b/c.gif", "b/deep/d.bmp", "z.PNG"].iter().map(|name| root.join(name)).collect();
    assert_eq!(list_pictures(root).unwrap(), expected);
    // A file is itself, even where its name would not have been picked up.
    assert_eq!(list_pictures(&root.join("notes.txt")).unwrap(), [root.join("notes.txt")]);
}

#[test]
fn listing_nothing_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = list_pictures(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no picture") && error.contains(&*folder.path().to_string_lossy()), "{error}");
    let error = list_pictures(&folder.path().join("gone")).unwrap_err().to_string();
    assert!(error.contains("gone") && error.contains("no such file or folder"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_that_lead_back_do_not_go_round_and_dangling_ones_are_listed() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir(root.join("sub")).unwrap();
    fs::write(root.join("sub/a.png"), "").unwrap();
    symlink(root, root.join("sub/back")).unwrap();
    symlink(root.join("sub"), root.join("sub/self")).unwrap();
    symlink(root.join("nowhere"), root.join("lost.png")).unwrap();
    assert_eq!(list_pictures(root).unwrap(), [root.join("lost.png"), root.join("sub/a.png")]);
}

#[test]
fn hidden_entries_and_other_files_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["b", "a", ".git", "a/inner"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    for file in ["a/2.jpg", "a/10.JPEG", "a/notes.txt", "a/.x.jpg", "a/inner/3.jpg", "c.jpg"] {
        fs::write(dir.path().join(file), "").unwrap();
    }
    let walk = Walk::default();
    let tree = walk.at(dir.path());
    let names: Vec<String> = tree.folders(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["a", "b"]);
    let a = dir.path().join("a");
    assert_eq!(tree.pictures(&a).unwrap().unwrap(), [a.join("10.JPEG"), a.join("2.jpg")]);
}

/// A folder with empty files of these names.
pub(in crate::low_level::data) fn files(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    folder
}

/// The pictures below a folder, relative to it.
fn listed(root: &Path, walk: &Walk) -> Vec<String> {
    let pictures = list_pictures_with(root, walk).unwrap();
    pictures.iter().map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/")).collect()
}

#[test]
fn what_programs_make_beside_pictures_is_passed_over_and_said() {
    let made = [
        "@eaDir",
        "__MACOSX",
        ".thumbnails",
        "#recycle",
        "lost+found",
        "System Volume Information",
        "$RECYCLE.BIN",
        "$Recycle.Bin",
        "@Recycle",
        "@__thumb",
        ".@__thumb",
        ".Trash-1000",
        ".picasaoriginals",
        "Network Trash Folder",
        ".ipynb_checkpoints",
    ];
    let mut names: Vec<String> = made.iter().map(|name| format!("cat/{name}/deep/copy.png")).collect();
    names.extend(["cat/a.png", "cat/._a.png", "cat/Thumbs.db", "cat/.DS_Store", "cat/sub/b.png"].map(String::from));
    let folder = files(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let walk = Walk::default();
    assert_eq!(listed(folder.path(), &walk), ["cat/a.png", "cat/sub/b.png"]);
    let said = walk.take_passed_over().unwrap();
    for name in made {
        assert!(said.contains(name), "{name} is not in: {said}");
    }
    assert!(said.contains("1 hidden file") && !said.contains("sub"), "{said}");
    assert_eq!(walk.take_passed_over(), None, "it is said once");
    // No class either; what is named by the caller is walked all the same.
    let names: Vec<_> = walk.at(folder.path()).folders(&folder.path().join("cat")).unwrap();
    assert_eq!(names.iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), ["sub"]);
    assert_eq!(listed(&folder.path().join("cat/@eaDir"), &walk), ["deep/copy.png"]);
}

#[test]
fn patterns_exclude_and_take_in() {
    let folder = files(&["cat/a.png", "cat/old/b.png", "dog/a.gif", "dog/old/c.png", "dog/@eaDir/d.png", "old.png"]);
    let with = |patterns: &[&str]| listed(folder.path(), &Walk::excluding(patterns).unwrap());
    assert_eq!(with(&["*.gif", "old/"]), ["cat/a.png", "old.png"]);
    assert_eq!(with(&["/cat/old", "*.gif"]), ["cat/a.png", "dog/old/c.png", "old.png"]);
    assert_eq!(with(&["cat"]), ["dog/a.gif", "dog/old/c.png", "old.png"]);
    assert_eq!(with(&["*.png", "!a.png"]), ["cat/a.png", "dog/a.gif"]);
    assert_eq!(with(&["cat", "old*", "!@eaDir"]), ["dog/@eaDir/d.png", "dog/a.gif"]);
    fs::create_dir(folder.path().join("#1")).unwrap();
    fs::write(folder.path().join("#1/e.png"), "").unwrap();
    assert_eq!(with(&["#1", "dog", "cat"]), ["old.png"]);
    let walk = Walk::excluding(&["old"]).unwrap();
    listed(folder.path(), &walk);
    assert!(walk.take_passed_over().unwrap().contains("2 files and folders that are excluded"));
    for wrong in ["", " ", "a[", "{a"] {
        let error = Walk::excluding(&[wrong]).unwrap_err().to_string();
        assert!(error.contains(&format!("'{wrong}' is no pattern")), "{error}");
    }
}

#[test]
fn results_are_passed_over_marked_or_not() {
    let folder = files(&["cat/a.png", "dog/b.png", "new/plots/x.png", "half/plots/x.png"]);
    let root = folder.path();
    fs::remove_dir_all(root.join("new")).unwrap();
    // Marked when it is made; a folder with the user's own things is not marked.
    mark_results(&root.join("new")).unwrap();
    fs::create_dir_all(root.join("new/plots")).unwrap();
    fs::write(root.join("new/plots/x.png"), "").unwrap();
    mark_results(&root.join("half")).unwrap();
    assert!(is_results(&root.join("new")) && !is_results(&root.join("half")));
    // As they were written before there were marks: whole, and without a report yet.
    for (name, files) in [
        ("old", &["report.html", "results.json", "summary.csv", "plots/x.png"][..]),
        ("killed", &["features/0/key.json", "plots/x.png", "cat/x.png"]),
    ] {
        for file in files {
            let path = root.join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }
    fs::write(root.join("killed/cat/settings.json"), r#"{"settings":{"format":"tipi-eval/1","dataset":"x"}}"#).unwrap();
    // Settings of somebody else's say nothing.
    fs::write(root.join("cat/settings.json"), r#"{"settings":{"colour":"red"}}"#).unwrap();
    let walk = Walk::default();
    assert_eq!(listed(root, &walk), ["cat/a.png", "dog/b.png", "half/plots/x.png"]);
    assert!(walk.take_passed_over().unwrap().contains("3 folders of results"));
}

#[test]
fn outputs_in_or_around_what_was_walked_are_refused() {
    let folder = files(&["set/cat/a.png", "set/dog/b.png", "elsewhere/c.png"]);
    let (root, set) = (folder.path(), folder.path().join("set"));
    let walk = Walk::default();
    list_pictures_with(&set, &walk).unwrap();
    for inside in ["set", "set/res", "set/cat/deep/res", ".", "set/none/../res", "elsewhere/../set/res"] {
        let error = walk.refuse_folder(&root.join(inside)).unwrap_err().to_string();
        assert!(error.contains("pictures are taken from") && error.contains("set"), "{inside}: {error}");
    }
    for outside in ["res", "sett", "set.res", "elsewhere", "set/../res"] {
        walk.refuse_folder(&root.join(outside)).unwrap();
    }
    assert!(walk.refuse_picture(&set.join("cat/plot.png")).is_err());
    walk.refuse_picture(&set.join("cat/adapter.safetensors")).unwrap();
    walk.refuse_picture(&root.join("plot.png")).unwrap();
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::data::Folder;

    #[test]
    fn outputs_are_refused_through_links() {
        let folder = files(&["set/cat/a.png", "far/b.png", "other/c.png"]);
        let root = folder.path();
        symlink(root.join("far"), root.join("set/cat/far")).unwrap();
        symlink(root.join("set"), root.join("alias")).unwrap();
        let walk = Walk::default();
        assert_eq!(listed(&root.join("alias"), &walk), ["cat/a.png", "cat/far/b.png"]);
        for inside in ["set/res", "alias/res", "far/res", "far"] {
            assert!(walk.refuse_folder(&root.join(inside)).is_err(), "{inside}");
        }
        walk.refuse_folder(&root.join("other/res")).unwrap();
    }

    #[test]
    fn each_folder_is_entered_once_whatever_links_lead_there() {
        // Two links from each folder to the next: 2^29 paths to the last one.
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for n in 0..30 {
            fs::create_dir(root.join(format!("{n:02}"))).unwrap();
        }
        for n in 0..29 {
            for name in ["x", "y"] {
                symlink(root.join(format!("{:02}", n + 1)), root.join(format!("{n:02}/{name}"))).unwrap();
            }
        }
        fs::write(root.join("29/a.png"), "").unwrap();
        let walk = Walk::default();
        assert_eq!(listed(root, &walk), ["29/a.png"]);
        let way = "x/".repeat(29);
        assert_eq!(listed(&root.join("00"), &walk), [format!("{way}a.png")]);
        assert!(walk.take_passed_over().unwrap().contains("links to what is listed already"));
    }

    #[test]
    fn a_folders_own_path_wins_over_links_and_then_the_first_link() {
        let folder = files(&["m/real/a.png", "far/b.png", "far/sub/c.png"]);
        let root = folder.path();
        symlink(root.join("m/real"), root.join("m/a_link")).unwrap();
        symlink(root.join("far"), root.join("m/z")).unwrap();
        symlink(root.join("far"), root.join("m/y")).unwrap();
        symlink(root.join("far/sub"), root.join("m/real/zz")).unwrap();
        let pictures = listed(&root.join("m"), &Walk::default());
        // Of m/real/zz and m/y/sub, the link that comes first is entered first.
        assert_eq!(pictures, ["real/a.png", "real/zz/c.png", "y/b.png"]);
        // One picture, whatever links lead to it; of two links to one outside, the first.
        fs::write(root.join("out.png"), "").unwrap();
        for (to, link) in
            [("m/real/a.png", "m/0.png"), ("out.png", "m/2.png"), ("out.png", "m/1.png"), ("no", "m/3.png")]
        {
            symlink(root.join(to), root.join(link)).unwrap();
        }
        let walk = Walk::default();
        let pictures = listed(&root.join("m"), &walk);
        assert_eq!(pictures, ["1.png", "3.png", "real/a.png", "real/zz/c.png", "y/b.png"]);
    }

    #[test]
    fn a_class_folder_that_is_anothers_by_a_link_is_refused() {
        let folder = files(&["set/cat/a.png", "set/dog/b.png", "set/dog/puppy/c.png", "far/d.png"]);
        let root = folder.path().join("set");
        for (to, lies) in [("dog", "is that of the class 'dog'"), ("dog/puppy", "lies in that of the class 'dog'")] {
            symlink(root.join(to), root.join("wolf")).unwrap();
            let error = Folder::open(&root).unwrap_err().to_string();
            assert!(error.contains("wolf") && error.contains(lies), "{error}");
            fs::remove_file(root.join("wolf")).unwrap();
        }
        // One that links to all classes holds them; one that leads elsewhere is a class as any.
        symlink(&root, root.join("all")).unwrap();
        assert!(Folder::open(&root).unwrap_err().to_string().contains("lies in that of the class 'all'"));
        fs::remove_file(root.join("all")).unwrap();
        symlink(folder.path().join("far"), root.join("far")).unwrap();
        assert_eq!(Folder::open(&root).unwrap().classes, ["cat", "dog", "far"]);
    }

    #[test]
    fn what_cannot_be_read_below_is_noted_and_ends_a_strict_walk_only() {
        let folder = files(&["set/cat/a.png", "set/dog/b.png", "set/dog/more/c.png", "set/owl/d.png"]);
        let set = folder.path().join("set");
        // Links that lead to themselves cannot be followed by anybody, root included.
        symlink("loop", set.join("dog/loop")).unwrap();
        symlink("nowhere", set.join("dog/gone")).unwrap();
        // A file's name says that it is none of ours.
        symlink("nowhere", set.join("dog/notes.txt")).unwrap();
        let walk = Walk::default().strict(false);
        let found = Folder::open_with(&set, &walk).unwrap();
        assert_eq!((found.classes.len(), found.items.len()), (3, 4));
        let errors: Vec<String> = walk.found().unreadable.into_values().map(|error| error.to_string()).collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("dog/gone: ") && errors[0].contains("leads nowhere"), "{errors:?}");
        assert!(errors[1].contains("dog/loop: "), "{errors:?}");
        assert!(Folder::open(&set).unwrap_err().to_string().contains("dog/gone"));
        fs::remove_file(set.join("dog/gone")).unwrap();
        fs::remove_file(set.join("dog/loop")).unwrap();

        // Where permissions count, folders: one within a class, and a class's own.
        use std::os::unix::fs::PermissionsExt;
        let close = |path: &str, mode| fs::set_permissions(set.join(path), fs::Permissions::from_mode(mode)).unwrap();
        close("dog/more", 0);
        close("owl", 0);
        if fs::read_dir(set.join("owl")).is_err() {
            let walk = Walk::default().strict(false);
            let found = Folder::open_with(&set, &walk).unwrap();
            assert_eq!((&found.classes[..], found.items.len()), (&["cat".to_string(), "dog".to_string()][..], 2));
            assert_eq!(walk.found().unreadable.len(), 2);
            assert!(Folder::open(&set).unwrap_err().to_string().contains("dog/more"));
        }
        close("dog/more", 0o755);
        close("owl", 0o755);
    }
}
