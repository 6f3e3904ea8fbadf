//! Bad input: each gives one clear sentence with the remedy, and what can heal
//! by itself heals without a restart.

use std::time::Duration;

use testkit::{ClusterOptions, Db, Postgres, Server, encode, wait};

use crate::site::{LIMIT, Site, postgres};

/// Errors that only an operator can heal are looked at again every 30 s.
const HEALED: Duration = Duration::from_secs(45);

/// Waits until one line of the server's output has all of `words`. The process
/// may have ended by then, but not in a panic.
async fn explains(server: &mut Server, words: &[&str]) {
    let what = format!("a line with {words:?}");
    wait::until(&what, LIMIT, async || {
        let log = server.log();
        let ended = server.exited();
        let found = log.lines().any(|line| words.iter().all(|word| line.contains(word)));
        if ended.is_some() {
            assert!(found, "it ended with {ended:?} and no line has {words:?}:\n{log}");
        }
        found.then_some(())
    })
    .await;
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
}

/// It is up, does not pretend to work, and says why only now and then.
async fn waits(server: &mut Server) {
    let http = server.http();
    let reply = wait::until("an answer of /v1/health", LIMIT, async || {
        assert_eq!(server.exited(), None, "{}", server.log());
        http.try_get("/v1/health").await.ok()
    })
    .await;
    assert_eq!(reply.status, 202, "{}", reply.text());
}

async fn with_password() -> Postgres {
    let password = Some("right".to_owned());
    Postgres::with(15, ClusterOptions { password, ..ClusterOptions::default() }).await
}

