//! A mock server for the tests and the examples: it speaks either version of the bitHuman API on
//! localhost, keeps an account, and checks the fields that this crate sends.

#![allow(
    dead_code,
    unused_imports,
    reason = "each program uses only a part of it"
)]

mod account;
mod agent;
mod rejection;
mod request;
mod service;
mod storage;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use httpmock::{HttpMockRequest, HttpMockResponse, MockServer as HttpMock};

pub use rejection::ErrorShape;
use request::Request;
use service::{Response, Service};
pub use storage::{Fetched, Storage, StorageSettings, Validator};

/// The API secret that the mock server accepts.
pub const SECRET: &str = "mock-secret";

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiVersion {
    /// The API of the 2025 document.
    V2025,
    /// The API that the service publishes today.
    Current,
}

/// How a mock server behaves.
pub struct Settings {
    pub version: ApiVersion,
    /// Whether every generation fails. One whose prompt contains `[fail]` fails in any case.
    pub fail_all: bool,
    /// The number of generate requests allowed per minute. Default: no limit.
    pub rate_limit: Option<usize>,
    /// The credits of the account. Default: 1,000,000.
    pub balance: u64,
    /// The plan of the account (current API), which rejects every request if it is `free`.
    /// Default: `pro`.
    pub plan: &'static str,
    /// The number of agents that the plan allows. Default: no limit.
    pub agent_limit: usize,
    /// The shape of error responses. Default: as the version has them.
    pub error_shape: Option<ErrorShape>,
    /// How long a generation takes. Default: each status request advances it by one step.
    pub generation_time: Option<Duration>,
    /// How the storage of model files behaves. Default: it has a file of 64 KiB.
    pub storage: StorageSettings,
    /// How many times the file of a ready agent is not there yet.
    pub file_delay: usize,
    /// Called with the method, path and status of each request, before the response is sent.
    pub log: fn(&str),
}

impl From<ApiVersion> for Settings {
    fn from(version: ApiVersion) -> Self {
        Settings {
            version,
            fail_all: false,
            rate_limit: None,
            balance: 1_000_000,
            plan: "pro",
            agent_limit: usize::MAX,
            error_shape: None,
            generation_time: None,
            storage: StorageSettings {
                file: Arc::new(vec![7; 64 * 1024]),
                ..StorageSettings::default()
            },
            file_delay: 0,
            log: |_| (),
        }
    }
}

/// A running mock server. Keep it while clients use it: a later one may reuse the port.
pub struct MockServer {
    http: HttpMock,
    service: Arc<Mutex<Service>>,
    storage: Storage,
}

impl MockServer {
    /// Starts a mock server on a free port of localhost.
    pub fn start(settings: impl Into<Settings>) -> Self {
        let settings = settings.into();
        let log = settings.log;
        let storage = Storage::start(settings.storage.clone());
        let service = Arc::new(Mutex::new(Service::new(settings, storage.clone())));
        let http = HttpMock::start();
        let responder = Arc::clone(&service);
        http.mock(|_, then| {
            then.respond_with(move |request: &HttpMockRequest| {
                let request = from_http(request);
                let response = lock(&responder).respond(&request);
                let Request { method, path, .. } = &request;
                log(&format!("{method} {path} {}", response.status));
                to_http(&response)
            });
        });
        MockServer {
            http,
            service,
            storage,
        }
    }

    /// Returns the storage of model files, which is on another port.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    pub fn base_url(&self) -> String {
        self.http.base_url()
    }

    /// Returns the number of requests that were billed: accepted, and not replayed.
    pub fn billed(&self) -> usize {
        lock(&self.service).account.billed
    }

    /// Returns the number of billed generations that were refunded because they failed.
    ///
    /// A generation counts as failed once a status response has said so.
    pub fn refunded(&self) -> usize {
        lock(&self.service).account.refunded
    }

    /// Returns the credits that are left.
    pub fn balance(&self) -> u64 {
        lock(&self.service).account.balance
    }
}

/// Locks the service. It ignores a poisoned lock: the panic behind it has been reported already.
fn lock(service: &Mutex<Service>) -> MutexGuard<'_, Service> {
    service.lock().unwrap_or_else(PoisonError::into_inner)
}

fn from_http(request: &HttpMockRequest) -> Request<'_> {
    Request {
        method: request.method_str(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        secret: header(request, "api-secret"),
        content_type: header(request, "content-type"),
        idempotency_key: header(request, "idempotency-key"),
        body: request.body_ref(),
    }
}

fn header<'a>(request: &'a HttpMockRequest, name: &str) -> Option<&'a str> {
    for (header, value) in request.headers_vec() {
        if header.eq_ignore_ascii_case(name) {
            return Some(value);
        }
    }
    None
}

fn to_http(response: &Response) -> HttpMockResponse {
    let content_type = match response.body.starts_with('{') {
        true => "application/json",
        false => "text/html",
    };
    let mut http = HttpMockResponse::builder()
        .status(response.status)
        .header("content-type", content_type)
        .header("x-request-id", "mock-server")
        .body(response.body.clone());
    if response.is_replay {
        http = http.header("idempotency-replayed", "true");
    }
    if let Some(seconds) = response.retry_after {
        http = http.header("retry-after", seconds.to_string());
    }
    http.build()
}
