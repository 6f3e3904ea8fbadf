//! The storage directory: one process at a time, one format, one fencing token.
//!
//! The lock file keeps out a second process on this machine; the token, one
//! higher at each open and written into every file header, is for file systems
//! on which two machines can hold the lock (invariant I-9).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shape::Handle;

use crate::error::Error;
use crate::file::{Disk, DiskFile, Files, OsFiles};
use crate::format::LAYOUT_VERSION;

const FORMAT: &str = "FORMAT";
const LOCK: &str = "lock";
const TOKEN: &str = "token";
/// What a directory may hold that we have not written yet: a file system's own,
/// and what an interrupted first open leaves.
const HARMLESS: [&str; 3] = ["lost+found", LOCK, "FORMAT.tmp"];

/// Shared by everything that reads or writes in it; the lock is held until the
/// last clone is gone.
#[derive(Clone, Debug)]
pub struct Directory {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    disk: Disk,
    token: u64,
    _lock: DiskFile,
}

impl Directory {
    /// Creates the layout when the directory is empty or missing. Changes
    /// nothing in a directory that is not ours.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_on(path, Arc::new(OsFiles))
    }

    /// As [`Directory::open`], on another file system.
    pub fn open_on(path: impl AsRef<Path>, files: Arc<dyn Files>) -> Result<Self, Error> {
        let (path, disk) = (path.as_ref(), Disk::new(files));
        disk.create_dir(path)?;
        check_format(&disk, path)?;
        let lock = lock(&disk, path)?;
        // Again, under the lock: two processes may have found it empty.
        if !check_format(&disk, path)? {
            sync_parents(&disk, path)?;
            disk.replace(&path.join(FORMAT), format!("leyden {LAYOUT_VERSION}\n").as_bytes())?;
        }
        disk.create_dir(&path.join("journal"))?;
        disk.create_dir(&path.join("shapes"))?;
        let token = next_token(&disk, path)?;
        disk.replace(&path.join(TOKEN), format!("{token}\n").as_bytes())?;
        let inner = Inner { path: path.to_owned(), disk, token, _lock: lock };
        Ok(Self { inner: Arc::new(inner) })
    }

    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Higher than that of every earlier owner.
    pub fn token(&self) -> u64 {
        self.inner.token
    }

    /// Fails with [`Error::Fenced`] when a later owner has opened the directory.
    /// A few microseconds: to be asked before anything irrevocable.
    pub fn check_token(&self) -> Result<(), Error> {
        let found = read_token(self.disk(), self.path())?.unwrap_or(0);
        match found > self.token() {
            true => Err(Error::Fenced { held: self.token(), found }),
            false => Ok(()),
        }
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.inner.disk
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        self.inner.path.join("journal")
    }

    pub(crate) fn catalog_path(&self) -> PathBuf {
        self.inner.path.join("catalog")
    }

    pub(crate) fn shapes_path(&self) -> PathBuf {
        self.inner.path.join("shapes")
    }

    /// A handle's alphabet makes it one safe path component.
    pub(crate) fn shape_path(&self, handle: &Handle) -> PathBuf {
        self.shapes_path().join(handle.as_ref())
    }

    /// No effect when it exists.
    pub(crate) fn create_shape_dir(&self, handle: &Handle) -> Result<PathBuf, Error> {
        let path = self.shape_path(handle);
        self.disk().create_dir(&path)?;
        self.disk().sync_dir(&self.shapes_path())?;
        Ok(path)
    }
}

/// A directory's name is as good as lost until the one that it is in is synced,
/// and so on up. Which of them were there before nobody knows: an earlier first
/// open may have created them and died.
fn sync_parents(disk: &Disk, path: &Path) -> Result<(), Error> {
    for dir in path.ancestors().skip(1) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match disk.sync_dir(dir) {
            // We have not created anything in there.
            Err(error) if error.is_denied() => {}
            result => result?,
        }
    }
    Ok(())
}

/// Whether there is a FORMAT file, and one that we know.
fn check_format(disk: &Disk, path: &Path) -> Result<bool, Error> {
    let format_path = path.join(FORMAT);
    let Some(bytes) = disk.read_if_exists(&format_path)? else {
        let foreign = disk.list(path)?.iter().any(|name| !HARMLESS.contains(&name.as_str()));
        return match foreign {
            true => Err(Error::Foreign { path: path.to_owned() }),
            false => Ok(false),
        };
    };
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]);
    let version = text.strip_prefix("leyden ").and_then(|rest| rest.trim_end().parse::<u32>().ok());
    match version {
        Some(0) | None => Err(Error::UnknownFormat { path: format_path, found: text.into_owned() }),
        Some(found) if found > LAYOUT_VERSION => {
            Err(Error::NewerFormat { path: format_path, found, known: LAYOUT_VERSION })
        }
        Some(_) => Ok(true),
    }
}