#[tokio::test]
async fn a_wrong_password_is_named_and_heals_when_it_becomes_right() {
    let postgres = with_password().await;
    let db = Db::connect(&postgres.url()).await;
    db.run("CREATE ROLE app SUPERUSER LOGIN REPLICATION PASSWORD 'other'").await;
    let url = postgres.url().replace("postgres:right@", "app:t0psecret@");
    let mut server = Server::new(&url);
    server.launch();
    explains(&mut server, &["password", "app"]).await;
    waits(&mut server).await;
    assert!(!server.log().contains("t0psecret"), "the password is in the log");
    db.run("ALTER ROLE app PASSWORD 't0psecret'").await;
    let http = server.http();
    wait::until("the server to be active", HEALED, async || {
        (http.get("/v1/health").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_wrong_host_is_named_and_tried_again() {
    let mut server = Server::new("postgresql://postgres@no-such-host.invalid/postgres");
    server.launch();
    explains(&mut server, &["no-such-host.invalid"]).await;
    waits(&mut server).await;
}

#[tokio::test]
async fn wal_level_replica_is_explained() {
    let postgres = Postgres::start(15, &[("wal_level", "replica")]).await;
    let mut server = Server::new(&postgres.url());
    server.launch();
    explains(&mut server, &["wal_level", "logical"]).await;
}

#[tokio::test]
async fn a_role_without_replication_is_told_the_statement() {
    let postgres = postgres().await;
    let db = Db::connect(&postgres.url()).await;
    db.run("CREATE ROLE app LOGIN; GRANT ALL ON DATABASE postgres TO app").await;
    let mut server = Server::new(&postgres.url().replace("postgres@", "app@"));
    server.launch();
    explains(&mut server, &["ALTER ROLE", "app", "REPLICATION"]).await;
}

#[tokio::test]
async fn a_missing_database_is_named() {
    let postgres = postgres().await;
    let mut server = Server::new(&postgres.url().replace("/postgres?", "/not_there?"));
    server.launch();
    explains(&mut server, &["not_there"]).await;
}

#[tokio::test]
async fn a_broken_url_is_refused_at_once_and_its_password_is_not_shown() {
    let cases = [
        ("postgres//nobody", "postgresql://"),
        ("mysql://u:hidden1@h/db", "postgresql://"),
        ("postgresql://u:hidden1@h:port/db", "port"),
        ("postgresql://u:hidden1@h/db?sslmode=banana", "sslmode"),
        ("postgresql://u:hidden1@h/db?colour=red", "colour"),
        ("postgresql://u:hidden1@h/db?replication=database", "replication"),
        ("", "DATABASE_URL"),
    ];
    for (url, word) in cases {
        let mut server = Server::new(url);
        server.launch();
        let status = server.ended(LIMIT).await;
        let log = server.log();
        assert!(!status.success(), "{url}: {log}");
        assert!(log.contains(word) && log.contains("DATABASE_URL"), "{url}: {log}");
        assert!(!log.contains("hidden1"), "{url}: {log}");
        assert!(!log.contains("panicked"), "{url}: {log}");
    }
}

#[tokio::test]
async fn unknown_or_contradictory_settings_are_refused() {
    for (name, value, word) in [
        ("LEYDEN_LONG_POLL_TIMEOUT", "soon", "LEYDEN_LONG_POLL_TIMEOUT"),
        ("LEYDEN_PORT", "123456", "LEYDEN_PORT"),
        ("LEYDEN_NO_SUCH_SETTING", "1", "LEYDEN_NO_SUCH_SETTING"),
    ] {
        let mut server = Server::new("postgresql://postgres@127.0.0.1/x").set(name, value);
        server.launch();
        let status = server.ended(LIMIT).await;
        assert!(!status.success() && server.log().contains(word), "{name}: {}", server.log());
    }
}

#[tokio::test]
async fn a_server_started_before_postgres_becomes_active_with_it() {
    let mut postgres = postgres().await;
    postgres.stop().await;
    let mut server = Server::new(&postgres.url());
    server.launch();
    waits(&mut server).await;
    postgres.start_again().await;
    server.active().await;
}

#[tokio::test]
async fn tables_that_are_none_change_nothing() {
    let site = Site::items().await;
    site.db.run("CREATE VIEW a_view AS SELECT * FROM items").await;
    let names = [
        "nope",
        "a_view",
        "pg_class_nope",
        "\"; DROP TABLE items; --\"",
        "a b",
        "\u{0}",
        "%",
        "é.é",
    ];
    for name in names {
        let path = format!("/v1/shape?table={}&offset=-1", encode(name));
        let reply = site.http.get(&path).await;
        assert_eq!(reply.status, 400, "{name:?}: {}", reply.text());
        assert!(reply.json()["errors"]["table"][0].is_string(), "{name:?}: {}", reply.text());
    }
    assert_eq!(site.http.get("/v1/shape?table=items&offset=-1").await.status, 200);
    let published = format!(
        "SELECT count(*) FROM pg_publication_tables WHERE pubname = '{}'",
        site.server.publication()
    );
    assert_eq!(site.db.value(&published).await, "1");
}

#[tokio::test]
async fn a_table_with_an_odd_name_works() {
    let site = Site::start().await;
    let name = "\"Wéird \"\"na/me\"\".with;dots and 🙂\"";
    site.db
        .run(&format!("CREATE TABLE {name} (\"k/e\"\"y\" int PRIMARY KEY, \"Välue\" text)"))
        .await;
    site.db.run(&format!("INSERT INTO {name} VALUES (1, 'x')")).await;
    let reader = testkit::Follower::start(&site.server.url(), testkit::Query::table(name));
    reader.synced().await;
    site.db.run(&format!("UPDATE {name} SET \"Välue\" = 'y'; INSERT INTO {name} VALUES (2)")).await;
    reader.holds(&site.db.rows(&format!("SELECT * FROM {name}")).await, LIMIT).await;
    reader.check();
}

#[tokio::test]
async fn a_table_that_may_not_be_read_is_a_503_with_the_grant() {
    let postgres = postgres().await;
    let db = Db::connect(&postgres.url()).await;
    db.run(
        "CREATE ROLE app LOGIN REPLICATION; GRANT CREATE ON DATABASE postgres TO app;
         CREATE TABLE items (id int PRIMARY KEY)",
    )
    .await;
    let server = Server::new(&postgres.url().replace("postgres@", "app@")).start().await;
    let reply = server.http().get("/v1/shape?table=items&offset=-1").await;
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.text().contains("owner"), "{}", reply.text());
    assert!(reply.header("retry-after").is_some());
    // Made right, it works without a restart.
    db.run("ALTER TABLE items OWNER TO app").await;
    let http = server.http();
    wait::until("the shape", LIMIT, async || {
        let reply = http.get("/v1/shape?table=items&offset=-1").await;
        (reply.status == 200).then_some(())
    })
    .await;
}
