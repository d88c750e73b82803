//! The part of a file that is there: `<path>.part`, and the note beside it, which says what it is a
//! part of.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::file::{self, LockError, LockWait, LockedFile};
use crate::retry;

/// How much may be written before it is synced.
const SYNC_AFTER: u64 = 16 * 1024 * 1024;

/// How much may be written before the note says so. A killed process loses half of it on average.
const NOTE_AFTER: u64 = 256 * 1024;

/// A longer file is no note.
const LONGEST_NOTE: u64 = 64 * 1024;

/// How long Windows may refuse to replace a file that another program reads.
const RENAME_PATIENCE: Duration = Duration::from_secs(3);
const RENAME_INTERVAL: Duration = Duration::from_millis(50);

/// What the part is a part of, and how much of it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub base_url: String,
    pub agent_id: String,
    /// The model that the caller asked for, if any.
    pub asked_model: Option<String>,
    /// The model that the service named.
    pub model: Option<String>,
    /// A strong validator: the same one means the same bytes.
    pub etag: Option<String>,
    pub total: Option<u64>,
    /// So much is surely on the disk.
    pub synced: u64,
    /// So much was written, which is on the disk unless the power failed.
    pub written: u64,
    /// The checksum of what was written and not synced.
    pub checksum: Checksum,
}

/// A checksum that finds lost and misplaced blocks, and costs little for each byte.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checksum(u64, u64);

impl Checksum {
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.wrapping_add(u64::from(*byte) + 1);
            self.1 = self.1.wrapping_add(self.0);
        }
    }
}

impl Note {
    /// Whether a part of this length and with this note can be resumed, or finished, for what is
    /// `wanted` now. There is no checksum of the whole file: only a validator makes resuming safe.
    pub fn fits(&self, wanted: &Note, part_len: u64) -> bool {
        let is_about_it = self.base_url == wanted.base_url
            && self.agent_id == wanted.agent_id
            && self.asked_model == wanted.asked_model;
        let is_known = self.etag.is_some() || self.total == Some(self.synced);
        let has_some = self.synced > 0 || self.written > 0;
        is_about_it && is_known && has_some && self.synced <= part_len
    }
}

/// The part, whose note is locked.
pub(super) struct Part {
    /// Where the file is to be.
    target: PathBuf,
    pub path: PathBuf,
    /// The file of the note. None where there are no locks: then nobody else knows the part's name.
    lock: Option<LockedFile>,
    is_shared: bool,
    /// Open as soon as there is something to write.
    file: Option<File>,
    pub note: Note,
    /// So much is there.
    pub offset: u64,
    checksum: Checksum,
}

impl Part {
    /// Waits for the lock. `wanted` has what the file is to be, and no more.
    pub fn open(target: &Path, wanted: Note, wait: &LockWait) -> Result<Self, LockError> {
        let mut path = with_suffix(target, ".part");
        let note_path = with_suffix(&path, ".json");
        for path in [&path, &note_path] {
            // A link would be renamed in place of the file.
            if path.is_symlink() || file::check_path(path).is_err() {
                let what = format!("{} is not a regular file", path.display());
                return Err(LockError::Open(io::Error::other(what)));
            }
        }
        let lock = match LockedFile::open(&note_path, wait) {
            Ok(lock) => Some(lock),
            Err(LockError::Unsupported | LockError::Lock(_)) => {
                if fs::metadata(&note_path).is_ok_and(|note| note.len() == 0) {
                    let _ = fs::remove_file(&note_path);
                }
                path = unshared(target);
                None
            }
            Err(error) => return Err(error),
        };
        let mut part = Part {
            target: target.into(),
            path,
            is_shared: lock.is_some(),
            lock,
            file: None,
            note: wanted,
            offset: 0,
            checksum: Checksum::default(),
        };
        part.find().map_err(LockError::Open)?;
        Ok(part)
    }

