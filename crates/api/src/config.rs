//! What the HTTP side needs to know, as plain data. Names, environment
//! variables and defaults are the binary's.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;

#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes a free one; `bound` tells which.
    pub address: SocketAddr,
    /// Filled in by the listener.
    pub bound: Bound,
    /// Without one every request is let in.
    pub secret: Option<Secret>,
    /// Whether `DELETE /v1/shape` works. Otherwise 405.
    pub allow_shape_deletion: bool,
    /// How long a live request without news is held. Clients give up at 45 s;
    /// half of it is the wait of a client whose offset is ahead of the log.
    pub long_poll_timeout: Duration,
    /// How long caches may serve a part of a log without asking.
    pub cache_max_age: Duration,
    /// How long caches may go on serving it while they ask.
    pub cache_stale_age: Duration,
    /// Past this a request gets 503 with `retry-after`.
    pub max_concurrent: MaxConcurrent,
    /// How long a request waits for the engine to be ready before its 503.
    pub ready_wait: Duration,
    /// A client that takes no bytes for this long loses its connection.
    pub tcp_send_timeout: Duration,
    /// A client that has not sent a whole request head, or body, in this time
    /// loses its connection.
    pub tcp_read_timeout: Duration,
    /// Accept loops; the number of cores is right. At least 1.
    pub acceptors: usize,
    /// Open connections over all acceptors. Past this new ones wait in the
    /// listener's backlog.
    pub connections_max: usize,
    /// Further routes, asked for `/` and every path that is not the protocol's.
    pub extra: Option<axum::Router>,
}

/// Shape requests in progress, a held live request included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxConcurrent {
    /// Without a handle, or with one this server does not know: these may cost
    /// a snapshot.
    pub initial: usize,
    pub existing: usize,
}

/// The API's shared secret, which never shows in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        Self(text.as_ref().into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// The address in use, known once the listener is up.
#[derive(Clone, Debug)]
pub struct Bound(watch::Sender<Option<SocketAddr>>);

impl Bound {
    pub fn address(&self) -> Option<SocketAddr> {
        *self.0.borrow()
    }

    /// Waits until the listener is up. Never ends if no edge is started with
    /// this value.
    pub async fn wait(&self) -> SocketAddr {
        let mut changes = self.0.subscribe();
        loop {
            if let Some(address) = *changes.borrow_and_update() {
                return address;
            }
            changes.changed().await.expect("`self` holds the sender");
        }
    }

    pub(crate) fn set(&self, address: SocketAddr) {
        self.0.send_replace(Some(address));
    }
}

impl Default for Bound {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows() {
        let text = format!("{:?}", Secret::new("hunter2"));
        assert!(!text.contains("hunter2"), "{text}");
    }
}
