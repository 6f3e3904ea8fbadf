//! The real server against real Postgres, one module per promise.
//!
//! Every test has its own cluster, server, port and folders, so that each can
//! be a process of its own and they run side by side.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test's answer to the unexpected is to fail with it, and it shows its seed"
)]

mod bad_input;
mod client;
mod crash;
mod gaps;
mod kill_actors;
mod main_job;
mod oracle;
mod protocol;
mod site;
mod splice;
mod tidy;
