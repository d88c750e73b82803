//! Trust, over real sockets: good with a root of one's own, and each way in which there is none.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bithuman::serde_json;
use bithuman::{
    Api, ApiBuilder, Billing, Download, Error, ErrorKind, GenerateRequest, Media, Wait,
};
use rustls::version::{TLS12, TLS13};

use crate::harness::*;
use crate::server::*;

/// The errors of a status request and of a generate request, which was not billed.
#[track_caller]
fn both_fail(builder: ApiBuilder, kind: ErrorKind) -> [Error; 2] {
    let api = builder.build().unwrap();
    let errors = [
        api.status(ID).unwrap_err(),
        api.generate(&request()).unwrap_err(),
    ];
    for error in &errors {
        assert_eq!((error.kind(), error.attempts()), (kind, 1), "{error:?}");
        assert!(!printed(error).contains(SECRET), "{error:?}");
    }
    assert_eq!(errors[1].billing(), Billing::NotBilled, "{errors:?}");
    errors
}

/// The words of the TLS library in use: rustls, or OpenSSL. The library finds its hints by them.
fn words_of(rustls: &'static str, openssl: &'static str) -> &'static str {
    match cfg!(feature = "rustls") {
        true => rustls,
        false => openssl,
    }
}

fn trusting(server: &Server, authority: &Authority) -> ApiBuilder {
    client(&https(server)).root_certificates_pem(authority.pem())
}

#[test]
fn a_root_of_ones_own_is_trusted() {
    let authority = Authority::new();
    let bundle = format!("# two\r\n{}\n{}", Authority::new().pem(), authority.pem());
    for version in [&TLS13, &TLS12] {
        let server = good(authority.here().only(version));
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("https://{host}:{}/prefix/", server.address.port());
            let api = client(&url)
                .root_certificates_pem(&*bundle)
                .build()
                .unwrap();
            assert!(api.status(ID).unwrap().is_ready());
            let large = GenerateRequest::new().image(Media::bytes(vec![7; 2_000_000]));
            assert_eq!(api.generate(&large).unwrap().agent_id, ID);
            let agent = api.generate_and_wait(&request(), &Wait::new());
            assert!(agent.unwrap().is_ready());
        }
        let requests = server.requests();
        let counts = (requests.len(), server.preflights(), server.connections());
        assert_eq!(counts, (8, 2, 2));
        for request in requests {
            let target = &request.target;
            assert!(target.starts_with("/prefix/v1/agent/"), "{target}");
            assert_eq!(request.header("api-secret"), Some(SECRET));
        }
    }
}

#[test]
fn whoever_cannot_be_trusted_gets_no_request_and_the_error_says_why() {
    const UNTRUSTED: &str = "its certificate is from an issuer that is not trusted (see \
        root_certificates_pem and the feature platform-verifier)";
    const OTHER_HOST: &str = "its certificate is for another host";
    const EXPIRED: &str = "its certificate has expired, or the local clock is wrong";
    const TOO_EARLY: &str = "its certificate is not valid yet, or the local clock is wrong";
    let unknown_issuer = words_of("UnknownIssuer", "unable to get local issuer certificate");
    let bad_signature = words_of("BadSignature", "certificate signature failure");
    let bad_name = words_of("not valid for name \"127.0.0.1\"", "IP address mismatch");
    let too_early = words_of("not valid yet", "not yet valid");
    let (ours, other) = (Authority::new(), Authority::new());
    let (old, new) = (Authority::named("Ours"), Authority::named("Ours"));
    let of_name = |name| ours.issue(&[name], NOW);
    let of_years = |years| ours.issue(&["127.0.0.1"], years);
    for (identity, roots, why, cause) in [
        (ours.here(), None, UNTRUSTED, unknown_issuer),
        (ours.here(), Some(&other), UNTRUSTED, unknown_issuer),
        (new.here(), Some(&old), UNTRUSTED, bad_signature),
        (
            of_name("service.example"),
            Some(&ours),
            OTHER_HOST,
            bad_name,
        ),
        (of_name("localhost"), Some(&ours), OTHER_HOST, bad_name),
        (of_name("127.0.0.2"), Some(&ours), OTHER_HOST, bad_name),
        (of_years(1970..2001), Some(&ours), EXPIRED, "expired"),
        (of_years(3900..4000), Some(&ours), TOO_EARLY, too_early),
    ] {
        let server = good(identity);
        let mut builder = client(&https(&server)).max_retries(3);
        if let Some(roots) = roots {
            builder = builder.root_certificates_pem(roots.pem());
        }
        for error in both_fail(builder, ErrorKind::Tls) {
            let says = format!("no trusted TLS connection to {}: {why}", server.address);
            assert_says(&error, &says);
            assert!(format!("{error:?}").contains(cause), "{error:?}");
            assert!(!error.is_retryable(), "{error}");
        }
        assert_eq!(server.requests().len(), 0, "{why}");
        assert_eq!(server.connections(), 2, "{why}");
    }
}

