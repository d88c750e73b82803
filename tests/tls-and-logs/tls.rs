//! Trust, over real sockets: good with a root of one's own, and each way in which there is none.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread;

use bithuman::serde_json::json as value;
use bithuman::{Agent, Api, ApiBuilder, Error, ErrorKind, GenerateRequest, Media, Wait};
use rustls::version::{TLS12, TLS13};

use crate::script::{Connection, Script, act, http, json};
use crate::server::*;

/// Both errors, that of a status and that of a generate, after checking that the outcome is known.
#[track_caller]
fn both_fail(builder: ApiBuilder, kind: ErrorKind) -> [Error; 2] {
    let api = builder.build().unwrap();
    let errors = [api.status(ID).unwrap_err(), api.generate(&request()).unwrap_err()];
    for error in &errors {
        assert_eq!((error.kind(), error.outcome_unknown(), error.attempts()), (kind, false, 1), "{error:?}");
        assert!(!format!("{error:?} {error:#?}").contains(SECRET), "{error:#?}");
    }
    errors
}

/// The words of the TLS library at work: of rustls, or of OpenSSL. Hints are found by them, so if they
/// change, so must the library.
fn in_words_of(rustls: &'static str, openssl: &'static str) -> &'static str {
    if cfg!(feature = "rustls") { rustls } else { openssl }
}

/// No trust: the errors say why, with the cause, and the server got no request.
#[track_caller]
fn assert_untrusted(server: &Server, builder: ApiBuilder, why: &str, cause: &str) {
    for error in both_fail(builder, ErrorKind::Tls) {
        let line = error.to_string();
        let host = format!("127.0.0.1:{}", server.port);
        assert!(line.ends_with(&format!("no trusted TLS connection to {host}: {why}")), "{line}");
        assert!(format!("{error:?}").contains(cause), "{error:?}");
        assert!(!error.is_retryable(), "{line}");
    }
    assert_eq!((server.heads(), server.connections()), (vec![], 2));
}

const UNTRUSTED: &str = "its certificate is from an issuer that is not trusted (see root_certificates_pem)";
const OTHER_HOST: &str = "its certificate is for another host";
const EXPIRED: &str = "its certificate has expired, or the clock of this machine is wrong";
const NOT_YET: &str = "its certificate is not valid yet, or the clock of this machine is wrong";
const NOT_TLS: &str = "it does not speak TLS; is the base URL right?";

#[test]
fn a_root_of_ones_own_is_trusted() {
    let authority = Authority::new();
    for version in [&TLS13, &TLS12] {
        let server = Server::new([authority.here().only(version)]);
        for host in ["127.0.0.1", "localhost"] {
            let url = format!("https://{host}:{}/prefix/", server.port);
            let api = api_to(&url).root_certificates_pem(authority.pem()).build().unwrap();
            assert!(api.status(ID).unwrap().is_ready());
            assert_eq!(api.generate(&request()).unwrap().agent_id, ID);
            assert!(api.generate_and_wait(&request(), &Wait::new()).unwrap().is_ready());
        }
        let heads = server.heads();
        assert_eq!(heads.len(), 8);
        assert!(heads.iter().all(|head| head.contains(SECRET) && head.contains(" /prefix/v1/agent/")));
    }
}

#[test]
fn a_large_generate_goes_through() {
    let authority = Authority::new();
    let server = Server::new([authority.here()]);
    let api = api_to(&server.url()).root_certificates_pem(authority.pem()).build().unwrap();
    let large = GenerateRequest::new().image(Media::bytes(vec![7; 2_000_000]));
    assert_eq!(api.generate(&large).unwrap().agent_id, ID);
    assert!(server.heads()[0].contains("content-length: 2666"));
}

#[test]
fn polls_share_a_connection() {
    let authority = Authority::new();
    let server = Server::new([authority.here()]);
    let api = api_to(&server.url()).root_certificates_pem(authority.pem()).build().unwrap();
    (0..3).for_each(|_| drop(api.status(ID).unwrap()));
    assert_eq!((server.heads().len(), server.connections()), (3, 1));
}

