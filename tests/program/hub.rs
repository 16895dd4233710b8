//! Fetching models from a hub that drops connections, serves wrong bytes and names hostile things.

#![cfg(feature = "hub")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "hub/server.rs"]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use server::{COMMIT, Fault, REPO, Server, noise};
use tempfile::TempDir;
use tipi::low_level::hub::{Hub, REVISION};

const WEIGHTS: &str = "model.safetensors";
/// More often than anybody asks.
const ALWAYS: usize = 1_000;

fn pull(hub: &Hub) -> tipi::Result<PathBuf> {
    hub.pull(REPO, REVISION, &mut |_| {})
}

/// The message of a fetch that must fail, which must name the repository.
fn refusal(hub: &Hub) -> String {
    let error = pull(hub).unwrap_err();
    assert!(matches!(&error, tipi::Error::Hub { repo, .. } if repo == REPO), "{error:?}");
    error.to_string()
}

fn folder(cache: &Path) -> PathBuf {
    cache.join("models--org--name")
}

fn blob(server: &Server, cache: &Path, name: &str) -> PathBuf {
    folder(cache).join("blobs").join(server.file(name).hash())
}

/// Everything below a folder that is not a folder, and is there, with links followed.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found
}

/// The part of a blob that is there.
fn partial(cache: &Path) -> PathBuf {
    let found: Vec<_> =
        files_below(&folder(cache)).into_iter().filter(|p| p.extension().is_some_and(|e| e == "incomplete")).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// Nothing that a model would be read from is there under the name of `name`.
fn assert_nothing_lies(server: &Server, cache: &Path, name: &str) {
    assert!(!blob(server, cache, name).exists());
    assert!(fs::symlink_metadata(folder(cache).join("snapshots").join(COMMIT).join(name)).is_err());
    assert!(!folder(cache).join("refs").join(REVISION).exists());
    assert_eq!(server.hub(cache).cached(REPO, REVISION), None);
}

/// The model is there, byte for byte.
fn assert_whole(server: &Server, snapshot: &Path) {
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json", "README.md", "LICENSE", WEIGHTS] {
        assert!(fs::read(snapshot.join(name)).unwrap() == server.file(name).bytes, "{name}");
    }
}

#[test]
fn a_model_is_laid_out_as_python_does() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let snapshot = pull(&server.hub(cache.path())).unwrap();
    assert_eq!(snapshot, folder(cache.path()).join("snapshots").join(COMMIT));
    assert_whole(&server, &snapshot);
    assert_eq!(fs::read_to_string(folder(cache.path()).join("refs/main")).unwrap(), COMMIT);
    assert_eq!(fs::read(blob(&server, cache.path(), WEIGHTS)).unwrap(), server.file(WEIGHTS).bytes);
    #[cfg(unix)]
    assert_eq!(
        fs::read_link(snapshot.join(WEIGHTS)).unwrap(),
        Path::new("../../blobs").join(server.file(WEIGHTS).hash())
    );
    // What only Python reads was left where it is, and nothing unfinished lies about.
    assert!(server.seen().iter().all(|seen| !seen.path.ends_with(".bin")));
    let names: Vec<_> = files_below(&folder(cache.path())).into_iter().map(|p| p.display().to_string()).collect();
    assert!(names.iter().all(|name| !name.contains("incomplete") && !name.contains(".tipi-")), "{names:?}");
    // What the repository does not have is noted.
    assert!(folder(cache.path()).join(".no_exist").join(COMMIT).join("open_clip_config.json").is_file());
}

#[test]
fn progress_adds_up() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", WEIGHTS, Fault::Drop(250_000), 1);
    let mut told = Vec::new();
    server
        .hub(cache.path())
        .pull(REPO, REVISION, &mut |p| told.push((p.file.to_owned(), p.file_done, p.file_total, p.done, p.total)))
        .unwrap();
    let names = ["LICENSE", "README.md", "config.json", "preprocessor_config.json", "tokenizer.json", WEIGHTS];
    let sizes = names.map(|name| server.file(name).bytes.len() as u64);
    let all: u64 = sizes.iter().sum();
    assert!(told.iter().all(|(_, file_done, file_total, done, total)| {
        file_done <= file_total && file_done <= done && done <= total && *total == all
    }));
    assert!(told.windows(2).all(|pair| pair[0].3 <= pair[1].3), "it went back");
    assert!(told.iter().any(|told| told.0 == WEIGHTS && told.1 == 250_000), "the part is not told");
    for (name, size) in names.iter().zip(sizes) {
        let last = told.iter().rfind(|told| told.0 == *name).unwrap();
        assert_eq!((last.1, last.2), (size, size), "{name}");
    }
    assert_eq!(told.last().unwrap().3, all);
}

