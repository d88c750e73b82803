//! Files: where a path leads, and what others do with what is there.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{self, Path, PathBuf};
use std::time::SystemTime;

use crate::progress::Progress;

/// What the library keeps beside a download: the part, and its note, which it locks.
const PART: &str = ".part";
const NOTE: &str = ".part.json";

/// Says that another process uses the file, if so: the library waits for its lock in silence.
pub fn note_wait(file: &Path, shown: &Path, progress: &Progress) {
    // Opening something else than a file can take for ever.
    let is_locked = file.is_file() && File::options().write(true).open(file).is_ok_and(is_locked);
    if is_locked {
        let shown = shown.display();
        progress.note(&format!("another process is using {shown}: waiting for it"));
    }
}

/// As above, of a download to this path.
pub fn note_wait_for_download(path: &Path, progress: &Progress) {
    if let Ok(target) = resolve(path) {
        note_wait(&with_suffix(&target, NOTE), path, progress);
    }
}

fn is_locked(file: File) -> bool {
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// Refuses a download that would replace a file of an option, or keep its part there.
pub fn check_unused(path: &Path, used: &[(&str, Option<&Path>)]) -> Result<(), String> {
    let target = resolve(path).map_err(cannot_write)?;
    for (option, file) in used {
        let Some(Ok(file)) = file.map(resolve) else {
            continue;
        };
        for suffix in ["", PART, NOTE] {
            if with_suffix(&target, suffix) == file {
                return Err(format!("{} is the file of {option}", file.display()));
            }
        }
    }
    Ok(())
}

/// Fails where the download would: nobody should pay before that is found.
pub fn check_writable(path: &Path) -> Result<(), String> {
    let target = resolve(path).map_err(cannot_write)?;
    for suffix in [PART, NOTE] {
        let file = with_suffix(&target, suffix);
        let opened = match fs::symlink_metadata(&file) {
            Ok(metadata) if metadata.is_file() => File::options().write(true).open(&file).map(drop),
            Ok(_) => return Err(format!("{} is not a regular file", file.display())),
            Err(reason) if reason.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(reason) => Err(reason),
        };
        opened.map_err(|reason| format!("{}: {}", file.display(), cannot_write(reason)))?;
    }
    // Of its own: another process may lock a new note before it is removed.
    let probe = target.with_file_name(format!("{}.tmp", crate::create::new_key()));
    let made = File::create_new(&probe).and_then(|_| fs::remove_file(&probe));
    made.map_err(|reason| format!("its folder cannot be written: {}", why(&reason)))
}

fn cannot_write(reason: io::Error) -> String {
    match reason.kind() {
        io::ErrorKind::NotFound => "its folder does not exist".into(),
        _ => format!("cannot be written: {}", why(&reason)),
    }
}

/// Returns where a path leads, whether a file is there or not. Links are followed.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let path = path::absolute(path)?;
    match fs::canonicalize(&path) {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => {}
        found => return found,
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::NotFound.into());
    };
    match fs::read_link(&path) {
        Ok(link) => resolve(&folder.join(link)),
        Err(_) => Ok(fs::canonicalize(folder)?.join(name)),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
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
