//! The secret goes to one origin: no redirect and no proxy takes it anywhere else.

use std::cmp::Ordering;
use std::env;
use std::thread;

use bithuman::serde_json::json as value;
use bithuman::{Api, ApiBuilder, Error, ErrorKind, GenerateRequest, Media};

use crate::fault::*;
use crate::script::*;
use crate::support::{ID, SECRET, alone, api_to, ms, printed, secs, unused_port};

const PASSWORD: &str = "canary-password";

/// `user:canary-password` in base64.
const CREDENTIALS: &str = "dXNlcjpjYW5hcnktcGFzc3dvcmQ=";

/// The variables ureq knows, the first of them first.
const VARIABLES: [&str; 6] = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// A base URL that is not this machine's. Only a proxy may be asked for it.
const ELSEWHERE: &str = "http://service.example";

fn elsewhere() -> ApiBuilder {
    api_to(ELSEWHERE).allow_plain_http(true).retries(0)
}

fn ready() -> Vec<u8> {
    json(200, value!({"success": true, "data": {"agent_id": ID, "status": "ready"}}))
}

/// A proxy that connects to no server but answers in its place.
fn tunnel(answers: impl IntoIterator<Item = Vec<u8>>) -> Act {
    let answers: Vec<_> = answers.into_iter().collect();
    act(move |c| {
        c.head();
        c.send("HTTP/1.1 200 Connection established\r\n\r\n");
        for answer in &answers {
            c.request();
            c.send(answer);
        }
    })
}

/// The URL of a proxy at this server.
fn proxy_url(proxy: &Script) -> String {
    format!("http://user:{PASSWORD}@{}", proxy.address)
}

/// Both errors, that of a status and that of a generate.
fn both_fail(api: Api) -> [Error; 2] {
    unless_it_hangs(move || [api.status(ID).unwrap_err(), api.generate(&small()).unwrap_err()])
}

#[track_caller]
fn assert_no_password(case: &str, text: &str) {
    for canary in [PASSWORD, CREDENTIALS, SECRET] {
        assert!(!text.contains(canary), "{case}: {text}");
    }
}

/// The name of the variable that says which of the cases a child is for.
const CASE: &str = "TEST_CASE";

/// For each of these cases, runs `child` in a process with its variables, and `after` in this one.
fn each_alone<V: AsRef<str>>(name: &str, cases: &[Vec<(&str, V)>], child: impl Fn(usize), after: impl Fn(usize)) {
    let in_child = env::var(CASE).ok();
    for (number, variables) in cases.iter().enumerate() {
        let case = number.to_string();
        if in_child.as_ref().is_some_and(|in_child| *in_child != case) {
            continue;
        }
        let mut all: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        all.push((CASE, &case));
        alone(&format!("origin::{name}"), &all, || child(number));
        if in_child.is_none() {
            after(number);
        }
    }
}

#[test]
fn a_redirect_to_another_host_is_not_followed() {
    let large = GenerateRequest::new().image(Media::bytes(vec![1; 1_000_000]));
    for status in [301, 302, 303, 307, 308] {
        let other = Script::new([answer(ready())]);
        let host = other.address;
        for place in [format!("http://{host}/v1"), format!("//{host}/"), format!("http://{SECRET}@{host}/")] {
            let location = format!("location: {place}\r\n");
            for redirect in [http(status, &location, ""), http(status, &location, "<a>moved</a>")] {
                let first = Script::new([act(move |c| {
                    // The large one asks first, and is not sent.
                    let length = c.head().unwrap().content_length();
                    c.body(if length < 1_000_000 { length } else { 0 });
                    c.send(&redirect);
                })]);
                let api = api_to(&first.url).build().unwrap();
                let large = large.clone();
                let errors = unless_it_hangs(move || {
                    let generate = |request| api.generate(request).unwrap_err();
                    [api.status(ID).unwrap_err(), generate(&small()), generate(&large)]
                });
                for error in errors {
                    assert_eq!((error.kind(), error.http_status()), (ErrorKind::Rejected, Some(status)), "{error:?}");
                    assert!(!error.outcome_unknown() && !error.is_retryable() && error.attempts() == 1, "{error:?}");
                    assert!(error.to_string().contains(&place.replace(SECRET, "[secret]")), "{error}");
                    assert_no_password("redirect", &printed(&error));
                }
                assert_eq!((first.connections(), first.heard().len()), (3, 3), "{status}");
            }
        }
        assert_eq!(other.settled(), 0, "{status}");
    }
}

