//! The startup message and authentication, up to ReadyForQuery.

use bytes::BytesMut;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt;

use crate::config::{ChannelBinding, Config};
use crate::dialler::Opened;
use crate::error::Error;
use crate::frame::{Frame, ReadBuffer, lost};
use crate::login_error::LoginError;
use crate::server_error::{Login, ServerError};
use crate::stream::Stream;
use crate::wire::{CancelToken, Connection, unexpected};

/// More would let a hostile server keep a thread busy for minutes.
const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;

struct LoggingIn<'a> {
    config: &'a Config,
    stream: Stream,
    buffer: ReadBuffer,
    server_end_point: Option<Vec<u8>>,
}

/// Logs in with these startup parameters.
pub(crate) async fn login(
    config: &Config,
    opened: Opened,
    parameters: &[(String, String)],
) -> Result<Connection, Error> {
    let tls = opened.is_tls();
    let mut this = LoggingIn {
        config,
        stream: opened.stream,
        buffer: ReadBuffer::default(),
        server_end_point: opened.server_end_point,
    };
    let parameters = parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    this.send(|out| frontend::startup_message(parameters, out)).await?;
    this.authenticate().await?;
    let (pid, secret_key) = this.until_ready().await?;
    let cancel = CancelToken { config: config.clone(), tls, pid, secret_key };
    Ok(Connection::new(this.stream, this.buffer, who(config), cancel))
}

pub(crate) fn who(config: &Config) -> Login {
    Login { user: config.user.clone(), database: config.dbname.clone() }
}

