//! The oracle on every supported Postgres: what readers hold is what SELECT
//! says.

use testkit::{Load, Oracle, Postgres, seed};

use crate::site::{Site, small_files};

/// The seed of the runs that are the same every time.
const FIXED: u64 = 20_261_123;

async fn run(version: u16, seed: u64, transactions: u64) {
    let postgres = Postgres::start(version, &[]).await;
    let site = Site::on(postgres, small_files).await;
    let url = site.server.url();
    let mut oracle = Oracle::start(seed, &site.postgres.url(), &url, Load::default()).await;
    oracle.join_all();
    for _ in 0..2 {
        oracle.write_while_joining(transactions / 2, 5).await;
        oracle.quiesce().await;
    }
    oracle.finish().await;
    oracle.check_never_rotated();
    eprintln!("{}", oracle.summary());
}

#[tokio::test]
async fn on_14_with_a_fixed_seed() {
    run(14, FIXED, 600).await;
}

#[tokio::test]
async fn on_14_with_a_fresh_seed() {
    run(14, seed(), 600).await;
}

#[tokio::test]
async fn on_15() {
    run(15, seed(), 200).await;
}

#[tokio::test]
async fn on_16() {
    run(16, seed(), 200).await;
}

#[tokio::test]
async fn on_17() {
    run(17, seed(), 200).await;
}

#[tokio::test]
async fn on_18_with_a_fixed_seed() {
    run(18, FIXED, 600).await;
}

#[tokio::test]
async fn on_18_with_a_fresh_seed() {
    run(18, seed(), 600).await;
}
