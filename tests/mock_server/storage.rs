//! The storage of model files: a server of its own on another port, which knows no secret.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How a storage behaves. Default: as an object store does, with an empty file.
#[derive(Clone, Default)]
pub struct StorageSettings {
    /// Where it listens. Default: on a free port of localhost.
    pub listener: Option<Arc<TcpListener>>,
    pub file: Arc<Vec<u8>>,
    pub validator: Validator,
    /// Whether every response has the whole file.
    pub ignores_range: bool,
    /// Whether `If-Range` is not compared.
    pub ignores_if_range: bool,
    /// Each response breaks off after so many bytes of the body.
    pub breaks_after: Option<usize>,
    /// The pause before each 64 KiB.
    pub pause: Duration,
    /// How many requests a signed URL is good for. Default: any number.
    pub uses: Option<usize>,
    /// Whether every response is a web page, with status 200.
    pub serves_html: bool,
}

/// What says whether two responses have the same file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Validator {
    #[default]
    Strong,
    Weak,
    Missing,
}

/// A request, and what became of it.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub target: String,
    /// The request line and the headers.
    pub head: String,
    pub status: u16,
    /// The first byte that was sent.
    pub start: usize,
    /// How many bytes of the file were sent.
    pub sent: usize,
}

/// A running storage, until the program ends.
#[derive(Clone)]
pub struct Storage {
    url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    settings: StorageSettings,
    /// The requests that each signature was used for.
    signatures: Vec<usize>,
    requests: Vec<Fetched>,
}

impl Storage {
    pub fn start(settings: StorageSettings) -> Self {
        let listener = settings.listener.clone().unwrap_or_else(|| {
            let listener = TcpListener::bind("127.0.0.1:0");
            Arc::new(listener.expect("a free port"))
        });
        let address = listener.local_addr().expect("an address");
        let storage = Storage {
            url: format!("http://{address}/models/file.imx"),
            state: Arc::default(),
        };
        storage.lock().settings = settings;
        let server = storage.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                // An error is the client's going away.
                thread::spawn(move || drop(server.serve(stream)));
            }
        });
        storage
    }

    /// Returns a new URL, which is a credential.
    pub fn sign(&self) -> String {
        let mut state = self.lock();
        state.signatures.push(0);
        format!("{}?signature=s{}", self.url, state.signatures.len() - 1)
    }

    /// Returns the URL that needs no signature.
    pub fn public_url(&self) -> String {
        self.url.clone()
    }

    /// Behaves in another way from now on.
    pub fn change(&self, change: impl FnOnce(&mut StorageSettings)) {
        change(&mut self.lock().settings);
    }

    pub fn requests(&self) -> Vec<Fetched> {
        self.lock().requests.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Responds to one request, and closes the connection.
    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut head = String::new();
        let mut reader = BufReader::new(stream.try_clone()?);
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let (settings, number, plan) = {
            let mut state = self.lock();
            let is_good = state.uses_signature(&target);
            let plan = plan(&state.settings, &head, is_good);
            state.requests.push(Fetched {
                target,
                head,
                status: plan.status,
                start: plan.start,
                sent: 0,
            });
            (state.settings.clone(), state.requests.len() - 1, plan)
        };
        stream.write_all(plan.head.as_bytes())?;
        let body = &plan.body[..plan
            .body
            .len()
            .min(settings.breaks_after.unwrap_or(usize::MAX))];
        for piece in body.chunks(64 * 1024) {
            thread::sleep(settings.pause);
            stream.write_all(piece)?;
            self.lock().requests[number].sent += piece.len();
        }
        Ok(())
    }
}

impl State {
    /// Counts a use of the signature, and returns whether it was allowed. The public URL has none.
    fn uses_signature(&mut self, target: &str) -> bool {
        let most = self.settings.uses.unwrap_or(usize::MAX);
        if !target.contains('?') {
            return true;
        }
        let number = target.rsplit_once("?signature=s");
        let number = number.and_then(|(_, number)| number.parse::<usize>().ok());
        let Some(uses) = number.and_then(|number| self.signatures.get_mut(number)) else {
            return false;
        };
        *uses += 1;
        *uses <= most
    }
}

/// What to send.
struct Plan {
    status: u16,
    head: String,
    start: usize,
    body: Vec<u8>,
}

fn plan(settings: &StorageSettings, head: &str, is_signed: bool) -> Plan {
    let file = &settings.file;
    let etag = etag(settings);
    let page = |status: u16, text: &str| Plan {
        status,
        head: head_of(status, text.len(), "content-type: text/html\r\n"),
        start: 0,
        body: text.into(),
    };
    if !is_signed {
        return page(403, "<Error><Code>AccessDenied</Code></Error>");
    }
    if settings.serves_html {
        return page(200, "<html><title>Log in</title></html>");
    }
    let asked = header(head, "range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    let condition = header(head, "if-range");
    let holds = settings.ignores_if_range || condition.is_none_or(|it| Some(it) == etag.as_deref());
    let etag = etag.map_or(String::new(), |etag| format!("etag: {etag}\r\n"));
    match asked.filter(|_| holds && !settings.ignores_range) {
        Some(start) if start >= file.len() => page(416, ""),
        Some(start) => {
            let (last, total) = (file.len() - 1, file.len());
            let range = format!("{etag}content-range: bytes {start}-{last}/{total}\r\n");
            Plan {
                status: 206,
                head: head_of(206, total - start, &range),
                start,
                body: file[start..].into(),
            }
        }
        None => Plan {
            status: 200,
            head: head_of(200, file.len(), &etag),
            start: 0,
            body: file.to_vec(),
        },
    }
}

/// The validator of the file: of its length and some of its bytes.
fn etag(settings: &StorageSettings) -> Option<String> {
    let file = &settings.file;
    let sample: u64 = file.iter().step_by(997).map(|byte| u64::from(*byte)).sum();
    let tag = format!("\"{:x}-{sample:x}\"", file.len());
    match settings.validator {
        Validator::Strong => Some(tag),
        Validator::Weak => Some(format!("W/{tag}")),
        Validator::Missing => None,
    }
}

fn head_of(status: u16, length: usize, headers: &str) -> String {
    format!(
        "HTTP/1.1 {status} Mock\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n"
    )
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    for line in head.lines() {
        if let Some((header, value)) = line.split_once(": ")
            && header.eq_ignore_ascii_case(name)
        {
            return Some(value);
        }
    }
    None
}
