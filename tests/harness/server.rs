//! A scripted server over TCP, for what no well-behaved server does.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use bithuman::ApiBuilder;

use super::{FakeClock, Request, real_api, service_error};

/// What one connection does. The connection is dropped when it returns.
pub type Act = Box<dyn Fn(&mut Connection) + Send + Sync>;

pub fn act(act: impl Fn(&mut Connection) + Send + Sync + 'static) -> Act {
    Box::new(act)
}

/// Reads a request and replies to it: a [`Reply`](super::Reply), or any bytes.
pub fn reply(reply: impl Into<Vec<u8>>) -> Act {
    replies_on_one_connection([reply])
}

/// One connection for each of these replies.
pub fn replies<R: Into<Vec<u8>>>(replies: impl IntoIterator<Item = R>) -> Vec<Act> {
    replies.into_iter().map(reply).collect()
}

pub fn replies_on_one_connection<R: Into<Vec<u8>>>(replies: impl IntoIterator<Item = R>) -> Act {
    let replies: Vec<Vec<u8>> = replies.into_iter().map(Into::into).collect();
    act(move |c| {
        for reply in &replies {
            if c.request().is_some() {
                c.send(&**reply);
            }
        }
    })
}

/// Reads a request and closes the connection.
pub fn closes() -> Act {
    act(|c| {
        c.request();
    })
}

/// Reads a request and resets the connection.
pub fn resets() -> Act {
    act(|c| c.all_but_the_last_byte())
}

/// Reads a request and says nothing.
pub fn stalls() -> Act {
    act(|c| {
        c.request();
        c.stall();
    })
}

/// A server that plays one act for each connection; the last one stays.
pub struct Server {
    pub url: String,
    pub address: SocketAddr,
    pub clock: Arc<FakeClock>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    log: Mutex<Log>,
    ended: Mutex<bool>,
    ending: Condvar,
}

#[derive(Default)]
struct Log {
    requests: Vec<Request>,
    connections: usize,
    preflights: usize,
}

impl Server {
    /// Starts it, with a clock of real time and skipped sleeps.
    pub fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Server::on(TcpListener::bind("127.0.0.1:0").unwrap(), acts)
    }

    pub fn on(listener: TcpListener, acts: impl IntoIterator<Item = Act>) -> Self {
        let acts: Arc<Vec<Act>> = Arc::new(acts.into_iter().collect());
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let clock = FakeClock::real();
        let (accepting, time) = (shared.clone(), clock.clone());
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (acts, shared, clock) = (acts.clone(), accepting.clone(), time.clone());
                let stream = stream.unwrap();
                shared.log.lock().unwrap().connections += 1;
                // A thread each: an act may hold its connection while the next one comes.
                thread::spawn(move || {
                    let act = acts.get(number).or(acts.last());
                    let act = act.expect("no connection was expected");
                    act(&mut Connection {
                        number,
                        layer: Box::new(stream.try_clone().unwrap()),
                        stream,
                        clock,
                        shared,
                    });
                });
            }
        });
        Server {
            url: format!("http://{address}"),
            address,
            clock,
            shared,
        }
    }

    /// A client on this server's clock, with the default number of retries.
    pub fn builder(&self) -> ApiBuilder {
        real_api(&self.url).clock(self.clock.clone())
    }

    /// The requests so far, without preflights, in the order in which their heads arrived.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log.lock().unwrap().requests.clone()
    }

    /// The requests after this many.
    pub fn requests_from(&self, start: usize) -> Vec<Request> {
        self.shared.log.lock().unwrap().requests[start..].to_vec()
    }

    pub fn preflights(&self) -> usize {
        self.shared.log.lock().unwrap().preflights
    }

    /// How many connections there were, those included that were just made and sent nothing.
    pub fn connections(&self) -> usize {
        thread::sleep(Duration::from_millis(20));
        self.shared.log.lock().unwrap().connections
    }

    /// The idempotency keys of all requests, each once.
    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for request in self.requests() {
            keys.extend(request.header("idempotency-key").map(String::from));
        }
        keys.sort();
        keys.dedup();
        keys
    }
}

/// Lets go of the connections that stall.
impl Drop for Server {
    fn drop(&mut self) {
        *self.shared.ended.lock().unwrap() = true;
        self.shared.ending.notify_all();
    }
}

/// One connection of a [`Server`].
pub struct Connection {
    pub number: usize,
    pub stream: TcpStream,
    /// The server's.
    pub clock: Arc<FakeClock>,
    /// What requests are read from and replies are sent to.
    layer: Box<dyn Layer>,
    shared: Arc<Shared>,
}

