//! The secret goes to one origin in one header, and is never shown, whoever repeats it.

use bithuman::serde_json::json;
use bithuman::{Api, Error, GenerateRequest, Media, Wait};

use crate::harness::*;

/// Whether any eight characters of the secret are in a text.
fn shows(text: &str, secret: &str) -> bool {
    let mut parts = (0..=secret.len() - 8).map(|at| &secret[at..at + 8]);
    parts.any(|part| text.contains(part))
}

/// Where a service could put what it was sent.
fn echoes(secret: &str) -> Vec<Reply> {
    let with = format!("you sent {secret} to us");
    let cut = |before: usize| format!("{}{secret}", "é".repeat(before));
    vec![
        Reply::json(401, json!({"error": with, "code": with, "details": with})),
        Reply::json(
            401,
            json!({"code": "X", "details": {"sent": [with], &with: 1}}),
        ),
        Reply::json(
            401,
            json!({"success": false, "error": secret, "message": with}),
        ),
        Reply::json(
            401,
            json!({"error": {"code": secret, "message": with, "details": with}}),
        ),
        Reply::json(403, json!({"error": {"code": "X", "upgrade_url": with}})),
        Reply::json(402, json!({"error": {"message": "m", "topup_url": with}})),
        Reply::json(401, json!({"detail": with})),
        Reply::json(200, json!({"success": false, "note": with})),
        Reply::json(
            200,
            json!({"success": true, "headers": {"api-secret": [secret]}}),
        ),
        Reply::json(
            200,
            json!({"success": true, &with: 1, "data": {&with: with}}),
        ),
        Reply::new(200, format!("<html>{with}</html>")),
        Reply::new(502, format!("<html><title>{with}</title></html>")),
        // Across the cut at 512 characters.
        Reply::new(502, cut(512 - 10)),
        Reply::json(400, json!({"error": cut(512 - 20), "code": cut(511)})),
        Reply::new(400, "").header("x-request-id", secret),
        Reply::new(429, "").header("retry-after", secret),
        Reply::new(302, "").header("location", format!("http://127.0.0.1:9/?{secret}")),
        Reply::new(307, with).header("location", cut(512 - 10).replace('é', "x")),
    ]
}

/// The errors of every call, at this reply to all of its requests.
fn errors(reply: Reply, secret: &str) -> Vec<Error> {
    let service = Service::new([reply]);
    let api = service.builder().secret(secret).build().unwrap();
    let wait = Wait::new().timeout(secs(60)).outage(secs(10));
    let errors = [
        api.generate(&small()).err(),
        api.generate_and_wait(&small(), &wait).err(),
        api.status(ID).err(),
        api.wait(ID, &wait).err(),
    ];
    for request in service.requests() {
        assert_eq!(request.header("api-secret"), Some(secret));
    }
    errors.into_iter().flatten().collect()
}

#[test]
fn no_error_shows_a_secret_that_the_service_repeats() {
    // The second has a form of its own inside JSON, and the third one more: `\/`.
    for secret in [
        SECRET,
        "sk\"test\\0123456789",
        "sk/test/0123456789",
        "8letters",
    ] {
        for (number, reply) in echoes(secret).into_iter().enumerate() {
            let mut slashed = reply.clone();
            let text = String::from_utf8(reply.body.clone()).unwrap();
            slashed.body = text.replace('/', "\\/").into();
            for reply in [reply, slashed] {
                let errors = errors(reply, secret);
                assert_eq!(errors.len(), 4);
                for error in errors {
                    assert!(!shows(&printed(&error), secret), "{number}: {error:?}");
                }
            }
        }
    }
}

#[test]
fn no_error_shows_a_secret_in_place_of_an_id() {
    let other = json!({"data": {"agent_id": SECRET, "status": "ready"}, "success": true});
    let long = json!({"data": {"agent_id": "x".repeat(100_000), "status": "ready"}});
    for (http, body) in [(200, other), (200, long)] {
        for error in errors(Reply::json(http, body), SECRET) {
            let line = error.to_string();
            assert!(!shows(&line, SECRET) && line.len() < 2_000, "{line}");
        }
    }
}

#[test]
fn no_error_shows_a_secret_that_json_wrote_with_escapes() {
    let secret = "sk+test+0123456789abcdef";
    for start in ["{\"success\": false, ", "{\"success\": true, "] {
        let body = format!("{start}\"note\": \"{}\"}}", secret.replace('+', "\\u002B"));
        for error in errors(Reply::new(200, body), secret) {
            assert!(!shows(&printed(&error), secret), "{error}");
        }
    }
}

#[test]
fn the_rest_of_a_text_stays_and_a_secret_under_eight_characters_may_be_any_word() {
    let rows = [
        (SECRET, "key sk-test-0123456789abcdef!", "key [secret]!"),
        ("rejected", "it was rejected", "it was [secret]"),
        ("service", "by the service", "by the service"),
    ];
    for (secret, text, shown) in rows {
        for error in errors(Reply::json(401, json!({"error": text})), secret) {
            assert_eq!(error.message(), Some(shown));
        }
    }
    // Our own words say what is wrong, whatever the secret is.
    for secret in ["rejected", "generate", "redirects", "followed", "127.0.0.1"] {
        let redirect = Reply::new(302, "").header("location", "/elsewhere");
        for error in errors(redirect, secret) {
            assert!(!error.to_string().contains("[secret]"), "{error}");
        }
    }
}

