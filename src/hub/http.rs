//! Requests to the hub: redirects, the token, time limits, and trying again.
//!
//! Redirects are followed here and not by the HTTP crate, for two reasons: the answer that redirects to the file
//! server is the one that carries a file's hash, and the token must not travel there.

use std::fmt::Display;
use std::io::{ErrorKind, Read};
use std::thread;
use std::time::Duration;

use ureq::http::header::{AUTHORIZATION, HeaderMap, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{Response, StatusCode, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use crate::hub::Hub;
use crate::hub::address::{absolute, join, origin, shown};
use crate::hub::steady::{Steady, least};
use crate::{Error, Result, input};

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 10;
/// Longest pause between two tries; a server that asks for more is not waited for.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Most bytes of an answer that is kept in memory.
const MAX_TEXT: u64 = 16 << 20;

/// Why a try came to nothing.
pub(super) enum Failure {
    /// What may well work the next time, after the pause that the server asks for; with the status, if it answered.
    Passing { reason: String, status: Option<StatusCode>, pause: Option<Duration> },
    /// What will not.
    Final(Error),
}

impl Failure {
    pub(super) fn passing(reason: impl Into<String>) -> Self {
        Failure::Passing { reason: reason.into(), status: None, pause: None }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Final(error)
    }
}

/// Counts failures in a row, and pauses between them.
pub(super) struct Patience<'a> {
    client: &'a Client<'a>,
    failures: u32,
}

impl Patience<'_> {
    /// Something moved: what failed before does not count any more.
    pub(super) fn restore(&mut self) {
        self.failures = 0;
    }

    /// Pauses, or gives the error to end with.
    pub(super) fn bear(&mut self, what: &str, failure: Failure) -> Result<()> {
        let (reason, asked) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { reason, pause, .. } => (reason, pause),
        };
        let hub = self.client.hub;
        // Doubled each time, but not without end.
        let own = hub.backoff.saturating_mul(1 << self.failures.min(5)).min(MAX_PAUSE);
        let pause = asked.unwrap_or_default().max(own);
        if pause > MAX_PAUSE {
            let seconds = pause.as_secs();
            return Err(self.client.error(format!(
                "{what} failed: {reason} and asks to be left alone for {seconds} s; run the same again then"
            )));
        }
        self.failures += 1;
        if self.failures > hub.retries {
            let times = if self.failures == 1 { String::new() } else { format!(" ({} times in a row)", self.failures) };
            return Err(self.client.error(format!(
                "{what} failed{times}: {reason}; check the network and run the same again, which goes on where it \
                 stopped"
            )));
        }
        thread::sleep(pause);
        Ok(())
    }
}

/// An answer, and where it came from.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

impl Reply {
    /// A header's text, if it is there and is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }
}

