//! The soak of the tests, for the night: 60 s, or as many as are asked for.
//!
//! `cargo bench -p supervision --bench soak [-- SECONDS]`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that measures, and has nobody to tell but the terminal"
)]

use std::time::Duration;

#[path = "../tests/it/soak.rs"]
mod soak;

fn main() {
    let seconds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(60);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    println!("{}", runtime.block_on(soak::soak(Duration::from_secs(seconds))));
}
