use std::time::Duration;

use change::{Fragment, Lsn, Operation, Row, Value};
use pg::replication::{self, Event, Receiver, Sender};
use pg::{Class, Error, catalog, publication, slot};
use tokio_postgres::Client;

use crate::cluster::Cluster;

pub(crate) const PUBLICATION: &str = "electric_publication_it's \"x\"";
pub(crate) const SLOT: &str = "electric_slot_test";

/// A publication with these tables, and a slot.
pub(crate) async fn publish(cluster: &Cluster, client: &Client, tables: &[&str]) {
    publication::ensure_publication(client, PUBLICATION, 150_000).await.unwrap();
    for name in tables {
        let table = catalog::table(client, "public", name).await.unwrap().unwrap();
        assert!(publication::add_table(client, PUBLICATION, &table).await.unwrap());
    }
    slot::create_slot(&mut cluster.replication().await, SLOT).await.unwrap();
}

pub(crate) async fn stream(cluster: &Cluster) -> (Receiver, Sender) {
    let connection = cluster.replication().await;
    replication::start(connection, SLOT, PUBLICATION, Lsn::ZERO, 1).await.unwrap()
}

/// The next `count` transactions, put together.
pub(crate) async fn transactions(receiver: &mut Receiver, count: usize) -> Vec<Fragment> {
    let mut all: Vec<Fragment> = Vec::new();
    let mut committed = 0;
    while committed < count {
        let received = tokio::time::timeout(Duration::from_secs(20), receiver.recv());
        for event in received.await.expect("an event in time").unwrap() {
            let Event::Fragment(fragment) = event else { continue };
            committed += usize::from(fragment.commit.is_some());
            match all.last_mut() {
                Some(last) if !fragment.first => {
                    last.changes.extend(fragment.changes);
                    last.commit = fragment.commit;
                }
                _ => all.push(fragment),
            }
        }
    }
    all
}

pub(crate) fn texts(row: &Row) -> Vec<Option<String>> {
    (0..row.cells.len())
        .map(|index| match row.view().get(index) {
            Value::Null => None,
            Value::Unchanged => panic!("an unchanged value"),
            Value::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        })
        .collect()
}

fn show(fragment: &Fragment) -> Vec<String> {
    let short = |row: &Row| {
        let values = texts(row).into_iter().map(|value| match value {
            None => "-".to_owned(),
            Some(text) if text.len() > 9 => format!("{}…{}", &text[..1], text.len()),
            Some(text) => text,
        });
        values.collect::<Vec<_>>().join(",")
    };
    let changes = fragment.changes.iter().map(|change| {
        let what = match &change.operation {
            Operation::Insert { new } => format!("+{}", short(new)),
            Operation::Update { old: Some(old), new } => format!("{}>{}", short(old), short(new)),
            Operation::Update { old: None, new } => format!("?>{}", short(new)),
            Operation::Delete { old } => format!("-{}", short(old)),
            Operation::Truncate => "truncate".to_owned(),
            Operation::Incomplete => "?".to_owned(),
        };
        format!("{} {} {what}", change.op_index, change.relation.name)
    });
    changes.collect()
}

#[tokio::test]
async fn every_operation_arrives_in_order_and_whole() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    let sql = "CREATE TABLE keyed (id int PRIMARY KEY, v text, long text);
        ALTER TABLE keyed ALTER long SET STORAGE EXTERNAL;
        CREATE TABLE keyless (a int, b text); CREATE TABLE other (id int PRIMARY KEY)";
    client.batch_execute(sql).await.unwrap();
    publish(&cluster, &client, &["keyed", "keyless"]).await;
    let (mut receiver, _sender) = stream(&cluster).await;

    let sql = "BEGIN; INSERT INTO keyed VALUES (1, 'a', repeat('x', 9000)), (2, NULL, '');
        INSERT INTO other VALUES (1); UPDATE keyed SET v = 'b' WHERE id = 1;
        UPDATE keyed SET id = 3 WHERE id = 1; DELETE FROM keyed WHERE id = 2; COMMIT;
        INSERT INTO keyless VALUES (1, 'é'), (1, 'é'); UPDATE keyless SET a = 2;
        DELETE FROM keyless; TRUNCATE keyed, keyless RESTART IDENTITY CASCADE";
    for statement in sql.split(';') {
        client.batch_execute(statement).await.unwrap();
    }
    let all = transactions(&mut receiver, 5).await;
    assert_eq!(
        show(&all[0]),
        [
            "0 keyed +1,a,x…9000",
            "2 keyed +2,-,",
            "4 keyed 1,a,x…9000>1,b,x…9000",
            "6 keyed 1,b,x…9000>3,b,x…9000",
            "8 keyed -2,-,",
        ]
    );
    assert_eq!(show(&all[1]), ["0 keyless +1,é", "2 keyless +1,é"]);
    assert_eq!(show(&all[2]), ["0 keyless 1,é>2,é", "2 keyless 1,é>2,é"]);
    assert_eq!(show(&all[3]), ["0 keyless -2,é", "2 keyless -2,é"]);
    assert_eq!(show(&all[4]), ["0 keyed truncate", "2 keyless truncate"]);
    for pair in all.windows(2) {
        assert!(pair[0].commit_lsn < pair[1].commit_lsn);
        assert!(pair[0].commit.unwrap().end_lsn <= pair[1].commit_lsn);
    }
    let row = client.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap();
    let next: u32 = row.get::<_, String>(0).parse().unwrap();
    assert!(all.iter().all(|fragment| fragment.xid < next));
}

