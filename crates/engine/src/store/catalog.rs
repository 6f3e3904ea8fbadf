//! The catalog of shapes: definitions, tombstones, the source they came from.
//!
//! Owns       the catalog file.
//! Receives   changes from `shapes/registry`, `store/cleaner` and the session.
//! Sends      answers only once the change is durable.
//! Fails      when the file cannot be written; creation waits until it is back.

use std::collections::HashSet;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use shape::Handle;
use storage::{CatalogChange, Contents, Directory, Source};

/// Everything the catalog can reach.
#[derive(Clone, Debug)]
pub(crate) struct Args {
    pub(crate) directory: Directory,
}

pub(crate) type Mailbox = supervision::Mailbox<Message>;

#[derive(Debug)]
pub(crate) enum Message {
    /// What is in it.
    Load { reply: RpcReplyPort<Contents> },
    /// Where the shapes come from; `None` before the first session.
    Source { reply: RpcReplyPort<Option<Source>> },
    /// Shapes whose data is to go.
    Tombstones { reply: RpcReplyPort<Vec<Handle>> },
    /// Answers when all changes are durable.
    Apply { changes: Vec<CatalogChange>, reply: RpcReplyPort<()> },
}

#[derive(Debug)]
pub(crate) struct State {
    directory: Directory,
    catalog: storage::Catalog,
    /// As read at the start, until somebody asks.
    contents: Option<Contents>,
    source: Option<Source>,
    tombstones: HashSet<Handle>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Catalog;

impl Actor for Catalog {
    type Arguments = Args;
    type Msg = Message;
    type State = State;

    async fn pre_start(
        &self,
        _myself: ActorRef<Message>,
        args: Args,
    ) -> Result<State, ActorProcessingErr> {
        let (catalog, contents) =
            tokio::task::block_in_place(|| storage::Catalog::open(&args.directory))?;
        let source = contents.source.clone();
        let tombstones = contents.tombstones.iter().cloned().collect();
        Ok(State {
            directory: args.directory,
            catalog,
            contents: Some(contents),
            source,
            tombstones,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Message>,
        message: Message,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Load { reply } => {
                let contents = state.load()?;
                // Whoever asked may have been killed.
                let _ = reply.send(contents);
            }
            Message::Source { reply } => {
                let _ = reply.send(state.source.clone());
            }
            Message::Tombstones { reply } => {
                let _ = reply.send(state.tombstones.iter().cloned().collect());
            }
            Message::Apply { changes, reply } => {
                state.contents = None;
                changes.iter().for_each(|change| state.note(change));
                tokio::task::block_in_place(|| state.catalog.apply(&changes))?;
                let _ = reply.send(());
            }
        }
        Ok(())
    }
}

impl State {
    /// Keeps what is asked for without reading the file.
    fn note(&mut self, change: &CatalogChange) {
        match change {
            CatalogChange::Source(source) => self.source = Some(source.clone()),
            CatalogChange::Tombstone(handle) => {
                self.tombstones.insert(handle.clone());
            }
            CatalogChange::Removed(handle) => {
                self.tombstones.remove(handle);
            }
            CatalogChange::Created(_) | CatalogChange::SnapshotComplete { .. } => {}
        }
    }

    fn load(&mut self) -> Result<Contents, storage::Error> {
        match self.contents.take() {
            Some(contents) => Ok(contents),
            None => tokio::task::block_in_place(|| {
                let (catalog, contents) = storage::Catalog::open(&self.directory)?;
                self.catalog = catalog;
                Ok(contents)
            }),
        }
    }
}
