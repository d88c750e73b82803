//! Settings and input: what cannot be meant is refused by name, with nothing sent.

use std::env;
use std::fs;
use std::process::Command;
use std::time::Duration;

use bithuman::ErrorKind::InvalidInput;
use bithuman::serde_json::json;
use bithuman::{Api, ApiBuilder, Billing, Error, GenerateRequest, Media, Wait};

use crate::harness::*;

/// Asserts that nothing was sent, and that no value is shown, and returns the line.
fn refused(error: Error) -> String {
    let ended = (error.kind(), error.attempts(), error.http_status());
    assert_eq!(ended, (InvalidInput, 0, None), "{error}");
    assert!(!error.is_retryable(), "{error}");
    let shown = printed(&error);
    let is_clean = !shown.contains("unter2") && !shown.contains("os error");
    assert!(is_clean, "{error:#?}");
    error.to_string()
}

fn elsewhere() -> ApiBuilder {
    api("http://service.test").allow_plain_http(true)
}

#[test]
fn blanks_and_line_ends_around_a_setting_are_removed() {
    let service = Service::new([status("ready")]);
    for (before, after) in [("", "\n"), (" \t", "\r\n"), ("\u{a0}", "\u{3000}")] {
        let around = |text: &str| format!("{before}{text}{after}");
        let builder = service.builder().secret(around(SECRET));
        let api = builder.base_url(around(&service.url())).build().unwrap();
        api.status(ID).unwrap();
    }
    for request in service.requests() {
        assert_eq!(request.header("api-secret"), Some(SECRET));
    }
    let visible: String = ('!'..='~').rev().collect();
    let api = service.builder().secret(&visible).build().unwrap();
    api.status(ID).unwrap();
    let request = service.requests().pop().unwrap();
    assert_eq!(request.header("api-secret"), Some(&*visible));
}

const SECRETS: &str = "
    => is empty: set it to your API secret
    \t => is empty: set it to your API secret
    hunter2\rx-evil: 1 => contains a carriage return: remove it
    hunter2\thunter2 => contains a tab: remove it
    hunter2\u{a0}hunter2 => contains a no-break space (U+00A0): remove it
    hunter2\u{200b} => contains an invisible character (U+200B): remove it
    \u{feff}hunter2 => contains an invisible character (U+FEFF): remove it
    hunter2\0 => contains an invisible character (U+0000): remove it
    hunter2 hunter2 => contains a space, which no secret has
    hünter2 => contains the character U+00FC, which no secret has
    \"hunter2\" => has a quote at its start or end: remove the quotes
    'hunter2 => has a quote at its start or end: remove the quotes
    “hunter2” => has a quote at its start or end: remove the quotes
    <hunter2> => is not a secret but a placeholder or an assignment
    ${HUNTER2} => is not a secret but a placeholder or an assignment
    BITHUMAN_API_SECRET=hunter2 => is not a secret but a placeholder or an assignment";

const BASE_URLS: &str = "
    => is not a URL such as https://public.api.bithuman.ai
    hunter2 => must begin with https:// (or http:// for localhost)
    /hunter2 => must begin with https:// (or http:// for localhost)
    ftp://host/hunter2 => must begin with https:// (or http:// for localhost)
    https:///hunter2 => is not a URL such as https://public.api.bithuman.ai
    https://ho st/hunter2 => is not a URL such as https://public.api.bithuman.ai
    https://me:hunter2@e => contains a user or password, which are not the API secret: remove them
    https://host/path?secret=hunter2 => contains a query or a fragment: remove it
    https://host#hunter2 => contains a query or a fragment: remove it
    https://host:hunter2 => has no host, or a port that is not a number
    https://host:99999 => has no host, or a port that is not a number
    https://host: => has no host, or a port that is not a number
    https://host/v1/ => ends in /v1, which every request adds: remove it
    https://host/v1/hunter2/x => is the URL of one endpoint: remove /v1 and what follows
    https://host/\rhunter2 => contains a carriage return: remove it
    https://host/\u{200b}hunter2 => contains an invisible character (U+200B): remove it
    \"https://host => has a quote at its start or end: remove the quotes
    https://host’ => has a quote at its start or end: remove the quotes";

#[test]
fn a_secret_or_base_url_that_cannot_be_meant_is_refused_unseen() {
    for (secret, expected) in table(SECRETS) {
        let builder = elsewhere().secret(secret);
        let line = refused(builder.build().unwrap_err());
        assert_eq!(line, format!("config: secret {expected}"));
    }
    for (url, expected) in table(BASE_URLS) {
        let line = refused(api(url).build().unwrap_err());
        assert_eq!(line, format!("config: base_url {expected}"));
    }
    let builder = elsewhere().secret("hunter2\nhunter2");
    let line = refused(builder.build().unwrap_err());
    assert_eq!(line, "config: secret contains a line feed: remove it");
}

