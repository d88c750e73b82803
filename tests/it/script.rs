//! A scripted server over raw TCP, for what no well-behaved server does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bithuman::serde_json::Value;

/// What one connection does. The connection is dropped when it returns.
pub type Act = Box<dyn Fn(&mut Connection) + Send + Sync>;

pub fn act(act: impl Fn(&mut Connection) + Send + Sync + 'static) -> Act {
    Box::new(act)
}

/// A server that plays one act per connection; the last one stays.
pub struct Script {
    pub url: String,
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    connections: Arc<Mutex<usize>>,
}

/// A request, or as much of one as was read.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    pub connection: usize,
    pub head: String,
    pub body: Vec<u8>,
}

impl Heard {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (header, value) = line.split_once(": ")?;
            header.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn content_length(&self) -> usize {
        self.header("content-length").map_or(0, |length| length.parse().unwrap())
    }
}

impl Script {
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Script::on(TcpListener::bind("127.0.0.1:0").unwrap(), acts)
    }

    pub fn on(listener: TcpListener, acts: impl IntoIterator<Item = Act>) -> Self {
        let acts: Vec<Act> = acts.into_iter().collect();
        let address = listener.local_addr().unwrap();
        let (heard, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (hearing, counting) = (heard.clone(), connections.clone());
        let acts = Arc::new(acts);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                *counting.lock().unwrap() += 1;
                let (acts, heard) = (acts.clone(), hearing.clone());
                // A thread each: an act may hold its connection while the next one comes.
                thread::spawn(move || {
                    let act = acts.get(number).or(acts.last()).expect("a script without acts is not to be asked");
                    act(&mut Connection { number, stream: stream.unwrap(), heard });
                });
            }
        });
        Script { url: format!("http://{address}"), address, heard, connections }
    }

    /// The requests so far, in the order in which their heads arrived.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    /// The connections, those included that were made a moment ago and sent nothing.
    pub fn settled(&self) -> usize {
        thread::sleep(Duration::from_millis(20));
        self.connections()
    }

    /// The idempotency keys of all requests, each once.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<_> =
            self.heard().iter().filter_map(|h| h.header("idempotency-key").map(String::from)).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

/// One connection of a [`Script`].
pub struct Connection {
    pub number: usize,
    pub stream: TcpStream,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Connection {
    /// Reads the head of a request and notes it. `None` if the client is gone.
    pub fn head(&mut self) -> Option<Heard> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read(&mut byte).unwrap_or(0) == 0 {
                return None;
            }
            head.push(byte[0]);
        }
        let heard = Heard { connection: self.number, head: String::from_utf8(head).unwrap(), body: Vec::new() };
        self.heard.lock().unwrap().push(heard.clone());
        Some(heard)
    }

    /// Reads so much of the body of the request last noted, or less if the client is gone.
    pub fn body(&mut self, length: usize) -> Vec<u8> {
        let mut body = Vec::new();
        let _ = (&mut self.stream).take(length as u64).read_to_end(&mut body);
        let mut heard = self.heard.lock().unwrap();
        let last = heard.iter_mut().rev().find(|heard| heard.connection == self.number).unwrap();
        last.body.extend_from_slice(&body);
        body
    }

    /// Reads a whole request.
    pub fn request(&mut self) -> Option<Heard> {
        let mut heard = self.head()?;
        heard.body = self.body(heard.content_length());
        Some(heard)
    }

    /// Reads a whole request but for its last byte, so that dropping the connection resets it: the
    /// client has handed everything over and gets no answer.
    pub fn all_but_the_last_byte(&mut self) {
        if let Some(heard) = self.head() {
            self.body(heard.content_length() - 1);
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The client may be gone: that is its right.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Answers every request of this connection alike until the client is gone.
    #[allow(dead_code, reason = "for the tests of TLS, in a crate of their own")]
    pub fn answer_all(&mut self, answer: impl AsRef<[u8]>) {
        while self.request().is_some() {
            self.send(&answer);
        }
    }

    /// Waits until the client is gone, at most 10 s.
    pub fn hold(&mut self) {
        self.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut rest = [0; 4096];
        while self.stream.read(&mut rest).unwrap_or(0) > 0 {}
    }
}

/// A whole HTTP answer.
pub fn http(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut answer =
        format!("HTTP/1.1 {status} Scripted\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    answer.extend_from_slice(body);
    answer
}

pub fn json(status: u16, body: Value) -> Vec<u8> {
    http(status, "content-type: application/json\r\n", body.to_string())
}
