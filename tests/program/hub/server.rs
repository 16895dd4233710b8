//! A hub on this machine that serves one repository, and misbehaves on demand.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use sha1::Digest;
use tipi::low_level::hub::Hub;

pub const REPO: &str = "org/name";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong with one answer.
#[derive(Clone)]
pub enum Fault {
    /// The connection ends after so many bytes of the body.
    Drop(usize),
    /// Nothing more comes after so many bytes of the body, but the connection stays.
    Stall(usize),
    /// No answer at all, but the connection stays.
    Hang,
    /// The whole file is sent whatever range was asked for.
    IgnoreRange,
    /// A range that starts elsewhere than asked.
    OtherRange,
    /// One bit of the body is wrong.
    Wrong,
    /// The body ends too early, and the answer's header says so.
    Short,
    /// Something follows the body.
    Long,
    /// Another status, with further headers.
    Status(u16, &'static str),
    /// Sent elsewhere, to this host with the same path.
    Elsewhere(String),
    /// This text instead of the body.
    Text(String),
    /// Bytes with pauses between.
    Slow,
    /// The file's hash but no length, and a body that never ends: so many bytes at a time, with pauses.
    Endless(usize, Duration),
    /// Other headers for a file.
    Headers(String),
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
    pub at: Instant,
}

/// A file of the repository.
#[derive(Clone)]
pub struct Entry {
    pub bytes: Vec<u8>,
    pub large: bool,
}

impl Entry {
    pub fn hash(&self) -> String {
        let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect();
        if self.large {
            hex(&sha2::Sha256::digest(&self.bytes))
        } else {
            let mut hasher = sha1::Sha1::new();
            hasher.update(format!("blob {}\0", self.bytes.len()));
            hasher.update(&self.bytes);
            hex(&hasher.finalize())
        }
    }
}

/// What the server's threads share.
#[derive(Default)]
struct State {
    files: HashMap<String, Entry>,
    /// By method and the path's end: what goes wrong, and how often yet.
    faults: Vec<(&'static str, String, Fault, usize)>,
    seen: Vec<Seen>,
    commit: String,
}

/// The server. Its threads end with the test's process.
#[derive(Clone)]
pub struct Server {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

/// Bytes that are the same nowhere.
pub fn noise(size: usize, seed: u32) -> Vec<u8> {
    let mut state = 2 * seed + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

/// Whether a path's last parts are these, and not just its last letters.
fn is_for(path: &str, end: &str) -> bool {
    path.strip_suffix(end).is_some_and(|rest| rest.ends_with('/') || end.starts_with('/'))
}

impl Server {
    /// A server with a small model.
    pub fn start() -> Self {
        let server = Server::empty();
        server.put("config.json", b"{\"model_type\": \"clip\"}", false);
        server.put("preprocessor_config.json", b"{}", false);
        server.put("tokenizer.json", &noise(3_000, 5), true);
        server.put("README.md", b"# A model\n", false);
        server.put("LICENSE", b"MIT\n", false);
        server.put("pytorch_model.bin", &noise(10, 6), true);
        server.put("model.safetensors", &noise(600_000, 7), true);
        server
    }

    /// A server with an empty repository.
    pub fn empty() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = State { commit: COMMIT.to_owned(), ..State::default() };
        let server = Server { port, state: Arc::new(Mutex::new(state)) };
        let shared = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = shared.clone();
                // A client that goes away is no failure of the server's.
                thread::spawn(move || drop(server.answer(stream)));
            }
        });
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn put(&self, name: &str, bytes: &[u8], large: bool) {
        self.state().files.insert(name.to_owned(), Entry { bytes: bytes.to_vec(), large });
    }

    pub fn remove(&self, name: &str) {
        self.state().files.remove(name);
    }

    pub fn set_commit(&self, commit: &str) {
        commit.clone_into(&mut self.state().commit);
    }

    pub fn file(&self, name: &str) -> Entry {
        self.state().files[name].clone()
    }

    /// Lets `times` answers to `method` for paths that end with `end` go wrong.
    pub fn fault(&self, method: &'static str, end: &str, fault: Fault, times: usize) {
        self.state().faults.push((method, end.to_owned(), fault, times));
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state().seen.clone()
    }

    /// The ranges that GET requests for a file asked for.
    pub fn ranges(&self, end: &str) -> Vec<Option<String>> {
        self.seen().into_iter().filter(|s| s.method == "GET" && is_for(&s.path, end)).map(|s| s.range).collect()
    }

