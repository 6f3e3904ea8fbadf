//! Connections for catalog queries and DDL. See `postgres/pool.rs` for the
//! actor itself: Owns, Receives, Sends and Fails are written there.

use super::pool::{self, Connect, Driver};

/// Makes query connections.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) database: pg::Config,
}

pub(crate) type Args = pool::Args<Admin>;
pub(crate) type Mailbox = pool::Mailbox<Admin>;
pub(crate) type Message = pool::Message<Admin>;
pub(crate) type AdminPool = pool::Pool<Admin>;

impl Connect for Admin {
    type Connection = tokio_postgres::Client;

    async fn connect(&self) -> Result<(tokio_postgres::Client, Driver), pg::Error> {
        let session = pg::Session {
            application_name: "leyden admin".into(),
            replication: false,
            settings: Vec::new(),
        };
        let (client, driver) = pg::client(&self.database, &session).await?;
        let driver = async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "admin connection ended");
            }
        };
        Ok((client, Box::pin(driver)))
    }

    fn is_usable(client: &tokio_postgres::Client) -> bool {
        !client.is_closed()
    }
}
