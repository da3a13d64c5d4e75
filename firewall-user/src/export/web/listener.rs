//! Accepts connections and sees to it that none of them costs more than it should: each has a seat, a time for its handshake,
//! for its headers and for taking the answer, and an end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::seats::{Seat, Seats};
use super::tls::Certificates;

/// For a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For the headers of a request, and between two requests.
const HEADERS: Duration = Duration::from_secs(30);
/// For taking what was sent: the kernel ends the connection of who reads nothing for so long.
const READING_MS: u32 = 30_000;
/// After this a connection ends with its current answer.
const LONGEST: Duration = Duration::from_secs(600);
/// For that answer.
const LAST_ANSWER: Duration = Duration::from_secs(30);
/// Size of a request's headers, in bytes, and their number.
const HEADER_BYTES: usize = 16 << 10;
const MOST_HEADERS: usize = 64;
/// How often the certificate is looked at while nobody connects, so that a wrong one is told.
const LOOK: Duration = Duration::from_secs(60);
/// After an error of accept, such as no free file.
const BREATH: Duration = Duration::from_millis(100);

/// Serves for ever.
pub async fn serve(listener: TcpListener, router: Router, certificates: Option<Certificates>) {
    let certificates = certificates.map(Arc::new);
    let seats = Seats::default();
    let mut looks = tokio::time::interval(LOOK);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!("a connection to the metrics cannot be accepted: {error}");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            },
            _ = looks.tick() => {
                if let Some(certificates) = &certificates {
                    certificates.current();
                }
                continue;
            }
        };
        let Some(seat) = seats.take(peer.ip()) else {
            debug!(%peer, "too many connections to the metrics");
            continue;
        };
        tokio::spawn(connection(
            stream,
            peer,
            router.clone(),
            certificates.clone(),
            seat,
        ));
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    certificates: Option<Arc<Certificates>>,
    _seat: Seat,
) {
    if let Err(error) = set_tcp_user_timeout(&stream, READING_MS) {
        debug!(%peer, "a slow reader will not be ended: {error}");
    }
    let outcome = match certificates {
        None => http(stream, router).await,
        Some(certificates) => {
            let accept = TlsAcceptor::from(certificates.current()).accept(stream);
            match timeout(HANDSHAKE, accept).await {
                Ok(Ok(stream)) => http(stream, router).await,
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no handshake in time".to_owned()),
            }
        }
    };
    if let Err(error) = outcome {
        debug!(%peer, "a connection to the metrics ended: {error}");
    }
}

async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
) -> Result<(), String> {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS)
        .max_header_size(HEADER_BYTES)
        .max_headers(MOST_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = match timeout(LONGEST, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            match timeout(LAST_ANSWER, connection).await {
                Ok(ended) => ended,
                Err(_) => return Err("the last answer was not taken".to_owned()),
            }
        }
    };
    ended.map_err(|error| error.to_string())
}
