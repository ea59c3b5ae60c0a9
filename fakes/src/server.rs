//! The listener: a thread with its own runtime, so that blocking tests can use the fake as well as async ones.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tower::ServiceExt;

/// Put on a response to close the connection without sending it.
#[derive(Clone)]
pub(crate) struct HangUp;

pub(crate) struct Server {
    address: SocketAddr,
    scheme: &'static str,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves the router on this port of 127.0.0.1; 0 takes a free one.
    pub(crate) fn start(port: u16, tls: Option<TlsAcceptor>, router: Router) -> Self {
        let listener = StdListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a port of 127.0.0.1");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (stop, stopped) = oneshot::channel();
        let thread =
            std::thread::Builder::new().name("fake".to_owned()).spawn(move || run(listener, tls, router, stopped)).expect("a thread");
        Self { address, scheme, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base of all URLs, such as `http://127.0.0.1:40123`.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(listener: StdListener, tls: Option<TlsAcceptor>, router: Router, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Dropping the runtime ends open connections, those that a fault keeps waiting among them.
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener).expect("the listener is non-blocking");
        tokio::select! {
            () = accept(listener, tls, router) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, router: Router) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let (tls, router) = (tls.clone(), router.clone());
        tokio::spawn(async move {
            match tls {
                None => connection(stream, router).await,
                // A client that does not trust the certificate is that client's test, not this one's error.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        connection(stream, router).await;
                    }
                }
            }
        });
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let answer = router.clone().oneshot(request.map(Body::new));
        async move {
            let response = answer.await.unwrap_or_else(|never| match never {});
            match response.extensions().get::<HangUp>() {
                Some(HangUp) => Err(io::Error::from(io::ErrorKind::ConnectionAborted)),
                None => Ok(response),
            }
        }
    });
    // Errors here are the client's leaving, or a fault that broke the connection on purpose.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

pub(crate) fn tls_acceptor(cert_pem: &str, key_pem: &str) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(cert_pem.as_bytes()).collect::<Result<Vec<_>, _>>().expect("a certificate chain in PEM");
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect("a private key in PEM");
    // Named, because a process that links two cryptography providers has no default.
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider knows the default protocol versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("the key belongs to the certificate");
    TlsAcceptor::from(Arc::new(config))
}
