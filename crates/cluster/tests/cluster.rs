//! Clusters start, come back after a kill, and never outlive who started them.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cluster::{Binaries, Cluster, ClusterOptions};

fn start(options: ClusterOptions) -> Cluster {
    let binaries = Binaries::find_or_fetch(None).unwrap();
    Cluster::start(&binaries, options).unwrap()
}

fn answers(cluster: &Cluster) -> bool {
    TcpStream::connect(("127.0.0.1", cluster.port())).is_ok()
}

#[track_caller]
fn wait_gone(path: &Path) {
    let start = Instant::now();
    while path.exists() {
        assert!(start.elapsed() < Duration::from_secs(20), "{} is still there", path.display());
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn it_comes_back_on_its_port_and_leaves_nothing_behind() {
    let mut cluster = start(ClusterOptions::default());
    let folder = cluster.folder().to_owned();
    assert!(answers(&cluster));
    cluster.stop();
    assert!(!answers(&cluster));
    cluster.run().unwrap();
    assert!(answers(&cluster));
    cluster.kill9();
    cluster.run().unwrap();
    assert!(answers(&cluster));
    drop(cluster);
    assert!(!folder.exists());
}

#[test]
fn settings_override_the_defaults() {
    let settings = vec![("wal_level".to_owned(), "nonsense".to_owned())];
    let binaries = Binaries::find_or_fetch(None).unwrap();
    let refused =
        Cluster::start(&binaries, ClusterOptions { settings, ..ClusterOptions::default() });
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("invalid value for parameter \"wal_level\""), "{text}");
}

/// Set for the process that is to be killed.
const TO_BE_KILLED: &str = "CLUSTER_TEST_TO_BE_KILLED";

/// Part of the next test: what the process does that it kills.
#[test]
fn starts_a_cluster_and_waits() {
    if std::env::var_os(TO_BE_KILLED).is_none() {
        return;
    }
    let password = Some("secret".to_owned());
    let cluster = start(ClusterOptions { password, ..ClusterOptions::default() });
    println!("\nfolder {} {}", cluster.pid().unwrap(), cluster.folder().display());
    // The pipe says nothing and stays open until the test is over.
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn it_dies_with_a_process_that_is_killed() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "starts_a_cluster_and_waits", "--nocapture"])
        .env(TO_BE_KILLED, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find_map(|line| {
        line.strip_prefix("folder ").and_then(|rest| {
            let (pid, folder) = rest.split_once(' ')?;
            Some((pid.to_owned(), PathBuf::from(folder)))
        })
    });
    let (pid, folder) = line.unwrap();
    assert!(folder.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    wait_gone(&folder);
    if cfg!(target_os = "linux") {
        // A process that has ended may wait for its new parent a moment longer.
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }
}