/// TCP, or TLS over it.
pub trait Layer: Read + Write {}

impl<T: Read + Write> Layer for T {}

impl Connection {
    /// Speaks through this from now on.
    pub fn speak_through(&mut self, layer: impl Layer + 'static) {
        self.layer = Box::new(layer);
    }

    /// Reads the head of a request. Replies to a preflight by itself, with a 404, and reads on.
    /// `None` if the client is gone.
    pub fn head(&mut self) -> Option<Request> {
        let request = self.head_but_the_last_byte()?;
        self.last_byte();
        Some(request)
    }

    /// Reads the head of a request, which may be a preflight.
    pub fn any_head(&mut self) -> Option<Request> {
        let request = self.read_head()?;
        self.last_byte();
        self.log().requests.push(request.clone());
        Some(request)
    }

    /// Reads up to this much of the body of the last request.
    pub fn body(&mut self, length: usize) -> Vec<u8> {
        let mut body = Vec::new();
        let _ = (&mut self.layer).take(length as u64).read_to_end(&mut body);
        let mut log = self.log();
        let mut requests = log.requests.iter_mut().rev();
        let last = requests.find(|request| request.connection == self.number);
        // The client may have gone before its first request.
        if let Some(last) = last {
            last.body.extend_from_slice(&body);
        }
        body
    }

    /// Reads a whole request.
    pub fn request(&mut self) -> Option<Request> {
        let mut request = self.head()?;
        request.body = self.body(request.content_length());
        Some(request)
    }

    /// Reads a whole request but for its last byte, so that dropping the connection resets it: the
    /// client has sent everything and gets no response.
    pub fn all_but_the_last_byte(&mut self) {
        let request = self.head_but_the_last_byte().unwrap_or_default();
        if request.content_length() > 0 {
            self.last_byte();
            self.body(request.content_length() - 1);
        }
    }

    fn head_but_the_last_byte(&mut self) -> Option<Request> {
        loop {
            let request = self.read_head()?;
            if !request.is_preflight() {
                self.log().requests.push(request.clone());
                return Some(request);
            }
            self.last_byte();
            self.log().preflights += 1;
            self.send(service_error(404, "AGENT_NOT_FOUND"));
        }
    }

    fn read_head(&mut self) -> Option<Request> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r") {
            if self.layer.read(&mut byte).unwrap_or(0) == 0 {
                return None;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head);
        let mut lines = head.trim_end().split("\r\n");
        let mut request_line = lines.next()?.split(' ').map(String::from);
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        Some(Request {
            connection: self.number,
            method: request_line.next()?,
            target: request_line.next()?,
            headers: lines.filter_map(header).collect(),
            body: Vec::new(),
        })
    }

    fn last_byte(&mut self) {
        let _ = self.layer.read(&mut [0]);
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.shared.log.lock().unwrap()
    }

    /// Sends a [`Reply`](super::Reply), or any bytes.
    pub fn send(&mut self, bytes: impl Into<Vec<u8>>) {
        // The client may be gone: that is its right.
        let _ = self.layer.write_all(&bytes.into());
        let _ = self.layer.flush();
    }

    /// Sends this again and again until the client is gone, every 20 ms for at most 5 s.
    pub fn drip(&mut self, piece: &str) {
        for _ in 0..250 {
            if self.stream.write_all(piece.as_bytes()).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends this again and again as fast as the client reads, at most this much. Returns how much
    /// it was.
    pub fn pour(&mut self, piece: &[u8], most: usize) -> usize {
        let block = piece.repeat(64 * 1024 / piece.len());
        let mut sent = 0;
        while sent < most && self.stream.write_all(&block).is_ok() {
            sent += block.len();
        }
        sent
    }

    /// Gives every request this reply until the client is gone.
    pub fn reply_to_all(&mut self, reply: impl Into<Vec<u8>>) {
        let reply = reply.into();
        while self.request().is_some() {
            self.send(&*reply);
        }
    }

    /// Reads until the client is gone, at most 10 s.
    pub fn hold(&mut self) {
        let limit = Some(Duration::from_secs(10));
        self.stream.set_read_timeout(limit).unwrap();
        let mut rest = [0; 4096];
        while self.stream.read(&mut rest).unwrap_or(0) > 0 {}
    }

    /// Keeps the connection open and reads nothing until the server is dropped, at most 20 s.
    pub fn stall(&self) {
        let ended = self.shared.ended.lock().unwrap();
        let limit = Duration::from_secs(20);
        let stalled = self
            .shared
            .ending
            .wait_timeout_while(ended, limit, |ended| !*ended);
        drop(stalled);
    }
}
