//! A TLS server on this machine with certificates made on the spot, and a client for it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bithuman::serde_json::json as value;
use bithuman::{Api, ApiBuilder, Clock, GenerateRequest};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ALL_VERSIONS, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::script::{Act, act, json};

pub const SECRET: &str = "sk-canary-0123456789abcdef";
pub const PROMPT: &str = "canary prompt 0123456789abcdef";
pub const PASSWORD: &str = "canary-password";

/// `user:canary-password` in base64.
pub const CREDENTIALS: &str = "dXNlcjpjYW5hcnktcGFzc3dvcmQ=";

pub const ID: &str = "A91XMB7113";

/// Certificates that are good today.
pub const NOW: Range<i32> = 2000..4000;

pub fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Real time, but for sleeps, which are skipped.
struct Skipping {
    start: Instant,
    skipped: Mutex<Duration>,
}

impl Clock for Skipping {
    fn now(&self) -> Duration {
        self.start.elapsed() + *self.skipped.lock().unwrap()
    }

    fn sleep(&self, time: Duration) {
        *self.skipped.lock().unwrap() += time;
    }
}

/// Has the server close the connection after its answer, without a word of TLS.
pub const CLOSE: &str = "connection: close\r\n";

/// A client of this base URL that sends once.
pub fn api_to(url: &str) -> ApiBuilder {
    let clock = Skipping { start: Instant::now(), skipped: Mutex::default() };
    Api::builder().secret(SECRET).base_url(url).retries(0).clock(Arc::new(clock))
}

pub fn request() -> GenerateRequest {
    GenerateRequest::new().prompt(PROMPT)
}

/// An issuer of certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        Authority::named(&format!("Authority {}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    pub fn key_pem(&self) -> String {
        self.0.key().serialize_pem()
    }

    /// A certificate for these names that is good in these years.
    pub fn issue(&self, names: &[&str], years: Range<i32>) -> Identity {
        let names: Vec<_> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Identity { chain: vec![certificate.der().clone()], key: key.serialize_der(), versions: ALL_VERSIONS.to_vec() }
    }

    /// A good certificate for this machine.
    pub fn here(&self) -> Identity {
        self.issue(&["127.0.0.1", "localhost"], NOW)
    }
}

/// What a server shows of itself.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl Identity {
    /// The same, with one version of TLS only.
    pub fn only(self, version: &'static SupportedProtocolVersion) -> Self {
        Identity { versions: vec![version], ..self }
    }

    fn config(self) -> Arc<ServerConfig> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_protocol_versions(&self.versions).unwrap().with_no_client_auth();
        Arc::new(config.with_single_cert(self.chain, PrivateKeyDer::try_from(self.key).unwrap()).unwrap())
    }
}

/// What a server answers to a request with this head.
pub type Answer = Arc<dyn Fn(&str) -> Vec<u8> + Send + Sync>;

/// The service at its best.
pub fn service(head: &str) -> Vec<u8> {
    if head.starts_with("POST ") {
        json(200, value!({"success": true, "message": "m", "agent_id": ID, "status": "processing"}))
    } else {
        json(200, value!({"success": true, "data": {"agent_id": ID, "status": "ready"}}))
    }
}

/// A server over TLS. Each connection shows the next identity; the last one stays.
pub struct Server {
    pub port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    connections: Arc<Mutex<usize>>,
}

impl Server {
    pub fn new(identities: impl IntoIterator<Item = Identity>) -> Self {
        Server::answering(identities, Arc::new(service))
    }

    pub fn answering(identities: impl IntoIterator<Item = Identity>, answer: Answer) -> Self {
        let configs: Vec<_> = identities.into_iter().map(Identity::config).collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (heads, connections) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(0)));
        let (hearing, counting) = (heads.clone(), connections.clone());
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                *counting.lock().unwrap() += 1;
                let config = configs.get(number).or(configs.last()).unwrap().clone();
                let (heads, answer) = (hearing.clone(), answer.clone());
                thread::spawn(move || {
                    let stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream.unwrap());
                    // The client may go at any time: that is its right.
                    let _ = serve(stream, &heads, &answer);
                });
            }
        });
        Server { port, heads, connections }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The heads of all requests that came through.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }
}

fn serve(mut stream: impl Read + Write, heads: &Mutex<Vec<String>>, answer: &Answer) -> io::Result<()> {
    loop {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        if head.contains("expect: 100-continue") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        io::copy(&mut (&mut stream).take(length.unwrap_or(0)), &mut io::sink())?;
        heads.lock().unwrap().push(head.clone());
        let answer = answer(&head);
        stream.write_all(&answer)?;
        stream.flush()?;
        if answer.windows(CLOSE.len()).any(|window| window == CLOSE.as_bytes()) {
            return Ok(());
        }
    }
}

/// A proxy that lets everyone through to this server, whatever host they ask for, and keeps what
/// they sent.
pub fn tunnel_to(server: &Server, sent: Arc<Mutex<Vec<u8>>>) -> Act {
    let port = server.port;
    act(move |c| {
        c.head();
        c.send("HTTP/1.1 200 Connection established\r\n\r\n");
        let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut back, mut client) = (server.try_clone().unwrap(), c.stream.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut back, &mut client));
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = c.stream.read(&mut bytes) {
            sent.lock().unwrap().extend_from_slice(&bytes[..n]);
            let _ = server.write_all(&bytes[..n]);
        }
    })
}