/// A client over https of this server, which has no TLS.
fn over_https(server: &Server) -> ApiBuilder {
    client(&https(server)).root_certificates_pem(Authority::new().pem())
}

/// A server that waits for the client to begin, and then does this.
fn after_hello(play: impl Fn(&mut Connection) + Send + Sync + 'static) -> Server {
    Server::new([act(move |c| {
        let _ = c.stream.peek(&mut [0]);
        play(c);
    })])
}

#[test]
fn a_server_without_tls_is_named_as_such() {
    for says in [
        &b"HTTP/1.1 400 No\r\n\r\nThis is the HTTPS port"[..],
        b"220 mail.example ESMTP\r\n",
    ] {
        let server = after_hello(move |c| {
            c.send(says);
            c.hold();
        });
        for error in both_fail(over_https(&server), ErrorKind::Tls) {
            assert_says(&error, "it does not speak TLS (is the base URL right?)");
            let cause = words_of("received corrupt message", "wrong version number");
            assert!(format!("{error:?}").contains(cause), "{error:?}");
        }
        let api = over_https(&server).build().unwrap();
        // Where TLS never worked, waiting does not help.
        let error = api.wait(ID, &Wait::new()).unwrap_err();
        assert_eq!((error.kind(), error.agent_id()), (ErrorKind::Tls, Some(ID)));
        assert_eq!(server.connections(), 3);
    }
}

#[test]
fn a_handshake_that_fails_is_told_from_one_that_breaks_or_stalls() {
    // Fatal: handshake_failure, as from a server with versions of its own.
    let alert = after_hello(|c| {
        c.send(b"\x15\x03\x03\x00\x02\x02\x28");
        c.hold();
    });
    for error in both_fail(over_https(&alert), ErrorKind::Tls) {
        assert_says(&error, ": the handshake failed");
        let cause = words_of("HandshakeFailure", "handshake failure");
        assert!(format!("{error:?}").contains(cause), "{error:?}");
    }
    let reset = after_hello(|_| {});
    let closed = after_hello(|c| {
        // All of the client's first message: what is left unread has the connection reset.
        let mut header = [0; 5];
        c.stream.read_exact(&mut header).unwrap();
        let length = u16::from_be_bytes([header[3], header[4]]);
        c.stream.read_exact(&mut vec![0; length.into()]).unwrap();
    });
    for server in [reset, closed] {
        for error in both_fail(over_https(&server), ErrorKind::Network) {
            assert!(error.is_retryable(), "{error:?}");
        }
    }
    let stalls = after_hello(Connection::hold);
    let drips = after_hello(|c| {
        c.send(b"\x16\x03\x03\x40\x00");
        c.drip("\x02");
    });
    for server in [stalls, drips] {
        let start = Instant::now();
        let builder = over_https(&server).connect_timeout(ms(150));
        for error in both_fail(builder, ErrorKind::Timeout) {
            let says = format!("no connection to {} within 0.1 s", server.address);
            assert_says(&error, &says);
        }
        assert!(start.elapsed() < secs(2), "{:?}", start.elapsed());
    }
}

