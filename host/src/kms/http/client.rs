//! Clients: how they connect, and for how long they keep connections.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect};

use super::proxy::Proxies;
use super::trust::{Identity, configuration};
use super::{ATTEMPT, root_cause};
use crate::{Environment, Error};

/// How long a connection may take to be made: name, TCP and TLS. Shorter than an attempt, so that a service which can't be reached is told from
/// one that doesn't answer; long enough for a name of which the first name server says nothing (5 seconds) to be asked of the second one.
/// Addresses of one family share it; those of the other one are tried after 0.3 seconds.
const CONNECT: Duration = ATTEMPT.saturating_sub(Duration::from_secs(2));
/// How long a connection is kept that nobody uses: less than the minute after which the first load balancers and NATs forget it.
const IDLE: Duration = Duration::from_secs(50);
/// A connection is looked after this often while nothing is sent.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long what was sent may stay without an acknowledgement: nobody is there any more.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// What a client is made of.
#[derive(Default)]
pub(crate) struct Parts<'a> {
    /// For `https`; else for plain `http` to this machine or its link.
    pub encrypted: bool,
    /// Whom to trust in place of the system's roots.
    pub authorities: Option<&'a Path>,
    /// What is shown to servers that want a client's certificate.
    pub identity: Option<Identity>,
    /// For `https`.
    pub proxies: Arc<Proxies>,
    /// What each connection is made to, whatever an address says.
    pub socket: Option<&'a Path>,
}

impl Parts<'_> {
    /// A client that follows no redirect. One for plain `http` uses no proxy and needs no certificate authority.
    ///
    /// # Errors
    /// If files don't hold what they should, or nobody is there to be trusted.
    pub fn client(self, environment: &Environment) -> Result<Client, Error> {
        built(self.builder(environment)?)
    }

    /// The same, with a new connection for each call.
    pub fn fresh_client(self, environment: &Environment) -> Result<Client, Error> {
        built(self.builder(environment)?.pool_max_idle_per_host(0))
    }

    pub(super) fn builder(self, environment: &Environment) -> Result<ClientBuilder, Error> {
        let builder = Client::builder().redirect(redirect::Policy::none()).connect_timeout(CONNECT).pool_idle_timeout(IDLE);
        let builder = builder.tcp_keepalive(KEEPALIVE).tcp_keepalive_interval(KEEPALIVE).tcp_keepalive_retries(3);
        let builder = builder.tcp_user_timeout(UNACKNOWLEDGED);
        let builder = self.socket.iter().fold(builder, |builder, socket| builder.unix_socket(*socket));
        if !self.encrypted {
            return Ok(builder.no_proxy().tls_certs_only([]));
        }
        let proxies = self.proxies;
        let proxy = reqwest::Proxy::custom(move |url| proxies.of(url).ok().flatten().map(super::proxy::Proxy::url));
        let tls = configuration(self.authorities, environment, self.identity)?;
        Ok(builder.https_only(true).proxy(proxy).tls_backend_preconfigured(tls))
    }
}

fn built(builder: ClientBuilder) -> Result<Client, Error> {
    builder.build().map_err(|error| Error::Internal { reason: format!("HTTP can't be set up: {}", root_cause(&error)) })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::*;

    const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
    const REFUSING: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

    /// Answers each connection with 204.
    async fn serve(listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await?;
                stream.write_all(b"HTTP/1.1 204 Done\r\nconnection: close\r\n\r\n").await
            });
        }
    }

    /// An address where a connection is neither made nor refused: nobody takes those that wait, and no more may wait.
    async fn black_hole(address: SocketAddr) -> (TcpListener, Vec<TcpStream>) {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            waiting.push(stream);
        }
        (listener, waiting)
    }

    /// The status that is answered by a name with these addresses.
    async fn status(addresses: &[IpAddr], port: u16) -> Result<u16, String> {
        let addresses: Vec<_> = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let builder = Parts::default().builder(&Environment::empty()).unwrap().resolve_to_addrs("kms.test", &addresses);
        let response = builder.build().unwrap().get(format!("http://kms.test:{port}")).send().await;
        response.map(|response| response.status().as_u16()).map_err(|error| root_cause(&error))
    }

    #[tokio::test]
    async fn addresses_that_refuse_or_swallow_connections_give_way_to_the_next_ones() {
        let listener = TcpListener::bind((HERE, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve(listener));
        let (here, v6) = (IpAddr::V4(HERE), IpAddr::V6(Ipv6Addr::LOCALHOST));
        for addresses in [&[here][..], &[REFUSING, here], &[v6, here], &[v6, REFUSING, here], &[here, v6]] {
            let start = Instant::now();
            assert_eq!(status(addresses, port).await, Ok(204), "{addresses:?}");
            assert!(start.elapsed() < Duration::from_secs(2), "{addresses:?}");
        }
        // The other family is tried soon, the next address of the same one when half of the time is over.
        let _of_v6 = black_hole(SocketAddr::new(v6, port)).await;
        let start = Instant::now();
        assert_eq!(status(&[v6, here], port).await, Ok(204));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let swallowing = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
        let _of_v4 = black_hole(SocketAddr::new(swallowing, port)).await;
        assert_eq!(status(&[swallowing, here], port).await, Ok(204));
        // All of them swallow: it ends before an attempt would, so that it's known that nobody was asked.
        let start = Instant::now();
        status(&[swallowing], port).await.unwrap_err();
        assert!(start.elapsed() < ATTEMPT, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_service_that_has_only_an_address_of_ipv6_is_reached() {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve(listener));
        assert_eq!(status(&[Ipv6Addr::LOCALHOST.into()], port).await, Ok(204));
        let response = Parts::default().client(&Environment::empty()).unwrap().get(format!("http://[::1]:{port}")).send().await;
        assert_eq!(response.unwrap().status(), 204);
    }
}
