//! C. Validation of parameters.

use serde_json::json;
use testkit::{Reply, encode};

use crate::site::Site;

#[track_caller]
fn check_refused(reply: &Reply, field: &str, text: &str) {
    assert_eq!(reply.status, 400, "{}", reply.text());
    let body = reply.json();
    assert_eq!(body["message"], "Invalid request", "{body}");
    let errors = body["errors"][field].as_array().unwrap_or_else(|| panic!("{field} in {body}"));
    assert!(errors.iter().any(|error| error.as_str().unwrap().contains(text)), "{text}: {body}");
    assert_eq!(reply.header("electric-handle"), None);
    // Item 47.
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("surrogate-control"), Some("no-store"));
}

#[track_caller]
fn check_exactly(reply: &Reply, errors: serde_json::Value) {
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(reply.json(), json!({ "message": "Invalid request", "errors": errors }));
}

#[tokio::test]
async fn p022_p023_table_and_offset_are_required() {
    let site = Site::items().await;
    for query in ["offset=-1", "offset=-1&table="] {
        let reply = site.http.get(&format!("/v1/shape?{query}")).await;
        check_exactly(&reply, json!({ "table": ["can't be blank"] }));
    }
    for query in ["table=items", "table=items&offset="] {
        let reply = site.http.get(&format!("/v1/shape?{query}")).await;
        check_exactly(&reply, json!({ "offset": ["can't be blank"] }));
    }
}

#[tokio::test]
async fn p024_p025_p026_the_form_of_an_offset() {
    let site = Site::items().await;
    let bad = ["abc", "1_2_3", "-5_0", "1_-1", "1", "_", "1_", "_1", "0_-1", "-1_inf", "inf_0"];
    for offset in bad {
        let reply = site.http.get(&format!("/v1/shape?table=items&offset={offset}")).await;
        assert_eq!(reply.json()["errors"]["offset"], json!(["has invalid format"]), "{offset}");
        check_refused(&reply, "offset", "has invalid format");
    }
    // Beyond 64 bits there is no offset that could ever be reached.
    let reply = site.http.get("/v1/shape?table=items&offset=99999999999999999999999_0").await;
    assert_eq!(reply.status, 400);
    let reply = site.http.get("/v1/shape?table=items&offset=-1_0").await;
    assert_eq!((reply.status, reply.offset().as_str()), (200, "0_0"));
    let reply = site.http.get("/v1/shape?table=items&offset=0_0").await;
    check_exactly(&reply, json!({ "handle": ["can't be blank when offset != -1"] }));
}

