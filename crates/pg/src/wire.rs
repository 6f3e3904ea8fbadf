//! A connection of our own: simple queries, COPY, cancelling.
//!
//! A query that was abandoned half-way leaves frames behind; the next one skips
//! them, so dropping a future does not break the connection.

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::Config;
use crate::error::Error;
use crate::frame::{Frame, HEADER_BYTES, ReadBuffer, frame_length, lost};
use crate::server_error::{Login, ServerError};
use crate::stream::Stream;

/// Rows of a COPY: as many as one read gave.
#[derive(Debug)]
pub struct CopyChunk {
    /// Whole CopyData messages.
    frames: Bytes,
}

impl CopyChunk {
    /// One line each, without the newline. Postgres sends one CopyData message
    /// a row (Postgres manual, "COPY Operations").
    pub fn rows(&self) -> CopyRows<'_> {
        CopyRows { frames: &self.frames }
    }

    pub fn byte_count(&self) -> usize {
        self.frames.len()
    }
}

#[derive(Clone, Debug)]
pub struct CopyRows<'a> {
    frames: &'a [u8],
}

impl<'a> Iterator for CopyRows<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = frame_length(self.frames).ok().flatten()?;
        let (frame, rest) = self.frames.split_at_checked(length)?;
        self.frames = rest;
        let line = &frame[HEADER_BYTES..];
        Some(line.strip_suffix(b"\n").unwrap_or(line))
    }
}

/// What the server is in the midst of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// A query was sent and its ReadyForQuery has not come.
    Query,
    /// Rows of a COPY are coming.
    CopyOut,
}

/// A logged-in connection.
#[derive(Debug)]
pub struct Connection {
    pub(crate) stream: Stream,
    pub(crate) buffer: ReadBuffer,
    pub(crate) login: Login,
    pub(crate) cancel: CancelToken,
    phase: Phase,
}

impl Connection {
    pub(crate) fn new(
        stream: Stream,
        buffer: ReadBuffer,
        login: Login,
        cancel: CancelToken,
    ) -> Self {
        Self { stream, buffer, login, cancel, phase: Phase::Idle }
    }

    pub fn backend_pid(&self) -> i32 {
        self.cancel.pid
    }

