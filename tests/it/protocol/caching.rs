//! I. Conditional requests and caching.

use crate::site::Site;

#[tokio::test]
async fn p123_p124_p125_conditional_requests() {
    let site = Site::items().await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let path = "/v1/shape?table=items&offset=-1";
    let first = site.http.get(path).await;
    let tag = first.header("etag").unwrap();
    for known in [tag.to_owned(), format!("\"x\", {tag}"), format!("{tag},\"y\"")] {
        let reply = site.http.get_with(path, "if-none-match", &known).await;
        assert_eq!((reply.status, reply.text()), (304, ""), "{known}");
        for name in ["cache-control", "electric-handle", "electric-offset", "etag"] {
            assert_eq!(reply.header(name), first.header(name), "{name}");
        }
    }
    for other in ["\"x\"".to_owned(), format!("W/{tag}"), "*".to_owned()] {
        assert_eq!(site.http.get_with(path, "if-none-match", &other).await.status, 200, "{other}");
    }
}

#[tokio::test]
async fn p123_live_replies_can_be_revalidated_before_any_waiting() {
    let site = Site::items().await;
    let (_, tail) = site.sync("table=items").await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let live = site.live("table=items", &tail.handle(), &tail.offset()).await;
    let path = format!(
        "/v1/shape?table=items&live=true&handle={}&offset={}",
        tail.handle(),
        tail.offset()
    );
    let reply = site.http.get_with(&path, "if-none-match", live.header("etag").unwrap()).await;
    assert_eq!(reply.status, 304);
    assert!(reply.header("electric-cursor").is_some());
    assert_eq!(reply.header("cache-control"), Some("public, max-age=5, stale-while-revalidate=5"));
}

#[tokio::test]
async fn p094_cache_headers_follow_the_settings() {
    let site = Site::items_with(|server| {
        server.set("LEYDEN_CACHE_MAX_AGE", "1").set("LEYDEN_CACHE_STALE_AGE", "3")
    })
    .await;
    let (_, tail) = site.sync("table=items").await;
    assert_eq!(tail.header("cache-control"), Some("public, max-age=1, stale-while-revalidate=3"));
    let now = site.http.get("/v1/shape?table=items&offset=now").await;
    assert_eq!(now.header("cache-control"), Some("public, max-age=1, stale-while-revalidate=3"));

    let defaults = Site::items().await;
    let (_, tail) = defaults.sync("table=items").await;
    assert_eq!(
        tail.header("cache-control"),
        Some("public, max-age=60, stale-while-revalidate=300")
    );
}
