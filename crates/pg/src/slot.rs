//! The replication slot: Postgres' promise to keep WAL for us.

use change::Lsn;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::Error;
use crate::server_error::Condition;
use crate::session::lsn;
use crate::sql::quote_identifier;
use crate::wire::Connection;

/// A new slot has to wait for the end of every transaction that runs while it
/// is made. Past this the attempt fails with a lock timeout, so that the
/// reason can be shown before the next one.
const CREATE_LOCK_TIMEOUT_MS: u32 = 10_000;

/// Creates the slot; all that commits after the position given is streamed.
pub async fn create_slot(connection: &mut Connection, name: &str) -> Result<Lsn, Error> {
    // Not in one message: the command must not run inside a transaction.
    let limit = format!("SET lock_timeout = {CREATE_LOCK_TIMEOUT_MS}");
    connection.simple_query(&limit).await?;
    let name = quote_identifier(name);
    let create = format!("CREATE_REPLICATION_SLOT {name} LOGICAL pgoutput NOEXPORT_SNAPSHOT");
    let created = connection.simple_query(&create).await;
    let reset = connection.simple_query("RESET lock_timeout").await;
    // The first error is the one that explains.
    let rows = created?;
    reset?;
    match rows.first().and_then(|row| row.get(1)?.as_deref()) {
        Some(consistent_point) => lsn(consistent_point),
        None => Err(Error::protocol("no consistent point of the new slot")),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// The walsender that uses it.
    pub active_pid: Option<i32>,
    /// What we have told the server it may forget; it sends what is after.
    pub confirmed_flush: Option<Lsn>,
    /// The oldest WAL kept for it.
    pub restart_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    pub plugin: Option<String>,
    pub database: Option<String>,
}

impl SlotState {
    /// Refuses a slot that is of no more use, or is somebody else's.
    pub fn check(&self, name: &str, database: &str) -> Result<(), Error> {
        if self.wal_status.as_deref() == Some("lost") {
            return Err(Error::SlotLost {
                slot: name.to_owned(),
                reason: "the WAL it needs was removed (wal_status is lost); \
                         raise max_slot_wal_keep_size if this happens again"
                    .to_owned(),
            });
        }
        let (plugin, of) = (self.plugin.as_deref(), self.database.as_deref());
        if plugin == Some("pgoutput") && of == Some(database) {
            return Ok(());
        }
        let found = match (plugin, of) {
            (Some(plugin), Some(of)) => format!("plugin {plugin} in database \"{of}\""),
            (Some(_), None) | (None, _) => "physical replication".to_owned(),
        };
        Err(Error::SlotNotOurs { slot: name.to_owned(), found })
    }
}

/// `None` when there is no such slot.
pub async fn slot_state(client: &Client, name: &str) -> Result<Option<SlotState>, Error> {
    const SQL: &str = "
        SELECT s.active_pid, s.confirmed_flush_lsn::pg_catalog.text,
            s.restart_lsn::pg_catalog.text, s.wal_status::pg_catalog.text,
            s.plugin::pg_catalog.text, s.database::pg_catalog.text
        FROM pg_catalog.pg_replication_slots s
        WHERE s.slot_name::pg_catalog.text OPERATOR(pg_catalog.=) $1";
    let rows = client.query_typed(SQL, &[(&name, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(SlotState {
        active_pid: row.try_get(0)?,
        confirmed_flush: row.try_get::<_, Option<&str>>(1)?.map(lsn).transpose()?,
        restart_lsn: row.try_get::<_, Option<&str>>(2)?.map(lsn).transpose()?,
        wal_status: row.try_get(3)?,
        plugin: row.try_get(4)?,
        database: row.try_get(5)?,
    }))
}

/// `false` when there was no such slot. Fails while somebody uses it.
pub async fn drop_slot(client: &Client, name: &str) -> Result<bool, Error> {
    const SQL: &str = "SELECT pg_catalog.pg_drop_replication_slot($1::pg_catalog.name)";
    let dropped = client.query_typed(SQL, &[(&name, Type::NAME)]).await.map_err(Error::from);
    match dropped {
        Ok(_) => Ok(true),
        Err(error) if error.condition() == Some(Condition::SlotMissing) => Ok(false),
        Err(error) => Err(error),
    }
}
