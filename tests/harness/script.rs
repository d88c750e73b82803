//! One server for all rows of a table: each call gets a script of its own.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bithuman::{ApiBuilder, Generation, Result};

use super::{Reply, Request, Server, act, small};

/// What the server does with one connection.
#[derive(Clone)]
pub enum Does {
    /// Reads the request, sends these bytes, and closes the connection.
    Reply(Vec<u8>),
    /// Takes the whole request, and resets the connection.
    Reset,
    /// Reads the request, sends these bytes, and then nothing.
    Stall(Vec<u8>),
}

impl From<Reply> for Does {
    /// The next request needs another connection, and so gets the next turn.
    fn from(reply: Reply) -> Self {
        Does::Reply(reply.close().into())
    }
}

impl From<&[u8]> for Does {
    fn from(bytes: &[u8]) -> Self {
        Does::Reply(bytes.into())
    }
}

impl fmt::Debug for Does {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Does::Reply(bytes) => write!(f, "{:.300}", String::from_utf8_lossy(bytes)),
            Does::Reset => write!(f, "a reset"),
            Does::Stall(bytes) => write!(f, "{}, then nothing", String::from_utf8_lossy(bytes)),
        }
    }
}

/// A server, and what it does with the next connections.
pub struct Script {
    pub server: Server,
    next: Arc<Mutex<VecDeque<Does>>>,
    /// The requests of earlier calls.
    seen: AtomicUsize,
}

/// What became of one call.
#[derive(Debug)]
pub struct Run<T> {
    pub result: T,
    pub requests: Vec<Request>,
    pub sleeps: Vec<Duration>,
}

impl Script {
    pub fn new() -> Self {
        let next = Arc::new(Mutex::new(VecDeque::new()));
        let script = next.clone();
        let server = Server::new([act(move |c| {
            let turn = {
                let mut script = script.lock().unwrap();
                match script.len() {
                    0 | 1 => script.front().cloned(),
                    _ => script.pop_front(),
                }
            };
            match turn.expect("a request was expected") {
                Does::Reset => c.all_but_the_last_byte(),
                Does::Reply(bytes) => {
                    c.request();
                    c.send(bytes);
                }
                Does::Stall(bytes) => {
                    c.request();
                    c.send(bytes);
                    c.hold();
                }
            }
        })]);
        Script {
            server,
            next,
            seen: AtomicUsize::new(0),
        }
    }

    /// A client on this server's clock, with the default number of retries.
    pub fn builder(&self, honored: bool) -> ApiBuilder {
        self.server.builder().honors_idempotency_keys(honored)
    }

    /// Makes a call, whose connections do these one after the other; the last one stays.
    pub fn run<T>(
        &self,
        turns: impl IntoIterator<Item = impl Into<Does>>,
        call: impl FnOnce() -> T,
    ) -> Run<T> {
        let slept = self.server.clock.sleeps().len();
        *self.next.lock().unwrap() = turns.into_iter().map(Into::into).collect();
        let result = call();
        let seen = self.seen.load(Ordering::Relaxed);
        let requests = self.server.requests_from(seen);
        self.seen.fetch_add(requests.len(), Ordering::Relaxed);
        Run {
            result,
            requests,
            sleeps: self.server.clock.sleeps().split_off(slept),
        }
    }

    /// Makes a small generate request.
    pub fn generate(
        &self,
        honored: bool,
        turns: impl IntoIterator<Item = impl Into<Does>>,
    ) -> Run<Result<Generation>> {
        let api = self.builder(honored).build().unwrap();
        self.run(turns, || api.generate(&small()))
    }
}