#[test]
fn a_redirect_within_the_host_is_not_followed() {
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        for location in ["location: /v2/elsewhere\r\n", "location: elsewhere\r\n", "location: http://[\r\n", ""] {
            let server = Script::new([answer(http(status, &format!("{location}{CLOSE}"), ""))]);
            for error in both_fail(api_to(&server.url).build().unwrap()) {
                assert_eq!((error.kind(), error.http_status()), (ErrorKind::Rejected, Some(status)), "{error:?}");
                assert!(!error.outcome_unknown(), "{error:?}");
            }
            assert_eq!(server.heard().len(), 2, "{status} {location}");
        }
    }
}

#[test]
fn a_redirect_ends_a_wait_with_the_agent() {
    let other = Script::new([answer(ready())]);
    let location = format!("location: {}\r\n", other.url);
    let server = Script::new([answer(http(307, &location, ""))]);
    let api = api_to(&server.url).build().unwrap();
    let error = unless_it_hangs(move || api.wait(ID, &Default::default())).unwrap_err();
    assert_eq!((error.kind(), error.agent_id()), (ErrorKind::Rejected, Some(ID)), "{error:?}");
    assert_eq!((server.heard().len(), other.settled()), (1, 0));
}

#[test]
fn a_proxy_to_this_machine_is_refused() {
    let proxy = Script::new([tunnel([ready()])]);
    for url in [
        "http://127.0.0.1:1",
        "http://127.8.9.10:1/v1",
        "http://127.0.0.1",
        "http://localhost:1",
        "http://LocalHost/v1/",
        "http://[::1]:1",
    ] {
        let error = Api::builder().secret(SECRET).base_url(url).proxy(proxy_url(&proxy)).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error:?}");
        assert!(error.to_string().starts_with("Api: proxy: "), "{error}");
        assert_no_password(url, &printed(&error));
    }
    assert_eq!(proxy.settled(), 0);
}

#[test]
fn variables_take_nothing_for_this_machine_elsewhere() {
    let proxy = Script::new([tunnel([ready(), accepted()])]);
    let cases = [proxy_url(&proxy), "nonsense://x".into(), "socks5://127.0.0.1:1".into()]
        .map(|url| VARIABLES.map(|name| (name, url.clone())).to_vec());
    let child = |_| {
        let server = Script::new([answer(ready()), answer(accepted())]);
        for host in ["127.0.0.1", "localhost"] {
            Api::builder().secret(SECRET).base_url(format!("http://{host}")).build().unwrap();
        }
        let api = api_to(&server.url).build().unwrap();
        assert!(api.status(ID).unwrap().is_ready());
        assert_eq!(api.generate(&small()).unwrap().agent_id, ID);
    };
    let name = "variables_take_nothing_for_this_machine_elsewhere";
    each_alone(name, &cases, child, |_| assert_eq!(proxy.settled(), 0));
}

