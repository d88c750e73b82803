//! The files to send, in a temporary folder.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::{env, process};

use base64::engine::general_purpose::STANDARD;
use base64::write::EncoderWriter;

use crate::Result;

pub const KIB: u64 = 1024;
pub const MIB: u64 = 1024 * KIB;

/// A file and its length.
pub struct MediaFile {
    pub path: PathBuf,
    pub len: u64,
}

impl MediaFile {
    /// The length of its base64.
    pub fn encoded_len(&self) -> u64 {
        self.len.div_ceil(3) * 4
    }
}

/// A temporary folder that is gone with this value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("bithuman-compare-{}", process::id()));
        fs::create_dir(&path)?;
        Ok(Folder(path))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Bytes that are not all alike.
    pub fn media(&self, len: u64) -> Result<MediaFile> {
        let path = self.path(&format!("{len}-bytes"));
        let mut file = BufWriter::new(File::create(&path)?);
        for n in 0..len / 8 {
            file.write_all(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())?;
        }
        file.flush()?;
        Ok(MediaFile { path, len })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The whole request, for who cannot encode.
pub fn write_encoded(from: &Path, to: &Path) -> Result<()> {
    let mut from = BufReader::new(File::open(from)?);
    let mut to = File::create(to)?;
    to.write_all(br#"{"image":""#)?;
    let mut encoder = EncoderWriter::new(BufWriter::new(to), &STANDARD);
    io::copy(&mut from, &mut encoder)?;
    let mut to = encoder.finish()?;
    to.write_all(br#""}"#)?;
    Ok(to.flush()?)
}
