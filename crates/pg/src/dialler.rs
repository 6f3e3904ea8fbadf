//! Name resolution, TCP, TLS: up to a stream on which nothing was said yet,
//! with a deadline for each step.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{Config, Host};
use crate::error::{Error, Phase};
use crate::frame::lost;
use crate::login_error::LoginError;
use crate::stream::Stream;
use crate::tls;

const TOTAL: Duration = Duration::from_secs(5);
/// Between the starts of two addresses (RFC 8305, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// A peer that is gone without a word is noticed within 10 s + 3 × 3 s, or
/// after 15 s when data is waiting to be taken.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_COUNT: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(15);

fn limit(phase: Phase) -> Duration {
    Duration::from_secs(match phase {
        Phase::Resolve | Phase::Connect => 2,
        Phase::Tls | Phase::Login => 3,
    })
}

pub(crate) fn address(config: &Config) -> String {
    format!("{}:{}", config.host, config.port)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    Plain,
    /// TLS if the server has it.
    Offered,
    Required,
}

/// The time an attempt has, as a whole and for its steps.
#[derive(Debug)]
pub(crate) struct Deadlines {
    total: Instant,
    /// The operator's `connect_timeout` replaces the limits of the steps.
    steps: bool,
}

impl Deadlines {
    pub(crate) fn new(config: &Config) -> Self {
        let total = Instant::now() + config.connect_timeout.unwrap_or(TOTAL);
        Self { total, steps: config.connect_timeout.is_none() }
    }

    pub(crate) async fn limit<T>(
        &self,
        phase: Phase,
        address: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let until = match self.steps {
            true => self.total.min(Instant::now() + limit(phase)),
            false => self.total,
        };
        match timeout_at(until, work).await {
            Ok(result) => result,
            Err(_) => Err(Error::Timeout { address: address.to_owned(), phase }),
        }
    }
}

/// A stream over which nothing of the login was said yet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    /// For SCRAM's channel binding, when there is TLS.
    pub(crate) server_end_point: Option<Vec<u8>>,
}

impl Opened {
    pub(crate) fn plain(stream: Stream) -> Self {
        Self { stream, server_end_point: None }
    }

    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }
}

/// Opens another stream of the kind that worked before.
pub(crate) async fn open(config: &Config, tls: bool) -> Result<Opened, Error> {
    let encryption = if tls { Encryption::Required } else { Encryption::Plain };
    open_within(config, encryption, &Deadlines::new(config)).await
}

pub(crate) async fn open_within(
    config: &Config,
    encryption: Encryption,
    deadlines: &Deadlines,
) -> Result<Opened, Error> {
    let address = address(config);
    let addresses = match &config.host {
        Host::Socket(directory) => return unix(directory, config.port, deadlines).await,
        Host::Address(ip) => vec![SocketAddr::new(*ip, config.port)],
        Host::Name(name) => {
            let resolving = resolve(name, config.port);
            deadlines.limit(Phase::Resolve, &address, resolving).await?
        }
    };
    let mut stream = race(&address, &addresses, deadlines).await?;
    configure(&stream).map_err(Error::Io)?;

    let encrypting = async {
        if encryption == Encryption::Plain {
            return Ok(Opened::plain(Stream::Tcp(stream)));
        }
        if !request_tls(&mut stream).await? {
            return match encryption {
                Encryption::Plain | Encryption::Offered => Ok(Opened::plain(Stream::Tcp(stream))),
                Encryption::Required => {
                    Err(LoginError::TlsNotOffered { ssl_mode: config.ssl_mode.as_str() }.into())
                }
            };
        }
        let stream = tls::handshake(stream, config).await?;
        let server_end_point = tls::server_end_point(&stream);
        Ok(Opened { stream: Stream::Tls(Box::new(stream)), server_end_point })
    };
    deadlines.limit(Phase::Tls, &address, Box::pin(encrypting)).await
}

async fn unix(directory: &Path, port: u16, deadlines: &Deadlines) -> Result<Opened, Error> {
    let path = directory.join(format!(".s.PGSQL.{port}"));
    let address = path.display().to_string();
    let connecting = async {
        UnixStream::connect(&path)
            .await
            .map_err(|source| Error::Connect { address: address.clone(), source })
    };
    let stream = deadlines.limit(Phase::Connect, &address, connecting).await?;
    Ok(Opened::plain(Stream::Unix(stream)))
}

/// Both families in turns, beginning with the resolver's favourite.
async fn resolve(name: &str, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let failed = |source| Error::Resolve { host: name.to_owned(), source };
    let found: Vec<SocketAddr> = lookup_host((name, port)).await.map_err(failed)?.collect();
    let Some(first) = found.first() else {
        return Err(failed(io::Error::other("no address")));
    };
    let (favourite, other): (Vec<_>, Vec<_>) =
        found.iter().partition(|address| address.is_ipv6() == first.is_ipv6());
    let mut other = other.into_iter();
    let mut mixed = Vec::new();
    for address in favourite {
        mixed.push(address);
        mixed.extend(other.next());
    }
    mixed.extend(other);
    Ok(mixed)
}

/// Happy eyeballs (RFC 8305): the next address starts when the one before has
/// failed or has had its head start; the first to answer wins.
async fn race(
    name: &str,
    addresses: &[SocketAddr],
    deadlines: &Deadlines,
) -> Result<TcpStream, Error> {
    let mut waiting = addresses.iter().copied();
    let mut running = FuturesUnordered::new();
    let mut failure = None;
    loop {
        if let Some(address) = waiting.next() {
            running.push(connect_one(address, deadlines));
        } else if running.is_empty() {
            return Err(failure.unwrap_or_else(|| Error::Resolve {
                host: name.to_owned(),
                source: io::Error::other("no address"),
            }));
        }
        loop {
            let outcome = if waiting.len() == 0 {
                running.next().await
            } else {
                tokio::select! {
                    outcome = running.next() => outcome,
                    () = sleep(STAGGER) => break,
                }
            };
            match outcome {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = Some(error),
                None => {}
            }
            if running.is_empty() || waiting.len() > 0 {
                break;
            }
        }
    }
}

async fn connect_one(address: SocketAddr, deadlines: &Deadlines) -> Result<TcpStream, Error> {
    let text = address.to_string();
    let connecting = async {
        TcpStream::connect(address)
            .await
            .map_err(|source| Error::Connect { address: text.clone(), source })
    };
    deadlines.limit(Phase::Connect, &text, connecting).await
}

fn configure(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_COUNT);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// Asks whether the server has TLS. Exactly one byte is read: more would be
/// plain text smuggled in front of the handshake (CVE-2021-23222).
async fn request_tls(stream: &mut TcpStream) -> Result<bool, Error> {
    let mut message = BytesMut::new();
    frontend::ssl_request(&mut message);
    stream.write_all(&message).await.map_err(lost)?;
    match stream.read_u8().await.map_err(lost)? {
        b'S' => Ok(true),
        // An ErrorResponse comes from servers that are in no state to talk;
        // its text is not authenticated and is not to be trusted.
        b'N' | b'E' => Ok(false),
        other => Err(Error::protocol(format!("answer {other} to the request for TLS"))),
    }
}