impl LoggingIn<'_> {
    async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<(), Error> {
        let mut message = BytesMut::new();
        write(&mut message).map_err(|error| Error::protocol(error.to_string()))?;
        self.stream.write_all(&message).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)
    }

    async fn frame(&mut self) -> Result<Frame, Error> {
        loop {
            match self.buffer.frame()? {
                Some(Frame { tag: b'N', .. }) => {}
                Some(Frame { tag: b'E', body }) => {
                    let login = Some(who(self.config));
                    return Err(Error::Server(Box::new(ServerError::parse(&body, login))));
                }
                Some(frame) => return Ok(frame),
                None => {
                    self.buffer.fill(&mut self.stream).await?;
                }
            }
        }
    }

    /// The next authentication request: its code and the rest.
    async fn request(&mut self) -> Result<(u32, Frame), Error> {
        let mut frame = self.frame().await?;
        if frame.tag != b'R' {
            return Err(unexpected(frame.tag, "the login"));
        }
        if frame.body.len() < 4 {
            return Err(Error::protocol("an authentication request without a code"));
        }
        let code = frame.body.split_to(4);
        Ok((u32::from_be_bytes([code[0], code[1], code[2], code[3]]), frame))
    }

    fn password(&self) -> Result<Vec<u8>, Error> {
        match &self.config.password {
            Some(password) => Ok(password.as_bytes().to_vec()),
            None => Err(LoginError::PasswordMissing { user: self.config.user.clone() }.into()),
        }
    }

    async fn authenticate(&mut self) -> Result<(), Error> {
        let (code, frame) = self.request().await?;
        if code != 10 && self.config.channel_binding == ChannelBinding::Require {
            return Err(LoginError::ChannelBinding.into());
        }
        match code {
            0 => return Ok(()),
            3 => {
                let password = self.password()?;
                self.send(|out| frontend::password_message(&password, out)).await?;
            }
            5 => {
                let salt = *frame
                    .body
                    .first_chunk::<4>()
                    .ok_or_else(|| Error::protocol("an MD5 request without a salt"))?;
                let hash = md5_hash(self.config.user.as_bytes(), &self.password()?, salt);
                self.send(|out| frontend::password_message(hash.as_bytes(), out)).await?;
            }
            10 => self.scram(&frame.body).await?,
            other => return Err(LoginError::AuthenticationMethod { method: method(other) }.into()),
        }
        match self.request().await?.0 {
            0 => Ok(()),
            other => Err(Error::protocol(format!("authentication request {other} at its end"))),
        }
    }

    async fn scram(&mut self, mechanisms: &[u8]) -> Result<(), Error> {
        let (binding, mechanism) = self.mechanism(mechanisms)?;
        let mut scram = ScramSha256::new(&self.password()?, binding);
        self.send(|out| frontend::sasl_initial_response(mechanism, scram.message(), out)).await?;

        let (code, frame) = self.request().await?;
        if code != 11 {
            return Err(Error::protocol(format!("authentication request {code} during SCRAM")));
        }
        if iterations(&frame.body) > SCRAM_ITERATIONS_MAX {
            return Err(Error::protocol("more SCRAM iterations than any server needs"));
        }
        let not_authentic = |error: std::io::Error| {
            Error::from(LoginError::ServerNotAuthentic { reason: error.to_string() })
        };
        scram.update(&frame.body).map_err(not_authentic)?;
        self.send(|out| frontend::sasl_response(scram.message(), out)).await?;

        let (code, frame) = self.request().await?;
        if code != 12 {
            return Err(Error::protocol(format!("authentication request {code} during SCRAM")));
        }
        scram.finish(&frame.body).map_err(not_authentic)
    }

    /// Channel binding whenever both ends can, and telling the server when we
    /// could have, by which it notices somebody who hid its offer (RFC 5802).
    fn mechanism(&self, offered: &[u8]) -> Result<(sasl::ChannelBinding, &'static str), Error> {
        let offers =
            |name: &str| offered.split(|byte| *byte == 0).any(|one| one == name.as_bytes());
        let end_point = match self.config.channel_binding {
            ChannelBinding::Disable => None,
            ChannelBinding::Prefer | ChannelBinding::Require => self.server_end_point.clone(),
        };
        let (plus, plain) = (offers(SCRAM_SHA_256_PLUS), offers(SCRAM_SHA_256));
        match (end_point, self.config.channel_binding) {
            (Some(hash), _) if plus => {
                Ok((sasl::ChannelBinding::tls_server_end_point(hash), SCRAM_SHA_256_PLUS))
            }
            (_, ChannelBinding::Require) => Err(LoginError::ChannelBinding.into()),
            (Some(_), _) if plain => Ok((sasl::ChannelBinding::unrequested(), SCRAM_SHA_256)),
            (None, _) if plain => Ok((sasl::ChannelBinding::unsupported(), SCRAM_SHA_256)),
            (Some(_) | None, ChannelBinding::Disable | ChannelBinding::Prefer) => {
                let method = String::from_utf8_lossy(offered).replace('\0', " ");
                Err(LoginError::AuthenticationMethod { method }.into())
            }
        }
    }

    /// Session parameters and the key for cancelling, until the server is ready.
    async fn until_ready(&mut self) -> Result<(i32, i32), Error> {
        let mut key = (0, 0);
        loop {
            let frame = self.frame().await?;
            match frame.tag {
                b'K' => {
                    let Some((pid, rest)) = frame.body.split_first_chunk::<4>() else {
                        return Err(Error::protocol("key data without a process id"));
                    };
                    let secret = rest.first_chunk::<4>().copied().unwrap_or_default();
                    key = (i32::from_be_bytes(*pid), i32::from_be_bytes(secret));
                }
                b'S' => {}
                b'Z' => return Ok(key),
                tag => return Err(unexpected(tag, "the login")),
            }
        }
    }
}

/// The `i=` of SCRAM's server-first message.
fn iterations(message: &[u8]) -> u32 {
    message
        .split(|byte| *byte == b',')
        .find_map(|part| part.strip_prefix(b"i="))
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .unwrap_or(0)
}

fn method(code: u32) -> String {
    match code {
        2 => "Kerberos V5".to_owned(),
        6 => "SCM credential".to_owned(),
        7 | 8 => "GSSAPI".to_owned(),
        9 => "SSPI".to_owned(),
        other => format!("unknown (code {other})"),
    }
}
