//! Where a server can be reached, and connections to it. Uses tokio's sockets and rustls.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::Deserialize;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};

use crate::Kind;
use crate::pinned::Pinned;
use crate::stream::Stream;

/// A place where a server listens, and what has to be spoken there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Endpoint {
    /// A port of the loopback interface.
    pub port: Option<u16>,
    /// Or the path of a unix socket.
    pub path: Option<PathBuf>,
    /// Whether it speaks TLS.
    #[serde(default)]
    pub tls: bool,
    /// Whether it speaks HTTP/2, where the client asks for it.
    #[serde(default)]
    pub h2: bool,
    /// Whether its server knows nothing of the meter: it is asked for `/` alone, and any whole answer is right.
    #[serde(default)]
    pub plain: bool,
}

/// Makes connections, with TLS where an endpoint wants it.
#[derive(Clone)]
pub struct Connector {
    http1: TlsConnector,
    http2: TlsConnector,
}

/// What a connection is to carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Endpoint {
    /// A port of the loopback interface where plain HTTP/1 is spoken.
    pub fn tcp(port: u16) -> Self {
        Self { port: Some(port), path: None, tls: false, h2: false, plain: false }
    }

    /// The same in front of a server that knows nothing of the meter.
    pub fn plain(port: u16) -> Self {
        Self { plain: true, ..Self::tcp(port) }
    }

    /// Whether clients of this kind are understood there.
    pub(crate) fn speaks(&self, kind: Kind) -> bool {
        match kind {
            Kind::KeepAlive | Kind::Pausing | Kind::New | Kind::Held | Kind::Pipelined => true,
            Kind::Slow | Kind::Upload | Kind::WebSocket => !self.plain,
            Kind::Http2 => self.h2 && !self.plain,
        }
    }
}

impl Connector {
    /// For servers that have the one certificate of this directory.
    ///
    /// # Errors
    ///
    /// When there is no `cert.pem` in it.
    pub fn new(identity: &Path) -> Result<Self> {
        let path = identity.join("cert.pem");
        let pem = fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let certificate = CertificateDer::from_pem_slice(&pem).context("failed to read the certificate")?;
        let connector = |protocol: &[u8]| {
            let mut config = ClientConfig::builder()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Pinned::new(certificate.clone())))
                .with_no_client_auth();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self { http1: connector(b"http/1.1"), http2: connector(b"h2") })
    }

    pub(crate) async fn connect(&self, endpoint: &Endpoint, protocol: Protocol) -> io::Result<Stream> {
        let Some(port) = endpoint.port else {
            let path = endpoint.path.as_deref().unwrap_or(Path::new(""));
            return Ok(Stream::Unix(UnixStream::connect(path).await?));
        };
        let stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        stream.set_nodelay(true)?;
        if !endpoint.tls {
            return Ok(Stream::Tcp(stream));
        }
        let connector = match protocol {
            Protocol::Http1 => &self.http1,
            Protocol::Http2 => &self.http2,
        };
        let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
        Ok(Stream::Tls(Box::new(connector.connect(name, stream).await?)))
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}
