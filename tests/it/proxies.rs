//! Proxies: which one is used, what is sent to it, and what its refusals become.

use std::env;

use bithuman::{ApiBuilder, Billing, Error, ErrorKind, Wait};

use crate::harness::*;

const PASSWORD: &str = "hunter2";

/// `user:hunter2` in base64.
const CREDENTIALS: &str = "dXNlcjpodW50ZXIy";

/// A client for a service that only a proxy can reach.
fn elsewhere() -> ApiBuilder {
    api("http://service.test:8123").allow_plain_http(true)
}

fn through(proxy: &Server) -> ApiBuilder {
    elsewhere().proxy(format!("http://user:{PASSWORD}@{}", proxy.address))
}

/// A proxy that makes a tunnel and then replies in the service's place.
fn tunnel(replies: impl IntoIterator<Item = Reply>) -> Act {
    let replies: Vec<_> = replies.into_iter().collect();
    act(move |c| {
        c.head();
        c.send("HTTP/1.1 200 Connection established\r\n\r\n");
        for reply in &replies {
            if c.request().is_some() {
                c.send(reply.clone());
            }
        }
    })
}

/// The errors of both calls, which were not accepted and show no password.
fn errors(builder: ApiBuilder) -> [Error; 2] {
    let api = builder.build().unwrap();
    let errors = unless_it_hangs(move || {
        let generate = api.generate(&small()).unwrap_err();
        [generate, api.status(ID).unwrap_err()]
    });
    assert_eq!(errors[0].billing(), Billing::NotBilled);
    for error in &errors {
        let shown = printed(error);
        let leaks = [PASSWORD, CREDENTIALS].map(|text| shown.contains(text));
        assert_eq!(leaks, [false; 2], "{shown}");
        let ended = (error.http_status(), error.attempts());
        assert_eq!(ended, (None, 1), "{shown}");
    }
    errors
}

#[test]
fn the_proxy_gets_a_connect_and_no_secret_and_its_tunnel_is_used_again() {
    let replies = [accepted(), status("processing"), status("ready")];
    let proxy = Server::new([tunnel(replies)]);
    let api = through(&proxy).build().unwrap();
    let agent = unless_it_hangs(move || api.generate_and_wait(&small(), &Wait::new()));
    assert!(agent.unwrap().is_ready());
    assert_eq!(proxy.connections(), 1);
    let basic = format!("Basic {CREDENTIALS}");
    let expected = [
        ("CONNECT", "service.test:8123", None, Some(&*basic)),
        ("POST", "/v1/agent/generate", Some(SECRET), None),
        ("GET", "/v1/agent/status/A91XMB7113", Some(SECRET), None),
        ("GET", "/v1/agent/status/A91XMB7113", Some(SECRET), None),
    ];
    let requests = proxy.requests();
    assert_eq!(requests.len(), expected.len());
    for (request, (method, target, secret, basic)) in requests.iter().zip(expected) {
        assert_eq!((&*request.method, &*request.target), (method, target));
        assert_eq!(request.header("api-secret"), secret);
        assert_eq!(request.header("proxy-authorization"), basic);
        assert_eq!(request.header("host"), Some("service.test:8123"));
    }
    // One that breaks is made again.
    let proxy = Server::new([tunnel([]), tunnel([status("ready")])]);
    let api = through(&proxy).build().unwrap();
    assert!(unless_it_hangs(move || api.status(ID)).unwrap().is_ready());
    assert_eq!(proxy.connections(), 2);
}

#[test]
fn a_407_is_the_proxys_and_says_where_user_and_password_go() {
    let login = format!("Basic realm=\"{CREDENTIALS}\"");
    let refusal = Reply::new(407, "<p>hunter2</p>").header("proxy-authenticate", login);
    let proxy = Server::new([reply(refusal)]);
    for error in errors(through(&proxy).clock(FakeClock::new()).max_retries(3)) {
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(!error.is_retryable());
        let expected = format!(
            "the proxy {} wants a user and a password (407): http://user:password@host",
            proxy.address
        );
        assert!(error.to_string().contains(&expected), "{error}");
    }
    assert_eq!(proxy.connections(), 2);
}

#[test]
fn a_proxy_that_refuses_breaks_off_or_is_not_there_is_an_error_of_the_network() {
    let rows = [
        Vec::from(Reply::new(403, PASSWORD)),
        Reply::new(503, CREDENTIALS).into(),
        Reply::new(302, "").header("location", "/").into(),
        Vec::new(),
        b"HTTP/1.1 200".into(),
        // These are not HTTP.
        b"SSH-2.0-OpenSSH_9.6\r\n".into(),
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n".into(),
    ];
    for (number, row) in rows.into_iter().enumerate() {
        let proxy = Server::new([reply(row)]);
        for error in errors(through(&proxy)) {
            assert!(error.is_retryable(), "{error}");
            assert!(
                number > 4 || error.kind() == ErrorKind::Network,
                "{error:?}"
            );
            let peer = format!("service.test:8123 through the proxy {}", proxy.address);
            assert!(error.to_string().contains(&peer), "{error}");
        }
        for request in proxy.requests() {
            assert_eq!(request.method, "CONNECT");
        }
    }
    let url = format!("http://user:{PASSWORD}@127.0.0.1:{}", unused_port());
    for error in errors(elsewhere().proxy(url)) {
        assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
    }
}

