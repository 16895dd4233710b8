//! One file: asking for its hash and size, getting its bytes (the rest of them, when some are there), and checking
//! them before anything is called by its name.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::http::StatusCode;

use crate::hub::address::shown;
use crate::hub::http::{Client, Failure, plain};
use crate::hub::names;
use crate::hub::store::{Store, make_folder_of};
use crate::hub::weights;
use crate::{Error, Result, input};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// The most bytes of a file that is no weights, or of which the hub does not say how many it has: what the largest of them, a
/// tokenizer, may have where it is read.
const MAX_SMALL: u64 = input::limit::TOKENIZER;

/// A file of a repository, as the hub describes it.
pub(super) struct Remote {
    pub(super) name: String,
    /// Its bytes' hash, which is also the blob's name: SHA-256 of a large file, git's SHA-1 of a small one.
    pub(super) hash: String,
    pub(super) size: Option<u64>,
    address: String,
}

impl Remote {
    /// Asks the hub about a file of a commit.
    pub(super) fn ask(client: &Client<'_>, commit: &str, name: &str) -> Result<Self> {
        let address = client.address(&format!("{}/resolve/{commit}/{name}", client.repo));
        let reply = client.head(&address)?;
        if let Some(other) = reply.header("x-repo-commit").filter(|found| *found != commit) {
            return Err(client.error(format!("{name} comes from commit {other} instead of {commit}; try again")));
        }
        let tag = reply.header("x-linked-etag").or_else(|| reply.header("etag")).unwrap_or_default();
        let hash = tag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
        if !names::is_hex(&hash, 64) && !names::is_hex(&hash, 40) {
            return Err(client.error(format!(
                "{} gives no hash for {name} (ETag '{tag}'), so that its bytes cannot be checked; check HF_ENDPOINT",
                shown(&client.hub.endpoint)
            )));
        }
        // Without the hub's own header the length is the file's only if this is not a redirect's.
        let length = if reply.status.is_success() { reply.header("content-length") } else { None };
        let size: Option<u64> = reply.header("x-linked-size").or(length).and_then(|size| size.parse().ok());
        // Weights may be as large as the hub says; of anything else no model has so much.
        if let Some(size) =
            size.filter(|size| *size > MAX_SMALL && !weights::ENDINGS.iter().any(|ending| name.ends_with(ending)))
        {
            return Err(client.error(format!("{name} should have {size} bytes, more than {MAX_SMALL}; do not use it")));
        }
        Ok(Remote { name: name.to_owned(), hash, size, address })
    }

    /// Makes the file's blob be there and right. `progress` is told how many bytes there are.
    pub(super) fn fetch(&self, client: &Client<'_>, store: &Store, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let blob = store.blob(&self.hash);
        if self.is_there(&blob) {
            return Ok(());
        }
        make_folder_of(&blob)?;
        let lock = store.lock(&self.hash)?;
        // Whoever had the lock may have fetched it.
        if self.is_there(&blob) {
            return Ok(());
        }
        // A name of our own: Python would go on with a partial file of its name without checking the sum. Without
        // locks two processes must not share one.
        let own = if lock.is_some() { String::new() } else { format!(".{}", std::process::id()) };
        let part = blob.with_file_name(format!("{}{own}.tipi.incomplete", self.hash));
        let mut wrong = String::new();
        for _ in 0..2 {
            match self.get(client, &part, progress)? {
                Ok(()) => {
                    fs::rename(&part, &blob).map_err(|source| Error::io(&blob, source))?;
                    return Ok(());
                }
                Err(reason) => wrong = reason,
            }
            fs::remove_file(&part).map_err(|source| Error::io(&part, source))?;
        }
        Err(client.error(format!(
            "{} arrived wrong twice and was thrown away: {wrong}; try again later, or check HF_ENDPOINT and the proxy",
            self.name
        )))
    }

    fn is_there(&self, blob: &Path) -> bool {
        fs::metadata(blob).is_ok_and(|found| found.is_file() && self.size.is_none_or(|size| size == found.len()))
    }