    /// What ends a query of this connection from outside.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// Runs one or more statements and gives the rows of all of them. An error
    /// of the server leaves the connection usable.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
        self.start_query(sql).await?;
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let frame = self.frame().await?;
            match frame.tag {
                b'D' => rows.push(data_row(&frame.body)?),
                b'E' => failure = Some(self.server_error(&frame.body)),
                b'Z' => {
                    self.phase = Phase::Idle;
                    return failure.map_or(Ok(rows), Err);
                }
                // Row description, command complete, empty query.
                b'T' | b'C' | b'I' => {}
                tag => return Err(unexpected(tag, "a query")),
            }
        }
    }

    /// Starts a `COPY … TO STDOUT`. Rows come from [`Self::next_copy`].
    pub async fn copy_out(&mut self, sql: &str) -> Result<(), Error> {
        self.start_query(sql).await?;
        let frame = self.frame().await?;
        match frame.tag {
            b'H' => {
                self.phase = Phase::CopyOut;
                Ok(())
            }
            b'E' => {
                let failure = self.server_error(&frame.body);
                self.skip_to_ready().await?;
                Err(failure)
            }
            tag => Err(unexpected(tag, "COPY")),
        }
    }

    /// The next rows, many at a time; `None` at the end, which is the only
    /// proof that the COPY was complete. May be dropped and called again.
    pub async fn next_copy(&mut self) -> Result<Option<CopyChunk>, Error> {
        if self.phase != Phase::CopyOut {
            return Ok(None);
        }
        loop {
            let frames = self.buffer.frames_of(b'd')?;
            if !frames.is_empty() {
                return Ok(Some(CopyChunk { frames }));
            }
            let Some(frame) = self.buffer.frame()? else {
                self.buffer.fill(&mut self.stream).await?;
                continue;
            };
            match frame.tag {
                // The end of the rows, then of the command.
                b'c' | b'C' | b'N' | b'S' | b'A' => {}
                b'E' => {
                    let failure = self.server_error(&frame.body);
                    self.phase = Phase::Query;
                    self.skip_to_ready().await?;
                    return Err(failure);
                }
                b'Z' => {
                    self.phase = Phase::Idle;
                    return Ok(None);
                }
                tag => return Err(unexpected(tag, "COPY")),
            }
        }
    }

    /// Says goodbye, so that the backend ends at once and quietly.
    pub async fn close(mut self) {
        let mut message = BytesMut::new();
        frontend::terminate(&mut message);
        // It ends either way.
        let _ = self.stream.write_all(&message).await;
        let _ = self.stream.shutdown().await;
    }

    pub(crate) async fn start_query(&mut self, sql: &str) -> Result<(), Error> {
        self.skip_to_ready().await?;
        let mut message = BytesMut::new();
        frontend::query(sql, &mut message).map_err(|error| Error::protocol(error.to_string()))?;
        self.phase = Phase::Query;
        self.stream.write_all(&message).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)
    }

    /// The next message that is not about the session in general.
    pub(crate) async fn frame(&mut self) -> Result<Frame, Error> {
        loop {
            match self.buffer.frame()? {
                Some(Frame { tag: b'N' | b'S' | b'A', .. }) => {}
                Some(frame) => return Ok(frame),
                None => {
                    self.buffer.fill(&mut self.stream).await?;
                }
            }
        }
    }

    async fn skip_to_ready(&mut self) -> Result<(), Error> {
        while self.phase != Phase::Idle {
            if self.frame().await?.tag == b'Z' {
                self.phase = Phase::Idle;
            }
        }
        Ok(())
    }

    pub(crate) fn server_error(&self, body: &[u8]) -> Error {
        Error::Server(Box::new(ServerError::parse(body, Some(self.login.clone()))))
    }
}

/// Cancels the running query of one backend.
#[derive(Clone, Debug)]
pub struct CancelToken {
    pub(crate) config: Config,
    pub(crate) tls: bool,
    pub(crate) pid: i32,
    pub(crate) secret_key: i32,
}

impl CancelToken {
    /// Asks over a connection of its own; the query ends with SQLSTATE 57014
    /// unless it was done by then.
    pub async fn cancel(&self) -> Result<(), Error> {
        let mut stream = crate::dialler::open(&self.config, self.tls).await?.stream;
        let mut message = BytesMut::new();
        frontend::cancel_request(self.pid, self.secret_key, &mut message);
        stream.write_all(&message).await.map_err(lost)?;
        stream.flush().await.map_err(lost)?;
        // The server closes when it has passed the request on.
        let _ = stream.read(&mut [0]).await;
        Ok(())
    }
}

pub(crate) fn unexpected(tag: u8, during: &str) -> Error {
    Error::protocol(format!("message '{}' during {during}", tag.escape_ascii()))
}

