//! A Postgres and a Leyden for one measurement.

use anyhow::Context;
use cluster::{Binaries, Cluster, ClusterOptions};
use testkit::{Db, Server};

#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) db: Db,
    pub(crate) server: Server,
    pub(crate) cluster: Cluster,
}

impl Scene {
    /// The machine's own Postgres, whose client programs are the reference.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let cluster = tokio::task::spawn_blocking(|| {
            let binaries = Binaries::find(None).context(
                "the references are psql and pg_recvlogical: install a Postgres server \
                 with its client programs",
            )?;
            let settings = [
                ("wal_level", "logical"),
                // The write side is not measured; its commit time is subtracted.
                ("max_wal_size", "4GB"),
                ("shared_buffers", "256MB"),
            ];
            let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let options = ClusterOptions { settings: settings.to_vec(), ..Default::default() };
            anyhow::Ok(Cluster::start(&binaries, options)?)
        })
        .await??;
        let url = cluster.url("postgres");
        let db = Db::connect(&url).await;
        let server = Server::new(&url)
            .set("LEYDEN_LONG_POLL_TIMEOUT", "60000")
            .set("LEYDEN_LOG_LEVEL", "warn")
            .start()
            .await;
        Ok(Self { db, server, cluster })
    }

    /// Host and port of the HTTP listener.
    pub(crate) fn address(&self) -> String {
        self.server.url().trim_start_matches("http://").to_owned()
    }

    /// Handle and offset of a shape whose log has been read to its end.
    pub(crate) async fn tail(&self, table: &str) -> (String, String) {
        let http = self.server.http();
        let reply = http.get(&format!("/v1/shape?table={table}&offset=now")).await;
        (reply.handle(), reply.offset())
    }

    /// Resident memory of the server, in bytes (proc(5), `VmRSS`).
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.context("VmRSS")?.trim().trim_end_matches(" kB").parse::<u64>()?;
        Ok(kib * 1024)
    }
}

/// A request as a browser would send it, on a connection that stays open.
pub(crate) fn request(path: &str, host: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\
         User-Agent: Mozilla/5.0 (X11; Linux x86_64) leyden-bench\r\nConnection: keep-alive\r\n\r\n"
    )
}
