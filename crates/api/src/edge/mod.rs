//! The subtree that faces the network.
//!
//! ```text
//! listener ── the bound socket ──► acceptors/1..N ── one task per connection ──► Server
//! health ──── the last state ────────────────────────────────────────────────────┘
//! ```
//! The socket outlives every acceptor, so a connection in its backlog is served
//! even if all of them crash; and it outlives the listener's own crashes, in
//! [`Socket`].

mod acceptors;
mod health;
mod listener;

use std::sync::Arc;
use std::time::Duration;

use engine::{Health, Shapes};
use supervision::{Intensity, Node, Restart, Shutdown, Strategy, supervisor, worker};

use self::acceptors::acceptor::{self, Acceptor};
use self::health::HealthReporter;
use self::listener::{Listener, Socket};
use crate::config::Config;
use crate::server::Server;

pub(crate) use health::Published;

const INTENSITY: Intensity = Intensity::new(50, Duration::from_secs(10));
/// How long an acceptor may finish what it has begun.
const DRAIN: Duration = Duration::from_millis(500);

/// The subtree `edge`. The address in use is told by `config.bound`.
pub fn edge(config: Config, shapes: Shapes, health: Health) -> Node {
    let socket = Socket::default();
    let published = Published::default();
    let (address, bound) = (config.address, config.bound.clone());
    let acceptor_count = config.acceptors.max(1);
    let server = Arc::new(Server::new(config, shapes, published.clone()));

    let for_listener = listener::Args { address, bound, socket: socket.clone() };
    let for_health = health::Args { facts: health, published };
    let acceptors = (1..=acceptor_count).map(|index| {
        let args = acceptor::Args::new(Arc::clone(&server), socket.clone());
        let mailbox = acceptor::Mailbox::default();
        let shutdown = Shutdown::Timeout(DRAIN);
        worker(index.to_string(), Restart::Permanent, shutdown, &mailbox, Acceptor, args)
    });
    let children = [
        worker(
            "listener",
            Restart::Permanent,
            Shutdown::Timeout(Duration::from_millis(100)),
            &listener::Mailbox::default(),
            Listener,
            for_listener,
        ),
        supervisor("acceptors", Strategy::OneForOne, INTENSITY, acceptors),
        worker(
            "health",
            Restart::Permanent,
            Shutdown::BrutalKill,
            &health::Mailbox::default(),
            HealthReporter,
            for_health,
        ),
    ];
    supervisor("edge", Strategy::OneForOne, INTENSITY, children)
}

#[cfg(test)]
mod tests;
