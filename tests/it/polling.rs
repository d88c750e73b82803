//! What may happen between two polls, over connections that really break, on a clock that does not wait.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use bithuman::serde_json::json as value;
use bithuman::{Agent, Api, ApiBuilder, Error, ErrorKind, Event, Result, Status, Wait};

use crate::fault::*;
use crate::script::*;
use crate::support::{FakeClock, ID, SECRET, ms, read_head, secs, unused_port};

/// What no test here comes near to.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, and a client that notes its events.
struct Polls {
    server: Script,
    clock: Arc<FakeClock>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Polls {
    fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Polls { server: Script::new(acts), clock: Arc::default(), events: Arc::default() }
    }

    fn builder(&self, url: &str) -> ApiBuilder {
        Api::builder().secret(SECRET).base_url(url).answer_timeout(PATIENCE).clock(self.clock.clone())
    }

    fn noting(&self, builder: ApiBuilder) -> Api {
        let events = self.events.clone();
        builder.build().unwrap().on_event(move |event| events.lock().unwrap().push(event.clone()))
    }

    fn api(&self) -> Api {
        self.noting(self.builder(&self.server.url))
    }

    fn wait(&self, wait: Wait) -> Result<Agent> {
        let api = self.api();
        unless_it_hangs(move || api.wait(ID, &wait))
    }

    /// The events, in short: the status of each poll, and the attempts before each resend.
    fn told(&self) -> Vec<String> {
        let told = |event: &Event| match event {
            Event::Polled { agent } => agent.status.to_string(),
            Event::Resending { attempts, .. } => format!("resend {attempts}"),
            other => format!("{other:?}"),
        };
        self.events.lock().unwrap().iter().map(told).collect()
    }

    fn reasons(&self) -> Vec<String> {
        let reason = |event: &Event| match event {
            Event::Resending { reason, .. } => Some(reason.clone()),
            _ => None,
        };
        self.events.lock().unwrap().iter().filter_map(reason).collect()
    }
}

fn says(status: &str) -> Act {
    answer(polled(value!({"status": status})))
}

/// Resets a connection as soon as it is used.
fn reset() -> Act {
    act(|c| {
        // What is not read when a connection is closed has it reset.
        let _ = c.stream.peek(&mut [0]);
    })
}

/// Closes a connection as soon as it is used.
fn hang_up() -> Act {
    act(|c| drop(c.head()))
}

/// A poll that breaks is asked again once at no cost: it takes two connections to be trouble.
fn broken(act: fn() -> Act) -> Vec<Act> {
    vec![act(), act()]
}

/// After a first good answer this, and then the end.
fn between(trouble: Vec<Act>) -> Polls {
    Polls::new([vec![says("processing")], trouble, vec![says("ready")]].into_iter().flatten())
}

fn not_found() -> Act {
    answer(json(404, value!({"error": "no such agent", "code": "NOT_FOUND"})))
}

#[test]
fn trouble_between_polls_is_sat_out() {
    let statuses = [408, 425, 429, 500, 502, 503, 504, 599].map(|status| ("a status", vec![answer(gateway(status))]));
    let own = [429, 500, 503].map(|status| ("an error", answers(own(status, "CODE").into_iter().take(1))));
    let odd = [
        ("a page", http(200, "", "<html>Sign in to the network</html>")),
        ("an empty answer", http(200, "", "")),
        ("no answer", http(204, "", "")),
        ("no status", json(200, value!({"success": true, "data": {"agent_id": ID}}))),
        ("a failure with 200", json(200, value!({"success": false, "code": "INTERNAL_ERROR"}))),
        ("a part of an answer", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"success\"".to_vec()),
        ("a bad chunk", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec()),
    ]
    .map(|(case, bytes)| (case, vec![answer(bytes)]));
    let breaks = [
        ("a reset", broken(reset)),
        ("a close", broken(hang_up)),
        ("not HTTP", vec![answer("SSH-2.0-OpenSSH_9.6\r\n")]),
    ];
    for (case, trouble) in statuses.into_iter().chain(own).chain(odd).chain(breaks) {
        let connections = trouble.len() + 2;
        let polls = between(trouble);
        let agent = polls.wait(Wait::new()).expect(case);
        assert!(agent.is_ready(), "{case}");
        assert_eq!(polls.told(), ["processing", "resend 1", "ready"], "{case}");
        assert_eq!(polls.clock.sleeps(), [secs(5), secs(5)], "{case}");
        assert_eq!(polls.server.connections(), connections, "{case}");
    }
}

