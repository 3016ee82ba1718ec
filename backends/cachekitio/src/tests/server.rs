//! A server that answers by script and notes what it was asked: HTTP/1.1 byte for byte, with or without TLS, and HTTP/2.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachekit_test_servers::certificates::Identity;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// One request, as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// One step of an answer.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// Sends these bytes again and again.
    Forever(Vec<u8>, Duration),
    /// Closes the connection.
    Close,
    /// Says nothing more and keeps the connection.
    Hang,
}

/// An answer with its length; the connection is kept.
pub(super) fn reply(status: u16, headers: &[(&str, &[u8])], body: &[u8]) -> Vec<Step> {
    let mut answer = format!("HTTP/1.1 {status} x\r\n").into_bytes();
    for (name, value) in headers {
        answer.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    if status != 204 && status != 304 {
        answer.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    answer.extend_from_slice(b"\r\n");
    if status != 204 && status != 304 {
        answer.extend_from_slice(body);
    }
    vec![Step::Send(answer)]
}

/// An answer of exactly these bytes; the connection is closed.
pub(super) fn raw(answer: impl AsRef<[u8]>) -> Vec<Step> {
    vec![Step::Send(answer.as_ref().to_vec()), Step::Close]
}

type Script = Arc<dyn Fn(&Request, usize) -> Vec<Step> + Send + Sync>;

/// The server. It ends with the runtime of its test.
pub(super) struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    /// Without TLS. `script` gets a request and its number.
    pub(super) async fn plain(script: impl Fn(&Request, usize) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(script)).await
    }

    /// With TLS.
    pub(super) async fn tls(
        identity: &Identity,
        script: impl Fn(&Request, usize) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(acceptor(identity, &[b"http/1.1"])), Arc::new(script)).await
    }

    async fn start(tls: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let noted = (Arc::clone(&requests), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                *noted.1.lock().unwrap() += 1;
                let (tls, script, requests) = (tls.clone(), Arc::clone(&script), Arc::clone(&noted.0));
                tokio::spawn(async move {
                    match tls {
                        None => talk(socket, script, requests).await,
                        Some(tls) => {
                            if let Ok(socket) = tls.accept(socket).await {
                                talk(socket, script, requests).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, requests, connections }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What arrived so far.
    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

pub(super) fn acceptor(identity: &Identity, alpn: &[&[u8]]) -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(identity.cert()).unwrap();
    let key = PrivateKeyDer::from_pem_file(identity.key()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

async fn talk(mut socket: impl AsyncRead + AsyncWrite + Unpin, script: Script, requests: Arc<Mutex<Vec<Request>>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut socket, &mut buffer).await {
        let number = {
            let mut requests = requests.lock().unwrap();
            requests.push(request.clone());
            requests.len() - 1
        };
        for step in script(&request, number) {
            let sent = match step {
                Step::Send(bytes) => socket.write_all(&bytes).await,
                Step::Wait(time) => {
                    tokio::time::sleep(time).await;
                    Ok(())
                }
                Step::Forever(bytes, pause) => loop {
                    if let Err(error) = socket.write_all(&bytes).await {
                        break Err(error);
                    }
                    tokio::time::sleep(pause).await;
                },
                Step::Close => {
                    let _ = socket.shutdown().await;
                    return;
                }
                Step::Hang => std::future::pending().await,
            };
            if sent.is_err() {
                return;
            }
        }
    }
}

/// Reads one request with a body of known length.
async fn read(socket: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while buffer.len() < end + length {
        if socket.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    let body = buffer[end..end + length].to_vec();
    buffer.drain(..end + length);
    Some(Request { method, path, headers, body })
}

/// How an answer under HTTP/2 ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    /// The stream is reset after the body.
    Reset,
    /// Nothing follows the body, not even its end.
    Open,
    /// Not even headers come.
    Silent,
}

/// An answer under HTTP/2: status, headers, body, end.
pub(super) type Framed = (u16, Vec<(&'static str, String)>, Vec<u8>, End);

/// Starts a server that speaks HTTP/2 alone and answers each path by script, after a pause. Returns its port.
pub(super) async fn framed(
    identity: &Identity,
    script: impl Fn(&str) -> (Duration, Framed) + Send + Sync + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tls, script) = (acceptor(identity, &[b"h2"]), Arc::new(script));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (tls, script) = (tls.clone(), Arc::clone(&script));
            tokio::spawn(async move {
                let Ok(socket) = tls.accept(socket).await else { return };
                let Ok(mut connection) = h2::server::handshake(socket).await else { return };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let (pause, (status, headers, body, end)) = script(request.uri().path());
                    tokio::spawn(async move {
                        tokio::time::sleep(pause).await;
                        if end == End::Silent {
                            return std::future::pending().await;
                        }
                        let mut response = http::Response::builder().status(status);
                        for (name, value) in headers {
                            response = response.header(name, value);
                        }
                        let whole = end == End::Whole;
                        let Ok(mut stream) = respond.send_response(response.body(()).unwrap(), false) else { return };
                        let _ = stream.send_data(body.into(), whole);
                        match end {
                            End::Reset => {
                                tokio::time::sleep(Duration::from_millis(20)).await;
                                stream.send_reset(h2::Reason::INTERNAL_ERROR);
                            }
                            End::Open => std::future::pending().await,
                            _ => {}
                        }
                    });
                }
            });
        }
    });
    port
}