#[test]
fn plain_http_is_for_localhost_unless_it_is_allowed() {
    let local = "
        HTTP://127.255.0.9/a/b// => http://127.255.0.9/a/b
        http://LocalHost:8080 => http://localhost:8080
        http://[0:0::1]:1 => http://[0:0::1]:1
        http://[::ffff:127.0.0.1] => http://[::ffff:127.0.0.1]";
    for (url, used) in table(local) {
        let shown = format!("{:?}", api(url).build().unwrap());
        assert_eq!(shown, format!("Api {{ base_url: {used:?}, .. }}"));
    }
    #[cfg(feature = "_tls")]
    for api in [Api::new(SECRET), Api::builder().secret(SECRET).build()] {
        let shown = format!("{:?}", api.unwrap());
        assert!(
            shown.contains("\"https://public.api.bithuman.ai\""),
            "{shown}"
        );
    }
    for host in ["service.test", "0.0.0.0", "[2001:db8::1]", "localhost.test"] {
        let builder = api(&format!("http://{host}"));
        let line = refused(builder.clone().build().unwrap_err());
        let expected = "config: base_url is plain http to another host";
        assert!(line.starts_with(expected), "{line}");
        builder.allow_plain_http(true).build().unwrap();
    }
}

#[test]
fn other_settings_out_of_range_are_refused() {
    let (api, zero) = (elsewhere, Duration::ZERO);
    let rows = [
        (
            api().connect_timeout(zero),
            "connect_timeout must be more than zero",
        ),
        (
            api().response_timeout(zero),
            "response_timeout must be more than zero",
        ),
        (
            api().user_agent("a\rb"),
            "user_agent contains a carriage return",
        ),
        (
            api().user_agent("kiösk"),
            "user_agent contains a character that no header",
        ),
        (api().root_certificates_pem("x"), "root_certificates_pem "),
        #[cfg(not(feature = "_tls"))]
        (api().base_url("https://e"), "https needs one of"),
    ];
    for (builder, expected) in rows {
        let line = refused(builder.build().unwrap_err());
        assert!(line.starts_with(&format!("config: {expected}")), "{line}");
    }
    let (max, service) = (Duration::MAX, Service::new([accepted(), status("ready")]));
    let builder = service.builder().connect_timeout(max).response_timeout(max);
    let wait = Wait::new().interval(secs(5)).timeout(max).outage(max);
    let agent = builder.build().unwrap().generate_and_wait(&small(), &wait);
    assert!(agent.unwrap().is_ready());
}

/// The variables of a process, without `BITHUMAN_API_`, and what becomes of them.
const ENVIRONMENTS: &str = "
    URL=http://127.0.0.1:1 => no API secret: set BITHUMAN_API_SECRET or ApiBuilder::secret
    SECRET=\t URL=http://127.0.0.1:1 => no API secret: set BITHUMAN_API_SECRET or ApiBuilder::secret
    SECRET=s URL=http://127.0.0.1:1 => http://127.0.0.1:1
    SECRET=s BASE=http://127.0.0.1:2 URL=hunter2 => http://127.0.0.1:2
    SECRET=s BASE=\r URL=http://127.0.0.1:1\r X=x => http://127.0.0.1:1
    URL=http://127.0.0.1 SECRET=hun\rter2 => config: BITHUMAN_API_SECRET contains a carriage \
        return: remove it
    URL=http://127.0.0.1 SECRET='hunter2' => config: BITHUMAN_API_SECRET has a quote at its \
        start or end: remove the quotes
    URL=http://127.0.0.1 SECRET=BITHUMAN_API_SECRET=hunter2 => config: BITHUMAN_API_SECRET is \
        not a secret but a placeholder or an assignment
    SECRET=s BASE=http://127.0.0.1/v1 => config: BITHUMAN_API_BASE ends in /v1, which every \
        request adds: remove it
    SECRET=s URL=http://127.0.0.1/v1/runtime-tokens/request => config: BITHUMAN_API_URL is a token \
        URL, not a base URL: remove /v1 and what follows";

