//! `GET /v1/agent/{agent_id}/model/download`, and the model file to disk: resumed after whatever
//! broke, and whole when it is at its place.

mod job;
mod offer;
mod part;
mod step;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::api::Api;
use crate::error::{Error, Result};
use job::Job;

/// Which model file to download, and how long to try.
///
/// ```
/// use std::time::Duration;
/// use bithuman::Download;
///
/// let download = Download::new()
///     .model("essence-2")
///     .timeout(Duration::from_secs(30 * 60))
///     .stall(Duration::from_secs(20))
///     .if_missing(true);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Download {
    model: Option<String>,
    timeout: Duration,
    stall: Duration,
    interval: Duration,
    if_missing: bool,
}

impl Default for Download {
    fn default() -> Self {
        Download {
            model: None,
            timeout: Duration::from_secs(4 * 60 * 60),
            stall: Duration::from_secs(60),
            interval: Duration::from_secs(5),
            if_missing: false,
        }
    }
}

impl Download {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the model, such as `essence-2`. Default: the model that the agent was created with.
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Sets the time for the whole call, the wait for a file that is not there yet included.
    ///
    /// Default: 4 h.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = time;
        self
    }

    /// Sets how long the storage may send nothing.
    ///
    /// After that the download is resumed over another connection. If no response has begun by
    /// then, the storage may send nothing for the
    /// [`response_timeout`](crate::ApiBuilder::response_timeout) in the next try, at any point of
    /// it. Default: 60 s.
    pub fn stall(mut self, time: Duration) -> Self {
        self.stall = time;
        self
    }

    /// Sets the time between two requests for a file that is not there yet, more than zero.
    ///
    /// Default: 5 s.
    pub fn interval(mut self, time: Duration) -> Self {
        self.interval = time;
        self
    }

    /// Sets whether a file that is at the path already is returned as it is.
    ///
    /// With `true` nothing is sent then, whatever is in the file. Default: `false`, and the file is
    /// replaced.
    pub fn if_missing(mut self, if_missing: bool) -> Self {
        self.if_missing = if_missing;
        self
    }

    fn check(&self) -> Result<()> {
        for (name, time) in [("interval", self.interval), ("stall", self.stall)] {
            if time.is_zero() {
                return Err(Error::invalid(format!("the {name} must be more than zero")));
            }
        }
        Ok(())
    }
}

/// A model file on disk: the result of [`Api::download`].
///
/// ```no_run
/// use bithuman::{Api, Download};
///
/// let file = Api::from_env()?.download("A91XMB7113", "agent.imx", &Download::new())?;
/// println!("{}: {} bytes", file.path.display(), file.length);
/// # Ok::<(), bithuman::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Downloaded {
    /// Where the file is, as an absolute path. Symbolic links are followed.
    pub path: PathBuf,
    /// The length of the file in bytes.
    pub length: u64,
    /// How many bytes of the file this call received. What an earlier call left is not counted, and
    /// what came twice is counted twice, so that this can be more than the length.
    pub fetched: u64,
    /// The model, if the service named it.
    pub model: Option<String>,
}

impl Api {
    /// Downloads the agent's model file, and returns when the whole of it is on the disk. It is
    /// free.
    ///
    /// The file appears at `path` when it is whole, and replaces what is there. Until then its part
    /// is at `<path>.part`, with a note at `<path>.part.json`. If the download breaks, or the
    /// process is killed, the next try or call resumes it, provided that the storage has the same
    /// file. Calls for the same path, also in other processes, wait for each other.
    ///
    /// A file that is not there yet is waited for: it can appear half an hour after the agent is
    /// ready. Transient errors and URLs that expire are retried, up to 10 times in a row that bring
    /// the file no further.
    ///
    /// The storage is another host. It gets neither the secret nor anything else of this client's.
    /// The service publishes no checksum: the file has the length that the storage announced.
    ///
    /// # Errors
    ///
    /// [`File`](crate::ErrorKind::File) if the path is not that of a regular file, or cannot be written.
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for an id, a model or a time that cannot be meant.
    /// [`WaitTimedOut`](crate::ErrorKind::WaitTimedOut) after [`Download::timeout`].
    /// [`NotFound`](crate::ErrorKind::NotFound) for an agent that is unknown or was deleted.
    /// [`Rejected`](crate::ErrorKind::Rejected) for a model that has no file, or that the agent does not have.
    /// [`PlanLimit`](crate::ErrorKind::PlanLimit) for a plan without downloads. Otherwise as
    /// [`status`](Api::status). What was at the path before stays there.
    ///
    /// ```no_run
    /// use bithuman::{Api, Download};
    ///
    /// let api = Api::from_env()?;
    /// let download = Download::new().if_missing(true);
    /// let file = api.download("A91XMB7113", "agent.imx", &download)?;
    /// println!("{} bytes, {} received now", file.length, file.fetched);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn download(
        &self,
        agent_id: &str,
        path: impl AsRef<Path>,
        download: &Download,
    ) -> Result<Downloaded> {
        let mut job = Job::new(self, agent_id, download);
        let result = job.run(path.as_ref());
        result.map_err(|error| job.about(error))
    }
}
