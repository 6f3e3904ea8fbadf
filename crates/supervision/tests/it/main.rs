//! One test per rule, named by the rule.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests are not in #[test] functions"
)]

mod cost;
mod dynamic;
mod escalation;
mod mailbox;
mod order;
mod probe;
mod report;
mod restart;
mod storm;
mod strategy;
mod task;
mod tree;