#[test]
fn a_request_goes_through_the_proxy() {
    for credentials in [format!("user:{PASSWORD}"), "user:canary%2Dpassword".into()] {
        let proxy = Script::new([tunnel([ready()]), tunnel([accepted()])]);
        let api = elsewhere().proxy(format!("http://{credentials}@{}", proxy.address)).build().unwrap();
        assert_no_password("Api", &format!("{api:?} {api:#?}"));
        unless_it_hangs(move || {
            assert!(api.status(ID).unwrap().is_ready());
            assert_eq!(api.generate(&small()).unwrap().agent_id, ID);
        });
        let heard = proxy.heard();
        let [connect, status, connect_again, generate] = &heard[..] else { panic!("{heard:?}") };
        for connect in [connect, connect_again] {
            assert!(connect.head.starts_with("CONNECT service.example:80 HTTP/1.1\r\n"), "{}", connect.head);
            assert_eq!(connect.header("proxy-authorization"), Some(&*format!("Basic {CREDENTIALS}")));
            assert!(!connect.head.contains(SECRET) && connect.header("api-secret").is_none());
        }
        for (request, line) in [(status, "GET /v1/agent/status/"), (generate, "POST /v1/agent/generate ")] {
            assert!(request.head.starts_with(line), "{}", request.head);
            assert_eq!((request.header("api-secret"), request.header("host")), (Some(SECRET), Some("service.example")));
            assert_eq!(request.header("proxy-authorization"), None);
        }
        assert_eq!(generate.body, br#"{"prompt":"p"}"#);
    }
}

#[test]
fn a_tunnel_is_used_again() {
    let proxy = Script::new([tunnel([ready(), ready(), ready()])]);
    let api = elsewhere().proxy(proxy_url(&proxy)).build().unwrap();
    unless_it_hangs(move || (0..3).for_each(|_| drop(api.status(ID).unwrap())));
    assert_eq!((proxy.connections(), proxy.heard().len()), (1, 4));
}

#[test]
fn a_tunnel_that_breaks_is_made_anew() {
    let proxy = Script::new([tunnel([]), tunnel([ready()])]);
    let api = elsewhere().proxy(proxy_url(&proxy)).build().unwrap();
    assert!(unless_it_hangs(move || api.status(ID)).unwrap().is_ready());
    assert_eq!(proxy.connections(), 2);
}

#[test]
fn a_proxy_that_refuses_is_trouble_of_the_network() {
    let login = format!("proxy-authenticate: Basic realm=\"{CREDENTIALS}\"\r\n");
    for (case, bytes) in [
        ("407", http(407, &login, format!("<p>{PASSWORD}</p>"))),
        ("403", http(403, "", "no")),
        ("502", http(502, "", "")),
        ("another 2xx", http(204, "", "")),
        ("a redirect", http(302, "location: http://127.0.0.1:1/\r\n", "")),
        ("closes", Vec::new()),
        ("breaks off", b"HTTP/1.1 200".to_vec()),
    ] {
        let proxy = Script::new([act(move |c| {
            c.head();
            c.send(&bytes);
        })]);
        for error in both_fail(elsewhere().proxy(proxy_url(&proxy)).build().unwrap()) {
            assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Network, false), "{case}: {error:?}");
            assert_eq!((error.http_status(), error.attempts()), (None, 1), "{case}: {error:?}");
            assert_no_password(case, &printed(&error));
        }
        assert!(proxy.heard().iter().all(|heard| heard.head.starts_with("CONNECT ")), "{case}");
    }
}

#[test]
fn a_proxy_that_talks_nonsense_gets_nothing() {
    for nonsense in ["SSH-2.0-OpenSSH_9.6\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n"] {
        let proxy = Script::new([answer(nonsense)]);
        for error in both_fail(elsewhere().proxy(proxy_url(&proxy)).build().unwrap()) {
            assert!(!error.outcome_unknown() && error.is_retryable(), "{error:?}");
            assert_no_password(nonsense, &printed(&error));
        }
        assert!(proxy.heard().iter().all(|heard| heard.head.starts_with("CONNECT ")), "{nonsense}");
    }
}

#[test]
fn a_proxy_that_is_not_there_is_trouble_of_the_network() {
    let url = format!("http://user:{PASSWORD}@127.0.0.1:{}", unused_port());
    for error in both_fail(elsewhere().proxy(url).build().unwrap()) {
        assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Network, false), "{error:?}");
        assert_no_password("refused", &printed(&error));
    }
}

#[test]
fn a_proxy_that_stalls_is_given_up() {
    let proxy = Script::new([act(Connection::hold)]);
    let api = elsewhere().connect_timeout(ms(150)).proxy(proxy_url(&proxy)).build().unwrap();
    for error in both_fail(api) {
        assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Timeout, false), "{error:?}");
        assert_no_password("stalls", &printed(&error));
    }
}

#[test]
fn a_proxy_that_drips_is_waited_for_beyond_the_time_out() {
    // A known limit: ureq gives each read of a proxy's answer the whole time-out. If this fails, it
    // does no more, and the proxy can be expected to be given up.
    let proxy = Script::new([act(|c| {
        c.head();
        c.send("HTTP/1.1 200 OK\r\nx-drip: ");
        for _ in 0..25 {
            c.send("x");
            thread::sleep(ms(20));
        }
        c.send("\r\n\r\n");
        c.request();
        c.send(ready());
    })]);
    let api = elsewhere().connect_timeout(ms(250)).proxy(proxy_url(&proxy)).build().unwrap();
    assert!(unless_it_hangs(move || api.status(ID)).unwrap().is_ready());
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused() {
    for url in [
        "nonsense://x",
        "ftp://user:canary-password@127.0.0.1:1",
        "",
        " ",
        "http://",
        "://",
        "/a/path",
        "http://user:canary-password@127.0.0.1:1 ",
        "http://user:canary-password@",
        "http://user:canary-password%FF@127.0.0.1:1",
    ] {
        let error = elsewhere().proxy(url).build().expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error:?}");
        assert!(error.to_string().starts_with("Api: proxy: "), "{url}: {error}");
        assert_no_password(url, &printed(&error));
    }
}

