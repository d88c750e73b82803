//! A scripted service for well-formed responses.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bithuman::{Api, ApiBuilder};
use httpmock::{HttpMockRequest, HttpMockResponse, MockServer};

use super::{FakeClock, Reply, Request, real_api, service_error};

/// Replies from a script, and remembers the requests.
pub struct Service {
    server: MockServer,
    state: Arc<Mutex<State>>,
    pub clock: Arc<FakeClock>,
}

struct State {
    script: VecDeque<Reply>,
    requests: Vec<Request>,
    preflight: Reply,
    preflights: usize,
}

impl Service {
    /// Gives these replies one after the other; the last one stays.
    pub fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        let state = Arc::new(Mutex::new(State {
            script: script.into_iter().collect(),
            requests: Vec::new(),
            preflight: service_error(404, "AGENT_NOT_FOUND"),
            preflights: 0,
        }));
        let clock = FakeClock::new();
        let server = MockServer::start();
        let (shared, time) = (state.clone(), clock.clone());
        server.mock(|when, then| {
            when.any_request();
            then.respond_with(move |request: &HttpMockRequest| {
                let reply = shared.lock().unwrap().reply_to(read(request));
                time.pass(reply.takes);
                let response = HttpMockResponse::builder().status(reply.status);
                response.headers(reply.headers).body(reply.body).build()
            });
        });
        Service {
            server,
            state,
            clock,
        }
    }

    /// Sets the reply to every preflight, which is not part of the script. Default: 404.
    pub fn preflight(self, reply: Reply) -> Self {
        self.state.lock().unwrap().preflight = reply;
        self
    }

    pub fn url(&self) -> String {
        self.server.base_url()
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.server.address().to_string()
    }

    /// A client on this service's clock that sends each request once.
    pub fn builder(&self) -> ApiBuilder {
        let builder = real_api(&self.url()).max_retries(0);
        builder.clock(self.clock.clone())
    }

    pub fn api(&self) -> Api {
        self.builder().build().unwrap()
    }

    /// The requests so far, without preflights.
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    pub fn preflights(&self) -> usize {
        self.state.lock().unwrap().preflights
    }

    /// The only request there was.
    pub fn request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }
}

impl State {
    fn reply_to(&mut self, request: Request) -> Reply {
        if request.is_preflight() {
            self.preflights += 1;
            return self.preflight.clone();
        }
        self.requests.push(request);
        let reply = match self.script.len() {
            0 | 1 => self.script.front().cloned(),
            _ => self.script.pop_front(),
        };
        reply.unwrap_or_else(|| Reply::new(500, "no request was expected"))
    }
}

fn read(request: &HttpMockRequest) -> Request {
    let uri = request.uri_str();
    // Relative, or with an origin.
    let start = uri
        .find("://")
        .and_then(|at| Some(at + 3 + uri[at + 3..].find('/')?));
    Request {
        connection: 0,
        method: request.method_str().into(),
        target: uri[start.unwrap_or_default()..].into(),
        headers: request.headers_vec().clone(),
        body: request.body_vec(),
    }
}
