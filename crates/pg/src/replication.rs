//! The replication stream: WAL in, positions out.
//!
//! Two halves, because status updates must go out however long the receiver's
//! owner takes with what came in: the [`Sender`] may live in another task.
//! What is flushed is decided elsewhere (invariant I-1); it is only sent here.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use change::{Fragment, Lsn};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::frame::{HEADER_BYTES, ReadBuffer, lost};
use crate::pgoutput::Decoder;
use crate::server_error::{Login, ServerError};
use crate::sql::{quote_identifier, quote_replication_literal};
use crate::stream::{ReadHalf, WriteHalf};
use crate::wire::{Connection, unexpected};

/// Between the Unix epoch and 2000-01-01, from which Postgres counts.
const PG_EPOCH: Duration = Duration::from_secs(946_684_800);

/// Starts to stream from `start`. The server begins at the slot's
/// `confirmed_flush` if that is later.
pub async fn start(
    mut connection: Connection,
    slot: &str,
    publication: &str,
    start: Lsn,
    proto_version: u32,
) -> Result<(Receiver, Sender), Error> {
    let slot = quote_identifier(slot);
    // A list of identifiers inside a string.
    let publications = quote_replication_literal(&quote_identifier(publication));
    let command = format!(
        "START_REPLICATION SLOT {slot} LOGICAL {start} \
         (proto_version '{proto_version}', publication_names {publications})"
    );
    connection.start_query(&command).await?;
    let frame = connection.frame().await?;
    match frame.tag {
        b'W' => {}
        b'E' => return Err(connection.server_error(&frame.body)),
        tag => return Err(unexpected(tag, "START_REPLICATION")),
    }
    let Connection { stream, buffer, login, .. } = connection;
    let (read, write) = stream.split();
    let receiver = Receiver {
        read,
        buffer,
        login,
        decoder: Decoder::new(),
        pace: Pace::new(),
        received: start,
        failure: None,
    };
    Ok((receiver, Sender { write }))
}

/// What came from the server.
#[derive(Debug)]
pub enum Event {
    /// A transaction or a part of one.
    Fragment(Fragment),
    KeepAlive {
        /// Everything the publication says about WAL before it was sent.
        wal_end: Lsn,
        /// The server will give up on us if it hears nothing soon.
        reply_requested: bool,
        /// A transaction is half-way through, so that `wal_end` says nothing
        /// about what may be confirmed.
        in_transaction: bool,
    },
}

#[derive(Debug)]
pub struct Receiver {
    read: ReadHalf,
    buffer: ReadBuffer,
    login: Login,
    decoder: Decoder,
    pace: Pace,
    received: Lsn,
    failure: Option<Error>,
}

impl Receiver {
    /// Everything that is there, decoded; waits until there is something. The
    /// list may be empty, when all that came was the middle of a transaction.
    /// May be dropped and called again. After an error the session is over.
    pub async fn recv(&mut self) -> Result<Vec<Event>, Error> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        loop {
            let block = self.buffer.frames_of(b'd')?;
            if !block.is_empty() {
                let mut events = Vec::new();
                return match self.decode(&block, &mut events) {
                    Ok(()) => Ok(events),
                    // What came before the error is good.
                    Err(failure) if !events.is_empty() => {
                        self.failure = Some(failure);
                        Ok(events)
                    }
                    Err(failure) => Err(failure),
                };
            }
            match self.buffer.frame()? {
                Some(frame) => match frame.tag {
                    // Notices and parameters, and the end of the command.
                    b'N' | b'S' | b'A' | b'C' => {}
                    b'E' => {
                        let error = ServerError::parse(&frame.body, Some(self.login.clone()));
                        return Err(Error::Server(Box::new(error)));
                    }
                    b'c' | b'Z' => return Err(Error::StreamEnded),
                    tag => return Err(unexpected(tag, "the replication stream")),
                },
                None => {
                    self.pace.wait().await;
                    let count = self.buffer.fill(&mut self.read).await?;
                    self.pace.read(count);
                }
            }
        }
    }

    /// The furthest WAL position the server has spoken of.
    pub fn received(&self) -> Lsn {
        self.received
    }

    fn decode(&mut self, block: &Bytes, events: &mut Vec<Event>) -> Result<(), Error> {
        let mut at = 0;
        while let Some(header) = block.get(at..).and_then(<[u8]>::first_chunk::<HEADER_BYTES>) {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let start = at + HEADER_BYTES;
            at += 1 + length;
            let body = block.get(start..at).ok_or_else(damaged)?;
            match body.first() {
                Some(b'w') => {
                    // Start of the data, end of WAL, clock; then the message.
                    let data_start = be_u64(body, 1)?;
                    let wal_end = be_u64(body, 9)?;
                    self.saw(data_start.max(wal_end));
                    events.extend(
                        self.decoder.feed_slice(block, start + 25, at)?.map(Event::Fragment),
                    );
                }
                Some(b'k') => {
                    let wal_end = be_u64(body, 1)?;
                    let reply_requested = body.get(17).is_some_and(|flag| *flag != 0);
                    self.saw(wal_end);
                    let in_transaction = self.decoder.in_transaction();
                    let wal_end = Lsn(wal_end);
                    events.push(Event::KeepAlive { wal_end, reply_requested, in_transaction });
                }
                Some(_) | None => return Err(damaged()),
            }
        }
        Ok(())
    }

    fn saw(&mut self, position: u64) {
        self.received = self.received.max(Lsn(position));
    }
}

