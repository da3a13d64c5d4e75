//! Whom a request believes that it speaks to. Where nobody is asked for credentials, a page from anywhere could have its own
//! name point to 127.0.0.1 and read what stands here (DNS rebinding): so a name must be one that belongs here.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};

/// Whether the request names this host by an address, as `localhost`, or by one of `names`.
pub fn belongs(headers: &HeaderMap, uri: &Uri, names: &[String]) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        // HTTP/1.0 has none, and no browser speaks it.
        (None, None) => return uri.host().is_none_or(|host| is_ours(host, names)),
        _ => None,
    };
    // Of two that differ a browser chose one and an attacker the other.
    host.and_then(without_port)
        .is_some_and(|host| is_ours(host, names) && uri.host().is_none_or(|uri| uri == host))
}

fn is_ours(host: &str, names: &[String]) -> bool {
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if bare.parse::<IpAddr>().is_ok() {
        return true;
    }
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == "localhost" || names.contains(&host)
}

fn without_port(host: &str) -> Option<&str> {
    match host.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((name, port)) if !port.contains(']') => port
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(name),
        _ => Some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().expect("a header"));
        belongs(
            &headers,
            &Uri::from_static("/"),
            &["edge.example".to_owned()],
        )
    }

    #[test]
    fn addresses_localhost_and_names_that_were_given_belong_here() {
        for host in [
            "127.0.0.1:9477",
            "127.0.0.1",
            "[::1]:9477",
            "[::1]",
            "198.51.100.1:9477",
            "localhost:9477",
            "LOCALHOST",
            "edge.example:9477",
            "Edge.Example",
        ] {
            assert!(judged(host), "{host}");
        }
    }

    #[test]
    fn any_other_name_may_be_an_attacker_s() {
        for host in [
            "attacker.example:9477",
            "attacker.example",
            "127.0.0.1.attacker.example",
            "localhost.attacker.example",
            "attacker.example:x",
            "",
            ":9477",
            "not an address",
        ] {
            assert!(!judged(host), "{host}");
        }
        let mut two = HeaderMap::new();
        two.append(header::HOST, "127.0.0.1".parse().expect("a header"));
        two.append(header::HOST, "attacker.example".parse().expect("a header"));
        assert!(!belongs(&two, &Uri::from_static("/"), &[]));
        let mut other = HeaderMap::new();
        other.insert(header::HOST, "127.0.0.1".parse().expect("a header"));
        let absolute = Uri::from_static("http://attacker.example/");
        assert!(!belongs(&other, &absolute, &[]));
    }
}