#[test]
fn what_is_cached_needs_no_hub() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let mut hub = server.hub(cache.path());
    assert_eq!(hub.cached(REPO, REVISION), None);
    hub.offline = true;
    let message = refusal(&hub);
    assert!(message.contains("offline") && message.contains("HF_HUB_OFFLINE"), "{message}");
    assert!(server.seen().is_empty(), "asked although offline");
    hub.offline = false;
    let snapshot = pull(&hub).unwrap();
    let before = server.seen().len();
    for offline in [true, false] {
        hub.offline = offline;
        assert_eq!(hub.cached(REPO, REVISION).as_ref(), Some(&snapshot));
        assert_eq!(hub.cached(REPO, COMMIT).as_ref(), Some(&snapshot));
        assert_eq!(hub.cached(REPO, "other"), None);
        for spec in [REPO.to_owned(), format!("{REPO}@main"), format!("{REPO}@{COMMIT}")] {
            assert_eq!(hub.resolve(&spec, &mut |_| {}).unwrap(), snapshot);
        }
    }
    assert_eq!(server.seen().len(), before);
    hub.offline = true;
    assert_eq!(pull(&hub).unwrap(), snapshot);
    // Fetched again, only the listing is asked for.
    hub.offline = false;
    pull(&hub).unwrap();
    assert_eq!(server.seen().len(), before + 1);
    // A link to a blob that somebody removed is no file.
    fs::remove_file(blob(&server, cache.path(), WEIGHTS)).unwrap();
    assert_eq!(hub.cached(REPO, REVISION), None);
    assert_whole(&server, &pull(&hub).unwrap());
}

#[test]
fn a_model_is_named_by_folder_or_repository() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let hub = server.hub(cache.path());
    let resolve = |spec: &str| hub.resolve(spec, &mut |_| {});
    assert_eq!(resolve(cache.path().to_str().unwrap()).unwrap(), cache.path());
    let file = cache.path().join("a.txt");
    fs::write(&file, "").unwrap();
    assert_eq!(resolve(file.to_str().unwrap()).unwrap(), file);
    for bad in ["clip", "./no/folder", "a/b/c", "org/name@../x", "org/name@", ""] {
        let message = resolve(bad).unwrap_err().to_string();
        assert!(message.contains("neither an existing folder or file nor a model"), "{bad}: {message}");
    }
    assert!(server.seen().is_empty());
    let message = resolve("org/other").unwrap_err().to_string();
    assert!(message.contains("model org/other:") && message.contains("nor is there a folder 'org/other'"), "{message}");
    assert_whole(&server, &resolve("org/name@main").unwrap());
}

#[test]
fn what_python_did_not_fetch_is_added_once() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.remove("preprocessor_config.json");
    let hub = server.hub(cache.path());
    let snapshot = pull(&hub).unwrap();
    fs::remove_file(snapshot.join("tokenizer.json")).unwrap();
    fs::remove_dir_all(folder(cache.path()).join(".no_exist")).unwrap();
    // Where it cannot be had, the model is still good for something, and no time is lost.
    server.fault("GET", "revision/0123456789abcdef0123456789abcdef01234567", Fault::Status(500, ""), 1);
    let before = server.seen().len();
    assert_eq!(hub.resolve(REPO, &mut |_| {}).unwrap(), snapshot);
    assert_eq!(server.seen().len(), before + 1);
    assert!(!snapshot.join("tokenizer.json").exists());
    assert_eq!(hub.resolve(REPO, &mut |_| {}).unwrap(), snapshot);
    assert!(snapshot.join("tokenizer.json").is_file());
    let before = server.seen().len();
    assert_eq!(hub.resolve(REPO, &mut |_| {}).unwrap(), snapshot);
    assert_eq!(server.seen().len(), before);
}

#[test]
fn a_dropped_connection_goes_on_where_it_was() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    // More drops than tries: each brings the file forward.
    server.fault("GET", WEIGHTS, Fault::Drop(100_000), 5);
    let snapshot = pull(&server.hub(cache.path())).unwrap();
    assert_whole(&server, &snapshot);
    let expected: Vec<_> = std::iter::once(None)
        .chain([100_000, 200_000, 300_000, 400_000, 500_000].map(|start| Some(format!("bytes={start}-"))))
        .collect();
    assert_eq!(server.ranges(WEIGHTS), expected);
}