#[test]
fn a_poll_without_an_answer_is_sat_out() {
    let polls = between(vec![act(Connection::hold)]);
    let api = polls.noting(polls.builder(&polls.server.url).answer_timeout(ms(250)));
    let agent = unless_it_hangs(move || api.wait(ID, &Wait::new())).unwrap();
    assert!(agent.is_ready());
    // On a slow machine other polls may run out of time too.
    assert!(polls.reasons().iter().any(|reason| reason.contains("no answer from")), "{:?}", polls.told());
}

#[test]
fn a_refused_connection_is_sat_out() {
    let polls = Polls::new([says("ready")]);
    let address = SocketAddr::from(([127, 0, 0, 1], unused_port()));
    let (server, events) = (polls.server.address, polls.events.clone());
    let api = polls.builder(&format!("http://{address}")).build().unwrap().on_event(move |event| {
        events.lock().unwrap().push(event.clone());
        if matches!(event, Event::Resending { attempts: 2, .. }) {
            Relay::at(address, server, Close::Orderly);
        }
    });
    let agent = unless_it_hangs(move || api.wait(ID, &Wait::new())).unwrap();
    assert!(agent.is_ready());
    assert_eq!(polls.told(), ["resend 1", "resend 2", "ready"]);
    assert!(polls.reasons().iter().all(|reason| reason.contains("nothing accepts connections")));
}

#[test]
fn trouble_backs_off_until_a_good_answer() {
    let trouble = || (0..3).map(|_| answer(gateway(503)));
    let acts = trouble().chain([says("processing")]).chain(trouble()).chain([says("ready")]);
    let polls = Polls::new(acts);
    polls.wait(Wait::new().interval(ms(1))).unwrap();
    let row = ["resend 1", "resend 2", "resend 3"];
    assert_eq!(polls.told(), [&row[..], &["processing"], &row, &["ready"]].concat());
    let sleeps = polls.clock.sleeps();
    let most = [500, 1000, 2000, 1, 500, 1000, 2000].map(ms);
    assert_eq!(sleeps.len(), most.len());
    assert!(sleeps.iter().zip(most).all(|(sleep, most)| ms(1) <= *sleep && *sleep <= most), "{sleeps:?}");
}

