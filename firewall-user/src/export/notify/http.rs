//! A small HTTP client for peers that are told something now and then: one request a connection, nothing is
//! followed anywhere, and little of the answer is read.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::Delivery;
use super::secret::Secret;
use super::settings::{Endpoint, Login};

/// How much of an answer is read.
const MOST_ANSWER: usize = 4096;
/// How much of it is shown.
const SHOWN: usize = 200;
/// Longest wait that a peer may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A peer, ready to be spoken to.
pub struct Peer {
    host: String,
    port: u16,
    path: String,
    /// Scheme, host and port: all that is shown of the address, as the rest may be a secret.
    shown: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    login: Option<HeaderValue>,
    secrets: Vec<Secret>,
    timeout: Duration,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Peer")
            .field("at", &self.shown)
            .finish()
    }
}

impl Peer {
    /// Reads the address, authorities and secrets that the settings name.
    pub fn new(endpoint: &Endpoint, timeout: Duration) -> Result<Self, String> {
        let mut secrets = Vec::new();
        let url = match (&endpoint.url, &endpoint.url_file) {
            (Some(url), _) => url.clone(),
            (None, Some(source)) => {
                let secret = source.read()?;
                let url = secret.text()?.trim().to_owned();
                secrets.push(secret);
                url
            }
            (None, None) => return Err("there is no `url`".to_owned()),
        };
        let address = Address::parse(&url)?;
        if endpoint.url_file.is_some() {
            // Peers quote the path that they were asked for.
            secrets.push(Secret::from(address.path.clone()));
        }
        let login = match &endpoint.login {
            None => None,
            Some(_) if !address.tls && !address.is_loopback() => {
                return Err(format!(
                    "{} would be told the password in the clear: use https",
                    address.shown
                ));
            }
            Some(login) => Some(header(login, &mut secrets)?),
        };
        let tls = if address.tls {
            let name = ServerName::try_from(address.host.clone())
                .map_err(|_| format!("{} has no name that TLS knows", address.shown))?;
            Some((connector(endpoint)?, name))
        } else {
            None
        };
        Ok(Self {
            host: address.host,
            port: address.port,
            path: address.path,
            shown: address.shown,
            tls,
            login,
            secrets,
            timeout,
        })
    }

    /// The same peer at another path below its own.
    pub fn at(mut self, path: &str) -> Self {
        self.path = format!("{}{path}", self.path.trim_end_matches('/'));
        self
    }

    /// The same peer, which knows one more secret that it may quote.
    pub fn hiding(mut self, secret: Option<&Secret>) -> Self {
        self.secrets.extend(secret.cloned());
        self
    }

    /// Scheme, host and port.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// Whether what is said crosses a network unencrypted.
    pub fn is_open(&self) -> bool {
        self.tls.is_none() && !is_loopback(&self.host)
    }

    /// Posts a JSON document.
    pub async fn post(&self, headers: Vec<(HeaderName, HeaderValue)>, body: Vec<u8>) -> Delivery {
        let sent = tokio::time::timeout(self.timeout, self.send(headers, body));
        match sent.await {
            Ok(Ok(delivery)) => delivery,
            Ok(Err(why)) => Delivery::again(self.hide(&format!("{}: {why}", self.shown))),
            Err(_) => Delivery::again(format!(
                "{} did not answer within {:?}",
                self.shown, self.timeout
            )),
        }
    }