#[test]
fn drops_without_a_byte_come_to_an_end() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", WEIGHTS, Fault::Drop(0), ALWAYS);
    let message = refusal(&server.hub(cache.path()));
    assert!(message.contains(WEIGHTS) && message.contains("4 times in a row"), "{message}");
    assert_eq!(server.ranges(WEIGHTS).len(), 4);
    assert_nothing_lies(&server, cache.path(), WEIGHTS);
}

/// Another process that fetches the model: this test program again, told so by its environment.
fn other_process(server: &Server, cache: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "as_another_process"])
        .env("TIPI_TEST_ENDPOINT", server.endpoint())
        .env("TIPI_TEST_CACHE", cache)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn as_another_process() {
    let (Ok(endpoint), Some(cache)) = (std::env::var("TIPI_TEST_ENDPOINT"), std::env::var_os("TIPI_TEST_CACHE")) else {
        return;
    };
    let hub = Hub { endpoint, backoff: Duration::from_millis(2), ..Hub::new(cache) };
    pull(&hub).unwrap();
}

#[test]
fn a_killed_process_is_gone_on_from_by_the_next() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", WEIGHTS, Fault::Stall(200_000), 1);
    let mut child = other_process(&server, cache.path());
    server.wait_for(WEIGHTS, 1);
    let start = Instant::now();
    while fs::metadata(partial(cache.path())).unwrap().len() < 200_000 {
        assert!(start.elapsed() < Duration::from_secs(10), "the part does not grow");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_nothing_lies(&server, cache.path(), WEIGHTS);
    assert_whole(&server, &pull(&server.hub(cache.path())).unwrap());
    assert_eq!(server.ranges(WEIGHTS), [None, Some("bytes=200000-".to_owned())]);
    // What was whole was not fetched again.
    assert_eq!(server.ranges("tokenizer.json").len(), 1);
}

#[test]
fn two_processes_fetch_a_model_once() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", WEIGHTS, Fault::Slow, ALWAYS);
    let mut child = other_process(&server, cache.path());
    let here = pull(&server.hub(cache.path())).unwrap();
    assert!(child.wait().unwrap().success());
    assert_whole(&server, &here);
    let asked = server.seen().iter().filter(|seen| seen.path.contains("/revision/")).count();
    assert_eq!(asked, 2, "both must have fetched");
    assert_eq!(server.ranges(WEIGHTS).len(), 1, "one must have waited for the other");
}

#[test]
fn a_server_without_ranges_sends_everything_again() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", WEIGHTS, Fault::Drop(100_000), 1);
    server.fault("GET", WEIGHTS, Fault::IgnoreRange, 1);
    assert_whole(&server, &pull(&server.hub(cache.path())).unwrap());
    assert_eq!(server.ranges(WEIGHTS), [None, Some("bytes=100000-".to_owned())]);
}

#[test]
fn a_range_that_was_not_asked_for_is_not_used() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", WEIGHTS, Fault::Drop(100_000), 1);
    server.fault("GET", WEIGHTS, Fault::OtherRange, 1);
    assert_whole(&server, &pull(&server.hub(cache.path())).unwrap());
    assert_eq!(server.ranges(WEIGHTS), [None, Some("bytes=100000-".to_owned()), None]);
}

#[test]
fn a_part_that_is_wrong_is_fetched_anew() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let mut hub = server.hub(cache.path());
    hub.retries = 0;
    for spoil in [|part: &mut Vec<u8>| part[7] ^= 1, |part: &mut Vec<u8>| part.resize(700_000, 0)] {
        server.fault("GET", WEIGHTS, Fault::Drop(100_000), 1);
        let message = refusal(&hub);
        assert!(message.contains("goes on where it stopped"), "{message}");
        let path = partial(cache.path());
        let mut part = fs::read(&path).unwrap();
        assert_eq!(part.len(), 100_000);
        spoil(&mut part);
        fs::write(&path, part).unwrap();
        let snapshot = pull(&hub).unwrap();
        assert_whole(&server, &snapshot);
        assert_eq!(server.ranges(WEIGHTS).last().unwrap(), &None);
        fs::remove_dir_all(folder(cache.path())).unwrap();
    }
}