#[test]
fn what_does_not_pass_ends_the_wait_with_the_agent() {
    use ErrorKind::{InsufficientBalance, Rejected, Unauthorized};
    for (status, body, kind) in [
        (401, "", Unauthorized),
        (403, "", Unauthorized),
        (402, "", InsufficientBalance),
        (301, "", Rejected),
        (400, "", Rejected),
        (409, "", Rejected),
        (410, "", Rejected),
        (422, "", Rejected),
        (200, r#"{"success": false, "code": "UNAUTHORIZED"}"#, Unauthorized),
        (200, r#"{"success": false, "error": "not yours"}"#, Rejected),
    ] {
        let polls = between(vec![answer(http(status, CLOSE, body))]);
        let error = polls.wait(Wait::new()).unwrap_err();
        assert_eq!((error.kind(), error.http_status()), (kind, Some(status)), "{error:?}");
        assert_eq!((error.agent_id(), error.attempts()), (Some(ID), 2), "{error:?}");
        assert_eq!(error.last_seen().map(|agent| &agent.status), Some(&Status::Processing));
        assert!(!error.outcome_unknown() && error.to_string().contains(ID), "{error}");
        assert_eq!(polls.told(), ["processing"]);
    }
}

#[test]
fn an_agent_may_be_unknown_for_three_polls() {
    let unknown = |times: usize| (0..times).map(|_| not_found()).collect::<Vec<_>>();
    for (case, acts, told) in [
        ("three", vec![unknown(3), vec![says("ready")]], "resend 1, resend 2, resend 3, ready"),
        (
            "three in a row",
            vec![unknown(3), vec![answer(gateway(503))], unknown(3), vec![says("ready")]],
            "resend 1, resend 2, resend 3, resend 4, resend 5, resend 6, resend 7, ready",
        ),
    ] {
        let polls = Polls::new(acts.into_iter().flatten());
        assert!(polls.wait(Wait::new()).expect(case).is_ready());
        assert_eq!(polls.told().join(", "), told, "{case}");
    }
    for (case, acts, told, seen) in [
        ("four", unknown(4), "resend 1, resend 2, resend 3", None),
        ("gone", vec![says("processing"), not_found()], "processing", Some(Status::Processing)),
    ] {
        let requests = acts.len();
        let polls = Polls::new(acts);
        let error = polls.wait(Wait::new()).unwrap_err();
        assert_eq!((error.kind(), error.agent_id()), (ErrorKind::NotFound, Some(ID)), "{case}");
        assert_eq!(error.last_seen().map(|agent| agent.status.clone()), seen, "{case}");
        assert_eq!(polls.told().join(", "), told, "{case}");
        assert_eq!(polls.server.heard().len(), requests, "{case}");
    }
}

#[test]
fn a_failed_generation_ends_the_wait() {
    let failed = polled(value!({"status": "failed", "error_message": "no face found"}));
    let polls = Polls::new([vec![says("processing")], broken(reset), vec![answer(failed)]].into_iter().flatten());
    let error = polls.wait(Wait::new()).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::GenerationFailed, Some(ID)));
    assert_eq!(error.message(), Some("no face found"));
    assert!(error.last_seen().is_some_and(Agent::is_failed) && !error.is_retryable());
    assert_eq!(polls.told(), ["processing", "resend 1", "failed"]);
}

#[test]
fn steps_and_unknown_statuses_are_no_end() {
    let fields = [
        value!({"status": "brand_new"}),
        value!({"status": ""}),
        value!({"status": "READY"}),
        value!({"status": "completed", "progress": 0.05}),
        value!({"status": "completed", "progress": 1.0}),
        value!({"status": "success", "progress": 0.99}),
        value!({"status": "success", "progress": "1.0"}),
        value!({"status": "success"}),
        value!({"status": "success", "progress": 1.0}),
    ];
    let polls = Polls::new(fields.map(|fields| answer(polled(fields))));
    assert!(polls.wait(Wait::new()).unwrap().is_ready());
    let told = ["brand_new", "", "READY", "completed", "completed", "success", "success", "success", "success"];
    assert_eq!(polls.told(), told);
}

#[test]
fn an_outage_ends_the_wait_with_what_was_last_seen() {
    let wait = Wait::new().interval(secs(60)).outage(secs(150));
    // A look just before the outage is over is part of it.
    let sleeps = [60, 60, 60, 29].map(secs);
    for (case, trouble, kind) in [
        ("a reset", reset as fn() -> Act, ErrorKind::Network),
        ("a close", hang_up, ErrorKind::Network),
        ("a gateway", || answer(gateway(503)), ErrorKind::Service),
        ("nonsense", || answer(http(200, CLOSE, "<html>")), ErrorKind::UnexpectedAnswer),
    ] {
        let polls = Polls::new([says("generating"), trouble()]);
        let error = polls.wait(wait.clone()).expect_err(case);
        assert_eq!((error.kind(), error.agent_id()), (kind, Some(ID)), "{case}: {error:?}");
        assert_eq!(error.last_seen().map(|agent| &agent.status), Some(&Status::Generating), "{case}");
        assert!(error.to_string().contains(" s of the 150s allowed"), "{case}: {error}");
        assert_eq!(polls.told(), ["generating", "resend 1", "resend 2", "resend 3"], "{case}");
        assert_eq!(polls.clock.sleeps(), sleeps, "{case}");
    }
}

