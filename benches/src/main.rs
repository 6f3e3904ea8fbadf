//! `just bench`: the figures of benches/README.md, side by side in one run.
//!
//! Every figure that depends on the machine is a ratio to a reference taken a
//! moment before on the same data. Absolute figures are for comparison between
//! runs on one quiet machine only.
#![allow(clippy::print_stdout, reason = "the report is what this program is for")]

mod ingest;
mod latency;
mod parked;
mod report;
mod scene;
mod sync;

use report::Report;
use scene::Scene;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let runs = |name: &str| wanted.is_empty() || wanted.iter().any(|have| have == name);
    let mut report = Report::default();
    if runs("idle") || runs("parked") {
        parked::run(&Scene::start().await?, &mut report).await?;
    }
    if runs("latency") {
        latency::run(&Scene::start().await?, &mut report).await?;
    }
    if runs("sync") {
        sync::run(&Scene::start().await?, &mut report).await?;
    }
    if runs("ingest") {
        ingest::run(&mut Scene::start().await?, &mut report).await?;
    }
    println!("{report}");
    Ok(())
}
