//! The only door to the file system.
//!
//! Everything else in this crate goes through [`Files`], so that a test can put
//! a file system in its place that loses, tears or refuses writes. `Disk` and
//! `DiskFile` only add the path and the act to an error.
//!
//! Writes are positioned: a write that failed half-way is repeated at the same
//! place, and no shared file cursor can go astray.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::error::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Read,
    /// Read and write; the file exists.
    Write,
    /// Read and write; the file is created, or emptied.
    Replace,
}

/// A file system, as far as this crate needs one.
pub trait Files: fmt::Debug + Send + Sync + 'static {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>>;
    /// Opens (creating) and locks for this process alone; `None` when somebody
    /// else holds it. The lock lasts as long as the file stays open.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn File>>>;
    /// With its parents; no error when it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Names, without the ones that are not UTF-8, which cannot be ours.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes creations, renames and removals in this directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

pub trait File: fmt::Debug + Send + Sync {
    fn byte_count(&self) -> io::Result<u64>;
    /// As `pread`: may return less than asked for; 0 is the end of the file.
    fn read_at(&self, buffer: &mut [u8], pos: u64) -> io::Result<usize>;
    fn write_all_at(&self, bytes: &[u8], pos: u64) -> io::Result<()>;
    fn set_len(&self, byte_count: u64) -> io::Result<()>;
    /// `fdatasync`.
    fn sync(&self) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Clone, Copy, Debug)]
pub struct OsFiles;

impl Files for OsFiles {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
        let mut options = fs::OpenOptions::new();
        let options = match mode {
            Mode::Read => options.read(true),
            Mode::Write => options.read(true).write(true),
            Mode::Replace => options.read(true).write(true).create(true).truncate(true),
        };
        Ok(Box::new(options.open(path)?))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn File>>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }
}

impl File for fs::File {
    fn byte_count(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], pos: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, pos)
    }

    fn write_all_at(&self, bytes: &[u8], pos: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, pos)
    }

    fn set_len(&self, byte_count: u64) -> io::Result<()> {
        fs::File::set_len(self, byte_count)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// [`Files`] with errors that say what was done to which path.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    files: Arc<dyn Files>,
    suspects: Suspects,
}

/// Files whose sync failed. The kernel takes what they hold for written, so that
/// reading them and another sync say nothing of the disk.
type Suspects = Arc<Mutex<HashSet<PathBuf>>>;

#[derive(Debug)]
pub(crate) struct DiskFile {
    path: PathBuf,
    file: Box<dyn File>,
    suspects: Suspects,
}

fn failed<'a>(act: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Io { act, path: path.to_owned(), source }
}

