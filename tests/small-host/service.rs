//! The service that the jobs ask: the mock server, and one that speaks TLS. Each request is a line
//! on stderr.

#[path = "../harness/mod.rs"]
mod harness;
#[path = "../mock_server/mod.rs"]
mod mock_server;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tls-and-logs/server.rs"]
mod server;

use std::sync::Arc;
use std::thread;

use harness::{Server, accepted, act, status};
use mock_server::{ApiVersion, MockServer, Settings};
use server::Authority;

fn main() {
    let mut defaults = Settings::from(ApiVersion::Current);
    defaults.storage.file = Arc::new(vec![7; 32 << 20]);
    let http = MockServer::start(Settings {
        log: |line| eprintln!("{line}"),
        ..defaults
    });
    let authority = Authority::new();
    let identity = authority.here();
    let play = act(|c| {
        while let Some(request) = c.request() {
            eprintln!("{} {} 200", request.method, request.target);
            match &*request.method {
                "POST" => c.send(accepted()),
                _ => c.send(status("ready")),
            }
        }
    });
    let https = Server::new([server::tls(identity, play)]);
    println!("secret={}", mock_server::SECRET);
    println!("http={}", http.base_url());
    println!("https={}", server::https(&https));
    println!("roots='{}'", authority.pem());
    println!("# END");
    loop {
        thread::park();
    }
}