#[test]
fn one_of_several_roots_is_enough() {
    let authority = Authority::new();
    let server = Server::new([authority.here()]);
    let several = format!("# a bundle\r\n{}\n{}", Authority::new().pem(), authority.pem().replace('\n', "\r\n"));
    let api = api_to(&server.url()).root_certificates_pem(several).build().unwrap();
    assert!(api.status(ID).unwrap().is_ready());
}

#[test]
fn an_unknown_issuer_is_not_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let unknown = in_words_of("invalid peer certificate: UnknownIssuer", "unable to get local issuer certificate");
    let with_built_in_roots = Server::new([authority.here()]);
    let builder = api_to(&with_built_in_roots.url());
    assert_untrusted(&with_built_in_roots, builder, UNTRUSTED, unknown);
    let with_another_root = Server::new([authority.here()]);
    let builder = api_to(&with_another_root.url()).root_certificates_pem(other.pem());
    assert_untrusted(&with_another_root, builder, UNTRUSTED, unknown);
}

#[test]
fn a_root_made_anew_under_its_old_name_is_not_trusted() {
    let (old, new) = (Authority::named("Ours"), Authority::named("Ours"));
    let server = Server::new([new.here()]);
    let builder = api_to(&server.url()).root_certificates_pem(old.pem());
    assert_untrusted(
        &server,
        builder,
        UNTRUSTED,
        in_words_of("invalid peer certificate: BadSignature", "certificate signature failure"),
    );
}

#[test]
fn a_certificate_for_another_host_is_not_trusted() {
    let authority = Authority::new();
    for names in [&["service.example"][..], &["127.0.0.2", "localhost"], &["*.0.0.1"]] {
        let server = Server::new([authority.issue(names, NOW)]);
        let builder = api_to(&server.url()).root_certificates_pem(authority.pem());
        assert_untrusted(
            &server,
            builder,
            OTHER_HOST,
            in_words_of("certificate not valid for name \"127.0.0.1\"", "IP address mismatch"),
        );
    }
}

#[test]
fn an_expired_certificate_is_not_trusted() {
    let authority = Authority::new();
    let server = Server::new([authority.issue(&["127.0.0.1"], 1970..2001)]);
    let builder = api_to(&server.url()).root_certificates_pem(authority.pem());
    assert_untrusted(
        &server,
        builder,
        EXPIRED,
        in_words_of("invalid peer certificate: certificate expired", "certificate has expired"),
    );
}

#[test]
fn a_certificate_of_the_future_is_not_trusted() {
    let authority = Authority::new();
    let server = Server::new([authority.issue(&["127.0.0.1"], 3900..4000)]);
    let builder = api_to(&server.url()).root_certificates_pem(authority.pem());
    assert_untrusted(
        &server,
        builder,
        NOT_YET,
        in_words_of("invalid peer certificate: certificate not valid yet", "certificate is not yet valid"),
    );
}

/// A client over https of this script.
fn over_https(script: &Script) -> ApiBuilder {
    api_to(&script.url.replace("http:", "https:")).root_certificates_pem(Authority::new().pem())
}

/// Waits for the client to begin.
fn hear(c: &mut Connection) {
    let _ = c.stream.peek(&mut [0]);
}

#[test]
fn a_server_without_tls_is_named_as_such() {
    for says in [http(400, "", "The plain HTTP request was sent to HTTPS port"), b"220 mail.example ESMTP\r\n".to_vec()]
    {
        let script = Script::new([act(move |c| {
            hear(c);
            c.send(&says);
            c.hold();
        })]);
        for error in both_fail(over_https(&script), ErrorKind::Tls) {
            assert!(error.to_string().ends_with(NOT_TLS), "{error}");
            assert!(
                format!("{error:?}").contains(in_words_of("received corrupt message", "wrong version number")),
                "{error:?}"
            );
        }
        assert_eq!(script.connections(), 2);
    }
}

#[test]
fn an_alert_is_a_failed_handshake() {
    // Fatal: handshake_failure, as from a server with versions of its own.
    let script = Script::new([act(|c| {
        hear(c);
        c.send(b"\x15\x03\x03\x00\x02\x02\x28");
        c.hold();
    })]);
    for error in both_fail(over_https(&script), ErrorKind::Tls) {
        assert!(error.to_string().ends_with(": the handshake failed"), "{error}");
        assert!(format!("{error:?}").contains(in_words_of("HandshakeFailure", "handshake failure")), "{error:?}");
    }
}