    /// Finds what an earlier call left.
    fn find(&mut self) -> io::Result<()> {
        let Some(lock) = &mut self.lock else {
            return Ok(());
        };
        let bytes = lock.read(LONGEST_NOTE)?;
        let line = bytes.split(|byte| *byte == b'\n').next();
        let Ok(note) = serde_json::from_slice::<Note>(line.unwrap_or_default()) else {
            return Ok(());
        };
        let len = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        if note.fits(&self.note, len) {
            self.offset = note.synced;
            self.note = note;
            self.check_unsynced()?;
        }
        Ok(())
    }

    /// Adds what was written and not synced, if it is there as it was written.
    fn check_unsynced(&mut self) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).write(true).open(&self.path)?;
        file.seek(SeekFrom::Start(self.note.synced))?;
        let unsynced = self.note.written.saturating_sub(self.note.synced);
        let mut rest = (&mut file).take(unsynced);
        let mut checksum = Checksum::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = rest.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            checksum.add(buffer.get(..n).unwrap_or_default());
        }
        if rest.limit() == 0 && checksum == self.note.checksum {
            self.offset += unsynced;
            self.checksum = checksum;
        }
        self.note.written = self.offset;
        self.file = Some(file);
        self.resume()
    }

    pub fn is_whole(&self) -> bool {
        self.offset > 0 && self.note.total == Some(self.offset)
    }

    /// The offset and the validator to resume with.
    pub fn range(&self) -> Option<(u64, &str)> {
        let etag = self.note.etag.as_deref()?;
        (self.offset > 0).then_some((self.offset, etag))
    }

    /// Throws away what is there if it is of another model than the service names.
    pub fn set_model(&mut self, model: Option<String>) {
        if self.note.model != model {
            self.note.model = model;
            self.forget(None, None);
        }
    }

    fn forget(&mut self, etag: Option<String>, total: Option<u64>) {
        self.note.etag = etag;
        self.note.total = total;
        self.note.synced = 0;
        self.offset = 0;
        self.checksum = Checksum::default();
    }

    /// Writes from the end of what is there, and cuts what is not known.
    pub fn resume(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.set_len(self.offset)?;
            file.seek(SeekFrom::Start(self.offset))?;
        }
        Ok(())
    }

    /// Throws away what is there. The new note is on the disk before the new bytes are.
    pub fn start_over(&mut self, etag: Option<String>, total: Option<u64>) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(create(&self.path)?);
        }
        self.forget(etag, total);
        self.resume()?;
        self.save()?;
        self.lock.as_ref().map_or(Ok(()), LockedFile::sync)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
        }
        self.offset += bytes.len() as u64;
        self.checksum.add(bytes);
        if self.offset - self.note.synced >= SYNC_AFTER {
            self.sync()?;
        } else if self.offset - self.note.written >= NOTE_AFTER {
            self.save()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.sync_all()?;
        }
        self.note.synced = self.offset;
        self.checksum = Checksum::default();
        self.save()
    }

    /// Writes down how much is there.
    pub fn save(&mut self) -> io::Result<()> {
        self.note.written = self.offset;
        self.note.checksum = self.checksum;
        let Some(lock) = self.lock.as_mut().filter(|_| self.file.is_some()) else {
            return Ok(());
        };
        lock.still_at_path()?;
        let mut line = serde_json::to_vec(&self.note)?;
        line.push(b'\n');
        lock.overwrite(&line)
    }

    /// Puts the whole file to its place.
    pub fn finish(mut self, clock: &dyn Clock) -> io::Result<()> {
        self.sync()?;
        if fs::metadata(&self.path)?.len() != self.offset {
            return Err(io::Error::other("another program changed its part"));
        }
        self.file = None;
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
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
        Ok(())
    }
}

/// Leaves nothing that no later call can use.
impl Drop for Part {
    fn drop(&mut self) {
        match self.lock.take() {
            Some(lock) if lock.len().is_ok_and(|len| len == 0) => lock.remove(),
            None if !self.is_shared => drop(fs::remove_file(&self.path)),
            _ => {}
        }
    }
}

/// Opens the part, which may be another file's, and so is not truncated yet.
fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

/// A part of which no other process knows.
fn unshared(target: &Path) -> PathBuf {
    with_suffix(target, &format!(".{:016x}.part", retry::random()))
}

/// Appends to the name: replacing the extension would give two files the same part.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
#[path = "../../tests/unit/part.rs"]
mod tests;
