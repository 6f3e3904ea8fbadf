//! Finding the server under test, which is another package's binary.
//!
//! Cargo gives a test the path of its own package's binaries only. So the
//! first test of a run builds the server, and the others wait for it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `leyden` binary of the profile these tests were built with, up to date.
/// `LEYDEN_BINARY` names another one, which is then taken as it is.
///
/// # Panics
/// When it does not build.
pub(crate) fn server() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("LEYDEN_BINARY") {
        Some(path) => PathBuf::from(path),
        None => build(),
    })
}

fn build() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let profile = test
        .ancestors()
        .find(|folder| folder.ends_with("deps"))
        .and_then(Path::parent)
        .expect("tests run from <target>/<profile>/deps");
    let target = profile.parent().expect("the profile's folder is in the target folder");
    let binary = profile.join("leyden");

    let lock = File::create(target.join("testkit-build.lock")).expect("the target is ours");
    lock.lock().expect("a lock on a local file");
    // Under nextest every test is a process; one look per run is enough.
    let run = std::env::var_os("NEXTEST_RUN_ID").map(|id| id.to_string_lossy().into_owned());
    let stamp = target.join("testkit-build.run");
    let built = run.is_some() && fs::read_to_string(&stamp).ok() == run;
    if !(built && binary.exists()) {
        cargo_build(target, profile.ends_with("release"));
        if let Some(run) = run {
            fs::write(stamp, run).expect("the target is ours");
        }
    }
    binary
}

fn cargo_build(target: &Path, release: bool) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", "leyden", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if release {
        command.arg("--release");
    }
    let output = command.output().expect("cargo runs");
    assert!(
        output.status.success(),
        "the server does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