fn data_row(body: &[u8]) -> Result<Vec<Option<String>>, Error> {
    let short = || Error::protocol("a data row that ends early");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(short)?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        rest = after;
        row.push(match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => None,
            Ok(length) => {
                let (text, after) = rest.split_at_checked(length).ok_or_else(short)?;
                rest = after;
                let text = String::from_utf8(text.to_vec());
                Some(text.map_err(|_| Error::protocol("a value that is not UTF-8"))?)
            }
        });
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A connection to a server that sends these bytes and hangs up.
    fn connected_to(bytes: &[u8]) -> (Connection, std::os::unix::net::UnixStream) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut &theirs, bytes).unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        ours.set_nonblocking(true).unwrap();
        let stream = Stream::Unix(tokio::net::UnixStream::from_std(ours).unwrap());
        let config: Config = "postgres://a@h".parse().unwrap();
        let login = crate::login::who(&config);
        let cancel = CancelToken { config, tls: false, pid: 1, secret_key: 2 };
        // Its end stays open for what we send.
        (Connection::new(stream, ReadBuffer::default(), login, cancel), theirs)
    }

    #[tokio::test]
    async fn frames_are_found_wherever_reads_end() {
        let bytes = [b"d\0\0\0\x06a\n".as_slice(), b"d\0\0\0\x07bc\n", b"c\0\0\0\x04"].concat();
        for cut in 1..bytes.len() {
            let mut buffer = ReadBuffer::default();
            let mut rows = Vec::new();
            let mut source = AsyncReadExt::chain(&bytes[..cut], &bytes[cut..]);
            let done = loop {
                let chunk = CopyChunk { frames: buffer.frames_of(b'd').unwrap() };
                rows.extend(chunk.rows().map(<[u8]>::to_vec));
                match buffer.frame().unwrap() {
                    Some(frame) if frame.tag == b'c' => break frame,
                    Some(frame) => rows.push(frame.body.strip_suffix(b"\n").unwrap().to_vec()),
                    None => _ = buffer.fill(&mut source).await.unwrap(),
                }
            };
            assert_eq!(rows, [b"a".to_vec(), b"bc".to_vec()], "cut at {cut}");
            assert!(done.body.is_empty());
        }
    }

    #[test]
    fn a_length_out_of_bounds_is_an_error() {
        assert!(frame_length(b"d\0\0\0\x03").is_err());
        assert!(frame_length(b"d\xff\xff\xff\xff").is_err());
        assert_eq!(frame_length(b"d\0\0\0").unwrap(), None);
        assert_eq!(frame_length(b"d\0\0\0\x04").unwrap(), Some(5));
    }

    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let tag = prop::sample::select(b"RKSZTDCdcHWENAI".to_vec());
        let body = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            Just(b"SERROR\0C42P01\0Mno\0\0".to_vec()),
            Just(b"\0\x01\0\0\0\x01x".to_vec()),
            Just(b"\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec()),
            Just(b"\0\0\0\0".to_vec()),
            Just(b"k\0\0\0\0\0\0\0\x01".to_vec()),
            Just(b"w\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01".to_vec()),
        ];
        let frame = (tag, body).prop_map(|(tag, body)| {
            let length = (body.len() as u32 + 4).to_be_bytes();
            [&[tag][..], &length, &body].concat()
        });
        let junk = prop::collection::vec(any::<u8>(), 0..12);
        (prop::collection::vec(frame, 0..8), junk)
            .prop_map(|(frames, junk)| [frames.concat(), junk].concat())
    }

    proptest! {
        #[test]
        fn no_server_makes_us_panic_or_wait_for_ever(bytes in frames()) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                // A server that hangs up is noticed in each of these.
                let (mut connection, _server) = connected_to(&bytes);
                while connection.simple_query("SELECT 1").await.is_ok() {}
                let (mut connection, _server) = connected_to(&bytes);
                if connection.copy_out("COPY t TO STDOUT").await.is_ok() {
                    while let Ok(Some(chunk)) = connection.next_copy().await {
                        assert!(chunk.rows().count() > 0);
                    }
                }
                let (connection, _server) = connected_to(&bytes);
                let started = crate::replication::start(connection, "s", "p", change::Lsn::ZERO, 1);
                if let Ok((mut receiver, _sender)) = started.await {
                    while receiver.recv().await.is_ok() {}
                }
                let (connection, _server) = connected_to(&bytes);
                let opened = crate::dialler::Opened::plain(connection.stream);
                let config = "postgres://a:secret@h".parse().unwrap();
                let _ = crate::login::login(&config, opened, &[]).await;
            });
        }
    }

    #[test]
    fn a_damaged_data_row_is_an_error() {
        let row = b"\0\x02\xff\xff\xff\xff\0\0\0\x02hi";
        assert_eq!(data_row(row).unwrap(), [None, Some("hi".to_owned())]);
        for cut in 0..row.len() {
            assert!(data_row(&row[..cut]).is_err(), "{cut}");
        }
    }
}