#[test]
fn wrong_bytes_are_fetched_again_once_and_never_land() {
    for name in [WEIGHTS, "config.json"] {
        let (server, cache) = (Server::start(), TempDir::new().unwrap());
        server.fault("GET", name, Fault::Wrong, 1);
        assert_whole(&server, &pull(&server.hub(cache.path())).unwrap());
        assert_eq!(server.ranges(name).len(), 2);

        let (server, cache) = (Server::start(), TempDir::new().unwrap());
        server.fault("GET", name, Fault::Wrong, ALWAYS);
        let message = refusal(&server.hub(cache.path()));
        let kind = if name == WEIGHTS { "SHA-256" } else { "git SHA-1" };
        for part in [name, kind, &server.file(name).hash(), "wrong twice"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(server.ranges(name), [None, None]);
        assert_nothing_lies(&server, cache.path(), name);
        // Nor does anything remain to go on from.
        let left = files_below(&folder(cache.path()));
        assert!(left.iter().all(|path| path.extension().is_none_or(|e| e != "incomplete")), "{left:?}");
    }
}

#[test]
fn a_wrong_length_never_lands() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", WEIGHTS, Fault::Long, ALWAYS);
    let message = refusal(&server.hub(cache.path()));
    assert!(message.contains("more than the 600000 bytes"), "{message}");
    assert_nothing_lies(&server, cache.path(), WEIGHTS);

    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let mut hub = server.hub(cache.path());
    hub.retries = 0;
    server.fault("GET", WEIGHTS, Fault::Short, 1);
    let message = refusal(&hub);
    assert!(message.contains("ended after 300000 of 600000 bytes"), "{message}");
    assert_nothing_lies(&server, cache.path(), WEIGHTS);
    // Half of it was right, though.
    assert_whole(&server, &pull(&hub).unwrap());
    assert_eq!(server.ranges(WEIGHTS), [None, Some("bytes=300000-".to_owned())]);
}

#[test]
fn refusals_say_what_to_do() {
    for (status, header, token, expected) in [
        (401, "", None, &["set HF_TOKEN", "org/name"][..]),
        (403, "X-Error-Code: GatedRepo\r\n", None, &["is gated", "set HF_TOKEN", "ask for access on http"]),
        (403, "", Some("hf_secret"), &["the token in HF_TOKEN", "may not read it"]),
        (404, "", None, &["no such repository or revision 'main'"]),
        (410, "", None, &["410", "HF_ENDPOINT"]),
    ] {
        let (server, cache) = (Server::start(), TempDir::new().unwrap());
        server.fault("GET", "/revision/main", Fault::Status(status, header), ALWAYS);
        let mut hub = server.hub(cache.path());
        hub.token = token.map(str::to_owned);
        let message = refusal(&hub);
        assert!(expected.iter().all(|part| message.contains(part)), "{expected:?}: {message}");
        assert!(!message.contains("hf_secret"), "{message}");
        assert_eq!(server.seen().len(), 1, "trying again is of no use");
        assert!(files_below(cache.path()).is_empty());
    }
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let error = server.hub(cache.path()).pull(REPO, "nowhere", &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("no revision 'nowhere'"), "{error}");
    server.fault("HEAD", "config.json", Fault::Status(404, ""), 1);
    let message = refusal(&server.hub(cache.path()));
    assert!(message.contains("config.json") && message.contains("lists the file"), "{message}");
}

#[test]
fn a_busy_server_is_asked_again() {
    for status in [429, 500, 503] {
        let (server, cache) = (Server::start(), TempDir::new().unwrap());
        server.fault("GET", "/revision/main", Fault::Status(status, ""), 2);
        server.fault("HEAD", WEIGHTS, Fault::Status(status, ""), 2);
        server.fault("GET", WEIGHTS, Fault::Status(status, ""), 2);
        assert_whole(&server, &pull(&server.hub(cache.path())).unwrap());

        let (server, cache) = (Server::start(), TempDir::new().unwrap());
        server.fault("GET", "/revision/main", Fault::Status(status, ""), ALWAYS);
        let message = refusal(&server.hub(cache.path()));
        assert!(message.contains(&status.to_string()) && message.contains("4 times in a row"), "{message}");
        assert_eq!(server.seen().len(), 4);
    }
}

