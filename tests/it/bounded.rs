//! What is bounded: every call in time, by a deadline, by timeouts and by `shutdown`; responses and
//! uploads in memory; threads, of which there are none.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bithuman::serde_json::json;
use bithuman::{
    Api, Billing, Clock, Download, Error, ErrorKind, Event, GenerateRequest, Media, Wait,
};

use crate::harness::*;
use crate::hostile::{Asked, ask, ask_for, both_fail};

/// What a call may take longer than it should. The library promises 100 ms for `shutdown`; this is
/// for machines that have other things to do.
pub const GRACE: Duration = Duration::from_secs(2);

/// A deadline that passes only on the fake clock.
const FAR: Duration = Duration::from_secs(60);

/// A timeout that expires in real time.
const SHORT: Duration = Duration::from_millis(150);

/// More than any response is worth reading, and than the sockets of a machine take in.
const FLOOD: usize = 256 * 1024 * 1024;

const MIB: usize = 1024 * 1024;

const UNKNOWN: Billing = Billing::Unknown;

/// What there is to know of an error in the first place.
fn facts(error: &Error) -> (ErrorKind, Billing, u32) {
    (error.kind(), error.billing(), error.attempts())
}

/// What stops a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Stop {
    Deadline,
    Shutdown,
}

/// Where a call is when it is stopped.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Start,
    /// In a TLS handshake that stalls.
    Handshake,
    /// In the exchange with a proxy that stalls.
    Proxy,
    /// In the exchange that the server lets stall.
    Stall,
    /// In its n-th sleep.
    Sleep(usize),
}

/// Sent when the call is where it is to be stopped.
type Arrived = mpsc::Sender<()>;

/// What the error knows: the kind, if it is not that of the stop, the billing, whether there is an
/// agent id, and whether there is a last status.
type Knows = (Option<ErrorKind>, Billing, bool, bool);

const NOT_BILLED: Knows = (None, Billing::NotBilled, false, false);

type Stage = (
    &'static str,
    At,
    fn() -> GenerateRequest,
    // What the server does, one connection each.
    fn(&Arrived) -> Vec<Act>,
    Knows,
    // How many requests there are.
    usize,
);

#[rustfmt::skip]
fn stages() -> Vec<Stage> {
    use At::{Handshake, Proxy, Sleep, Stall, Start};
    const REJECTED: Knows = (Some(ErrorKind::Unauthorized), Billing::NotBilled, false, false);
    const UNSURE: Knows = (None, Billing::Unknown, false, false);
    const BILLED: Knows = (None, Billing::Billed, true, false);
    const SEEN: Knows = (None, Billing::Billed, true, true);
    vec![
        ("before", Start, small, |_| vec![], NOT_BILLED, 0),
        ("handshake", Handshake, small, |a| vec![stall(a, |_| {}, Connection::hold)], NOT_BILLED, 0),
        ("proxy", Proxy, small, |a| vec![stall(a, read, Connection::hold)], NOT_BILLED, 1),
        ("preflight", Stall, large,
            |a| vec![stall(a, |c| drop(c.any_head()), Connection::hold)], NOT_BILLED, 1),
        ("upload stalls", Stall, large,
            |a| vec![stall(a, |c| { c.head(); c.body(99_999); }, |c| c.stall())], NOT_BILLED, 1),
        ("upload crawls", Stall, large, |a| vec![stall(a, |c| drop(c.head()), |c| {
            while c.body(4096).len() == 4096 { thread::sleep(ms(20)); }
        })], NOT_BILLED, 1),
        ("no head", Stall, small, |a| vec![stall(a, read, Connection::hold)], UNSURE, 1),
        ("head drips", Stall, small, |a| vec![stall(a, read, drip_head)], UNSURE, 1),
        ("body drips", Stall, small, |a| vec![stall(a, read, drip_body)], UNSURE, 1),
        // What has come counts.
        ("body drips after the id", Stall, small, |a| vec![stall(a, read, drip_after_id)], BILLED, 1),
        ("rejection drips", Stall, small, |a| vec![stall(a, read, drip_rejection)], REJECTED, 1),
        ("sleep before a retry", Sleep(1), small, |_| closing([busy()]), NOT_BILLED, 1),
        ("sleep, outcome unknown", Sleep(1), small, |_| closing([gateway(500)]), UNSURE, 1),
        ("retry", Stall, small, |a| after([busy()], stall(a, read, Connection::hold)), UNSURE, 2),
        ("retry's upload", Stall, large,
            |a| after([busy()], stall(a, |c| drop(c.head()), |c| c.stall())), NOT_BILLED, 2),
        ("retry's upload, outcome unknown", Stall, large,
            |a| after([gateway(500)], stall(a, |c| drop(c.head()), |c| c.stall())), UNSURE, 2),
        ("sleep before the first poll", Sleep(1), small, |_| closing([accepted()]), BILLED, 1),
        ("sleep between polls", Sleep(2), small, |_| closing([accepted(), generating()]), SEEN, 2),
        ("sleep in an outage", Sleep(3), small,
            |_| closing([accepted(), generating(), gateway(503)]), SEEN, 3),
        ("poll", Stall, small, |a| after([accepted()], stall(a, read, Connection::hold)), BILLED, 2),
        ("poll's head drips", Stall, small,
            |a| after([accepted(), generating()], stall(a, read, drip_head)), SEEN, 3),
        ("poll's body drips", Stall, small,
            |a| after([accepted(), generating()], stall(a, read, drip_body)), SEEN, 3),
    ]
}

