//! What a table is, asked of the catalog at the time of the request.

use std::time::Duration;

use change::Table;

use super::admin_pool::{self, Admin};
use super::pool::Lease;
use super::trouble::unavailable;
use crate::shapes::facade::ShapeError;

/// Asks through the admin pool. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Inspector {
    pub(crate) admin_pool: admin_pool::Mailbox,
}

/// For a connection and for a query on it.
const WAIT: Duration = Duration::from_secs(5);

impl Inspector {
    /// # Errors
    /// [`ShapeError::TableNotFound`], or [`ShapeError::Unavailable`] when
    /// Postgres cannot be asked now.
    pub(crate) async fn table(&self, schema: &str, name: &str) -> Result<Table, ShapeError> {
        let mut lease = checkout(&self.admin_pool).await?;
        let query = pg::catalog::table(lease.connection(), schema, name);
        let found = match tokio::time::timeout(WAIT, query).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(unavailable(&error)),
            Err(_) => return Err(no_answer()),
        };
        lease.give_back();
        found.ok_or_else(|| ShapeError::TableNotFound { schema: schema.into(), name: name.into() })
    }
}

pub(crate) async fn checkout(pool: &admin_pool::Mailbox) -> Result<Lease<Admin>, ShapeError> {
    match pool.call(WAIT, |reply| admin_pool::Message::Checkout { reply }).await {
        Ok(Ok(lease)) => Ok(lease),
        Ok(Err(error)) => Err(unavailable(&error)),
        Err(_) => Err(no_answer()),
    }
}

fn no_answer() -> ShapeError {
    ShapeError::Unavailable {
        reason: "Postgres did not answer a catalog query in time".into(),
        retry_after_s: 1,
    }
}