#[test]
fn a_server_is_left_alone_as_long_as_it_asks() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", "/revision/main", Fault::Status(429, "Retry-After: 1\r\n"), 1);
    pull(&server.hub(cache.path())).unwrap();
    let seen = server.seen();
    let pause = seen[1].at - seen[0].at;
    assert!(seen[1].path.contains("/revision/") && pause >= Duration::from_secs(1), "{pause:?}");

    // But nobody waits for an hour.
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", "/revision/main", Fault::Status(429, "Retry-After: 3600\r\n"), 1);
    let start = Instant::now();
    let message = refusal(&server.hub(cache.path()));
    assert!(message.contains("3600 s") && start.elapsed() < Duration::from_secs(60), "{message}");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn silence_is_not_waited_for() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let mut hub = server.hub(cache.path());
    hub.timeout = Duration::from_millis(800);
    server.fault("GET", "/revision/main", Fault::Hang, 1);
    server.fault("GET", WEIGHTS, Fault::Stall(100_000), 1);
    let start = Instant::now();
    assert_whole(&server, &pull(&hub).unwrap());
    // The server itself would end the silence later.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(server.ranges(WEIGHTS), [None, Some("bytes=100000-".to_owned())]);

    server.fault("GET", "/revision/main", Fault::Hang, ALWAYS);
    hub.retries = 1;
    let message = refusal(&hub);
    assert!(message.contains("no answer within 0.8 s") && message.contains("/revision/main"), "{message}");

    hub.endpoint = "http://127.0.0.1:1".to_owned();
    let message = refusal(&hub);
    assert!(message.contains("127.0.0.1:1/") && message.contains("check the network"), "{message}");
    for bad in ["ftp://127.0.0.1", "huggingface.co", ""] {
        hub.endpoint = bad.to_owned();
        assert!(refusal(&hub).contains("HF_ENDPOINT"), "{bad}");
    }
    assert!(server.seen().len() < 20);
}

#[test]
fn what_never_ends_is_cut_off() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let fast = Fault::Endless(1 << 20, Duration::ZERO);
    server.fault("GET", "/revision/main", fast.clone(), 1);
    let message = refusal(&server.hub(cache.path()));
    assert!(message.contains("more than 16777216 bytes"), "{message}");
    // A small file and weights, whose size nobody says.
    for name in ["config.json", WEIGHTS] {
        server.fault("HEAD", name, fast.clone(), 1);
        server.fault("GET", name, fast.clone(), 2);
        let message = refusal(&server.hub(cache.path()));
        assert!(message.contains("more than the 134217728 bytes") && message.contains(name), "{message}");
        assert_nothing_lies(&server, cache.path(), name);
    }
    let left: u64 = files_below(cache.path()).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!(left < 10_000_000, "{left} bytes are left");
    server.fault(
        "HEAD",
        "README.md",
        Fault::Headers(format!("ETag: \"{}\"\r\nX-Linked-Size: 6000000000\r\n", "0".repeat(40))),
        1,
    );
    let other = TempDir::new().unwrap();
    let message = refusal(&server.hub(other.path()));
    assert!(message.contains("README.md should have 6000000000 bytes"), "{message}");
    assert_whole(&server, &pull(&server.hub(cache.path())).unwrap());
}

#[test]
fn what_trickles_is_not_waited_for() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let trickle = Fault::Endless(1, Duration::from_millis(50));
    let mut hub = server.hub(cache.path());
    (hub.timeout, hub.retries) = (Duration::from_millis(600), 1);
    let start = Instant::now();
    server.fault("GET", "/revision/main", trickle.clone(), 2);
    let message = refusal(&hub);
    assert!(message.contains("bytes came in"), "{message}");
    server.fault("GET", WEIGHTS, trickle, 2);
    let message = refusal(&hub);
    assert!(message.contains("bytes came in") && message.contains(WEIGHTS), "{message}");
    // Two tries of each.
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_whole(&server, &pull(&hub).unwrap());
}