/// Reads some of a request, and then lets the exchange stall.
fn stall(arrived: &Arrived, start: fn(&mut Connection), rest: fn(&mut Connection)) -> Act {
    let arrived = arrived.clone();
    act(move |c| {
        start(c);
        let _ = arrived.send(());
        rest(c);
    })
}

fn read(c: &mut Connection) {
    c.request();
}

fn drip_head(c: &mut Connection) {
    c.send("HTTP/1.1 200 OK\r\nx-drip: ");
    c.drip("a");
}

fn drip_body(c: &mut Connection) {
    c.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"success\": true");
    c.drip(" ");
}

fn drip_after_id(c: &mut Connection) {
    c.send(format!("HTTP/1.1 200 OK\r\n\r\n{{\"agent_id\": \"{ID}\","));
    c.drip(" ");
}

fn drip_rejection(c: &mut Connection) {
    c.send("HTTP/1.1 401 No\r\ncontent-length: 99\r\n\r\n{\"code\": \"UNAUTHORIZED\"");
    c.drip(" ");
}

fn busy() -> Reply {
    service_error(503, "NO_AVAILABLE_WORKERS")
}

fn generating() -> Reply {
    agent(json!({"status": "generating", "progress": 0.5}))
}

/// A connection for each reply.
fn closing<const N: usize>(all: [Reply; N]) -> Vec<Act> {
    replies(all.map(Reply::close))
}

fn after<const N: usize>(before: [Reply; N], last: Act) -> Vec<Act> {
    let mut acts = closing(before);
    acts.push(last);
    acts
}

/// Runs a call that is stopped at this stage, and checks its error. `false`: the machine was too
/// slow to reach the stage, or what the error is to know, in the time there is.
fn is_stopped(stage: &Stage, stop: Stop, soon: Duration) -> bool {
    let (name, at, request, acts, (kind, billing, has_id, is_seen), requests) = *stage;
    let (arrived, arrival) = mpsc::channel();
    let acts = acts(&arrived);
    let connections = acts.len();
    let server = Server::new(acts);
    let clock = server.clock.clone();
    let mut builder = server.builder().honors_idempotency_keys(true);
    if at == At::Handshake {
        builder = builder.base_url(server.url.replace("http:", "https:"));
    }
    if at == At::Proxy {
        builder = builder.base_url("http://service.test").proxy(&*server.url);
        builder = builder.allow_plain_http(true);
    }
    let api = builder.build().unwrap();
    let stalls = matches!(at, At::Stall | At::Handshake | At::Proxy);
    let timeout = match stop {
        Stop::Deadline if at == At::Start => Duration::ZERO,
        Stop::Deadline if stalls && connections == 1 => soon,
        _ => FAR,
    };
    if let At::Sleep(nth) = at {
        let (api, time, count) = (api.clone(), clock.clone(), AtomicUsize::new(1));
        clock.on_sleep(move || match stop {
            _ if count.fetch_add(1, Ordering::SeqCst) != nth => {}
            Stop::Deadline => time.pass(FAR),
            Stop::Shutdown => api.shutdown(),
        });
    }
    // Where the exchange that stalls is not the first, the deadline comes near before it.
    let comes_near = stop == Stop::Deadline && stalls && connections > 1;
    let time = clock.clone();
    let calling = api.on_event(move |event| {
        let delay = match event {
            Event::Accepted { .. } | Event::Polled { .. } => Duration::ZERO,
            Event::Retrying { delay, .. } => *delay,
            _ => return,
        };
        if comes_near {
            let near = FAR.saturating_sub(soon + delay);
            time.pass(near.saturating_sub(time.now()));
        }
    });
    if (stop, at) == (Stop::Shutdown, At::Start) {
        api.shutdown();
    }
    let wait = Wait::new().timeout(timeout).interval(ms(1));
    let mut end = clock.now() + timeout;
    let call = thread::spawn(move || calling.generate_and_wait(&request(), &wait));
    if stop == Stop::Shutdown && stalls {
        let arrival = arrival.recv_timeout(secs(10));
        arrival.unwrap_or_else(|_| panic!("{name}: not reached"));
        // What follows is a matter of microseconds, and right as well if it takes longer.
        thread::sleep(ms(30));
        end = clock.now();
        api.shutdown();
    }
    let error = call.join().unwrap().expect_err(name);
    let late = clock.now().saturating_sub(end);
    let seen = server.requests().len();
    let kind = kind.unwrap_or(match stop {
        Stop::Deadline => ErrorKind::WaitTimedOut,
        Stop::Shutdown => ErrorKind::ShutDown,
    });
    let knows = (error.kind(), error.billing());
    if stop == Stop::Deadline && (seen, knows) != (requests, (kind, billing)) {
        return false;
    }

    let case = format!("{name}, {stop:?}: {error:?}");
    // Under Wine a shutdown wakes who reads from a socket, and not who writes to it.
    let may_be_late = cfg!(windows) && stop == Stop::Shutdown && name.contains("upload");
    // The clock has skipped the sleep.
    let is_late = late >= GRACE && stalls && !may_be_late;
    assert!(!is_late, "{case}: {late:?} late");
    assert_eq!(knows, (kind, billing), "{case}");
    assert_eq!(error.agent_id(), has_id.then_some(ID), "{case}");
    assert_eq!(error.last_seen().is_some(), is_seen, "{case}");
    assert_eq!(seen, requests, "{case}");
    assert_eq!(server.connections(), connections, "{case}");
    let key = error.idempotency_key().expect(&case);
    assert!(server.keys().iter().all(|sent| sent == key), "{case}");
    let expected = (ErrorKind::WaitTimedOut, Billing::NotBilled);
    assert_eq!(error.is_retryable(), (kind, billing) == expected, "{case}");
    true
}

