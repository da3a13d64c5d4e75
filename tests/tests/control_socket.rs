//! What comes over the control socket and is no request, or no right one: each gets a clear answer or
//! none, and the daemon goes on serving others.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
use palisade_tests::policies::CLOSED;
use palisade_tests::{Daemon, Topology, skip_unless_root, stretched};

const PATIENCE: Duration = Duration::from_secs(10);

/// What the daemon answers to these bytes, to its end; and to the end of them, if it waits for that.
fn answer(daemon: &Daemon, request: &[u8], ends: bool) -> Result<String> {
    let mut stream = UnixStream::connect(daemon.socket())?;
    stream.set_read_timeout(Some(stretched(PATIENCE)))?;
    stream.set_write_timeout(Some(stretched(PATIENCE)))?;
    // It may have heard enough before the end.
    let _ = stream.write_all(request);
    if ends {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut bytes = Vec::new();
    // Bytes that were not read turn the end into a reset.
    let _ = stream.read_to_end(&mut bytes);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A whole request with a body.
fn request(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: palisade\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    request
}

/// The number behind `HTTP/1.1`; 0 where the daemon hung up.
fn status(answer: &str) -> u16 {
    let mut words = answer.split_whitespace();
    words
        .nth(1)
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[test]
fn what_is_no_http_is_refused_and_others_are_served() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, CLOSED)?;
    let many_headers: String = (0..1_000)
        .map(|number| format!("x-{number}: y\r\n"))
        .collect();
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("nothing", Vec::new(), &[0]),
        ("words", b"hello there\r\n\r\n".to_vec(), &[400]),
        ("zeros", vec![0; 4_096], &[400]),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), &[400]),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[0, 400, 505]),
        ("an unknown version", b"GET /v1/status HTTP/9.9\r\n\r\n".to_vec(), &[400, 505]),
        ("a zero in the path", b"GET /v1/sta\0tus HTTP/1.1\r\nhost: p\r\n\r\n".to_vec(), &[400]),
        ("a path that is no text", b"GET /v1/\xff\xfe HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n".to_vec(), &[400, 404]),
        ("a percent too many", b"GET /v1/alerts/%ff%zz HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n".to_vec(), &[400, 404]),
        ("a header without a colon", b"GET /v1/status HTTP/1.1\r\nhost palisade\r\n\r\n".to_vec(), &[400]),
        ("a zero in a header", b"GET /v1/status HTTP/1.1\r\nx: a\0b\r\n\r\n".to_vec(), &[400]),
        (
            "a header of a megabyte",
            [b"GET /v1/status HTTP/1.1\r\nx: ".as_slice(), &vec![b'a'; 1 << 20], b"\r\n\r\n"].concat(),
            &[0, 400, 431],
        ),
        (
            "a thousand headers",
            format!("GET /v1/status HTTP/1.1\r\n{many_headers}\r\n").into_bytes(),
            &[400, 431],
        ),
        (
            "a path of a megabyte",
            [b"GET /".as_slice(), &vec![b'a'; 1 << 20], b" HTTP/1.1\r\n\r\n"].concat(),
            &[0, 400, 414, 431],
        ),
        ("a negative length", b"POST /v1/bans HTTP/1.1\r\nhost: p\r\ncontent-length: -1\r\n\r\n".to_vec(), &[400]),
        (
            "two lengths",
            b"POST /v1/bans HTTP/1.1\r\nhost: p\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}".to_vec(),
            &[400],
        ),
        (
            "a length beyond all bounds",
            b"POST /v1/bans HTTP/1.1\r\nhost: p\r\ncontent-length: 99999999999999999999999\r\n\r\n".to_vec(),
            &[400],
        ),
        (
            "a body that ends early",
            b"POST /v1/bans HTTP/1.1\r\nhost: p\r\ncontent-length: 100\r\n\r\n{".to_vec(),
            &[0, 400],
        ),
        (
            "chunks that are none",
            b"POST /v1/bans HTTP/1.1\r\nhost: p\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n".to_vec(),
            &[400],
        ),
    ];
    for (what, bytes, allowed) in cases {
        let answer = answer(&daemon, &bytes, allowed.contains(&0))?;
        let status = status(&answer);
        assert!(allowed.contains(&status), "{what}: {status}: {answer}");
        daemon
            .palisade(&["status"])
            .with_context(|| format!("after {what}"))?;
    }
    // Who begins and does not go on keeps nobody else out.
    let mut waiting = Vec::new();
    for _ in 0..100 {
        let mut stream = UnixStream::connect(daemon.socket())?;
        stream.write_all(b"POST /v1/apply HTTP/1.1\r\nhost: pal")?;
        waiting.push(stream);
    }
    daemon.palisade(&["bans"])?;
    drop(waiting);
    assert!(daemon.process()?.runs()?);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    Ok(())
}