#[test]
fn an_outage_from_the_start_ends_the_wait() {
    let polls = Polls::new([reset()]);
    let error = polls.wait(Wait::new().interval(secs(60)).outage(secs(100))).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::Network, Some(ID)));
    assert!(error.last_seen().is_none() && error.is_retryable());
    assert_eq!(polls.clock.sleeps(), [60, 39].map(secs));
}

#[test]
fn a_good_answer_ends_an_outage() {
    // Much trouble in all, but never for long.
    let mut acts: Vec<Act> = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    for _ in 0..4 {
        acts.extend(broken(reset).into_iter().chain(broken(hang_up)).chain([says("generating")]));
        told.extend(["resend 1", "resend 2", "generating"]);
    }
    acts.push(says("ready"));
    told.push("ready");
    let polls = Polls::new(acts);
    assert!(polls.wait(Wait::new().interval(secs(60)).outage(secs(150))).unwrap().is_ready());
    assert_eq!(polls.told(), told);
}

#[test]
fn a_watch_shows_answers_and_ends_with_the_error() {
    let acts = [vec![says("processing")], broken(reset), vec![says("generating"), answer(http(401, CLOSE, ""))]];
    let polls = Polls::new(acts.into_iter().flatten());
    let api = polls.api();
    let items: Vec<Result<Agent>> = unless_it_hangs(move || {
        let mut watch = api.watch(ID, &Wait::new());
        let items = watch.by_ref().collect();
        assert!(watch.next().is_none());
        items
    });
    let shown: Vec<_> =
        items.iter().map(|item| item.as_ref().map(|agent| agent.status.to_string()).map_err(Error::kind)).collect();
    assert_eq!(shown, [Ok("processing".into()), Ok("generating".into()), Err(ErrorKind::Unauthorized)]);
    assert_eq!(polls.told(), ["processing", "resend 1", "generating"]);
}

#[test]
fn trouble_after_paying_carries_key_and_agent() {
    for (case, trouble, kind) in [
        ("refused", vec![answer(http(401, CLOSE, ""))], ErrorKind::Unauthorized),
        ("failed", vec![says("failed")], ErrorKind::GenerationFailed),
        ("broken", vec![reset()], ErrorKind::Network),
    ] {
        let acts = [vec![answer(accepted()), says("processing")], trouble];
        let polls = Polls::new(acts.into_iter().flatten());
        let api = polls.api();
        let error = unless_it_hangs(move || api.generate_and_wait(&small(), &Wait::new())).expect_err(case);
        assert_eq!((error.kind(), error.agent_id()), (kind, Some(ID)), "{case}: {error:?}");
        assert_eq!(error.idempotency_key().map(String::from), polls.server.keys().pop(), "{case}");
        assert!(error.last_seen().is_some() && !error.outcome_unknown() && !error.is_retryable(), "{case}");
        assert_eq!(polls.server.keys().len(), 1, "{case}");
    }
}

/// How a close that was held back is told.
#[derive(Clone, Copy, Debug)]
enum Close {
    /// FIN.
    Orderly,
    /// RST.
    Reset,
}

/// Stands between client and server, which closes a connection as soon as it has answered once, and
/// tells the client of the close only when the next request comes: as over a long line, where the
/// one has left before the other arrives. Without it the client would see the close in time.
struct Relay {
    url: String,
    /// Requests that came to a closed connection.
    late: Arc<AtomicUsize>,
}

impl Relay {
    fn new(server: SocketAddr, close: Close) -> Self {
        Relay::at("127.0.0.1:0".parse().unwrap(), server, close)
    }

