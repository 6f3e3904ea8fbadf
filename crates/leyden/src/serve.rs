//! `leyden serve`: start the tree, wait for a signal, stop it in order.

use std::process::ExitCode;
use std::time::Duration;

use supervision::Root;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::root::{self, Running};
use crate::settings::Settings;
use crate::{logging, say};

/// How long an orderly stop may take. Nothing is lost by not waiting longer:
/// what is acknowledged is on disk.
const STOP_LIMIT: Duration = Duration::from_millis(900);
/// Threads for work that blocks on files. Bounded, as each costs memory.
const BLOCKING_THREADS_MAX: usize = 32;
const BLOCKING_THREAD_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What a tree needs of the operating system to be started.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_KEEP_ALIVE)
        .thread_name("leyden")
        .build()
}

pub(crate) fn run(settings: Settings) -> ExitCode {
    logging::start(settings.logging.clone());
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return say::failure(&format!("cannot start threads: {error}")),
    };
    let code = runtime.block_on(serve(settings));
    // A thread that hangs in the file system must not hold up the exit.
    runtime.shutdown_background();
    code
}

async fn serve(settings: Settings) -> ExitCode {
    announce(&settings);
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return say::failure(&format!("cannot listen to signals: {error}")),
    };
    let running = Running::default();
    let root = tokio::select! {
        started = start(settings, &running) => match started {
            Ok(root) => root,
            Err(failure) => return say::failure(&failure),
        },
        _ = signals.next() => return ExitCode::SUCCESS,
    };
    tokio::select! {
        name = signals.next() => tracing::info!(signal = name, "stopping"),
        reason = root.exited() => {
            return say::failure(&format!("the supervisor tree has ended: {reason}"));
        }
    }
    stop(root, &mut signals).await;
    ExitCode::SUCCESS
}

/// The error is one sentence for an operator.
pub(crate) async fn start(settings: Settings, running: &Running) -> Result<Root, String> {
    raise_file_limit();
    let (node, _engine) = root::describe(settings, running).map_err(|error| storage(&error))?;
    let root = supervision::start(node).await.map_err(|error| failed_start(&error))?;
    // The first and only one, as this is where trees are started.
    let _ = running.set(root.clone());
    Ok(root)
}

/// What went wrong at the bottom is what an operator can mend.
fn failed_start(error: &supervision::StartError) -> String {
    let text = error.to_string();
    match text.find("cannot listen on") {
        Some(start) => format!("{}; choose another port with LEYDEN_PORT", &text[start..]),
        None => text,
    }
}

fn storage(error: &storage::Error) -> String {
    let cause =
        std::error::Error::source(error).map_or(String::new(), |cause| format!(": {cause}"));
    format!("{error}{cause}; LEYDEN_STORAGE_DIR must name a directory for this process alone")
}

/// In order, within the limit; at once at a second signal.
pub(crate) async fn stop(root: Root, signals: &mut Signals) {
    let unfinished = root.clone();
    tokio::select! {
        () = root.stop() => tracing::info!("stopped"),
        () = tokio::time::sleep(STOP_LIMIT) => {
            let tree = unfinished.tree();
            let running = tree.nodes.iter().filter(|node| node.state != "stopped");
            let paths: Vec<&str> = running.map(|node| node.path.as_str()).collect();
            tracing::warn!(?paths, "stopped without waiting for the rest");
        }
        name = signals.next() => tracing::warn!(signal = name, "stopped at once"),
    }
}

#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

fn announce(settings: &Settings) {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), settings = settings.effective, "starting");
    if !settings.ignored.is_empty() {
        tracing::warn!(variables = settings.ignored.join(", "), "settings without effect");
    }
    if settings.is_testing {
        tracing::warn!("integration testing is on: clients may delete shapes and kill actors");
    }
}

/// A parked request is an open file, and the usual soft limit is 1024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a Postgres that refuses connections.
    fn settings(folder: &std::path::Path) -> Settings {
        let flags = [
            "--database-url=postgres://nobody@127.0.0.1:1/none?sslmode=disable".to_owned(),
            "--insecure".to_owned(),
            "--port=0".to_owned(),
            format!("--storage-dir={}", folder.display()),
        ];
        crate::settings::serve(&flags).unwrap()
    }

    #[test]
    fn it_starts_and_stops_without_postgres() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        runtime().unwrap().block_on(async {
            let running = Running::default();
            let root = start(settings, &running).await.unwrap();
            assert!(running.get().is_some());
            let begun = std::time::Instant::now();
            root.stop().await;
            assert!(begun.elapsed() < STOP_LIMIT, "{:?}", begun.elapsed());
        });
    }

    #[test]
    fn a_storage_directory_in_use_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let first = settings(folder.path());
        let second = first.clone();
        runtime().unwrap().block_on(async {
            let root = start(first, &Running::default()).await.unwrap();
            let text = start(second, &Running::default()).await.unwrap_err();
            assert!(text.contains("in use by another process"), "{text}");
            assert!(text.contains("LEYDEN_STORAGE_DIR"), "{text}");
            root.stop().await;
        });
    }

    #[test]
    fn a_port_in_use_is_refused_with_the_remedy() {
        let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut settings = settings(folder.path());
        settings.api.address = taken.local_addr().unwrap();
        runtime().unwrap().block_on(async {
            let text = start(settings, &Running::default()).await.unwrap_err();
            assert!(text.contains("LEYDEN_PORT"), "{text}");
        });
    }
}
