//! Removes the data of shapes that are gone.
//!
//! Owns       nothing: what is to be removed stands in the catalog as a
//!            tombstone, so that removal resumes after a crash (I-10).
//! Receives   handles from `shapes/registry`.
//! Sends      to `store/catalog` that the data is gone.
//! Fails      when the catalog does not answer; what cannot be removed now is
//!            tried again by the next start.

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
        myself: ActorRef<Message>,
        args: Args,
    ) -> Result<Args, ActorProcessingErr> {
        // What a former life did not come to, or was not told.
        let tombstones = |reply| catalog::Message::Tombstones { reply };
        for handle in args.catalog.call(CATALOG_WAIT, tombstones).await? {
            myself.send_message(Message::Remove(handle))?;
        }
        Ok(args)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut Args,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Remove(handle) => state.remove(handle).await,
        }
        Ok(())
    }
}

impl Args {
    async fn remove(&self, handle: Handle) {
        let removal = || storage::remove_shape(&self.directory, &handle);
        if let Err(error) = tokio::task::block_in_place(removal) {
            // One that cannot go does not keep the others.
            tracing::warn!(shape = %handle, %error, "a shape's data cannot be removed yet");
            return;
        }
        let changes = vec![CatalogChange::Removed(handle)];
        let apply = |reply| catalog::Message::Apply { changes, reply };
        // If the catalog is down the tombstone stays, and the next start finds
        // nothing left to remove.
        let _ = self.catalog.call(CATALOG_WAIT, apply).await;
    }
}
