use std::time::Duration;

use pg::{Class, Config, Error, Session, session, slot};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::cluster::{Cluster, client};

async fn users(cluster: &Cluster) {
    let sql = "CREATE ROLE scram LOGIN REPLICATION PASSWORD 'secret /@:é';
        CREATE ROLE tls LOGIN PASSWORD 'secret'; CREATE ROLE trusted LOGIN;
        CREATE ROLE plain LOGIN PASSWORD 'secret';
        SET password_encryption = 'md5'; CREATE ROLE md5 LOGIN PASSWORD 'secret'";
    cluster.connection().await.simple_query(sql).await.unwrap();
}

/// Both ways in, since they authenticate with different code.
async fn who(config: &Config) -> Result<String, Error> {
    let mut connection = pg::dial(config, &Session::default()).await?;
    let rows = connection.simple_query("SELECT current_user").await?;
    let client = client(config).await?;
    let row = client.query_one("SELECT current_user::text", &[]).await?;
    let style = client.query_one("SHOW DateStyle", &[]).await?;
    assert_eq!(style.get::<_, &str>(0), "ISO, DMY");
    assert_eq!(rows[0][0].as_deref(), Some(row.get(0)));
    Ok(row.get(0))
}

#[track_caller]
fn blocked(result: Result<String, Error>, expected: &str) {
    let error = result.expect_err(expected);
    let Class::Blocked { code, remedy } = error.class() else { panic!("{error:?}") };
    assert_eq!(code, expected, "{error}: {remedy}");
}

#[tokio::test]
async fn every_way_to_log_in_works_and_refusals_are_told_apart() {
    let cluster = Cluster::start(&[]);
    users(&cluster).await;
    let tcp = |login: &str| cluster.tcp(login, "127.0.0.1", "");
    assert_eq!(who(&cluster.config()).await.unwrap(), "postgres");
    assert_eq!(who(&tcp("trusted")).await.unwrap(), "trusted");
    assert_eq!(who(&tcp("md5:secret")).await.unwrap(), "md5");
    assert_eq!(who(&tcp("plain:secret")).await.unwrap(), "plain");
    assert_eq!(who(&tcp("scram:secret%20%2F%40%3A%C3%A9")).await.unwrap(), "scram");
    assert_eq!(who(&cluster.tcp("trusted", "localhost", "")).await.unwrap(), "trusted");

    blocked(who(&tcp("scram:wrong")).await, "wrong_password");
    blocked(who(&tcp("md5:wrong")).await, "wrong_password");
    blocked(who(&tcp("scram")).await, "password_missing");
    blocked(who(&tcp("nobody")).await, "tls_required");
    blocked(who(&cluster.tcp("trusted", "127.0.0.1", "?sslmode=require")).await, "tls_not_offered");
    blocked(who(&cluster.tcp("trusted", "nowhere.invalid", "")).await, "unknown_host");
    let mut elsewhere = tcp("trusted");
    elsewhere.dbname = "nothing".to_owned();
    blocked(who(&elsewhere).await, "no_such_database");

    let replication = Session { replication: true, ..Session::default() };
    let refused = pg::dial(&tcp("trusted"), &replication).await.map(|_| String::new());
    blocked(refused, "replication_privilege_missing");

    let mut closed = tcp("trusted");
    closed.port = 1;
    let error = who(&closed).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert_eq!(error.class(), Class::Retry);
}

/// An authority, and a server certificate for `localhost` signed by it.
fn certificates(cluster: &Cluster) {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(authority, authority_key);
    let key = KeyPair::generate().unwrap();
    let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = names.signed_by(&key, &issuer).unwrap();
    cluster.write_private("data/server.key", &key.serialize_pem());
    cluster.write_private("data/server.crt", &certificate.pem());
    std::fs::write(cluster.path("ca.pem"), root.pem()).unwrap();
    std::fs::write(cluster.path("empty.pem"), "").unwrap();
}

