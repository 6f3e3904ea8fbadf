//! The publication: which tables Postgres sends, and how it comes to be sure
//! that nothing is missed when one is added.
//!
//! It is made with `publish_via_partition_root`, so that the rows of a
//! partition arrive as rows of the root that is published, under the root's
//! relation: the one a shape on the root is about. The price is Postgres' own:
//! a TRUNCATE of a single partition is then not sent, and a partition whose
//! root is also published has no stream of its own.

use std::collections::HashSet;
use std::time::Duration;

use change::{ReplicaIdentity, Table, TableKind};
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use crate::error::Error;
use crate::server_error::Condition;
use crate::sql::{quote_identifier, quote_table};

/// How long DDL may wait for a lock. While REPLICA IDENTITY waits, everybody
/// who comes later waits behind it. Above `deadlock_timeout`, at which an
/// autovacuum gives way.
const LOCK_TIMEOUT_MS: u32 = 3000;

/// How often to look whether the transactions waited for have ended.
const LOCKERS_POLL: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// New, so that a slot from before cannot be used with it: the server
    /// looks a publication up as of the WAL it reads.
    Created,
    Existing,
}

/// Creates the publication, empty, or checks the one there is.
pub async fn ensure_publication(
    client: &Client,
    name: &str,
    version_num: u32,
) -> Result<Ensured, Error> {
    if check_publication(client, name).await? {
        return Ok(Ensured::Existing);
    }
    let generated = match version_num {
        180_000.. => ", publish_generated_columns = stored",
        _ => "",
    };
    let quoted = quote_identifier(name);
    let sql =
        format!("CREATE PUBLICATION {quoted} WITH (publish_via_partition_root = true{generated})");
    match client.batch_execute(&sql).await.map_err(Error::from) {
        Ok(()) => Ok(Ensured::Created),
        // Somebody was faster.
        Err(error) if error.condition() == Some(Condition::ObjectExists) => {
            check_publication(client, name).await?;
            Ok(Ensured::Existing)
        }
        Err(error) => Err(error),
    }
}

/// Whether the publication is there, and fit for use.
pub async fn check_publication(client: &Client, name: &str) -> Result<bool, Error> {
    const SQL: &str = "
        SELECT p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot
        FROM pg_catalog.pg_publication p
        WHERE p.pubname::pg_catalog.text OPERATOR(pg_catalog.=) $1";
    let rows = client.query_typed(SQL, &[(&name, Type::TEXT)]).await?;
    let Some(row) = rows.first() else { return Ok(false) };
    let mut missing = Vec::new();
    for (index, operation) in ["insert", "update", "delete", "truncate"].into_iter().enumerate() {
        if !row.try_get::<_, bool>(index)? {
            missing.push(operation);
        }
    }
    if !missing.is_empty() {
        let (publication, missing) = (name.to_owned(), missing.join(", "));
        return Err(Error::PublicationOperations { publication, missing });
    }
    if !row.try_get::<_, bool>(4)? {
        let quoted = quote_identifier(name);
        let sql = format!("ALTER PUBLICATION {quoted} SET (publish_via_partition_root = true)");
        client.batch_execute(&sql).await?;
    }
    Ok(true)
}

/// A table, or one of the partitions beneath it, as it is right now.
struct Member {
    schema: String,
    name: String,
    identity: Option<ReplicaIdentity>,
    published: bool,
}

impl Member {
    fn quoted(&self) -> String {
        quote_table(&self.schema, &self.name)
    }
}

/// Adds the table, and sees to REPLICA IDENTITY FULL for it and its
/// partitions, in one transaction. Gives whether the publication changed.
///
/// Before a snapshot is taken, [`wait_for_lockers`] must have returned after
/// the table was added: also when it had been added already by a process that
/// may have died before it waited.
pub async fn add_table(client: &Client, publication: &str, table: &Table) -> Result<bool, Error> {
    let members = members(client, publication, table.oid).await?;
    let Some(root) = members.first() else {
        // Dropped since the caller looked.
        return Err(table_missing(table));
    };
    let mut statements = vec![format!("SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")];
    // The publication first: whoever else adds tables takes the locks in the
    // same order, so that nobody waits in a circle.
    if !root.published {
        let only = only(table.kind);
        let publication = quote_identifier(publication);
        let table = root.quoted();
        statements.push(format!("ALTER PUBLICATION {publication} ADD TABLE {only}{table}"));
    }
    for member in &members {
        if member.identity != Some(ReplicaIdentity::Full) {
            let table = member.quoted();
            statements.push(format!("ALTER TABLE ONLY {table} REPLICA IDENTITY FULL"));
        }
    }
    if statements.len() == 1 {
        return Ok(false);
    }
    // Statements of one message are one transaction; if one fails, none holds.
    match client.batch_execute(&statements.join(";")).await.map_err(Error::from) {
        Ok(()) => Ok(!root.published),
        Err(error) if error.condition() == Some(Condition::ObjectExists) => {
            // Added by somebody else in between; the identity may be left to do.
            Box::pin(add_table(client, publication, table)).await
        }
        Err(error) => Err(error),
    }
}

/// A plain table's children have relations of their own, and a shape on the
/// parent has only the parent's rows.
fn only(kind: TableKind) -> &'static str {
    match kind {
        TableKind::Ordinary => "ONLY ",
        TableKind::Partitioned => "",
    }
}

fn table_missing(table: &Table) -> Error {
    Error::TableMissing { schema: table.schema.clone(), name: table.name.clone() }
}

