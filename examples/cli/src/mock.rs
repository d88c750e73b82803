//! The mock server of the library's tests, as a process of its own.

#[path = "../../../tests/mock_server/mod.rs"]
pub mod mock_server;

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use bithuman::serde_json::json;
use mock_server::{ApiVersion, ErrorShape, MockServer, SECRET, Settings, StorageSettings};

use crate::args::{Common, Mock};
use crate::failure::Failure;
use crate::files::why;
use crate::output;
use crate::progress::clean;

/// Runs the mock server until the process ends.
pub fn run(mock: &Mock, common: &Common) -> Result<u8, Failure> {
    let mut settings = settings(mock);
    if !common.quiet {
        settings.log = log;
    }
    let mut listener = None;
    if let Some(port) = mock.port {
        listener = Some(listen(port)?);
        settings.storage.listener = Some(Arc::new(listen(port + 1)?));
    }
    let server = MockServer::start(settings);
    let mut url = server.base_url();
    if let (Some(port), Some(listener)) = (mock.port, listener) {
        relay(listener, url.trim_start_matches("http://"));
        url = format!("http://127.0.0.1:{port}");
    }
    let variables = format!("BITHUMAN_API_BASE={url} BITHUMAN_API_SECRET={SECRET}");
    output::print(
        common,
        &variables,
        &json!({"base_url": url, "secret": SECRET}),
    )?;
    loop {
        thread::park();
    }
}

fn settings(mock: &Mock) -> Settings {
    let defaults = Settings::from(match &*mock.version {
        "2025" => ApiVersion::V2025,
        _ => ApiVersion::Current,
    });
    Settings {
        fail_all: mock.fail,
        rate_limit: mock.rate_limit,
        generation_time: mock.slow,
        balance: mock.balance.unwrap_or(defaults.balance),
        plan: if mock.plan == "free" { "free" } else { "pro" },
        error_shape: mock.error_shape.as_deref().map(error_shape),
        storage: StorageSettings {
            file: Arc::new(vec![7; mock.file_size as usize]),
            pause: mock.file_pause.unwrap_or_default(),
            breaks_after: mock.file_break,
            ..StorageSettings::default()
        },
        file_delay: mock.file_delay,
        ..defaults
    }
}

fn error_shape(name: &str) -> ErrorShape {
    match name {
        "2025" => ErrorShape::V2025,
        "older" => ErrorShape::Older,
        "current" => ErrorShape::Current,
        _ => ErrorShape::Gateway,
    }
}

fn log(line: &str) {
    let _ = writeln!(io::stderr(), "{}", clean(line));
}

fn listen(port: u16) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", port));
    listener.map_err(|reason| {
        let reason = why(&reason);
        Failure::Usage(format!("port {port} on localhost: {reason}"))
    })
}

/// Passes on what comes to another port: the mock server chooses its own.
fn relay(listener: TcpListener, server: &str) {
    let server = server.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if let Ok(server) = TcpStream::connect(&server) {
                let _ = copy_both_ways(client, server);
            }
        }
    });
}

fn copy_both_ways(client: TcpStream, server: TcpStream) -> io::Result<()> {
    let directions = [(client.try_clone()?, server.try_clone()?), (server, client)];
    for (mut from, mut to) in directions {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