#[test]
fn a_call_stopped_anywhere_knows_what_there_is_to_know() {
    thread::scope(|scope| {
        for stage in stages() {
            if stage.1 == At::Handshake && cfg!(not(feature = "_tls")) {
                continue;
            }
            scope.spawn(move || {
                for stop in [Stop::Deadline, Stop::Shutdown] {
                    // On a slow machine, with more time.
                    let mut times = (0..6).map(|n| ms(200 << n));
                    let is_reached = times.any(|soon| is_stopped(&stage, stop, soon));
                    assert!(
                        is_reached,
                        "{}: {stop:?} comes before it, or its error is wrong",
                        stage.0
                    );
                }
            });
        }
    });
}

/// A deadline does not: ureq bounds each read of the response to CONNECT, and not all of them.
#[test]
fn a_proxy_that_drips_is_stopped_by_a_shutdown() {
    let drips: fn(&Arrived) -> Vec<Act> = |a| vec![stall(a, read, drip_head)];
    let stage: Stage = ("proxy drips", At::Proxy, small, drips, NOT_BILLED, 1);
    assert!(is_stopped(&stage, Stop::Shutdown, ms(200)));
}

#[test]
fn the_systems_clock_is_woken_and_runs_out() {
    let server = Server::new(closing([generating()]));
    let api = real_api(&server.url).build().unwrap();
    let wait = Wait::new().interval(ms(20)).timeout(SHORT);
    let start = Instant::now();
    let error = api.wait(ID, &wait).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WaitTimedOut, "{error}");
    assert!(start.elapsed() < SHORT + GRACE, "{:?}", start.elapsed());

    let stopper = api.clone();
    let stopping = thread::spawn(move || {
        thread::sleep(ms(100));
        stopper.shutdown();
    });
    let start = Instant::now();
    let error = api.wait(ID, &Wait::new().interval(FAR)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown, "{error}");
    assert!(error.last_seen().is_some() && start.elapsed() < GRACE);
    stopping.join().unwrap();
}

#[test]
fn uploads_retries_delays_and_polls_share_one_deadline() {
    let later = busy().header("retry-after", "20").takes(secs(10));
    let service = Service::new([later, accepted(), generating().takes(secs(3))]);
    let api = service.builder().max_retries(3).build().unwrap();
    let wait = Wait::new().timeout(FAR);
    let error = api.generate_and_wait(&small(), &wait).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WaitTimedOut, "{error}");
    // The first poll at 35 s, then one every 8 s, and the last one shortly before the end.
    let sleeps = service.clock.sleeps();
    assert_eq!(service.requests().len(), 2 + 4, "{sleeps:?}");
    assert!(service.clock.now() < FAR + secs(3), "{sleeps:?}");
}

#[test]
fn a_response_that_comes_with_the_deadline_is_read() {
    use ErrorKind::{Service, WaitTimedOut};
    for (response, kind, billing, id) in [
        (accepted(), WaitTimedOut, Billing::Billed, Some(ID)),
        (busy(), Service, Billing::NotBilled, None),
        (gateway(500), Service, Billing::Unknown, None),
    ] {
        let clock = FakeClock::new();
        let (time, response) = (clock.clone(), Vec::from(response));
        let server = Server::new([act(move |c| {
            c.request();
            time.pass(FAR);
            c.send(&*response);
        })]);
        let api = real_api(&server.url).clock(clock).build().unwrap();
        let wait = Wait::new().timeout(FAR);
        let error = api.generate_and_wait(&small(), &wait).unwrap_err();
        let known = (error.kind(), error.billing(), error.agent_id());
        assert_eq!(known, (kind, billing, id), "{error}");
        assert_eq!(server.connections(), 1, "{error}");
    }
}

/// The error of a generate request that is shut down in the body of its response.
fn shut_down_in_the_body(how: fn(&mut Connection)) -> Error {
    let (arrived, arrival) = mpsc::channel();
    let server = Server::new([stall(&arrived, read, how)]);
    // Without retries, of which each would be shut down too.
    let api = server.builder().max_retries(0).build().unwrap();
    let calling = api.clone();
    let call = thread::spawn(move || calling.generate(&small()));
    arrival.recv_timeout(secs(10)).unwrap();
    // The client reads on meanwhile.
    thread::sleep(ms(100));
    api.shutdown();
    call.join().unwrap().unwrap_err()
}

