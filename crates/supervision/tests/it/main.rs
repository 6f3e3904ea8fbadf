//! One test per rule, named by the rule.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are not in #[test] functions"
)]

mod auto_shutdown;
mod dynamic;
mod escalation;
mod figures;
mod mailbox;
mod operations;
mod order;
mod probe;
mod report;
mod restart;
mod soak;
mod storm;
mod strategy;
mod task;
mod tree;