#[test]
fn what_is_no_right_request_is_told_what_is_wrong() -> Result<()> {
    if skip_unless_root() {
        return Ok(());
    }
    let world = Topology::untagged()?;
    let mut daemon = Daemon::start(&world.inside, CLOSED)?;
    let deep = [b"{\"text\":".as_slice(), &vec![b'['; 100_000]].concat();
    let large = vec![b' '; 17 << 20];
    let cases: Vec<(&str, &str, &[u8], u16, &str)> = vec![
        ("GET", "/", b"", 404, "there is no /"),
        ("GET", "/v1/../v1/status", b"", 404, "there is no"),
        ("GET", "/metrics", b"", 404, "there is no"),
        ("PUT", "/v1/status", b"{}", 405, "does not take PUT"),
        ("DELETE", "/v1/apply", b"", 405, "does not take DELETE"),
        ("POST", "/v1/bans", b"{", 400, "EOF"),
        (
            "POST",
            "/v1/bans",
            b"prefix=203.0.113.7",
            400,
            "JSON object",
        ),
        ("POST", "/v1/bans", b"\xff\xfe{\0}\0", 400, "JSON object"),
        (
            "POST",
            "/v1/bans",
            b"{\"prefix\":\"\xff\xfe\"}",
            400,
            "unicode",
        ),
        (
            "POST",
            "/v1/bans",
            b"{\"prefix\":\"203.0.113.7\\u0000\"}",
            400,
            "203.0.113.7",
        ),
        ("POST", "/v1/bans", b"{\"prefix\":203}", 400, "string"),
        ("POST", "/v1/bans", b"{\"prefix\":null}", 400, "string"),
        (
            "POST",
            "/v1/bans",
            b"{\"prefix\":\"203.0.113.7\",\"prefix\":\"203.0.113.8\"}",
            400,
            "duplicate",
        ),
        (
            "POST",
            "/v1/bans",
            b"{\"prefix\":\"203.0.113.7\",\"for\":-1}",
            400,
            "for",
        ),
        (
            "POST",
            "/v1/bans",
            b"{\"prefix\":\"203.0.113.7\"} {}",
            400,
            "trailing",
        ),
        ("DELETE", "/v1/bans?prefix=", b"", 400, "prefix"),
        ("DELETE", "/v1/bans?prefix=%00", b"", 400, "prefix"),
        (
            "DELETE",
            "/v1/bans?prefix=203.0.113.7&prefix=203.0.113.8",
            b"",
            400,
            "duplicate",
        ),
        ("POST", "/v1/apply", &deep, 400, ""),
        ("POST", "/v1/apply", &large, 413, "length limit"),
        ("POST", "/v1/apply", b"{\"confirm_seconds\":1e99}", 400, ""),
        (
            "POST",
            "/v1/apply",
            b"{\"confirm_seconds\":0}",
            400,
            "confirm_seconds",
        ),
        (
            "POST",
            "/v1/apply",
            b"{\"path\":\"/dev/zero\"}",
            422,
            "/dev/zero",
        ),
        (
            "POST",
            "/v1/apply",
            b"{\"path\":\"/nonexistent\\u0000\"}",
            422,
            "nonexistent",
        ),
        (
            "POST",
            "/v1/apply",
            b"{\"ssh_connection\":\"; reboot\"}",
            400,
            "SSH_CONNECTION",
        ),
        ("POST", "/v1/apply", b"{\"text\":\"\\u0000\"}", 422, "1:1"),
        (
            "POST",
            "/v1/confirm",
            b"{\"really\":true}",
            400,
            "unknown field",
        ),
        (
            "POST",
            "/v1/detach",
            b"{\"interface\":\"../../etc\"}",
            404,
            "../../etc",
        ),
        (
            "POST",
            "/v1/cookies",
            b"{\"order\":\"maybe\"}",
            400,
            "maybe",
        ),
        (
            "GET",
            "/v1/sources?limit=99999999999999999999",
            b"",
            400,
            "number",
        ),
        ("GET", "/v1/why?address=203.0.113.7%00", b"", 400, "address"),
        (
            "GET",
            "/v1/connection?local=1&remote=2&protocol=999",
            b"",
            400,
            "",
        ),
        ("GET", "/v1/alerts/-1", b"", 400, "no number"),
        (
            "GET",
            "/v1/alerts/18446744073709551616",
            b"",
            400,
            "no number",
        ),
    ];
    let before = daemon.palisade(&["status"])?["policy"]["generation"].clone();
    for (method, path, body, expected, says) in cases {
        let shown: String = String::from_utf8_lossy(body).chars().take(80).collect();
        let answer = answer(&daemon, &request(method, path, body), false)?;
        let found = status(&answer);
        assert_eq!(found, expected, "{method} {path} {shown}: {answer}");
        let (_, document) = answer.split_once("\r\n\r\n").context("a body")?;
        let document: serde_json::Value =
            serde_json::from_str(document).with_context(|| format!("{method} {path}: {answer}"))?;
        let error = document["error"].as_str().unwrap_or_default();
        assert!(
            !error.is_empty() && error.contains(says),
            "{method} {path} {shown}: {error}"
        );
        assert!(error.len() < 4_096, "{method} {path}: a flood of words");
    }
    let status = daemon.palisade(&["status"])?;
    assert_eq!(status["policy"]["generation"], before);
    assert_eq!(daemon.palisade(&["bans"])?["bans"], serde_json::json!([]));
    assert!(daemon.process()?.runs()?);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    Ok(())
}