fn lock(disk: &Disk, path: &Path) -> Result<DiskFile, Error> {
    let lock_path = path.join(LOCK);
    let Some(file) = disk.lock(&lock_path)? else {
        let pid = disk
            .read(&lock_path)
            .ok()
            .and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok());
        return Err(Error::AlreadyLocked { path: path.to_owned(), pid });
    };
    file.set_len(0)?;
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
    Ok(file)
}

fn read_token(disk: &Disk, path: &Path) -> Result<Option<u64>, Error> {
    let bytes = disk.read_if_exists(&path.join(TOKEN))?;
    Ok(bytes.and_then(|bytes| std::str::from_utf8(&bytes).ok()?.trim().parse().ok()))
}

/// One above the last, and above any that wrote to the journal, which is what a
/// late writer would harm, should the file be missing or have a wrong digit.
fn next_token(disk: &Disk, path: &Path) -> Result<u64, Error> {
    let last = read_token(disk, path)?.unwrap_or(0);
    let used = crate::journal::highest_token(disk, &path.join("journal"))?;
    Ok(last.max(used).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_second_opener_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = Directory::open(dir.path()).unwrap();
        let clone = first.clone();
        drop(first);
        let error = Directory::open(dir.path()).unwrap_err();
        assert!(
            matches!(error, Error::AlreadyLocked { pid: Some(pid), .. } if pid == std::process::id()),
            "{error}"
        );
        drop(clone);
        Directory::open(dir.path()).unwrap();
    }

    #[test]
    fn the_token_grows_at_each_open_and_a_lower_one_is_fenced() {
        let dir = tempfile::tempdir().unwrap();
        let token = Directory::open(dir.path()).unwrap().token();
        let directory = Directory::open(dir.path()).unwrap();
        assert_eq!(directory.token(), token + 1);
        directory.check_token().unwrap();
        fs::write(dir.path().join(TOKEN), "99\n").unwrap();
        assert!(matches!(directory.check_token(), Err(Error::Fenced { held: 2, found: 99 })));
    }

    #[test]
    fn an_unreadable_token_does_not_keep_the_directory_shut() {
        let dir = tempfile::tempdir().unwrap();
        drop(Directory::open(dir.path()).unwrap());
        fs::write(dir.path().join(TOKEN), "").unwrap();
        assert_eq!(Directory::open(dir.path()).unwrap().token(), 1);
    }

    #[test]
    fn a_newer_or_unknown_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FORMAT), "leyden 2\n").unwrap();
        let error = Directory::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 2, known: 1, .. }), "{error}");
        for text in ["", "leyden", "leyden x\n", "leyden 0\n", "something else"] {
            fs::write(dir.path().join(FORMAT), text).unwrap();
            let error = Directory::open(dir.path()).unwrap_err();
            assert!(matches!(error, Error::UnknownFormat { .. }), "{text:?} {error}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was added");
    }

    #[test]
    fn a_foreign_directory_is_refused_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        let error = Directory::open(dir.path()).unwrap_err();
        assert!(matches!(error, Error::Foreign { .. }));
        assert!(error.to_string().contains("no FORMAT file"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(dir.path().join("thesis.txt")).unwrap(), "years of work");
    }

    #[test]
    fn an_interrupted_first_open_is_finished_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        fs::write(dir.path().join(LOCK), "").unwrap();
        fs::write(dir.path().join("FORMAT.tmp"), "ley").unwrap();
        Directory::open(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(FORMAT)).unwrap(), "leyden 1\n");
    }

    #[test]
    fn a_lower_digit_in_the_token_does_not_bring_back_one_that_wrote_to_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        for _ in 0..4 {
            drop(Directory::open(dir.path()).unwrap());
        }
        let directory = Directory::open(dir.path()).unwrap();
        let limits = crate::Limits { segment_bytes: 1 };
        let mut journal = crate::Journal::open(&directory, limits).unwrap();
        journal.mark(change::Lsn(9));
        journal.sync().unwrap();
        drop((journal, directory));
        fs::write(dir.path().join(TOKEN), "1\n").unwrap();
        assert_eq!(Directory::open(dir.path()).unwrap().token(), 6);
    }
}
