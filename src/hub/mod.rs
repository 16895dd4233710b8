//! Models from the Hugging Face hub.
//!
//! [`Hub::resolve`] takes what a user names a model by, a folder or `ORG/NAME`, to a folder. Models are fetched once,
//! into the cache that Python's `huggingface_hub` uses, so that what either has fetched serves both.
//!
//! Only what tipi reads is fetched. Bytes are checked against the hub's hashes before they get a file's name; a fetch
//! that was interrupted goes on where it stopped.
//!
//! The cache's layout comes from the crate `hf-hub`, the transfers are tipi's own. Those of `hf-hub` 0.5.0 (`api::sync`)
//! set no time limit, never check a hash, and append to a partial file whatever answers a range request, a whole file
//! included; `create_ref` overwrites in place, and the server's ETag becomes a path unread. Those of 1.0.0
//! (`repository::download`) check no hash either and begin every interrupted file anew (`File::create` on the partial
//! one), and bring an asynchronous runtime and some 300 crates.
//!
//! ```no_run
//! # fn main() -> tipi::Result<()> {
//! let hub = tipi::low_level::hub::Hub::from_env()?;
//! let folder = hub.resolve("openai/clip-vit-base-patch32", &mut |p| eprintln!("{} {}/{}", p.file, p.done, p.total))?;
//! # Ok(())
//! # }
//! ```

mod address;
mod env;
mod fetch;
mod http;
mod names;
mod steady;
mod store;
mod weights;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::hub::address::shown;
use crate::hub::fetch::Remote;
use crate::hub::http::Client;
use crate::hub::store::Store;
use crate::{Error, Result};

/// The hub's address, unless HF_ENDPOINT gives another.
pub const ENDPOINT: &str = "https://huggingface.co";
/// The revision that is meant where none is given.
pub const REVISION: &str = "main";

/// Where models come from and where they are kept.
#[derive(Clone)]
pub struct Hub {
    /// The hub's address, or a mirror's.
    pub endpoint: String,
    /// The cache folder; it need not exist yet.
    pub cache: PathBuf,
    /// The user's token, sent to the endpoint's server and to no other.
    pub token: Option<String>,
    /// Whether to make do with the cache.
    pub offline: bool,
    /// PEM file of the certificates to trust instead of the built-in ones, for networks with an inspecting proxy.
    pub certificates: Option<PathBuf>,
    /// Longest wait for a connection, an answer or more bytes of one; a whole file may take as long as it needs, as long as
    /// it brings a kilobyte a second on average over such a time.
    pub timeout: Duration,
    /// How often a request is sent again when it brings nothing.
    pub retries: u32,
    /// Pause before it is sent again, doubled each time.
    pub backoff: Duration,
}

/// How far fetching a model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file that is being fetched.
    pub file: &'a str,
    /// Bytes of it that are there; fewer than before where a server begins anew.
    pub file_done: u64,
    /// Bytes of it, or 0 if the hub does not say.
    pub file_total: u64,
    /// Bytes of all files that are there.
    pub done: u64,
    /// Bytes of all files.
    pub total: u64,
}

impl Hub {
    /// The public hub without a token, with a cache of one's own.
    pub fn new(cache: impl Into<PathBuf>) -> Self {
        Hub {
            endpoint: ENDPOINT.to_owned(),
            cache: cache.into(),
            token: None,
            offline: false,
            certificates: None,
            timeout: Duration::from_secs(30),
            retries: 4,
            backoff: Duration::from_millis(500),
        }
    }

    /// The settings that Python's `huggingface_hub` would take from the environment: HF_HUB_CACHE, HF_HOME or
    /// XDG_CACHE_HOME for the cache, HF_TOKEN or the token file (HF_TOKEN_PATH) for the token, HF_ENDPOINT, and
    /// HF_HUB_OFFLINE. SSL_CERT_FILE names certificates. Proxies are taken from HTTPS_PROXY and NO_PROXY.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if nothing says where the cache is and the user has no home folder.
    pub fn from_env() -> Result<Self> {
        Self::from_vars(std::env::home_dir().as_deref(), |name| std::env::var_os(name))
    }

