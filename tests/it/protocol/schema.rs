//! H. Rotation by DDL: what ends a shape, what does not, and how soon a client
//! learns of it on a table that nobody writes to.

use std::time::Duration;

use testkit::{Reply, wait};

use crate::site::Site;

/// The watcher asks the catalog every 4 s.
const NOTICED: Duration = Duration::from_secs(12);

/// A shape that has been read to its end.
struct Shape<'a> {
    site: &'a Site,
    query: &'static str,
    handle: String,
    offset: String,
}

impl<'a> Shape<'a> {
    async fn read(site: &'a Site, query: &'static str) -> Self {
        let (_, tail) = site.sync(query).await;
        Self { site, query, handle: tail.handle(), offset: tail.offset() }
    }

    async fn ask(&self) -> Reply {
        let Self { query, handle, offset, .. } = self;
        let path = format!("/v1/shape?{query}&handle={handle}&offset={offset}");
        self.site.http.get(&path).await
    }

    /// A held request learns of the end; no write is needed.
    async fn ends(&self) {
        wait::until("the shape to end", NOTICED, async || {
            let reply = self.ask().await;
            (reply.status != 200).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn p114_a_new_column_ends_the_shapes_that_show_all() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let all = Shape::read(&site, "table=items").await;
    let listed = Shape::read(&site, "table=items&columns=id,title").await;
    site.db
        .run("ALTER TABLE items ADD COLUMN extra text; INSERT INTO items VALUES (2, 'two')")
        .await;
    all.ends().await;
    assert_eq!(all.ask().await.status, 409);
    let (rows, tail) = site.sync("table=items").await;
    assert_eq!(rows.len(), 2);
    assert_ne!(tail.handle(), all.handle);
    // The one with columns of its own goes on.
    wait::until("the insert", NOTICED, async || {
        let reply = listed.ask().await;
        assert_eq!((reply.status, &reply.handle()), (200, &listed.handle));
        (reply.changes().len() == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn p115_a_dropped_column_ends_the_shapes_that_show_it() {
    let site = Site::items().await;
    site.db.run("ALTER TABLE items ADD COLUMN extra text").await;
    let with = Shape::read(&site, "table=items&columns=id,extra").await;
    let without = Shape::read(&site, "table=items&columns=id,title").await;
    site.db.run("ALTER TABLE items DROP COLUMN extra").await;
    with.ends().await;
    // What it asked for is not there any more.
    assert_eq!(with.ask().await.status, 400);
    assert_eq!(without.ask().await.status, 200);
}

#[tokio::test]
async fn p116_another_type_ends_the_shape_and_shows_in_the_schema() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, '1')").await;
    let shape = Shape::read(&site, "table=items").await;
    site.db.run("ALTER TABLE items ALTER title TYPE int USING title::int").await;
    shape.ends().await;
    assert_eq!(shape.ask().await.status, 409);
    let schema = site.http.get("/v1/shape?table=items&offset=-1").await;
    let schema = schema.header("electric-schema").unwrap().to_owned();
    assert!(schema.contains(r#""title":{"type":"int4"}"#), "{schema}");
}

#[tokio::test]
async fn p117_nullability_is_shown_and_ends_nothing() {
    let site = Site::items().await;
    let shape = Shape::read(&site, "table=items").await;
    site.db.run("ALTER TABLE items ALTER title SET NOT NULL").await;
    wait::until("the schema to say so", NOTICED, async || {
        let reply = shape.ask().await;
        assert_eq!((reply.status, &reply.handle()), (200, &shape.handle));
        let schema = reply.header("electric-schema").unwrap();
        schema.contains(r#""title":{"not_null":true"#).then_some(())
    })
    .await;
}

#[tokio::test]
async fn p118_p119_a_dropped_table_is_served_no_more_and_comes_back_as_another() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let shape = Shape::read(&site, "table=items").await;
    site.db.run("DROP TABLE items").await;
    shape.ends().await;
    assert_eq!(site.http.get("/v1/shape?table=items&offset=-1").await.status, 400);
    site.db.run("CREATE TABLE items (id int PRIMARY KEY, title text)").await;
    let again = Shape::read(&site, "table=items").await;
    assert_ne!(again.handle, shape.handle);
    assert_eq!(shape.ask().await.status, 409);
}

#[tokio::test]
async fn p118_a_renamed_table_is_served_under_its_new_name_only() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let shape = Shape::read(&site, "table=items").await;
    site.db.run("ALTER TABLE items RENAME TO things").await;
    shape.ends().await;
    assert_eq!(site.http.get("/v1/shape?table=items&offset=-1").await.status, 400);
    assert_eq!(site.sync("table=things").await.0.len(), 1);
}
