//! What other processes, and earlier commands, have done to a file.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::progress::Progress;

/// Says that another process uses the file, if so: the library waits for its lock in silence.
pub fn note_wait(file: &Path, shown: &Path, progress: &Progress) {
    // Opening something else than a file can take for ever.
    let is_locked = file.is_file() && File::options().write(true).open(file).is_ok_and(is_locked);
    if is_locked {
        let shown = shown.display();
        progress.note(&format!("another process is using {shown}: waiting for it"));
    }
}

fn is_locked(file: File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Returns the path of what the library keeps beside a download, at the end of links. It locks
/// `.part.json`.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let path = fs::canonicalize(path).unwrap_or(path.into());
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Whether the file is there, and was written before the other.
pub fn is_older(file: &Path, other: &Path) -> bool {
    let written = |path| -> io::Result<SystemTime> { fs::metadata(path)?.modified() };
    matches!((written(file), written(other)), (Ok(file), Ok(other)) if file < other)
}

/// Returns the reason in words, without the system's number for it.
pub fn why(reason: &io::Error) -> String {
    let reason = reason.to_string();
    match reason.split_once(" (os error ") {
        Some((words, _)) => words.into(),
        None => reason,
    }
}
