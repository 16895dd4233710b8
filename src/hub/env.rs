//! Settings from the environment, as Python's `huggingface_hub` takes them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::hub::{ENDPOINT, Hub};
use crate::{Error, Result, input};

impl Hub {
    /// [`Hub::from_env`] with the variables that `var` gives.
    pub(super) fn from_vars(home: Option<&Path>, var: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());
        let text = |name: &str| var(name).and_then(|value| value.into_string().ok());
        let path = |name: &str| {
            let path = PathBuf::from(var(name)?);
            Some(match (path.strip_prefix("~"), home) {
                (Ok(rest), Some(home)) => home.join(rest),
                _ => path,
            })
        };
        let yes = |name: &str| {
            text(name).is_some_and(|value| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str()))
        };
        let hf_home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| home.map(|home| home.join(".cache").join("huggingface")));
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .or_else(|| hf_home.as_ref().map(|hf_home| hf_home.join("hub")))
            .ok_or_else(|| Error::invalid("no home folder to keep models in: set HF_HOME or HF_HUB_CACHE"))?;
        let token_file = path("HF_TOKEN_PATH").or_else(|| hf_home.map(|hf_home| hf_home.join("token")));
        let token = text("HF_TOKEN")
            .or_else(|| text("HUGGING_FACE_HUB_TOKEN"))
            // Not to have one is usual, and public models need none.
            .or_else(|| input::read_text(&token_file?, input::limit::TEXT).ok())
            .map(|token| token.trim().to_owned())
            .filter(|token| !token.is_empty());
        Ok(Hub {
            endpoint: text("HF_ENDPOINT").map_or_else(|| ENDPOINT.to_owned(), |e| e.trim_end_matches('/').to_owned()),
            token,
            offline: yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE"),
            certificates: path("SSL_CERT_FILE"),
            ..Hub::new(cache)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn hub(vars: &[(&str, &str)]) -> Hub {
        let find = |name: &str| vars.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        Hub::from_vars(Some(Path::new("/home/me")), find).unwrap()
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        for (vars, expected) in [
            (&[][..], "/home/me/.cache/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/hf")], "/home/me/hf/hub"),
            (&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (&[("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/new"),
            (&[("HF_HUB_CACHE", ""), ("HF_HOME", "/hf")], "/hf/hub"),
        ] {
            assert_eq!(hub(vars).cache, Path::new(expected), "{vars:?}");
        }
        let homeless = Hub::from_vars(None, |_| None).unwrap_err();
        assert!(homeless.to_string().contains("HF_HOME"), "{homeless}");
        assert_eq!(
            Hub::from_vars(None, |name| (name == "HF_HUB_CACHE").then(|| "/c".into())).unwrap().cache,
            Path::new("/c")
        );
    }

    #[test]
    fn the_token_comes_from_the_environment_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(hub(&[("HF_HOME", home)]).token, None);
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(hub(&[("HF_HOME", home)]).token.as_deref(), Some("hf_file"));
        assert_eq!(hub(&[("HF_HOME", home), ("HF_TOKEN", " hf_env\n")]).token.as_deref(), Some("hf_env"));
        let file = folder.path().join("other");
        fs::write(&file, "hf_other").unwrap();
        let hub = hub(&[("HF_HOME", home), ("HF_TOKEN_PATH", file.to_str().unwrap())]);
        assert_eq!(hub.token.as_deref(), Some("hf_other"));
        assert!(!format!("{hub:?}").contains("hf_other"));
    }

    #[test]
    fn switches_and_addresses() {
        assert_eq!(hub(&[]).endpoint, "https://huggingface.co");
        assert_eq!(hub(&[("HF_ENDPOINT", "https://mirror/hf/")]).endpoint, "https://mirror/hf");
        for (value, offline) in [("1", true), ("YES", true), ("true", true), ("0", false), ("", false)] {
            assert_eq!(hub(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value}");
        }
    }
}
