//! A Postgres of the test's own, gone when the test is, however it ends.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pg::{Config, Connection, Session};
use tempfile::TempDir;

const BIN: &str = "/usr/lib/postgresql/15/bin";

/// Everybody but the superuser must log in; `tls` only with TLS.
const HBA: &str = "\
local   all all       trust
hostssl all tls       127.0.0.1/32 scram-sha-256
host    all tls       127.0.0.1/32 reject
host    all scram     127.0.0.1/32 scram-sha-256
host    all md5       127.0.0.1/32 md5
host    all plain     127.0.0.1/32 password
host    all trusted   127.0.0.1/32 trust
local   replication all trust
";

#[derive(Debug)]
pub(crate) struct Cluster {
    directory: TempDir,
    port: u16,
    server: Child,
}

impl Cluster {
    /// Starts with these settings on top of what every test needs. The display
    /// settings are as far from ours as can be, so that it shows who sets them.
    pub(crate) fn start(settings: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        own(directory.path());
        run(&["initdb", "-D", &path(&directory, "data"), "-U", "postgres", "--no-sync"]);
        fs::write(path(&directory, "data/pg_hba.conf"), HBA).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = server_command("postgres");
        command.args(["-D", &path(&directory, "data"), "-p", &port.to_string()]);
        let sockets = format!("unix_socket_directories={}", directory.path().display());
        let common = [
            "listen_addresses=127.0.0.1",
            "wal_level=logical",
            "fsync=off",
            "max_prepared_transactions=4",
            "DateStyle=German,DMY",
            "TimeZone=America/New_York",
            "bytea_output=escape",
            "extra_float_digits=-5",
            "IntervalStyle=postgres_verbose",
            &sockets,
        ];
        for setting in common.iter().chain(settings) {
            command.args(["-c", setting]);
        }
        let log = fs::File::create(path(&directory, "log")).unwrap();
        let server = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let cluster = Self { directory, port, server };
        cluster.wait_until_ready();
        cluster
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let port = self.port.to_string();
        let host = self.directory.path().display().to_string();
        while !server_command("pg_isready")
            .args(["-q", "-h", &host, "-p", &port])
            .status()
            .unwrap()
            .success()
        {
            let log = fs::read_to_string(self.path("log")).unwrap();
            assert!(Instant::now() < deadline, "the server does not start: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that only the server may read, as it demands of keys.
    pub(crate) fn write_private(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        own(&path);
        path
    }

    /// The superuser, over the Unix socket.
    pub(crate) fn config(&self) -> Config {
        let socket = self.directory.path().display().to_string().replace('/', "%2F");
        self.parse(&format!("postgres://postgres@{socket}:{}/postgres", self.port))
    }

    /// `user:password` over TCP, with the rest of the URL after the database.
    pub(crate) fn tcp(&self, login: &str, host: &str, parameters: &str) -> Config {
        self.parse(&format!("postgres://{login}@{host}:{}/postgres{parameters}", self.port))
    }

    fn parse(&self, url: &str) -> Config {
        url.parse().unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    pub(crate) async fn connection(&self) -> Connection {
        pg::dial(&self.config(), &Session::default()).await.unwrap()
    }

    pub(crate) async fn replication(&self) -> Connection {
        let session = Session { replication: true, ..Session::default() };
        pg::dial(&self.config(), &session).await.unwrap()
    }

    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        client(&self.config()).await.unwrap()
    }
}

pub(crate) async fn client(config: &Config) -> Result<tokio_postgres::Client, pg::Error> {
    let (client, driver) = pg::client(config, &Session::default()).await?;
    tokio::spawn(driver);
    Ok(client)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let data = self.path("data").display().to_string();
        let _ = server_command("pg_ctl")
            .args(["stop", "-D", &data, "-m", "immediate", "-w"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = self.server.wait();
    }
}

fn path(directory: &TempDir, name: &str) -> String {
    directory.path().join(name).display().to_string()
}

fn own(path: &Path) {
    if let Some((uid, gid)) = postgres_user() {
        chown(path, Some(uid), Some(gid)).unwrap();
    }
}

/// Whom to become, since Postgres refuses to run as root.
fn postgres_user() -> Option<(u32, u32)> {
    let id = |flags: &[&str]| {
        let output = Command::new("id").args(flags).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
    };
    (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
}

fn server_command(program: &str) -> Command {
    let mut command = Command::new(Path::new(BIN).join(program));
    command.current_dir("/").env("LC_ALL", "C.UTF-8");
    if let Some((uid, gid)) = postgres_user() {
        command.uid(uid).gid(gid);
    }
    command
}

fn run(words: &[&str]) {
    let output = server_command(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
