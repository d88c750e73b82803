//! The part of a file that is there: `<path>.part`, and the note beside it, which says what it is a
//! part of.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::file::{self, LockError, LockWait, LockedFile};
use crate::retry;

/// How much may be written before it is synced.
const SYNC_AFTER: u64 = 16 * 1024 * 1024;

/// A longer file is no note.
const LONGEST_NOTE: u64 = 64 * 1024;

/// How long Windows may refuse to replace a file that another program reads.
const RENAME_PATIENCE: Duration = Duration::from_secs(3);
const RENAME_INTERVAL: Duration = Duration::from_millis(50);

/// What a note begins with, also one that a power cut has torn.
const NOTE_START: &[u8] = b"{\"request\":";

/// What the part is a part of, and how much of it is surely on the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The URL that asks for the file: it names the service, the agent and the model asked for.
    pub request: String,
    /// The model that the service named.
    pub model: Option<String>,
    /// A strong validator: the same one means the same bytes.
    pub etag: Option<String>,
    pub total: Option<u64>,
    pub synced: u64,
    /// An id that changes when the computer starts. If it is the same, all that was written is there:
    /// a power cut loses some of that, but a process that is killed does not.
    pub boot: Option<String>,
}

impl Note {
    /// How much of a part of this length can be used for what is `wanted` now. There is no checksum:
    /// only a validator makes resuming safe, and only a whole file needs none.
    pub fn usable(&self, wanted: &Note, len: u64) -> u64 {
        let is_same_boot = self.boot.is_some() && self.boot == wanted.boot;
        let usable = if is_same_boot { len } else { self.synced };
        let is_known = self.etag.is_some() || self.total == Some(usable);
        let is_there = self.synced <= len && self.total.is_none_or(|total| len <= total);
        match self.request == wanted.request && is_known && is_there {
            true => usable,
            false => 0,
        }
    }
}

/// The part, whose note is locked.
pub(super) struct Part {
    /// Where the file is to be.
    target: PathBuf,
    pub path: PathBuf,
    /// The note. None where there are no locks: then the part has a name that no other call knows.
    lock: Option<LockedFile>,
    /// Open as soon as there is something to write.
    file: Option<File>,
    pub note: Note,
    /// How many bytes of the file are there.
    pub offset: u64,
}

impl Part {
    /// Waits for the lock, and finds what an earlier call with the same request left.
    pub fn lock(target: &Path, request: String, wait: &LockWait) -> Result<Self> {
        let [mut path, note_path] = paths(target);
        for path in [&path, &note_path] {
            // A link would be renamed in place of the file. What has other names is somebody else's.
            let is_linked = path.is_symlink() || file::has_hard_links(path);
            if is_linked || file::check_path(path).is_err() {
                return Err(refused(path, "is not a regular file, or has hard links"));
            }
        }
        let mut bytes = Vec::new();
        let lock = match LockedFile::open(&note_path, wait) {
            Ok(mut lock) => {
                bytes = lock.read(LONGEST_NOTE).unwrap_or_default();
                // The note is written first. One beside it would make it a part of ours.
                if bytes.is_empty() && len(&path) > 0 {
                    lock.remove();
                    return Err(refused(&path, "is not the part of a download"));
                }
                Some(lock)
            }
            Err(LockError::Unsupported | LockError::Lock(_)) => {
                if len(&note_path) == 0 {
                    let _ = fs::remove_file(&note_path);
                }
                path = unshared(target);
                None
            }
            Err(error) => return Err(about_file(&note_path, error.into_error(ErrorKind::File))),
        };
        // A power cut may leave zeros.
        if !bytes.starts_with(NOTE_START) && bytes.iter().any(|byte| *byte != 0) {
            return Err(refused(&note_path, "is not the note of a download"));
        }
        let mut part = Part {
            target: target.into(),
            path,
            lock,
            file: None,
            note: Note {
                request,
                boot: boot_id(),
                ..Note::default()
            },
            offset: 0,
        };
        // Behind the first line may be the rest of a longer one.
        let line = bytes.split(|byte| *byte == b'\n').next();
        if let Ok(note) = serde_json::from_slice::<Note>(line.unwrap_or_default()) {
            part.offset = note.usable(&part.note, len(&part.path));
            if part.offset > 0 {
                let boot = part.note.boot.take();
                part.note = Note { boot, ..note };
            }
        }
        Ok(part)
    }

