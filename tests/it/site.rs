//! A database with a server on it, for one test alone.

use std::time::Duration;

use serde_json::Value;
use testkit::{Db, Http, Postgres, Reply, Server};

/// How long anything may take that should take a moment.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Fields in the order in which they must end.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) server: Server,
    pub(crate) http: Http,
    pub(crate) db: Db,
    pub(crate) postgres: Postgres,
}

/// A cluster of the version that most tests run on.
pub(crate) async fn postgres() -> Postgres {
    Postgres::start(version(), &[]).await
}

/// `LEYDEN_TEST_POSTGRES` names another major version than the usual one.
fn version() -> u16 {
    let given = std::env::var_os("LEYDEN_TEST_POSTGRES");
    given.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(15)
}

/// Small chunks and journal files: their ends are where mistakes hide.
pub(crate) fn small_files(server: Server) -> Server {
    server
        .set("LEYDEN_SHAPE_CHUNK_BYTES_THRESHOLD", "60000")
        .set("LEYDEN_JOURNAL_SEGMENT_BYTES", "500000")
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with(|server| server).await
    }

    /// With settings of its own.
    pub(crate) async fn start_with(settings: impl FnOnce(Server) -> Server) -> Self {
        Self::on(postgres().await, settings).await
    }

    pub(crate) async fn on(postgres: Postgres, settings: impl FnOnce(Server) -> Server) -> Self {
        let db = Db::connect(&postgres.url()).await;
        let server = settings(Server::new(&postgres.url())).start().await;
        Self { http: server.http(), server, db, postgres }
    }

    /// With the table of the checklist.
    pub(crate) async fn items() -> Self {
        Self::items_with(|server| server).await
    }

    pub(crate) async fn items_with(settings: impl FnOnce(Server) -> Server) -> Self {
        let site = Self::start_with(settings).await;
        site.db.run("CREATE TABLE items (id int PRIMARY KEY, title text)").await;
        site
    }

    /// The server stopped in an orderly way and started again.
    pub(crate) async fn restarted(mut self) -> Self {
        assert!(self.server.terminate().await.success());
        self.server.launch();
        self.server.active().await;
        self
    }

    /// Reads a shape from its beginning to its end: its changes, and the reply
    /// that reached the end.
    pub(crate) async fn sync(&self, query: &str) -> (Vec<Value>, Reply) {
        let mut reply = self.http.get(&format!("/v1/shape?{query}&offset=-1")).await;
        let mut changes = reply.changes();
        while !reply.is_up_to_date() {
            let (handle, offset) = (reply.handle(), reply.offset());
            let path = format!("/v1/shape?{query}&handle={handle}&offset={offset}");
            reply = self.http.get(&path).await;
            changes.extend(reply.changes());
        }
        (changes, reply)
    }

    /// A live request; the reply is a 200.
    pub(crate) async fn live(&self, query: &str, handle: &str, offset: &str) -> Reply {
        let path = format!("/v1/shape?{query}&live=true&handle={handle}&offset={offset}");
        let reply = self.http.get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        reply
    }
}