#[test]
fn a_password_in_the_endpoint_is_never_shown() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let mut hub = server.hub(cache.path());
    hub.timeout = Duration::from_millis(500);
    hub.retries = 0;
    let mut said = Vec::new();
    for endpoint in [
        format!("http://user:pa55word@127.0.0.1:{}", server.port),
        "http://user:pa55word@127.0.0.1:1".to_owned(),
        "https://user:pa55word@127.0.0.1:1/hf?key=pa55word".to_owned(),
        "ftp://user:pa55word@127.0.0.1".to_owned(),
        "user:pa55word@127.0.0.1".to_owned(),
        "http://user:pa55 word@127.0.0.1".to_owned(),
    ] {
        hub.endpoint = endpoint;
        said.push(format!("{hub:?}"));
        for status in [401, 404, 500, 418] {
            server.fault("GET", "/revision/main", Fault::Status(status, ""), 1);
            said.push(pull(&hub).map_or_else(|error| format!("{error} {error:?}"), |_| String::new()));
        }
        server.fault("GET", "/revision/main", Fault::Text("{}".to_owned()), 1);
        said.push(pull(&hub).map_or_else(|error| error.to_string(), |_| String::new()));
    }
    hub.endpoint = server.endpoint();
    for location in ["ftp://user:pa55word@cdn.example/x", "http://user:pa55word@127.0.0.1:1/x?signature=pa55word"] {
        let headers: &'static str = Box::leak(format!("Location: {location}\r\n").into_boxed_str());
        server.fault("GET", "/revision/main", Fault::Status(302, headers), 1);
        said.push(refusal(&hub));
    }
    for text in &said {
        assert!(!text.contains("pa55"), "{text}");
    }
    assert!(said.iter().filter(|text| text.contains("…@127.0.0.1")).count() > 6, "{said:?}");
}

#[test]
fn the_token_goes_to_the_endpoint_only() {
    let (server, files, cache) = (Server::start(), Server::start(), TempDir::new().unwrap());
    // Another name of this machine, and so another host; and the same name at another port.
    for (host, name) in [("localhost", WEIGHTS), ("127.0.0.1", "tokenizer.json")] {
        let elsewhere = Fault::Elsewhere(format!("http://{host}:{}", files.port));
        server.fault("HEAD", name, elsewhere.clone(), 1);
        server.fault("GET", name, elsewhere, ALWAYS);
    }
    // Within the endpoint it stays.
    server.fault("GET", "README.md", Fault::Elsewhere(String::new()), 1);
    files.fault("GET", WEIGHTS, Fault::Drop(1_000), 1);
    let mut hub = server.hub(cache.path());
    hub.token = Some("hf_secret".to_owned());
    assert_whole(&server, &pull(&hub).unwrap());
    assert_eq!(server.ranges("README.md").len(), 2);
    assert!(server.seen().iter().all(|seen| seen.token.as_deref() == Some("Bearer hf_secret")));
    let seen = files.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|seen| seen.token.is_none()), "{seen:?}");
    // The range does travel.
    assert_eq!(files.ranges(WEIGHTS), [None, Some("bytes=1000-".to_owned())]);
}

#[test]
fn redirects_come_to_an_end() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", WEIGHTS, Fault::Elsewhere(String::new()), ALWAYS);
    assert!(refusal(&server.hub(cache.path())).contains("redirects without end"));
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    server.fault("GET", WEIGHTS, Fault::Elsewhere("file://".to_owned()), ALWAYS);
    assert!(refusal(&server.hub(cache.path())).contains("not followed"));
    assert_nothing_lies(&server, cache.path(), WEIGHTS);
}

#[test]
fn hostile_names_are_refused() {
    let (server, outer) = (Server::start(), TempDir::new().unwrap());
    let cache = outer.path().join("cache");
    let hub = server.hub(&cache);
    for repo in ["../x", "org/..", "a/../../b", "org/name/more", "name", "/etc", "org\\name", "org/na?me"] {
        let error = hub.pull(repo, REVISION, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("write ORG/NAME"), "{error}");
        assert_eq!(hub.cached(repo, REVISION), None);
    }
    for revision in ["../../x", "/main", "a b", "a?b", "-x", ""] {
        let error = hub.pull(REPO, revision, &mut |_| {}).unwrap_err().to_string();
        assert!(error.contains("cannot be a revision"), "{error}");
        assert_eq!(hub.cached(REPO, revision), None);
    }
    assert!(server.seen().is_empty());

    for name in ["../../../evil", "/tmp/evil", "..\\evil", "C:\\evil"] {
        let body = serde_json::json!({"sha": COMMIT, "siblings": [{"rfilename": "config.json"}, {"rfilename": WEIGHTS},
            {"rfilename": name}]});
        server.fault("GET", "/revision/main", Fault::Text(body.to_string()), 1);
        let message = refusal(&hub);
        assert!(message.contains("outside the repository"), "{message}");
    }
    for sha in ["../../evil", "", "main"] {
        let body = serde_json::json!({"sha": sha, "siblings": [{"rfilename": WEIGHTS}]}).to_string();
        server.fault("GET", "/revision/main", Fault::Text(body), 1);
        assert!(refusal(&hub).contains("for a commit"), "{sha}");
    }
    for text in ["<html>Log in</html>", "[]", ""] {
        server.fault("GET", "/revision/main", Fault::Text(text.to_owned()), 1);
        assert!(refusal(&hub).contains("no listing of a model"), "{text}");
    }
    for etag in ["ETag: \"../../../evil\"\r\n", "ETag: \"1234\"\r\n", ""] {
        server.fault("HEAD", "LICENSE", Fault::Headers(etag.to_owned()), 1);
        assert!(refusal(&hub).contains("no hash for LICENSE"), "{etag}");
    }
    assert!(files_below(outer.path()).is_empty());
}

