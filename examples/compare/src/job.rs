//! One job of one client, checked.

use std::ffi::OsString;
use std::process::Command;

use crate::Result;
use crate::clients::Client;
use crate::measure::{Run, run};
use crate::media::MediaFile;
use crate::service::Service;

/// A generate request with a media file, and as many polls.
pub struct Job<'a> {
    pub service: &'a Service,
    pub media: &'a MediaFile,
    pub polls: u64,
}

impl Job<'_> {
    pub fn run(&self, client: &Client) -> Result<Run> {
        self.run_under(
            &[],
            &client.words(&self.service.base_url(self.polls), &self.media.path),
        )
    }

    /// Runs a program as the argument of another.
    pub fn run_under(&self, other: &[OsString], words: &[OsString]) -> Result<Run> {
        let words = [other, words].concat();
        let (program, args) = words.split_first().ok_or("no program to run")?;
        self.service.take_counts();
        let (run, printed) = run(Command::new(program).args(args))?;
        let counts = self.service.take_counts();
        // All of it must have been done.
        let is_whole = counts.received >= self.media.encoded_len();
        if (counts.generates, counts.polls) != (1, self.polls)
            || !is_whole
            || !printed.contains("model.imx")
        {
            return Err(format!("{words:?} printed {printed:?} after {counts:?}").into());
        }
        Ok(run)
    }
}
