use std::time::Duration;

use change::{Operation, ReplicaIdentity, TableKind};
use pg::publication::{self, Ensured};
use pg::{Class, Error, catalog, snapshot};

use crate::cluster::Cluster;
use crate::stream::{PUBLICATION, publish, stream, texts, transactions};

const DEADLINE: Duration = Duration::from_secs(10);

/// S-23, the naive order of which loses row 1.
#[tokio::test]
async fn rows_written_before_the_table_was_added_are_in_the_snapshot() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    let sql = "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t REPLICA IDENTITY FULL";
    client.batch_execute(sql).await.unwrap();
    publish(&cluster, &client, &[]).await;
    let (mut receiver, _sender) = stream(&cluster).await;

    let writer = cluster.client().await;
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let table = catalog::table(&client, "public", "t").await.unwrap().unwrap();
    assert_eq!(table.identity, ReplicaIdentity::Full);
    assert!(publication::add_table(&client, PUBLICATION, &table).await.unwrap());
    assert!(!publication::add_table(&client, PUBLICATION, &table).await.unwrap());
    assert_eq!(publication::lockers(&client, table.oid).await.unwrap().len(), 1);

    let short = Duration::from_millis(100);
    let error = publication::wait_for_lockers(&client, &table, short).await.unwrap_err();
    assert!(matches!(&error, Error::Lockers { pids, .. } if pids.len() == 1), "{error:?}");

    let waiting = publication::wait_for_lockers(&client, &table, DEADLINE);
    let writing = async {
        // Nobody stands in the way of this writer, or of a later one.
        writer.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
        let later = cluster.client().await;
        later.batch_execute("BEGIN; INSERT INTO t VALUES (3)").await.unwrap();
        writer.batch_execute("COMMIT").await.unwrap();
        later
    };
    let (waited, later) = tokio::join!(waiting, writing);
    waited.unwrap();

    let mut connection = cluster.connection().await;
    snapshot::begin(&mut connection, None).await.unwrap();
    connection.copy_out(&snapshot::copy_sql(&table, &["id"])).await.unwrap();
    let mut copied = Vec::new();
    while let Some(chunk) = connection.next_copy().await.unwrap() {
        copied.extend(chunk.rows().map(<[u8]>::to_vec));
    }
    assert_eq!(copied, [b"1", b"2"]);
    later.batch_execute("COMMIT").await.unwrap();

    // The stream has what the naive order would have had to live on: row 2
    // without row 1. Then row 3, which came after the snapshot.
    let all = transactions(&mut receiver, 2).await;
    let rows = all.iter().flat_map(|fragment| &fragment.changes).map(|change| {
        let Operation::Insert { new } = &change.operation else { panic!("{change:?}") };
        texts(new)[0].clone().unwrap()
    });
    assert_eq!(rows.collect::<Vec<_>>(), ["2", "3"]);
}

#[tokio::test]
async fn a_prepared_transaction_is_waited_for() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    let table = catalog::table(&client, "public", "t").await.unwrap().unwrap();
    let writer = cluster.client().await;
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let waiting = publication::wait_for_lockers(&client, &table, Duration::from_millis(500));
    let prepare = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        writer.batch_execute("PREPARE TRANSACTION 'p'").await.unwrap();
    };
    let (waited, ()) = tokio::join!(waiting, prepare);
    assert!(matches!(waited, Err(Error::Lockers { .. })), "{waited:?}");
    writer.batch_execute("COMMIT PREPARED 'p'").await.unwrap();
    publication::wait_for_lockers(&client, &table, DEADLINE).await.unwrap();
}

#[tokio::test]
async fn the_publication_is_made_once_and_checked_afterwards() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    let ensure = async || publication::ensure_publication(&client, PUBLICATION, 150_000).await;
    assert_eq!(ensure().await.unwrap(), Ensured::Created);
    assert_eq!(ensure().await.unwrap(), Ensured::Existing);

    client.batch_execute("CREATE TABLE \"T t\" (id int PRIMARY KEY)").await.unwrap();
    let table = catalog::table(&client, "public", "T t").await.unwrap().unwrap();
    assert!(publication::add_table(&client, PUBLICATION, &table).await.unwrap());
    assert_eq!(publication::published_tables(&client, PUBLICATION).await.unwrap(), [table.oid]);
    let now = catalog::table_by_oid(&client, table.oid).await.unwrap().unwrap();
    assert_eq!(now.identity, ReplicaIdentity::Full);
    let remove = async || publication::remove_table(&client, PUBLICATION, "public", "T t").await;
    assert!(remove().await.unwrap());
    assert!(!remove().await.unwrap());
    client.batch_execute("DROP TABLE \"T t\"").await.unwrap();
    assert!(!remove().await.unwrap());
    let error = publication::add_table(&client, PUBLICATION, &table).await.unwrap_err();
    assert!(matches!(error, Error::TableMissing { .. }), "{error:?}");

    let quoted = pg::quote_identifier(PUBLICATION);
    let sql = format!("ALTER PUBLICATION {quoted} SET (publish = 'insert, truncate')");
    client.batch_execute(&sql).await.unwrap();
    let error = ensure().await.unwrap_err();
    assert!(error.to_string().ends_with("does not publish update, delete"), "{error}");
    let Class::Blocked { remedy, .. } = error.class() else { panic!("{error:?}") };
    client.batch_execute(&remedy).await.unwrap();
    assert_eq!(ensure().await.unwrap(), Ensured::Existing);
}

