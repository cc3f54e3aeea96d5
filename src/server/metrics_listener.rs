//! A small HTTP listener for whoever watches the node, on a thread of its own.
//!
//! ```text
//!   GET /metrics   everything, as Prometheus reads it         always
//!   GET /healthz   200 while the process answers              always
//!   GET /readyz    200 where it can be used, else 503 and why
//! ```
//!
//! Architecture invariant: no thread that serves clients ever waits for this one. A scrape locks one shard after
//! another for a moment, at most every 100 ms, as `freight stats` does. One question a connection, [`CONNECTIONS_MAX`]
//! at a time, [`CONNECTION_WAIT`] for all of it: more wait with the system.
#![forbid(unsafe_code)]

use super::metrics_page;
use super::node::Shared;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as BlockingListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Connections at a time.
const CONNECTIONS_MAX: usize = 16;

/// How long a connection may last.
const CONNECTION_WAIT: Duration = Duration::from_secs(5);

/// How long it may be silent before its question is there: whoever only holds places does not keep others from theirs.
const QUESTION_WAIT: Duration = Duration::from_millis(500);

/// What is read of a question, at most.
const BUFFER_BYTES_MAX: usize = 16 << 10;

/// How long accepting pauses when the system refuses.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The thread that answers. Ends when dropped.
#[derive(Debug)]
pub(super) struct MetricsListener {
    address: SocketAddr,
    ending: Arc<Notify>,
    join: Option<JoinHandle<()>>,
}

impl MetricsListener {
    /// Listens, and answers from now on.
    pub(super) fn start(address: SocketAddr, shared: Arc<Shared>) -> io::Result<Self> {
        let listener = BlockingListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let ending = Arc::new(Notify::new());
        let told = Arc::clone(&ending);
        let join = std::thread::Builder::new().name("freight-metrics".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = told.notified() => {}
                    Err(error) = listen(listener, &shared) => tracing::error!("metrics: {error}"),
                }
            });
        })?;
        Ok(Self { address, ending, join: Some(join) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsListener {
    fn drop(&mut self) {
        self.ending.notify_one();
        if let Some(join) = self.join.take()
            && join.join().is_err()
        {
            tracing::error!("the thread for metrics panicked");
        }
    }
}

async fn listen(listener: BlockingListener, shared: &Arc<Shared>) -> io::Result<Infallible> {
    let listener = TcpListener::from_std(listener)?;
    let mut answering = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if answering.len() < CONNECTIONS_MAX => accepted,
            Some(_) = answering.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                let answer = answer_one(stream, Arc::clone(shared));
                answering.spawn(timeout(CONNECTION_WAIT, answer));
            }
            Err(error) => {
                tracing::warn!("metrics: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one question. What is no question gets its 400 from hyper.
async fn answer_one(stream: TcpStream, shared: Arc<Shared>) {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(QUESTION_WAIT)
        .keep_alive(false)
        .half_close(true)
        .max_buf_size(BUFFER_BYTES_MAX);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(&request, &shared);
        async { Ok::<_, Infallible>(answer) }
    });
    // Whether it was taken or not, the connection ends here.
    let _taken = builder.serve_connection(TokioIo::new(stream), service).await;
}

fn answer(request: &Request<Incoming>, shared: &Shared) -> Response<String> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let (status, kind, text) = match request.uri().path() {
        _ if request.method() != Method::GET => (StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET alone\n".to_owned()),
        "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics_page::page(shared)),
        "/healthz" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => match shared.readiness() {
            Ok(()) => (StatusCode::OK, TEXT, "ready\n".to_owned()),
            Err(why) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("not ready: {why}\n")),
        },
        _ => (StatusCode::NOT_FOUND, TEXT, "there are /metrics, /healthz and /readyz\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::{Identity, NodeConfig};
    use std::io::{Read, Write};
    use std::net::TcpStream as BlockingStream;

    /// A node that does not serve, and who tells of it.
    fn told(change: impl FnOnce(&mut NodeConfig)) -> (Arc<Shared>, MetricsListener) {
        let identity = Identity { incarnation: [1; 16], hash_secret: [2; 32] };
        let mut config = NodeConfig::new(vec!["tcp://127.0.0.1:0".parse().expect("an endpoint")], identity);
        change(&mut config);
        let shared = Shared::new(config).expect("a node");
        let address = "127.0.0.1:0".parse().expect("an address");
        let listener = MetricsListener::start(address, Arc::clone(&shared)).expect("a port is free");
        (shared, listener)
    }

    fn readyz(listener: &MetricsListener) -> String {
        let mut stream = BlockingStream::connect(listener.address()).expect("it listens");
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: node\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    }

    #[test]
    fn a_node_that_drains_is_not_ready_and_says_so() {
        let (shared, listener) = told(|_| {});
        assert!(readyz(&listener).starts_with("HTTP/1.1 200 OK\r\n"));
        shared.drain.begin();
        let answer = readyz(&listener);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("not ready: it is draining\n"), "{answer}");
    }

    #[test]
    fn a_node_without_the_map_that_it_needs_is_not_ready() {
        let (_shared, listener) = told(|config| config.mapped = true);
        let answer = readyz(&listener);
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("it has no shard map yet\n"), "{answer}");
    }
}
