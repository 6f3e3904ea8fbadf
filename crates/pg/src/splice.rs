//! The queries by which a snapshot and the stream are fitted together
//! (invariants I-6 and I-7).

use tokio_postgres::Client;

use crate::error::Error;
use crate::sql::quote_literal;
use crate::wire::Connection;

/// What is visible at present: the text of `pg_current_snapshot()`.
pub async fn current_snapshot(client: &Client) -> Result<String, Error> {
    const SQL: &str = "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text";
    let rows = client.query_typed(SQL, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::protocol("no current snapshot"))?;
    Ok(row.try_get(0)?)
}

/// Which table a name means as the connection's transaction sees the catalog.
pub async fn table_oid(
    connection: &mut Connection,
    schema: &str,
    name: &str,
) -> Result<Option<u32>, Error> {
    let (schema, name) = (quote_literal(schema), quote_literal(name));
    let sql = format!(
        "SELECT c.oid FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) {schema}
         AND c.relname::pg_catalog.text OPERATOR(pg_catalog.=) {name}"
    );
    let rows = connection.simple_query(&sql).await?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok()))
}

/// Transactions whose commit record is written while their backend still waits
/// for a synchronous standby: the stream may have had them in a former session,
/// but no snapshot shows them. A role that may not see other roles' sessions
/// (`pg_read_all_stats`) gets only its own.
pub async fn stalled_commits(connection: &mut Connection) -> Result<Vec<u32>, Error> {
    const SQL: &str = "SELECT a.backend_xid FROM pg_catalog.pg_stat_activity a
        WHERE a.wait_event OPERATOR(pg_catalog.=) 'SyncRep' AND a.backend_xid IS NOT NULL";
    let rows = connection.simple_query(SQL).await?;
    let xids = rows.iter().filter_map(|row| row.first()?.as_deref()?.parse().ok());
    Ok(xids.collect())
}
