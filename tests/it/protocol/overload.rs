//! L. Overload and faults.

use testkit::wait;

use crate::site::{LIMIT, Site};

#[tokio::test]
async fn p149_with_postgres_down_what_is_on_disk_is_still_served() {
    let mut site = Site::items().await;
    site.db
        .run("INSERT INTO items VALUES (1, 'one'); CREATE TABLE others (id int PRIMARY KEY)")
        .await;
    let (rows, tail) = site.sync("table=items").await;
    site.db.run("INSERT INTO items VALUES (2, 'two')").await;
    let live = site.live("table=items", &tail.handle(), &tail.offset()).await;

    site.postgres.stop().await;
    let reply = site.http.get("/v1/shape?table=items&offset=-1").await;
    assert_eq!((reply.handle(), reply.changes()), (tail.handle(), rows));
    let path = format!("/v1/shape?table=items&handle={}&offset=0_inf", tail.handle());
    assert_eq!(site.http.get(&path).await.changes(), live.changes());

    let refused = site.http.get("/v1/shape?table=others&offset=-1").await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    assert_eq!(refused.header("surrogate-control"), Some("no-store"));
    assert!(site.server.exited().is_none());

    site.postgres.start_again().await;
    let others = wait::until("the new shape after Postgres is back", LIMIT, async || {
        let reply = site.http.get("/v1/shape?table=others&offset=-1").await;
        (reply.status == 200).then_some(reply)
    })
    .await;
    assert_eq!(others.controls(), ["snapshot-end"]);
    assert_eq!(site.http.get(&path).await.status, 200);
}
