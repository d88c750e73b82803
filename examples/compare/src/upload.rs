//! A large file as base64 in a JSON body: streamed by this library, made whole in memory and sent by the same
//! ureq, and encoded beforehand and sent by curl.

use std::ffi::OsString;
use std::process::Command;

use crate::ROUNDS;
use crate::Result;
use crate::clients;
use crate::job::Job;
use crate::measure::{Run, least, most, run};
use crate::media::{Folder, MIB, MediaFile, write_encoded};
use crate::report::{Targets, cell};
use crate::service::Service;

const LEN: u64 = 512 * MIB;

/// One of the ways, and what its runs took.
struct Way {
    name: &'static str,
    words: Vec<OsString>,
    /// A client does a whole job, with one poll; the others have only the request to send.
    is_client: bool,
    runs: Vec<Run>,
}

impl Way {
    fn new(name: &'static str, words: &[OsString], is_client: bool) -> Self {
        Way {
            name,
            words: words.to_vec(),
            is_client,
            runs: vec![],
        }
    }

    fn run(&mut self, service: &Service, media: &MediaFile) -> Result<()> {
        let usage = if self.is_client {
            let job = Job {
                service,
                media,
                polls: 1,
            };
            job.run_under(&[], &self.words)?
        } else {
            service.take_counts();
            run(Command::new(&self.words[0]).args(&self.words[1..]))?.0
        };
        let received = service.take_counts().received;
        if !self.is_client && received < media.encoded_len() {
            return Err(format!("{}: only {received} bytes arrived", self.name).into());
        }
        self.runs.push(usage);
        Ok(())
    }

    fn seconds(&self) -> Option<f64> {
        least(self.runs.iter().map(|run| run.seconds))
    }

    /// In MiB.
    fn peak(&self) -> Option<f64> {
        most(self.runs.iter().map(|run| run.peak / MIB as f64))
    }
}

/// Runs all ways in turn, and prints a table.
pub fn compare(targets: &mut Targets) -> Result<()> {
    let (service, folder) = (Service::start()?, Folder::new()?);
    let media = folder.media(LEN)?;
    let encoded = folder.path("encoded");
    write_encoded(&media.path, &encoded)?;
    let mut ways = ways(&service, &media, encoded.into())?;
    for round in 1..=ROUNDS {
        for way in &mut ways {
            eprintln!("upload, round {round}: {}", way.name);
            way.run(&service, &media)?;
        }
    }
    let base = ways.last().ok_or("nothing to compare with")?;
    println!(
        "| upload of {} MiB | time | peak memory |\n|---|--:|--:|",
        LEN / MIB
    );
    for way in &ways {
        let time = cell(way.seconds(), base.seconds(), 3, " s");
        let peak = cell(way.peak(), base.peak(), 1, " MiB");
        println!("| {} |{time}{peak}", way.name);
    }
    println!();
    for way in &ways[..2] {
        let what = format!("peak memory of an upload in MiB, {}", way.name);
        targets.at_most(&what, way.peak().unwrap_or(f64::NAN), 4.0);
    }
    Ok(())
}

/// This library's two first, and curl last.
fn ways(service: &Service, media: &MediaFile, encoded: OsString) -> Result<Vec<Way>> {
    let url: OsString = service.base_url(1).into();
    let path: OsString = media.path.clone().into();
    let client = |folder| -> Result<[OsString; 4]> {
        let program = clients::program(folder)?.into();
        Ok([program, url.clone(), path.clone(), "1".into()])
    };
    let files = clients::program("ours-files")?.into();
    let generate = format!("{}/v1/agent/generate", service.base_url(1));
    let curl = [
        "curl",
        "--silent",
        "--show-error",
        "--fail",
        "--request",
        "POST",
    ];
    let mut curl = curl.map(OsString::from).to_vec();
    curl.extend(
        [
            "--header",
            "content-type: application/json",
            "--upload-file",
        ]
        .map(Into::into),
    );
    curl.extend([encoded, generate.into()]);
    Ok(vec![
        Way::new("this library, `generate`", &client("ours")?, true),
        Way::new(
            "this library, `upload`",
            &[files, "upload".into(), url.clone(), path.clone()],
            false,
        ),
        Way::new(
            "ureq: read, encode, serialize, send",
            &client("bare-ureq")?,
            true,
        ),
        Way::new("`curl --upload-file`, encoded beforehand", &curl, false),
    ])
}