#[test]
fn a_shutdown_in_a_body_is_a_shutdown() {
    let error = shut_down_in_the_body(drip_body);
    let expected = (ErrorKind::ShutDown, Billing::Unknown, 1);
    assert_eq!(facts(&error), expected, "{error}");
}

#[test]
fn a_shutdown_in_a_body_without_a_length_is_a_shutdown() {
    let error = shut_down_in_the_body(|c| {
        c.send("HTTP/1.1 200 OK\r\n\r\n{\"success\": true");
        c.drip(" ");
    });
    let expected = (ErrorKind::ShutDown, Billing::Unknown, 1);
    assert_eq!(facts(&error), expected, "{error}");
}

/// As where a disk is slow to wake up.
#[test]
fn a_deadline_that_passes_while_media_are_read_ends_the_upload() {
    let server = Server::new(closing([accepted()]));
    let clock = FakeClock::new();
    let api = real_api(&server.url).clock(clock.clone()).build().unwrap();
    let api = api.on_event(move |_| clock.pass(FAR));
    let request = image(Media::bytes(vec![7; 300_000]));
    let wait = Wait::new().timeout(FAR);
    let error = api.generate_and_wait(&request, &wait).unwrap_err();
    let expected = (ErrorKind::WaitTimedOut, Billing::NotBilled, 1);
    assert_eq!(facts(&error), expected, "{error}");
}

type Call = fn(&Api) -> Option<Error>;

const CALLS: [Call; 4] = [
    |api| api.generate(&small()).err(),
    |api| api.generate_and_wait(&small(), &Wait::new()).err(),
    |api| api.status(ID).err(),
    |api| api.wait(ID, &Wait::new()).err(),
];

#[test]
fn a_shutdown_ends_all_calls_and_is_permanent_for_every_clone() {
    let (arrived, arrival) = mpsc::channel();
    let (left, leaving) = mpsc::channel();
    let server = Server::new([act(move |c| {
        c.request();
        if c.number == 0 {
            c.send(status("processing"));
        }
        arrived.send(()).unwrap();
        c.hold();
        left.send(()).unwrap();
    })]);
    let api = real_api(&server.url).build().unwrap();
    let mut watch = api.watch(ID, &Wait::new());
    assert!(watch.next().unwrap().is_ok());
    let running = CALLS.map(|call| {
        let api = api.clone();
        thread::spawn(move || call(&api))
    });
    // One of them has the connection that was kept.
    for _ in CALLS {
        arrival.recv_timeout(secs(10)).unwrap();
    }
    thread::sleep(ms(30));
    let connections = server.connections();
    let start = Instant::now();
    api.shutdown();
    for call in running {
        assert_eq!(call.join().unwrap().unwrap().kind(), ErrorKind::ShutDown);
    }
    for _ in 0..connections {
        leaving.recv_timeout(GRACE).expect("a connection is kept");
    }
    assert!(start.elapsed() < GRACE, "{:?}", start.elapsed());

    let hooked = api.on_event(|event| panic!("{event:?}"));
    api.clone().shutdown();
    for api in [api.clone(), api, hooked] {
        for call in CALLS {
            let error = call(&api).unwrap();
            let known = (error.kind(), error.attempts(), error.is_retryable());
            assert_eq!(known, (ErrorKind::ShutDown, 0, false), "{error:?}");
        }
    }
    let error = watch.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown);
    assert!(watch.next().is_none());
    assert_eq!(server.connections(), connections);
}

#[test]
fn a_call_can_be_shut_down_by_its_own_events() {
    use Event::{Accepted, Uploading};
    type IsTime = fn(&Event) -> bool;
    let rows: [(IsTime, Option<Billing>); 3] = [
        (
            |event| matches!(event, Uploading { sent, total } if sent < total),
            Some(Billing::NotBilled),
        ),
        (
            |event| matches!(event, Uploading { sent, total } if sent == total),
            Some(Billing::Unknown),
        ),
        // It has its response.
        (|event| matches!(event, Accepted { .. }), None),
    ];
    for (is_time, billing) in rows {
        let server = Server::new(closing([accepted()]));
        let api = server.builder().build().unwrap();
        let stopper = api.clone();
        let api = api.on_event(move |event| {
            if is_time(event) {
                stopper.shutdown();
            }
        });
        let request = image(Media::bytes(vec![7; 300_000]));
        let error = api.generate(&request).err();
        let expected = billing.map(|billing| (ErrorKind::ShutDown, billing, 1));
        assert_eq!(error.as_ref().map(facts), expected, "{error:?}");
        // The server may not have seen the first one yet.
        assert!(server.connections() <= 1, "{error:?}");
    }
}

/// What the errors of both requests know of the response.
fn statuses(asked: &Asked) -> [Option<u16>; 2] {
    let errors = [asked.0.as_ref().err(), asked.1.as_ref().err()];
    errors.map(|error| error?.http_status())
}

