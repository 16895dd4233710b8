//! Addresses: which are followed, where a redirect leads, and which are the same server's.

use ureq::http::Uri;

/// An absolute http or https address.
pub(super) fn absolute(address: &str) -> Option<Uri> {
    let uri: Uri = address.parse().ok()?;
    (matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()).then_some(uri)
}

/// An address without what belongs in no message: a name and a password in front of the host, and the query, which is
/// often a signature. What is no sound address is treated the same.
pub(super) fn shown(address: &str) -> String {
    let end = address.find(['?', '#']).unwrap_or(address.len());
    let (plain, rest) = address.split_at(end);
    let start = plain.find("://").map_or(0, |at| at + 3);
    // The last one: a password may hold others.
    let host = plain.rfind('@').filter(|at| *at >= start);
    let masked = host.map_or_else(|| plain.to_owned(), |at| format!("{}…{}", &plain[..start], &plain[at..]));
    if rest.is_empty() { masked } else { format!("{masked}?…") }
}

/// What a redirect's location means, seen from the address that gave it.
pub(super) fn join(from: &Uri, location: &str) -> Option<Uri> {
    let (scheme, authority) = (from.scheme_str()?, from.authority()?);
    if location.is_empty() {
        None
    } else if location.contains("://") && !location.starts_with('/') {
        absolute(location)
    } else if let Some(rest) = location.strip_prefix("//") {
        absolute(&format!("{scheme}://{rest}"))
    } else if location.starts_with('/') {
        absolute(&format!("{scheme}://{authority}{location}"))
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        absolute(&format!("{scheme}://{authority}{folder}/{location}"))
    }
}

/// What makes two addresses the same server's.
pub(super) fn origin(uri: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let usual = match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    };
    (uri.scheme_str(), uri.host().map(str::to_ascii_lowercase), uri.port_u16().or(usual))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_as_browsers_do() {
        let from = absolute("https://hub.example:8443/a/b?c=d").unwrap();
        for (location, expected) in [
            ("https://cdn.example/x?y=://z", Some("https://cdn.example/x?y=://z")),
            ("//cdn.example/x", Some("https://cdn.example/x")),
            ("/x?to=https://other.example/", Some("https://hub.example:8443/x?to=https://other.example/")),
            ("x", Some("https://hub.example:8443/a/x")),
            ("file:///etc/passwd", None),
            ("", None),
        ] {
            assert_eq!(join(&from, location).map(|uri| uri.to_string()).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        for (address, expected) in [
            ("https://hub.example/a/b", "https://hub.example/a/b"),
            ("https://user:secret@hub.example/a", "https://…@hub.example/a"),
            ("https://user:sec@ret/@hub.example/a", "https://…@hub.example/a"),
            ("https://hub.example/a?X-Amz-Signature=secret&to=b@c", "https://hub.example/a?…"),
            ("//user:secret@hub.example/a#secret", "…@hub.example/a?…"),
            ("user:secret@hub.example", "…@hub.example"),
            ("", ""),
        ] {
            assert_eq!(shown(address), expected);
        }
    }

    #[test]
    fn a_server_is_its_scheme_host_and_port() {
        let same = |a: &str, b: &str| origin(&absolute(a).unwrap()) == origin(&absolute(b).unwrap());
        assert!(same("https://hub.example/a", "https://HUB.example:443/b"));
        for other in ["http://hub.example/", "https://hub.example:444/", "https://hub.example.evil/"] {
            assert!(!same("https://hub.example/", other), "{other}");
        }
    }
}
