//! A generate request is sent again only where that cannot be billed again.

use std::fs::{self, File};
use std::io::Read;
use std::net::{Shutdown, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use bithuman::Billing::{NotBilled, Unknown};
use bithuman::ErrorKind::{
    InsufficientBalance, InvalidInput, Network, NotFound, PlanLimit, RateLimited, Rejected,
    Service as Failed, ShutDown, Timeout, Unauthorized, UnexpectedResponse as Senseless,
    WaitTimedOut,
};
use bithuman::serde_json::{self, Value, json};
use bithuman::{Api, Billing, Error, ErrorKind, GenerateRequest, Media, Result, Wait};

use crate::harness::*;

/// What a response, or the lack of one, means for the request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// Not accepted, for good: sent once.
    Refused,
    /// Not accepted, for now: retried everywhere.
    NotNow,
    /// Perhaps accepted: retried only where keys are honored.
    Unsure,
    /// Perhaps accepted, and a replay would say the same: sent once.
    Final,
}

use Outcome::{Final, NotNow, Refused, Unsure};

impl Outcome {
    /// How often a request is sent that may be retried once.
    fn posts(self, honored: bool) -> usize {
        1 + usize::from(self == NotNow || (self == Unsure && honored))
    }

    fn billing(self) -> Billing {
        match self {
            Refused | NotNow => NotBilled,
            Unsure | Final => Unknown,
        }
    }
}