/// Through a proxy the connect timeout is not used.
#[test]
fn a_handshake_that_stalls_behind_a_proxy_is_stopped_by_the_deadline() {
    let proxy = tunnel_to(&after_hello(Connection::hold), Arc::default());
    let api = client_through(&proxy).build().unwrap();
    let start = Instant::now();
    let wait = Wait::new().timeout(ms(150));
    let error = api.generate_and_wait(&request(), &wait).unwrap_err();
    let facts = (error.kind(), error.billing());
    let expected = (ErrorKind::WaitTimedOut, Billing::NotBilled);
    assert_eq!(facts, expected, "{error}");
    assert!(start.elapsed() < secs(2), "{:?}", start.elapsed());
}

#[test]
fn tls_that_worked_before_is_retried_through_in_a_wait() {
    let authority = Authority::new();
    let expired = || authority.issue(&["127.0.0.1"], 1970..2001);
    let processing = || reply(status("processing").close());
    let server = Server::new([
        tls(authority.here(), processing()),
        tls(Authority::new().here(), processing()),
        tls(expired(), processing()),
        tls(authority.here(), reply(status("ready"))),
    ]);
    let api = trusting(&server, &authority).build().unwrap();
    assert!(api.wait(ID, &Wait::new()).unwrap().is_ready());
    assert_eq!((server.connections(), server.requests().len()), (4, 2));

    let bad = tls(expired(), processing());
    let server = Server::new([tls(authority.here(), processing()), bad]);
    let api = trusting(&server, &authority).build().unwrap();
    let error = api.wait(ID, &Wait::new().outage(secs(60))).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::Tls, Some(ID)));
    assert_says(&error, "no good response for 1 min");
    // The next wait has never had a good response.
    let connections = server.connections();
    let error = api.wait(ID, &Wait::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert_eq!(server.connections(), connections + 1);
}

#[test]
fn a_body_cut_within_tls_is_no_response() {
    let authority = Authority::new();
    for (length, kind) in [
        ("content-length: 1000\r\n", ErrorKind::Network),
        ("", ErrorKind::UnexpectedResponse),
    ] {
        let cut = format!("HTTP/1.1 200 OK\r\n{length}\r\n{{\"success\": true, \"agent_id\": \"A9");
        let server = Server::new([tls(authority.here(), reply(cut))]);
        let api = trusting(&server, &authority).build().unwrap();
        assert_eq!(api.status(ID).unwrap_err().kind(), kind);
        let error = api.generate(&request()).unwrap_err();
        let facts = (error.kind(), error.billing());
        assert_eq!(facts, (kind, Billing::Unknown), "{error}");
    }
}

#[test]
fn a_redirect_from_https_to_http_is_not_followed() {
    let authority = Authority::new();
    let plain = Server::new([act(|c| c.reply_to_all(status("ready")))]);
    for status in [301, 302, 303, 307, 308] {
        let redirect = Reply::new(status, "").header("location", format!("{}/v1", plain.url));
        let server = Server::new([tls(authority.here(), reply(redirect.close()))]);
        for error in both_fail(trusting(&server, &authority), ErrorKind::Rejected) {
            assert_eq!(error.http_status(), Some(status), "{error:?}");
        }
        assert_eq!(server.requests().len(), 2);
    }
    assert_eq!(plain.connections(), 0);
}

