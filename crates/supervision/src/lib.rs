//! OTP's supervision rules for ractor actors.
//!
//! A [`Node`] describes a tree; [`start`] runs it; the [`Root`] shows, kills
//! and stops it. Spawning is banned everywhere else in Leyden, so what is not
//! in the tree, or owned by an actor of it, does not run. The rules are those
//! of `supervisor.erl`; README.md lists them and where we go further.

mod dynamic;
mod error;
mod exit;
mod figures;
mod flag;
mod handle;
mod incarnation;
mod mailbox;
mod node;
mod panics;
mod report;
mod root;
mod shell;
mod slot;
mod spec;
mod supervisor;
mod task;
mod thread;
mod tree;

pub use dynamic::Dynamic;
pub use error::{CallError, ChildError, NoSuchPath, NotFound, StartError, Undelivered};
pub use exit::ExitReason;
pub use figures::{Bytes, bytes_held};
pub use handle::SupervisorHandle;
pub use mailbox::Mailbox;
pub use node::{Node, dynamic, supervisor, worker};
pub use report::Report;
pub use root::{Root, start};
pub use spec::{
    AutoShutdown, Child, ChildCounts, ChildKind, ChildSpec, ChildState, Intensity, Outline,
    OutlineNode, Restart, RestartDelay, Shutdown, Strategy,
};
pub use task::{Task, TaskSet, task};
pub use thread::{Thread, owned_thread, thread};
pub use tree::{LastExit, NodeView, Tree};