    /// Waits until a file has been asked for so many times.
    pub fn wait_for(&self, end: &str, times: usize) {
        let start = Instant::now();
        while self.ranges(end).len() < times {
            assert!(start.elapsed() < Duration::from_secs(10), "nobody asks for {end}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client that does not wait long.
    pub fn hub(&self, cache: &Path) -> Hub {
        let mut hub = Hub::new(cache);
        hub.endpoint = self.endpoint();
        hub.timeout = Duration::from_secs(5);
        hub.retries = 3;
        hub.backoff = Duration::from_millis(2);
        hub
    }

    fn take_fault(&self, method: &str, path: &str) -> Option<Fault> {
        let mut state = self.state();
        let found =
            state.faults.iter_mut().find(|(m, end, _, times)| *m == method && is_for(path, end) && *times > 0)?;
        found.3 -= 1;
        Some(found.2.clone())
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let (mut range, mut token) = (None, None);
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim().split_once(':') else { break };
            let value = Some(value.trim().to_owned());
            match name.to_ascii_lowercase().as_str() {
                "range" => range = value,
                "authorization" => token = value,
                _ => {}
            }
        }
        let seen = Seen { method: method.into(), path: path.into(), range: range.clone(), token, at: Instant::now() };
        self.state().seen.push(seen);
        let fault = self.take_fault(method, path);
        let start = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        self.reply(stream, (method, path), start, fault.as_ref())
    }

    fn reply(
        &self,
        mut stream: TcpStream,
        (method, path): (&str, &str),
        start: Option<usize>,
        fault: Option<&Fault>,
    ) -> std::io::Result<()> {
        let plain = |stream: &mut TcpStream, status: u16, headers: &str, body: &str| {
            let length = body.len();
            let close = "Connection: close";
            write!(stream, "HTTP/1.1 {status} x\r\n{close}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
        };
        let long_enough = Duration::from_secs(20);
        match fault {
            Some(Fault::Hang) => {
                thread::sleep(long_enough);
                return Ok(());
            }
            Some(Fault::Status(status, headers)) => return plain(&mut stream, *status, headers, ""),
            Some(Fault::Text(text)) => return plain(&mut stream, 200, "", text),
            Some(Fault::Headers(headers)) => return plain(&mut stream, 200, headers, ""),
            _ => {}
        }
        let listing = path.starts_with("/api/models/org/name/revision/");
        if let Some(Fault::Endless(count, pause)) = fault {
            let name = path.rsplit('/').next().unwrap_or_default();
            let tag = self.state().files.get(name).map(|entry| format!("ETag: \"{}\"\r\n", entry.hash()));
            write!(stream, "HTTP/1.1 200 x\r\nConnection: close\r\n{}\r\n", tag.unwrap_or_default())?;
            let bytes = vec![b' '; *count];
            if method == "HEAD" {
                return Ok(());
            }
            // Ends when the client has heard enough.
            loop {
                stream.write_all(&bytes)?;
                thread::sleep(*pause);
            }
        }
        let (commit, names) = {
            let state = self.state();
            (state.commit.clone(), state.files.keys().cloned().collect::<Vec<_>>())
        };
        if listing && path.contains("/nowhere") {
            return plain(&mut stream, 404, "X-Error-Code: RevisionNotFound\r\n", "");
        }
        if listing {
            let siblings: Vec<_> = names.iter().map(|name| serde_json::json!({"rfilename": name})).collect();
            let body = serde_json::json!({"sha": commit, "siblings": siblings}).to_string();
            return plain(&mut stream, 200, "", &body);
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let expected = format!("/org/name/resolve/{commit}/{name}");
        let Some(entry) = self.state().files.get(name).filter(|_| path == expected).cloned() else {
            return plain(&mut stream, 404, "", "");
        };
        let (hash, size) = (entry.hash(), entry.bytes.len());
        let described = if entry.large {
            format!("X-Linked-Etag: \"{hash}\"\r\nX-Linked-Size: {size}\r\nETag: \"of the file server\"\r\n")
        } else {
            format!("ETag: W/\"{hash}\"\r\n")
        };
        let headers = format!("X-Repo-Commit: {commit}\r\nConnection: close\r\n{described}");
        if let Some(Fault::Elsewhere(host)) = fault {
            return write!(
                stream,
                "HTTP/1.1 302 x\r\n{headers}Location: {host}{path}\r\nContent-Length: 3\r\n\r\n{}",
                if method == "HEAD" { "" } else { "abc" }
            );
        }
        let start = if matches!(fault, Some(Fault::IgnoreRange)) { None } else { start };
        let from = start.unwrap_or(0);
        if from > size {
            return plain(&mut stream, 416, "", "");
        }
        let (mut body, mut status) = (entry.bytes[from..].to_vec(), String::from("200 x"));
        if start.is_some() {
            let said = from + usize::from(matches!(fault, Some(Fault::OtherRange)));
            status = format!("206 x\r\nContent-Range: bytes {said}-{}/{size}", size - 1);
        }
        match fault {
            Some(Fault::Wrong) => body[0] ^= 1,
            Some(Fault::Short) => body.truncate(body.len() / 2),
            Some(Fault::Long) => body.extend(b"more"),
            _ => {}
        }
        write!(stream, "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n", body.len())?;
        if method == "HEAD" {
            return Ok(());
        }
        match fault {
            Some(Fault::Drop(count)) => stream.write_all(&body[..*count]),
            Some(Fault::Stall(count)) => {
                stream.write_all(&body[..*count])?;
                thread::sleep(long_enough);
                Ok(())
            }
            Some(Fault::Slow) => body.chunks(body.len() / 10 + 1).try_for_each(|chunk| {
                thread::sleep(Duration::from_millis(30));
                stream.write_all(chunk)
            }),
            _ => stream.write_all(&body),
        }
    }
}
