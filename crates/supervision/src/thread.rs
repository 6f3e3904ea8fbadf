//! Threads with a name and an end that is known.
//!
//! A thread cannot be aborted: give it a channel or a flag that its owner drops.

use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::{Builder, JoinHandle};

use ractor::ActorRef;

use crate::flag::Flag;
use crate::task::Owner;
use crate::{ExitReason, panics};

/// Not stopped when dropped, since nothing can stop it but itself.
#[derive(Debug)]
pub struct Thread {
    handle: JoinHandle<()>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: Flag,
    panic: OnceLock<ExitReason>,
}

/// The label shows in `top -H`, cut to 15 bytes by Linux.
pub fn thread(label: &str, body: impl FnOnce() + Send + 'static) -> io::Result<Thread> {
    spawn(label, body, |_| {})
}

/// As [`thread`]; its panic kills the owner, and the owner counts as gone, and
/// is started again, only when the thread has ended.
pub fn owned_thread<M>(
    owner: &ActorRef<M>,
    label: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<Thread> {
    let owner = Owner::of(owner);
    let name = label.to_owned();
    spawn(label, body, move |panic| {
        if let Some(reason) = panic {
            owner.fail(&name, reason.clone());
        }
    })
}

fn spawn(
    label: &str,
    body: impl FnOnce() + Send + 'static,
    then: impl FnOnce(Option<&ExitReason>) + Send + 'static,
) -> io::Result<Thread> {
    panics::install_hook();
    let shared = Arc::new(Shared::default());
    let inside = Arc::clone(&shared);
    let handle = Builder::new().name(label.to_owned()).spawn(move || {
        let panic = panics::catch_sync(body).err();
        then(panic.as_ref());
        if let Some(reason) = panic {
            // Set here only.
            let _ = inside.panic.set(reason);
        }
        inside.ended.set();
    })?;
    Ok(Thread { handle, shared })
}

impl Thread {
    pub fn is_finished(&self) -> bool {
        self.shared.ended.is_set()
    }

    /// Blocks until it has ended. The error is its panic.
    pub fn join(self) -> Result<(), ExitReason> {
        // The body's panic is caught inside, so this has nothing to tell.
        let _ = self.handle.join();
        match self.shared.panic.get() {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }

    /// Waits without blocking. The error is its panic.
    pub async fn ended(&self) -> Result<(), ExitReason> {
        self.shared.ended.wait().await;
        match self.shared.panic.get() {
            Some(reason) => Err(reason.clone()),
            None => Ok(()),
        }
    }
}
