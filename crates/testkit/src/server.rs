//! The real server as a child process, which a test may kill and start again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::http::Http;
use crate::port::Port;
use crate::{binary, wait};

/// How long a start, first snapshot of the catalog and slot included, may take.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Lines of the server's log shown when a test fails.
const LOG_LINES_SHOWN: usize = 120;

/// `leyden serve` on its own port and folder. Dies with the test.
#[derive(Debug)]
pub struct Server {
    settings: BTreeMap<String, String>,
    port: Arc<Port>,
    folder: Arc<TempDir>,
    child: Option<Child>,
}

impl Server {
    /// A server of the database at `url`, not started yet.
    ///
    /// # Panics
    /// When no port or temporary folder can be had.
    pub fn new(url: &str) -> Self {
        let port = Arc::new(Port::take());
        let folder = tempfile::Builder::new().prefix("leyden-it-").tempdir();
        let folder = Arc::new(folder.expect("the temporary folder is writable"));
        let server = Self { settings: BTreeMap::new(), port, folder, child: None };
        let storage = server.storage().display().to_string();
        let number = server.port.number().to_string();
        server
            .set("DATABASE_URL", url)
            .set("LEYDEN_INSECURE", "true")
            .set("LEYDEN_PORT", &number)
            .set("LEYDEN_STORAGE_DIR", &storage)
            .set("LEYDEN_REPLICATION_STREAM_ID", &format!("it{number}"))
            // The peer's suite runs so too: DELETE and the tree's test routes.
            .set("LEYDEN_ENABLE_INTEGRATION_TESTING", "true")
            .set("LEYDEN_LONG_POLL_TIMEOUT", "4000")
    }

    /// Sets an environment variable of the process.
    #[must_use]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn unset(mut self, name: &str) -> Self {
        self.settings.remove(name);
        self
    }

    /// Starts it and waits until it is active.
    ///
    /// # Panics
    /// When it does not become active.
    pub async fn start(mut self) -> Self {
        self.launch();
        self.active().await;
        self
    }

    /// Starts the process and does not wait.
    ///
    /// # Panics
    /// When it runs already, or the program cannot be started.
    pub fn launch(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_path());
        let log = log.expect("the test's folder is writable");
        // The kernel ends the server with us, even if we are killed: the
        // process must have no way to outlive a test run.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(binary::server()).arg("serve");
        // Nothing of the developer's environment may reach the server.
        let kept = ["PATH", "HOME", "LLVM_PROFILE_FILE", "RUST_BACKTRACE"];
        command.env_clear();
        command.envs(kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs(&self.settings).current_dir(self.folder.path());
        let copy = log.try_clone().expect("a file descriptor");
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        self.child = Some(command.spawn().expect("setpriv of util-linux starts the server"));
    }

    /// Waits until `/v1/health` says `active`.
    ///
    /// # Panics
    /// When the process ends instead, or takes too long.
    pub async fn active(&mut self) {
        let http = self.http();
        let what = format!("the server on port {} to be active", self.port.number());
        wait::until(&what, START_LIMIT, async || {
            if let Some(status) = self.exited() {
                panic!("the server ended with {status}:\n{}", self.log_tail());
            }
            let reply = http.try_get("/v1/health").await.ok()?;
            (reply.text() == r#"{"status":"active"}"#).then_some(())
        })
        .await;
    }

    /// `kill -9`, and waits until it is gone.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }

    /// SIGTERM, and waits until it is gone.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_raw(self.pid().cast_signed()).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("our own child");
        self.ended(Duration::from_secs(10)).await
    }

    /// Waits until the process ends by itself.
    ///
    /// # Panics
    /// When it goes on beyond `limit`.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        let status = wait::until("the server to end", limit, async || self.exited()).await;
        self.child = None;
        status
    }

    /// How the process ended, `None` while it runs.
    ///
    /// # Panics
    /// When it was never started.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        let child = self.child.as_mut().expect("the server was started");
        child.try_wait().expect("our own child")
    }

    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// The base URL.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    pub fn http(&self) -> Http {
        Http::new(&self.url())
    }

    pub fn stream_id(&self) -> &str {
        &self.settings["LEYDEN_REPLICATION_STREAM_ID"]
    }

    /// The slot's name.
    pub fn slot(&self) -> String {
        format!("electric_slot_{}", self.stream_id())
    }

    /// The publication's name.
    pub fn publication(&self) -> String {
        format!("electric_publication_{}", self.stream_id())
    }

    pub fn storage(&self) -> PathBuf {
        self.folder.path().join("storage")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    /// All it has printed, over all its lives.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// A copy of the storage folder as it is now. The lock file is left behind.
    ///
    /// # Panics
    /// When it cannot be copied.
    pub fn copy_storage(&self, to: &Path) {
        copy_folder(&self.storage(), to);
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already, and the folder goes in any case.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the server on {} ---\n{}", self.url(), self.log_tail());
        }
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the test's folder is writable");
    for entry in fs::read_dir(from).expect("the storage folder is there") {
        let entry = entry.expect("a local folder");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a local file").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            // A file may be renamed or removed while we look.
            let _ = File::open(entry.path()).and_then(|_| fs::copy(entry.path(), target));
        }
    }
}