#[test]
fn a_close_during_the_handshake_is_trouble_of_the_network() {
    for in_order in [true, false] {
        let script = Script::new([act(move |c| {
            hear(c);
            if in_order {
                // All of the client's first message: what is left unread has the connection reset.
                let mut header = [0; 5];
                c.stream.read_exact(&mut header).unwrap();
                let length = u16::from_be_bytes([header[3], header[4]]);
                c.stream.read_exact(&mut vec![0; length.into()]).unwrap();
            }
        })]);
        for error in both_fail(over_https(&script), ErrorKind::Network) {
            assert!(error.is_retryable(), "{error:?}");
        }
    }
}

#[test]
fn a_handshake_that_stalls_or_drips_runs_out_of_time() {
    let stalls = Script::new([act(Connection::hold)]);
    let drips = Script::new([act(|c| {
        hear(c);
        c.send(b"\x16\x03\x03\x40\x00");
        // It ends, so that a client without a time-out fails this test and does not hang it.
        for _ in 0..100 {
            c.send(b"\x02");
            thread::sleep(ms(20));
        }
    })]);
    for script in [stalls, drips] {
        both_fail(over_https(&script).connect_timeout(ms(200)), ErrorKind::Timeout);
    }
}

#[test]
fn trouble_with_tls_ends_a_wait_unless_it_worked_before() {
    let authority = Authority::new();
    let (good, bad) = (authority.here(), authority.issue(&["127.0.0.1"], 1970..2001));
    let closes: Answer = Arc::new(|_| http(200, CLOSE, agent("processing")));
    let server = Server::answering([good, bad.clone(), bad], closes);
    let builder = api_to(&server.url()).root_certificates_pem(authority.pem());
    let api = builder.build().unwrap();
    let mut watch = api.watch(ID, &Wait::new().outage(ms(1)));
    assert!(watch.next().unwrap().is_ok());
    let error = watch.next().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::Tls, Some(ID)));
    assert!(error.to_string().contains(" s of the 1ms allowed"), "{error}");
    // The next one has never worked.
    let error = api.wait(ID, &Wait::new()).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::Tls, Some(ID)));
    assert!(!error.to_string().contains("no good answer"), "{error}");
}

#[test]
fn tls_that_comes_back_is_sat_out() {
    let authority = Authority::new();
    let (good, bad) = (authority.here(), Authority::new().here());
    let status = |word: &'static str| http(200, CLOSE, agent(word));
    let polls = Arc::new(Mutex::new(vec![status("ready"), status("processing")]));
    let answer: Answer = Arc::new(move |_| polls.lock().unwrap().pop().unwrap());
    let server = Server::answering([good.clone(), bad.clone(), bad, good], answer);
    let api = api_to(&server.url()).root_certificates_pem(authority.pem()).build().unwrap();
    assert!(api.wait(ID, &Wait::new()).unwrap().is_ready());
    assert_eq!((server.connections(), server.heads().len()), (4, 2));
}

fn agent(status: &str) -> String {
    value!({"success": true, "data": {"agent_id": ID, "status": status}}).to_string()
}

#[test]
fn a_body_cut_within_tls_is_no_answer() {
    let authority = Authority::new();
    for (case, length, kind) in
        [("a length", "content-length: 1000\r\n", ErrorKind::Network), ("none", "", ErrorKind::UnexpectedAnswer)]
    {
        let cut = format!("HTTP/1.1 200 OK\r\n{CLOSE}{length}\r\n{{\"success\": true, \"agent_id\": \"{ID}\"");
        let server = Server::answering([authority.here()], Arc::new(move |_| cut.clone().into()));
        let api = api_to(&server.url()).root_certificates_pem(authority.pem()).build().unwrap();
        let (status, generate) = (api.status(ID).unwrap_err(), api.generate(&request()).unwrap_err());
        assert_eq!((status.kind(), generate.kind()), (kind, kind), "{case}: {status:?} {generate:?}");
        assert!(generate.outcome_unknown(), "{case}");
    }
}