/// Speaks to the hub about one repository.
pub(super) struct Client<'a> {
    pub(super) hub: &'a Hub,
    pub(super) repo: &'a str,
    revision: &'a str,
    agent: Agent,
    home: Uri,
    bearer: Option<String>,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub, repo: &'a str, revision: &'a str) -> Result<Self> {
        let home = absolute(&hub.endpoint).ok_or_else(|| {
            Error::hub(
                repo,
                format!("the endpoint '{}' is no http or https address; check HF_ENDPOINT", shown(&hub.endpoint)),
            )
        })?;
        let bearer = hub.token.as_ref().map(|token| format!("Bearer {token}"));
        if bearer.as_ref().is_some_and(|b| !b.bytes().all(|c| c == b' ' || c.is_ascii_graphic())) {
            return Err(Error::hub(
                repo,
                "the token has characters that no token has; check HF_TOKEN or the token file",
            ));
        }
        let limit = Some(hub.timeout);
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("tipi/", env!("CARGO_PKG_VERSION")))
            // A compressed answer has other bytes than the file, and ranges of it mean nothing.
            .accept_encoding("identity")
            .timeout_resolve(limit)
            .timeout_connect(limit)
            .timeout_send_request(limit)
            .timeout_recv_response(limit)
            // Per read, not for the whole body: a large file may take as long as it keeps coming.
            .timeout_per_read(limit)
            .tls_config(tls(hub)?);
        // A proxy's loopback is not this machine's.
        if home.host().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host)) {
            config = config.proxy(None);
        }
        Ok(Client { hub, repo, revision, agent: config.build().new_agent(), home, bearer })
    }

    /// An error about the repository.
    pub(super) fn error(&self, reason: impl Into<String>) -> Error {
        Error::hub(self.repo, reason)
    }

    pub(super) fn patience(&self) -> Patience<'_> {
        Patience { client: self, failures: 0 }
    }

    /// The address of `path` below the endpoint.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}/{path}", self.hub.endpoint.trim_end_matches('/'))
    }

    /// The text at an address, with a few tries.
    pub(super) fn text(&self, address: &str) -> Result<String> {
        let what = format!("asking {}", shown(address));
        let mut patience = self.patience();
        loop {
            let failure = match self.get(address, None) {
                Ok(reply) => {
                    let mut text = String::new();
                    match self.body(reply.body).take(MAX_TEXT + 1).read_to_string(&mut text) {
                        Ok(_) if text.len() as u64 > MAX_TEXT => {
                            let address = shown(address);
                            return Err(self.error(format!(
                                "{address} answers with more than {MAX_TEXT} bytes, which is no description of a model; \
                                 check HF_ENDPOINT"
                            )));
                        }
                        Ok(_) => return Ok(text),
                        Err(error) => Failure::passing(plain(&error)),
                    }
                }
                Err(failure) => failure,
            };
            patience.bear(&what, failure)?;
        }
    }

    /// The bytes of an answer, which have to keep coming.
    pub(super) fn body(&self, body: Body) -> impl Read {
        Steady::new(body.into_reader(), self.hub.timeout)
    }

    /// Bytes that a try has to bring so that it counts as one that got on.
    pub(super) fn least(&self) -> u64 {
        least(self.hub.timeout)
    }

    /// Headers about a file, with a few tries: of the last answer that the endpoint itself gives, which is a redirect
    /// when the file lies elsewhere.
    pub(super) fn head(&self, address: &str) -> Result<Reply> {
        let what = format!("asking about {}", shown(address));
        let mut patience = self.patience();
        loop {
            let reply = self.follow(address, |uri, bearer| {
                let request = self.agent.head(uri);
                match bearer {
                    Some(bearer) => request.header(AUTHORIZATION, bearer).call(),
                    None => request.call(),
                }
            });
            match reply {
                Ok(reply) => return Ok(reply),
                Err(failure) => patience.bear(&what, failure)?,
            }
        }
    }

    /// One try at the bytes at an address, from `start` on if it is given.
    pub(super) fn get(&self, address: &str, start: Option<u64>) -> Result<Reply, Failure> {
        let mut address = address.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let reply = self.follow(&address, |uri, bearer| {
                let mut request = self.agent.get(uri);
                if let Some(bearer) = bearer {
                    request = request.header(AUTHORIZATION, bearer);
                }
                if let Some(start) = start {
                    request = request.header(RANGE, format!("bytes={start}-"));
                }
                request.call()
            })?;
            match self.redirect(&address, &reply)? {
                Some(next) => address = next.to_string(),
                None => return Ok(reply),
            }
        }
        Err(self.error(format!("{} redirects without end; check HF_ENDPOINT", shown(&address))).into())
    }

    /// Sends a request, and again wherever it is redirected to on the same server. The token goes to the endpoint's
    /// server only.
    fn follow(
        &self,
        address: &str,
        send: impl Fn(&Uri, Option<&str>) -> Result<Response<Body>, ureq::Error>,
    ) -> Result<Reply, Failure> {
        let bad =
            |address: &str| self.error(format!("'{}' is no http or https address; check HF_ENDPOINT", shown(address)));
        let mut uri = absolute(address).ok_or_else(|| bad(address))?;
        for _ in 0..=MAX_REDIRECTS {
            let at_home = origin(&uri) == origin(&self.home);
            let bearer = if at_home { self.bearer.as_deref() } else { None };
            let (parts, body) = send(&uri, bearer).map_err(|error| self.unsent(&error, &uri))?.into_parts();
            let reply = Reply { status: parts.status, headers: parts.headers, body };
            match self.redirect(&uri.to_string(), &reply)? {
                Some(next) if origin(&next) == origin(&uri) => uri = next,
                Some(_) => return Ok(reply),
                None if reply.status.is_success() => return Ok(reply),
                None => return Err(self.refused(&reply, &uri, at_home)),
            }
        }
        Err(self.error(format!("{} redirects without end; check HF_ENDPOINT", shown(address))).into())
    }

    /// Where an answer sends us, if it does.
    fn redirect(&self, from: &str, reply: &Reply) -> Result<Option<Uri>, Failure> {
        if !matches!(reply.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let location = reply.headers.get(LOCATION).and_then(|l| l.to_str().ok()).unwrap_or_default();
        let from = absolute(from);
        let next = from.as_ref().and_then(|from| join(from, location));
        match (from, next) {
            (Some(from), Some(next)) if from.scheme_str() == Some("http") || next.scheme_str() == Some("https") => {
                Ok(Some(next))
            }
            _ => {
                Err(self.error(format!("the server redirects to '{}', which is not followed", shown(location))).into())
            }
        }
    }

    /// What a request that got no answer means.
    fn unsent(&self, error: &ureq::Error, uri: &Uri) -> Failure {
        match error {
            ureq::Error::Timeout(_) => {
                Failure::passing(format!("no answer within {} s", self.hub.timeout.as_secs_f32()))
            }
            ureq::Error::Rustls(error) => self.insecure(error, uri),
            // So come the errors of a handshake, such as a certificate that is not trusted.
            ureq::Error::Io(error) if error.kind() == ErrorKind::InvalidData => self.insecure(error, uri),
            // The crate's own words would hold the address as it is.
            ureq::Error::BadUri(_) => {
                let address = shown(&uri.to_string());
                self.error(format!("'{address}' cannot be asked for; check HF_ENDPOINT and HTTPS_PROXY")).into()
            }
            ureq::Error::InvalidProxyUrl => {
                self.error(format!("{}; check HF_ENDPOINT and HTTPS_PROXY", plain(error))).into()
            }
            other => Failure::passing(plain(other)),
        }
    }

    /// What a failed handshake means.
    fn insecure(&self, error: &impl Display, uri: &Uri) -> Failure {
        self.error(format!(
            "no secure connection to {}: {}; if a proxy stands between, give its certificate in SSL_CERT_FILE",
            uri.host().unwrap_or_default(),
            plain(error)
        ))
        .into()
    }

    /// What an answer that is neither the thing nor a redirect means.
    fn refused(&self, reply: &Reply, uri: &Uri, at_home: bool) -> Failure {
        let status = reply.status;
        let host = uri.host().unwrap_or_default();
        // A file server's addresses hold for minutes only; the endpoint will give a new one.
        let passing = !at_home || status.is_server_error() || matches!(status.as_u16(), 408 | 416 | 429);
        if passing {
            let pause = reply.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
            return Failure::Passing {
                reason: format!("{host} answers {status}"),
                status: Some(status),
                pause: pause.map(Duration::from_secs),
            };
        }
        let Client { repo, revision, .. } = self;
        let reason = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let page = shown(&self.address(repo));
                let remedy = if self.bearer.is_some() {
                    format!("the token in HF_TOKEN or the token file may not read it: ask for access on {page}")
                } else {
                    format!("set HF_TOKEN to a token that may read it (for a gated one, ask for access on {page})")
                };
                // Whoever asks without a token is not told whether a repository exists.
                let what = match reply.header("x-error-code") {
                    Some("GatedRepo") => "the repository is gated",
                    _ => "the repository is private or gated, or there is none of that name",
                };
                format!("{what} ({status}); {remedy}")
            }
            StatusCode::NOT_FOUND if reply.header("x-error-code") == Some("RevisionNotFound") => {
                format!("{host} has no revision '{revision}' of it ({status}); check the branch, tag or commit")
            }
            StatusCode::NOT_FOUND if uri.path().contains("/resolve/") => {
                format!("{host} lists the file {} but does not have it ({status}); try again later", uri.path())
            }
            StatusCode::NOT_FOUND => {
                format!("{host} has no such repository or revision '{revision}' ({status}); check both names")
            }
            status => format!("{host} answers {status} to {}; check HF_ENDPOINT", uri.path()),
        };
        self.error(reason).into()
    }
}

/// Which certificates are trusted: those of a file, or the well-known ones that are built in.
fn tls(hub: &Hub) -> Result<TlsConfig> {
    let Some(path) = &hub.certificates else { return Ok(TlsConfig::default()) };
    let bytes = input::read(path, input::limit::CONFIG)?;
    let certificates: Vec<_> = parse_pem(&bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::config(path, "no certificate in this file; check SSL_CERT_FILE"));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build())
}

/// A message on one line.
pub(super) fn plain(error: &impl Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
