//! A TLS server on localhost, with certificates made on the spot.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bithuman::serde_json::json;
use bithuman::{ApiBuilder, GenerateRequest};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ALL_VERSIONS, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use crate::harness::*;

pub const PROMPT: &str = "canary prompt 0123456789abcdef";
pub const PASSWORD: &str = "canary-password";

/// `user:canary-password` in base64.
pub const CREDENTIALS: &str = "dXNlcjpjYW5hcnktcGFzc3dvcmQ=";

/// Certificates that are good today.
pub const NOW: Range<i32> = 2000..4000;

pub fn request() -> GenerateRequest {
    GenerateRequest::new().prompt(PROMPT)
}

/// A client that sends each request once, in real time with skipped sleeps.
pub fn client(url: &str) -> ApiBuilder {
    api(url).clock(FakeClock::real())
}

/// A client of `service.example` through this proxy, which wants a password.
pub fn client_through(proxy: &Server) -> ApiBuilder {
    client("https://service.example").proxy(format!("http://user:{PASSWORD}@{}", proxy.address))
}

/// An issuer of certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Authority::named(&format!("Authority {count}"))
    }

    pub fn named(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
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
        Identity {
            chain: vec![certificate.der().clone()],
            key: key.serialize_der(),
            versions: ALL_VERSIONS.to_vec(),
        }
    }

    /// A good certificate for localhost.
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
        let versions = vec![version];
        Identity { versions, ..self }
    }

    fn config(self) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(self.key).unwrap();
        Arc::new(config.with_single_cert(self.chain, key).unwrap())
    }
}

/// Has this done over TLS.
pub fn tls(identity: Identity, play: Act) -> Act {
    let config = identity.config();
    act(move |c| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        c.speak_through(StreamOwned::new(connection, c.stream.try_clone().unwrap()));
        play(c);
    })
}

/// The service at its best, over TLS.
pub fn good(identity: Identity) -> Server {
    let play = act(|c| {
        while let Some(request) = c.request() {
            match &*request.method {
                "POST" => c.send(accepted()),
                _ => c.send(status("ready")),
            }
        }
    });
    Server::new([tls(identity, play)])
}

/// The URL of a server that speaks TLS, or is to.
pub fn https(server: &Server) -> String {
    server.url.replace("http:", "https:")
}

/// A proxy that lets everyone through to this server, whatever host they ask for, and keeps what
/// they sent.
pub fn tunnel_to(server: &Server, sent: Arc<Mutex<Vec<u8>>>) -> Server {
    let address = server.address;
    Server::new([act(move |c| {
        c.head();
        c.send("HTTP/1.1 200 Connection established\r\n\r\n");
        let mut server = TcpStream::connect(address).unwrap();
        let (mut back, mut client) = (server.try_clone().unwrap(), c.stream.try_clone().unwrap());
        thread::spawn(move || io::copy(&mut back, &mut client));
        let mut bytes = [0; 4096];
        while let Ok(n @ 1..) = c.stream.read(&mut bytes) {
            sent.lock().unwrap().extend_from_slice(&bytes[..n]);
            let _ = server.write_all(&bytes[..n]);
        }
    })])
}

/// A proxy that wants a password and says what it got.
pub fn refusing_proxy() -> Server {
    let refusal = Reply::json(407, json!(PASSWORD)).header("x-echo", CREDENTIALS);
    let refusal: Vec<u8> = refusal.into();
    Server::new([act(move |c| {
        c.head();
        c.send(&*refusal);
    })])
}