#[test]
fn what_the_service_says_of_an_agent_is_data_and_is_left_as_it_is() {
    let fields = json!({"status": "generating", "name": SECRET, "seen": {SECRET: [SECRET]}});
    let mut said = fields.clone();
    said["agent_id"] = json!(ID);
    let service = Service::new([
        Reply::json(
            200,
            json!({"agent_id": ID, "message": SECRET, "seen": SECRET}),
        ),
        agent(fields),
    ]);
    let api = service.api();
    let generation = api.generate(&small()).unwrap();
    assert_eq!(generation.message.as_deref(), Some(SECRET));
    assert_eq!(generation.extra["seen"], SECRET);
    let agent = api.status(ID).unwrap();
    assert_eq!(bithuman::serde_json::to_value(agent).unwrap(), said);
}

#[test]
fn no_error_of_a_wait_shows_it_through_what_was_last_seen() {
    let seen = json!({
        "status": SECRET, "current_step": SECRET, "error_message": SECRET, "name": SECRET,
        SECRET: SECRET,
    });
    let failed =
        json!({"status": "failed", "error_message": format!("{}{SECRET}", "x".repeat(500))});
    let scripts = [
        vec![agent(seen.clone())],
        vec![agent(seen.clone()), Reply::new(400, SECRET)],
        vec![agent(seen.clone()), Reply::new(502, SECRET)],
        vec![agent(seen), agent(failed)],
    ];
    for script in scripts {
        let service = Service::new(script);
        let events = Events::default();
        let api = events.record(service.builder());
        let error = api.wait(ID, &Wait::new().timeout(secs(60))).unwrap_err();
        assert_eq!(error.last_seen().map(|agent| &*agent.agent_id), Some(ID));
        assert!(!shows(&printed(&error), SECRET), "{error:?}");
        for event in events.all() {
            let is_ours = matches!(event, bithuman::Event::Retrying { .. });
            assert!(
                !is_ours || !shows(&format!("{event:?}"), SECRET),
                "{event:?}"
            );
        }
    }
}

#[test]
fn no_error_shows_a_secret_from_a_response_that_is_not_http() {
    let heads = [
        format!("{SECRET}\r\n\r\n"),
        format!("HTTP/1.1 {SECRET}\r\n\r\n"),
        format!("HTTP/1.1 400 {SECRET}\r\ncontent-length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{SECRET}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\ncontent-length: {SECRET}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{SECRET}\r\n"),
    ];
    for head in heads {
        let server = Server::new([reply(head)]);
        let api = server.builder().max_retries(0).build().unwrap();
        for error in [api.generate(&small()).err(), api.status(ID).err()] {
            let shown = printed(&error.unwrap());
            assert!(!shows(&shown, SECRET), "{shown}");
        }
    }
}

#[test]
fn a_redirect_takes_the_secret_nowhere() {
    let other = Server::new([reply(status("ready"))]);
    let large = GenerateRequest::new().image(Media::bytes(vec![1; 900_000]));
    for http in [301, 302, 303, 307, 308] {
        let place = format!("http://{SECRET}@{}/", other.address);
        let redirect = Reply::new(http, "<a>moved</a>").header("location", place);
        let first = Server::new([act(move |c| c.reply_to_all(redirect.clone()))]);
        let api = first.builder().build().unwrap();
        let errors = [
            api.generate(&small()).err(),
            api.generate(&large).err(),
            api.status(ID).err(),
            api.wait(ID, &Wait::new()).err(),
        ];
        for error in errors.map(Option::unwrap) {
            let ended = (error.http_status(), error.attempts());
            assert_eq!(ended, (Some(http), 1), "{error}");
            assert!(!shows(&printed(&error), SECRET), "{error}");
        }
        assert_eq!(first.requests().len(), 4);
    }
    assert_eq!(other.connections(), 0);
}

#[test]
fn no_debug_shows_a_secret_a_password_or_a_content() {
    let (canary, encoded) = ("hunter2hunter2", "aHVudGVyMmh1bnRlcjI=");
    let builder = Api::builder()
        .secret(canary)
        .base_url("http://service.test");
    let builder = builder.proxy(format!("http://user:{canary}@127.0.0.1:1"));
    let builder = builder.allow_plain_http(true).user_agent(canary);
    let api = builder.clone().build().unwrap();
    let media = [
        Media::url(format!("https://example.com/?token={canary}")),
        Media::bytes(canary),
        Media::base64(encoded),
    ];
    let mut shown = format!("{builder:?}{builder:#?}{api:?}{api:#?}");
    shown += &format!("{:?}{:#?}", api.watch(ID, &Wait::new()), api.status(""));
    for media in media {
        shown += &format!(
            "{media:?}{:#?}",
            GenerateRequest::new().image(media.clone())
        );
    }
    for hidden in ["unter2", "aHVudGVy", "104, 117", "dXNlcjpo"] {
        assert!(!shown.contains(hidden), "{shown}");
    }
    assert!(shown.contains("Media::bytes(14 bytes)"), "{shown}");
}
