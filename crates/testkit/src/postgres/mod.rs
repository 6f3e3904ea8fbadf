//! Real Postgres, of any supported version: see the crate `cluster`, which the
//! demo uses too.

use cluster::{Binaries, Cluster, ClusterOptions};

/// A cluster of one test's own. Stopping and starting it does not stop the
/// readers and writers of the test.
#[derive(Debug)]
pub struct Postgres {
    /// Away only while a blocking thread has it.
    cluster: Option<Cluster>,
}

impl Postgres {
    /// A new cluster of this major version, with these settings.
    ///
    /// # Panics
    /// When the version cannot be had, or does not start.
    pub async fn start(major: u16, settings: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let settings = settings.iter().map(own).collect();
        Self::with(major, ClusterOptions { settings, ..ClusterOptions::default() }).await
    }

    /// # Panics
    /// When the version cannot be had, or does not start.
    pub async fn with(major: u16, options: ClusterOptions) -> Self {
        let started = blocking(move || {
            let binaries = Binaries::find_or_fetch(Some(u32::from(major)))?;
            Cluster::start(&binaries, options)
        });
        let cluster = started.await.unwrap_or_else(|error| panic!("Postgres {major}: {error}"));
        Self { cluster: Some(cluster) }
    }

    /// The superuser's, for the database that every cluster has.
    pub fn url(&self) -> String {
        self.cluster().superuser_url()
    }

    /// # Panics
    /// Never: it is away only while this is borrowed.
    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("the cluster is back")
    }

    /// An orderly stop.
    pub async fn stop(&mut self) {
        self.run(Cluster::stop).await;
    }

    /// As after a power cut.
    pub async fn kill9(&mut self) {
        self.run(Cluster::kill9).await;
    }

    /// An immediate shutdown: crash recovery at the next start.
    pub async fn stop_immediate(&mut self) {
        self.run(Cluster::stop_immediate).await;
    }

    /// Starts it again, on the same port and data.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_again(&mut self) {
        let result = self.run(Cluster::run).await;
        result.unwrap_or_else(|error| panic!("Postgres does not start again: {error}"));
    }

    async fn run<T: Send + 'static>(
        &mut self,
        action: impl FnOnce(&mut Cluster) -> T + Send + 'static,
    ) -> T {
        let mut cluster = self.cluster.take().expect("the cluster is back");
        let (cluster, result) = blocking(move || {
            let result = action(&mut cluster);
            (cluster, result)
        })
        .await;
        self.cluster = Some(cluster);
        result
    }
}

async fn blocking<T: Send + 'static>(action: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(action).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
