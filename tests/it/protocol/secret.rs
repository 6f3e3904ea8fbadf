//! B. The secret.

use std::time::Duration;

use testkit::Server;

use crate::site::{Site, postgres};

const REFUSED: &str = r#"{"message":"Unauthorized - Invalid API secret"}"#;

async fn secured() -> Site {
    let site =
        Site::start_with(|server| server.unset("LEYDEN_INSECURE").set("LEYDEN_SECRET", "s3cret"))
            .await;
    site.db.run("CREATE TABLE items (id int PRIMARY KEY, title text)").await;
    site
}

#[tokio::test]
async fn p015_p016_p017_a_request_needs_the_right_secret() {
    let site = secured().await;
    let path = "/v1/shape?table=items&offset=-1";
    let cases = [
        ("", 401),
        ("&secret=wrong", 401),
        ("&secret=", 401),
        ("&secret=s3cret", 200),
        ("&api_secret=s3cret", 200),
        ("&secret=wrong&api_secret=s3cret", 401),
    ];
    for (query, status) in cases {
        let reply = site.http.get(&format!("{path}{query}")).await;
        assert_eq!(reply.status, status, "{query}");
        if status == 401 {
            assert_eq!(reply.text(), REFUSED, "{query}");
        }
    }
}

#[tokio::test]
async fn p018_p019_no_spelling_of_the_path_goes_round_the_secret() {
    let site = secured().await;
    for path in ["/v1/shape/", "/v1//shape", "/v1/%73hape", "//v1/shape", "/v1/shape//"] {
        let reply = site.http.get(&format!("{path}?table=items&offset=-1")).await;
        assert!([401, 404].contains(&reply.status), "{path}: {}", reply.status);
        let delete = site.http.delete(&format!("{path}?table=items")).await;
        assert!([401, 404].contains(&delete.status), "{path}: {}", delete.status);
    }
    assert_eq!(site.http.get("/v1/health").await.status, 200);
    assert_eq!(site.http.options("/v1/shape").await.status, 204);
}

#[tokio::test]
async fn p021_neither_or_both_of_secret_and_insecure_refuse_to_start() {
    let postgres = postgres().await;
    let neither = Server::new(&postgres.url()).unset("LEYDEN_INSECURE");
    let both = Server::new(&postgres.url()).set("LEYDEN_SECRET", "s3cret");
    for mut server in [neither, both] {
        server.launch();
        let status = server.ended(Duration::from_secs(10)).await;
        assert!(!status.success());
        let log = server.log();
        assert!(log.contains("LEYDEN_SECRET") && log.contains("LEYDEN_INSECURE"), "{log}");
        assert!(!log.contains("s3cret"), "the secret is in the log: {log}");
    }
}
