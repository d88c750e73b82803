//! A model file from a storage on localhost to the disk, by this library and by `curl -C -`.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::ROUNDS;
use crate::Result;
use crate::clients;
use crate::measure::{Run, least, most, run};
use crate::media::{Folder, MIB};
use crate::report::{Targets, cell};

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
    let (usage, _) = run(command)?;
    let is_same = Command::new("cmp")
        .args(["-s".as_ref(), served, path])
        .status()?;
    match is_same.success() {
        true => Ok(usage),
        false => Err(format!("{command:?}: other bytes").into()),
    }
}

/// Runs all in turn, and prints a table.
pub fn compare(targets: &mut Targets) -> Result<()> {
    let folder = Folder::new()?;
    let served = folder.media(LEN)?.path;
    let origin = serve(served.clone())?;
    let path = folder.path("a.imx");
    let mut ours = Command::new(clients::program("ours-files")?);
    ours.arg("download").arg(&origin).arg(&path);
    // This library syncs what it writes.
    let curl = "curl --silent --show-error --fail -C - -o \"$0\" \"$1\"";
    let mut shell = [curl.to_owned(), format!("{curl} && sync \"$0\"")].map(|line| {
        let mut shell = Command::new("sh");
        let url = format!("{origin}/a.imx");
        shell.args(["-c", &line]).arg(&path).arg(url);
        shell
    });
    let [curl, synced] = &mut shell;
    let mut ways = [
        ("this library, synced to the disk", &mut ours, vec![]),
        ("`curl -C -`, then `sync FILE`", synced, vec![]),
        ("`curl -C -`", curl, vec![]),
    ];
    for round in 1..=ROUNDS {
        for (name, command, runs) in &mut ways {
            eprintln!("download, round {round}: {name}");
            runs.push(download(command, &served, &path)?);
        }
    }
    println!(
        "| download of {} MiB | time | peak memory | private |",
        LEN / MIB
    );
    println!("|---|--:|--:|--:|");
    let time = |way: usize| least(ways[way].2.iter().map(|run| run.seconds));
    let peak = |way: usize| most(ways[way].2.iter().map(|run| run.peak / MIB as f64));
    let private = |way: usize| most(ways[way].2.iter().map(|run| run.private / MIB as f64));
    for (n, (name, ..)) in ways.iter().enumerate() {
        let cells = [
            cell(time(n), time(2), 3, " s"),
            cell(peak(n), peak(2), 2, " MiB"),
            cell(private(n), private(2), 2, " MiB"),
        ];
        println!("| {name} |{}", cells.concat());
    }
    println!();
    let peak = peak(0).unwrap_or(f64::NAN);
    targets.at_most("peak memory of a download in MiB", peak, 4.0);
    Ok(())
}
