//! Names of what is passed over.

/// Folders that programs make beside or among pictures, in lower case: they hold thumbnails, deleted or former files. Most
/// begin with a dot, and are here to be named to the user.
const SYSTEM: [&str; 34] = [
    // Synology, QNAP, Asustor and other NAS.
    "@eadir",
    "@tmp",
    "@synoresource",
    "#recycle",
    "#snapshot",
    "@recycle",
    "@recently-snapshot",
    "@__thumb",
    ".@__thumb",
    ".recycle",
    ".recycle.bin",
    "~snapshot",
    ".snapshot",
    ".zfs",
    // macOS and its file server.
    "__macosx",
    ".appledouble",
    ".spotlight-v100",
    ".fseventsd",
    ".trashes",
    ".temporaryitems",
    ".documentrevisions-v100",
    "network trash folder",
    "temporary items",
    "thevolumesettingsfolder",
    // Windows.
    "$recycle.bin",
    "system volume information",
    // Linux and Android.
    "lost+found",
    ".thumbnails",
    ".thumbs",
    // Photo programs and cameras.
    ".picasaoriginals",
    ".xvpics",
    "thmbnl",
    // Notebooks keep copies of what lies beside them.
    ".ipynb_checkpoints",
    ".comments",
];

/// Whether a folder of this name is one that systems and programs make for themselves. Case does not matter: the names
/// travel between systems that keep it and others that do not.
pub fn is_system(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // The number is the user's id.
    SYSTEM.contains(&name.as_str()) || name == ".trash" || name.starts_with(".trash-")
}
