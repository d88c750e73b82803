//! What is accepted and what is refused, with nothing sent.

use std::path::Path;
use std::time::Duration;
use std::{fs, thread};

use bithuman::ErrorKind::InvalidInput;
use bithuman::serde_json::{Value, json};
use bithuman::{Api, ApiBuilder, Error, GenerateRequest, Media, Wait};

use crate::support::{ID, SECRET, Service, TempFile, agent, alone, ms, printed, secs, started, status};

/// Asserts that nothing was sent and gives the line.
fn refused(error: Error) -> String {
    assert_eq!((error.kind(), error.attempts()), (InvalidInput, 0), "{error}");
    assert!(!error.outcome_unknown() && !error.is_retryable(), "{error}");
    assert_eq!(error.http_status(), None, "{error}");
    let line = error.to_string();
    assert!(!line.contains(char::is_control), "{line:?}");
    line
}

fn with_url(url: &str) -> ApiBuilder {
    Api::builder().secret(SECRET).base_url(url)
}

#[cfg(feature = "_tls")]
#[test]
fn the_default_service_is_that_of_the_document() {
    let shown = "Api { base_url: \"https://public.api.bithuman.ai\", .. }";
    assert_eq!(format!("{:?}", Api::new(SECRET).unwrap()), shown);
    assert_eq!(format!("{:?}", Api::builder().secret(SECRET).build().unwrap()), shown);
}