#[test]
fn a_response_that_stalls_or_drips_runs_out_of_time() {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    let chunked = format!("{OK}transfer-encoding: chunked\r\n\r\n");
    let no_head = "no response from 127.0.0.1:";
    let no_end = "no whole response from 127.0.0.1:";
    let rows = [
        (String::new(), "", no_head),
        ("HTTP/1.1 200 ".into(), "O", no_head),
        (format!("{OK}x-drip: "), "x", no_head),
        (OK.into(), "x: 1\r\n", no_head),
        (String::new(), "HTTP/1.1 103 Hints\r\n\r\n", no_head),
        (String::new(), "HTTP/1.1 100 Continue\r\n\r\n", no_head),
        (format!("{OK}content-length: 9999\r\n\r\n{{"), " ", no_end),
        (format!("{OK}\r\n{{"), " ", no_end),
        (format!("{chunked}1\r\n{{\r\n"), "1\r\n \r\n", no_end),
        (format!("{chunked}ffff\r\n{{"), " ", no_end),
        (format!("{chunked}2\r\n{{}}\r\n0\r\n"), "x: 1\r\n", no_end),
        (format!("{chunked}2\r\n{{}}\r\n0\r\n"), "", no_end),
    ];
    thread::scope(|scope| {
        for (start, piece, says) in rows {
            scope.spawn(move || {
                let case = format!("{start}{piece}");
                let status = (says == no_end).then_some(200);
                let play = move |c: &mut Connection| {
                    c.request();
                    c.send(&*start);
                    c.drip(piece);
                };
                // On a slow machine, with more time for the head.
                let asked = (0..6)
                    .map(|n| ask(SHORT * (1 << n), play.clone()))
                    .find(|asked| statuses(asked) == [status; 2])
                    .unwrap_or_else(|| panic!("{case}: the status is not {status:?}"));
                for error in both_fail(case, asked, ErrorKind::Timeout, status, UNKNOWN) {
                    assert_says(&error, says);
                }
            });
        }
    });
}

#[test]
fn an_upload_that_is_not_read_runs_out_of_time_and_is_not_retried() {
    let server = Server::new([act(|c| {
        c.head();
        c.stall();
    })]);
    let api = server.builder().response_timeout(SHORT).build().unwrap();
    let error = api.generate(&large()).unwrap_err();
    let expected = (ErrorKind::Timeout, Billing::NotBilled, 1);
    assert_eq!(facts(&error), expected, "{error}");
    assert_says(&error, "did not read the request within 0.1 s after ");
    assert_eq!(server.requests().len(), 1);
}

#[cfg(target_os = "linux")]
#[test]
fn a_connection_that_is_not_made_runs_out_of_time() {
    unless_it_hangs(connect_where_the_queue_is_full);
}

/// There the system lets the next connection wait.
#[cfg(target_os = "linux")]
fn connect_where_the_queue_is_full() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, ms(100)) {
        queue.push(stream);
    }
    let start = Instant::now();
    let url = format!("http://{address}");
    let says = format!("no connection to {address} within 0.1 s");
    let impatient = api(&url).connect_timeout(SHORT).build().unwrap();
    let error = impatient.generate(&small()).unwrap_err();
    assert_eq!(facts(&error), (ErrorKind::Timeout, Billing::NotBilled, 1));
    assert_says(&error, &says);
    let error = impatient.status(ID).unwrap_err();
    assert_says(&error, &says);
    let api = real_api(&url).build().unwrap();
    let wait = Wait::new().timeout(SHORT);
    let error = api.generate_and_wait(&small(), &wait).unwrap_err();
    let out_of_time = ErrorKind::WaitTimedOut;
    assert_eq!(facts(&error), (out_of_time, Billing::NotBilled, 1));
    let error = api.wait(ID, &wait).unwrap_err();
    assert_eq!(facts(&error), (out_of_time, Billing::Billed, 1));
    // A shutdown cannot wake a thread that connects: it ends with the connect timeout.
    let api = real_api(&url).connect_timeout(ms(250)).build().unwrap();
    let calling = api.clone();
    let call = thread::spawn(move || calling.generate(&small()));
    thread::sleep(ms(50));
    api.shutdown();
    let error = call.join().unwrap().unwrap_err();
    assert_eq!(facts(&error), (ErrorKind::ShutDown, Billing::NotBilled, 1));
    assert!(start.elapsed() < SHORT * 5 + GRACE, "{:?}", start.elapsed());
}

