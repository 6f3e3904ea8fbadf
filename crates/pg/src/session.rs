//! Questions about the server and the session, before anything is streamed.

use change::Lsn;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use crate::error::Error;
use crate::sql::quote_literal;
use crate::wire::Connection;

/// Which Postgres this is, and where its WAL ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct System {
    pub system_id: u64,
    /// Grows when a standby is promoted.
    pub timeline: u32,
    pub wal_end: Lsn,
}

/// `IDENTIFY_SYSTEM`, on a replication connection.
pub async fn identify_system(connection: &mut Connection) -> Result<System, Error> {
    let rows = connection.simple_query("IDENTIFY_SYSTEM").await?;
    let unclear = || Error::protocol("an answer to IDENTIFY_SYSTEM that makes no sense");
    let [Some(system_id), Some(timeline), Some(wal_end), ..] =
        rows.first().map(Vec::as_slice).unwrap_or_default()
    else {
        return Err(unclear());
    };
    Ok(System {
        system_id: system_id.parse().map_err(|_| unclear())?,
        timeline: timeline.parse().map_err(|_| unclear())?,
        wal_end: wal_end.parse().map_err(|_| unclear())?,
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// 150018 is 15.18.
    pub version_num: u32,
    pub wal_level: String,
    /// A standby.
    pub in_recovery: bool,
    pub role: String,
    pub database: String,
    /// The role has REPLICATION or is a superuser. Cloud providers grant it in
    /// ways of their own, so that `false` is a hint and not a proof.
    pub may_replicate: bool,
    /// Zero when switched off.
    pub wal_sender_timeout_ms: u64,
}

impl ServerFacts {
    /// Refuses what no retry can heal.
    pub fn check(&self) -> Result<(), Error> {
        match self.wal_level.as_str() {
            "logical" => Ok(()),
            _ => Err(Error::WalLevel { wal_level: self.wal_level.clone() }),
        }
    }
}

pub async fn server_facts(client: &Client) -> Result<ServerFacts, Error> {
    const SQL: &str = "
        SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
            pg_catalog.current_setting('wal_level'),
            pg_catalog.pg_is_in_recovery(),
            CURRENT_USER::pg_catalog.text,
            pg_catalog.current_database()::pg_catalog.text,
            (SELECT r.rolreplication OR r.rolsuper FROM pg_catalog.pg_roles r
             WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER),
            (SELECT s.setting::pg_catalog.int8 FROM pg_catalog.pg_settings s
             WHERE s.name OPERATOR(pg_catalog.=) 'wal_sender_timeout')";
    let rows = client.query_typed(SQL, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::protocol("no row of server facts"))?;
    Ok(ServerFacts {
        version_num: row.try_get::<_, i32>(0)?.unsigned_abs(),
        wal_level: row.try_get(1)?,
        in_recovery: row.try_get(2)?,
        role: row.try_get(3)?,
        database: row.try_get(4)?,
        may_replicate: row.try_get::<_, Option<bool>>(5)?.unwrap_or(false),
        wal_sender_timeout_ms: row.try_get::<_, Option<i64>>(6)?.unwrap_or(0).unsigned_abs(),
    })
}

/// Where a session may have to wait for all before it has been replayed.
pub async fn current_wal_lsn(client: &Client) -> Result<Lsn, Error> {
    const SQL: &str = "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text";
    let rows = client.query_typed(SQL, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::protocol("no WAL position"))?;
    lsn(row.try_get(0)?)
}

/// Tries to become the one process that uses the slot. The lock lives as long
/// as the connection's server session does.
pub async fn try_advisory_lock(connection: &mut Connection, slot: &str) -> Result<bool, Error> {
    let slot = quote_literal(slot);
    let sql = format!("SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtext({slot}))");
    let rows = connection.simple_query(&sql).await?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()) == Some("t"))
}

/// Refuses a connection pooler: its sessions change beneath us, and with them
/// the lock. A pooler answers with a process id of its own.
pub async fn check_direct(connection: &mut Connection) -> Result<(), Error> {
    let rows = connection.simple_query("SELECT pg_catalog.pg_backend_pid()").await?;
    let pid = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
    match pid == Some(connection.backend_pid()) {
        true => Ok(()),
        false => Err(Error::Pooler),
    }
}

/// Ends another session. `false` when there is none with that process id.
pub async fn terminate_backend(client: &Client, pid: i32) -> Result<bool, Error> {
    const SQL: &str = "SELECT pg_catalog.pg_terminate_backend($1)";
    let rows = client.query_typed(SQL, &[(&pid, Type::INT4)]).await?;
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.unwrap_or(false))
}

pub(crate) fn lsn(text: &str) -> Result<Lsn, Error> {
    text.parse().map_err(|_| Error::protocol(format!("the WAL position \"{text}\"")))
}
