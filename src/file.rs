//! A file that several processes share: locked by the operating system, which frees the lock of a
//! process that died, and synced to the disk.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{self, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind};

/// How often a lock that another process holds is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

/// How long to wait for a lock.
pub(crate) struct LockWait<'a> {
    pub clock: &'a dyn Clock,
    /// Set by a shutdown.
    pub stopped: &'a AtomicBool,
    /// A time on the clock.
    pub until: Duration,
}

/// Why a file cannot be locked.
#[derive(Debug)]
pub(crate) enum LockError {
    Open(io::Error),
    Lock(io::Error),
    /// The system has no locks.
    Unsupported,
    HardLinks,
    /// Another process held the lock all the time.
    Busy,
    ShutDown,
}

/// An open file under an exclusive lock.
pub(crate) struct LockedFile {
    file: File,
    path: PathBuf,
}

impl LockedFile {
    /// Opens the file, which is created where there is none, and waits for its lock.
    pub fn open(path: &Path, wait: &LockWait) -> Result<Self, LockError> {
        loop {
            let file = open(path).map_err(LockError::Open)?;
            lock(&file, wait)?;
            let locked = LockedFile {
                file,
                path: path.into(),
            };
            // Another process may have replaced the file after it was opened.
            if locked.still_at_path().is_ok() {
                return match has_hard_links(path) {
                    true => Err(LockError::HardLinks),
                    false => Ok(locked),
                };
            }
            wait.sleep()?;
        }
    }

    /// Reads the file from its start, and not more than this many bytes.
    pub fn read(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&self.file).take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Appends these bytes, all or none.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = self.file.seek(SeekFrom::End(0))?;
        self.file.write_all(bytes).inspect_err(|_| {
            // Where this fails too, a part of a line stays, which is no line.
            let _ = self.file.set_len(len);
        })
    }

    /// Writes over the start of the file, in one step.
    pub fn overwrite(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(bytes)
    }

    /// Cuts the file to this length, and syncs it.
    pub fn cut(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.sync()
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Syncs the name of the file. Not every system and file system can.
    pub fn sync_folder(&self) -> io::Result<()> {
        sync_folder(&self.path)
    }

    /// Fails if the path no longer leads to this file.
    pub fn still_at_path(&self) -> io::Result<()> {
        still_at_path(&self.file, &self.path)
    }

    /// Removes the file. A process that waits for its lock sees that it is no longer at its path.
    pub fn remove(self) {
        let path = self.path.clone();
        // Windows removes no open file. There, one that another process opens meanwhile stays.
        if cfg!(windows) {
            drop(self);
        }
        let _ = fs::remove_file(path);
    }
}

/// A child of this process between its fork and exec would keep a lock that is only dropped.
impl Drop for LockedFile {
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl LockWait<'_> {
    /// Sleeps before the next try, unless the time is up.
    fn sleep(&self) -> Result<(), LockError> {
        if self.stopped.load(Ordering::SeqCst) {
            return Err(LockError::ShutDown);
        }
        let remaining = self.until.saturating_sub(self.clock.now());
        if remaining.is_zero() {
            return Err(LockError::Busy);
        }
        self.clock.sleep(remaining.min(LOCK_INTERVAL));
        Ok(())
    }
}

impl LockError {
    /// Says what is wrong with the file, and what to do.
    pub fn into_error(self, kind: ErrorKind) -> Error {
        use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        let error = |what: String| Error::new(kind, what);
        match self {
            LockError::Open(reason) => match reason.kind() {
                NotFound => {
                    let why = "its folder, or the target of a link, does not exist";
                    error(format!("cannot be created: {why}")).advice("create the folder")
                }
                PermissionDenied | ReadOnlyFilesystem | NotADirectory | InvalidFilename => {
                    error(format!("cannot be read and written: {reason}"))
                        .advice("choose another path")
                }
                _ => error(format!("cannot be opened: {reason}")).advice("fix that and try again"),
            },
            LockError::Lock(reason) => error(format!("cannot be locked: {reason}"))
                .advice("use a path on a local disk, whose file system has locks"),
            LockError::Unsupported => error("cannot be locked: there are no locks here".into())
                .advice("use a path on a local disk, or call generate and keep its key yourself"),
            LockError::HardLinks => error("has hard links".into()).advice("remove all but one"),
            LockError::Busy => Error::new(ErrorKind::WaitTimedOut, "is in use by another process")
                .advice("its call may still succeed; call again when it has ended"),
            LockError::ShutDown => Error::shut_down(),
        }
    }
}

/// Makes the path of a file absolute, or says why it cannot lead to one.
pub(crate) fn check_path(path: &Path) -> Result<PathBuf, String> {
    let last = path.as_os_str().as_encoded_bytes().last();
    let what = match (last, fs::metadata(path)) {
        (None, _) => "has an empty path",
        (Some(last), _) if path::is_separator(char::from(*last)) => "ends in a separator",
        (_, Ok(metadata)) if metadata.is_dir() => "is a folder",
        // Opening a FIFO would wait for another process.
        (_, Ok(metadata)) if !metadata.is_file() => "is not a regular file",
        // Not canonicalized: on Windows that puts \\?\ before every path that is shown.
        _ => return path::absolute(path).map_err(|error| format!("cannot be found: {error}")),
    };
    Err(what.into())
}

/// Syncs the name of a file.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    // Of a symbolic link: the folder of the file, not of the link.
    let path = fs::canonicalize(path)?;
    let folder = File::open(path.parent().unwrap_or(&path))?;
    match folder.sync_all() {
        Err(error) if is_not_possible(&error) => Ok(()),
        synced => synced,
    }
}

/// Returns the path at the end of symbolic links, where there may be no file yet.
pub(crate) fn follow_links(mut path: PathBuf) -> Result<PathBuf, String> {
    for _ in 0..MOST_LINKS {
        let Ok(link) = fs::read_link(&path) else {
            return Ok(path);
        };
        path = path.parent().unwrap_or(&path).join(link);
    }
    Err("is a loop of symbolic links".into())
}

/// Whether the file has several names. All of them would get what is written to one.
pub(crate) fn has_hard_links(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| names(&metadata) > 1)
}

/// Fails if the path no longer leads to this open file.
pub(crate) fn still_at_path(file: &File, path: &Path) -> io::Result<()> {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(there)) if is_same(&ours, &there) => Ok(()),
        _ => {
            let path = path.display();
            Err(io::Error::other(format!("{path} was deleted or replaced")))
        }
    }
}

/// Waits for the lock.
fn lock(file: &File, wait: &LockWait) -> Result<(), LockError> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) => wait.sleep()?,
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                return Err(LockError::Unsupported);
            }
            Err(TryLockError::Error(error)) => return Err(LockError::Lock(error)),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // Others may read and write it, but not delete or rename it.
    #[cfg(windows)]
    std::os::windows::fs::OpenOptionsExt::share_mode(&mut options, 3);
    options.open(path)
}

/// Whether a system or file system says that it cannot sync a folder.
fn is_not_possible(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, Unsupported};
    matches!(error.kind(), InvalidInput | Unsupported)
}

#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(unix)]
fn names(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

/// On Windows nobody can replace a file that is open as this one is.
#[cfg(not(unix))]
fn is_same(_: &Metadata, _: &Metadata) -> bool {
    true
}

#[cfg(not(unix))]
fn names(_: &Metadata) -> u64 {
    1
}
