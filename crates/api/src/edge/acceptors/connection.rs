//! One connection: HTTP/1.1 or, by prior knowledge, HTTP/2, until it ends or
//! its acceptor drains.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::server::Server;

const KEEP_ALIVE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

pub(super) async fn serve(server: Arc<Server>, stream: TcpStream, drain: CancellationToken) {
    let (send, read) = (server.config.tcp_send_timeout, server.config.tcp_read_timeout);
    let Some(protocol) = set_up(&stream, send, read, &drain).await else { return };
    let requests_drain = drain.clone();
    let service = service_fn(move |request| {
        let answer = Arc::clone(&server).respond(request, requests_drain.clone());
        answer.map(Ok::<_, Infallible>)
    });
    let (stream, timer) = (TokioIo::new(stream), TokioTimer::new());
    // hyper-util's builder for both keeps a buffer more for as long as the
    // connection lives.
    match protocol {
        Protocol::Http1 => {
            let mut builder = http1::Builder::new();
            builder.timer(timer).header_read_timeout(read);
            drive(Box::pin(builder.serve_connection(stream, service)), &drain).await;
        }
        Protocol::Http2 => {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(timer).keep_alive_interval(KEEP_ALIVE).keep_alive_timeout(read);
            drive(Box::pin(builder.serve_connection(stream, service)), &drain).await;
        }
    }
}

async fn drive<C>(mut connection: Pin<Box<C>>, drain: &CancellationToken)
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Nothing when the connection is not worth serving: lost, silent for too long,
/// or too late.
async fn set_up(
    stream: &TcpStream,
    send: Duration,
    read: Duration,
    drain: &CancellationToken,
) -> Option<Protocol> {
    let begun = async {
        set_options(stream, send)?;
        protocol(stream).await
    };
    tokio::select! {
        begun = timeout(read, begun) => match begun {
            Ok(Ok(protocol)) => Some(protocol),
            Ok(Err(error)) => {
                tracing::debug!(%error, "connection lost before its first request");
                None
            }
            Err(_) => None,
        },
        () = drain.cancelled() => None,
    }
}

/// No method of HTTP/1.1 begins like the preface of HTTP/2.
async fn protocol(stream: &TcpStream) -> io::Result<Protocol> {
    const PREFACE: &[u8] = b"PRI";
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        match &first[..count] {
            // The end of the stream is hyper's to deal with, too.
            [] => return Ok(Protocol::Http1),
            PREFACE => return Ok(Protocol::Http2),
            start if !PREFACE.starts_with(start) => return Ok(Protocol::Http1),
            // A first packet of a byte or two. What was peeked at makes the
            // socket readable, so waiting for that would spin.
            [..] => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

fn set_options(stream: &TcpStream, send_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE))?;
    // Ends a connection whose reader has stopped taking bytes, for which hyper
    // has no timeout.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(send_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = send_timeout;
    Ok(())
}