#[test]
fn the_environment_is_read_and_refused_by_the_name_of_the_variable() {
    const NAME: &str = "settings::the_environment_is_read_and_refused_by_the_name_of_the_variable";
    for (variables, expected) in table(ENVIRONMENTS) {
        let mut all = vec![("EXPECTED".to_owned(), expected)];
        for variable in variables.split(' ') {
            let (name, value) = variable.split_once('=').unwrap();
            all.push((format!("BITHUMAN_API_{name}"), value));
        }
        let all: Vec<_> = all.iter().map(|(name, value)| (&**name, *value)).collect();
        alone(NAME, &all, || {
            let expected = env::var("EXPECTED").unwrap();
            let seen = match Api::from_env() {
                Err(error) => refused(error),
                Ok(api) if expected.contains("no API") => refused(api.status(ID).unwrap_err()),
                Ok(api) => format!("{api:?}").split('"').nth(1).unwrap().to_owned(),
            };
            assert!(seen.ends_with(&expected), "{seen}");
        });
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_refused_by_its_name() {
    use std::os::unix::ffi::OsStrExt;
    const NAME: &str = "settings::a_variable_that_is_not_utf_8_is_refused_by_its_name";
    let value = std::ffi::OsStr::from_bytes(b"http://\xffhunter2");
    for name in ["BITHUMAN_API_SECRET", "BITHUMAN_API_BASE"] {
        let mut program = Command::new(env::current_exe().unwrap());
        let local = "http://127.0.0.1:1";
        program.env("BITHUMAN_API_BASE", local).env(name, value);
        alone_by(program, NAME, &[("EXPECTED", name)], || {
            let line = refused(Api::from_env().unwrap_err());
            let expected = env::var("EXPECTED").unwrap();
            assert!(line.starts_with(&format!("config: {expected} ")), "{line}");
        });
    }
}

const PROXIES: &str = "
    => is not the URL of a proxy such as http://localhost:3128
    nonsense://hunter2 => is not the URL of a proxy such as http://localhost:3128
    http://user:hunter2@ => is not the URL of a proxy such as http://localhost:3128
    http://user:hunter2@host:none => has a port that is not a number
    http://user:hunter2@host:3128\u{200b} => contains an invisible character (U+200B): remove it
    socks5://user:hunter2@host => is a proxy that needs the feature socks-proxy of bithuman";

#[test]
fn without_a_secret_or_with_an_unusable_proxy_the_first_request_fails() {
    let missing = "no API secret: set BITHUMAN_API_SECRET or ApiBuilder::secret".to_owned();
    let mut rows = vec![(Api::builder(), missing)];
    for (url, line) in table(PROXIES) {
        if !(url.starts_with("socks") && cfg!(feature = "socks-proxy")) {
            rows.push((elsewhere().proxy(url), format!("proxy {line}")));
        }
    }
    for (builder, expected) in rows {
        let builder = builder.base_url("http://service.test");
        let api = builder.allow_plain_http(true).build().unwrap();
        let errors = [
            api.generate(&small()).unwrap_err(),
            api.generate(&large()).unwrap_err(),
            api.generate_and_wait(&small(), &Wait::new()).unwrap_err(),
            api.status(ID).unwrap_err(),
            api.wait(ID, &Wait::new()).unwrap_err(),
        ];
        for line in errors.map(refused) {
            assert!(line.ends_with(&format!(": {expected}")), "{line}");
        }
    }
    let local = Server::new([reply(status("ready"))]);
    let api = local.builder().proxy("http://127.0.0.1:1").build().unwrap();
    let line = refused(api.status(ID).unwrap_err());
    let expected = "proxy is not used for a base URL on localhost: remove it";
    assert!(line.ends_with(expected), "{line}");
    assert_eq!(local.connections(), 0);
}

#[test]
fn a_configuration_error_of_the_first_request_begins_with_config() {
    let builder = Api::builder().base_url("http://127.0.0.1:1");
    let api = builder.build().unwrap();
    for error in [api.generate(&small()).err(), api.status(ID).err()] {
        let line = refused(error.unwrap());
        assert!(line.starts_with("config: no API secret"), "{line}");
    }
}

/// The line with which both calls that send a request refuse it.
fn refused_request(api: &Api, request: &GenerateRequest) -> String {
    let waited = api.generate_and_wait(request, &Wait::new()).unwrap_err();
    let error = api.generate(request).unwrap_err();
    assert_eq!(error.to_string(), waited.to_string());
    assert_eq!(error.billing(), Billing::NotBilled);
    let line = refused(error);
    line.strip_prefix("generate: ").unwrap().to_owned()
}

/// Media for a service elsewhere. `DIR` is a folder with an empty file and a FIFO.
const MEDIA: &str = "
    url portrait.jpg => a media URL begins with http:// or https://; use Media::file for a file
    url data:image/png;base64,AA => a media URL begins with http:// or https://; use Media::file \
        for a file
    url https:///a.jpg => the media URL has no host
    url https://e/a b.jpg => the media URL contains a space: remove or percent-encode it
    url https://e/a\rb => the media URL contains a carriage return: remove or percent-encode it
    url http://localhost/a => the service cannot fetch a media URL on localhost; use Media::file
    url HTTPS://me@127.0.0.1:1/a => the service cannot fetch a media URL on 127.0.0.1; use \
        Media::file
    url http://[::1]/a.jpg => the service cannot fetch a media URL on ::1; use Media::file
    base64 \t => the base64 text is empty
    base64 Data:image/png;base64, => the base64 text is empty
    base64 data:image/png => the base64 text is empty
    bytes => the media file is empty
    file portrait.jpg => no such file: portrait.jpg
    file DIR/empty.jpg => the file is empty: DIR/empty.jpg
    file DIR => a directory, not a file: DIR
    file DIR/fifo => not a regular file: DIR/fifo
    file /dev/zero => not a regular file: /dev/zero";

#[cfg(unix)]
#[test]
fn media_that_cannot_be_sent_are_refused_before_anything_is_sent() {
    // Opening a FIFO would wait for its writer.
    unless_it_hangs(refuse_media);
}

#[cfg(unix)]
fn refuse_media() {
    let dir = TempDir::new();
    fs::write(dir.path("empty.jpg"), "").unwrap();
    let mut mkfifo = Command::new("mkfifo");
    assert!(mkfifo.arg(dir.path("fifo")).status().unwrap().success());
    let media = MEDIA.replace("DIR", dir.0.to_str().unwrap());
    let api = elsewhere().build().unwrap();
    for (media, expected) in table(&media) {
        let media = match media.split_once(' ').unwrap_or((media, "")) {
            ("url", url) => Media::url(url),
            ("base64", text) => Media::base64(text),
            ("file", path) => Media::file(path),
            _ => Media::bytes([]),
        };
        let new = GenerateRequest::new;
        let fields = [
            ("image", new().image(media.clone())),
            ("video", new().prompt("p").video(media.clone())),
            ("audio", new().image(Media::bytes([1])).audio(media)),
        ];
        for (name, request) in fields {
            let line = refused_request(&api, &request);
            assert_eq!(line, format!("{name}: {expected}"));
        }
    }
    // A file is looked at when it is sent.
    fs::write(dir.path("empty.jpg"), "now").unwrap();
    let service = Service::new([accepted()]);
    let request = small().image(Media::file(dir.path("empty.jpg")));
    service.api().generate(&request).unwrap();
    assert_eq!(service.request().json()["image"], json!("bm93"));
}

const IDS: &str = "
    => the agent id is empty
    . => the agent id is . or .., which a URL removes
    .. => the agent id is . or .., which a URL removes
    a\rb => the agent id contains a carriage return: remove it
    a\0 => the agent id contains an invisible character (U+0000): remove it
    a\u{1b}[2J => the agent id contains an invisible character (U+001B): remove it
    a\u{200b}b => the agent id contains an invisible character (U+200B): remove it";

#[test]
fn bad_ids_keys_fields_and_intervals_are_refused_before_anything_is_sent() {
    let service = Service::new([accepted(), status("ready")]);
    let (api, new) = (service.api(), GenerateRequest::new);
    let blank = "the agent id has a blank at its start or end";
    for (id, expected) in [table(IDS), vec![(" A1", blank), ("A1\n", blank)]].concat() {
        assert_eq!(refused_request(&api, &new().agent_id(id)), expected);
        let status = refused(api.status(id).unwrap_err());
        assert_eq!(status, format!("status: {expected}"));
        let wait = api.wait(id, &Wait::new()).unwrap_err();
        let watch = api.watch(id, &Wait::new()).next().unwrap().unwrap_err();
        for line in [wait, watch].map(refused) {
            assert_eq!(line, format!("wait: {expected}"));
        }
    }
    for key in [
        "",
        &"k".repeat(256),
        " ",
        "a b",
        "k\r\nx: y",
        "k\u{7f}",
        "schlüssel",
    ] {
        let line = refused_request(&api, &new().idempotency_key(key));
        let start = "an idempotency key is 1 to 255 visible ASCII characters: this one ";
        assert!(line.starts_with(start), "{line}");
    }
    let setters = "prompt image video audio model aspect_ratio framing transparency agent_id";
    for name in setters.split(' ') {
        let line = refused_request(&api, &new().field(name, "x"));
        let expected = format!("field(\"{name}\", ..) has a setter of that name: use it");
        assert_eq!(line, expected);
    }
    let zero = Wait::new().interval(Duration::ZERO);
    let errors = [
        api.generate_and_wait(&small(), &zero).unwrap_err(),
        api.wait(ID, &zero).unwrap_err(),
        api.watch(ID, &zero).next().unwrap().unwrap_err(),
    ];
    for line in errors.map(refused) {
        assert_eq!(
            line,
            "wait: the interval must be more than zero: the service asks for 5 s"
        );
    }
    assert!(service.requests().is_empty() && service.clock.sleeps().is_empty());
}