#[tokio::test]
async fn tls_verifies_what_the_sslmode_says() {
    let cluster = Cluster::start(&[]);
    users(&cluster).await;
    certificates(&cluster);
    let mut admin = cluster.connection().await;
    admin.simple_query("ALTER SYSTEM SET ssl = on").await.unwrap();
    admin.simple_query("SELECT pg_reload_conf()").await.unwrap();
    while admin.simple_query("SHOW ssl").await.unwrap()[0][0].as_deref() != Some("on") {}

    let ca = cluster.path("ca.pem").display().to_string();
    let with = |host: &str, parameters: &str| {
        cluster.tcp("tls:secret", host, &parameters.replace("{ca}", &ca))
    };
    let host = "localhost";
    for parameters in [
        "",
        "?sslmode=allow",
        "?sslmode=require",
        "?sslmode=require&sslrootcert={ca}",
        "?sslmode=require&channel_binding=require",
        "?sslmode=require&channel_binding=disable",
        "?sslmode=verify-ca&sslrootcert={ca}",
        "?sslmode=verify-full&sslrootcert={ca}",
    ] {
        let user = who(&with(host, parameters)).await;
        assert_eq!(user.unwrap_or_else(|error| panic!("{parameters}: {error:?}")), "tls");
    }
    let other_name = "127.0.0.1";
    assert_eq!(who(&with(other_name, "?sslmode=verify-ca&sslrootcert={ca}")).await.unwrap(), "tls");
    blocked(
        who(&with(other_name, "?sslmode=verify-full&sslrootcert={ca}")).await,
        "certificate_refused",
    );
    blocked(who(&with(host, "?sslmode=verify-full")).await, "certificate_refused");
    blocked(who(&with(host, "?sslmode=verify-ca")).await, "certificate_refused");
    let empty = cluster.path("empty.pem").display().to_string();
    let parameters = format!("?sslmode=verify-ca&sslrootcert={empty}");
    blocked(who(&with(host, &parameters)).await, "root_certificates_unusable");
    blocked(who(&with(host, "?sslmode=disable")).await, "tls_required");

    // Many records, and a cancellation over TLS.
    let config = with(host, "?sslmode=require");
    let mut connection = pg::dial(&config, &Session::default()).await.unwrap();
    let sql = "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 5000)) TO STDOUT";
    connection.copy_out(sql).await.unwrap();
    let mut count = 0;
    while let Some(chunk) = connection.next_copy().await.unwrap() {
        count += chunk.rows().inspect(|row| assert_eq!(row.len(), 1000)).count();
    }
    assert_eq!(count, 5000);
    cancelled(&mut connection).await;
}

async fn cancelled(connection: &mut pg::Connection) {
    let token = connection.cancel_token();
    let sleeping = connection.simple_query("SELECT pg_sleep(60)");
    let (result, ()) = tokio::join!(sleeping, async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        token.cancel().await.unwrap();
    });
    assert_eq!(result.unwrap_err().sqlstate(), Some("57014"));
    assert_eq!(connection.simple_query("SELECT 1").await.unwrap()[0][0].as_deref(), Some("1"));
}

#[tokio::test]
async fn a_server_without_logical_wal_says_how_to_get_it() {
    let cluster = Cluster::start(&["wal_level=replica"]);
    let facts = session::server_facts(&cluster.client().await).await.unwrap();
    assert_eq!(facts.version_num / 10_000, 15);
    assert!(facts.may_replicate && !facts.in_recovery);
    blocked(facts.check().map(|()| String::new()), "wal_level_not_logical");
    let mut connection = cluster.replication().await;
    let refused = slot::create_slot(&mut connection, "s").await.map(|lsn| lsn.to_string());
    blocked(refused, "wal_level_not_logical");
}

#[tokio::test]
async fn one_session_holds_the_lock_and_an_abandoned_query_is_skipped() {
    let cluster = Cluster::start(&[]);
    let mut first = cluster.replication().await;
    let mut second = cluster.replication().await;
    session::check_direct(&mut first).await.unwrap();
    assert!(session::try_advisory_lock(&mut first, "it's").await.unwrap());
    assert!(!session::try_advisory_lock(&mut second, "it's").await.unwrap());
    let client = cluster.client().await;
    assert!(session::terminate_backend(&client, first.backend_pid()).await.unwrap());
    while !session::try_advisory_lock(&mut second, "it's").await.unwrap() {}
    let error = first.simple_query("SELECT 1").await.unwrap_err();
    assert_eq!(error.class(), Class::Retry);

    let query = second.simple_query("SELECT pg_sleep(0.2), 'late'");
    assert!(tokio::time::timeout(Duration::from_millis(20), query).await.is_err());
    let rows = second.simple_query("SELECT 'next'").await.unwrap();
    assert_eq!(rows, [[Some("next".to_owned())]]);
    let error = second.simple_query("SELECT nonsense").await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42703"));
    assert_eq!(second.simple_query("SELECT 1").await.unwrap().len(), 1);

    let system = session::identify_system(&mut second).await.unwrap();
    assert_eq!(system.timeline, 1);
    assert!(
        system.system_id > 0 && system.wal_end <= session::current_wal_lsn(&client).await.unwrap()
    );
    second.close().await;
}