/// A response that is good for both requests, of this length.
fn good(len: usize) -> String {
    let start = format!(r#"{{"agent_id": "{ID}", "data": {{"status": "ready", "system_prompt": ""#);
    format!("{start}{}\"}}}}", "p".repeat(len - start.len() - 3))
}

#[test]
fn a_body_is_read_up_to_one_mib() {
    let body = good(MIB);
    let chunks = format!("transfer-encoding: chunked\r\n\r\n{MIB:x}\r\n{body}\r\n0\r\n\r\n");
    for bytes in [
        Reply::new(200, body).into(),
        format!("HTTP/1.1 200 OK\r\n{chunks}").into_bytes(),
    ] {
        let (agent, generation) = ask_for(bytes);
        assert!(agent.unwrap().is_ready());
        assert_eq!(generation.unwrap().agent_id, ID);
    }
    let server = Server::new(closing([Reply::new(200, good(MIB + 9))]));
    let api = api(&server.url).build().unwrap();
    // The status and the id come before the end of what is read.
    assert!(api.status(ID).unwrap().is_ready());
    assert_eq!(api.generate(&small()).unwrap().agent_id, ID);
}

#[test]
fn a_head_is_read_up_to_32_kib_and_128_headers() {
    const START: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n";
    // A head of this length, but for its body's first line.
    let of_length = |length: usize, header: usize| {
        let mut head = START.to_owned();
        while length - head.len() > header + 100 {
            head += &format!("x: {}\r\n", "h".repeat(header - 5));
        }
        head += &format!("x: {}\r\n\r\n", "h".repeat(length - head.len() - 7));
        assert_eq!(head.len(), length);
        head
    };
    let of_headers = |count: usize| format!("{START}{}\r\n", "x: 1\r\n".repeat(count - 1));
    const KIB: usize = 1024;
    let (long, many) = ("larger than 32 KiB", "more than 128 headers");
    for (head, says) in [
        (of_length(32 * KIB, 1000), None),
        (of_length(32 * KIB, 32_000), None),
        (of_headers(128), None),
        (of_length(32 * KIB + 1, 1000), Some(long)),
        (of_length(32 * KIB + 1, 32_000), Some(long)),
        (of_length(40 * KIB, 1000), Some(long)),
        (of_length(64 * KIB, 1000), Some(long)),
        (of_headers(129), Some(many)),
        (of_headers(3000), Some(many)),
    ] {
        let case = format!("{} bytes", head.len());
        let asked = ask_for(format!("{head}{}", good(100)));
        let Some(says) = says else {
            let (agent, generation) = asked;
            assert!(agent.unwrap().is_ready() && generation.is_ok());
            continue;
        };
        let kind = ErrorKind::UnexpectedResponse;
        for error in both_fail(case, asked, kind, None, UNKNOWN) {
            assert_says(&error, says);
        }
    }
}

#[test]
fn a_response_without_an_end_is_not_swallowed() {
    const OK: &str = "HTTP/1.1 200 OK\r\n";
    let chunked = "transfer-encoding: chunked\r\n\r\n";
    let huge = "content-length: 10000000000\r\n\r\n";
    let rows: [(String, &[u8], Option<u16>); 10] = [
        (format!("{OK}x: "), b"x", None),
        (OK.into(), b"x: 1\r\n", None),
        ("HTTP/1.1 200 ".into(), b"O", None),
        (String::new(), b"\r\n", None),
        (String::new(), b"HTTP/1.1 102 Wait\r\n\r\n", None),
        (format!("{OK}{huge}{{\"x\": \""), b"x", Some(200)),
        (format!("{OK}{chunked}"), b"8\r\nxxxxxxxx\r\n", Some(200)),
        (format!("{OK}{chunked}ffffffff\r\n"), b"x", Some(200)),
        (format!("{OK}\r\n["), b"[],", Some(200)),
        (format!("HTTP/1.1 500 No\r\n{huge}"), b"<p>", Some(500)),
    ];
    for (start, piece, status) in rows {
        let kind = match status {
            Some(500) => ErrorKind::Service,
            _ => ErrorKind::UnexpectedResponse,
        };
        let (poured, amounts) = mpsc::channel();
        let case = [start.as_bytes(), piece].concat();
        let asked = ask(secs(20), move |c| {
            c.request();
            c.send(&*start);
            poured.send(c.pour(piece, FLOOD)).unwrap();
        });
        both_fail(case, asked, kind, status, UNKNOWN);
        for amount in amounts.iter().take(2) {
            assert!(amount < FLOOD / 2, "{amount} bytes went out");
        }
    }
}

/// What grows by itself in an emulator, such as the QEMU of tests/targets/run: the code that it
/// translates.
#[cfg(target_os = "linux")]
const TRANSLATED: usize = cfg!(target_arch = "arm") as usize * 4 * MIB;

/// By how much the memory of this process grows at its peak.
#[cfg(target_os = "linux")]
pub fn growth(f: impl FnOnce()) -> usize {
    let peak = || {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<usize>().unwrap() * 1024
    };
    let before = peak();
    f();
    (peak() - before).saturating_sub(TRANSLATED)
}

#[cfg(target_os = "linux")]
#[test]
fn a_response_takes_little_more_memory_than_its_text() {
    let child = || {
        let arrays = format!("[{}0]", "[[],[1],{\"a\":[]}],".repeat(55_000));
        let fields: Vec<_> = (0..60_000).map(|n| format!("\"f{n}\":[[]],")).collect();
        let fields = fields.concat();
        let (id, ready) = (format!("\"agent_id\":\"{ID}\""), "\"status\":\"ready\"");
        let bodies = [
            format!("{{{id},\"x\":{arrays},\"data\":{{{ready}}}}}"),
            format!("{{{id},\"data\":{{{ready},\"x\":{arrays}}}}}"),
            format!("{{{id},{fields}\"data\":{{{ready}}}}}"),
            format!("{{{id},\"data\":{{{fields}{ready}}}}}"),
            format!("{{\"error\":\"no\",\"details\":{arrays}}}"),
            format!("{{\"error\":\"no\",{fields}\"x\":1}}"),
            arrays,
        ];
        for body in bodies {
            assert!((800_000..MIB).contains(&body.len()), "{}", body.len());
            let server = Server::new([reply(Reply::new(200, body).close())]);
            let api = api(&server.url).build().unwrap();
            let grown = growth(|| {
                let kept = api.status(ID).map_or(0, |agent| agent.extra.len());
                let more = api.generate(&small()).map_or(0, |agent| agent.extra.len());
                assert!(kept + more < 10_000, "{kept} and {more} fields");
            });
            assert!(grown < 16 * MIB, "{grown} bytes");
        }
    };
    let name = "bounded::a_response_takes_little_more_memory_than_its_text";
    alone(name, &[], child);
}

/// A file of zeros that takes no space.
fn zeros(length: usize) -> TempFile {
    let temp = TempFile::new("");
    let file = File::create(&temp.0).unwrap();
    file.set_len(length as u64).unwrap();
    temp
}

fn image(media: Media) -> GenerateRequest {
    GenerateRequest::new().image(media)
}

/// Reads a request without keeping its body, accepts it, and returns how much of the body came.
fn swallow(c: &mut Connection) -> usize {
    let Some(request) = c.head() else { return 0 };
    let length = request.content_length() as u64;
    let read = io::copy(&mut (&mut c.stream).take(length), &mut io::sink());
    c.send(accepted().close());
    read.unwrap_or_default() as usize
}

#[cfg(target_os = "linux")]
#[test]
fn an_upload_takes_the_same_memory_whatever_its_length() {
    let child = || {
        let server = Server::new([act(|c| {
            swallow(c);
        })]);
        let api = api(&server.url).build().unwrap().on_event(|_| {});
        let file = zeros(64 * MIB);
        let grown = growth(|| {
            let request = image(Media::file(&file.0));
            api.generate(&request).unwrap();
        });
        assert!(grown < 8 * MIB, "{grown} bytes");
    };
    let name = "bounded::an_upload_takes_the_same_memory_whatever_its_length";
    alone(name, &[], child);
}

/// The `Uploading` events of a request, each of which takes this long on the clock.
fn uploading(request: &GenerateRequest, step: Duration) -> Vec<(u64, u64)> {
    let server = Server::new([act(|c| {
        swallow(c);
    })]);
    let clock = FakeClock::new();
    let api = api(&server.url).clock(clock.clone()).build().unwrap();
    let (send, events) = mpsc::channel();
    let caller = thread::current().id();
    let api = api.on_event(move |event| {
        assert_eq!(thread::current().id(), caller);
        if let Event::Uploading { sent, total } = event {
            send.send((*sent, *total)).unwrap();
            clock.pass(step);
        }
    });
    api.generate(request).unwrap();
    events.try_iter().collect()
}

#[test]
fn an_upload_is_reported_as_it_goes() {
    let file = zeros(24 * MIB);
    let request = image(Media::file(&file.0));
    let total = (32 * MIB + r#"{"image":""}"#.len()) as u64;
    let events = uploading(&request, ms(0));
    assert!((50..=110).contains(&events.len()), "{events:?}");
    assert!(
        events.is_sorted_by(|one, next| one.0 < next.0),
        "{events:?}"
    );
    assert!(events.iter().all(|event| event.1 == total), "{events:?}");
    assert_eq!(events.last(), Some(&(total, total)));
    // Every 100 ms, if that is more often.
    assert!(uploading(&request, ms(9)).len() <= 110);
    let slow = uploading(&request, ms(100)).len();
    assert!(slow > 300, "{slow} events");
}

#[test]
fn a_file_that_changes_while_it_is_sent_is_never_sent_whole() {
    type Change = fn(&File) -> io::Result<()>;
    let changes: [Change; 3] = [
        |file| file.set_len(1),
        |file| file.set_len(25 * MIB as u64),
        |file| file.set_modified(SystemTime::UNIX_EPOCH),
    ];
    for change in changes {
        let file = zeros(24 * MIB);
        let (received, amounts) = mpsc::channel();
        let server = Server::new([act(move |c| received.send(swallow(c)).unwrap())]);
        let (path, is_changed) = (file.0.clone(), AtomicBool::new(false));
        let api = server.builder().build().unwrap().on_event(move |_| {
            if !is_changed.swap(true, Ordering::SeqCst) {
                change(&File::options().write(true).open(&path).unwrap()).unwrap();
            }
        });
        let request = image(Media::file(&file.0));
        let error = unless_it_hangs(move || api.generate(&request)).unwrap_err();
        let path = file.0.display();
        let says = format!("generate: the file changed while it was read: {path}");
        assert_eq!(error.to_string(), says);
        let expected = (ErrorKind::InvalidInput, Billing::NotBilled, 1);
        assert_eq!(facts(&error), expected, "{error}");
        let amount = amounts.recv_timeout(secs(10)).unwrap();
        assert!(amount < 32 * MIB, "the server has all of it");
        assert_eq!(server.requests().len(), 1);
    }
}

/// Responds to every request with an agent that is ready, and whose file is on this server.
fn ready(c: &mut Connection) {
    let url = format!("http://{}/file", c.stream.local_addr().unwrap());
    let body = json!({"agent_id": ID, "data": {"status": "ready", "url": url}});
    while let Some(request) = c.request() {
        c.send(match &*request.target {
            "/file" => Reply::new(200, "a file"),
            _ => Reply::json(200, body.clone()),
        });
    }
}

/// Set in the process that makes the calls.
const URL: &str = "TEST_URL";

/// Has calls made in a process that this command runs, to a service by address, by name and
/// through a proxy.
fn call_from_a_process(name: &str, command: Command, calls: impl Fn(&str, Option<&str>)) {
    const PROXY: &str = "TEST_PROXY";
    // The child starts no server, and so no thread.
    if let Ok(url) = env::var(URL) {
        let proxy = env::var(PROXY).ok();
        return alone_by(command, name, &[], || calls(&url, proxy.as_deref()));
    }
    let server = Server::new([act(ready)]);
    let proxy = Server::new([act(|c| {
        let asked = c.head();
        assert!(asked.is_some_and(|request| request.method == "CONNECT"));
        c.send("HTTP/1.1 200 Connected\r\n\r\n");
        ready(c);
    })]);
    let port = server.address.port();
    for (host, proxy) in [
        ("127.0.0.1", None),
        ("localhost", None),
        ("service.test", Some(&*proxy.url)),
    ] {
        let url = format!("http://{host}:{port}");
        let mut variables = vec![(URL, &*url)];
        variables.extend(proxy.map(|proxy| (PROXY, proxy)));
        let mut again = Command::new(command.get_program());
        again.args(command.get_args());
        alone_by(again, name, &variables, || {});
    }
    assert!(!server.requests().is_empty() && !proxy.requests().is_empty());
}

/// Makes every call with a deadline and without.
fn call_all(url: &str, proxy: Option<&str>) {
    let mut builder = real_api(url).allow_plain_http(true);
    if let Some(proxy) = proxy {
        builder = builder.proxy(proxy);
    }
    let api = builder.build().unwrap();
    let wait = Wait::new().interval(ms(1)).timeout(secs(50));
    assert!(api.generate_and_wait(&small(), &wait).unwrap().is_ready());
    assert!(api.wait(ID, &Wait::new()).unwrap().is_ready());
    assert!(api.status(ID).unwrap().is_ready());
    assert_eq!(api.generate(&small()).unwrap().agent_id, ID);
    // Through a proxy the service is not on localhost, and may not name a URL there.
    // An ordinary user may write there.
    let path = env::temp_dir().join(format!("bithuman-{}.imx", std::process::id()));
    let downloaded = api.download(ID, &path, &Download::new());
    assert_eq!(downloaded.is_ok(), proxy.is_none(), "{downloaded:?}");
    let _ = fs::remove_file(path);
}

#[cfg(target_os = "linux")]
#[test]
fn no_call_starts_a_thread() {
    let count = || fs::read_dir("/proc/self/task").unwrap().count();
    let calls = |url: &str, proxy: Option<&str>| {
        let is_over = AtomicBool::new(false);
        let (most, least) = thread::scope(|scope| {
            // A thread for a DNS lookup lives for some 100 us.
            let counting = scope.spawn(|| {
                let mut counts = vec![count()];
                while !is_over.load(Ordering::SeqCst) {
                    counts.push(count());
                }
                (counts.iter().max().copied(), counts.iter().min().copied())
            });
            for _ in 0..100 {
                call_all(url, proxy);
            }
            is_over.store(true, Ordering::SeqCst);
            counting.join().unwrap()
        });
        assert_eq!(most, least, "{url} {proxy:?}");
    };
    let command = Command::new(env::current_exe().unwrap());
    call_from_a_process("bounded::no_call_starts_a_thread", command, calls);
}

/// Where the system refuses a new thread, ureq panics if it wants one.
#[cfg(target_os = "linux")]
#[test]
fn calls_work_where_no_thread_can_be_started() {
    let calls = |url: &str, proxy: Option<&str>| {
        let thread = thread::Builder::new().spawn(|| {});
        assert!(thread.is_err(), "a thread can be started");
        call_all(url, proxy);
    };
    use std::os::unix::fs::MetadataExt;
    let program = env::current_exe().unwrap();
    let mut command = Command::new("prlimit");
    // The limit does not hold for root.
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command = Command::new("setpriv");
        let user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
        command.args(user).arg("prlimit");
    }
    command.arg("--nproc=1");
    let mut probe = Command::new(command.get_program());
    probe.args(command.get_args()).arg(&program).arg("--list");
    let mut can_run = || probe.output().is_ok_and(|output| output.status.success());
    if env::var_os(URL).is_none() && !can_run() {
        println!("skipped: no ordinary user can run this program");
        return;
    }
    command.arg(program);
    let name = "bounded::calls_work_where_no_thread_can_be_started";
    call_from_a_process(name, command, calls);
}
