//! A large file as base64 in a JSON body: streamed by this library, made whole in memory and sent by the same
//! ureq, and encoded beforehand and sent by curl, which reads it whole or streams it.

use std::ffi::OsString;
use std::process::Command;

use crate::Result;
use crate::clients;
use crate::job::Job;
use crate::measure::{Run, median, run};
use crate::media::{Folder, MIB, Medium, write_encoded};
use crate::report::{Targets, setting};
use crate::service::Service;

/// One of the ways, and what its runs took.
struct Way<'a> {
    name: &'static str,
    words: Vec<OsString>,
    medium: &'a Medium,
    /// A client does a whole job, with one poll; curl has only the request to send.
    is_client: bool,
    runs: Vec<Run>,
}

impl<'a> Way<'a> {
    fn client(
        name: &'static str,
        folder: &str,
        service: &Service,
        medium: &'a Medium,
    ) -> Result<Self> {
        let program = clients::program(folder)?.into();
        let words = vec![
            program,
            service.base_url(1).into(),
            medium.path.clone().into(),
            "1".into(),
        ];
        Ok(Way {
            name,
            words,
            medium,
            is_client: true,
            runs: vec![],
        })
    }

    fn curl(
        name: &'static str,
        service: &Service,
        medium: &'a Medium,
        option: &str,
        file: OsString,
    ) -> Self {
        let words = [
            "curl",
            "--silent",
            "--show-error",
            "--fail",
            "--request",
            "POST",
        ];
        let mut words: Vec<_> = words.map(OsString::from).into();
        words.extend(["--header", "content-type: application/json", option].map(OsString::from));
        words.extend([
            file,
            format!("{}/v1/agent/generate", service.base_url(1)).into(),
        ]);
        Way {
            name,
            words,
            medium,
            is_client: false,
            runs: vec![],
        }
    }

    fn run(&mut self, service: &Service) -> Result<()> {
        if self.is_client {
            let done = Job {
                service,
                medium: self.medium,
                polls: 1,
            }
            .run_under(&[], &self.words)?;
            self.runs.push(done.run);
            return Ok(());
        }
        service.take_counts();
        self.runs
            .push(run(Command::new(&self.words[0]).args(&self.words[1..]))?.0);
        let received = service.take_counts().received;
        if received < self.medium.encoded_len() {
            return Err(format!("{}: only {received} bytes arrived", self.name).into());
        }
        Ok(())
    }

    fn seconds(&self) -> f64 {
        median(self.runs.iter().map(|run| run.seconds)).unwrap_or(f64::NAN)
    }

    /// In MiB.
    fn peak(&self) -> f64 {
        median(self.runs.iter().map(|run| run.peak / MIB as f64)).unwrap_or(f64::NAN)
    }
}

/// Runs them all in turn, prints a table, and tells whether the targets are reached.
pub fn compare(rounds: usize) -> Result<bool> {
    let (service, folder) = (Service::start()?, Folder::new()?);
    let (huge, small) = (folder.medium(256 * MIB)?, folder.medium(MIB)?);
    let encoded = folder.path("encoded");
    write_encoded(&huge.path, &encoded)?;

    let mut ours = Way::client("ours: streamed", "ours", &service, &huge)?;
    let mut naive = Way::client(
        "read, encode, serialize, send",
        "bare-ureq",
        &service,
        &huge,
    )?;
    let mut ours_small = Way::client("ours, 1 MiB", "ours", &service, &small)?;
    let mut curls = vec![];
    let curl = clients::curl_version();
    if curl.is_some() {
        let mut at_encoded = OsString::from("@");
        at_encoded.push(&encoded);
        let name = "curl --data-binary, encoded before";
        curls.push(Way::curl(
            name,
            &service,
            &huge,
            "--data-binary",
            at_encoded,
        ));
        let name = "curl --upload-file, encoded before";
        curls.push(Way::curl(
            name,
            &service,
            &huge,
            "--upload-file",
            encoded.into(),
        ));
    }
    for _ in 0..rounds {
        for way in [&mut ours, &mut naive]
            .into_iter()
            .chain(&mut curls)
            .chain([&mut ours_small])
        {
            way.run(&service)?;
        }
    }

    println!(
        "A file of {} MiB to a service on this machine, medians of {rounds} rounds:\n",
        huge.len / MIB
    );
    println!("| way | time | MB/s | peak resident | time to ours | peak to ours |");
    println!("|---|--:|--:|--:|--:|--:|");
    for way in [&ours, &naive].into_iter().chain(&curls) {
        let (name, seconds, peak) = (way.name, way.seconds(), way.peak());
        let speed = way.medium.len as f64 / 1e6 / seconds;
        let (time_ratio, peak_ratio) = (seconds / ours.seconds(), peak / ours.peak());
        println!(
            "| {name} | {seconds:.3} s | {speed:.0} | {peak:.1} MiB | {time_ratio:.2} | {peak_ratio:.1} |"
        );
    }
    let curl = curl.as_deref().unwrap_or("curl is not installed");
    println!("\n{}; {}, {curl}.\n", setting(), clients::bare_versions()?);

    let mut targets = Targets::new();
    let (peak, small_peak) = (ours.peak(), ours_small.peak());
    targets.check(
        "peak of ours at most 4 MiB",
        &format!("{peak:.2} MiB"),
        peak <= 4.0,
    );
    let value = format!("{small_peak:.2} MiB");
    targets.check(
        "the same within 0.25 MiB for a file of 1 MiB",
        &value,
        (peak - small_peak).abs() <= 0.25,
    );
    let speed = naive.seconds() / ours.seconds();
    targets.check(
        "at least 5 times as fast as read, encode, serialize",
        &format!("{speed:.2}"),
        speed >= 5.0,
    );
    let what = "at least 0.6 times as fast as the faster curl";
    match curls
        .iter()
        .map(|way| way.seconds() / ours.seconds())
        .reduce(f64::min)
    {
        Some(speed) => targets.check(what, &format!("{speed:.2}"), speed >= 0.6),
        None => targets.skip(what, "without curl"),
    }
    Ok(targets.are_reached())
}