#[tokio::test]
async fn p027_p028_live_needs_an_offset_in_the_log() {
    let site = Site::items().await;
    for live in ["live=true", "live=1", "live=", "live=0"] {
        let reply = site.http.get(&format!("/v1/shape?table=items&offset=-1&{live}")).await;
        check_exactly(&reply, json!({ "live": ["can't be true when offset == -1"] }));
    }
    let reply = site.http.get("/v1/shape?table=items&offset=now&live=true").await;
    check_exactly(&reply, json!({ "live": ["can't be true when offset is 'now'"] }));
    let reply = site.http.get("/v1/shape?table=items&offset=-1&live=false").await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn p029_p030_p031_values_of_the_other_parameters() {
    let site = Site::items().await;
    let path = "/v1/shape?table=items&offset=-1";
    let reply = site.http.get(&format!("{path}&live_sse=true")).await;
    check_refused(&reply, "live_sse", "can't be true unless live is also true");
    let reply = site.http.get(&format!("{path}&experimental_live_sse=maybe")).await;
    check_exactly(&reply, json!({ "live_sse": ["is invalid"] }));
    for field in ["replica", "log"] {
        let reply = site.http.get(&format!("{path}&{field}=x")).await;
        check_exactly(&reply, json!({ (field): ["is invalid"] }));
    }
}

#[tokio::test]
async fn p032_p034_only_tables_that_exist_can_be_shapes() {
    let site = Site::items().await;
    site.db
        .run(
            "CREATE VIEW a_view AS SELECT * FROM items;
             CREATE MATERIALIZED VIEW a_matview AS SELECT * FROM items;
             CREATE TABLE no_columns ()",
        )
        .await;
    for name in ["x", "a_view", "a_matview", "no_columns"] {
        let reply = site.http.get(&format!("/v1/shape?table={name}&offset=-1")).await;
        check_exactly(
            &reply,
            json!({ "table": [format!(
                "Table \"public\".\"{name}\" does not exist. If the table name contains capitals \
                 or special characters you must quote it."
            )] }),
        );
    }
}

#[tokio::test]
async fn p033_p035_identifiers_fold_like_postgres() {
    let site = Site::items().await;
    site.db
        .run(
            r#"CREATE TABLE "Items" (id int PRIMARY KEY);
               CREATE TABLE "we""ird.tä/ble" (id int PRIMARY KEY);
               CREATE SCHEMA "Other"; CREATE TABLE "Other".items (id int PRIMARY KEY)"#,
        )
        .await;
    let same = |name: &str| format!("/v1/shape?table={}&offset=-1", encode(name));
    let handle = async |name: &str| site.http.get(&same(name)).await.handle();
    let items = handle("items").await;
    assert_eq!(handle("Items").await, items);
    assert_eq!(handle("public.items").await, items);
    assert_eq!(handle("PUBLIC.\"items\"").await, items);
    assert_ne!(handle("\"Items\"").await, items);
    assert_ne!(handle("\"Other\".items").await, items);
    handle(r#""we""ird.tä/ble""#).await;

    let too_long = "x".repeat(64);
    for name in ["a.b.c", "a-b", "\"a", "\"a\"b\"", ".items", "items.", "\"\"", "1a", &too_long] {
        let reply = site.http.get(&same(name)).await;
        check_refused(&reply, "table", "");
        let text = reply.text();
        assert!(!text.contains("does not exist"), "{name} is not even a name: {text}");
    }
}

#[tokio::test]
async fn p036_p037_p038_columns() {
    let site = Site::items().await;
    let with =
        |columns: &str| format!("/v1/shape?table=items&offset=-1&columns={}", encode(columns));
    check_refused(&site.http.get(&with("title")).await, "columns", "missing: id");
    check_refused(
        &site.http.get(&with("id,nope")).await,
        "columns",
        "The following columns are not found on the table: nope",
    );
    check_refused(&site.http.get(&with("id,,title")).await, "columns", "");
    let handle = site.http.get(&with("\"id\",\"title\"")).await.handle();
    assert_eq!(site.http.get(&with("title,id")).await.handle(), handle);
    assert_ne!(site.http.get(&with("id")).await.handle(), handle);
    // All columns, and a list that names them all, are two shapes.
    assert_ne!(site.http.get("/v1/shape?table=items&offset=-1").await.handle(), handle);
}

#[tokio::test]
async fn p039_a_where_is_clearly_refused() {
    let site = Site::items().await;
    let reply = site.http.get("/v1/shape?table=items&offset=-1&where=id%3D1").await;
    check_refused(&reply, "where", "");
}

#[tokio::test]
async fn p045_unknown_parameters_are_ignored() {
    let site = Site::items().await;
    let path = "/v1/shape?table=items&offset=-1";
    let handle = site.http.get(path).await.handle();
    let more = "&foo=bar&cache-buster=1&expired_handle=x&source_id=y&database_id=z";
    assert_eq!(site.http.get(&format!("{path}{more}")).await.handle(), handle);
}

#[tokio::test]
async fn p046_p047_the_first_group_of_errors_wins() {
    let site = Site::items().await;
    let reply = site.http.get("/v1/shape?table=nope&offset=abc").await;
    check_exactly(&reply, json!({ "offset": ["has invalid format"] }));
    check_refused(&reply, "offset", "has invalid format");
}
