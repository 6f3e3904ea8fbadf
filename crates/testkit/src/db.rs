//! Plain connections to the database under test.

use std::ops::Deref;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::follower::Row;
use crate::wait;

/// The display settings of protocol §4.4, set here independently of the
/// server, and a short wait for a deadlock between two writers.
const OPTIONS: &str = "-c bytea_output=hex -c DateStyle=ISO,DMY -c TimeZone=UTC \
    -c extra_float_digits=1 -c IntervalStyle=iso_8601 -c deadlock_timeout=50ms";

/// How long a cluster may be away while it restarts.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A connection, with the task that drives it.
#[derive(Debug)]
pub struct Db {
    client: Client,
    _driver: JoinSet<()>,
}

impl Db {
    /// # Errors
    /// The database does not answer.
    pub async fn try_connect(url: &str) -> Result<Self, tokio_postgres::Error> {
        let mut config: Config = url.parse()?;
        config.options(OPTIONS);
        let (client, connection) = config.connect(NoTls).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // A broken connection shows in the next query.
            let _ = connection.await;
        });
        Ok(Self { client, _driver: driver })
    }

    /// Connects, for as long as it takes the database to come (back) up.
    ///
    /// # Panics
    /// When it does not.
    pub async fn connect(url: &str) -> Self {
        let start = Instant::now();
        loop {
            match Self::try_connect(url).await {
                Ok(db) => return db,
                Err(error) => assert!(start.elapsed() < CONNECT_LIMIT, "{error:?} from {url}"),
            }
            wait::pace(Duration::from_millis(50)).await;
        }
    }

    /// Runs one or several statements.
    ///
    /// # Panics
    /// When one of them fails.
    pub async fn run(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{error:?} in {sql}");
        }
    }

    /// The rows of a query, each value as its type's output function shows it.
    ///
    /// # Errors
    /// The query fails.
    pub async fn try_rows(&self, sql: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
        let messages = self.client.simple_query(sql).await?;
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                let names = row.columns().iter().enumerate();
                let fields = names.map(|(index, column)| {
                    (column.name().to_owned(), row.get(index).map(ToOwned::to_owned))
                });
                rows.push(fields.collect());
            }
        }
        Ok(rows)
    }

    /// # Panics
    /// When the query fails.
    pub async fn rows(&self, sql: &str) -> Vec<Row> {
        self.try_rows(sql).await.unwrap_or_else(|error| panic!("{error:?} in {sql}"))
    }

    /// The first value of the first row.
    ///
    /// # Panics
    /// When the query fails or gives no value.
    pub async fn value(&self, sql: &str) -> String {
        let row = self.rows(sql).await.into_iter().next();
        let value = row.and_then(|row| row.into_values().next()).flatten();
        value.unwrap_or_else(|| panic!("no value from {sql}"))
    }
}

impl Deref for Db {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