/// Turns the server's weights into two shards, with an index that names `names`.
fn shard(server: &Server, names: &[&str]) {
    server.remove(WEIGHTS);
    for (seed, name) in names.iter().enumerate() {
        server.put(name, &noise(20_000, 100 + seed as u32), true);
    }
    let map: serde_json::Map<_, _> = names.iter().map(|name| (format!("tensor of {name}"), (*name).into())).collect();
    let index = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    server.put("model.safetensors.index.json", index.as_bytes(), false);
}

#[test]
fn weights_in_several_files() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    shard(&server, &names);
    let hub = server.hub(cache.path());
    server.fault("GET", names[1], Fault::Wrong, 2);
    refusal(&hub);
    assert_eq!(hub.cached(REPO, COMMIT), None, "half of the weights are not a model");
    let mut last = None;
    let snapshot = hub.pull(REPO, REVISION, &mut |p| last = Some((p.done, p.total))).unwrap();
    for name in names.into_iter().chain(["model.safetensors.index.json"]) {
        assert_eq!(fs::read(snapshot.join(name)).unwrap(), server.file(name).bytes, "{name}");
    }
    let (done, total) = last.unwrap();
    assert!(done == total && total > 43_000, "{done} of {total}");
    assert_eq!(hub.cached(REPO, REVISION), Some(snapshot));
    assert_eq!(server.ranges(names[0]).len(), 1);
}

#[test]
fn a_hostile_or_broken_index_is_refused() {
    for (name, expected) in [
        ("../../../evil.safetensors", "do not use it"),
        ("/tmp/evil.safetensors", "do not use it"),
        ("evil.pt", "do not use it"),
        ("absent.safetensors", "names absent.safetensors, which the repository does not have"),
    ] {
        let (server, outer) = (Server::start(), TempDir::new().unwrap());
        let cache = outer.path().join("cache");
        shard(&server, &[name]);
        // The listing must not be what refuses it.
        server.remove(name);
        let message = pull(&server.hub(&cache)).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("index"), "{message}");
        assert_eq!(server.hub(&cache).cached(REPO, COMMIT), None);
        let found = files_below(outer.path());
        assert!(found.iter().all(|path| !path.to_string_lossy().contains("evil")), "{found:?}");
        assert_eq!(server.seen().iter().filter(|seen| seen.path.contains("evil")).count(), 0);
    }
}

#[test]
fn open_clip_weights_and_foreign_ones() {
    let (server, cache) = (Server::empty(), TempDir::new().unwrap());
    let hub = server.hub(cache.path());
    server.put("open_clip_config.json", b"{}", false);
    server.put("weights.pt", b"x", true);
    let message = refusal(&hub);
    assert!(message.contains("weights.pt") && message.contains("give its path"), "{message}");
    // Torch's file is taken as long as there is nothing else.
    server.put("open_clip_pytorch_model.bin", &noise(70, 2), true);
    let snapshot = pull(&hub).unwrap();
    assert!(snapshot.join("open_clip_pytorch_model.bin").is_file());
    server.put("open_clip_model.safetensors", &noise(99, 1), true);
    let snapshot = pull(&hub).unwrap();
    assert!(snapshot.join("open_clip_model.safetensors").is_file());
    assert_eq!(hub.cached(REPO, REVISION), Some(snapshot));
}

