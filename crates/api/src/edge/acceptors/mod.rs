//! The accept loops, one for each core, all on the listener's socket.

pub(crate) mod acceptor;
mod connection;
