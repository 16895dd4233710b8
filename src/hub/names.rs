//! Names that come from a user or a server and become parts of paths and addresses.

/// Longest organisation, repository or file name.
const MAX_NAME: usize = 96;
/// Longest revision.
const MAX_REVISION: usize = 200;

/// Letters, digits and `._-`, of a length that every system takes, and no hidden name.
fn plain(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fits) && !name.starts_with(['.', '-'])
}

/// Whether `name` is a repository's, `ORG/NAME`, by the hub's own rules.
pub(super) fn repo(name: &str) -> bool {
    // Two hyphens stand for the slash in the cache's folder names.
    let part = |part: &str| plain(part) && !part.contains("--") && !part.contains("..") && !part.ends_with(['.', '-']);
    name.split_once('/').is_some_and(|(org, name)| part(org) && part(name))
}

/// Whether `name` is a branch's, tag's or commit's that is safe in a path.
pub(super) fn revision(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(fits) && !part.starts_with('.') && !part.ends_with('.');
    name.len() <= MAX_REVISION && !name.starts_with('-') && name.split('/').all(part)
}

/// Whether `name` is a whole commit hash.
pub(super) fn is_commit(name: &str) -> bool {
    is_hex(name, 40)
}

/// Whether `text` is `digits` hexadecimal digits.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether `name` is a file's that may be fetched: nothing in a folder, nothing hidden, no odd characters.
pub(super) fn file(name: &str) -> bool {
    plain(name) && !name.ends_with('.')
}

/// Whether a name in a listing would leave the repository's folder, on any system.
pub(super) fn escapes(name: &str) -> bool {
    let drive = name.as_bytes().get(1) == Some(&b':');
    drive || name.is_empty() || name.starts_with(['/', '\\']) || name.split(['/', '\\']).any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        for good in ["openai/clip-vit-base-patch32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "_a/b.c", "a/b_"] {
            assert!(repo(good), "{good}");
        }
        for bad in
            ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b..c", "a--b/c", "a/b--c", "a/.b", "a/b.", "a/b c", "ä/b"]
        {
            assert!(!repo(bad), "{bad}");
        }
        assert!(!repo(&format!("a/{}", "b".repeat(97))));
    }

    #[test]
    fn revisions() {
        for good in ["main", "v1.0", "refs/pr/12", "feature/a_b+c", "0123456789abcdef0123456789abcdef01234567"] {
            assert!(revision(good), "{good}");
        }
        for bad in
            ["", "/main", "main/", "a//b", "..", "a/../b", ".a", "a/.b", "-a", "a b", "a?b", "a\\b", "a:b", "a@b"]
        {
            assert!(!revision(bad), "{bad}");
        }
    }

    #[test]
    fn files() {
        for good in ["config.json", "model-00001-of-00002.safetensors", "LICENSE"] {
            assert!(file(good), "{good}");
        }
        for bad in ["", ".git", "a/b", "..", "../x", "/x", "a\\b", "c:x", "a b", "a\n", "a."] {
            assert!(!file(bad), "{bad}");
        }
        for hostile in ["../x", "a/../../x", "..", "/etc/passwd", "a\\..\\x", "\\x", "C:\\x", "c:x", ""] {
            assert!(escapes(hostile), "{hostile}");
        }
        for harmless in ["a/b", "a..b", "...", "été.png", ".gitattributes", "a b"] {
            assert!(!escapes(harmless), "{harmless}");
        }
    }
}