    async fn send(
        &self,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Vec<u8>,
    ) -> Result<Delivery, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("no connection: {error}"))?;
        match &self.tls {
            None => self.speak(stream, headers, body).await,
            Some((connector, name)) => {
                let stream = connector
                    .connect(name.clone(), stream)
                    .await
                    .map_err(|error| format!("no TLS: {error}"))?;
                self.speak(stream, headers, body).await
            }
        }
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: Vec<u8>,
    ) -> Result<Delivery, String> {
        let failed = |error: hyper::Error| format!("the conversation broke off: {error}");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        // Ends with the connection; what goes wrong shows in the request's own result.
        let connection = tokio::spawn(connection);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header(HOST, self.authority())
            .header(CONTENT_TYPE, "application/json")
            .header(
                "user-agent",
                concat!("palisade/", env!("CARGO_PKG_VERSION")),
            )
            .header("connection", "close");
        if let Some(login) = &self.login {
            request = request.header(AUTHORIZATION, login);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| format!("the request cannot be built: {error}"))?;
        let response = sender.send_request(request).await.map_err(failed)?;
        let delivery = self.judge(response).await;
        connection.abort();
        Ok(delivery)
    }

    fn authority(&self) -> String {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        match (self.tls.is_some(), self.port) {
            (true, 443) | (false, 80) => host,
            _ => format!("{host}:{}", self.port),
        }
    }

    async fn judge(&self, response: Response<Incoming>) -> Delivery {
        let status = response.status();
        let after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT));
        let mut body = response.into_body();
        let mut text = Vec::new();
        while text.len() < MOST_ANSWER
            && let Some(Ok(frame)) = body.frame().await
        {
            text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        }
        text.truncate(MOST_ANSWER);
        let text: String = String::from_utf8_lossy(&text)
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        // Hidden before it is cut, or half of a secret would stay.
        let text: String = self.hide(text.trim()).chars().take(SHOWN).collect();
        let answer = format!("{} answered {status}: {text}", self.shown)
            .trim_end_matches(": ")
            .to_owned();
        match status {
            _ if status.is_success() => Delivery::Done(answer),
            // These speak of what was sent. Others speak of how it was sent, which people can mend.
            StatusCode::BAD_REQUEST
            | StatusCode::PAYLOAD_TOO_LARGE
            | StatusCode::UNSUPPORTED_MEDIA_TYPE
            | StatusCode::UNPROCESSABLE_ENTITY => Delivery::Refused(answer),
            _ => Delivery::Again { why: answer, after },
        }
    }

    fn hide(&self, text: &str) -> String {
        self.secrets
            .iter()
            .fold(text.to_owned(), |text, secret| secret.hide(&text))
    }
}

/// The parts of a URL.
struct Address {
    tls: bool,
    host: String,
    port: u16,
    path: String,
    shown: String,
}

impl Address {
    /// What is wrong is said without the URL, which may be a secret.
    fn parse(url: &str) -> Result<Self, String> {
        let uri: Uri = url
            .parse()
            .map_err(|error| format!("the address is no URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("the address must begin with https:// or http://".to_owned()),
        };
        let authority = uri.authority().ok_or("the address names no host")?;
        if authority.as_str().contains('@') {
            return Err(
                "the address holds a user: write `username` and `password_file` instead".to_owned(),
            );
        }
        let host = authority.host();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if bare.is_empty() {
            return Err("the address names no host".to_owned());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let scheme = if tls { "https" } else { "http" };
        Ok(Self {
            tls,
            host: bare.to_owned(),
            port,
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            shown: format!("{scheme}://{host}:{port}"),
        })
    }

    fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Whether a URL in the settings can be used at all.
pub fn check_url(url: &str) -> Result<(), String> {
    Address::parse(url).map(drop)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The header that lets the daemon in; what is in it joins the secrets.
fn header(login: &Login, secrets: &mut Vec<Secret>) -> Result<HeaderValue, String> {
    let text = match login {
        Login::Basic { username, password } => {
            let password = password.read()?;
            let encoded = STANDARD.encode(format!("{username}:{}", password.text()?));
            secrets.push(password);
            secrets.push(Secret::from(encoded.clone()));
            format!("Basic {encoded}")
        }
        Login::Bearer(token) => {
            let token = token.read()?;
            let text = format!("Bearer {}", token.text()?);
            secrets.push(token);
            text
        }
    };
    let mut value = HeaderValue::from_str(&text)
        .map_err(|_| "the password or token has characters that no header takes".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// TLS with the authorities of `ca_file`, or else of the host.
fn connector(endpoint: &Endpoint) -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    match &endpoint.ca_file {
        Some(path) => {
            let unreadable = |error: &dyn std::fmt::Display| {
                format!("{} has no certificates: {error}", path.display())
            };
            for certificate in
                CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?
            {
                let certificate = certificate.map_err(|error| unreadable(&error))?;
                roots.add(certificate).map_err(|error| unreadable(&error))?;
            }
        }
        None => {
            let _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(match &endpoint.ca_file {
            Some(path) => format!("{} has no certificates", path.display()),
            None => "this host knows no authorities: install ca-certificates, or name a `ca_file`"
                .to_owned(),
        });
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be used: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_host_and_port_of_an_address_are_shown() {
        let address =
            Address::parse("https://hooks.example/T0/B1/sesame?key=sesame").expect("taken");
        assert_eq!(address.shown, "https://hooks.example:443");
        assert_eq!(address.path, "/T0/B1/sesame?key=sesame");
        let address = Address::parse("http://[::1]:9093").expect("taken");
        assert_eq!((address.host.as_str(), address.port), ("::1", 9093));
        for url in [
            "ftp://sesame.example/",
            "https://me:sesame@hooks.example/",
            "sesame",
            "https:///sesame",
            "http://sesame example/",
        ] {
            let why = Address::parse(url).err().expect(url);
            assert!(!why.contains("sesame"), "{url}: {why}");
        }
    }
}
