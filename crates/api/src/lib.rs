//! HTTP: a request in, a range of a shape's log out.
//!
//! A request is parsed without touching the engine (`request`), resolved to a
//! shape and served (`shape`), and the reply's headers come from pure functions
//! (`response`). The sockets and the tasks that serve them are the subtree
//! `edge`, whose folder mirrors the supervisor tree. Nothing on the read path
//! asks an actor: a request reads published state only, so the API answers
//! while any other part of the tree restarts.

mod admission;
mod auth;
mod config;
mod edge;
mod request;
mod response;
mod route;
mod server;
mod shape;

pub use config::{Bound, Config, MaxConcurrent, Secret};
pub use edge::edge;
