//! HTTP/2 on one connection, in one task.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2::Builder;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};

use super::corked::Corked;
use super::stopped;

/// The most exchanges that one connection may have under way.
const MAX_STREAMS: u32 = 100;
/// The most bytes of a request's headers.
const MAX_HEADERS: u32 = 16 << 10;
/// After so long without a frame a client is asked whether it is still there, and has [`PONG`] to answer.
const PING: Duration = Duration::from_secs(60);
const PONG: Duration = Duration::from_secs(20);
/// A connection is closed, at a moment that suits it, after so long: a certificate is not looked at again while one stands.
const MAX_AGE: Duration = Duration::from_secs(60 * 60);

/// HTTP/2 with this server's limits.
pub(super) struct Protocol {
    builder: Builder<Promptly>,
    max_age: Duration,
}

impl Default for Protocol {
    fn default() -> Self {
        Self::new(PING, PONG, MAX_AGE)
    }
}

impl Protocol {
    fn new(ping: Duration, pong: Duration, max_age: Duration) -> Self {
        let mut builder = Builder::new(Promptly);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(ping)
            .keep_alive_timeout(pong)
            // gRPC knows no dates.
            .auto_date_header(false);
        Self { builder, max_age }
    }

    /// Serves one connection until its client closes it, it is old, or `stop`; then what is under way may still end.
    pub fn serve<S, F>(&self, stream: S, service: F, mut stop: watch::Receiver<bool>) -> impl Future<Output = ()> + Send + use<S, F>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        F::Future: Send + 'static,
    {
        let stream = Corked::new(stream);
        let connection = self.builder.serve_connection(TokioIo::new(stream.clone()), service);
        let max_age = self.max_age;
        async move {
            let mut connection = pin!(connection);
            let ended = tokio::select! {
                ended = draining(connection.as_mut(), &stream) => ended,
                () = stopped(&mut stop) => finish(connection, &stream).await,
                () = tokio::time::sleep(max_age) => finish(connection, &stream).await,
            };
            if let Err(error) = ended {
                tracing::debug!(error = error.to_string(), "a connection broke");
            }
        }
    }
}

type Connection<S, F> = hyper::server::conn::http2::Connection<TokioIo<Corked<S>>, F, Promptly>;

/// The connection to its end. What it has written in one turn leaves at the turn's end.
async fn draining<S, F>(mut connection: Pin<&mut Connection<S, F>>, stream: &Corked<S>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    F::Future: Send + 'static,
{
    std::future::poll_fn(|context| {
        let ended = connection.as_mut().poll(context);
        stream.drain(context);
        ended
    })
    .await
}

/// Takes no more requests, and waits for those that are under way.
async fn finish<S, F>(mut connection: Pin<&mut Connection<S, F>>, stream: &Corked<S>) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    F::Future: Send + 'static,
{
    connection.as_mut().graceful_shutdown();
    draining(connection, stream).await
}

/// Runs a request where it arrives, in its connection's task, and gives it a task of its own if it has to wait: most don't. What goes from task
/// to task costs as much as all else that HTTP/2 does with a request, and answers that are ready together leave in one write.
#[derive(Clone, Copy)]
struct Promptly;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Promptly {
    fn execute(&self, request: F) {
        let mut request = Box::pin(request);
        // Nobody needs to be woken: whatever isn't ready is polled again by its task.
        if request.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::spawn(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use hyper::body::{Body as HttpBody, Frame};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf};
    use tonic::codegen::Bytes;
    use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(60);
    /// Types of frames (RFC 9113 section 6).
    const HEADERS_FRAME: u8 = 1;
    const SETTINGS_FRAME: u8 = 4;
    const PING_FRAME: u8 = 6;
    const GOAWAY_FRAME: u8 = 7;

    /// A client that has said hello, and the task that serves it.
    async fn greeted(protocol: Protocol) -> (DuplexStream, tokio::task::JoinHandle<()>, watch::Sender<bool>) {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let (stop, stopped) = watch::channel(false);
        let service = hyper::service::service_fn(|_| async { Ok(Response::new(Body::default())) });
        let served = tokio::spawn(protocol.serve(server, service, stopped));
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        (client, served, stop)
    }

    /// Reads frames until one of this type.
    async fn until(client: &mut DuplexStream, wanted: u8) {
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.unwrap();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            client.read_exact(&mut vec![0; length]).await.unwrap();
            if head[3] == wanted {
                return;
            }
        }
    }

    /// An answer as long as a wrapped key, and its trailers.
    struct Answer(u8);

    impl HttpBody for Answer {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0 += 1;
            Poll::Ready(match self.0 {
                1 => Some(Ok(Frame::data(vec![7; 2000].into()))),
                2 => Some(Ok(Frame::trailers(HeaderMap::from_iter([(
                    HeaderName::from_static("grpc-status"),
                    HeaderValue::from_static("0"),
                )])))),
                _ => None,
            })
        }
    }

    /// Counts what costs a system call.
    struct Counting(DuplexStream, Arc<AtomicUsize>);

    impl AsyncRead for Counting {
        fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Counting {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
            self.1.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }

    #[tokio::test]
    async fn an_answer_its_trailers_and_an_acknowledged_ping_leave_in_one_write() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let writes = Arc::new(AtomicUsize::new(0));
        let (_stop, stopped) = watch::channel(false);
        let service = hyper::service::service_fn(|_| async { Ok(Response::new(Body::new(Answer(0)))) });
        tokio::spawn(Protocol::default().serve(Counting(server, writes.clone()), service, stopped));
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        // Its own, and the acknowledgement of the client's.
        until(&mut client, SETTINGS_FRAME).await;
        until(&mut client, SETTINGS_FRAME).await;
        let before = writes.load(Ordering::Relaxed);
        let ping = b"\0\0\x08\x06\0\0\0\0\0whatever";
        // GET http://a/, in the static table's numbers (RFC 7541 appendix A).
        let request = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";
        client.write_all(&[&ping[..], request].concat()).await.unwrap();
        until(&mut client, PING_FRAME).await;
        until(&mut client, HEADERS_FRAME).await;
        until(&mut client, HEADERS_FRAME).await;
        assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
    }

    #[tokio::test]
    async fn a_client_that_does_not_answer_a_ping_is_sent_away() {
        let (mut client, served, _stop) = greeted(Protocol::new(SHORT, SHORT, LONG)).await;
        until(&mut client, PING_FRAME).await;
        tokio::time::timeout(LONG, served).await.expect("it ends by itself").unwrap();
    }

    #[tokio::test]
    async fn an_old_connection_is_closed() {
        let (mut client, served, _stop) = greeted(Protocol::new(LONG, LONG, SHORT)).await;
        until(&mut client, GOAWAY_FRAME).await;
        drop(client);
        tokio::time::timeout(LONG, served).await.expect("it ends by itself").unwrap();
    }

    #[tokio::test]
    async fn a_server_that_stops_says_so_to_its_clients() {
        let (mut client, served, stop) = greeted(Protocol::new(LONG, LONG, LONG)).await;
        stop.send_replace(true);
        until(&mut client, GOAWAY_FRAME).await;
        drop(client);
        tokio::time::timeout(LONG, served).await.expect("it ends by itself").unwrap();
    }
}
