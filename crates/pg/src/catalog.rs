//! What the catalog knows of a table.

use change::{ReplicaIdentity, Table, TableColumn, TableKind};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use crate::error::Error;

/// One row a column. A true array is one whose element type names it as its
/// array: `int2vector` and `point` have elements too, and print otherwise.
const SQL: &str = "
    SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text,
        c.relkind::pg_catalog.text, c.relreplident::pg_catalog.text,
        a.attname::pg_catalog.text, a.atttypid,
        COALESCE(e.typname, t.typname)::pg_catalog.text,
        a.atttypmod,
        CASE WHEN e.oid IS NULL THEN 0
            WHEN a.attndims OPERATOR(pg_catalog.<) 1 THEN 1
            ELSE a.attndims::pg_catalog.int4 END,
        a.attnotnull,
        (SELECT k.position FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[])
            WITH ORDINALITY k (attnum, position)
            WHERE k.attnum OPERATOR(pg_catalog.=) a.attnum
            AND k.position OPERATOR(pg_catalog.<=) i.indnkeyatts),
        a.attgenerated OPERATOR(pg_catalog.<>) ''
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid
        AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) a.atttypid
    LEFT JOIN pg_catalog.pg_type e ON e.oid OPERATOR(pg_catalog.=) t.typelem
        AND e.typarray OPERATOR(pg_catalog.=) t.oid
    LEFT JOIN pg_catalog.pg_index i ON i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisprimary
    WHERE c.relkind IN ('r', 'p') AND ";

/// The table of that name. `None` when there is none that a shape can be on: a
/// view, say, or a table without columns.
pub async fn table(client: &Client, schema: &str, name: &str) -> Result<Option<Table>, Error> {
    let condition = "n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) $1
        AND c.relname::pg_catalog.text OPERATOR(pg_catalog.=) $2";
    query(client, condition, &[(&schema, Type::TEXT), (&name, Type::TEXT)]).await
}

/// As [`table`], whatever it is called by now.
pub async fn table_by_oid(client: &Client, oid: u32) -> Result<Option<Table>, Error> {
    query(client, "c.oid OPERATOR(pg_catalog.=) $1", &[(&oid, Type::OID)]).await
}

async fn query(
    client: &Client,
    condition: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Option<Table>, Error> {
    let sql = format!("{SQL}{condition} ORDER BY a.attnum");
    let rows = client.query_typed(&sql, parameters).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let kind = match first.try_get::<_, &str>(3)? {
        "p" => TableKind::Partitioned,
        _ => TableKind::Ordinary,
    };
    let identity = first.try_get::<_, &str>(4)?.bytes().next();
    Ok(Some(Table {
        oid: first.try_get(0)?,
        schema: first.try_get(1)?,
        name: first.try_get(2)?,
        kind,
        identity: identity
            .and_then(ReplicaIdentity::from_byte)
            .ok_or_else(|| Error::protocol("an unknown replica identity in pg_class"))?,
        columns: rows.iter().map(column).collect::<Result<_, _>>()?,
    }))
}

fn column(row: &Row) -> Result<TableColumn, Error> {
    let position: Option<i64> = row.try_get(11)?;
    Ok(TableColumn {
        name: row.try_get(5)?,
        type_oid: row.try_get(6)?,
        type_name: row.try_get(7)?,
        type_mod: row.try_get(8)?,
        dims: row.try_get(9)?,
        not_null: row.try_get(10)?,
        // Ordinality counts from one.
        pk_position: position.and_then(|position| u32::try_from(position - 1).ok()),
        generated: row.try_get(12)?,
    })
}
