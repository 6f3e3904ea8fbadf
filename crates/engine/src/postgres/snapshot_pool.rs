//! Connections for initial snapshots. See `postgres/pool.rs` for the actor
//! itself: Owns, Receives, Sends and Fails are written there.

use super::pool::{self, Connect, Driver};

/// Makes connections that can COPY.
#[derive(Clone, Debug)]
pub(crate) struct Snapshots {
    pub(crate) database: pg::Config,
}

pub(crate) type Args = pool::Args<Snapshots>;
pub(crate) type Mailbox = pool::Mailbox<Snapshots>;
pub(crate) type Message = pool::Message<Snapshots>;
pub(crate) type SnapshotPool = pool::Pool<Snapshots>;

impl Connect for Snapshots {
    type Connection = pg::Connection;

    async fn connect(&self) -> Result<(pg::Connection, Driver), pg::Error> {
        let session = pg::Session {
            application_name: "leyden snapshot".into(),
            replication: false,
            settings: Vec::new(),
        };
        let connection = pg::dial(&self.database, &session).await?;
        Ok((connection, Box::pin(std::future::ready(()))))
    }

    /// A broken one shows only when it is used, and its lease is then dropped.
    fn is_usable(_connection: &pg::Connection) -> bool {
        true
    }
}
