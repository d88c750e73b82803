//! Requests as a server received them, and the replies it is to give.

use std::time::Duration;

use bithuman::serde_json::{self, Value, json};

use super::ID;

/// A request, or as much of it as was read.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The number of its connection, from 0. Not known of a `Service`.
    pub connection: usize,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The only header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        let is_it = |header: &&(String, String)| header.0.eq_ignore_ascii_case(name);
        let mut found = self.headers.iter().filter(is_it);
        let header = found.next();
        assert!(found.next().is_none(), "{name} was sent twice");
        Some(&header?.1)
    }

    pub fn content_length(&self) -> usize {
        let length = self.header("content-length");
        length.map_or(0, |length| length.parse().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// Whether it is the free request before a large upload.
    pub fn is_preflight(&self) -> bool {
        self.target.ends_with("/agent/status/preflight")
    }
}

/// A whole, well-formed response. As a `Vec<u8>` it is what goes over the connection.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub(super) takes: Duration,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
            takes: Duration::ZERO,
        }
    }

    pub fn json(status: u16, body: Value) -> Self {
        Reply::new(status, body.to_string()).header("content-type", "application/json")
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Closes the connection, so that the next request needs another one.
    pub fn close(self) -> Self {
        self.header("connection", "close")
    }

    /// Sets how long a `Service` takes for it on the fake clock.
    pub fn takes(mut self, time: Duration) -> Self {
        self.takes = time;
        self
    }
}

impl From<Reply> for Vec<u8> {
    fn from(reply: Reply) -> Self {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
        for (name, value) in &reply.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", reply.body.len());
        [head.into_bytes(), reply.body].concat()
    }
}

/// The service accepts a generate request.
pub fn accepted() -> Reply {
    let body = json!({"success": true, "message": "m", "agent_id": ID, "status": "processing"});
    Reply::json(200, body)
}

/// The status of the agent: these fields, besides the id.
pub fn agent(fields: Value) -> Reply {
    let mut data = json!({"agent_id": ID});
    let fields = fields.as_object().unwrap().clone();
    data.as_object_mut().unwrap().extend(fields);
    Reply::json(200, json!({"success": true, "data": data}))
}

pub fn status(word: &str) -> Reply {
    agent(json!({"status": word}))
}

pub fn processing() -> Reply {
    status("processing")
}

pub fn ready() -> Reply {
    status("ready")
}

/// The service's own error, in each of the shapes it publishes.
pub fn service_errors(status: u16, code: &str) -> [Reply; 3] {
    let message = "Something is wrong";
    [
        json!({"error": message, "code": code, "details": "d"}),
        json!({"success": false, "error": code, "message": message}),
        json!({
            "error": {"code": code, "message": message, "httpStatus": status},
            "status": "error", "status_code": status,
        }),
    ]
    .map(|body| Reply::json(status, body))
}

/// The service's own error, in its current shape.
pub fn service_error(status: u16, code: &str) -> Reply {
    let [_, _, current] = service_errors(status, code);
    current
}

/// The page of a gateway.
pub fn gateway(status: u16) -> Reply {
    let page = "<html><head><title>A gateway's title</title></head><body>A page</body></html>";
    Reply::new(status, page).header("content-type", "text/html")
}