/// What the server may say. A line is a status and either codes, each for every shape of error
/// (with a 200, one that says `"success": false`), or after a `=` the body. Any other line is what
/// goes over the connection, with `|` for a line end.
const TABLE: [(Outcome, ErrorKind, &str); 17] = [
    (
        Refused,
        Rejected,
        r#"
        400 VALIDATION_ERROR SERVICE_UNAVAILABLE
        422 MODEL_SUBJECT_MISMATCH
        200 MISSING_PARAM
        200 = {"success": false}
        "#,
    ),
    (
        Refused,
        Unauthorized,
        r#"
        401 UNAUTHORIZED
        403 ACCOUNT_SUSPENDED FORBIDDEN
        200 UNAUTHORIZED ACCOUNT_SUSPENDED
        HTTP/1.1 401 No|content-length: 99||{"error": "Inv
        "#,
    ),
    (Refused, InsufficientBalance, "402 INSUFFICIENT_BALANCE"),
    (Refused, InsufficientBalance, "200 INSUFFICIENT_BALANCE"),
    (Refused, PlanLimit, "403 PLAN_REQUIRED AGENT_LIMIT_REACHED"),
    (Refused, PlanLimit, "200 PLAN_REQUIRED"),
    (Refused, NotFound, "404 NOT_FOUND AGENT_NOT_FOUND"),
    (Refused, NotFound, "200 AGENT_NOT_FOUND"),
    (Refused, NotFound, "410 AGENT_DELETED"),
    (NotNow, RateLimited, "200 RATE_LIMITED"),
    (NotNow, RateLimited, "429 RATE_LIMITED"),
    (NotNow, RateLimited, "429 ="),
    (
        NotNow,
        Failed,
        r#"
        503 NO_AVAILABLE_WORKERS MODEL_NOT_YET_AVAILABLE SERVICE_UNAVAILABLE
        200 NO_AVAILABLE_WORKERS MODEL_NOT_YET_AVAILABLE SERVICE_UNAVAILABLE
        HTTP/1.1 503 No|content-length: 99||{"code": "NO_AVAILABLE_WORKERS"
        "#,
    ),
    // A 503 may be a gateway's, which has passed the request on before: here Express with
    // connect-timeout, Fastify and Envoy.
    (
        Unsure,
        Failed,
        r#"
        408 NO_AVAILABLE_WORKERS SERVICE_UNAVAILABLE
        500 NO_AVAILABLE_WORKERS SERVICE_UNAVAILABLE INTERNAL_ERROR UPSTREAM_ERROR
        502 UPSTREAM_UNAVAILABLE
        504 UPSTREAM_TIMEOUT
        200 INTERNAL_ERROR UPSTREAM_ERROR UPSTREAM_TIMEOUT
        503 ETIMEDOUT ECONNRESET UPSTREAM_TIMEOUT FST_UNDER_PRESSURE RATE_LIMITED
        503 no_available_workers service_unavailable Unavailable SERVICE_UNAVAILABLE_X
        503 = {"message": "Response timeout", "code": "ETIMEDOUT", "timeout": 5000}
        503 = {"error": {"code": "ETIMEDOUT"}}
        503 = {"statusCode": 503, "error": "Service Unavailable", "message": "m"}
        503 = upstream connect error or disconnect/reset before headers
        503 = {"error": {"code": "UPSTREAM_TIMEOUT"}, "code": "SERVICE_UNAVAILABLE"}
        503 = {"error": {"code": 503, "message": "SERVICE_UNAVAILABLE"}}
        503 = {"error": {"code": "SERVICE_UNAVAILABLE
        503 = [{"code": "SERVICE_UNAVAILABLE"}]
        503 = "SERVICE_UNAVAILABLE"
        503 = SERVICE_UNAVAILABLE
        503 =
        600 =
        "#,
    ),
    (
        Unsure,
        Network,
        r#"
        |
        HTTP/1.1 200 OK|content-le
        HTTP/1.1 200 OK|content-length: 99||{"agent_id": "A9
        HTTP/1.1 200 OK|content-length: 99||{}
        "#,
    ),
    (
        Unsure,
        Senseless,
        r#"
        HTTP/1.1 200 OK|transfer-encoding: chunked||nonsense|
        SSH-2.0-OpenSSH_9.6||
        "#,
    ),
    (
        Final,
        Senseless,
        r#"
        200 = {"success": true, "status": "processing"}
        200 = {"success": true, "agent_id": ""}
        200 = {"agent_id": null, "data": {}}
        200 = {"code": "INTERNAL_ERROR", "error": "no word of success"}
        200 = <html><title>Log in</title></html>
        200 =
        201 = ["A91XMB7113"]
        202 = "A91XMB7113"
        204 =
        299 = {
        HTTP/1.1 200 OK||{"success": true}
        HTTP/1.1 200 OK|connection: close|transfer-encoding: chunked||2|{}|0||
        "#,
    ),
];

/// What the page of a gateway means.
fn page(status: u16) -> (Outcome, ErrorKind) {
    match status {
        401 | 403 => (Refused, Unauthorized),
        402 => (Refused, InsufficientBalance),
        404 => (Refused, NotFound),
        425 => (NotNow, Failed),
        429 => (NotNow, RateLimited),
        408 | 500.. => (Unsure, Failed),
        _ => (Refused, Rejected),
    }
}

fn rows() -> Vec<(Outcome, ErrorKind, Does)> {
    let mut rows = vec![(Unsure, Network, Does::Reset)];
    for (outcome, kind, lines) in TABLE {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (status, rest) = line.split_once(' ').unwrap_or_default();
            match (status.parse(), rest.strip_prefix('=')) {
                (Ok(status), Some(body)) => {
                    rows.push((outcome, kind, Reply::new(status, body.trim()).into()));
                }
                (Ok(status), None) => {
                    let replies = rest.split(' ').flat_map(|code| errors(status, code));
                    rows.extend(replies.map(|reply| (outcome, kind, reply.into())));
                }
                (Err(_), _) => {
                    let bytes = line.replace('|', "\r\n").into_bytes();
                    rows.push((outcome, kind, Does::Reply(bytes)));
                }
            }
        }
    }
    for status in [300..=308, 400..=431, 499..=511, 520..=530]
        .into_iter()
        .flatten()
    {
        let (outcome, kind) = page(status);
        let reply = gateway(status).header("location", "/elsewhere");
        rows.push((outcome, kind, reply.header("retry-after", "2").into()));
    }
    rows
}

/// The service's own error in every shape, which for a 200 says `"success": false`.
fn errors(status: u16, code: &str) -> [Reply; 3] {
    let mut replies = service_errors(status, code);
    for reply in replies.iter_mut().filter(|_| status == 200) {
        let mut body: Value = serde_json::from_slice(&reply.body).unwrap();
        body["success"] = json!(false);
        reply.body = body.to_string().into();
    }
    replies
}

fn busy() -> Reply {
    service_error(503, "NO_AVAILABLE_WORKERS")
}

fn client(server: &Server, honored: bool) -> Api {
    let builder = server.builder().honors_idempotency_keys(honored);
    builder.build().unwrap()
}

/// A key with every character that one can have.
fn odd_key() -> String {
    (b'!'..=b'~').map(char::from).collect()
}

/// Checks that these are one request, some of them perhaps broken off, and returns its key.
#[track_caller]
fn one_request(requests: &[Request]) -> String {
    let longest = requests.iter().max_by_key(|request| request.body.len());
    let longest = longest.expect("no request came");
    let key = longest.header("idempotency-key").unwrap();
    for request in requests {
        let line = format!("{} {}", request.method, request.target);
        assert_eq!(line, "POST /v1/agent/generate");
        assert_eq!(request.header("idempotency-key"), Some(key));
        assert_eq!(request.content_length(), longest.content_length());
        assert!(longest.body.starts_with(&request.body), "other bytes");
        assert_eq!(request.header("expect"), None);
    }
    key.into()
}

/// Returns the error, after checking what it says of a request that was not or perhaps accepted.
#[track_caller]
fn check<T>(
    result: Result<T>,
    kind: ErrorKind,
    billing: Billing,
    attempts: usize,
    what: &str,
) -> Error {
    let error = result.err().unwrap_or_else(|| panic!("{what}"));
    let found = (error.kind(), error.billing(), error.attempts() as usize);
    assert_eq!(found, (kind, billing, attempts), "{what}: {error:?}");
    let (line, key) = (error.to_string(), error.idempotency_key().expect(what));
    let is_unsure = line.contains("may have been billed; ");
    assert_eq!(is_unsure, billing == Unknown, "{what}: {line}");
    // Where a replay would say the same, nothing advises one.
    let is_final = line.contains("for a new agent");
    let advises_one = ["before retrying", "try again", key].map(|word| line.contains(word));
    assert!(!is_final || advises_one == [false; 3], "{what}: {line}");
    error
}

#[test]
fn what_the_server_does_decides_whether_the_request_is_sent_again() {
    let script = Script::new();
    for (outcome, kind, does) in rows() {
        for (honored, own_key) in [(true, true), (true, false), (false, true)] {
            let what = &format!("honored: {honored}, own key: {own_key}, {does:?}");
            let api = script.builder(honored).max_retries(1).build().unwrap();
            let request = match own_key {
                true => small().idempotency_key(odd_key()),
                false => small(),
            };
            let (posts, billing) = (outcome.posts(honored), outcome.billing());

            // For ever.
            let run = script.run([does.clone()], || api.generate(&request));
            let error = check(run.result, kind, billing, posts, what);
            let key = one_request(&run.requests);
            assert_eq!(error.idempotency_key(), Some(&*key), "{what}");
            assert_eq!(key == odd_key(), own_key, "{what}");
            assert_eq!((run.requests.len(), run.sleeps.len()), (posts, posts - 1));
            let is_retryable = outcome == NotNow || (outcome == Unsure && own_key && honored);
            assert_eq!(error.is_retryable(), is_retryable, "{what}");
            let is_final = error.to_string().contains("for a new agent");
            assert_eq!(is_final, outcome == Final, "{what}: {error}");
            let advice = format!("retry with idempotency key {key}, which is billed once");
            let advises_it = error.to_string().contains(&advice);
            assert_eq!(advises_it, outcome == Unsure && honored, "{what}: {error}");

            // Once.
            let turns = [does.clone(), accepted().into()];
            let run = script.run(turns, || api.generate(&request));
            assert_eq!(run.requests.len(), posts, "{what}");
            let key = one_request(&run.requests);
            match posts {
                1 => drop(check(run.result, kind, billing, 1, what)),
                _ => assert_eq!(run.result.expect(what).idempotency_key, key),
            }
        }
    }
}

#[test]
fn keys_are_not_taken_to_be_honored_by_default() {
    let script = Script::new();
    let api = script.server.builder().build().unwrap();
    let run = script.run([gateway(502), accepted()], || api.generate(&small()));
    check(run.result, Failed, Unknown, 1, "default");
    assert_eq!(run.requests.len(), 1);
}

/// A response that breaks off within the id.
const PART: &str = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"agent_id\": \"A9";

#[test]
fn time_that_runs_out_leaves_unknown_only_what_was_sent() {
    let wait = Wait::new().timeout(ms(250));
    for part in ["", PART] {
        for honored in [true, false] {
            let script = Script::new();
            let builder = script.builder(honored).response_timeout(ms(250));
            let api = builder.max_retries(1).build().unwrap();
            let run = script.run([Does::Stall(part.into())], || api.generate(&small()));
            let posts = Unsure.posts(honored);
            check(run.result, Timeout, Unknown, posts, part);
            assert_eq!(script.server.connections(), posts);
        }
        let script = Script::new();
        let builder = script.builder(true).response_timeout(ms(250));
        // A busy computer may see the good response as late, too: the key keeps that harmless.
        let api = builder.max_retries(20).build().unwrap();
        let turns = [Does::Stall(part.into()), accepted().into()];
        let run = script.run(turns, || api.generate(&small()));
        let key = one_request(&run.requests);
        assert_eq!(run.result.unwrap().idempotency_key, key);

        let script = Script::new();
        let api = client(&script.server, true);
        let turns = [Does::Stall(part.into())];
        let run = script.run(turns, || api.generate_and_wait(&small(), &wait));
        check(run.result, WaitTimedOut, Unknown, 1, part);
        assert_eq!(script.server.connections(), 1);
    }
    // An upload that was too slow once will be too slow again.
    let server = Server::new([act(|c| {
        c.head();
        c.stall();
    })]);
    let builder = server.builder().honors_idempotency_keys(true);
    let api = builder.response_timeout(ms(250)).build().unwrap();
    check(api.generate(&large()), Timeout, NotBilled, 1, "slow");
    let result = client(&server, true).generate_and_wait(&large(), &wait);
    check(result, WaitTimedOut, NotBilled, 1, "in the upload");
    // The server may not have seen the second one yet.
    assert!(server.requests().len() <= 2);
}

#[test]
fn a_refused_connection_is_not_billed_and_retried_until_the_service_is_up() {
    for honored in [true, false] {
        let client = |address: &str, clock: &Arc<FakeClock>, max_retries| {
            let builder = real_api(&format!("http://{address}")).clock(clock.clone());
            let builder = builder.honors_idempotency_keys(honored);
            builder.max_retries(max_retries).build().unwrap()
        };
        let (address, clock) = (format!("127.0.0.1:{}", unused_port()), FakeClock::new());
        let result = client(&address, &clock, 3).generate(&small());
        let error = check(result, Network, NotBilled, 4, "for ever");
        assert!(error.is_retryable() && clock.sleeps().len() == 3);

        let server: Arc<Mutex<Option<Server>>> = Arc::default();
        let (starting, clock) = (server.clone(), FakeClock::new());
        let api = client(&address, &clock, 30);
        clock.on_sleep(move || {
            // Should somebody else have the port for a moment, it is up at a later retry.
            if let Ok(listener) = TcpListener::bind(&address) {
                *starting.lock().unwrap() = Some(Server::on(listener, replies([accepted()])));
            }
        });
        api.generate(&small()).unwrap();
        assert_eq!(server.lock().unwrap().as_ref().unwrap().requests().len(), 1);
    }
}

/// A response, how many of its bytes decide, and what they mean: `None` is accepted. Fewer bytes
/// leave the outcome unknown.
struct Cut(Vec<u8>, usize, Option<Outcome>);

/// The length of a response up to the end of this.
fn end_of(bytes: &[u8], text: &str) -> usize {
    let mut windows = bytes.windows(text.len());
    let start = windows.position(|window| window == text.as_bytes());
    start.unwrap() + text.len()
}

fn cut(reply: impl Into<Vec<u8>>, decided_by: &str, outcome: Option<Outcome>) -> Cut {
    let bytes = reply.into();
    let end = end_of(&bytes, decided_by);
    Cut(bytes, end, outcome)
}

/// Cuts responses at every byte. The replay names the agent `id`.
fn check_cuts(cuts: Vec<Cut>, id: &'static str) {
    let script = Arc::new(Script::new());
    for Cut(bytes, decided_at, outcome) in cuts {
        for length in 0..=bytes.len() {
            let is_decided = length >= decided_at;
            let outcome = if is_decided { outcome } else { Some(Unsure) };
            let (script, sent) = (script.clone(), bytes[..length].to_vec());
            unless_it_hangs(move || {
                check_cut(&script, &sent, outcome, true, id);
                check_cut(&script, &sent, outcome, false, id);
            });
        }
    }
}

fn check_cut(script: &Script, sent: &[u8], outcome: Option<Outcome>, honored: bool, id: &str) {
    let what = format!("honored: {honored}, {}", String::from_utf8_lossy(sent));
    let replay = Reply::json(200, json!({"agent_id": id}));
    let run = script.generate(honored, [sent.into(), Does::from(replay)]);
    let posts = outcome.map_or(1, |outcome| outcome.posts(honored));
    assert_eq!(run.requests.len(), posts, "{what}: {:?}", run.result);
    one_request(&run.requests);
    match (run.result, outcome) {
        (Err(error), Some(outcome)) if posts == 1 => {
            let kind = error.kind();
            check::<()>(Err(error), kind, outcome.billing(), 1, &what);
        }
        (result, _) => assert_eq!(result.expect(&what).agent_id, id, "{what}"),
    }
}

#[test]
fn an_acceptance_cut_anywhere_is_billed_once() {
    let id_ends = format!("{ID}\"");
    let plain: Vec<u8> = accepted().close().into();
    let interim = [b"HTTP/1.1 100 Continue\r\n\r\n", &*plain].concat();
    let mut chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    let body = accepted().body;
    // The first chunk ends within the id.
    let (one, two) = body.split_at(end_of(&body, "\"A91"));
    for chunk in [one, two, b""] {
        let size = format!("{:x}\r\n", chunk.len());
        chunked.extend([size.as_bytes(), chunk, b"\r\n"].concat());
    }
    let cuts = vec![
        cut(plain, &id_ends, None),
        cut(interim, &id_ends, None),
        cut(chunked, &id_ends[3..], None),
    ];
    check_cuts(cuts, ID);
}

#[test]
fn an_acceptance_without_a_length_cut_anywhere_is_billed_once() {
    let bytes = [b"HTTP/1.1 200 OK\r\n\r\n", &*accepted().body].concat();
    check_cuts(vec![cut(bytes, &format!("{ID}\""), None)], ID);
}

#[test]
fn a_numeric_id_cut_in_its_middle_is_no_id() {
    let reply = Reply::new(200, r#"{"agent_id": 7712, "status": "m"}"#).close();
    check_cuts(vec![cut(reply, "7712,", None)], "7712");
}

#[test]
fn an_error_cut_anywhere_is_believed_once_it_is_there() {
    let refusal = service_error(401, "UNAUTHORIZED").close();
    let cuts = vec![
        cut(refusal, "\r\n\r\n", Some(Refused)),
        cut(Reply::new(429, "{}").close(), "\r\n\r\n", Some(NotNow)),
        cut(busy().close(), "AVAILABLE_WORKERS\"", Some(NotNow)),
    ];
    check_cuts(cuts, ID);
}

#[test]
fn a_small_request_cut_anywhere_is_unknown_since_it_was_handed_over() {
    let script = Script::new();
    let request = script.generate(true, [accepted()]).requests.remove(0);
    let mut whole = "POST /v1/agent/generate HTTP/1.1\r\n\r\n".len() + request.body.len();
    for (name, value) in &request.headers {
        whole += format!("{name}: {value}\r\n").len();
    }
    for length in (0..=whole as u64).rev().step_by(7) {
        for honored in [true, false] {
            let cut = act(move |c| {
                let _ = (&c.stream).take(length).read_to_end(&mut Vec::new());
                let _ = c.stream.shutdown(Shutdown::Both);
            });
            let server = Server::new([cut, reply(accepted())]);
            match client(&server, honored).generate(&small()) {
                Ok(_) => assert!(honored),
                error => drop(check(error, Network, Unknown, 1, "cut")),
            }
            assert_eq!(server.requests().len(), usize::from(honored));
        }
    }
}

#[test]
fn a_large_upload_that_breaks_is_retried_once_and_says_that_it_may_be_too_large() {
    // How much of the body is read before the connection closes, and what happens before that.
    for (read, before) in [
        (0, "nothing"),
        (5_000_000, "nothing"),
        (100_000, "an end of the server's side"),
        (0, "a refusal"),
    ] {
        for honored in [true, false] {
            let server = Server::new([act(move |c| {
                c.head();
                match before {
                    "a refusal" => c.send(gateway(413).close()),
                    "nothing" => {}
                    _ => c.stream.shutdown(Shutdown::Write).unwrap(),
                }
                c.body(read);
            })]);
            let builder = server.builder().honors_idempotency_keys(honored);
            let api = builder.max_retries(9).build().unwrap();
            let error = check(api.generate(&large()), Network, NotBilled, 2, before);
            let line = error.to_string();
            assert!(line.contains("may be refusing a body this large"), "{line}");
            assert_eq!((server.requests().len(), server.preflights()), (2, 1));
            one_request(&server.requests());
        }
    }
}

#[test]
fn a_large_upload_that_broke_is_sent_again_whole_and_changes_nothing_known() {
    let breaks = || {
        act(|c| {
            c.head();
            c.body(100_000);
        })
    };
    let server = Server::new([breaks(), reply(accepted())]);
    client(&server, false).generate(&large()).unwrap();
    let requests = server.requests();
    one_request(&requests);
    assert_eq!(requests[1].body.len(), requests[1].content_length());

    let server = Server::new([reply(gateway(500).close()), breaks()]);
    let result = client(&server, true).generate(&large());
    check(result, Network, Unknown, 3, "after an unknown outcome");
    one_request(&server.requests());
}

#[test]
fn once_unknown_always_unknown_until_it_is_accepted() {
    let script = Script::new();
    for (later, kind, attempts) in [
        (service_error(401, "UNAUTHORIZED"), Unauthorized, 2),
        (gateway(302), Rejected, 2),
        (Reply::json(200, json!({"success": false})), Rejected, 2),
        (Reply::json(200, json!({"success": true})), Senseless, 2),
        (gateway(429).header("retry-after", "61"), RateLimited, 2),
        (busy(), Failed, 4),
    ] {
        for first in [Does::Reset, gateway(500).into()] {
            let run = script.generate(true, [first, later.clone().into()]);
            check(run.result, kind, Unknown, attempts, "sticky");
            assert_eq!(run.requests.len(), attempts);
        }
    }
    let replayed = accepted().header("idempotency-replayed", "true");
    let run = script.generate(true, [gateway(504), gateway(500), busy(), replayed]);
    let generation = run.result.unwrap();
    assert_eq!((&*generation.agent_id, generation.replayed), (ID, true));
    assert_eq!(generation.idempotency_key, one_request(&run.requests));
}

#[test]
fn a_minted_key_is_one_for_all_attempts_of_a_call_and_another_for_the_next() {
    let script = Script::new();
    let mut keys = Vec::new();
    for _ in 0..3 {
        let run = script.generate(false, [busy(), gateway(429), accepted()]);
        assert_eq!(run.requests.len(), 3);
        keys.push(one_request(&run.requests));
        assert_eq!(keys.last(), Some(&run.result.unwrap().idempotency_key));
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 3);
}

#[test]
fn max_retries_bounds_the_attempts_and_every_delay_is_within_its_jitter() {
    let script = Script::new();
    for (max_retries, honored, first) in [
        (0, false, busy()),
        (1, true, gateway(500)),
        (9, true, gateway(504)),
        (9, false, busy()),
    ] {
        let events = Events::default();
        let api = events.record(script.builder(honored).max_retries(max_retries));
        let run = script.run([first], || api.generate(&small()));
        assert_eq!(run.result.unwrap_err().attempts(), max_retries + 1);
        assert_eq!(run.requests.len(), 1 + max_retries as usize);
        let (attempts, delays): (Vec<_>, Vec<_>) = events.retries().into_iter().unzip();
        assert_eq!(attempts, (1..=max_retries).collect::<Vec<_>>());
        assert_eq!(delays, run.sleeps);
        let mut limit = ms(500);
        for delay in &delays {
            assert!(*delay <= limit, "{delays:?}");
            limit = (limit * 2).min(secs(30));
        }
        // Neither next to nothing nor the limits, which are 121.5 s together.
        let sum: Duration = delays.iter().sum();
        let is_jittered = (secs(10)..secs(121)).contains(&sum);
        assert!(is_jittered || max_retries < 9, "{delays:?}");
    }
}

#[test]
fn retry_after_is_the_least_delay_and_more_than_a_minute_of_it_ends_the_call() {
    for (text, asked, is_begun) in [
        ("20", secs(20), true),
        ("0.25", ms(250), true),
        ("60", secs(60), true),
        ("61", secs(61), false),
        ("4294967296", secs(4_294_967_296), false),
        ("-10", secs(0), true),
        ("Wed, 21 Oct 2026 07:28:00 GMT", secs(0), true),
    ] {
        for (first, kind) in [(busy(), Failed), (gateway(429), RateLimited)] {
            let service = Service::new([first.header("retry-after", text), accepted()]);
            let api = service.builder().max_retries(1).build().unwrap();
            let result = api.generate(&small());
            let sleeps = service.clock.sleeps();
            assert_eq!(sleeps.len(), usize::from(is_begun), "{text}");
            for slept in sleeps {
                assert!(asked <= slept && slept <= asked.max(ms(500)), "{text}");
            }
            if is_begun {
                result.expect(text);
                continue;
            }
            let error = check(result, kind, NotBilled, 1, text);
            assert!(error.is_retryable() && error.retry_after() == Some(asked));
            assert_eq!(service.requests().len(), 1);
        }
    }
}

#[test]
fn a_delay_that_would_pass_the_deadline_is_not_begun() {
    // What the service asks for at each attempt, the deadline, and the retries in time.
    for (asked, timeout, retries) in [
        (&[30][..], 30, 0),
        (&[29], 30, 1),
        (&[40, 40], 70, 1),
        // With a deadline far away, a delay may be longer than a minute.
        (&[3600], 4 * 60 * 60, 1),
    ] {
        let ask = |seconds: &u64| busy().header("retry-after", seconds.to_string());
        let script = asked.iter().map(ask).chain([accepted(), status("ready")]);
        let service = Service::new(script);
        let api = service.builder().max_retries(3).build().unwrap();
        let wait = Wait::new().interval(ms(10)).timeout(secs(timeout));
        let result = api.generate_and_wait(&small(), &wait);
        for (slept, asked) in service.clock.sleeps().iter().zip(asked) {
            assert_eq!(*slept, secs(*asked));
        }
        if retries == asked.len() {
            assert!(result.unwrap().is_ready());
            continue;
        }
        let error = check(result, Failed, NotBilled, retries + 1, "deadline");
        assert_eq!(error.retry_after(), Some(secs(asked[0])));
        assert_eq!(service.clock.sleeps().len(), retries);
    }
}

#[test]
fn a_key_older_than_23_hours_is_not_sent_again() {
    type Happens = fn(&FakeClock, Duration);
    let hours = |hours: u64| secs(60 * 60 * hours);
    let pass: Happens = |clock, time| clock.pass(time);
    let suspend: Happens = |clock, time| clock.suspend(time);
    let set_back: Happens = |clock, time| {
        clock.pass(time);
        clock.set_wall(UNIX_EPOCH + secs(1));
    };
    // The hours that the first response takes, and what happens in each delay, for how many hours.
    for (taken, happens, delayed, posts) in [
        (22, pass, 0, 3),
        (23, pass, 0, 1),
        (0, pass, 11, 3),
        (0, pass, 12, 2),
        (0, pass, 23, 1),
        (0, suspend, 11, 3),
        (0, suspend, 12, 2),
        (0, suspend, 23, 1),
        (0, set_back, 23, 1),
    ] {
        let first = gateway(500).takes(hours(taken));
        // What comes after the first attempt says nothing of it.
        let service = Service::new([first, busy(), accepted()]);
        let clock = service.clock.clone();
        service
            .clock
            .on_sleep(move || happens(&clock, hours(delayed)));
        let builder = service.builder().honors_idempotency_keys(true);
        let request = small().idempotency_key(odd_key());
        let result = builder.max_retries(3).build().unwrap().generate(&request);
        let what = format!("{taken} h in the response, {delayed} h in each delay");
        assert_eq!(service.requests().len(), posts, "{what}");
        if posts == 3 {
            assert_eq!(result.unwrap().agent_id, ID);
            continue;
        }
        let error = check(result, Failed, Unknown, posts, &what);
        assert!(!error.is_retryable(), "{what}");
    }
}

const MIB: usize = 1024 * 1024;

/// A request whose body has this length.
fn of_length(bytes: usize) -> GenerateRequest {
    GenerateRequest::new().image(Media::base64("a".repeat(bytes - r#"{"image":""}"#.len())))
}

#[test]
fn a_large_upload_is_preceded_by_one_free_request_over_the_same_connection() {
    for (length, preflights) in [(MIB, 0), (MIB + 1, 1)] {
        let script = [busy(), busy(), accepted()];
        let server = Server::new([replies_on_one_connection(script)]);
        let api = client(&server, false);
        api.generate(&of_length(length)).unwrap();
        let requests = server.requests();
        one_request(&requests);
        assert_eq!(requests[0].content_length(), length);
        assert_eq!((requests.len(), server.preflights()), (3, preflights));
        assert_eq!(server.connections(), 1);
    }
}

#[test]
fn a_preflight_ends_the_call_only_for_a_refused_secret_plan_or_account() {
    let mut rows = Vec::new();
    for (status, code, kind) in [
        (401, "UNAUTHORIZED", Some(Unauthorized)),
        (403, "PLAN_REQUIRED", Some(PlanLimit)),
        (403, "ACCOUNT_SUSPENDED", Some(Unauthorized)),
        (403, "FORBIDDEN", None),
        (403, "AGENT_LIMIT_REACHED", None),
        (404, "PLAN_REQUIRED", None),
        (402, "INSUFFICIENT_BALANCE", None),
        (500, "UNAUTHORIZED", None),
    ] {
        rows.extend(service_errors(status, code).map(|reply| (reply, kind)));
    }
    rows.push((gateway(401), Some(Unauthorized)));
    for status in [200, 302, 403, 404, 429, 503] {
        let reply = gateway(status).header("retry-after", "3600");
        rows.push((reply, None));
    }
    for (preflight, kind) in rows {
        let what = format!("{preflight:?}");
        let service = Service::new([accepted()]).preflight(preflight);
        let builder = service.builder().honors_idempotency_keys(true);
        let api = builder.max_retries(3).build().unwrap();
        let result = api.generate(&of_length(MIB + 1));
        let posts = usize::from(kind.is_none());
        assert_eq!((service.requests().len(), service.preflights()), (posts, 1));
        assert_eq!(service.clock.sleeps(), [], "{what}");
        match kind {
            Some(kind) => drop(check(result, kind, NotBilled, 0, &what)),
            None => drop(result.expect(&what)),
        }
    }
    let broken = || act(|c| drop(c.any_head()));
    let server = Server::new([broken(), broken(), reply(accepted())]);
    let api = client(&server, false);
    api.generate(&of_length(MIB + 1)).unwrap();
    let requests = server.requests();
    let are_preflights: Vec<_> = requests.iter().map(Request::is_preflight).collect();
    assert_eq!(are_preflights, [true, true, false]);
}

#[test]
fn a_connection_just_used_is_used_again() {
    let server = Server::new([act(|c| c.reply_to_all(accepted()))]);
    let api = client(&server, false);
    for _ in 0..3 {
        api.generate(&small()).unwrap();
    }
    assert_eq!((server.requests().len(), server.connections()), (3, 1));
}

/// Sends a file that something happens to between the first attempt and the second.
fn changed_between(first: Reply, happens: fn(&Path)) -> Run<Result<String>> {
    // More than is read at once, and no two pages alike.
    let content: Vec<u8> = (0..150_000_u32).map(|n| (n % 251) as u8).collect();
    let file = TempFile::new(content);
    let path = file.0.clone();
    let script = Script::new();
    script.server.clock.on_sleep(move || happens(&path));
    let api = client(&script.server, true);
    let request = GenerateRequest::new().image(Media::file(&file.0));
    let call = || Ok(api.generate(&request)?.idempotency_key);
    script.run([first, accepted()], call)
}

#[test]
fn a_file_that_changes_between_two_attempts_is_not_sent_as_something_else() {
    let changes: [fn(&Path); 4] = [
        |path| fs::write(path, vec![1; 150_001]).unwrap(),
        |path| fs::write(path, vec![1; 149_999]).unwrap(),
        |path| fs::write(path, "").unwrap(),
        |path| {
            let file = File::options().write(true).open(path).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.set_modified(modified + secs(1)).unwrap();
        },
    ];
    for change in changes {
        for (first, billing) in [(busy(), NotBilled), (gateway(500), Unknown)] {
            let run = changed_between(first, change);
            let error = check(run.result, InvalidInput, billing, 2, "changed");
            assert!(error.to_string().contains("changed"), "{error}");
            for later in &run.requests[1..] {
                assert!(later.body.len() < later.content_length());
            }
        }
    }
    // What was opened is sent, whatever the path means by then.
    let replaced: &[fn(&Path)] = &[
        |path| fs::remove_file(path).unwrap(),
        // Windows lets nobody replace an open file.
        #[cfg(unix)]
        |path| fs::rename(&TempFile::new("another content").0, path).unwrap(),
    ];
    for replace in replaced {
        let run = changed_between(busy(), *replace);
        assert_eq!(run.result.unwrap(), one_request(&run.requests));
        assert_eq!(run.requests[0].body, run.requests[1].body);
    }
}

#[test]
fn a_shutdown_leaves_unknown_only_what_was_sent() {
    let preflight = of_length(MIB + 1);
    for (stage, request, billing, attempts) in [
        ("delay, unknown", small(), Unknown, 1),
        ("delay, not accepted", small(), NotBilled, 1),
        ("before the response", small(), Unknown, 1),
        ("in the response", small(), Unknown, 1),
        ("in the preflight", preflight, NotBilled, 0),
        ("in the upload", large(), NotBilled, 1),
    ] {
        let api: Arc<OnceLock<Api>> = Arc::default();
        let shared = api.clone();
        let server = Server::new([act(move |c| {
            match stage {
                "in the preflight" => drop(c.any_head()),
                "in the upload" => drop(c.head()),
                _ => drop(c.request()),
            }
            match stage {
                "delay, unknown" => return c.send(gateway(500).close()),
                "delay, not accepted" => return c.send(busy().close()),
                "in the response" => c.send(PART),
                _ => {}
            }
            shared.get().unwrap().shutdown();
            c.stall();
        })]);
        let api = api.get_or_init(|| client(&server, true));
        let sleeping = api.clone();
        server.clock.on_sleep(move || sleeping.shutdown());
        let error = check(api.generate(&request), ShutDown, billing, attempts, stage);
        assert!(!error.is_retryable() && server.requests().len() == 1);
    }
}
