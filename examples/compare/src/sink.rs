//! A server that takes in a request, throws it away and accepts.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

pub struct Sink {
    pub url: String,
    received: Arc<AtomicU64>,
}

impl Sink {
    /// Serves one connection after the other until the process ends.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let sink = Sink { url: format!("http://{}", listener.local_addr()?), received: Arc::default() };
        let received = sink.received.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // One that breaks off is reported by its client.
                if let Ok(len) = stream.and_then(|stream| take(&stream)) {
                    received.store(len, Ordering::Relaxed);
                }
            }
        });
        Ok(sink)
    }

    /// The length of the last body that came whole.
    pub fn received(&self) -> u64 {
        self.received.swap(0, Ordering::Relaxed)
    }
}

fn take(mut stream: &TcpStream) -> io::Result<u64> {
    let mut reader = BufReader::with_capacity(256 * 1024, stream);
    let (mut len, mut expects, mut line) = (0, false, String::new());
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", value)) => len = value.parse().map_err(io::Error::other)?,
            Some(("expect", "100-continue")) => expects = true,
            _ => {}
        }
    }
    if expects {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut left = len;
    while left > 0 {
        let n = left.min(reader.fill_buf()?.len() as u64);
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        reader.consume(n as usize);
        left -= n;
    }
    let answer = r#"{"success":true,"agent_id":"A1","status":"processing"}"#;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    stream.write_all((head + answer).as_bytes())?;
    Ok(len)
}