    fn at(address: SocketAddr, server: SocketAddr, close: Close) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let late = Arc::new(AtomicUsize::new(0));
        let counting = late.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let late = counting.clone();
                thread::spawn(move || relay(client?, server, close, &late));
            }
        });
        Relay { url, late }
    }

    fn late(&self) -> usize {
        self.late.load(Ordering::SeqCst)
    }
}

fn relay(mut client: TcpStream, address: SocketAddr, close: Close, late: &AtomicUsize) -> io::Result<()> {
    let mut server = TcpStream::connect(address)?;
    let head = read_head(&mut client);
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    server.write_all(head.as_bytes())?;
    io::copy(&mut (&client).take(length.unwrap_or(0)), &mut server)?;
    let answered = io::copy(&mut server, &mut client)?;
    // A close instead of an answer is not held back.
    if answered > 0 && client.peek(&mut [0])? > 0 {
        late.fetch_add(1, Ordering::SeqCst);
        if let Close::Orderly = close {
            read_head(&mut client);
        }
    }
    Ok(())
}

/// An answer that promises to keep the connection, and does not.
fn keeps(status: &str) -> Act {
    answer(json(200, value!({"success": true, "data": {"agent_id": ID, "status": status}})))
}

#[test]
fn a_poll_that_meets_a_close_is_asked_again_at_once() {
    for close in [Close::Orderly, Close::Reset] {
        let polls = Polls::new(["processing", "generating", "generating", "ready"].map(keeps));
        let relay = Relay::new(polls.server.address, close);
        let api = polls.noting(polls.builder(&relay.url));
        let agent = unless_it_hangs(move || api.wait(ID, &Wait::new())).unwrap();
        assert!(agent.is_ready(), "{close:?}");
        // Each poll but the first went over a connection that was closed, and then over a new one.
        assert_eq!((relay.late(), polls.server.connections()), (3, 4), "{close:?}");
        assert_eq!(polls.told(), ["processing", "generating", "generating", "ready"], "{close:?}");
        assert_eq!(polls.clock.sleeps(), [5, 5, 5].map(secs), "{close:?}");
    }
}

#[test]
fn the_resend_after_a_close_is_not_counted() {
    for close in [Close::Orderly, Close::Reset] {
        let polls = Polls::new([keeps("processing"), answer(http(401, CLOSE, ""))]);
        let relay = Relay::new(polls.server.address, close);
        let api = polls.noting(polls.builder(&relay.url));
        let error = unless_it_hangs(move || {
            api.status(ID).unwrap();
            api.status(ID).unwrap_err()
        });
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Unauthorized, 1), "{close:?}: {error:?}");
        assert_eq!((relay.late(), polls.server.connections()), (1, 2), "{close:?}");
        assert_eq!(polls.told(), ["processing"], "{close:?}");
        assert!(polls.clock.sleeps().is_empty(), "{close:?}");
    }
}

#[test]
fn a_second_break_is_trouble() {
    for close in [Close::Orderly, Close::Reset] {
        let polls = Polls::new([keeps("processing"), hang_up(), keeps("ready")]);
        let relay = Relay::new(polls.server.address, close);
        let api = polls.noting(polls.builder(&relay.url));
        assert!(unless_it_hangs(move || api.wait(ID, &Wait::new())).unwrap().is_ready(), "{close:?}");
        assert_eq!((relay.late(), polls.server.connections()), (1, 3), "{close:?}");
        assert_eq!(polls.told(), ["processing", "resend 1", "ready"], "{close:?}");
        assert_eq!(polls.clock.sleeps(), [5, 5].map(secs), "{close:?}");
    }
}

