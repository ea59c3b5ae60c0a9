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
pub(super) const MAX_STREAMS: u32 = 100;
/// The most bytes of a request's headers.
const MAX_HEADERS: u32 = 16 << 10;
/// After so long without a frame a client is asked whether it is still there, and has [`PONG`] to answer.
const PING: Duration = Duration::from_secs(60);
const PONG: Duration = Duration::from_secs(20);

/// How long a connection lasts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    /// After so long its client is told to use another one.
    pub max: Duration,
    /// So much longer it has for what is under way, whether it has heard that or not.
    pub last_requests: Duration,
}

/// HTTP/2 with this server's limits.
pub(super) struct Protocol {
    builder: Builder<Promptly>,
    age: Age,
}

impl Protocol {
    pub fn new(age: Age) -> Self {
        Self::with_pings(PING, PONG, age)
    }

    fn with_pings(ping: Duration, pong: Duration, age: Age) -> Self {
        let mut builder = Builder::new(Promptly);
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADERS)
            .keep_alive_interval(ping)
            .keep_alive_timeout(pong)
            // gRPC knows no dates.
            .auto_date_header(false);
        Self { builder, age }
    }

    /// Serves one connection until its client closes it, it is old, or `stop`; then what is under way may still end. At `close` it ends at once.
    pub fn serve<S, F>(
        &self,
        stream: S,
        service: F,
        mut stop: watch::Receiver<bool>,
        mut close: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send + use<S, F>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Send + 'static,
        F::Future: Send + 'static,
    {
        let stream = Corked::new(stream);
        let connection = self.builder.serve_connection(TokioIo::new(stream.clone()), service);
        let age = self.age;
        async move {
            let served = async {
                let mut connection = pin!(connection);
                tokio::select! {
                    ended = draining(connection.as_mut(), &stream) => ended,
                    () = stopped(&mut stop) => finish(connection, &stream).await,
                    () = tokio::time::sleep(age.max) => finish(connection, &stream).await,
                }
            };
            // The first two don't wait for the client, which need not answer, read or go; they come first, so that nothing more is served then.
            let ended = tokio::select! {
                biased;
                () = stopped(&mut close) => Err("it was closed".to_owned()),
                () = tokio::time::sleep(age.max + age.last_requests) => Err("its client did not leave it when it was old".to_owned()),
                ended = served => ended.map_err(|error| error.to_string()),
            };
            if let Err(error) = ended {
                tracing::debug!(error, "a connection broke");
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

    /// GET http://a/ on the stream 1, in the static table's numbers (RFC 7541 appendix A).
    const REQUEST: &[u8] = b"\0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01a";

    /// Of a connection that nobody has closed.
    fn never() -> watch::Receiver<bool> {
        let (sender, receiver) = watch::channel(false);
        std::mem::forget(sender);
        receiver
    }

    fn aged(max: Duration) -> Age {
        Age { max, last_requests: LONG }
    }

    /// A client that has said hello, and the task that serves it.
    async fn greeted(protocol: Protocol) -> (DuplexStream, tokio::task::JoinHandle<()>, watch::Sender<bool>) {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let (stop, stopped) = watch::channel(false);
        let service = hyper::service::service_fn(|_| async { Ok(Response::new(Body::default())) });
        let served = tokio::spawn(protocol.serve(server, service, stopped, never()));
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
        tokio::spawn(Protocol::new(aged(LONG)).serve(Counting(server, writes.clone()), service, stopped, never()));
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        // Its own, and the acknowledgement of the client's.
        until(&mut client, SETTINGS_FRAME).await;
        until(&mut client, SETTINGS_FRAME).await;
        let before = writes.load(Ordering::Relaxed);
        let ping = b"\0\0\x08\x06\0\0\0\0\0whatever";
        client.write_all(&[&ping[..], REQUEST].concat()).await.unwrap();
        until(&mut client, PING_FRAME).await;
        until(&mut client, HEADERS_FRAME).await;
        until(&mut client, HEADERS_FRAME).await;
        assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
    }

    #[tokio::test]
    async fn a_client_that_does_not_answer_a_ping_is_sent_away() {
        let (mut client, served, _stop) = greeted(Protocol::with_pings(SHORT, SHORT, aged(LONG))).await;
        until(&mut client, PING_FRAME).await;
        tokio::time::timeout(LONG, served).await.expect("it ends by itself").unwrap();
    }

    #[tokio::test]
    async fn the_client_of_an_old_connection_is_told_and_what_it_had_asked_for_ends() {
        let (mut client, served, _stop) = greeted(Protocol::with_pings(LONG, LONG, Age { max: SHORT, last_requests: LONG })).await;
        until(&mut client, GOAWAY_FRAME).await;
        // As HTTP/2 has it, what arrives before the client has acknowledged that still counts.
        client.write_all(REQUEST).await.unwrap();
        until(&mut client, HEADERS_FRAME).await;
        drop(client);
        tokio::time::timeout(LONG, served).await.expect("it ends by itself").unwrap();
    }

    /// It reads and acknowledges nothing of what the server says, and goes on asking.
    #[tokio::test]
    async fn an_old_connection_is_closed_whatever_its_client_does() {
        const AGE: Duration = Duration::from_millis(300);
        let (client, served, _stop) = greeted(Protocol::with_pings(LONG, LONG, Age { max: AGE, last_requests: AGE })).await;
        let begun = tokio::time::Instant::now();
        let (mut reader, mut writer) = tokio::io::split(client);
        let reading = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
        let mut asked = 0;
        for stream in (1_u32..).step_by(2) {
            let request = [&REQUEST[..5], &stream.to_be_bytes(), &REQUEST[9..]].concat();
            if writer.write_all(&request).await.is_err() {
                break;
            }
            asked += 1;
            assert!(begun.elapsed() < LONG / 10, "the connection is still served");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(begun.elapsed() >= 2 * AGE && asked > 10, "{asked}");
        tokio::time::timeout(LONG, served).await.expect("it ends by itself").unwrap();
        reading.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_is_to_be_closed_ends_at_once_whatever_is_under_way() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let (_stop, stopped) = watch::channel(false);
        let (close, closed) = watch::channel(false);
        let (under_way, mut is_under_way) = watch::channel(());
        let service = hyper::service::service_fn(move |_| {
            let under_way = under_way.clone();
            async move {
                under_way.send_replace(());
                std::future::pending::<Result<Response<Body>, Infallible>>().await
            }
        });
        let served = tokio::spawn(Protocol::new(aged(LONG)).serve(server, service, stopped, closed));
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        client.write_all(REQUEST).await.unwrap();
        is_under_way.changed().await.unwrap();
        close.send_replace(true);
        tokio::time::timeout(LONG, served).await.expect("it ends by itself").unwrap();
        let given_up = async { while is_under_way.changed().await.is_ok() {} };
        tokio::time::timeout(LONG, given_up).await.expect("the request ends with its connection");
    }

    #[tokio::test]
    async fn a_server_that_stops_says_so_to_its_clients() {
        let (mut client, served, stop) = greeted(Protocol::with_pings(LONG, LONG, aged(LONG))).await;
        stop.send_replace(true);
        until(&mut client, GOAWAY_FRAME).await;
        drop(client);
        tokio::time::timeout(LONG, served).await.expect("it ends by itself").unwrap();
    }
}
