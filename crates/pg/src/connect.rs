//! From a [`Config`] to a logged-in connection, of ours or of the query client.
//!
//! An attempt is one future: dropping it closes whatever it had opened. It
//! never retries but for what `sslmode=allow` and `prefer` ask for.

use std::io;
use std::pin::Pin;

use crate::config::{ChannelBinding, Config, Host, SslMode};
use crate::dialler::{Deadlines, Encryption, Opened, address, open_within};
use crate::error::{Error, Phase};
use crate::login::{login, who};
use crate::login_error::LoginError;
use crate::server_error::Condition;
use crate::wire::Connection;

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
            deadlines.limit(Phase::Login, &address(config), login).await
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
            deadlines.limit(Phase::Login, &address(config), connecting).await
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

/// Boxed, because an async closure's future is not known to be `Send`.
type Attempt<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// Tries what the `sslmode` allows, in its order.
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
            // The refusal of what was wanted says more than that of the other.
            connect(second).await.map_err(|other| match is_about_encryption(&other) {
                true => error,
                false => other,
            })
        }
        (result, _) => result,
    }
}

fn is_about_encryption(error: &Error) -> bool {
    matches!(error, Error::Tls { .. } | Error::Login(LoginError::Certificate { .. }))
        || matches!(error.condition(), Some(Condition::TlsRequired | Condition::LoginRefused))
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
