//! What a hub answers: its listing, headers, redirects and bodies, and what a user names a model by.
//!
//! An input is a model's name on the first line, and answers behind lines `--- answer`, which a server on this machine
//! gives as they are, one to each request.
#![no_main]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tipi::low_level::hub::Hub;
use tipi_fuzz::{MIB, Scratch, parts, target};

const ABSENT: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";

/// A server and the answers that it has left.
struct Server {
    address: String,
    answers: Arc<Mutex<VecDeque<Vec<u8>>>>,
    scratch: Scratch,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = format!("http://{}", listener.local_addr().expect("it is bound"));
    let answers = Arc::new(Mutex::new(VecDeque::<Vec<u8>>::new()));
    let shared = Arc::clone(&answers);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let answer = shared.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let (mut request, mut byte) = (Vec::new(), [0; 4096]);
            // Whoever goes away is no failure of the server's.
            let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut byte) {
                    Ok(n) if n > 0 => request.extend_from_slice(&byte[..n]),
                    _ => break,
                }
            }
            let _ = stream.write_all(answer.as_deref().unwrap_or(ABSENT));
            let _ = stream.shutdown(Shutdown::Both);
        }
    });
    let scratch = Scratch::default();
    scratch.write("canary", b"here");
    Server { address, answers, scratch }
});

fn names(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

target!(128 * MIB, |data| {
    let server = &*SERVER;
    server.scratch.remove_all("cache");
    let answers = parts(data, &["answer"]).into_iter().map(|(_, answer)| answer.to_vec()).collect();
    *server.answers.lock().unwrap_or_else(PoisonError::into_inner) = answers;
    let cache = server.scratch.path().join("cache");
    let hub = Hub {
        endpoint: server.address.clone(),
        timeout: Duration::from_millis(500),
        retries: 0,
        backoff: Duration::ZERO,
        token: Some("secret".into()),
        ..Hub::new(&cache)
    };
    let name = String::from_utf8_lossy(data.split(|byte| *byte == b'\n').next().unwrap_or_default());
    let (repo, revision) = name.split_once('@').unwrap_or((&name, "main"));
    match hub.pull(repo, revision, &mut |_| {}) {
        Ok(folder) => {
            assert!(folder.starts_with(&cache), "{}", folder.display());
            assert_eq!(hub.cached(repo, revision).as_deref(), Some(folder.as_path()));
        }
        Err(error) => assert!(!error.to_string().contains("secret"), "{error}"),
    }
    // Nothing lies anywhere but in the cache, and nothing there but what the repository's name says.
    let around = names(server.scratch.path());
    assert!(around == ["cache", "canary"] || around == ["canary"], "{around:?}");
    let own = format!("models--{}", repo.replace('/', "--"));
    let inside = names(&cache);
    assert!(inside.iter().all(|name| *name == own || name == ".locks"), "{inside:?}");
    for blob in names(&cache.join(&own).join("blobs")) {
        let hash = blob.split('.').next().unwrap_or_default();
        assert!(hash.len() >= 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()), "{blob}");
    }
});