    /// Gets the bytes into `part`, in as many tries as it takes, and checks them. The inner error says how they are
    /// wrong.
    fn get(
        &self,
        client: &Client<'_>,
        part: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<std::result::Result<(), String>> {
        let io = |source| Error::io(part, source);
        let mut file =
            input::open_with(OpenOptions::new().create(true).truncate(false).write(true), part).map_err(io)?;
        let what = format!("fetching {}", self.name);
        let mut patience = client.patience();
        let mut most = file.metadata().map_err(io)?.len();
        loop {
            let mut have = file.seek(SeekFrom::End(0)).map_err(io)?;
            // Of a file of unknown size nobody could say whether a part is all of it.
            if self.size.is_none_or(|size| have > size) {
                empty(&mut file).map_err(io)?;
                have = 0;
            }
            if self.size == Some(have) {
                break;
            }
            match self.attempt(client, &mut file, part, have, progress) {
                Ok(Some(too_long)) => return Ok(Err(too_long)),
                Ok(None) => break,
                Err(failure) => {
                    // A connection that drops again and again is no failure as long as each brings the file forward.
                    let now = file.metadata().map_err(io)?.len();
                    if now >= most.saturating_add(client.least()) {
                        most = now;
                        patience.restore();
                    }
                    patience.bear(&what, failure)?;
                }
            }
        }
        // The name must not reach the disk before the bytes do.
        file.sync_all().map_err(io)?;
        drop(file);
        let found = hash_of(part, self.hash.len()).map_err(io)?;
        if found == self.hash {
            return Ok(Ok(()));
        }
        let kind = if self.hash.len() == 64 { "SHA-256" } else { "git SHA-1" };
        Ok(Err(format!("its {kind} is {found}, expected {}", self.hash)))
    }

    /// One request, whose bytes are added to `file`, which has `have`. Success says how the answer is too long, if it
    /// is.
    fn attempt(
        &self,
        client: &Client<'_>,
        file: &mut File,
        part: &Path,
        have: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<String>, Failure> {
        let io = |source| Failure::Final(Error::io(part, source));
        let reply = match client.get(&self.address, (have > 0).then_some(have)) {
            Ok(reply) => reply,
            Err(failure) => {
                // What is there may be what the server objects to.
                if matches!(failure, Failure::Passing { status: Some(StatusCode::RANGE_NOT_SATISFIABLE), .. }) {
                    empty(file).map_err(io)?;
                }
                return Err(failure);
            }
        };
        let mut have = have;
        if reply.status == StatusCode::PARTIAL_CONTENT {
            let range = reply.header("content-range").unwrap_or_default();
            if first_of(range) != Some(have) {
                empty(file).map_err(io)?;
                return Err(Failure::passing(format!("asked for bytes from {have} on, got '{range}'")));
            }
        } else if have > 0 {
            // The server knows no ranges and sends everything again.
            empty(file).map_err(io)?;
            have = 0;
        }
        progress(have);
        // Without a size from the hub the file is a small one, whatever this answer says of its length.
        let most = self.size.unwrap_or(MAX_SMALL);
        let mut body = client.body(reply.body);
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::passing(format!("after {have} bytes: {}", plain(&error)))),
            };
            have += count as u64;
            if have > most {
                return Ok(Some(format!("it has more than the {most} bytes that it should have")));
            }
            file.write_all(&chunk[..count]).map_err(io)?;
            progress(have);
        }
        match self.size {
            Some(size) if have < size => {
                Err(Failure::passing(format!("the answer ended after {have} of {size} bytes")))
            }
            _ => Ok(None),
        }
    }
}

/// Makes a file empty, to be written from its start.
fn empty(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()
}

/// The first position that a `Content-Range` gives.
fn first_of(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// A file's hash: SHA-256 if it has 64 digits, else the SHA-1 that git gives its blob.
fn hash_of(path: &Path, digits: usize) -> io::Result<String> {
    let file = input::open_with(OpenOptions::new().read(true), path)?;
    let size = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(CHUNK, file);
    if digits == 64 {
        digest(&mut reader, Sha256::new())
    } else {
        digest(&mut reader, Sha1::new_with_prefix(format!("blob {size}\0")))
    }
}

fn digest<D: Digest>(reader: &mut impl Read, mut hasher: D) -> io::Result<String> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match reader.read(&mut chunk)? {
            0 => break,
            count => hasher.update(&chunk[..count]),
        }
    }
    Ok(crate::hex(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_of_sha256sum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "hello\n").unwrap();
        // `git hash-object` and `sha256sum`.
        assert_eq!(hash_of(&path, 40).unwrap(), "ce013625030ba8dba906f756967f9e9ca394464a");
        assert_eq!(hash_of(&path, 64).unwrap(), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
    }

    #[test]
    fn ranges() {
        assert_eq!(first_of("bytes 7-9/10"), Some(7));
        for odd in ["", "bytes */10", "items 7-9/10", "bytes -9/10"] {
            assert_eq!(first_of(odd), None, "{odd}");
        }
    }
}