/// The table first, then its partitions.
async fn members(client: &Client, publication: &str, oid: u32) -> Result<Vec<Member>, Error> {
    const SQL: &str = "
        SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
            c.relreplident::pg_catalog.text,
            EXISTS (SELECT FROM pg_catalog.pg_publication p
                WHERE p.pubname::pg_catalog.text OPERATOR(pg_catalog.=) $1
                AND (p.puballtables OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
                    WHERE r.prpubid OPERATOR(pg_catalog.=) p.oid
                    AND r.prrelid OPERATOR(pg_catalog.=) c.oid)))
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND (c.oid OPERATOR(pg_catalog.=) $2
            OR c.oid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($2::regclass) t))
        ORDER BY c.oid OPERATOR(pg_catalog.<>) $2, c.oid";
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&publication, Type::TEXT), (&oid, Type::OID)];
    let mut members = Vec::new();
    for row in client.query_typed(SQL, &parameters).await? {
        let identity = row.try_get::<_, &str>(2)?.bytes().next();
        members.push(Member {
            schema: row.try_get(0)?,
            name: row.try_get(1)?,
            identity: identity.and_then(ReplicaIdentity::from_byte),
            published: row.try_get(3)?,
        });
    }
    Ok(members)
}

/// Takes the table out. `false` when it was not in.
pub async fn remove_table(
    client: &Client,
    publication: &str,
    schema: &str,
    name: &str,
) -> Result<bool, Error> {
    let (publication, table) = (quote_identifier(publication), quote_table(schema, name));
    let sql = format!(
        "SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS};\
         ALTER PUBLICATION {publication} DROP TABLE ONLY {table}"
    );
    match client.batch_execute(&sql).await.map_err(Error::from) {
        Ok(()) => Ok(true),
        Err(error) if error.condition() == Some(Condition::ObjectMissing) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Which of these tables the publication does not send, because somebody took
/// them out. Partitions are left aside: their changes come under their root.
pub async fn unpublished(
    client: &Client,
    publication: &str,
    table_oids: &[u32],
) -> Result<Vec<u32>, Error> {
    const SQL: &str = "
        SELECT c.oid FROM pg_catalog.pg_class c
        WHERE c.oid OPERATOR(pg_catalog.=) ANY ($1) AND NOT c.relispartition
        AND c.oid NOT IN (SELECT p.relid FROM pg_catalog.pg_get_publication_tables($2) p)";
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&table_oids, Type::OID_ARRAY), (&publication, Type::TEXT)];
    let rows = client.query_typed(SQL, &parameters).await?;
    rows.iter().map(|row| row.try_get(0).map_err(Error::from)).collect()
}

/// The tables that were added, by oid.
pub async fn published_tables(client: &Client, publication: &str) -> Result<Vec<u32>, Error> {
    const SQL: &str = "
        SELECT r.prrelid FROM pg_catalog.pg_publication_rel r
        JOIN pg_catalog.pg_publication p ON p.oid OPERATOR(pg_catalog.=) r.prpubid
        WHERE p.pubname::pg_catalog.text OPERATOR(pg_catalog.=) $1
        ORDER BY 1";
    let rows = client.query_typed(SQL, &[(&publication, Type::TEXT)]).await?;
    rows.iter().map(|row| row.try_get(0).map_err(Error::from)).collect()
}

/// A transaction that may have written to a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Locker {
    /// Names the transaction, until it ends.
    pub virtual_xid: String,
    /// None for a prepared transaction.
    pub pid: Option<i32>,
}

impl Locker {
    fn is_prepared(&self) -> bool {
        self.pid.is_none()
    }
}

/// The transactions that now hold a lock by which they write to the table or
/// to a partition of it.
pub async fn lockers(client: &Client, oid: u32) -> Result<Vec<Locker>, Error> {
    const SQL: &str = "
        SELECT DISTINCT l.virtualtransaction, l.pid FROM pg_catalog.pg_locks l
        WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.granted
        AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
            WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
        AND (l.relation OPERATOR(pg_catalog.=) $1
            OR l.relation IN (SELECT t.relid FROM pg_catalog.pg_partition_tree($1::regclass) t))
        AND l.mode IN ('RowExclusiveLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
            'AccessExclusiveLock')
        AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()";
    let rows = client.query_typed(SQL, &[(&oid, Type::OID)]).await?;
    rows.iter()
        .map(|row| Ok(Locker { virtual_xid: row.try_get(0)?, pid: row.try_get(1)? }))
        .collect()
}

/// Waits until every transaction that writes to the table now has ended,
/// without standing in anybody's way (invariant I-8).
///
/// Rows that such a transaction wrote before the table was added are not in
/// the stream, and until it commits they are in no snapshot either. Postgres
/// waits in the same manner in CREATE INDEX CONCURRENTLY.
pub async fn wait_for_lockers(
    client: &Client,
    table: &Table,
    deadline: Duration,
) -> Result<(), Error> {
    let until = Instant::now() + deadline;
    let mut remaining: HashSet<Locker> = lockers(client, table.oid).await?.into_iter().collect();
    while !remaining.is_empty() {
        if Instant::now() >= until {
            let table = quote_table(&table.schema, &table.name);
            let pids = remaining.iter().map(|locker| locker.pid.unwrap_or(0)).collect();
            return Err(Error::Lockers { table, pids });
        }
        sleep(LOCKERS_POLL).await;
        // PREPARE TRANSACTION gives a transaction's locks another name.
        let now = lockers(client, table.oid).await?;
        remaining = now
            .into_iter()
            .filter(|locker| remaining.contains(locker) || locker.is_prepared())
            .collect();
    }
    Ok(())
}
