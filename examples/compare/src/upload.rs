//! A large file as base64 in a JSON body: streamed by this library, made whole in memory and sent
//! by the same ureq, and encoded beforehand and sent by curl, which reads it whole or streams it.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bithuman::{Api, GenerateRequest, Media};
use serde_json::json;

use crate::Result;
use crate::measure::{Run, median, run};
use crate::sink::Sink;

const MIB: u64 = 1024 * 1024;
const SIZE: u64 = 256 * MIB;
const SMALL: u64 = MIB;

/// The library's way.
pub fn ours(url: &str, path: &str) -> Result<()> {
    let api = Api::builder().secret("secret").base_url(url).build()?;
    api.generate(&GenerateRequest::new().image(Media::file(path)))?;
    Ok(())
}

/// The way a client without this library would be written.
pub fn naive(url: &str, path: &str) -> Result<()> {
    let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
    let encoded = STANDARD.encode(fs::read(path)?);
    let body = serde_json::to_vec(&json!({"image": encoded}))?;
    agent.post(url).header("content-type", "application/json").header("api-secret", "secret").send(&body[..])?;
    Ok(())
}

/// One of the ways, and what its runs took.
struct Way {
    name: &'static str,
    command: Command,
    /// Not this executable.
    foreign: bool,
    /// The length of the file.
    len: u64,
    runs: Vec<Run>,
}

impl Way {
    fn own(name: &'static str, len: u64, args: [&str; 2], file: &Path) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.args(args).arg(file);
        Ok(Way { name, command, foreign: false, len, runs: vec![] })
    }

    fn curl(name: &'static str, url: &str, option: &str, file: String) -> Self {
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail", "--noproxy", "*", "--request", "POST"]);
        command.args(["--header", "content-type: application/json", option, &file, url]);
        Way { name, command, foreign: true, len: SIZE, runs: vec![] }
    }

    fn run(&mut self, sink: &Sink) -> Result<()> {
        self.runs.push(run(&mut self.command, self.foreign)?);
        let (received, expected) = (sink.received(), body_len(self.len));
        if received != expected {
            return Err(format!("{}: {received} bytes arrived instead of {expected}", self.name).into());
        }
        Ok(())
    }

    fn median(&self) -> Run {
        median(&self.runs)
    }
}

/// Runs them all in turn, prints a table, and tells whether the targets are reached.
pub fn compare(rounds: usize) -> Result<bool> {
    let folder = Folder::new()?;
    let [file, small, encoded] = ["file", "small", "encoded"].map(|name| folder.0.join(name));
    write_medium(&file, SIZE)?;
    write_medium(&small, SMALL)?;
    write_encoded(&file, &encoded)?;
    let sink = Sink::start()?;
    let url = &*sink.url;

    let mut ours = Way::own("ours: streamed", SIZE, ["upload-ours", url], &file)?;
    let mut naive = Way::own("read, encode, serialize, send", SIZE, ["upload-naive", url], &file)?;
    let mut ours_small = Way::own("ours, 1 MiB", SMALL, ["upload-ours", url], &small)?;
    let mut curls = vec![];
    if Command::new("curl").arg("--version").output().is_ok() {
        let encoded = encoded.display();
        curls.push(Way::curl("curl --data-binary, encoded before", url, "--data-binary", format!("@{encoded}")));
        curls.push(Way::curl("curl --upload-file, encoded before", url, "--upload-file", format!("{encoded}")));
    }
    for _ in 0..rounds {
        for way in [&mut ours, &mut naive].into_iter().chain(&mut curls).chain([&mut ours_small]) {
            way.run(&sink)?;
        }
    }

    println!("A file of {} MiB to a sink on this machine, medians of {rounds} rounds:\n", SIZE / MIB);
    println!("| way | time | MB/s | peak resident | time to ours | peak to ours |");
    println!("|---|--:|--:|--:|--:|--:|");
    let base = ours.median();
    for way in [&ours, &naive].into_iter().chain(&curls) {
        let Run { seconds, peak } = way.median();
        let (speed, mib) = (way.len as f64 / 1e6 / seconds, peak / MIB as f64);
        let (time_ratio, peak_ratio) = (seconds / base.seconds, peak / base.peak);
        println!("| {} | {seconds:.3} s | {speed:.0} | {mib:.1} MiB | {time_ratio:.2} | {peak_ratio:.1} |", way.name);
    }
    println!();

    let mut reached = true;
    let mut target = |what: &str, value: String, ok: bool| {
        println!("- {what}: {value}, {}", if ok { "reached" } else { "MISSED" });
        reached &= ok;
    };
    let (peak, small_peak) = (base.peak / MIB as f64, ours_small.median().peak / MIB as f64);
    target("peak of ours at most 4 MiB", format!("{peak:.2} MiB"), peak <= 4.0);
    let value = format!("{small_peak:.2} MiB");
    target("the same within 0.25 MiB for a file of 1 MiB", value, (peak - small_peak).abs() <= 0.25);
    let speed = naive.median().seconds / base.seconds;
    target("at least 5 times as fast as read, encode, serialize", format!("{speed:.2}"), speed >= 5.0);
    match curls.iter().map(|way| way.median().seconds).reduce(f64::min).map(|seconds| seconds / base.seconds) {
        Some(speed) => target("at least 0.6 times as fast as the faster curl", format!("{speed:.2}"), speed >= 0.6),
        None => println!("- curl is not installed"),
    }
    Ok(reached)
}

/// The length of a request with a file of this length.
fn body_len(len: u64) -> u64 {
    r#"{"image":""}"#.len() as u64 + len.div_ceil(3) * 4
}

/// Bytes that are not all alike.
fn write_medium(path: &Path, len: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for n in 0..len / 8 {
        file.write_all(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())?;
    }
    Ok(file.flush()?)
}

/// The whole request, for who cannot encode.
fn write_encoded(from: &Path, to: &Path) -> Result<()> {
    let mut from = BufReader::new(File::open(from)?);
    let mut to = File::create(to)?;
    to.write_all(br#"{"image":""#)?;
    let mut encoder = base64::write::EncoderWriter::new(BufWriter::new(to), &STANDARD);
    io::copy(&mut from, &mut encoder)?;
    let mut to = encoder.finish()?;
    to.write_all(br#""}"#)?;
    Ok(to.flush()?)
}

/// A temporary folder that is gone with this value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("bithuman-compare-{}", process::id()));
        fs::create_dir(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
