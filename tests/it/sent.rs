//! What is sent: the two requests, byte for byte, and the connections they use.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bithuman::serde_json::{Value, json};
use bithuman::{Billing, GenerateRequest, Media, Wait};

use crate::harness::*;

/// What the service receives for this request.
fn sent(request: &GenerateRequest) -> Request {
    let service = Service::new([accepted()]);
    service.api().generate(request).unwrap();
    service.request()
}

fn targets(requests: &[Request]) -> Vec<&str> {
    requests.iter().map(|request| &*request.target).collect()
}

#[test]
fn the_two_requests_are_these_and_nothing_more() {
    let server = Server::new([replies_on_one_connection([accepted(), status("ready")])]);
    let api = server.builder().build().unwrap();
    let request = GenerateRequest::new().prompt("Hello");
    let key = api.generate(&request).unwrap().idempotency_key;
    api.status(ID).unwrap();

    let (host, version) = (server.address, env!("CARGO_PKG_VERSION"));
    let generate = format!(
        "POST /v1/agent/generate
        accept: application/json
        accept-encoding: identity
        api-secret: {SECRET}
        content-length: 18
        content-type: application/json
        host: {host}
        idempotency-key: {key}
        user-agent: bithuman-rust/{version}
        {{\"prompt\":\"Hello\"}}"
    );
    let status = format!(
        "GET /v1/agent/status/A91XMB7113
        accept: application/json
        accept-encoding: identity
        api-secret: {SECRET}
        cache-control: no-cache
        host: {host}
        user-agent: bithuman-rust/{version}
        "
    );
    let mut seen = Vec::new();
    for mut request in server.requests() {
        let mut text = format!("{} {}", request.method, request.target);
        request.headers.sort_by_key(|(name, _)| name.to_lowercase());
        for (name, value) in &request.headers {
            text += &format!("\n        {}: {value}", name.to_lowercase());
        }
        seen.push(text + "\n        " + str::from_utf8(&request.body).unwrap());
    }
    assert_eq!(seen, [generate, status]);
}

#[test]
fn every_field_that_is_set_is_sent_and_no_other() {
    let new = GenerateRequest::new;
    let video = "You are a professional video content creator who helps with social media content.";
    let critic = "You are an art critic who analyzes visual artworks.";
    let artwork = "https://example.com/artwork.jpg";
    let all = new()
        .prompt("p")
        .image(Media::bytes(*b"\xff\xd8\xff"))
        .video(Media::url("https://example.com/video.mp4"))
        .audio(Media::base64("data:audio/mp3;base64,SUQz"))
        .model("auto")
        .aspect_ratio("1:1")
        .framing("portrait")
        .transparency(true)
        .agent_id("mine/1")
        .idempotency_key("k")
        .field("zoom", 1.5);
    let all_sent = json!({
        "prompt": "p", "image": "/9j/", "video": "https://example.com/video.mp4",
        "audio": "data:audio/mp3;base64,SUQz", "model": "auto", "aspect_ratio": "1:1",
        "framing": "portrait", "transparency": true, "agent_id": "mine/1", "zoom": 1.5,
    });
    let example = new().prompt(critic).image(Media::url(artwork));
    let rows = [
        (new(), json!({})),
        // The examples of the 2025 document.
        (new().prompt(video), json!({"prompt": video})),
        (example, json!({"prompt": critic, "image": artwork})),
        (new().transparency(false), json!({"transparency": false})),
        (new().prompt("a").prompt(""), json!({"prompt": ""})),
        (new().field("a", 1).field("a", 2), json!({"a": 2})),
        (new().field("\"ü", Value::Null), json!({"\"ü": null})),
        (
            new().field("c", json!([{"d": 1}])),
            json!({"c": [{"d": 1}]}),
        ),
        (all, all_sent),
    ];
    for (request, expected) in rows {
        let first = sent(&request);
        assert_eq!(first.json(), expected);
        assert_eq!(first.content_length(), first.body.len());
        assert_eq!(sent(&request).body, first.body, "the same bytes each time");
    }
    let in_order = sent(&new().model("m").prompt("p").field("a", 1).field("b", 2));
    let reversed = sent(&new().field("b", 2).field("a", 1).prompt("p").model("m"));
    assert_eq!(in_order.body, reversed.body, "whatever was set first");
}

#[test]
fn every_media_field_takes_every_form() {
    let file = TempFile::new(b"\x00\x01\xfe\xff");
    type Setter = fn(GenerateRequest, Media) -> GenerateRequest;
    let setters: [(&str, Setter); 3] = [
        ("image", GenerateRequest::image),
        ("video", GenerateRequest::video),
        ("audio", GenerateRequest::audio),
    ];
    let url = "HTTPS://example.com/a.jpg?x=1&y=\"2\"";
    let data_url = "data:image/png;base64,AAH+/w==";
    let forms = [
        (Media::url(url), url),
        // The service is on localhost too.
        (Media::url("http://localhost/"), "http://localhost/"),
        (Media::file(&file.0), "AAH+/w=="),
        (Media::bytes(*b"\x00\x01\xfe\xff"), "AAH+/w=="),
        (Media::base64("AAH+/w=="), "AAH+/w=="),
        (Media::base64(data_url), data_url),
        (Media::base64("AA\r\n\"\\"), "AA\r\n\"\\"),
    ];
    for (name, set) in setters {
        for (media, text) in &forms {
            let request = sent(&set(GenerateRequest::new(), media.clone()));
            assert_eq!(request.json(), json!({ name: text }), "{media:?}");
        }
    }
}

#[test]
fn media_of_every_length_arrive_whole() {
    let chunk = 48 * 1024;
    for length in [1, 2, 3, 4, chunk - 1, chunk, chunk + 1, chunk + 2, 700_000] {
        let content: Vec<u8> = (0..length as u64).map(|n| (n * n / 7) as u8).collect();
        let file = TempFile::new(&content);
        let request = GenerateRequest::new()
            .image(Media::file(&file.0))
            .audio(Media::bytes(content.clone()))
            .field("zoom", "after the media");
        let request = sent(&request);
        assert_eq!(request.content_length(), request.body.len(), "{length}");
        assert_eq!(request.header("transfer-encoding"), None);
        let body = request.json();
        for field in ["image", "audio"] {
            let decoded = STANDARD.decode(body[field].as_str().unwrap());
            assert!(decoded.unwrap() == content, "{field} of {length} bytes");
        }
        assert_eq!(body["zoom"], "after the media");
    }
}

#[test]
fn the_body_is_json_with_any_character_in_it() {
    let prompt: String = (0..=0x300).filter_map(char::from_u32).collect::<String>() + "🎨\u{2028}";
    let request = GenerateRequest::new()
        .prompt(&prompt)
        .field(&prompt, &*prompt);
    let expected = json!({"prompt": prompt, prompt.clone(): prompt});
    assert_eq!(sent(&request).json(), expected);
}

#[test]
fn the_callers_key_and_user_agent_go_verbatim_and_every_other_key_is_new() {
    let service = Service::new([accepted()]);
    let api = service.builder().user_agent("kiosk/2.1 (lobby)");
    let api = api.build().unwrap();
    let visible: String = ('!'..='~').collect();
    let mut keys = vec!["k".to_owned(), visible, "x".repeat(255)];
    for key in &keys {
        api.generate(&small().idempotency_key(key)).unwrap();
    }
    for _ in 0..20 {
        let key = api.generate(&small()).unwrap().idempotency_key;
        let random = key.strip_prefix("bithuman-").unwrap();
        assert!(random.len() == 32 && random.bytes().all(|b| b.is_ascii_hexdigit()));
        keys.push(key);
    }
    for (request, key) in service.requests().iter().zip(&keys) {
        assert_eq!(request.header("idempotency-key"), Some(&**key));
        assert_eq!(request.header("user-agent"), Some("kiosk/2.1 (lobby)"));
    }
    let sent = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!((keys.len(), service.requests().len()), (sent, sent));
}

#[test]
fn a_path_prefix_comes_before_every_path() {
    for prefix in [
        "",
        "/",
        "/proxy",
        "/proxy/",
        "/proxy//",
        "/a/b%20c/",
        "/v1x",
    ] {
        let service = Service::new([accepted(), status("ready")]);
        let url = service.url() + prefix;
        let api = service.builder().base_url(url).build().unwrap();
        api.generate(&small()).unwrap();
        api.status(ID).unwrap();
        let prefix = prefix.trim_end_matches('/');
        let expected = [
            format!("{prefix}/v1/agent/generate"),
            format!("{prefix}/v1/agent/status/{ID}"),
        ];
        assert_eq!(targets(&service.requests()), expected);
    }
}

#[test]
fn an_id_stays_one_segment_whatever_is_in_it() {
    let rows = "
        A91XMB7113 => A91XMB7113
        -._~ => -._~
        ... => ...
        ../generate => ..%2Fgenerate
        ?x#y => %3Fx%23y
        %2e%2e => %252e%252e
        a b+c&d=e => a%20b%2Bc%26d%3De
        ü\\ => %C3%BC%5C";
    for (id, segment) in table(rows) {
        let body = json!({"data": {"status": "ready"}});
        let service = Service::new([Reply::json(200, body)]);
        service.api().status(id).unwrap();
        let expected = format!("/v1/agent/status/{segment}");
        assert_eq!(service.request().target, expected);
    }
}

/// What a preflight says, and the error that saves the upload, if it does.
const PREFLIGHTS: &str = "
    401 UNAUTHORIZED => Unauthorized
    401 => Unauthorized
    403 PLAN_REQUIRED => PlanLimit
    403 ACCOUNT_SUSPENDED => Unauthorized
    403 FORBIDDEN =>
    403 =>
    404 AGENT_NOT_FOUND =>
    402 INSUFFICIENT_BALANCE =>
    429 RATE_LIMITED =>
    502 =>
    200 =>
    307 =>";

#[test]
fn a_body_over_one_mebibyte_is_sent_unless_a_preflight_refuses_secret_plan_or_account() {
    let limit = 1024 * 1024;
    let prompt = |length: usize| "x".repeat(length - r#"{"prompt":""}"#.len());
    let service = Service::new([accepted()]);
    let request = GenerateRequest::new().prompt(prompt(limit));
    service.api().generate(&request).unwrap();
    assert_eq!(
        (service.request().content_length(), service.preflights()),
        (limit, 0)
    );

    let request = GenerateRequest::new().prompt(prompt(limit + 1));
    for (reply, expected) in table(PREFLIGHTS) {
        let reply = match reply.split_once(' ') {
            Some((http, code)) => service_error(http.parse().unwrap(), code),
            None => gateway(reply.parse().unwrap()),
        };
        let service = Service::new([accepted()]).preflight(reply);
        let api = service.builder().max_retries(3).build().unwrap();
        let error = api.generate(&request).err();
        let kind = error.as_ref().map(|error| format!("{:?}", error.kind()));
        assert_eq!(kind.unwrap_or_default(), expected);
        let is_sent = expected.is_empty();
        assert_eq!(service.requests().len(), usize::from(is_sent));
        assert_eq!(service.preflights(), 1);
        if let Some(error) = error {
            assert_eq!(error.billing(), Billing::NotBilled);
            assert!(!error.is_retryable() && error.idempotency_key().is_some());
        }
    }
}

/// Gives these replies on one connection, and logs the preflight too.
fn replies_to_all(replies: Vec<Reply>) -> Act {
    act(move |c| {
        for reply in &replies {
            let Some(request) = c.any_head() else { return };
            c.body(request.content_length());
            c.send(reply.clone());
        }
    })
}

#[test]
fn a_job_is_one_connection_with_a_small_body_and_with_a_large_one() {
    let file = TempFile::new(vec![7; 3 << 20]);
    let large = small().image(Media::file(&file.0));
    let status_target = format!("/v1/agent/status/{ID}");
    for (request, is_large) in [(small(), false), (large, true)] {
        let mut replies = vec![accepted(), status("processing"), status("generating")];
        replies.push(status("ready"));
        let mut expected = vec!["/v1/agent/generate"];
        expected.extend([&*status_target; 3]);
        if is_large {
            replies.insert(0, service_error(404, "AGENT_NOT_FOUND"));
            expected.insert(0, "/v1/agent/status/preflight");
        }
        let server = Server::new([replies_to_all(replies)]);
        let api = server.builder().build().unwrap();
        let agent = unless_it_hangs(move || api.generate_and_wait(&request, &Wait::new()));
        assert!(agent.unwrap().is_ready());
        let requests = server.requests();
        assert_eq!(targets(&requests), expected);
        for request in &requests {
            assert_eq!(request.header("api-secret"), Some(SECRET));
            let is_get = request.method == "GET";
            assert_eq!(request.header("cache-control").is_some(), is_get);
            assert_eq!(request.header("expect"), None);
        }
        assert_eq!(server.connections(), 1);
    }
}