#[test]
fn a_status_that_always_breaks_is_sent_twice_for_one_attempt() {
    for trouble in [reset as fn() -> Act, hang_up] {
        let polls = Polls::new([trouble()]);
        let api = polls.noting(polls.builder(&polls.server.url).retries(0));
        let error = unless_it_hangs(move || api.status(ID)).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (ErrorKind::Network, 1), "{error:?}");
        assert_eq!(polls.server.connections(), 2);
        assert!(polls.told().is_empty() && polls.clock.sleeps().is_empty());
    }
}

#[test]
fn the_resend_does_not_meet_another_close() {
    // Two calls at once leave two connections behind, and the server closes both.
    let both = Arc::new(Barrier::new(2));
    let together = || {
        let both = both.clone();
        act(move |c| {
            c.request();
            both.wait();
            c.send(json(200, value!({"success": true, "data": {"status": "processing"}})));
        })
    };
    let polls = Polls::new([together(), together(), keeps("ready")]);
    let relay = Relay::new(polls.server.address, Close::Reset);
    let api = polls.noting(polls.builder(&relay.url).retries(0));
    let agent = unless_it_hangs(move || {
        let other = api.clone();
        let other = thread::spawn(move || other.status(ID));
        api.status(ID).unwrap();
        other.join().unwrap().unwrap();
        api.status(ID)
    });
    assert!(agent.unwrap().is_ready());
    assert_eq!((relay.late(), polls.server.connections()), (1, 3));
}

#[test]
fn a_generate_goes_over_a_connection_of_its_own() {
    for close in [Close::Orderly, Close::Reset] {
        let polls = Polls::new([keeps("processing"), answer(accepted())]);
        let relay = Relay::new(polls.server.address, close);
        let api = polls.noting(polls.builder(&relay.url).retries(0));
        let started = unless_it_hangs(move || {
            api.status(ID).unwrap();
            api.generate(&small())
        });
        assert_eq!(started.unwrap().agent_id, ID, "{close:?}");
        assert_eq!((relay.late(), polls.server.connections()), (0, 2), "{close:?}");
    }
}

#[test]
fn each_answered_status_is_told_once() {
    let polls = Polls::new([answer(gateway(503)), answer(gateway(429)), says("generating"), says("failed")]);
    let api = polls.api();
    unless_it_hangs(move || {
        api.status(ID).unwrap();
        api.status(ID).unwrap();
    });
    assert_eq!(polls.told(), ["resend 1", "resend 2", "generating", "failed"]);
    let events = polls.events.lock().unwrap();
    let agents = events.iter().filter_map(|event| match event {
        Event::Polled { agent } => Some(&agent.agent_id[..]),
        _ => None,
    });
    assert!(agents.eq([ID, ID]));
}

#[test]
fn a_resend_tells_its_delay_and_its_reason() {
    let polls = Polls::new([vec![answer(gateway(503))], broken(reset), vec![says("ready")]].into_iter().flatten());
    polls.wait(Wait::new().interval(secs(60))).unwrap();
    let events = polls.events.lock().unwrap();
    let [Event::Resending { delay: first, .. }, Event::Resending { delay: second, .. }, Event::Polled { .. }] =
        &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!([*first, *second], [60, 60].map(secs));
    drop(events);
    let [service, network] = &polls.reasons()[..] else { panic!() };
    assert!(service.contains(ID) && service.contains("(503)"), "{service}");
    assert!(network.contains(ID) && network.contains("the connection to 127.0.0.1"), "{network}");
    assert!(!(service.to_owned() + network).contains('\n'));
}

#[test]
fn an_upload_sent_anew_is_told_anew() {
    let polls = Polls::new([answer(busy()), answer(accepted())]);
    let api = polls.api();
    unless_it_hangs(move || api.generate(&small())).unwrap();
    let events = polls.events.lock().unwrap();
    let total = polls.server.heard()[0].body.len() as u64;
    let [first, Event::Resending { attempts: 1, .. }, second] = &events[..] else { panic!("{events:?}") };
    assert_eq!([first, second], [&Event::Uploaded { sent: total, total }; 2]);
}
