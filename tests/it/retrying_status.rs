//! A status request: what is retried, how often and when, and connections that break.

use std::iter;
use std::sync::{Arc, Barrier};
use std::thread;

use bithuman::ErrorKind::{self as Kind, *};
use bithuman::{Clock, Error, Wait};

use crate::harness::Service;
use crate::harness::*;

fn error(status: u16) -> Reply {
    Reply::new(status, "")
}

fn unavailable(retry_after: &str) -> Reply {
    error(503).header("retry-after", retry_after)
}

#[test]
fn a_status_is_retried_up_to_max_retries_times() {
    // The kind at the end, the least and the most of each sleep in milliseconds
    let backoff = &[(0, 500), (0, 1_000), (0, 2_000)][..];
    let rows = [
        (vec![error(408)], Some(Kind::Service), backoff),
        (vec![error(425)], Some(Kind::Service), backoff),
        (vec![error(429)], Some(RateLimited), backoff),
        (vec![gateway(502)], Some(Kind::Service), backoff),
        (vec![error(500), ready()], None, &backoff[..1]),
        (vec![error(500), error(503), ready()], None, &backoff[..2]),
        (
            vec![error(500), error(401)],
            Some(Unauthorized),
            &backoff[..1],
        ),
        // `Retry-After` is a floor, and not longer than 60 s.
        (vec![unavailable("60"), ready()], None, &[(60_000, 60_000)]),
        (vec![unavailable("0.2"), ready()], None, &[(200, 500)]),
        (vec![unavailable("61"), ready()], Some(Kind::Service), &[]),
        // What the service means is not asked again.
        (vec![error(302), ready()], Some(Rejected), &[]),
        (vec![error(404), ready()], Some(NotFound), &[]),
        (vec![error(200), ready()], Some(UnexpectedResponse), &[]),
        (vec![status("dreaming"), ready()], None, &[]),
    ];
    for (script, kind, sleeps) in rows {
        let service = Service::new(script.clone());
        let events = Events::default();
        let api = events.record(service.builder().max_retries(3));
        let found = api.status(ID);
        let error = found.as_ref().err();
        assert_eq!(error.map(Error::kind), kind, "{found:?}");
        let requests = sleeps.len() + 1;
        assert_eq!(service.requests().len(), requests, "{found:?}");
        assert!(error.is_none_or(|error| error.attempts() as usize == requests));
        let slept = service.clock.sleeps();
        for (&sleep, &(least, most)) in slept.iter().zip(sleeps) {
            assert!(
                (ms(least)..=ms(most)).contains(&sleep),
                "{sleep:?}: {found:?}"
            );
        }
        let retries: Vec<_> = (1..).zip(slept).collect();
        assert_eq!(events.retries(), retries, "{found:?}");
    }
    let service = Service::new([error(500)]);
    let api = service.builder().max_retries(40).build().unwrap();
    assert_eq!(api.status(ID).unwrap_err().attempts(), 41);
    let longest = service.clock.sleeps().into_iter().max().unwrap();
    assert!((secs(15)..=secs(30)).contains(&longest), "{longest:?}");
    let service = Service::new([error(500), ready()]);
    assert_eq!(service.api().status(ID).unwrap_err().kind(), Kind::Service);
    assert_eq!(service.requests().len(), 1);
}

/// A server whose first connection gives a good response and breaks at the next request.
fn breaks_when_idle(then: impl IntoIterator<Item = Act>) -> Server {
    let first = act(|c| {
        c.request();
        c.send(processing());
        c.all_but_the_last_byte();
    });
    Server::new([first].into_iter().chain(then))
}

#[test]
fn the_first_retry_after_a_broken_connection_is_immediate_and_not_counted() {
    let ready = || reply(ready());
    // What comes after the break of the idle connection, how often it is retried after a sleep
    let rows = [
        (vec![ready()], 0),
        (vec![resets(), ready()], 1),
        (vec![closes(), ready()], 1),
        (vec![resets(), closes(), ready()], 1),
        (vec![resets(), closes(), closes(), ready()], 2),
        (vec![reply(error(503).close()), ready()], 1),
    ];
    for (then, retries) in rows {
        let requests = then.len() + 2;
        let server = breaks_when_idle(then);
        let events = Events::default();
        let api = events.record(server.builder());
        assert!(api.wait(ID, &Wait::new()).unwrap().is_ready());
        let expected: Vec<_> = (1..=retries).map(|n| (n, secs(5))).collect();
        assert_eq!(events.retries(), expected);
        let sleeps = server.clock.sleeps();
        assert_eq!(sleeps, vec![secs(5); retries as usize + 1]);
        assert_eq!(server.requests().len(), requests);
        // All but the first two requests have a connection of their own.
        assert_eq!(server.connections(), requests - 1);
    }
    // The same where the server closes the connection in good order.
    let first = act(|c| {
        c.request();
        c.send(processing());
        c.request();
    });
    let server = Server::new([first, reply(error(401))]);
    let api = server.builder().build().unwrap();
    assert_eq!(api.wait(ID, &Wait::new()).unwrap_err().attempts(), 2);
}