#[test]
fn a_proxy_sees_nothing_of_a_tunnel_and_cannot_pass_for_the_host() {
    let authority = Authority::new();
    let server = good(authority.issue(&["service.example"], NOW));
    let sent = Arc::new(Mutex::new(Vec::new()));
    let proxy = tunnel_to(&server, sent.clone());
    let builder = client_through(&proxy).root_certificates_pem(authority.pem());
    let api = builder.build().unwrap();
    let agent = api.generate_and_wait(&request(), &Wait::new());
    assert!(agent.unwrap().is_ready());
    assert_eq!(server.requests().len(), 2);
    for request in server.requests() {
        assert_eq!(request.header("api-secret"), Some(SECRET));
        assert!(!format!("{request:?}").contains(CREDENTIALS), "{request:?}");
    }
    for asked in proxy.requests() {
        let authorization = format!("Basic {CREDENTIALS}");
        assert_eq!(asked.target, "service.example:443");
        assert_eq!(asked.header("proxy-authorization"), Some(&*authorization));
        assert!(!format!("{asked:?}").contains(SECRET));
    }
    let sent = String::from_utf8_lossy(&sent.lock().unwrap()).into_owned();
    assert!(!sent.is_empty() && !sent.contains(SECRET) && !sent.contains(PROMPT));

    // A certificate for the proxy, but not for the host that was asked for.
    let server = good(authority.here());
    let proxy = tunnel_to(&server, Arc::default());
    let builder = client_through(&proxy).root_certificates_pem(authority.pem());
    for error in both_fail(builder, ErrorKind::Tls) {
        assert_says(&error, "its certificate is for another host");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn roots_without_a_certificate_are_refused() {
    let authority = Authority::new();
    let pem = authority.pem();
    let block =
        |text: &str| format!("-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n");
    for text in [
        Vec::new(),
        b" \r\n".to_vec(),
        b"not a certificate".to_vec(),
        vec![0xff, 0xfe, 0],
        authority.key_pem().into(),
        authority.der(),
        pem[..pem.len() / 2].into(),
        pem.split("-----END").next().unwrap().into(),
        pem.replace("CERTIFICATE", "SOMETHING").into(),
        block("").into(),
        block("*!*\n").into(),
        block("Z2FyYmFnZQ==\n").into(),
    ] {
        let builder = Api::builder().secret(SECRET).root_certificates_pem(&*text);
        let error = builder.build().expect_err(&text.escape_ascii().to_string());
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert_says(&error, "config: root_certificates_pem ");
    }
}

/// The storage is trusted as the service is, and a download does not end where TLS does not.
#[test]
fn a_model_file_comes_over_tls_and_whole() {
    let authority = Authority::new();
    let dir = TempDir::new();
    for (sent, tries) in [(10, 1), (9, 2)] {
        let count = Arc::new(Mutex::new(0));
        let tried = count.clone();
        let play = act(move |c| {
            let request = c.request().unwrap();
            assert_eq!(request.header("api-secret"), None);
            *tried.lock().unwrap() += 1;
            let is_first = *tried.lock().unwrap() == 1;
            let body = &b"0123456789"[..if is_first { sent } else { 10 }];
            let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
            c.send([head.as_bytes(), body].concat());
        });
        let storage = Server::new([tls(authority.here(), play)]);
        let url = format!("{}/a.imx?signature=1", https(&storage));
        let data = serde_json::json!({"code": ID, "url": url});
        let offer = Reply::json(200, serde_json::json!({"success": true, "data": data}));
        let service = Server::new([act(move |c| c.reply_to_all(offer.clone()))]);
        let builder = client(&service.url).clock(service.clock.clone());
        let download = |builder: ApiBuilder| {
            let path = dir.path("a.imx");
            builder
                .build()
                .unwrap()
                .download(ID, path, &Download::new())
        };
        let error = download(builder.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
        assert!(!printed(&error).contains("signature"), "{error:?}");
        let trusting = builder.root_certificates_pem(authority.pem());
        assert_eq!(download(trusting).unwrap().length, 10);
        assert_eq!(*count.lock().unwrap(), tries);
    }
}
