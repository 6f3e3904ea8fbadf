//! Removes the data of shapes that are gone.
//!
//! Owns       nothing: what is to be removed stands in the catalog as a
//!            tombstone, so that removal resumes after a crash (I-10).
//! Receives   handles from `shapes/registry`.
//! Sends      to `store/catalog` that the data is gone.
//! Fails      when files cannot be removed; the next start tries again.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use shape::Handle;
use storage::{CatalogChange, Directory};

use super::catalog;

/// Everything the cleaner can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) directory: Directory,
    pub(crate) catalog: catalog::Mailbox,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {
    Remove(Handle),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cleaner;

const CATALOG_WAIT: Duration = Duration::from_secs(10);

impl Actor for Cleaner {
    type Arguments = Args;
    type Msg = Message;
    type State = Args;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        args: Args,
    ) -> Result<Args, ActorProcessingErr> {
        Ok(args)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut Args,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Remove(handle) => {
                let Args { directory, catalog } = state;
                tokio::task::block_in_place(|| storage::remove_shape(directory, &handle))?;
                let changes = vec![CatalogChange::Removed(handle)];
                let apply = |reply| catalog::Message::Apply { changes, reply };
                // If the catalog is down the tombstone stays, and the next
                // start finds nothing left to remove.
                let _ = catalog.call(CATALOG_WAIT, apply).await;
                Ok(())
            }
        }
    }
}
