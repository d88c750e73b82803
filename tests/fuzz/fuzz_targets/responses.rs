//! Whole responses over a socket, to a status request and to a generate request: an id in them is
//! never lost, and what an error says is one line without the secret.

#![no_main]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{LazyLock, Mutex};
use std::thread;

use bithuman::{Api, Billing, Error, GenerateRequest, Status};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

/// The secret, and how JSON may write it.
const SECRET: [&str; 4] = [
    "s3cret/value\"01",
    "s3cret/value\\\"01",
    "s3cret\\/value\\\"01",
    "s3cret/value\\u002201",
];
const ID: &str = "A91";

type Object = Map<String, Value>;

static RESPONSE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A client of a server that gives [`RESPONSE`] to every request.
static API: LazyLock<Api> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            serve(stream.unwrap());
        }
    });
    let builder = Api::builder()
        .base_url(url)
        .secret(SECRET[0])
        .max_retries(0);
    builder.build().unwrap()
});

/// Closes the connection after each response, so that no byte of one belongs to the next.
fn serve(mut stream: TcpStream) {
    let mut reader = BufReader::new(&stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or_default() == 0 {
            return;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let _ = reader.read_exact(&mut vec![0; length]);
    let _ = stream.write_all(&RESPONSE.lock().unwrap());
}

fuzz_target!(|input: (u8, &[u8])| {
    let (how, bytes) = input;
    let body = body(&String::from_utf8_lossy(bytes));
    let (status, response) = match how {
        // The head too is anything.
        255 => (0, bytes.to_vec()),
        _ => respond(how, &body),
    };
    *RESPONSE.lock().unwrap() = response;
    check_status(status, &body);
    check_generate(status, &body);
});

/// A body in which control characters stand for the words that a response may have.
fn body(text: &str) -> String {
    const WORDS: [&str; 18] = [
        SECRET[0],
        SECRET[1],
        SECRET[2],
        SECRET[3],
        "{\"data\":{\"agent_id\":\"A91\",\"status\":\"ready\"}}",
        "{\"agent_id\":4711}",
        "{\"data\":{",
        "\"data\":{",
        "\"agent_id\":\"A91\",",
        "\"agent_id\":4711,",
        "\"code\":\"A91\",",
        "\"status\":\"ready\"",
        "\"success\":false,",
        "{\"error\":{",
        "\"code\":\"INTERNAL_ERROR\",",
        "\"code\":\"SERVICE_UNAVAILABLE\",",
        "\"message\":\"",
        "\"details\":[",
    ];
    let mut body = String::new();
    for c in text.chars() {
        match WORDS.get((c as usize).wrapping_sub(0x0e)) {
            Some(word) => body += word,
            None => body.push(c),
        }
    }
    body
}

/// A head with one of several statuses, with a length or without.
fn respond(how: u8, body: &str) -> (u16, Vec<u8>) {
    const STATUSES: [u16; 12] = [200, 200, 200, 202, 302, 400, 403, 404, 408, 429, 500, 503];
    let status = STATUSES[usize::from(how) % STATUSES.len()];
    let length = match how {
        0..128 => format!("Content-Length: {}\r\n", body.len()),
        _ => String::new(),
    };
    let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{length}\r\n");
    (status, [head.as_bytes(), body.as_bytes()].concat())
}

fn check_status(status: u16, body: &str) {
    let plain: Object = serde_json::from_str(body).unwrap_or_default();
    let data = plain.get("data").and_then(Value::as_object);
    let word = data.and_then(|data| text(data, "status"));
    match API.status(ID) {
        Ok(agent) => {
            assert_eq!(agent.agent_id, ID);
            assert!(word.is_none_or(|word| Status::from(word) == agent.status));
        }
        Err(error) => {
            let named = data.and_then(|data| id(data, "agent_id").or(id(data, "code")));
            let is_ours = named.is_none_or(|named| named == ID);
            let is_good = (200..300).contains(&status) && !says_failure(&plain);
            assert!(!is_good || !is_ours || word.is_none(), "{error}");
            assert_eq!(error.agent_id(), Some(ID));
            check_error(&error);
        }
    }
}

fn check_generate(status: u16, body: &str) {
    let plain: Object = serde_json::from_str(body).unwrap_or_default();
    let data = plain.get("data").and_then(Value::as_object);
    let id = id(&plain, "agent_id").or(data.and_then(|data| id(data, "agent_id")));
    let is_good = (200..300).contains(&status) && !says_failure(&plain);
    match API.generate(&GenerateRequest::new().prompt("p")) {
        Ok(generation) => {
            assert!(is_good || status == 0);
            assert!(id.is_none_or(|id| id == generation.agent_id));
        }
        Err(error) => {
            assert!(!is_good || id.is_none(), "{error}");
            if status > 0 && id.is_some() {
                assert_eq!(error.agent_id(), id.as_deref());
            }
            if is_good && !plain.is_empty() || [408, 500].contains(&status) {
                assert_ne!(error.billing(), Billing::NotBilled, "{error}");
            }
            check_error(&error);
        }
    }
}

fn says_failure(object: &Object) -> bool {
    object.get("success") == Some(&Value::Bool(false))
}

fn text(object: &Object, name: &str) -> Option<String> {
    let text = object.get(name)?.as_str().filter(|text| !text.is_empty());
    text.map(String::from)
}

fn id(object: &Object, name: &str) -> Option<String> {
    let number = object.get(name)?.as_u64().map(|number| number.to_string());
    number.or(text(object, name))
}

fn check_error(error: &Error) {
    let has_secret = |text: &str| SECRET.iter().any(|form| text.contains(form));
    // An id is shown as the service wrote it, or nobody could use it.
    let is_in_id = error.agent_id().is_some_and(has_secret);
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(is_in_id || !has_secret(&text), "{text}");
        assert!(!text.contains(['\r', '\n']), "{text}");
    }
}
