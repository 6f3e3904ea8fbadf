//! The dialler: from a [`Config`] to a logged-in connection, with a deadline
//! for each step.
//!
//! An attempt is one future: dropping it closes whatever it had opened. It
//! never retries but for what `sslmode=allow` and `prefer` ask for.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{ChannelBinding, Config, Host, SslMode};
use crate::error::{Error, Phase};
use crate::login::{login, who};
use crate::login_error::LoginError;
use crate::server_error::Condition;
use crate::stream::Stream;
use crate::tls;
use crate::wire::{Connection, lost};

const TOTAL: Duration = Duration::from_secs(5);
const RESOLVE: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(2);
const TLS: Duration = Duration::from_secs(3);
const LOGIN: Duration = Duration::from_secs(3);
/// Between the starts of two addresses (RFC 8305, "Connection Attempt Delay").
const STAGGER: Duration = Duration::from_millis(250);

/// A peer that is gone without a word is noticed within 10 s + 3 × 3 s, or
/// after 15 s when data is waiting to be taken.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(3);
const KEEPALIVE_COUNT: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// How values are printed, in the stream and in snapshots alike: the text is
/// what clients get (http-protocol §4.4), so every session has the same.
pub(crate) const DISPLAY_SETTINGS: [(&str, &str); 5] = [
    ("bytea_output", "hex"),
    ("DateStyle", "ISO, DMY"),
    ("TimeZone", "UTC"),
    ("extra_float_digits", "1"),
    ("IntervalStyle", "iso_8601"),
];

/// What a connection is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// Shown in `pg_stat_activity`, unless the URL says otherwise.
    pub application_name: String,
    /// A walsender connected to the database, for the replication commands.
    pub replication: bool,
    /// More server settings, `(name, value)`; they are sent with the startup.
    pub settings: Vec<(String, String)>,
}

/// Connects and logs in.
pub async fn dial(config: &Config, session: &Session) -> Result<Connection, Error> {
    let mut parameters = vec![
        ("user".to_owned(), config.user.clone()),
        ("database".to_owned(), config.dbname.clone()),
        ("client_encoding".to_owned(), "UTF8".to_owned()),
        ("application_name".to_owned(), application_name(config, session)),
    ];
    if session.replication {
        parameters.push(("replication".to_owned(), "database".to_owned()));
    }
    if let Some(options) = &config.options {
        parameters.push(("options".to_owned(), options.clone()));
    }
    parameters.extend(settings(session));

    let deadlines = Deadlines::new(config);
    let (deadlines, parameters) = (&deadlines, &parameters[..]);
    attempt(config, |encryption| {
        Box::pin(async move {
            let opened = open_within(config, encryption, deadlines).await?;
            let login = Box::pin(login(config, opened, parameters));
            deadlines.limit(LOGIN, Phase::Login, &address(config), login).await
        })
    })
    .await
}