#[tokio::test]
async fn rows_of_a_partition_arrive_as_rows_of_the_root() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    let sql = "CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (10);
        CREATE TABLE high (v text, id int PRIMARY KEY);
        ALTER TABLE root ATTACH PARTITION high FOR VALUES FROM (10) TO (20)";
    client.batch_execute(sql).await.unwrap();
    let root = catalog::table(&client, "public", "root").await.unwrap().unwrap();
    assert_eq!(root.kind, TableKind::Partitioned);
    publish(&cluster, &client, &["root"]).await;
    let (mut receiver, _sender) = stream(&cluster).await;
    let writer = cluster.client().await;
    writer.batch_execute("BEGIN; INSERT INTO high VALUES ('x', 11)").await.unwrap();
    assert_eq!(publication::lockers(&client, root.oid).await.unwrap().len(), 1);
    writer.batch_execute("UPDATE root SET v = 'y'; COMMIT").await.unwrap();
    let all = transactions(&mut receiver, 1).await;
    let names: Vec<_> = all[0].changes.iter().map(|change| &change.relation.name).collect();
    assert_eq!(names, ["root", "root"]);
    let Operation::Update { old: Some(old), new } = &all[0].changes[1].operation else { panic!() };
    // In the root's order of columns, not the partition's.
    assert_eq!(texts(old), [Some("11".to_owned()), Some("x".to_owned())]);
    assert_eq!(texts(new), [Some("11".to_owned()), Some("y".to_owned())]);

    let mut connection = cluster.connection().await;
    connection.copy_out(&snapshot::copy_sql(&root, &["id", "v"])).await.unwrap();
    let chunk = connection.next_copy().await.unwrap().unwrap();
    assert_eq!(chunk.rows().collect::<Vec<_>>(), [b"11\ty"]);
}

#[tokio::test]
async fn the_catalog_tells_columns_as_the_schema_header_wants_them() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    let sql = "CREATE SCHEMA \"My\"; CREATE TABLE \"My\".\"T\" (
            gone int, z int, x varchar(10)[] NOT NULL, m int2vector, g int[][],
            n numeric(8,3), d int GENERATED ALWAYS AS (z + 1) STORED, extra int,
            PRIMARY KEY (z, x) INCLUDE (extra));
        ALTER TABLE \"My\".\"T\" DROP COLUMN gone; CREATE TABLE made AS SELECT ARRAY[1] AS a;
        CREATE TABLE empty (); CREATE VIEW v AS SELECT 1 AS a; CREATE TABLE keyless (a point)";
    client.batch_execute(sql).await.unwrap();
    let table = catalog::table(&client, "My", "T").await.unwrap().unwrap();
    assert_eq!((table.schema.as_str(), table.name.as_str()), ("My", "T"));
    assert_eq!((table.kind, table.identity), (TableKind::Ordinary, ReplicaIdentity::Default));
    let columns = table.columns.iter().map(|column| {
        let (name, kind, modifier) = (&column.name, &column.type_name, column.type_mod);
        let (dims, not_null, generated) = (column.dims, column.not_null, column.generated);
        format!("{name} {kind} {modifier} {dims} {not_null} {:?} {generated}", column.pk_position)
    });
    assert_eq!(
        columns.collect::<Vec<_>>(),
        [
            "z int4 -1 0 true Some(0) false",
            "x varchar 14 1 true Some(1) false",
            "m int2vector -1 0 false None false",
            "g int4 -1 2 false None false",
            "n numeric 524295 0 false None false",
            "d int4 -1 0 false None true",
            "extra int4 -1 0 false None false",
        ]
    );
    let column = async |name| {
        catalog::table(&client, "public", name).await.unwrap().map(|table| table.columns)
    };
    let made = column("made").await.unwrap();
    assert_eq!((made[0].type_name.as_str(), made[0].dims, made[0].type_oid), ("int4", 1, 1007));
    assert_eq!(column("keyless").await.unwrap()[0].dims, 0);
    assert_eq!(column("empty").await, None);
    assert_eq!(column("v").await, None);
    assert_eq!(column("nothing").await, None);
    let by_oid = catalog::table_by_oid(&client, table.oid).await.unwrap();
    assert_eq!(by_oid, Some(table));
}