fn be_u64(bytes: &[u8], at: usize) -> Result<u64, Error> {
    let rest = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>);
    rest.map(|chunk| u64::from_be_bytes(*chunk)).ok_or_else(damaged)
}

fn damaged() -> Error {
    Error::protocol("a replication message that ends early")
}

/// The reporting half.
#[derive(Debug)]
pub struct Sender {
    write: WriteHalf,
}

impl Sender {
    /// A standby status update: what was read, and what is durable here, after
    /// which the server may forget. Both are ends of records, not the last
    /// byte. With `reply_requested` the server answers with a keep-alive.
    pub async fn status(
        &mut self,
        received: Lsn,
        flushed: Lsn,
        reply_requested: bool,
    ) -> Result<(), Error> {
        let mut message = BytesMut::with_capacity(64);
        message.put_u8(b'd');
        message.put_u32(4 + 34);
        message.put_u8(b'r');
        // A position flushed but not received would be refused by nobody and
        // believed by everybody.
        message.put_u64(received.max(flushed).0);
        message.put_u64(flushed.0);
        message.put_u64(flushed.0);
        message.put_i64(clock_us());
        message.put_u8(u8::from(reply_requested));
        self.write.write_all(&message).await.map_err(lost)?;
        self.write.flush().await.map_err(lost)
    }

    /// Ends the stream in order, so that the slot is free at once.
    pub async fn close(mut self) -> Result<(), Error> {
        // CopyDone, Terminate.
        self.write.write_all(b"c\0\0\0\x04X\0\0\0\x04").await.map_err(lost)?;
        self.write.flush().await.map_err(lost)?;
        self.write.shutdown().await.map_err(lost)
    }
}

/// Shown in `pg_stat_replication.reply_time` and used for nothing else, so a
/// clock that jumps does no harm.
#[expect(clippy::disallowed_methods, reason = "the protocol has a field for the wall clock")]
fn clock_us() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + PG_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Under a flood of small reads, a pause before the next one.
///
/// A walsender makes a system call per row, and that is what limits ingest.
/// While we sleep a millisecond its writes find no reader to wake, which makes
/// each cheaper (measured on 15.18: 88 k rows/s without, 125 k with). A lone
/// transaction is never held back.
#[derive(Debug)]
struct Pace {
    window_start: Instant,
    window_reads: u32,
    crowded: bool,
    short: bool,
}

impl Pace {
    const WINDOW: Duration = Duration::from_millis(5);
    /// Reads in a window above which the server is sending without a break.
    const CROWD: u32 = 64;
    /// A read as large as this was worth its wake-up.
    const WORTH_BYTES: usize = 32 * 1024;
    const PAUSE: Duration = Duration::from_millis(1);
    /// A read after a pause that is smaller than this ends the pauses.
    const FLOOD_BYTES: usize = 4 * 1024;

    fn new() -> Self {
        Self { window_start: Instant::now(), window_reads: 0, crowded: false, short: false }
    }

    async fn wait(&mut self) {
        if self.crowded && self.short {
            sleep(Self::PAUSE).await;
        }
    }

    fn read(&mut self, count: usize) {
        self.short = count < Self::WORTH_BYTES;
        if self.crowded {
            // A pause that gathers next to nothing was not worth taking.
            self.crowded = count >= Self::FLOOD_BYTES;
            self.window_start = Instant::now();
            self.window_reads = 0;
            return;
        }
        self.window_reads += 1;
        if self.window_reads >= Self::CROWD {
            let now = Instant::now();
            self.crowded = now.duration_since(self.window_start) < Self::WINDOW;
            self.window_start = now;
            self.window_reads = 0;
        }
    }
}
