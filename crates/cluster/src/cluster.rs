//! One running cluster.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::port::Port;
use crate::watchdog::Watchdog;
use crate::{Account, Binaries, Error, package};

/// How long a start may take, recovery after a crash included.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long an orderly stop may take before it is forced.
const STOP_LIMIT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const SUPERUSER: &str = "postgres";
const LOG_LINES_SHOWN: usize = 30;

/// Set unless [`ClusterOptions::settings`] says otherwise. The data is thrown
/// away, so nothing waits for the disk; it still survives a kill.
const SETTINGS: [(&str, &str); 7] = [
    ("listen_addresses", "127.0.0.1"),
    ("wal_level", "logical"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_wal_senders", "20"),
    ("max_replication_slots", "20"),
    ("max_connections", "200"),
];

#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// On top of the defaults, which they override; `name`, `value`.
    pub settings: Vec<(String, String)>,
    /// Of the superuser `postgres`. Without one, local connections are trusted.
    pub password: Option<String>,
    /// Lines put before those of `pg_hba.conf`.
    pub hba: Vec<String>,
    /// Where the cluster's folder is made; the system's temporary folder if not set.
    pub parent: Option<PathBuf>,
    /// Leave the folder behind at the end.
    pub keep: bool,
}

/// A cluster on a port of its own. Dropping it ends it and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    options: ClusterOptions,
    account: Option<Account>,
    port: Port,
    folder: PathBuf,
    postgres: Option<Child>,
    /// After the rest in the order of drops: it removes the folder.
    _watchdog: Watchdog,
}