/// Connects a query client. Nothing happens on it unless the second value, its
/// driver, is polled; it ends when the client is dropped or the connection is.
pub async fn client(
    config: &Config,
    session: &Session,
) -> Result<(tokio_postgres::Client, impl Future<Output = Result<(), Error>> + Send + 'static), Error>
{
    let parameters = client_parameters(config, session);
    let deadlines = Deadlines::new(config);
    let (deadlines, parameters) = (&deadlines, &parameters);
    let (client, driver) = attempt(config, |encryption| {
        Box::pin(async move {
            let opened = open_within(config, encryption, deadlines).await?;
            let connecting = Box::pin(async {
                parameters.connect_raw(opened, Secured).await.map_err(|error| named(error, config))
            });
            deadlines.limit(LOGIN, Phase::Login, &address(config), connecting).await
        })
    })
    .await?;
    Ok((client, async move { driver.await.map_err(Error::from) }))
}

fn client_parameters(config: &Config, session: &Session) -> tokio_postgres::Config {
    let mut options = config.options.clone().unwrap_or_default();
    for (name, value) in settings(session) {
        // Backslashes and spaces are what ends a word in `options`.
        let value = value.replace('\\', "\\\\").replace(' ', "\\ ");
        options.push_str(&format!(" -c {name}={value}"));
    }
    let mut parameters = tokio_postgres::Config::new();
    parameters
        .user(&config.user)
        .dbname(&config.dbname)
        .options(options.trim_start())
        .application_name(application_name(config, session))
        // The stream comes encrypted, or is meant to be plain; either way
        // there is nothing left to negotiate, which is what these two say.
        .ssl_mode(tokio_postgres::config::SslMode::Require)
        .ssl_negotiation(tokio_postgres::config::SslNegotiation::Direct)
        .channel_binding(match config.channel_binding {
            ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
            ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
            ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
        });
    if let Some(password) = &config.password {
        parameters.password(password.as_bytes());
    }
    parameters
}

/// The driver's errors do not know who was logging in.
fn named(error: tokio_postgres::Error, config: &Config) -> Error {
    if config.password.is_none() && error.to_string().contains("password missing") {
        return LoginError::PasswordMissing { user: config.user.clone() }.into();
    }
    let mut error = Error::from(error);
    if let Error::Server(reported) = &mut error {
        reported.login = Some(who(config));
    }
    error
}

fn settings(session: &Session) -> impl Iterator<Item = (String, String)> {
    DISPLAY_SETTINGS
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .chain(session.settings.iter().cloned())
}

fn application_name(config: &Config, session: &Session) -> String {
    config.application_name.as_ref().unwrap_or(&session.application_name).clone()
}

fn address(config: &Config) -> String {
    format!("{}:{}", config.host, config.port)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encryption {
    Plain,
    /// TLS if the server has it.
    Offered,
    Required,
}

/// Tries what the `sslmode` allows, in its order.
/// Boxed, because an async closure's future is not known to be `Send`.
type Attempt<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

async fn attempt<'a, T>(
    config: &Config,
    connect: impl Fn(Encryption) -> Attempt<'a, T>,
) -> Result<T, Error> {
    let (first, second) = match (&config.host, config.ssl_mode) {
        // Nothing on the way could listen.
        (Host::Socket(_), _) | (_, SslMode::Disable) => (Encryption::Plain, None),
        (_, SslMode::Allow) => (Encryption::Plain, Some(Encryption::Required)),
        (_, SslMode::Prefer) => (Encryption::Offered, Some(Encryption::Plain)),
        (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => {
            (Encryption::Required, None)
        }
    };
    match (connect(first).await, second) {
        (Err(error), Some(second)) if is_about_encryption(&error) => {
            // The first refusal says more than the second attempt's would.
            connect(second).await.map_err(|_| error)
        }
        (result, _) => result,
    }
}

fn is_about_encryption(error: &Error) -> bool {
    matches!(error, Error::Tls { .. } | Error::Login(LoginError::Certificate { .. }))
        || matches!(error.condition(), Some(Condition::TlsRequired | Condition::LoginRefused))
}

/// The time an attempt has, as a whole and for its steps.
struct Deadlines {
    total: Instant,
    /// The operator's `connect_timeout` replaces the limits of the steps.
    steps: bool,
}

impl Deadlines {
    fn new(config: &Config) -> Self {
        let total = Instant::now() + config.connect_timeout.unwrap_or(TOTAL);
        Self { total, steps: config.connect_timeout.is_none() }
    }

    async fn limit<T>(
        &self,
        step: Duration,
        phase: Phase,
        address: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let until = match self.steps {
            true => self.total.min(Instant::now() + step),
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
    fn plain(stream: Stream) -> Self {
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

async fn open_within(
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
            deadlines.limit(RESOLVE, Phase::Resolve, &address, resolving).await?
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
    deadlines.limit(TLS, Phase::Tls, &address, Box::pin(encrypting)).await
}

async fn unix(directory: &Path, port: u16, deadlines: &Deadlines) -> Result<Opened, Error> {
    let path = directory.join(format!(".s.PGSQL.{port}"));
    let address = path.display().to_string();
    let connecting = async {
        UnixStream::connect(&path)
            .await
            .map_err(|source| Error::Connect { address: address.clone(), source })
    };
    let stream = deadlines.limit(CONNECT, Phase::Connect, &address, connecting).await?;
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
    deadlines.limit(CONNECT, Phase::Connect, &text, connecting).await
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

/// Tells `tokio_postgres` that the stream needs no further handshake.
#[derive(Clone, Copy, Debug)]
struct Secured;

impl tokio_postgres::tls::TlsConnect<Opened> for Secured {
    type Stream = Opened;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Opened>>;

    fn connect(self, opened: Opened) -> Self::Future {
        std::future::ready(Ok(opened))
    }
}

impl tokio_postgres::tls::TlsStream for Opened {
    fn channel_binding(&self) -> tokio_postgres::tls::ChannelBinding {
        match &self.server_end_point {
            Some(hash) => tokio_postgres::tls::ChannelBinding::tls_server_end_point(hash.clone()),
            None => tokio_postgres::tls::ChannelBinding::none(),
        }
    }
}

mod opened_io {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::Opened;

    impl AsyncRead for Opened {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Opened {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.get_mut().stream).poll_flush(cx)
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
        }
    }
}