#[test]
fn a_redirect_from_https_to_http_is_not_followed() {
    let authority = Authority::new();
    let plain = Script::new([act(|c| c.answer_all(json(200, value!({}))))]);
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}/v1\r\n", plain.url);
        let answer: Answer = Arc::new(move |_| http(status, &location, ""));
        let server = Server::answering([authority.here()], answer);
        for error in both_fail(api_to(&server.url()).root_certificates_pem(authority.pem()), ErrorKind::Rejected) {
            assert_eq!(error.http_status(), Some(status), "{error:?}");
        }
        assert_eq!(server.heads().len(), 2);
    }
    assert_eq!(plain.settled(), 0);
}

#[test]
fn a_proxy_sees_nothing_of_a_tunnel_with_tls() {
    let authority = Authority::new();
    let server = Server::new([authority.issue(&["service.example"], NOW)]);
    let sent = Arc::new(Mutex::new(Vec::new()));
    let proxy = Script::new([tunnel_to(&server, sent.clone())]);
    let url = format!("http://user:{PASSWORD}@{}", proxy.address);
    let builder = api_to("https://service.example").proxy(url).root_certificates_pem(authority.pem());
    let api = builder.build().unwrap();
    assert!(api.status(ID).as_ref().is_ok_and(Agent::is_ready));
    assert_eq!(api.generate(&request()).unwrap().agent_id, ID);
    let heads = server.heads();
    assert!(heads.len() == 2 && heads.iter().all(|head| head.contains(SECRET)));
    assert!(heads.iter().all(|head| !head.contains(CREDENTIALS)));
    for heard in proxy.heard() {
        assert!(heard.head.starts_with("CONNECT service.example:443 HTTP/1.1\r\n"), "{}", heard.head);
        assert_eq!(heard.header("proxy-authorization"), Some(&*format!("Basic {CREDENTIALS}")));
        assert!(!heard.head.contains(SECRET));
    }
    let sent = String::from_utf8_lossy(&sent.lock().unwrap()).into_owned();
    assert!(!sent.is_empty() && !sent.contains(SECRET) && !sent.contains(PROMPT));
}

#[test]
fn a_proxy_cannot_pass_for_the_host() {
    let authority = Authority::new();
    // A certificate for the proxy, but not for the host that was asked for.
    let server = Server::new([authority.here()]);
    let proxy = Script::new([tunnel_to(&server, Arc::default())]);
    let builder = api_to("https://service.example").proxy(&proxy.url).root_certificates_pem(authority.pem());
    for error in both_fail(builder, ErrorKind::Tls) {
        assert!(error.to_string().contains(": its certificate is for another host"), "{error}");
    }
    assert!(server.heads().is_empty());
}

#[track_caller]
fn assert_refused(case: &str, pem: impl Into<Vec<u8>>) {
    let error = Api::builder().secret(SECRET).root_certificates_pem(pem).build().expect_err(case);
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{case}: {error:?}");
    assert!(error.to_string().starts_with("Api: root_certificates_pem: "), "{case}: {error}");
}

#[test]
fn roots_without_a_certificate_are_refused() {
    let authority = Authority::new();
    let (pem, key) = (authority.pem(), authority.key_pem());
    for (case, text) in [
        ("nothing", ""),
        ("white space", " \r\n"),
        ("no PEM", "not a certificate"),
        ("a key", &key),
        ("a part", &pem[..pem.len() / 2]),
        ("no end", pem.split("-----END").next().unwrap()),
        ("no base64", "-----BEGIN CERTIFICATE-----\n*!*\n-----END CERTIFICATE-----\n"),
        ("another thing", &pem.replace("CERTIFICATE", "SOMETHING")),
    ] {
        assert_refused(case, text);
    }
    assert_refused("not text", [0xff, 0xfe, 0x00]);
    assert_refused("DER", authority.der());
}

#[test]
fn roots_that_are_no_certificates_are_refused() {
    for (case, content) in [("nothing", ""), ("text", "Z2FyYmFnZQ==")] {
        assert_refused(case, format!("-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n"));
    }
}