const SOCKS: [&str; 6] = [
    "socks5://127.0.0.1:1",
    "socks5://user:canary-password@127.0.0.1:1",
    "socks5h://127.0.0.1:1",
    "socks4://127.0.0.1:1",
    "socks4a://127.0.0.1:1",
    "socks://127.0.0.1:1",
];

#[cfg(not(feature = "socks-proxy"))]
#[test]
fn a_socks_proxy_needs_its_feature() {
    for url in SOCKS {
        let error = elsewhere().proxy(url).build().expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error:?}");
        assert!(error.to_string().contains("socks-proxy"), "{url}: {error}");
        assert_no_password(url, &printed(&error));
    }
}

#[cfg(feature = "socks-proxy")]
#[test]
fn a_socks_proxy_that_is_not_there_is_trouble_of_the_network() {
    for url in SOCKS {
        let api = elsewhere().base_url("http://192.0.2.1").proxy(url).build().unwrap();
        for error in both_fail(api) {
            assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Network, false), "{url}: {error:?}");
            assert!(error.to_string().contains("192.0.2.1 through the proxy 127.0.0.1:1"), "{url}: {error}");
            assert_no_password(url, &printed(&error));
        }
    }
}

#[cfg(feature = "socks-proxy")]
#[test]
fn a_request_goes_through_a_socks_proxy_which_looks_up_the_host() {
    use std::io::Read;

    fn read<const N: usize>(c: &mut Connection) -> [u8; N] {
        let mut bytes = [0; N];
        c.stream.read_exact(&mut bytes).unwrap();
        bytes
    }
    // As in RFC 1928 and 1929: version 5, user and password, connect to a name.
    let proxy = Script::new([act(|c| {
        let [5, methods] = read(c) else { panic!("not version 5") };
        for _ in 0..methods {
            read::<1>(c);
        }
        c.send([5, 2]);
        assert_eq!(&read::<22>(c), b"\x01\x04user\x0fcanary-password");
        c.send([1, 0]);
        assert_eq!(&read::<22>(c), b"\x05\x01\x00\x03\x0fservice.example\x00\x50");
        c.send([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        let heard = c.request().unwrap();
        c.send(if heard.head.starts_with("POST") { accepted() } else { ready() });
    })]);
    let api = elsewhere().proxy(format!("socks5h://user:{PASSWORD}@{}", proxy.address)).build().unwrap();
    unless_it_hangs(move || {
        assert!(api.status(ID).unwrap().is_ready());
        assert_eq!(api.generate(&small()).unwrap().agent_id, ID);
    });
    assert_eq!(proxy.connections(), 2);
    assert!(proxy.heard().iter().all(|heard| !heard.head.contains(PASSWORD) && heard.head.contains(SECRET)));
}

#[test]
fn a_proxy_with_a_bad_port_is_refused() {
    // ureq would take the default port.
    for url in ["http://user:canary-password@127.0.0.1:none", "http://127.0.0.1:99999", "http://127.0.0.1:-1"] {
        let error = elsewhere().proxy(url).build().expect_err(url);
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{url}: {error:?}");
        assert_no_password(url, &printed(&error));
    }
}

#[test]
fn a_variable_that_cannot_be_used_is_refused() {
    let name = "a_variable_that_cannot_be_used_is_refused";
    let urls = ["nonsense://user:canary-password@x", "ftp://user:canary-password@127.0.0.1:1", "http://"];
    let [first @ .., last] = VARIABLES;
    // What comes later in ureq's order does not stand in for it.
    let cases: Vec<_> =
        first.iter().flat_map(|name| urls.map(|url| vec![(*name, url), (last, "http://127.0.0.1:1")])).collect();
    let child = |number: usize| {
        let (variable, _) = cases[number][0];
        let error = elsewhere().build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert!(error.to_string().starts_with(&format!("Api: {variable}: ")), "{error}");
        assert_no_password(variable, &printed(&error));
        // An explicit one makes the variables irrelevant.
        elsewhere().proxy("http://127.0.0.1:1").build().unwrap();
    };
    each_alone(name, &cases, child, |_| {});
}

#[test]
fn a_variable_is_used_by_its_rank() {
    let name = "a_variable_is_used_by_its_rank";
    let (used, unused) = (Script::new([tunnel([ready()])]), Script::new([tunnel([ready()])]));
    let cases: Vec<Vec<_>> = (0..VARIABLES.len())
        .map(|first| {
            let rank = |(rank, name)| match usize::cmp(&rank, &first) {
                Ordering::Less => (name, String::new()),
                Ordering::Equal => (name, proxy_url(&used)),
                Ordering::Greater => (name, proxy_url(&unused)),
            };
            VARIABLES.into_iter().enumerate().map(rank).collect()
        })
        .collect();
    let child = |_| assert!(elsewhere().build().unwrap().status(ID).unwrap().is_ready());
    each_alone(name, &cases, child, |number| {
        assert_eq!((used.connections(), unused.settled()), (number + 1, 0), "{}", VARIABLES[number]);
        assert_eq!(used.heard()[0].header("proxy-authorization"), Some(&*format!("Basic {CREDENTIALS}")));
    });
}

/// The address of any host is one of this machine's too, but not known as such.
fn in_disguise(server: &Script) -> String {
    format!("http://0.0.0.0:{}", server.address.port())
}

#[test]
fn an_empty_variable_is_none() {
    let server = Script::new([answer(ready())]);
    let mut variables = VARIABLES.map(|name| (name, String::new())).to_vec();
    variables.push(("TEST_URL", in_disguise(&server)));
    let child = |_| {
        let api = api_to(&env::var("TEST_URL").unwrap()).allow_plain_http(true).build().unwrap();
        assert!(api.status(ID).unwrap().is_ready());
    };
    each_alone("an_empty_variable_is_none", &[variables], child, |_| assert_eq!(server.connections(), 1));
}

#[test]
fn a_host_of_no_proxy_is_asked_directly() {
    let direct = Script::new([answer(ready())]);
    let proxy = Script::new([tunnel([ready()])]);
    let rows = [
        ("NO_PROXY", "0.0.0.0", 1),
        ("no_proxy", "other.example,0.0.0.0", 1),
        ("NO_PROXY", "*", 1),
        ("NO_PROXY", "other.example", 0),
        ("NO_PROXY", "", 0),
    ];
    let cases = rows.map(|(name, hosts, _)| {
        let url = in_disguise(&direct);
        vec![("ALL_PROXY", proxy_url(&proxy)), (name, hosts.to_owned()), ("TEST_URL", url)]
    });
    let child = |_| {
        let url = env::var("TEST_URL").unwrap();
        let api = api_to(&url).allow_plain_http(true).build().unwrap();
        assert!(api.status(ID).unwrap().is_ready());
        // The caller's own is used whatever the variables say.
        let own = Script::new([tunnel([ready()])]);
        let api = api_to(&url).allow_plain_http(true).proxy(proxy_url(&own)).build().unwrap();
        assert!(api.status(ID).unwrap().is_ready());
        assert_eq!(own.connections(), 1);
    };
    each_alone("a_host_of_no_proxy_is_asked_directly", &cases, child, |number| {
        let directly: usize = rows[..=number].iter().map(|row| row.2).sum();
        assert_eq!(
            (direct.connections(), proxy.connections()),
            (directly, number + 1 - directly),
            "{:?}",
            rows[number]
        );
    });
}

#[test]
fn a_proxy_that_is_not_needed_need_not_be_usable() {
    let server = Script::new([answer(ready())]);
    let url = in_disguise(&server);
    let cases = [vec![("ALL_PROXY", "socks5://127.0.0.1:1"), ("NO_PROXY", "0.0.0.0"), ("TEST_URL", &url)]];
    let child = |_| {
        let api = api_to(&env::var("TEST_URL").unwrap()).allow_plain_http(true).build().unwrap();
        assert!(api.status(ID).unwrap().is_ready());
    };
    let name = "a_proxy_that_is_not_needed_need_not_be_usable";
    each_alone(name, &cases, child, |_| assert_eq!(server.connections(), 1));
}

#[test]
fn a_password_is_in_no_debug() {
    let builder = elsewhere().proxy(format!("http://user:{PASSWORD}@127.0.0.1:1"));
    assert_no_password("ApiBuilder", &format!("{builder:?} {builder:#?}"));
    let api = builder.build().unwrap();
    assert_no_password("Api", &format!("{api:?} {api:#?}"));
    let watch = api.watch(ID, &bithuman::Wait::new().timeout(secs(1)));
    assert_no_password("Watch", &format!("{watch:?} {watch:#?}"));
}