    /// Whether there is a note. A crash may have left one beside a whole file.
    pub fn has_note(target: &Path) -> bool {
        let [_, note_path] = paths(target);
        note_path.exists()
    }

    pub fn is_whole(&self) -> bool {
        self.offset > 0 && self.note.total == Some(self.offset)
    }

    /// The offset and the validator to resume with, if the service still names the same model.
    pub fn range(&self, model: &Option<String>) -> Option<(u64, &str)> {
        let etag = self.note.etag.as_deref()?;
        (self.offset > 0 && self.note.model == *model).then_some((self.offset, etag))
    }

    /// Cuts what is there to this length. Then the note is on the disk before any new byte is.
    pub fn begin(&mut self, offset: u64, note: Note) -> io::Result<()> {
        let mut file = open_file(&self.path)?;
        file.set_len(offset)?;
        file.seek(SeekFrom::Start(offset))?;
        self.file = Some(file);
        self.offset = offset;
        self.note = note;
        self.note.synced = self.note.synced.min(offset);
        self.save()?;
        self.lock.as_ref().map_or(Ok(()), LockedFile::sync)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        file.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        if self.offset - self.note.synced >= SYNC_AFTER {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file::still_at_path(file, &self.path)?;
            file.sync_all()?;
            self.note.synced = self.offset;
            self.save()?;
        }
        Ok(())
    }

    fn save(&mut self) -> io::Result<()> {
        let Some(lock) = &mut self.lock else {
            return Ok(());
        };
        lock.still_at_path()?;
        let mut line = serde_json::to_vec(&self.note)?;
        line.push(b'\n');
        lock.overwrite(&line)
    }

    /// Puts the whole file to its place.
    pub fn finish(mut self, clock: &dyn Clock) -> io::Result<()> {
        // What an earlier process wrote may not be on the disk either.
        let file = self.file.take().map_or_else(|| open_file(&self.path), Ok)?;
        self.file = Some(file);
        self.sync()?;
        self.file = None;
        if len(&self.path) != self.offset {
            return Err(io::Error::other("another program changed its part"));
        }
        if let Ok(replaced) = fs::metadata(&self.target) {
            // Where this cannot be, there are no modes.
            let _ = fs::set_permissions(&self.path, replaced.permissions());
        }
        let until = clock.now().saturating_add(RENAME_PATIENCE);
        while let Err(error) = fs::rename(&self.path, &self.target) {
            let may_pass = cfg!(windows) && error.kind() == io::ErrorKind::PermissionDenied;
            if !may_pass || clock.now() >= until {
                return Err(error);
            }
            clock.sleep(RENAME_INTERVAL);
        }
        // The file is whole and at its place, whatever this says.
        let _ = file::sync_folder(&self.target);
        Ok(())
    }
}

/// Keeps what a later call can use, and nothing else.
impl Drop for Part {
    fn drop(&mut self) {
        // Without an id of the boot, only what is synced counts.
        if self.note.boot.is_none() {
            let _ = self.sync();
        }
        let is_there = match &self.file {
            Some(file) => file::still_at_path(file, &self.path).is_ok(),
            None => self.path.exists(),
        };
        let lock = self.lock.take();
        match lock.filter(|lock| lock.still_at_path().is_ok()) {
            Some(lock) if !is_there => lock.remove(),
            None if is_there => drop(fs::remove_file(&self.path)),
            _ => {}
        }
    }
}

/// Another program has made this file.
fn refused(path: &Path, what: &str) -> Error {
    let error = Error::new(ErrorKind::File, what).advice("delete it, or choose another path");
    about_file(path, error)
}

/// Names the file that an error is about.
pub(super) fn about_file(path: &Path, error: Error) -> Error {
    error.within(format!("file {}", path.display()).trim())
}

/// Opens the part, which is not truncated: it may be another file's.
fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).open(path)
}

/// The length of a file, 0 if there is none.
fn len(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// The part of a file, and its note.
fn paths(target: &Path) -> [PathBuf; 2] {
    [".part", ".part.json"].map(|suffix| with_suffix(target, suffix))
}

/// A part of which no other call knows.
fn unshared(target: &Path) -> PathBuf {
    with_suffix(target, &format!(".{:016x}.part", retry::random()))
}

/// Appends to the name: replacing the extension would give two files the same part.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Linux has an id for the time since it was started.
fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

#[cfg(test)]
#[path = "../../tests/unit/part.rs"]
mod tests;
