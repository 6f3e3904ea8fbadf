//! The Erlang half: one node, many scripts.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/otp/otp.erl");

/// Whether there is an Erlang, after trying to install one.
#[allow(clippy::disallowed_methods, reason = "a test's environment is not a setting")]
pub(crate) fn is_here() -> bool {
    if has_erlang() {
        return true;
    }
    let install = "apt-get install -y --no-install-recommends erlang-base";
    let _ = Command::new("sh").args(["-c", install]).stdout(Stdio::null()).status();
    if has_erlang() {
        return true;
    }
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "CI must compare with Erlang, and there is none: {install}"
    );
    println!("\n  SKIPPED: no Erlang, so nothing was compared with OTP. {install}\n");
    false
}

fn has_erlang() -> bool {
    Command::new("erl").args(["-noshell", "-s", "init", "stop"]).status().is_ok_and(|s| s.success())
}

/// The trace of each script, by its number.
pub(crate) fn run(scripts: &[(u64, String)]) -> HashMap<u64, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    compile(folder.path());
    let mut node = Command::new("erl")
        .args(["+S", "1", "-noshell", "-pa"])
        .arg(folder.path())
        .args(["-s", "otp", "main"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = BufWriter::new(node.stdin.take().unwrap());
    let output = BufReader::new(node.stdout.take().unwrap());
    let traces = std::thread::scope(|scope| {
        scope.spawn(move || {
            for (number, script) in scripts {
                // A node that has died is seen by the missing traces.
                if writeln!(input, "{{{number},{script}}}.").is_err() {
                    break;
                }
            }
        });
        output.lines().map_while(Result::ok).filter_map(|line| trace(&line)).collect()
    });
    node.wait().unwrap();
    traces
}

fn compile(folder: &Path) {
    let done = Command::new("erlc").arg("-o").arg(folder).arg(SOURCE).status().unwrap();
    assert!(done.success(), "otp.erl does not compile");
}

fn trace(line: &str) -> Option<(u64, Vec<String>)> {
    let (number, lines) = line.split_once('\t')?;
    Some((number.parse().ok()?, lines.split(';').map(str::to_owned).collect()))
}