    /// The folder that `spec` names: an existing folder (or file of weights), or a model on the hub as `ORG/NAME` or `ORG/NAME@REVISION`,
    /// which is taken from the cache if it is there and fetched if not.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if `spec` is neither, and the errors of [`Hub::pull`].
    pub fn resolve(&self, spec: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf> {
        let path = Path::new(spec);
        if path.exists() {
            return Ok(path.to_path_buf());
        }
        let (repo, revision) = spec.split_once('@').unwrap_or((spec, REVISION));
        if !names::repo(repo) || !names::revision(revision) {
            return Err(Error::invalid(format!(
                "'{spec}' is neither an existing folder or file nor a model on the hub, ORG/NAME or ORG/NAME@REVISION; check \
                 the path"
            )));
        }
        if let Some(folder) = self.cached(repo, revision) {
            return Ok(self.completed(repo, folder, progress));
        }
        self.pull(repo, revision, progress).map_err(|error| match error {
            // `ORG/NAME` may have been meant as a path.
            Error::Hub { repo, reason } => Error::hub(repo, format!("{reason} (nor is there a folder '{spec}' here)")),
            other => other,
        })
    }

    /// Adds what Python did not need when it fetched the weights, but tipi does. Without it a model still has its uses,
    /// so that failing is no error, and worth no second try.
    fn completed(&self, repo: &str, folder: PathBuf, progress: &mut dyn FnMut(Progress<'_>)) -> PathBuf {
        let store = Store::new(&self.cache, repo);
        let known = |commit: &str| weights::beside().all(|name| store.knows(commit, name));
        // The commit and not the branch, which may have gone on to other weights.
        match folder.file_name().and_then(|name| name.to_str()) {
            Some(commit) if !self.offline && !known(commit) => {
                let hub = Hub { retries: 0, ..self.clone() };
                hub.pull(repo, commit, progress).unwrap_or(folder)
            }
            _ => folder,
        }
    }

    /// The cached folder of a model whose configuration and weights are all there, without asking the hub. A branch
    /// stands for the commit that it had when it was last fetched.
    pub fn cached(&self, repo: &str, revision: &str) -> Option<PathBuf> {
        if !names::repo(repo) || !names::revision(revision) {
            return None;
        }
        let store = Store::new(&self.cache, repo);
        let snapshot = store.snapshot(&store.commit(revision)?);
        store::is_complete(&snapshot).then_some(snapshot)
    }

    /// Fetches what is missing of a model, at a branch, tag or commit, and gives its folder in the cache.
    ///
    /// Weights are `model.safetensors` or, where there is none, the files that `model.safetensors.index.json` names;
    /// where there is neither, the same with `open_clip_model`; and where there are no safetensors, torch's
    /// `pytorch_model.bin` and its like. With them come the configurations, the tokenizer, the
    /// readme and the licence. A revision's new commit is noted only when all of its files are there.
    ///
    /// # Errors
    ///
    /// [`Error::Hub`] if the names are malformed, the hub is offline or cannot be reached, has no such repository or
    /// does not let this user read it, if the repository is no model that tipi reads, or if bytes arrive wrong twice.
    /// [`Error::Io`] if the cache cannot be written or the disk is full. Running it again goes on where it stopped.
    pub fn pull(&self, repo: &str, revision: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf> {
        if !names::repo(repo) {
            return Err(Error::hub(format!("'{repo}'"), "not the name of a repository on the hub; write ORG/NAME"));
        }
        if !names::revision(revision) {
            return Err(Error::hub(
                repo,
                format!("'{revision}' cannot be a revision; give a branch, a tag or a commit, such as {REVISION}"),
            ));
        }
        if self.offline {
            return self.cached(repo, revision).ok_or_else(|| {
                Error::hub(
                    repo,
                    format!(
                        "offline, and revision '{revision}' is not complete in {}; unset HF_HUB_OFFLINE to fetch it",
                        self.cache.display()
                    ),
                )
            });
        }
        let client = Client::new(self, repo, revision)?;
        let (commit, listed) = listing(&client, revision)?;
        let wanted = weights::wanted(repo, &listed).map_err(|reason| client.error(reason))?;
        let store = Store::new(&self.cache, repo);
        let pull = Pull { client: &client, store: &store, commit: &commit };
        let mut names = wanted.files;
        if let Some(index) = wanted.index {
            // First, since it says what else there is to fetch.
            if let Some(remote) = pull.plan(index)?.remote {
                pull.fetch(&remote, &mut |_| {})?;
            }
            let shards = weights::shards(&store.snapshot(&commit).join(index))?;
            if let Some(missing) = shards.iter().find(|shard| !listed.contains(*shard)) {
                return Err(client.error(format!("{index} names {missing}, which the repository does not have")));
            }
            names.push(index.to_owned());
            names.extend(shards);
        }
        let plans = names.iter().map(|name| pull.plan(name)).collect::<Result<Vec<_>>>()?;
        let total = plans.iter().map(|plan| plan.size).sum();
        let mut before = 0;
        for (name, plan) in names.iter().zip(&plans) {
            let mut tell = |file_done| {
                let done = before + file_done;
                progress(Progress { file: name, file_done, file_total: plan.size, done, total });
            };
            if let Some(remote) = &plan.remote {
                pull.fetch(remote, &mut tell)?;
            }
            tell(plan.size);
            before += plan.size;
        }
        for name in weights::beside() {
            if !store.knows(&commit, name) {
                store.set_absent(&commit, name);
            }
        }
        store.set_commit(revision, &commit)?;
        Ok(store.snapshot(&commit))
    }
}

impl fmt::Debug for Hub {
    /// All but the token and a password in the endpoint, which belong in no log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hub { endpoint, cache, token, offline, certificates, timeout, retries, backoff } = self;
        f.debug_struct("Hub")
            .field("endpoint", &shown(endpoint))
            .field("cache", cache)
            .field("token", &token.as_ref().map(|_| "…"))
            .field("offline", offline)
            .field("certificates", certificates)
            .field("timeout", timeout)
            .field("retries", retries)
            .field("backoff", backoff)
            .finish()
    }
}

/// A revision's commit and file names.
fn listing(client: &Client<'_>, revision: &str) -> Result<(String, BTreeSet<String>)> {
    #[derive(Deserialize)]
    struct Info {
        sha: String,
        siblings: Vec<Sibling>,
    }
    #[derive(Deserialize)]
    struct Sibling {
        rfilename: String,
    }
    let revision = revision.replace('/', "%2F").replace('+', "%2B");
    let address = client.address(&format!("api/models/{}/revision/{revision}", client.repo));
    let info: Info = serde_json::from_str(&client.text(&address)?).map_err(|error| {
        client.error(format!("{} answers with no listing of a model ({error}); check HF_ENDPOINT", shown(&address)))
    })?;
    if !names::is_commit(&info.sha) {
        return Err(client.error(format!("{} gives {:?} for a commit; check HF_ENDPOINT", shown(&address), info.sha)));
    }
    Ok((info.sha, info.siblings.into_iter().map(|sibling| sibling.rfilename).collect()))
}

/// A file to be had.
struct Plan {
    size: u64,
    /// Nothing if the snapshot has it already.
    remote: Option<Remote>,
}

/// Fetching one commit.
struct Pull<'a> {
    client: &'a Client<'a>,
    store: &'a Store,
    commit: &'a str,
}

impl Pull<'_> {
    /// Finds out about a file, without asking if it is there: a commit's files never change.
    fn plan(&self, name: &str) -> Result<Plan> {
        match fs::metadata(self.store.snapshot(self.commit).join(name)) {
            Ok(found) if found.is_file() => Ok(Plan { size: found.len(), remote: None }),
            _ => {
                let remote = Remote::ask(self.client, self.commit, name)?;
                Ok(Plan { size: remote.size.unwrap_or_default(), remote: Some(remote) })
            }
        }
    }

    /// Fetches a file into the snapshot.
    fn fetch(&self, remote: &Remote, progress: &mut dyn FnMut(u64)) -> Result<()> {
        remote.fetch(self.client, self.store, progress)?;
        self.store.link(&remote.hash, self.commit, &remote.name)
    }
}
