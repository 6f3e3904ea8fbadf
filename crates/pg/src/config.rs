//! Where Postgres is and how to log in: the parsed `DATABASE_URL`.
//!
//! Parsed here and not by a driver, because the replication client, the
//! snapshots and the query client must agree on every word of it, and because
//! a parameter that is silently ignored is a surprise in production.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::Error;

/// A parsed `postgres://user:password@host:port/database?parameter=value`.
/// Neither `Debug` nor `Display` shows the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub user: String,
    pub password: Option<Password>,
    pub host: Host,
    pub port: u16,
    /// The user's name when the URL has none, as in libpq.
    pub dbname: String,
    pub ssl_mode: SslMode,
    /// What `verify-ca` and `verify-full` trust; the system's store when absent.
    pub ssl_root_cert: Option<RootCertificates>,
    pub channel_binding: ChannelBinding,
    /// Command-line options for the server, as `PGOPTIONS`.
    pub options: Option<String>,
    pub application_name: Option<String>,
    /// Replaces the deadline for a whole connection attempt.
    pub connect_timeout: Option<Duration>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Name(String),
    Address(IpAddr),
    /// The directory of a Unix socket `.s.PGSQL.<port>`.
    Socket(PathBuf),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Socket(path) => path.display().fmt(f),
        }
    }
}

/// As libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    Disable,
    /// Plain text, and TLS when the server refuses that.
    Allow,
    /// TLS, and plain text when the server refuses that.
    Prefer,
    /// TLS; the certificate is looked at only when `sslrootcert` is given.
    Require,
    /// TLS with a certificate of a trusted authority, for any name.
    VerifyCa,
    /// TLS with a certificate of a trusted authority for this very host.
    VerifyFull,
}

impl SslMode {
    const ALL: [(&str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// As libpq's `channel_binding`: whether SCRAM must prove that nobody sits
/// between the two ends of the TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCertificates {
    /// `sslrootcert=system`.
    System,
    File(PathBuf),
}

impl Config {
    /// The URL without its password, for logs and errors.
    pub fn redacted(&self) -> String {
        let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let host = match &self.host {
            Host::Socket(path) => encode(&path.to_string_lossy()),
            host @ (Host::Name(_) | Host::Address(_)) => host.to_string(),
        };
        let password = if self.password.is_some() { ":***" } else { "" };
        let (user, port, dbname) = (encode(&self.user), self.port, encode(&self.dbname));
        let ssl_mode = self.ssl_mode.as_str();
        format!("postgres://{user}{password}@{host}:{port}/{dbname}?sslmode={ssl_mode}")
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.redacted())
    }
}

/// The URL's parts as text, before anything is checked.
#[derive(Default)]
struct Parts {
    user: Option<String>,
    password: Option<String>,
    host: Option<String>,
    port: Option<String>,
    dbname: Option<String>,
    ssl_mode: Option<String>,
    ssl_root_cert: Option<String>,
    channel_binding: Option<String>,
    options: Option<String>,
    application_name: Option<String>,
    connect_timeout: Option<String>,
}

impl FromStr for Config {
    type Err = Error;

    fn from_str(url: &str) -> Result<Self, Error> {
        let rest = ["postgres://", "postgresql://"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme))
            .ok_or_else(|| bad("it does not begin with postgres:// or postgresql://"))?;
        let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, dbname) = before.split_once('/').unwrap_or((before, ""));

        let mut parts = Parts::default();
        parts.authority(authority)?;
        if !dbname.is_empty() {
            parts.dbname = Some(decode("database name", dbname)?);
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| bad(format!("parameter \"{}\" has no value", decode_lossy(pair))))?;
            parts.parameter(&decode("parameter name", name)?, value)?;
        }
        parts.check()
    }
}