#[test]
fn a_proxy_that_stalls_is_given_up() {
    let proxy = Server::new([act(|c| c.stall())]);
    for error in errors(through(&proxy).response_timeout(ms(100))) {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    }
}

/// Variables beside `TEST_URL`, the base URL, and whether they lead to the proxy. `P` is the proxy's
/// URL, and `0.0.0.0` a name of localhost that is not known as one.
const ENVIRONMENTS: &str = "
    X=x => direct
    http_proxy=P => proxy
    HTTP_PROXY=P => direct
    https_proxy=P HTTPS_PROXY=P => direct
    all_proxy=P => proxy
    ALL_PROXY=P => proxy
    http_proxy= all_proxy=P => proxy
    http_proxy=P all_proxy=socks://x ALL_PROXY=nonsense://x => proxy
    all_proxy=nonsense://x ALL_PROXY=P => proxy
    http_proxy=P NO_PROXY=localhost,\t0.0.0.0 => direct
    http_proxy=P no_proxy=\t.service.test,*\t => direct
    http_proxy=P no_proxy=0.0.0.1 NO_PROXY=* => proxy
    http_proxy=nonsense://x => http_proxy is not the URL of a proxy
    http_proxy=nonsense://x NO_PROXY=0.0.0.0 => direct
    LOOPBACK http_proxy=P all_proxy=P => direct
    LOOPBACK http_proxy=nonsense://x => direct
    OWN http_proxy=nonsense://x NO_PROXY=* => proxy";

#[test]
fn the_environment_is_read_as_curl_reads_it() {
    const NAME: &str = "proxies::the_environment_is_read_as_curl_reads_it";
    let proxy = Server::new([tunnel([status("ready")])]);
    let direct = Server::new([reply(status("ready"))]);
    let seen = || (proxy.requests().len(), direct.requests().len());
    for (variables, expected) in table(ENVIRONMENTS) {
        // There a variable has the same name in upper and in lower case.
        if cfg!(windows) && variables.contains("_PROXY=") {
            continue;
        }
        let (mut host, mut own) = ("0.0.0.0", "");
        let mut all = vec![("TEST_EXPECTED", expected)];
        for variable in variables.split(' ') {
            match variable.split_once('=') {
                Some((name, "P")) => all.push((name, &proxy.url)),
                Some(variable) => all.push(variable),
                None if variable == "OWN" => own = &proxy.url,
                None => host = "127.0.0.1",
            }
        }
        let url = format!("http://{host}:{}", direct.address.port());
        all.extend([("TEST_URL", &*url), ("TEST_OWN", own)]);
        let before = seen();
        alone(NAME, &all, || {
            let names = ["TEST_URL", "TEST_OWN", "TEST_EXPECTED"];
            let [url, own, expected] = names.map(|name| env::var(name).unwrap());
            let mut builder = api(&url).allow_plain_http(true);
            if !own.is_empty() {
                builder = builder.proxy(own);
            }
            match builder.build().unwrap().status(ID) {
                Ok(agent) => assert!(agent.is_ready()),
                Err(error) => assert!(error.to_string().contains(&expected), "{error}"),
            }
        });
        let added = match expected {
            "direct" => (0, 1),
            "proxy" => (2, 0),
            _ => (0, 0),
        };
        let expected = (before.0 + added.0, before.1 + added.1);
        assert_eq!(seen(), expected, "{variables}");
    }
}

#[cfg(feature = "socks-proxy")]
#[test]
fn a_socks_proxy_gets_the_name_of_the_host() {
    use std::io::Read;

    fn read<const N: usize>(c: &mut Connection) -> [u8; N] {
        let mut bytes = [0; N];
        c.stream.read_exact(&mut bytes).unwrap();
        bytes
    }
    // As in RFC 1928 and 1929: version 5, user and password, connect to a name.
    let proxy = Server::new([act(|c| {
        let [5, methods] = read(c) else {
            panic!("not version 5")
        };
        for _ in 0..methods {
            read::<1>(c);
        }
        c.send([5, 2]);
        assert_eq!(&read::<14>(c), b"\x01\x04user\x07hunter2");
        c.send([1, 0]);
        assert_eq!(&read::<19>(c), b"\x05\x01\x00\x03\x0cservice.test\x1f\xbb");
        c.send([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for reply in [accepted(), status("ready")] {
            c.request();
            c.send(reply);
        }
    })]);
    let url = format!("socks5h://user:{PASSWORD}@{}", proxy.address);
    let api = elsewhere().proxy(url).build().unwrap();
    unless_it_hangs(move || {
        assert_eq!(api.generate(&small()).unwrap().agent_id, ID);
        assert!(api.status(ID).unwrap().is_ready());
    });
    assert_eq!(proxy.connections(), 1);
    for url in ["socks5://user:hunter2@127.0.0.1:1", "socks4://127.0.0.1:1"] {
        let builder = elsewhere().base_url("http://192.0.2.1").proxy(url);
        for error in errors(builder) {
            assert_eq!(error.kind(), ErrorKind::Network, "{error:?}");
            assert!(
                error
                    .to_string()
                    .contains("refused by the proxy 127.0.0.1:1")
            );
        }
    }
}
