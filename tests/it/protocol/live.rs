//! F. Live long poll.

use std::time::{Duration, Instant};

use testkit::wait;

use crate::site::{LIMIT, Site};

/// A server whose long polls end soon.
async fn brief() -> Site {
    Site::items_with(|server| server.set("LEYDEN_LONG_POLL_TIMEOUT", "700")).await
}

#[tokio::test]
async fn p087_p089_p094_a_commit_wakes_a_live_request() {
    let site = Site::items().await;
    let (_, tail) = site.sync("table=items").await;
    let (handle, offset) = (tail.handle(), tail.offset());
    let waiting = site.live("table=items", &handle, &offset);
    let writing = async {
        // Long enough for the request to be parked; it need not be.
        wait::pace(Duration::from_millis(200)).await;
        site.db.run("INSERT INTO items VALUES (1, 'one')").await;
        Instant::now()
    };
    let (reply, committed) = tokio::join!(waiting, writing);
    assert!(committed.elapsed() < Duration::from_secs(1), "{:?}", committed.elapsed());
    assert_eq!(reply.changes().len(), 1);
    assert!(reply.is_up_to_date());
    assert_eq!(reply.header("electric-has-data"), Some("true"));
    assert!(reply.header("electric-cursor").unwrap().parse::<u64>().is_ok());
    assert_eq!(reply.header("electric-schema"), None);
    assert_eq!(reply.header("cache-control"), Some("public, max-age=5, stale-while-revalidate=5"));
}

#[tokio::test]
async fn p088_p090_p094_an_empty_poll_ends_with_an_up_to_date() {
    let site = brief().await;
    let (_, tail) = site.sync("table=items").await;
    let start = Instant::now();
    let reply = site.live("table=items", &tail.handle(), &tail.offset()).await;
    assert!(start.elapsed() >= Duration::from_millis(650), "{:?}", start.elapsed());
    assert_eq!(reply.controls(), ["up-to-date"]);
    assert_eq!(reply.messages().len(), 1);
    assert_eq!(reply.header("electric-has-data"), Some("false"));
    assert!(reply.is_up_to_date());
    assert_eq!(reply.offset(), tail.offset());
    assert_eq!(reply.header("electric-schema"), None);
    assert_eq!(reply.header("cache-control"), Some("public, max-age=5, stale-while-revalidate=5"));

    let again = site.live("table=items", &tail.handle(), &tail.offset()).await;
    assert_ne!(again.header("etag").unwrap(), reply.header("etag").unwrap());
}

#[tokio::test]
async fn p091_p092_p093_cursors_grow_and_are_shared() {
    let site = Site::items_with(|server| server.set("LEYDEN_LONG_POLL_TIMEOUT", "1000")).await;
    let (_, tail) = site.sync("table=items").await;
    let live = async |cursor: &str| {
        let path = format!(
            "/v1/shape?table=items&live=true&handle={}&offset={}{cursor}",
            tail.handle(),
            tail.offset()
        );
        let reply = site.http.get(&path).await;
        assert_eq!(reply.status, 200, "{cursor}: {}", reply.text());
        reply.header("electric-cursor").unwrap().parse::<u64>().unwrap()
    };
    let replies = tokio::join!(live(""), live("&cursor="), live("&cursor=abc"));
    // They were asked in one moment; at a boundary of windows two may differ by one.
    assert!(
        replies.0.abs_diff(replies.1) <= 1 && replies.0.abs_diff(replies.2) <= 1,
        "{replies:?}"
    );
    let ahead = replies.0 + 10_000;
    let next = live(&format!("&cursor={ahead}")).await;
    assert!(next > ahead && next <= ahead + 3_600, "{next} after {ahead}");
}

#[tokio::test]
async fn p092_clients_of_one_window_share_the_cursor() {
    // The window is as long as the timeout: 20 s, in whole seconds.
    let site = Site::items_with(|server| server.set("LEYDEN_LONG_POLL_TIMEOUT", "20000")).await;
    let (_, tail) = site.sync("table=items").await;
    site.db.run("INSERT INTO items VALUES (1, 'one')").await;
    let first = site.live("table=items", &tail.handle(), &tail.offset()).await;
    let second = site.live("table=items", &tail.handle(), &tail.offset()).await;
    let cursor =
        |reply: &testkit::Reply| reply.header("electric-cursor").unwrap().parse::<u64>().unwrap();
    assert_eq!(cursor(&first) % 20, 0);
    assert!([0, 20].contains(&(cursor(&second) - cursor(&first))));
}

#[tokio::test]
async fn p097_other_tables_do_not_wake_a_live_request() {
    let site = brief().await;
    site.db.run("CREATE TABLE others (id int PRIMARY KEY)").await;
    site.sync("table=others").await;
    let (_, tail) = site.sync("table=items").await;
    let (handle, offset) = (tail.handle(), tail.offset());
    let waiting = site.live("table=items", &handle, &offset);
    let (reply, ()) = tokio::join!(waiting, site.db.run("INSERT INTO others VALUES (1)"));
    assert_eq!(reply.controls(), ["up-to-date"]);
    assert_eq!(reply.header("electric-has-data"), Some("false"));
}

#[tokio::test]
async fn p098_p148_a_client_that_goes_away_frees_its_place() {
    let site = Site::items_with(|server| {
        server.set("LEYDEN_MAX_CONCURRENT_REQUESTS", r#"{"initial":1,"existing":1}"#)
    })
    .await;
    let (_, tail) = site.sync("table=items").await;
    let path = format!(
        "/v1/shape?table=items&live=true&handle={}&offset={}",
        tail.handle(),
        tail.offset()
    );
    let mut held = Box::pin(site.http.try_get(&path));
    // While it is held it counts as existing, not as initial.
    let full = wait::until("the second request to be refused", LIMIT, async || {
        let _ = tokio::time::timeout(Duration::from_millis(5), held.as_mut()).await;
        let wanted = format!("/v1/shape?table=items&handle={}&offset=0_0", tail.handle());
        Some(site.http.get(&wanted).await).filter(|reply| reply.status == 503)
    })
    .await;
    assert_eq!(full.json()["code"], "concurrent_request_limit_exceeded");
    assert_eq!(site.http.get("/v1/shape?table=items&offset=-1").await.status, 200);

    // Dropping the request closes its connection.
    let held = tokio::time::timeout(Duration::from_millis(1), held).await;
    assert!(held.is_err(), "the live request was answered");
    wait::until("the place to be free", LIMIT, async || {
        let wanted = format!("/v1/shape?table=items&handle={}&offset=0_0", tail.handle());
        (site.http.get(&wanted).await.status == 200).then_some(())
    })
    .await;
}