#[test]
fn a_failed_update_leaves_the_old_commit() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let hub = server.hub(cache.path());
    let old = pull(&hub).unwrap();
    let commit = "89abcdef0123456789abcdef0123456789abcdef";
    server.set_commit(commit);
    server.put(WEIGHTS, &noise(5_000, 9), true);
    server.fault("GET", WEIGHTS, Fault::Wrong, 2);
    refusal(&hub);
    assert_eq!(hub.cached(REPO, REVISION).as_ref(), Some(&old));
    let tokenizers = server.ranges("tokenizer.json").len();
    let new = pull(&hub).unwrap();
    assert!(new.ends_with(commit));
    assert_whole(&server, &new);
    assert_eq!(hub.cached(REPO, REVISION), Some(new));
    assert_eq!(hub.cached(REPO, COMMIT), Some(old));
    // A file that did not change is one blob.
    assert_eq!(server.ranges("tokenizer.json").len(), tokenizers);
}

#[test]
fn a_damaged_reference_is_not_followed() {
    let (server, cache) = (Server::start(), TempDir::new().unwrap());
    let hub = server.hub(cache.path());
    let snapshot = pull(&hub).unwrap();
    // Even where it leads to what looks like a model.
    let outside = folder(cache.path()).join("outside");
    fs::create_dir(&outside).unwrap();
    for name in ["config.json", WEIGHTS] {
        fs::write(outside.join(name), "x").unwrap();
    }
    for text in ["", "../outside", "main"] {
        fs::write(folder(cache.path()).join("refs/main"), text).unwrap();
        assert_eq!(hub.cached(REPO, REVISION), None, "{text}");
    }
    assert_eq!(pull(&hub).unwrap(), snapshot);
    assert_eq!(hub.cached(REPO, REVISION), Some(snapshot));
}

/// The program with a hub of its own, and what it says.
fn program(server: &Server, cache: &Path, args: &[&str], more: &[(&str, &str)]) -> (bool, String, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_tipi"))
        .args(args)
        .env("TIPI_TUNE", "off")
        .env("HF_ENDPOINT", server.endpoint())
        .env("HF_HUB_CACHE", cache)
        .env("HF_TOKEN", "hf_secret")
        .envs(more.iter().copied())
        .current_dir(tipi_testing::root())
        .output()
        .unwrap();
    (out.status.success(), String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap())
}

#[test]
fn a_pulled_model_works_wherever_a_model_is_named() {
    let (server, cache) = (Server::empty(), TempDir::new().unwrap());
    let model = tipi_testing::root().join("weights/picto");
    for name in ["config.json", "preprocessor_config.json", "tokenizer.json"] {
        server.put(name, &fs::read(model.join(name)).unwrap(), false);
    }
    server.put("README.md", b"---\nlicense: mit\n---\n", false);
    server.put(WEIGHTS, &fs::read(model.join(WEIGHTS)).unwrap(), true);
    // The connection drops on the way; the program goes on by itself.
    server.fault("GET", WEIGHTS, Fault::Drop(3_000_000), 1);
    let (good, folder, stderr) = program(&server, cache.path(), &["pull", REPO], &[]);
    assert!(good, "{stderr}");
    assert_eq!(fs::read(Path::new(folder.trim()).join(WEIGHTS)).unwrap(), server.file(WEIGHTS).bytes);
    assert!(server.ranges(WEIGHTS).iter().any(|range| range.as_deref() == Some("bytes=3000000-")));
    let asked = server.seen().len();
    let offline = [("HF_HUB_OFFLINE", "1")];
    let (good, text, stderr) = program(&server, cache.path(), &["info", REPO], &offline);
    assert!(good && text.contains("6 blocks of width 128") && text.contains("mit"), "{text}{stderr}");
    let picture = "examples/pictos/shifted/apple";
    let classify = ["classify", "--model", REPO, "--labels", "apple,umbrella", picture];
    let (good, text, stderr) = program(&server, cache.path(), &classify, &offline);
    assert!(good && text.contains("apple"), "{text}{stderr}");
    assert_eq!(server.seen().len(), asked, "the hub was asked for what is there");
    // Elsewhere nothing is there, and the message says what to do.
    let empty = TempDir::new().unwrap();
    let (good, _, stderr) = program(&server, empty.path(), &classify, &offline);
    assert!(!good && stderr.contains(REPO) && stderr.contains("HF_HUB_OFFLINE"), "{stderr}");
    server.fault("GET", "revision/v9", Fault::Status(404, ""), ALWAYS);
    let (good, _, stderr) = program(&server, empty.path(), &["pull", REPO, "--revision", "v9"], &[]);
    assert!(!good && stderr.contains("v9") && !stderr.contains("hf_secret"), "{stderr}");
}
