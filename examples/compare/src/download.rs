//! A model file from a storage on this machine to its disk, by this library and by `curl -C -`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::Result;
use crate::clients;
use crate::measure::{Run, median, run};
use crate::media::{Folder, MIB};
use crate::report::{Targets, setting};

const LEN: u64 = 512 * MIB;

/// Serves a file, and names its URL, until the process ends.
fn serve(path: PathBuf) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let origin = format!("http://{}", listener.local_addr()?);
    let url = format!("{origin}/a.imx");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (path, url) = (path.clone(), url.clone());
            // A connection that breaks off is reported by its client.
            thread::spawn(move || respond(stream, &path, &url));
        }
    });
    Ok(origin)
}

/// Responds to one request.
fn respond(mut stream: TcpStream, path: &Path, url: &str) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut target, mut start) = (String::new(), None);
    reader.read_line(&mut target)?;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let range = line.to_ascii_lowercase();
        let range = range.strip_prefix("range: bytes=");
        if let Some(range) = range {
            start = range.trim().trim_end_matches('-').parse().ok();
        }
    }
    if !target.starts_with("GET /a.imx") {
        let body = format!(
            r#"{{"success":true,"data":{{"code":"A91XMB7113","model":"essence-2","url":"{url}"}}}}"#
        );
        let len = body.len();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
        return stream.write_all((head + &body).as_bytes());
    }
    let from = start.unwrap_or(0_u64);
    let mut head = "HTTP/1.1 200 OK\r\n".to_owned();
    if start.is_some() {
        head = format!(
            "HTTP/1.1 206 Partial\r\nContent-Range: bytes {from}-{}/{LEN}\r\n",
            LEN - 1
        );
    }
    head += &format!(
        "ETag: \"v1\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        LEN - from
    );
    stream.write_all(head.as_bytes())?;
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    io::copy(&mut file.take(LEN - from), &mut stream)?;
    Ok(())
}

/// Runs a download from nothing, and checks what came.
fn download(command: &mut Command, served: &Path, path: &Path) -> Result<Run> {
    let _ = fs::remove_file(path);
    let (taken, _) = run(command)?;
    let is_same = Command::new("cmp")
        .args(["-s".as_ref(), served, path])
        .status()?;
    match is_same.success() {
        true => Ok(taken),
        false => Err(format!("{command:?}: other bytes").into()),
    }
}

/// Runs both in turn, prints a table, and tells whether the targets are reached.
pub fn compare(rounds: usize) -> Result<bool> {
    let folder = Folder::new()?;
    let served = folder.medium(LEN)?.path;
    let origin = serve(served.clone())?;
    let path = folder.path("a.imx");
    let mut ours = Command::new(clients::program("ours-download")?);
    ours.arg(&origin).arg(&path);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "-C", "-", "-o"])
        .arg(&path);
    curl.arg(format!("{origin}/a.imx"));
    let curl_version = clients::curl_version().ok_or("curl is not installed")?;
    let (mut of_ours, mut of_curl) = (vec![], vec![]);
    for _ in 0..rounds {
        of_ours.push(download(&mut ours, &served, &path)?);
        of_curl.push(download(&mut curl, &served, &path)?);
    }
    println!(
        "A file of {} MiB to the disk, medians of {rounds} rounds:\n",
        LEN / MIB
    );
    println!("| way | time | MB/s | CPU | peak resident |\n|---|--:|--:|--:|--:|");
    let middle =
        |runs: &[Run], of: fn(&Run) -> f64| median(runs.iter().map(of)).unwrap_or(f64::NAN);
    for (name, runs) in [
        ("ours, synced to the disk", &of_ours),
        ("curl -C -", &of_curl),
    ] {
        let seconds = middle(runs, |run| run.seconds);
        let cpu = middle(runs, |run| run.cpu_micros / 1e6);
        let peak = middle(runs, |run| run.peak / MIB as f64);
        let speed = LEN as f64 / 1e6 / seconds;
        println!("| {name} | {seconds:.3} s | {speed:.0} | {cpu:.3} s | {peak:.1} MiB |");
    }
    println!("\n{}; {curl_version}.\n", setting());
    let mut targets = Targets::new();
    let peak = middle(&of_ours, |run| run.private / MIB as f64);
    targets.check(
        "own memory of ours at most 4 MiB",
        &format!("{peak:.2} MiB"),
        peak <= 4.0,
    );
    let seconds = |runs: &[Run]| middle(runs, |run| run.seconds);
    let ratio = seconds(&of_ours) / seconds(&of_curl);
    let what = "time of ours at most 3 times that of curl, which syncs nothing";
    targets.check(what, &format!("{ratio:.2}"), ratio <= 3.0);
    Ok(targets.are_reached())
}