#[tokio::test]
async fn what_is_confirmed_is_not_sent_again() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY)").await.unwrap();
    publish(&cluster, &client, &["t"]).await;
    let (mut receiver, mut sender) = stream(&cluster).await;
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (2)").await.unwrap();
    let all = transactions(&mut receiver, 2).await;

    let first_end = all[0].commit.unwrap().end_lsn;
    sender.status(receiver.received(), first_end, true).await.unwrap();
    // The sender works from another task, while this one reads.
    let (answer, closed) = tokio::join!(
        async {
            loop {
                for event in receiver.recv().await.unwrap() {
                    if let Event::KeepAlive { wal_end, in_transaction, .. } = event {
                        return (wal_end, in_transaction);
                    }
                }
            }
        },
        tokio::spawn(async move { sender.close().await }),
    );
    closed.unwrap().unwrap();
    assert!(answer.0 >= first_end && !answer.1);
    while receiver.recv().await.is_ok() {}
    let state = slot::slot_state(&client, SLOT).await.unwrap().unwrap();
    assert_eq!(state.confirmed_flush, Some(first_end));
    state.check(SLOT, "postgres").unwrap();
    assert!(matches!(state.check(SLOT, "other"), Err(Error::SlotNotOurs { .. })));

    while slot::slot_state(&client, SLOT).await.unwrap().unwrap().active_pid.is_some() {}
    let (mut receiver, sender) = stream(&cluster).await;
    assert_eq!(transactions(&mut receiver, 1).await[0].commit_lsn, all[1].commit_lsn);

    let in_use = cluster.replication().await;
    let error = replication::start(in_use, SLOT, PUBLICATION, Lsn::ZERO, 1).await.unwrap_err();
    assert_eq!((error.sqlstate(), error.class()), (Some("55006"), Class::Retry));
    drop((receiver, sender));
    while slot::drop_slot(&client, SLOT).await.is_err() {}
    assert!(!slot::drop_slot(&client, SLOT).await.unwrap());
    assert_eq!(slot::slot_state(&client, SLOT).await.unwrap(), None);
    let gone = cluster.replication().await;
    let error = replication::start(gone, SLOT, PUBLICATION, Lsn::ZERO, 1).await.unwrap_err();
    assert_eq!(error.class(), Class::SlotLost);
}

#[tokio::test]
async fn a_table_that_loses_its_identity_does_not_stop_the_others() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    let sql = "CREATE TABLE good (id int PRIMARY KEY); CREATE TABLE bad (id int PRIMARY KEY)";
    client.batch_execute(sql).await.unwrap();
    publish(&cluster, &client, &["good", "bad"]).await;
    for sql in [
        "INSERT INTO bad VALUES (1)",
        "ALTER TABLE bad REPLICA IDENTITY DEFAULT",
        "BEGIN; DELETE FROM bad; INSERT INTO good VALUES (1); COMMIT",
        "ALTER TABLE bad REPLICA IDENTITY FULL; INSERT INTO bad VALUES (2)",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let (mut receiver, _sender) = stream(&cluster).await;
    let all: Vec<_> = transactions(&mut receiver, 3).await.iter().map(show).collect();
    assert_eq!(
        all[1..],
        [vec!["0 bad ?".to_owned(), "2 good +1".to_owned()], vec!["0 bad +2".to_owned()]]
    );
}

#[tokio::test]
async fn a_large_transaction_arrives_whole_and_fast() {
    let cluster = Cluster::start(&[]);
    let client = cluster.client().await;
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, v text)").await.unwrap();
    publish(&cluster, &client, &["t"]).await;
    let sql = "INSERT INTO t SELECT i, 'row ' || i FROM generate_series(1, 100000) i";
    client.batch_execute(sql).await.unwrap();
    let (mut receiver, _sender) = stream(&cluster).await;
    let all = transactions(&mut receiver, 1).await;
    assert_eq!(all[0].changes.len(), 100_000);
    for (index, change) in all[0].changes.iter().enumerate() {
        let Operation::Insert { new } = &change.operation else { panic!("{change:?}") };
        assert_eq!(change.op_index, 2 * index as u64);
        let expected = [Some((index + 1).to_string()), Some(format!("row {}", index + 1))];
        assert_eq!(texts(new), expected);
    }
}
