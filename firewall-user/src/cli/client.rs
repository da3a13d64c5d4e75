//! Speaks to the daemon over its control socket, for verbs that just ask and print.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::daemon::REASON;
use crate::daemon::documents::ErrorDocument;

/// Nobody answers on the control socket.
#[derive(Debug, thiserror::Error)]
#[error(
    "no daemon answers on {}: {reason}; is `palisade daemon` running, and is this its socket \
     (--socket or PALISADE_SOCKET)?",
    socket.display()
)]
pub struct NoDaemon {
    socket: PathBuf,
    reason: String,
}

/// The daemon said no; its words are meant for people.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub message: String,
}

/// Why an answer that goes on was not read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Whoever read it had enough.
    Enough,
    /// It was told to stop.
    Stopped,
}

/// A client of one daemon.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
    reason: Option<String>,
}

impl Client {
    /// A client of the daemon on `socket`; nothing is opened yet.
    pub fn new(socket: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime cannot be started")?;
        Ok(Self {
            socket: socket.to_owned(),
            runtime,
            reason: None,
        })
    }

    /// Says why, for the audit log, in what is asked from now on.
    pub fn because(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// Asks for a document.
    pub fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.document(Method::GET, path, Bytes::new())
    }

    /// Asks for a change.
    pub fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<Value> {
        self.document(Method::POST, path, serde_json::to_vec(body)?.into())
    }

    /// Asks for something to be gone.
    pub fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.document(Method::DELETE, path, Bytes::new())
    }

    /// Hands on each line of an answer that goes on, until the daemon ends it.
    pub fn follow(
        &self,
        path: &str,
        mut line: impl FnMut(&[u8]) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let forever = std::future::pending();
        let ended = self.follow_until(
            path,
            forever,
            || {},
            |text| line(text).map(|()| ControlFlow::Continue(())),
        );
        ended.map(|_| ())
    }

    /// The same, until `line` has enough or `stop` is there. `begun` is called once the daemon has said
    /// yes. Fails if the daemon ends it.
    pub fn follow_until(
        &self,
        path: &str,
        stop: impl Future<Output = ()>,
        begun: impl FnOnce(),
        mut line: impl FnMut(&[u8]) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<Ended> {
        self.runtime.block_on(async {
            let response = self.send(Method::GET, path, Bytes::new()).await?;
            let mut body = succeeded(response).await?.into_body();
            begun();
            let mut stop = std::pin::pin!(stop);
            let mut waiting = Vec::new();
            loop {
                let frame = tokio::select! {
                    biased;
                    () = &mut stop => return Ok(Ended::Stopped),
                    frame = body.frame() => frame,
                };
                let Some(Ok(frame)) = frame else {
                    return Err(self.no_daemon("it went away".to_owned()));
                };
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                waiting.extend_from_slice(data);
                let mut read = 0;
                while let Some(end) = waiting[read..].iter().position(|byte| *byte == b'\n') {
                    let from = read;
                    read += end + 1;
                    if line(&waiting[from..read])?.is_break() {
                        return Ok(Ended::Enough);
                    }
                }
                waiting.drain(..read);
            }
        })
    }

    fn document(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Value> {
        self.runtime.block_on(async {
            let response = succeeded(self.send(method, path, body).await?).await?;
            let bytes = response
                .into_body()
                .collect()
                .await
                .map_err(|error| self.no_daemon(format!("it went away: {error}")))?
                .to_bytes();
            serde_json::from_slice(&bytes).context("the daemon's answer is no JSON")
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let stream = match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
                "{} may not be opened by this user: be root",
                self.socket.display()
            ),
            Err(error) => return Err(self.no_daemon(error.to_string())),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.no_daemon(error.to_string()))?;
        // Ends with the connection; what goes wrong shows in the request's own result.
        tokio::spawn(connection);
        let mut request = Request::builder();
        if let Some(reason) = &self.reason {
            let encoded = utf8_percent_encode(reason, NON_ALPHANUMERIC).to_string();
            request = request.header(REASON, encoded);
        }
        let request = request
            .method(method)
            .uri(path)
            .header("host", "palisade")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .context("the request cannot be built")?;
        sender
            .send_request(request)
            .await
            .map_err(|error| self.no_daemon(format!("it gave no answer: {error}")))
    }

    fn no_daemon(&self, reason: String) -> anyhow::Error {
        anyhow!(NoDaemon {
            socket: self.socket.clone(),
            reason,
        })
    }
}

/// Reads a document as a type.
pub fn read<T: DeserializeOwned>(document: Value) -> anyhow::Result<T> {
    serde_json::from_value(document)
        .context("the daemon's answer is not understood: are both of the same version?")
}

/// The response, or the daemon's reason why not.
async fn succeeded(response: Response<Incoming>) -> anyhow::Result<Response<Incoming>> {
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response);
    }
    let bytes = response
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let message = match serde_json::from_slice::<ErrorDocument>(&bytes) {
        Ok(document) => document.error,
        Err(_) => format!("the daemon answered {status}"),
    };
    Err(anyhow!(Refused { message }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_stale_socket_is_no_daemon() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("control.sock");
        let ask = || {
            let client = Client::new(&path).expect("a client");
            client.get("/v1/status").expect_err("nobody is there")
        };
        assert!(ask().is::<NoDaemon>());
        drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
        let error = ask();
        assert!(error.is::<NoDaemon>());
        assert!(error.to_string().contains("control.sock"), "{error}");
        assert!(error.to_string().contains("--socket"), "{error}");
    }
}