fn suspects(of: &Suspects) -> MutexGuard<'_, HashSet<PathBuf>> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    pub(crate) fn new(files: Arc<dyn Files>) -> Self {
        Self { files, suspects: Suspects::default() }
    }

    pub(crate) fn open(&self, path: &Path, mode: Mode) -> Result<DiskFile, Error> {
        let file = self.files.open(path, mode).map_err(failed("open", path))?;
        Ok(self.opened(path, file))
    }

    fn opened(&self, path: &Path, file: Box<dyn File>) -> DiskFile {
        DiskFile { path: path.to_owned(), file, suspects: Arc::clone(&self.suspects) }
    }

    /// Before a file that is there is taken for durable, whose content counts up
    /// to `byte_count`. A sync of it that failed is made up for by a copy in its
    /// place, for this file's syncs are not to be believed any more.
    pub(crate) fn renew_suspect(&self, path: &Path, byte_count: u64) -> Result<bool, Error> {
        if !suspects(&self.suspects).contains(path) {
            return Ok(false);
        }
        let bytes = self.open(path, Mode::Read)?.read_range(0, byte_count)?;
        self.replace(path, &bytes)?;
        Ok(true)
    }

    pub(crate) fn lock(&self, path: &Path) -> Result<Option<DiskFile>, Error> {
        let file = self.files.lock(path).map_err(failed("lock", path))?;
        Ok(file.map(|file| self.opened(path, file)))
    }

    pub(crate) fn create_dir(&self, path: &Path) -> Result<(), Error> {
        self.files.create_dir(path).map_err(failed("create directory", path))
    }

    pub(crate) fn list(&self, path: &Path) -> Result<Vec<String>, Error> {
        self.files.list(path).map_err(failed("list", path))
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.files.rename(from, to).map_err(failed("rename", from))
    }

    /// No error when the file does not exist.
    pub(crate) fn remove_file(&self, path: &Path) -> Result<(), Error> {
        match self.files.remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", path)(error))
            }
            Ok(()) | Err(_) => {
                suspects(&self.suspects).remove(path);
                Ok(())
            }
        }
    }

    /// No error when the directory does not exist.
    pub(crate) fn remove_dir_all(&self, path: &Path) -> Result<(), Error> {
        match self.files.remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn sync_dir(&self, path: &Path) -> Result<(), Error> {
        self.files.sync_dir(path).map_err(failed("sync directory", path))
    }

    /// The whole file; an error satisfies [`Error::is_not_found`] when there is none.
    pub(crate) fn read(&self, path: &Path) -> Result<Bytes, Error> {
        let file = self.open(path, Mode::Read)?;
        let byte_count = file.byte_count()?;
        file.read_range(0, byte_count)
    }

    /// As [`Disk::read`], `None` when there is no such file.
    pub(crate) fn read_if_exists(&self, path: &Path) -> Result<Option<Bytes>, Error> {
        match self.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// After this the file holds `bytes`; after a crash in it, either its old
    /// content or `bytes`.
    pub(crate) fn replace(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let temporary = path.with_extension("tmp");
        // Not emptied but removed: an earlier attempt's sync may have failed.
        self.remove_file(&temporary)?;
        let file = self.open(&temporary, Mode::Replace)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        self.rename(&temporary, path)?;
        suspects(&self.suspects).remove(path);
        self.sync_dir(path.parent().unwrap_or(Path::new("/")))
    }
}

impl DiskFile {
    /// The same open file, which has this name now.
    pub(crate) fn renamed(self, path: &Path) -> Self {
        Self { path: path.to_owned(), ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn byte_count(&self) -> Result<u64, Error> {
        self.file.byte_count().map_err(failed("stat", &self.path))
    }

    /// What the file holds of the range, less at its end.
    pub(crate) fn read_range(&self, pos: u64, byte_count: u64) -> Result<Bytes, Error> {
        let mut buffer = vec![0; usize::try_from(byte_count).unwrap_or(usize::MAX)];
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], pos + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("read", &self.path)(error)),
            }
        }
        buffer.truncate(filled);
        Ok(Bytes::from(buffer))
    }

    pub(crate) fn write_all_at(&self, bytes: &[u8], pos: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, pos).map_err(failed("write", &self.path))
    }

    pub(crate) fn set_len(&self, byte_count: u64) -> Result<(), Error> {
        self.file.set_len(byte_count).map_err(failed("truncate", &self.path))
    }

    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.file.sync().map_err(|error| {
            suspects(&self.suspects).insert(self.path.clone());
            failed("sync", &self.path)(error)
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// The operating system's files, some of whose writes and syncs fail.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Faults {
        writes: Arc<AtomicU32>,
        syncs: Arc<AtomicU32>,
    }

    impl Faults {
        /// The next writes stop half-way: no space.
        pub(crate) fn fail_writes(&self, count: u32) {
            self.writes.store(count, Ordering::Relaxed);
        }

        pub(crate) fn fail_syncs(&self, count: u32) {
            self.syncs.store(count, Ordering::Relaxed);
        }

        pub(crate) fn heal(&self) {
            self.fail_writes(0);
            self.fail_syncs(0);
        }
    }

    fn strikes(remaining: &AtomicU32) -> bool {
        remaining
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1))
            .is_ok()
    }

    #[derive(Debug)]
    struct FaultyFile {
        file: Box<dyn File>,
        faults: Faults,
    }

    impl File for FaultyFile {
        fn byte_count(&self) -> io::Result<u64> {
            self.file.byte_count()
        }

        fn read_at(&self, buffer: &mut [u8], pos: u64) -> io::Result<usize> {
            // Short, so that nobody relies on getting all at once.
            let count = buffer.len().min(1000);
            self.file.read_at(&mut buffer[..count], pos)
        }

        fn write_all_at(&self, bytes: &[u8], pos: u64) -> io::Result<()> {
            if strikes(&self.faults.writes) {
                self.file.write_all_at(&bytes[..bytes.len() / 2], pos)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.file.write_all_at(bytes, pos)
        }

        fn set_len(&self, byte_count: u64) -> io::Result<()> {
            self.file.set_len(byte_count)
        }

        fn sync(&self) -> io::Result<()> {
            if strikes(&self.faults.syncs) {
                return Err(io::Error::other("input/output error"));
            }
            self.file.sync()
        }
    }

    impl Files for Faults {
        fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn File>> {
            let file = OsFiles.open(path, mode)?;
            Ok(Box::new(FaultyFile { file, faults: self.clone() }))
        }

        fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn File>>> {
            OsFiles.lock(path)
        }

        fn create_dir(&self, path: &Path) -> io::Result<()> {
            OsFiles.create_dir(path)
        }

        fn list(&self, path: &Path) -> io::Result<Vec<String>> {
            OsFiles.list(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            OsFiles.rename(from, to)
        }

        fn remove_file(&self, path: &Path) -> io::Result<()> {
            OsFiles.remove_file(path)
        }

        fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
            OsFiles.remove_dir_all(path)
        }

        fn sync_dir(&self, path: &Path) -> io::Result<()> {
            OsFiles.sync_dir(path)
        }
    }
}
