//! What goes over the wire.

use std::io::Write;
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bithuman::serde_json::{self, Value, json};
use bithuman::{BASE_URL_2026, DEFAULT_BASE_URL, GenerateRequest, Media};

use crate::support::{ID, Request, SECRET, Service, TempFile, api_to, listen, read_head, say, started, status};

/// What the service receives for this request.
fn sent(request: GenerateRequest) -> Request {
    let service = Service::new([started()]);
    service.api().generate(&request).unwrap();
    service.request()
}

fn header_names(request: &Request) -> Vec<&str> {
    let mut names: Vec<_> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names
}

#[test]
fn the_hosts_are_those_of_the_documents() {
    assert_eq!(DEFAULT_BASE_URL, "https://public.api.bithuman.ai");
    assert_eq!(BASE_URL_2026, "https://api.bithuman.ai");
}

#[test]
fn a_generate_is_this_post_and_nothing_more() {
    let service = Service::new([started()]);
    let generation = service.api().generate(&GenerateRequest::new().prompt("Hello")).unwrap();
    let request = service.request();
    assert_eq!((&*request.method, &*request.target), ("POST", "/v1/agent/generate"));
    assert_eq!(request.body, br#"{"prompt":"Hello"}"#);
    let headers = [
        ("accept", "application/json"),
        ("api-secret", SECRET),
        ("content-length", "18"),
        ("content-type", "application/json"),
        ("host", &service.host()),
        ("idempotency-key", &generation.idempotency_key),
        ("user-agent", concat!("bithuman-rust/", env!("CARGO_PKG_VERSION"))),
    ];
    assert_eq!(header_names(&request), headers.map(|(name, _)| name));
    for (name, value) in headers {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
}

#[test]
fn a_status_is_this_get_and_nothing_more() {
    let service = Service::new([status("ready")]);
    service.api().status(ID).unwrap();
    let request = service.request();
    assert_eq!((&*request.method, &*request.target), ("GET", "/v1/agent/status/A91XMB7113"));
    assert_eq!(request.body, b"");
    assert_eq!(header_names(&request), ["accept", "api-secret", "host", "user-agent"]);
    assert_eq!(request.header("api-secret"), Some(SECRET));
}

#[test]
fn an_empty_request_is_an_empty_object() {
    let request = sent(GenerateRequest::new());
    assert_eq!(request.body, b"{}");
    assert_eq!(request.header("content-length"), Some("2"));
}

#[test]
fn every_setter_sends_its_field_and_no_other() {
    let new = GenerateRequest::new;
    let rows = [
        (new().prompt("You are a friendly AI assistant"), json!({"prompt": "You are a friendly AI assistant"})),
        (new().prompt(""), json!({"prompt": ""})),
        (new().prompt("quotes \" \\ \n \u{0} \u{7f} ü 🎨"), json!({"prompt": "quotes \" \\ \n \u{0} \u{7f} ü 🎨"})),
        (new().model("essence-2"), json!({"model": "essence-2"})),
        (new().version("v2"), json!({"version": "v2"})),
        (new().aspect_ratio("16:9"), json!({"aspect_ratio": "16:9"})),
        (new().framing("full_body"), json!({"framing": "full_body"})),
        (new().transparency(true), json!({"transparency": true})),
        (new().transparency(false), json!({"transparency": false})),
        (new().agent_id("my agent/1"), json!({"agent_id": "my agent/1"})),
        (new().prompt("first").prompt("last"), json!({"prompt": "last"})),
        (new().idempotency_key("k"), json!({})),
        (new().field("voice", "v1"), json!({"voice": "v1"})),
        (new().field("seed", 7), json!({"seed": 7})),
        (new().field("hd", true), json!({"hd": true})),
        (new().field("none", Value::Null), json!({"none": null})),
        (new().field("a \"b\" ü", json!({"c": [1, {"d": null}]})), json!({"a \"b\" ü": {"c": [1, {"d": null}]}})),
        (new().field("seed", 1).field("seed", 2), json!({"seed": 2})),
    ];
    for (request, expected) in rows {
        assert_eq!(sent(request).json(), expected);
    }
}

#[test]
fn all_fields_go_together() {
    let request = GenerateRequest::new()
        .prompt("p")
        .image(Media::bytes(*b"\xff\xd8\xff"))
        .video(Media::url("https://example.com/video.mp4"))
        .audio(Media::base64("data:audio/mp3;base64,SUQz"))
        .model("auto")
        .version("v1")
        .aspect_ratio("1:1")
        .framing("portrait")
        .transparency(true)
        .agent_id("mine")
        .field("zoom", 1.5)
        .field("background", "blue");
    let expected = json!({
        "prompt": "p", "image": "/9j/", "video": "https://example.com/video.mp4",
        "audio": "data:audio/mp3;base64,SUQz", "model": "auto", "version": "v1", "aspect_ratio": "1:1",
        "framing": "portrait", "transparency": true, "agent_id": "mine", "zoom": 1.5, "background": "blue",
    });
    let first = sent(request.clone());
    assert_eq!(first.json(), expected);
    assert_eq!(first.header("content-length"), Some(&*first.body.len().to_string()));
    assert_eq!(first.header("transfer-encoding"), None);
    // A request can be sent again, the same bytes.
    assert_eq!(sent(request).body, first.body);
}

#[test]
fn every_medium_goes_in_every_form() {
    let file = TempFile::new(b"\x00\x01\xfe\xff");
    type Setter = fn(GenerateRequest, Media) -> GenerateRequest;
    let setters: [(&str, Setter); 3] =
        [("image", GenerateRequest::image), ("video", GenerateRequest::video), ("audio", GenerateRequest::audio)];
    let forms = [
        (Media::url("https://example.com/a.jpg?x=1&y=\"2\""), "https://example.com/a.jpg?x=1&y=\"2\""),
        (Media::url("HTTP://EXAMPLE.com/a.jpg"), "HTTP://EXAMPLE.com/a.jpg"),
        (Media::file(&file.0), "AAH+/w=="),
        (Media::bytes(*b"\x00\x01\xfe\xff"), "AAH+/w=="),
        (Media::base64("AAH+/w=="), "AAH+/w=="),
        (Media::base64("data:image/png;base64,AAH+/w=="), "data:image/png;base64,AAH+/w=="),
    ];
    for (name, set) in setters {
        for (medium, text) in &forms {
            assert_eq!(sent(set(GenerateRequest::new(), medium.clone())).json(), json!({ name: text }), "{medium:?}");
        }
    }
}

#[test]
fn media_of_every_length_arrive_whole() {
    let chunk = 24 * 1024;
    let lengths = [1, 2, 3, 4, 5, chunk - 1, chunk, chunk + 1, chunk + 2, chunk + 3, 1_000_000];
    for length in lengths {
        let content: Vec<u8> = (0..length as u64).map(|i| (i * i / 7) as u8).collect();
        let file = TempFile::new(&content);
        let request = GenerateRequest::new()
            .image(Media::file(&file.0))
            .audio(Media::bytes(content.clone()))
            .prompt("after the media");
        let request = sent(request);
        assert_eq!(request.header("content-length"), Some(&*request.body.len().to_string()), "{length}");
        let body = request.json();
        for medium in ["image", "audio"] {
            assert_eq!(STANDARD.decode(body[medium].as_str().unwrap()).unwrap(), content, "{medium} {length}");
        }
        assert_eq!(body["prompt"], "after the media");
    }
}

#[test]
fn the_callers_key_goes_verbatim() {
    let visible: String = ('!'..='~').collect();
    for key in ["k", "order-4711/a=b", &visible, &"x".repeat(255)] {
        let service = Service::new([started()]);
        let generation = service.api().generate(&GenerateRequest::new().idempotency_key(key)).unwrap();
        assert_eq!(service.request().header("idempotency-key"), Some(key));
        assert_eq!(generation.idempotency_key, key);
    }
}

#[test]
fn every_call_without_a_key_mints_another() {
    let service = Service::new([started()]);
    let (api, request) = (service.api(), GenerateRequest::new());
    let mut answered: Vec<_> = (0..20).map(|_| api.generate(&request).unwrap().idempotency_key).collect();
    let sent: Vec<_> =
        service.requests().iter().map(|request| request.header("idempotency-key").unwrap().to_owned()).collect();
    assert_eq!(sent, answered);
    assert!(sent.iter().all(|key| (16..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())));
    answered.sort_unstable();
    answered.dedup();
    assert_eq!(answered.len(), 20);
}

#[test]
fn a_path_prefix_comes_before_every_path() {
    for prefix in ["", "/", "/proxy", "/proxy/", "/proxy//", "/a/b%20c/"] {
        let service = Service::new([started(), status("ready")]);
        let api = service.builder().base_url(service.url() + prefix).build().unwrap();
        api.generate(&GenerateRequest::new()).unwrap();
        api.status(ID).unwrap();
        let prefix = prefix.trim_end_matches('/');
        let targets: Vec<_> = service.requests().into_iter().map(|request| request.target).collect();
        assert_eq!(targets, [format!("{prefix}/v1/agent/generate"), format!("{prefix}/v1/agent/status/{ID}")]);
    }
}

#[test]
fn an_id_stays_one_segment_whatever_is_in_it() {
    let rows = [
        ("A91XMB7113", "A91XMB7113"),
        ("-._~", "-._~"),
        ("...", "..."),
        ("a/b", "a%2Fb"),
        ("../generate", "..%2Fgenerate"),
        ("?x", "%3Fx"),
        ("#", "%23"),
        ("%2e%2e", "%252e%252e"),
        ("a b", "a%20b"),
        ("a+b&c=d", "a%2Bb%26c%3Dd"),
        ("ü", "%C3%BC"),
        ("\\", "%5C"),
    ];
    for (id, segment) in rows {
        let service = Service::new([status("ready")]);
        service.api().status(id).unwrap();
        assert_eq!(service.request().target, format!("/v1/agent/status/{segment}"));
        assert_eq!(service.request().header("host"), Some(&*service.host()));
    }
}

#[test]
fn the_user_agent_can_be_another() {
    let service = Service::new([started(), status("ready")]);
    let api = service.builder().user_agent("kiosk/2.1 (lobby)").build().unwrap();
    api.generate(&GenerateRequest::new()).unwrap();
    api.status(ID).unwrap();
    for request in service.requests() {
        assert_eq!(request.header("user-agent"), Some("kiosk/2.1 (lobby)"));
    }
}

#[test]
fn a_generate_never_goes_out_on_an_idle_connection() {
    // Every connection answers one request well, and the second one with a 500.
    let url = listen(|n, mut stream| {
        thread::spawn(move || {
            let body = json!({"data": {"status": n.to_string()}, "agent_id": n.to_string()}).to_string();
            say(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
            read_head(&mut stream);
            let _ = stream.write_all(b"HTTP/1.1 500 Reused\r\ncontent-length: 0\r\n\r\n");
        });
    });
    let api = api_to(&url).build().unwrap();
    assert_eq!(api.status(ID).unwrap().status.as_str(), "0");
    assert_eq!(api.generate(&GenerateRequest::new()).unwrap().agent_id, "1");
    assert_eq!(api.status(ID).unwrap_err().http_status(), Some(500), "a status does reuse a connection");
}

#[test]
fn debug_shows_no_content() {
    let media = [
        Media::url("https://example.com/?token=hunter2"),
        Media::bytes(*b"hunter2"),
        Media::base64(STANDARD.encode("hunter2")),
    ];
    for medium in media {
        let request = GenerateRequest::new().image(medium.clone());
        for shown in [format!("{medium:?}"), format!("{medium:#?}"), format!("{request:?}"), format!("{request:#?}")] {
            for content in ["hunter2", "aHVudGVyMg", "104, 117"] {
                assert!(!shown.contains(content), "{shown}");
            }
            assert!(shown.contains("Media::"), "{shown}");
        }
    }
    assert_eq!(format!("{:?}", Media::bytes(vec![0; 9])), "Media::bytes(9 bytes)");
    assert_eq!(format!("{:?}", Media::file("portrait.jpg")), "Media::file(\"portrait.jpg\")");
}

#[test]
fn the_body_is_json_even_with_every_character_in_it() {
    let prompt: String = (0..=0x300).filter_map(char::from_u32).collect();
    let request = sent(GenerateRequest::new().prompt(&prompt).field(&prompt, &*prompt));
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!(body, json!({"prompt": prompt, prompt.clone(): prompt}));
}