#[test]
fn a_broken_connection_is_tried_again_even_without_retries() {
    let server = breaks_when_idle([reply(ready())]);
    let api = server.builder().max_retries(0).build().unwrap();
    assert!(!api.status(ID).unwrap().is_ready());
    assert!(api.status(ID).unwrap().is_ready());
    assert_eq!(server.clock.sleeps(), []);

    let server = Server::new([resets()]);
    let api = server.builder().max_retries(1).build().unwrap();
    let error = api.status(ID).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Network, 2), "{error:?}");
    assert_eq!(server.connections(), 4);
}

#[test]
fn the_immediate_retry_takes_no_other_idle_connection() {
    let both = Arc::new(Barrier::new(2));
    let breaks = || {
        let both = both.clone();
        act(move |c| {
            c.request();
            both.wait();
            c.send(processing());
            c.all_but_the_last_byte();
        })
    };
    let server = Server::new([breaks(), breaks(), reply(ready())]);
    let api = server.builder().max_retries(0).build().unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| api.status(ID).unwrap());
        }
    });
    assert!(api.status(ID).unwrap().is_ready());
    assert_eq!(server.connections(), 3);
}

#[test]
fn a_request_without_a_whole_response_is_retried() {
    let rows = [
        ("", Network),
        ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Network),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"data\"",
            Network,
        ),
        (
            "HTTP/1.1 200 OK\r\nnot a header\r\n\r\n",
            UnexpectedResponse,
        ),
        ("220 mail.example ESMTP\r\n", UnexpectedResponse),
    ];
    for (bytes, kind) in rows {
        let server = Server::new([reply(bytes)]);
        let api = server.builder().max_retries(0).build().unwrap();
        let error = api.status(ID).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (kind, 1), "{error:?}");
        // One that breaks without a byte is tried a second time at once.
        let connections = if bytes.is_empty() { 2 } else { 1 };
        assert_eq!(server.connections(), connections, "{bytes:?}");
        let first = iter::repeat_with(|| reply(bytes)).take(connections);
        let server = Server::new(first.chain([reply(ready())]));
        let api = server.builder().max_retries(1).build().unwrap();
        assert!(api.status(ID).unwrap().is_ready());
        assert_eq!(server.clock.sleeps().len(), 1);
    }
    let server = Server::new([stalls(), reply(ready())]);
    let builder = server.builder().response_timeout(ms(100));
    assert!(builder.build().unwrap().status(ID).unwrap().is_ready());
    assert_eq!(server.clock.sleeps().len(), 1);
}

#[test]
fn a_response_that_breaks_off_in_chunks_is_retried() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let first = reply(format!("{head}7\r\n{{\"data\"\r\nzz\r\n"));
    let server = Server::new([first, reply(ready())]);
    let api = server.builder().build().unwrap();
    assert!(api.status(ID).unwrap().is_ready());
}

#[test]
fn a_wait_retries_through_what_a_status_does() {
    let url = format!("http://127.0.0.1:{}", unused_port());
    let events = Events::default();
    let wait = Wait::new().interval(secs(30)).outage(secs(60));
    let error = events.record(api(&url)).wait(ID, &wait).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Network, 3), "{error:?}");
    assert_eq!(events.retries(), [(1, secs(30)), (2, secs(29))]);
}

#[test]
fn a_poll_in_flight_ends_with_the_deadline() {
    let server = Server::new([stalls()]);
    let api = server.builder().build().unwrap();
    let error = api.wait(ID, &Wait::new().timeout(ms(200))).unwrap_err();
    assert_eq!(error.kind(), WaitTimedOut, "{error:?}");
    assert_eq!(error.attempts(), 1);
    assert!(server.clock.now() < secs(10), "the request did not end");
}

#[test]
fn the_immediate_retry_ends_with_the_deadline() {
    let first = act(|c| {
        c.request();
        c.clock.pass(secs(60));
    });
    let server = Server::new([first, reply(ready())]);
    let api = server.builder().build().unwrap();
    let wait = Wait::new().timeout(secs(60));
    assert_eq!(api.wait(ID, &wait).unwrap_err().kind(), WaitTimedOut);
    assert_eq!(server.connections(), 1);
}
