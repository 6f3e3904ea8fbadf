//! Words for the person at the terminal; everything else is a log.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

use std::process::ExitCode;

/// To stderr, and the exit code of a failure.
pub(crate) fn failure(text: &str) -> ExitCode {
    eprintln!("leyden: {text}");
    ExitCode::FAILURE
}

pub(crate) fn refused(text: &str, code: u8) -> ExitCode {
    eprintln!("leyden: {text}");
    ExitCode::from(code)
}

/// To stdout. A reader that has gone away is no failure.
pub(crate) fn line(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}