impl Cluster {
    /// Makes a new cluster and waits until it takes connections.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(binaries: &Binaries, options: ClusterOptions) -> Result<Self, Error> {
        let account = Account::needed()?;
        let parent = options.parent.clone().unwrap_or_else(std::env::temp_dir);
        let folder = tempfile::Builder::new().prefix("leyden-pg-").tempdir_in(&parent);
        // From here on the watchdog removes it, so that one hand does.
        let folder = folder.map_err(Error::io(&parent))?.keep();
        let folder = fs::canonicalize(&folder).map_err(Error::io(&folder))?;
        let watchdog = Watchdog::start(&folder, options.keep)?;
        if let Some(account) = &account {
            account.own(&folder)?;
        }
        let mut cluster = Self {
            binaries: binaries.clone(),
            options,
            account,
            port: Port::take()?,
            folder,
            postgres: None,
            _watchdog: watchdog,
        };
        cluster.initialise()?;
        cluster.run()?;
        Ok(cluster)
    }

    fn initialise(&self) -> Result<(), Error> {
        let mut command = self.command("initdb");
        command.args(["--username", SUPERUSER, "--encoding=UTF8", "--no-locale", "--no-sync"]);
        command.arg("--no-instructions").arg("--pgdata").arg(self.data_dir());
        let secret = self.folder.join("password");
        if let Some(password) = &self.options.password {
            fs::write(&secret, password).map_err(Error::io(&secret))?;
            fs::set_permissions(&secret, fs::Permissions::from_mode(0o600))
                .map_err(Error::io(&secret))?;
            if let Some(account) = &self.account {
                account.own(&secret)?;
            }
            command.arg("--auth=scram-sha-256").arg("--pwfile").arg(&secret);
        } else {
            command.arg("--auth=trust");
        }
        package::run(&mut command)?;
        if self.options.password.is_some() {
            fs::remove_file(&secret).map_err(Error::io(&secret))?;
        }
        self.write_hba()
    }

    fn write_hba(&self) -> Result<(), Error> {
        if self.options.hba.is_empty() {
            return Ok(());
        }
        let path = self.data_dir().join("pg_hba.conf");
        let rest = fs::read_to_string(&path).map_err(Error::io(&path))?;
        let text = format!("{}\n{rest}", self.options.hba.join("\n"));
        fs::write(&path, text).map_err(Error::io(&path))
    }

    /// Starts Postgres again after [`stop`](Self::stop) or [`kill9`](Self::kill9).
    ///
    /// # Errors
    /// It does not start.
    pub fn run(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let mut child = self.launch()?;
            match self.wait_ready(&mut child, deadline) {
                Ok(()) => {
                    self.postgres = Some(child);
                    return Ok(());
                }
                // After a kill of the postmaster its backends live on for a
                // moment, and a new one refuses to start beside them.
                Err(Error::NotStarted { log })
                    if log.contains("shared memory block") && Instant::now() < deadline =>
                {
                    std::thread::sleep(POLL_INTERVAL * 10);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn launch(&self) -> Result<Child, Error> {
        let log_path = self.log_path();
        let log = OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(Error::io(&log_path))?;
        let copy = log.try_clone().map_err(Error::io(&log_path))?;
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data_dir()).args(["-p", &self.port().to_string()]);
        let mut set = |name: &str, value: &str| {
            command.arg("-c").arg(format!("{name}={value}"));
        };
        set("unix_socket_directories", &self.folder.display().to_string());
        for (name, value) in SETTINGS {
            set(name, value);
        }
        for (name, value) in &self.options.settings {
            set(name, value);
        }
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        command.spawn().map_err(|source| Error::Program {
            program: self.binaries.program("postgres").display().to_string(),
            source,
        })
    }

    /// As `pg_ctl` does: the eighth line of the pid file says `ready`.
    fn wait_ready(&self, child: &mut Child, deadline: Instant) -> Result<(), Error> {
        let path = self.pid_path();
        let own = child.id().to_string();
        loop {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let mut lines = text.lines().map(str::trim);
            if lines.next() == Some(&own) && lines.nth(6) == Some("ready") {
                return Ok(());
            }
            let has_ended = child.try_wait().map_err(Error::io(&path))?.is_some();
            if has_ended || Instant::now() > deadline {
                // It may have ended already.
                let _ = child.kill();
                let _ = child.wait();
                return Err(Error::NotStarted { log: self.log_tail() });
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.program(program));
        // In a group of its own: Ctrl-C is for us, and we then stop it in order.
        command.current_dir(&self.folder).process_group(0);
        command.env_remove("LC_ALL").env("LC_MESSAGES", "C").env("TZ", "UTC");
        if let Some(account) = &self.account {
            account.apply(&mut command);
        }
        command
    }

    /// An orderly stop that does not wait for clients (`fast`).
    pub fn stop(&mut self) {
        self.end(Signal::INT);
    }

    /// A stop as after a power cut, but that clients are told (`immediate`).
    pub fn stop_immediate(&mut self) {
        self.end(Signal::QUIT);
    }

    /// `kill -9` of the postmaster; its backends follow by themselves.
    pub fn kill9(&mut self) {
        self.end(Signal::KILL);
        // A process id that nobody holds must not stay behind for the watchdog.
        let _ = fs::remove_file(self.pid_path());
    }

    /// Stops it in order and starts it again, on the same port.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.stop();
        self.run()
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.postgres.take() else { return };
        if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
            // Not yet waited for, so the id is its own even if it has ended.
            let _ = kill_process(pid, signal);
        }
        let start = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if start.elapsed() > STOP_LIMIT {
                let _ = child.kill();
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    pub fn is_running(&self) -> bool {
        self.postgres.is_some()
    }

    /// The postmaster's, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.postgres.as_ref().map(Child::id)
    }

    pub fn port(&self) -> u16 {
        self.port.number
    }

    pub fn major(&self) -> u32 {
        self.binaries.major()
    }

    /// Of the superuser, for a database.
    pub fn url(&self, database: &str) -> String {
        let password = match &self.options.password {
            Some(password) => format!(":{password}"),
            None => String::new(),
        };
        let port = self.port();
        format!("postgresql://{SUPERUSER}{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    pub fn superuser_url(&self) -> String {
        self.url("postgres")
    }

    /// Holds the data, the log and the Unix socket.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn pid_path(&self) -> PathBuf {
        self.data_dir().join("postmaster.pid")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// What Postgres has logged.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop_immediate();
    }
}