#[cfg(feature = "_tls")]
#[test]
fn base_urls_in_these_forms_are_taken() {
    let rows = [
        ("https://api.bithuman.ai", "https://api.bithuman.ai"),
        ("https://api.bithuman.ai/", "https://api.bithuman.ai"),
        ("HTTPS://api.bithuman.ai", "https://api.bithuman.ai"),
        ("https://example.com:8443/bithuman/", "https://example.com:8443/bithuman"),
        ("https://192.0.2.1/a/b//", "https://192.0.2.1/a/b"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("HTTP://127.255.0.9", "http://127.255.0.9"),
        ("http://localhost:8080/x", "http://localhost:8080/x"),
        ("http://LocalHost", "http://localhost"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[0:0:0:0:0:0:0:1]"),
    ];
    for (url, used) in rows {
        assert_eq!(format!("{:?}", with_url(url).build().unwrap()), format!("Api {{ base_url: {used:?}, .. }}"));
    }
}

#[test]
fn base_urls_in_these_forms_work() {
    let service = Service::new([status("ready")]);
    let (host, port) = (service.host(), service.port());
    let urls = [format!("HTTP://{host}"), format!("http://{host}/"), format!("http://localhost:{port}/")];
    for (n, url) in urls.iter().enumerate() {
        assert!(service.builder().base_url(url).build().unwrap().status(ID).unwrap().is_ready());
        assert_eq!(service.hits(), n + 1);
    }
}

#[test]
fn a_bad_base_url_is_refused_unseen() {
    let urls = [
        "",
        "hunter2",
        "hunter2/path",
        "/hunter2",
        "//host/hunter2",
        "https:host/hunter2",
        "https:///hunter2",
        "https://",
        "ftp://host/hunter2",
        "file:///hunter2",
        "wss://host/hunter2",
        "https://user:hunter2@host",
        "https://hunter2@host",
        "https://host?hunter2",
        "https://host/path?secret=hunter2",
        "https://host/#hunter2",
        "https://host#hunter2",
        "https://host:hunter2",
        "https://host:99999/hunter2",
        "https://host:-1/hunter2",
        "https://host:/hunter2",
        "https://ho st/hunter2",
        " https://host/hunter2",
        "https://host/hunter2 ",
        "https://host/hunter2\n",
        "https://[::1/hunter2",
        "https://:443/hunter2",
    ];
    for url in urls {
        let error = with_url(url).build().err().unwrap_or_else(|| panic!("{url:?} was taken"));
        assert!(!printed(&error).contains("hunter2"), "{error:#?}");
        let line = refused(error);
        assert!(line.starts_with("Api: the base URL "), "{line}");
    }
}

#[test]
fn plain_http_goes_to_this_machine_only_unless_allowed() {
    let urls = [
        "http://api.bithuman.ai",
        "HTTP://192.0.2.1",
        "http://10.0.0.1:8080",
        "http://0.0.0.0",
        "http://128.0.0.1",
        "http://[2001:db8::1]",
        "http://[::]",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://mylocalhost",
        "http://127.example.com",
        // The host is a name, for all that it looks like.
        "http://[127.0.0.1]",
    ];
    for url in urls {
        let line = refused(with_url(url).build().unwrap_err());
        assert!(line.contains("plain http to another machine"), "{line}");
        assert!(with_url(url).allow_plain_http(false).build().is_err());
        assert!(with_url(url).allow_plain_http(true).build().is_ok(), "{url}");
    }
}

#[cfg(not(feature = "_tls"))]
#[test]
fn https_without_tls_is_refused() {
    let line = refused(Api::new(SECRET).unwrap_err());
    assert!(["rustls", "native-tls", "platform-verifier"].iter().all(|feature| line.contains(feature)), "{line}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let zero = Duration::ZERO;
    assert_eq!(
        refused(with_url("http://127.0.0.1").connect_timeout(zero).build().unwrap_err()),
        "Api: connect_timeout is zero"
    );
    assert_eq!(
        refused(with_url("http://127.0.0.1").answer_timeout(zero).build().unwrap_err()),
        "Api: answer_timeout is zero"
    );
    for agent in ["kiosk\r\nx-evil: 1", "kiosk\n", "kiosk\0", "kiösk", "kiosk\t", "kiosk\u{7f}"] {
        let line = refused(with_url("http://127.0.0.1").user_agent(agent).build().unwrap_err());
        assert!(line.contains("user agent"), "{line}");
    }
}

#[test]
fn the_longest_settings_are_no_overflow() {
    let max = Duration::MAX;
    let service = Service::new([started(), status("processing"), status("ready")]);
    let api = service.builder().connect_timeout(max).answer_timeout(max).upload_timeout(max).build().unwrap();
    api.generate(&GenerateRequest::new()).unwrap();
    assert!(api.wait(ID, &Wait::new().interval(max).outage(max)).unwrap().is_ready());
}

#[test]
fn waiting_for_ever_is_no_overflow() {
    let wait = Wait::new().timeout(Duration::MAX);
    let service = Service::new([started(), status("processing"), status("ready")]);
    assert!(service.api().generate_and_wait(&GenerateRequest::new(), &wait).unwrap().is_ready());
    assert!(service.api().wait(ID, &wait).unwrap().is_ready());
}

#[test]
fn the_environment_names_the_service() {
    let service = Service::new([status("ready")]);
    let url = service.url() + "/prefix/";
    alone(
        "settings::the_environment_names_the_service",
        &[("BITHUMAN_API_SECRET", SECRET), ("BITHUMAN_API_URL", &url)],
        || assert!(Api::from_env().unwrap().status(ID).unwrap().is_ready()),
    );
    let request = service.request();
    assert_eq!(request.target, format!("/prefix/v1/agent/status/{ID}"));
    assert_eq!(request.header("api-secret"), Some(SECRET));
}

#[cfg(feature = "_tls")]
#[test]
fn the_environment_needs_only_a_secret() {
    for variables in
        [&[("BITHUMAN_API_SECRET", SECRET)][..], &[("BITHUMAN_API_SECRET", SECRET), ("BITHUMAN_API_URL", "")]]
    {
        alone("settings::the_environment_needs_only_a_secret", variables, || {
            let shown = format!("{:?}", Api::from_env().unwrap());
            assert_eq!(shown, "Api { base_url: \"https://public.api.bithuman.ai\", .. }");
        });
    }
}

#[test]
fn an_environment_without_a_secret_says_what_to_set() {
    for variables in [&[][..], &[("BITHUMAN_API_SECRET", "")], &[("BITHUMAN_API_URL", "http://127.0.0.1:1")]] {
        alone("settings::an_environment_without_a_secret_says_what_to_set", variables, || {
            let line = refused(Api::from_env().unwrap_err());
            assert!(line.contains("BITHUMAN_API_SECRET") && line.contains("imaginex.bithuman.ai"), "{line}");
        });
    }
}

#[test]
fn an_environment_with_bad_values_is_refused_unseen() {
    let good = ("BITHUMAN_API_SECRET", SECRET);
    for variables in [
        &[("BITHUMAN_API_SECRET", "hunter2 hunter2")][..],
        &[good, ("BITHUMAN_API_URL", "hunter2")],
        &[good, ("BITHUMAN_API_URL", "https://user:hunter2@host")],
        &[good, ("BITHUMAN_API_URL", "http://hunter2.example.com")],
    ] {
        alone("settings::an_environment_with_bad_values_is_refused_unseen", variables, || {
            let error = Api::from_env().unwrap_err();
            assert!(!printed(&error).contains("hunter2"), "{error:#?}");
            refused(error);
        });
    }
}

/// Asserts that the request is refused by both calls that send one, and gives the line.
fn refused_request(request: &GenerateRequest) -> String {
    let service = Service::new([started(), status("ready")]);
    let api = service.api();
    let error = api.generate(request).unwrap_err();
    let waited = api.generate_and_wait(request, &Wait::new()).unwrap_err();
    assert_eq!(waited.to_string(), error.to_string());
    refused(waited);
    let has_key = error.idempotency_key().is_some();
    let line = refused(error);
    assert_eq!(has_key, !line.contains("key is"), "{line}");
    assert!(line.starts_with("generate: "), "{line}");
    assert_eq!((service.hits(), service.clock.sleeps().len()), (0, 0));
    line
}

#[test]
fn a_bad_idempotency_key_is_refused() {
    let too_long = "k".repeat(256);
    for key in ["", &too_long, " ", "a b", "k\n", "k\r\nx: y", "\t", "k\0", "k\u{7f}", "schlüssel"] {
        let line = refused_request(&GenerateRequest::new().idempotency_key(key));
        assert_eq!(line, "generate: an idempotency key is 1 to 255 visible ASCII characters");
    }
}

const BAD_IDS: [&str; 8] = ["", ".", "..", "a\nb", "\0", "\r", "a\u{1b}[2J", "\u{85}"];

#[test]
fn an_id_that_could_not_be_asked_for_is_refused_before_it_is_paid() {
    for id in BAD_IDS {
        let line = refused_request(&GenerateRequest::new().agent_id(id));
        assert!(line.contains("agent id"), "{line}");
    }
}

#[test]
fn a_status_of_a_bad_id_is_refused() {
    let service = Service::new([status("ready")]);
    let api = service.api();
    for id in BAD_IDS {
        for (error, call) in [(api.status(id), "status"), (api.wait(id, &Wait::new()), "wait")] {
            let line = refused(error.unwrap_err());
            assert!(line.starts_with(&format!("{call}: ")) && line.contains("agent id"), "{line}");
        }
        let items: Vec<_> = api.watch(id, &Wait::new()).take(2).collect();
        assert_eq!(items.len(), 1);
        refused(items.into_iter().next().unwrap().unwrap_err());
    }
    assert_eq!((service.hits(), service.clock.sleeps().len()), (0, 0));
}

#[test]
fn a_medium_that_cannot_be_sent_is_refused() {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let missing = Path::new(dir).join("no-such-portrait.jpg");
    let empty = TempFile::new(b"");
    let in_file = empty.0.join("portrait.jpg");
    let shown = |path: &Path| path.display().to_string();
    let media = [
        (Media::url(""), "http:// or https://".to_owned()),
        (Media::url("example.com/a.jpg"), "http:// or https://".into()),
        (Media::url("ftp://example.com/a.jpg"), "http:// or https://".into()),
        (Media::url("file:///a.jpg"), "http:// or https://".into()),
        (Media::url("data:image/png;base64,AAAA"), "http:// or https://".into()),
        (Media::url(" https://example.com/a.jpg"), "http:// or https://".into()),
        (Media::url("https:example.com"), "http:// or https://".into()),
        (Media::url("https://"), "host".into()),
        (Media::url("http:///a.jpg"), "host".into()),
        (Media::url("https://?a.jpg"), "host".into()),
        (Media::url("https://example.com/a b.jpg"), "white space".into()),
        (Media::url("https://example.com/a.jpg\n"), "white space".into()),
        (Media::file(&missing), shown(&missing)),
        (Media::file(&in_file), shown(&in_file)),
        (Media::file(""), "no such file".into()),
        (Media::file(dir), format!("a directory, not a file: {dir}")),
        (Media::file(&empty.0), format!("empty: {}", shown(&empty.0))),
        (Media::bytes([]), "empty".into()),
        (Media::base64(""), "empty".into()),
    ];
    for (medium, part) in media {
        let new = GenerateRequest::new;
        let lines = [
            ("image", new().image(medium.clone())),
            ("video", new().video(medium.clone())),
            ("audio", new().prompt("p").image(Media::bytes([1])).audio(medium)),
        ];
        for (name, request) in lines {
            let line = refused_request(&request);
            assert!(line.starts_with(&format!("generate: {name}: ")) && line.contains(&part), "{line}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_device_is_not_read() {
    let line = refused_request(&GenerateRequest::new().image(Media::file("/dev/zero")));
    assert_eq!(line, "generate: image: not a regular file: /dev/zero");
}

#[test]
fn a_missing_file_keeps_its_cause() {
    let service = Service::new([started()]);
    let request = GenerateRequest::new().image(Media::file("no-such-portrait.jpg"));
    let error = service.api().generate(&request).unwrap_err();
    assert_eq!(error.to_string(), "generate: image: no such file: no-such-portrait.jpg");
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(cause.kind(), std::io::ErrorKind::NotFound);
}

#[test]
fn a_file_is_looked_at_when_it_is_sent() {
    let file = TempFile::new(b"");
    let service = Service::new([started()]);
    let request = GenerateRequest::new().image(Media::file(&file.0));
    refused(service.api().generate(&request).unwrap_err());
    fs::write(&file.0, "now").unwrap();
    service.api().generate(&request).unwrap();
    assert_eq!(service.request().json(), json!({"image": "bm93"}));
}

#[test]
fn field_is_for_what_has_no_setter() {
    let names = [
        "prompt",
        "image",
        "video",
        "audio",
        "model",
        "version",
        "aspect_ratio",
        "framing",
        "transparency",
        "agent_id",
    ];
    for name in names {
        for value in [Value::from("x"), Value::Null] {
            let line = refused_request(&GenerateRequest::new().field(name, value));
            assert!(line.contains(&format!("field(\"{name}\", ..) clashes with the setter")), "{line}");
        }
    }
    refused_request(&GenerateRequest::new().prompt("p").field("prompt", "q"));
}

#[test]
fn a_zero_interval_is_refused_before_anything_is_paid() {
    let service = Service::new([started(), status("ready")]);
    let (api, wait) = (service.api(), Wait::new().interval(Duration::ZERO));
    let errors = [
        api.generate_and_wait(&GenerateRequest::new(), &wait).unwrap_err(),
        api.wait(ID, &wait).unwrap_err(),
        api.watch(ID, &wait).next().unwrap().unwrap_err(),
    ];
    for error in errors {
        let line = refused(error);
        assert!(line.contains("the interval of the Wait is zero"), "{line}");
    }
    assert_eq!((service.hits(), service.clock.sleeps().len()), (0, 0));
}

#[test]
fn one_handle_serves_many_threads() {
    fn goes_anywhere<T: Send + Sync + Clone + 'static>(_: &T) {}
    let service = Service::new([agent(json!({"status": "ready"}))]);
    let api = service.api();
    goes_anywhere(&api);
    goes_anywhere(&GenerateRequest::new());
    thread::scope(|scope| {
        for n in 0..8 {
            let api = if n % 2 == 0 { api.clone() } else { service.api() };
            scope.spawn(move || (0..5).for_each(|_| assert!(api.status(ID).unwrap().is_ready())));
        }
    });
    assert_eq!(service.hits(), 40);
}

#[test]
fn time_passes_without_a_clock_of_ours() {
    let service = Service::new([status("processing"), status("generating"), status("ready")]);
    let api = Api::builder().secret(SECRET).base_url(service.url()).build().unwrap();
    let begun = std::time::Instant::now();
    assert!(api.wait(ID, &Wait::new().interval(ms(30)).timeout(secs(60))).unwrap().is_ready());
    assert!(begun.elapsed() >= ms(60), "{:?}", begun.elapsed());
    assert_eq!(service.hits(), 3);
}