impl Parts {
    fn authority(&mut self, authority: &str) -> Result<(), Error> {
        // The last `@`, for a password with an unencoded one.
        let (user_info, host) = match authority.rsplit_once('@') {
            Some((user_info, host)) => (Some(user_info), host),
            None => (None, authority),
        };
        if let Some(user_info) = user_info {
            let (user, password) = match user_info.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (user_info, None),
            };
            self.user = Some(decode("user", user)?).filter(|user| !user.is_empty());
            self.password = password.map(|text| decode("password", text)).transpose()?;
        }
        let (host, port) = match host.strip_prefix('[') {
            Some(bracketed) => {
                let (address, after) =
                    bracketed.split_once(']').ok_or_else(|| bad("the host's [ is not closed"))?;
                (address, after.strip_prefix(':'))
            }
            None => match host.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            },
        };
        self.host = Some(decode("host", host)?).filter(|host| !host.is_empty());
        self.port = port.map(str::to_owned).filter(|port| !port.is_empty());
        Ok(())
    }

    fn parameter(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let target = match name {
            "user" => &mut self.user,
            "password" => &mut self.password,
            "host" => &mut self.host,
            "port" => &mut self.port,
            "dbname" => &mut self.dbname,
            "sslmode" => &mut self.ssl_mode,
            "sslrootcert" => &mut self.ssl_root_cert,
            "channel_binding" => &mut self.channel_binding,
            "options" => &mut self.options,
            "application_name" => &mut self.application_name,
            "connect_timeout" => &mut self.connect_timeout,
            "replication" => {
                return Err(bad("remove the parameter \"replication\": it is set where needed"));
            }
            unknown => return Err(bad(format!("parameter \"{unknown}\" is not known"))),
        };
        *target = Some(decode(name, value)?);
        Ok(())
    }

    fn check(self) -> Result<Config, Error> {
        let user = self.user.ok_or_else(|| bad("it names no user"))?;
        let host = host(&self.host.ok_or_else(|| bad("it names no host"))?)?;
        let port = match &self.port {
            None => 5432,
            Some(text) => text
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| bad(format!("port \"{text}\" is not between 1 and 65535")))?,
        };
        Ok(Config {
            dbname: self.dbname.unwrap_or_else(|| user.clone()),
            user,
            password: self.password.map(Password),
            host,
            port,
            ssl_mode: ssl_mode(self.ssl_mode.as_deref())?,
            ssl_root_cert: self.ssl_root_cert.map(|text| match text.as_str() {
                "system" => RootCertificates::System,
                path => RootCertificates::File(path.into()),
            }),
            channel_binding: channel_binding(self.channel_binding.as_deref())?,
            options: self.options,
            application_name: self.application_name,
            connect_timeout: connect_timeout(self.connect_timeout.as_deref())?,
        })
    }
}

fn host(text: &str) -> Result<Host, Error> {
    if text.contains(',') {
        return Err(bad("it names several hosts; name the primary only"));
    }
    if text.starts_with('/') {
        return Ok(Host::Socket(PathBuf::from(text)));
    }
    Ok(match text.parse() {
        Ok(address) => Host::Address(address),
        Err(_) => Host::Name(text.to_owned()),
    })
}

fn ssl_mode(text: Option<&str>) -> Result<SslMode, Error> {
    let Some(text) = text else { return Ok(SslMode::Prefer) };
    SslMode::ALL.iter().find(|(name, _)| *name == text).map(|(_, mode)| *mode).ok_or_else(|| {
        let names = SslMode::ALL.map(|(name, _)| name).join(", ");
        bad(format!("sslmode \"{text}\" is none of {names}"))
    })
}

fn channel_binding(text: Option<&str>) -> Result<ChannelBinding, Error> {
    match text {
        None | Some("prefer") => Ok(ChannelBinding::Prefer),
        Some("disable") => Ok(ChannelBinding::Disable),
        Some("require") => Ok(ChannelBinding::Require),
        Some(other) => {
            Err(bad(format!("channel_binding \"{other}\" is none of disable, prefer, require")))
        }
    }
}

fn connect_timeout(text: Option<&str>) -> Result<Option<Duration>, Error> {
    let Some(text) = text else { return Ok(None) };
    match text.parse() {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
        Err(_) => Err(bad(format!("connect_timeout \"{text}\" is not a number of seconds"))),
    }
}

fn decode(what: &str, text: &str) -> Result<String, Error> {
    let decoded = percent_decode_str(text)
        .decode_utf8()
        .map_err(|_| bad(format!("the {what} is not percent-encoded UTF-8")))?;
    // The startup message is made of NUL-terminated strings.
    match decoded.contains('\0') {
        true => Err(bad(format!("the {what} contains a NUL byte"))),
        false => Ok(decoded.into_owned()),
    }
}

fn decode_lossy(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

fn bad(reason: impl Into<String>) -> Error {
    Error::DatabaseUrl { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<&str, &str>) {
        let actual = url.parse::<Config>().map(|config| {
            let password = config.password.as_ref().map(|password| password.0.as_str());
            format!("{config} {password:?}")
        });
        match (&actual, expected) {
            (Ok(actual), Ok(expected)) => assert_eq!(actual, expected, "{url}"),
            (Err(error), Err(expected)) => {
                let text = error.to_string();
                assert!(text.contains(expected), "{url}: {text}");
            }
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => panic!("{url}: {actual:?}, not {expected:?}"),
        }
    }

    #[test]
    fn a_url_is_understood_or_refused_with_its_reason() {
        check(
            "postgres://ann@db.example",
            Ok("postgres://ann@db.example:5432/ann?sslmode=prefer None"),
        );
        check(
            "postgresql://ann:p%40ss%3A%2F@10.0.0.1:6000/my%20db?sslmode=require",
            Ok("postgres://ann:***@10.0.0.1:6000/my%20db?sslmode=require Some(\"p@ss:/\")"),
        );
        check("postgres://a:b@c@h/d", Ok("postgres://a:***@h:5432/d?sslmode=prefer Some(\"b@c\")"));
        check("postgres://a@[::1]:6000/d", Ok("postgres://a@[::1]:6000/d?sslmode=prefer None"));
        check(
            "postgres://a@%2Frun%2Fpg:6000/d?sslmode=disable",
            Ok("postgres://a@%2Frun%2Fpg:6000/d?sslmode=disable None"),
        );
        check(
            "postgres:///d?host=/run/pg&user=a&password=s&sslmode=verify-full",
            Ok("postgres://a:***@%2Frun%2Fpg:5432/d?sslmode=verify-full Some(\"s\")"),
        );
        check("postgres://a:@h/d", Ok("postgres://a:***@h:5432/d?sslmode=prefer Some(\"\")"));
        check("mysql://a@h", Err("does not begin with postgres://"));
        check("postgres://h/d", Err("no user"));
        check("postgres://a@/d", Err("no host"));
        check("postgres://a@h1,h2/d", Err("several hosts"));
        check("postgres://a@h:0/d", Err("port \"0\""));
        check("postgres://a@h:x/d", Err("port \"x\""));
        check("postgres://a@[::1/d", Err("not closed"));
        check("postgres://a@h/d?sslmode=maybe", Err("sslmode \"maybe\""));
        check("postgres://a@h/d?pgbouncer=true", Err("\"pgbouncer\" is not known"));
        check("postgres://a@h/d?replication=database", Err("\"replication\""));
        check("postgres://a@h/d?sslmode", Err("no value"));
        check("postgres://%ff@h/d", Err("not percent-encoded UTF-8"));
        check("postgres://a%00@h/d", Err("NUL"));
        check("postgres://a@h/d?connect_timeout=soon", Err("connect_timeout \"soon\""));
    }

    #[test]
    fn the_password_is_never_shown() {
        let config: Config = "postgres://ann:secret@h/d".parse().unwrap();
        assert!(!format!("{config} {config:?} {}", config.redacted()).contains("secret"));
    }

    #[test]
    fn the_parameters_reach_the_config() {
        let config: Config = "postgres://a@h/d?sslrootcert=/ca.pem&options=-c%20jit%3Doff\
            &application_name=x&connect_timeout=7&channel_binding=require"
            .parse()
            .unwrap();
        assert_eq!(config.ssl_root_cert, Some(RootCertificates::File("/ca.pem".into())));
        assert_eq!(config.options.as_deref(), Some("-c jit=off"));
        assert_eq!(config.application_name.as_deref(), Some("x"));
        assert_eq!(config.connect_timeout, Some(Duration::from_secs(7)));
        assert_eq!(config.channel_binding, ChannelBinding::Require);
    }
}
