//! Every other endpoint: what a call sends and returns, what is retried, and what is billed.

use bithuman::ErrorKind::*;
use bithuman::serde_json::{self, Value, json};
use bithuman::{Api, Billing, Error, GenerateRequest, Media, Method, Result, Wait};

use crate::harness::{Service, *};
use crate::mock_server::{ApiVersion, MockServer, Settings};

const METHODS: [Method; 3] = [Method::Get, Method::Post, Method::Delete];

/// The endpoints as the service publishes them: the request, and its response.
const ENDPOINTS: &str = r#"
    GET /v1/me => {"data": {"plan": "pro", "credit_balance": 12}, "status": "success", "status_code": 200}
    GET /v1/pricing => {"success": true, "data": {"agent_generation": {"by_model": {"essence-2": 500}}}}
    POST /v1/validate => {"valid": false}
    GET /v1/agents?limit=100&offset=0&status=ready => {"success": true, "data": [], "pagination": {"has_more": false}}
    GET /v1/agent/A91XMB7113 => {"success": true, "data": {"code": "A91XMB7113"}}
    POST /v1/agent/A91XMB7113 {"system_prompt": "p"} => {"agent_code": "A91XMB7113", "updated": true}
    DELETE /v1/agent/A91XMB7113 => {"success": true, "agent_code": "A91XMB7113", "deleted": true}
    POST /v1/agent/A91XMB7113/models {"model": "essence-2"} => {"success": true}
    POST /v1/webhooks {"url": "https://e/", "events": ["agent.ready"]} => {"success": true, "data": {"id": 1}}
    GET /v1/webhooks => []
    POST /v1/webhooks/1/test => "sent"
    GET /v1/webhooks/1/deliveries => null
    DELETE /v1/webhooks/1 =>
    GET /v1/models/showcase => {"data": [{"url": "https://e/a.imx"}]}
    POST /v1/new ["ü\n", 1.5] => 7
    DELETE /v1/new true => {"success": true}"#;

fn method(name: &str) -> Method {
    let found = METHODS.into_iter().find(|method| {
        let debug = format!("{method:?}");
        debug.eq_ignore_ascii_case(name)
    });
    found.unwrap()
}

#[test]
fn a_call_sends_what_it_is_given_to_every_endpoint_and_returns_the_json() {
    for (request, response) in table(ENDPOINTS) {
        let mut words = request.splitn(3, ' ');
        let (name, path) = (words.next().unwrap(), words.next().unwrap());
        let body: Option<Value> = words.next().map(|json| serde_json::from_str(json).unwrap());
        let status = if response.is_empty() { 204 } else { 200 };
        let service = Service::new([Reply::new(status, response)]);
        let found = service.api().call(method(name), path, body.as_ref());
        let expected: Value = serde_json::from_str(response).unwrap_or_default();
        assert_eq!(found.unwrap(), expected, "{request}");

        let sent = service.request();
        assert_eq!((&*sent.method, &*sent.target), (name, path));
        assert_eq!(sent.header("api-secret"), Some(SECRET));
        assert_eq!(sent.header("idempotency-key"), None);
        let is_get = name == "GET";
        assert_eq!(sent.header("cache-control").is_some(), is_get);
        assert_eq!(sent.header("content-type").is_some(), body.is_some());
        assert_eq!(sent.header("content-length").is_none(), is_get, "{request}");
        match body {
            Some(body) => assert_eq!(sent.json(), body),
            None => assert_eq!(sent.body, b""),
        }
    }
}

#[test]
fn a_response_is_json_or_nothing_and_everything_else_is_an_error() {
    let long = format!("[\"{}\"]", "x".repeat(1024 * 1024));
    let rows = [
        (Reply::new(201, "\u{feff} [1]\n"), Ok(json!([1]))),
        (Reply::new(200, " \r\n"), Ok(Value::Null)),
        (Reply::new(200, ""), Ok(Value::Null)),
        (Reply::new(200, "<html>"), Err("the response is not JSON")),
        (
            Reply::new(200, "{\"a\": 1"),
            Err("the response is not JSON"),
        ),
        (Reply::new(200, "{} {}"), Err("the response is not JSON")),
        (
            Reply::new(200, long),
            Err("the response is longer than 1 MiB"),
        ),
        (
            Reply::new(200, r#"{"success": false, "error": "No"}"#),
            Err("rejected the request (200): No"),
        ),
        (
            Reply::new(302, "").header("location", "/x"),
            Err("redirects to /x, which is not followed"),
        ),
        (
            service_error(410, "AGENT_DELETED"),
            Err("the agent was deleted"),
        ),
    ];
    for (reply, expected) in rows {
        let service = Service::new([reply]);
        let found = service.api().call(Method::Get, "/v1/me?a=b", None);
        assert_eq!(service.requests().len(), 1);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(what)) => {
                assert_says(&error, "call: GET /v1/me: ");
                assert_says(&error, what);
                assert!(!error.is_retryable(), "{error}");
            }
            (found, _) => panic!("{found:?}"),
        }
    }
}

/// What the service does to a request: a status and its code, a page, or no whole response.
pub fn does(text: &str) -> Does {
    let ok = |header: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{header}\r\n\r\n{body}");
    let bytes = match text {
        "resets" => return Does::Reset,
        "stalls" => return Does::Stall(Vec::new()),
        "cut before the body" => ok("content-length: 9", ""),
        "cut in the body" => ok("content-length: 9", "{\"a\": "),
        "cut without a length" => ok("connection: close", "{\"a\": "),
        _ => {
            let (status, code) = text.split_once(' ').unwrap();
            let reply = match (status.parse().unwrap(), code) {
                (status, "page") => gateway(status),
                (200, code) => Reply::json(200, json!({"success": false, "error": code})),
                (status, code) => service_error(status, code),
            };
            return reply.into();
        }
    };
    Does::Reply(bytes.into())
}

/// What the service does => the kind, which methods are retried, and what a POST knows of its bill.
const OUTCOMES: &str = "
    400 MISSING_PARAM => Rejected none NotBilled
    401 UNAUTHORIZED => Unauthorized none NotBilled
    402 INSUFFICIENT_BALANCE => InsufficientBalance none NotBilled
    403 PLAN_REQUIRED => PlanLimit none NotBilled
    404 NOT_FOUND => NotFound none NotBilled
    409 AGENT_NOT_READY => Rejected none NotBilled
    410 AGENT_DELETED => NotFound none NotBilled
    422 MODEL_PREREQUISITE_MISSING => Rejected none NotBilled
    307 page => Rejected none NotBilled
    408 page => Service GET Unknown
    425 page => Service all NotBilled
    429 RATE_LIMITED => RateLimited all NotBilled
    500 INTERNAL_ERROR => Service GET Unknown
    502 page => Service GET Unknown
    503 page => Service GET Unknown
    503 SERVICE_UNAVAILABLE => Service all NotBilled
    503 ETIMEDOUT => Service GET Unknown
    504 UPSTREAM_TIMEOUT => Service GET Unknown
    200 RATE_LIMITED => RateLimited all NotBilled
    200 INTERNAL_ERROR => Service GET Unknown
    200 page => UnexpectedResponse none Unknown
    cut before the body => Network GET Unknown
    cut in the body => Network GET Unknown
    cut without a length => UnexpectedResponse GET Unknown
    resets => Network GET Unknown
    stalls => Timeout GET Unknown";

#[test]
fn a_get_is_retried_as_a_status_is_and_another_method_only_where_it_was_not_accepted() {
    let script = Script::new();
    let body = json!({"model": "essence-2"});
    for (text, expected) in table(OUTCOMES) {
        let words: Vec<_> = expected.split(' ').collect();
        for method in METHODS {
            let is_get = method == Method::Get;
            for body in [None, Some(&body).filter(|_| !is_get)] {
                let mut builder = script.builder(true).max_retries(2);
                if text == "stalls" {
                    builder = builder.response_timeout(ms(60));
                }
                let api = builder.build().unwrap();
                let path = "/v1/agent/A91XMB7113/models";
                let run = script.run([does(text)], || api.call(method, path, body));
                let error = run.result.unwrap_err();

                let is_retried = words[1] == "all" || (words[1] == "GET" && is_get);
                let is_free = is_get || method == Method::Delete;
                let billing = if is_free { "NotBilled" } else { words[2] };
                let facts = format!("{:?} {:?}", error.kind(), error.billing());
                let context = format!("{method:?} {text}: {error}");
                assert_eq!(facts, format!("{} {billing}", words[0]), "{context}");
                let attempts = if is_retried { 3 } else { 1 };
                assert_eq!(error.attempts(), attempts, "{context}");
                assert_eq!(run.sleeps.len() as u32, attempts - 1, "{context}");
                assert_eq!(error.is_retryable(), is_retried, "{context}");
                let is_doubted = words[2] == "Unknown" && !is_get;
                assert_eq!(context.contains("check before"), is_doubted, "{context}");
            }
        }
    }
}

#[test]
fn what_never_reached_the_service_is_retried_with_every_method() {
    let url = format!("http://127.0.0.1:{}", unused_port());
    let refused = api(&url).max_retries(1).build().unwrap();
    let proxy = Server::new([reply(Reply::new(503, ""))]);
    let proxied = Api::builder()
        .base_url("http://service.test")
        .allow_plain_http(true);
    let proxied = proxied
        .secret(SECRET)
        .clock(proxy.clock.clone())
        .max_retries(1);
    let proxied = proxied.proxy(&*proxy.url).build().unwrap();
    // No lookup of a label this long leaves the computer.
    let unknown = format!("http://{}.invalid", "a".repeat(64));
    let unknown = api(&unknown).allow_plain_http(true).max_retries(1);
    let unknown = unknown.build().unwrap();
    for method in METHODS {
        for api in [&refused, &proxied, &unknown] {
            let error = api.call(method, "/v1/new", None).unwrap_err();
            let facts = (error.kind(), error.attempts(), error.billing());
            assert_eq!(facts, (Network, 2, Billing::NotBilled), "{error}");
        }
    }
    // Nor a body that did not go out whole.
    let server = Server::new([act(|c| drop(c.head()))]);
    let api = server.builder().max_retries(1).build().unwrap();
    let body = json!("x".repeat(20 << 20));
    let error =
        unless_it_hangs(move || api.call(Method::Post, "/v1/new", Some(&body))).unwrap_err();
    let facts = (error.kind(), error.attempts(), error.billing());
    assert_eq!(facts, (Network, 2, Billing::NotBilled), "{error}");
}

#[test]
#[cfg(feature = "rustls")]
fn nothing_is_billed_without_trusted_tls() {
    // A connection that is closed with something unread is reset, and what was sent may be lost.
    let plain = Server::new([act(|c| {
        c.send("HTTP/1.1 400 Bad Request\r\n\r\n");
        c.stall();
    })]);
    let api = api(&plain.url.replace("http", "https")).build().unwrap();
    let error = api.call(Method::Post, "/v1/new", None).unwrap_err();
    assert_eq!((error.kind(), error.billing()), (Tls, Billing::NotBilled));
}

#[test]
fn a_retry_sends_the_same_bytes_again() {
    let busy = service_error(429, "RATE_LIMITED").header("retry-after", "7");
    let service = Service::new([busy, Reply::json(200, json!({"updated": true}))]);
    let events = Events::default();
    let api = events.record(service.builder().max_retries(1));
    let body = json!({"system_prompt": "p"});
    api.call(Method::Post, "/v1/agent/A1", Some(&body)).unwrap();
    let bodies: Vec<_> = service.requests().iter().map(Request::json).collect();
    assert_eq!(bodies, [body.clone(), body]);
    assert_eq!(events.retries(), [(1, secs(7))]);
    assert_eq!(events.all().len(), 1, "a small body has no progress");
}

#[test]
fn a_call_that_is_refused_or_shut_down_sends_nothing() {
    let service = Service::new([Reply::new(200, "{}")]);
    let api = service.api();
    let body = json!({});
    for (method, path, body) in [
        (Method::Get, "//evil.test/v1/me", None),
        (Method::Post, "/v1/agent/generate", Some(&body)),
        (Method::Get, "/v1/me", Some(&body)),
    ] {
        let error = api.call(method, path, body).unwrap_err();
        assert_eq!((error.kind(), error.attempts()), (InvalidInput, 0));
        assert_says(&error, "call: ");
    }
    api.shutdown();
    let error = api.call(Method::Post, "/v1/new", None).unwrap_err();
    assert_eq!(
        (error.kind(), error.billing()),
        (ShutDown, Billing::NotBilled)
    );
    assert!(service.requests().is_empty());
}

#[test]
fn a_secret_in_a_path_is_masked_and_a_query_is_not_shown() {
    let service = Service::new([service_error(404, "NOT_FOUND")]);
    let path = format!("/v1/{SECRET}?token=hidden");
    let error = service.api().call(Method::Get, &path, None).unwrap_err();
    let printed = printed(&error);
    assert!(
        !printed.contains(SECRET) && !printed.contains("hidden"),
        "{printed}"
    );
}

fn mock_api(server: &MockServer) -> Api {
    let builder = Api::builder().secret(crate::mock_server::SECRET);
    let builder = builder.base_url(server.base_url()).clock(FakeClock::new());
    builder.build().unwrap()
}

fn credits(api: &Api) -> u64 {
    let me = api.call(Method::Get, "/v1/me", None).unwrap();
    me["data"]["credit_balance"].as_u64().unwrap()
}

#[test]
fn a_program_sees_the_price_of_its_model_gone_and_of_a_failed_agent_the_refund() {
    let server = MockServer::start(ApiVersion::Current);
    let api = mock_api(&server);
    let pricing = api.call(Method::Get, "/v1/pricing", None).unwrap();
    for model in ["essence-1", "essence-2", "expression-2"] {
        let price = pricing["data"]["agent_generation"]["by_model"][model].as_u64();
        for (prompt, price) in [("p", price.unwrap()), ("[fail]", 0)] {
            let before = credits(&api);
            let request = GenerateRequest::new().prompt(prompt).model(model);
            let agent = api.generate_and_wait(&request, &Wait::new());
            let billing = agent.as_ref().err().map(Error::billing);
            assert_eq!(billing, (price == 0).then_some(Billing::Refunded));
            assert_eq!(before - credits(&api), price, "{model} {prompt}");
        }
    }
    assert_eq!((server.billed(), server.refunded()), (6, 3));
}

/// The newest agent with this prompt that was created since then, as the crate's docs look for it.
fn find(api: &Api, prompt: &str, since: &str) -> Result<Option<String>> {
    let newest = api.call(Method::Get, "/v1/agents?limit=100", None)?;
    for summary in newest["data"].as_array().into_iter().flatten() {
        let id = summary["agent_id"].as_str().or(summary["code"].as_str());
        let agent = match api.status(id.unwrap_or_default()) {
            Err(error) if error.kind() == bithuman::ErrorKind::NotFound => continue,
            result => result?,
        };
        let is_older = agent.created_at.is_some_and(|time| time.as_str() < since);
        if !is_older && agent.system_prompt.as_deref() == Some(prompt) {
            return Ok(Some(agent.agent_id));
        }
    }
    Ok(None)
}

#[test]
fn the_agents_of_the_account_are_listed_found_and_deleted() {
    let server = MockServer::start(ApiVersion::Current);
    let api = mock_api(&server);
    for prompt in ["one", "two", "one", "three"] {
        api.generate(&GenerateRequest::new().prompt(prompt))
            .unwrap();
    }
    let mut ids = Vec::new();
    loop {
        let path = format!("/v1/agents?limit=3&offset={}", ids.len());
        let page = api.call(Method::Get, &path, None).unwrap();
        for agent in page["data"].as_array().unwrap() {
            ids.push(agent["agent_id"].as_str().unwrap().to_owned());
        }
        if page["pagination"]["has_more"] != true {
            break;
        }
    }
    assert_eq!(
        ids,
        ["A04XMB7113", "A03XMB7113", "A02XMB7113", "A01XMB7113"]
    );
    for (status, number) in [("processing", 4), ("ready", 0)] {
        let path = format!("/v1/agents?status={status}");
        let list = api.call(Method::Get, &path, None).unwrap();
        assert_eq!(list["data"].as_array().unwrap().len(), number);
    }
    let found = |prompt, since| find(&api, prompt, since).unwrap();
    let day = "2025-08-01T00:00:00";
    assert_eq!(found("one", day).as_deref(), Some("A03XMB7113"));
    assert_eq!(found("one", "2025-08-01T00:04:00"), None);
    assert_eq!(found("four", day), None);

    let gone = api
        .call(Method::Delete, "/v1/agent/A03XMB7113", None)
        .unwrap();
    assert_eq!(gone["deleted"], true);
    assert_eq!(found("one", day).as_deref(), Some("A01XMB7113"));
    let error = api.status("A03XMB7113").unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (NotFound, Some("AGENT_DELETED"))
    );
}

#[test]
fn a_wrong_secret_is_not_valid_and_a_new_model_of_an_agent_is_billed() {
    let server = MockServer::start(ApiVersion::Current);
    for (secret, is_valid) in [(crate::mock_server::SECRET, true), ("wrong-secret", false)] {
        let api = Api::builder().secret(secret).base_url(server.base_url());
        let found = api
            .build()
            .unwrap()
            .call(Method::Post, "/v1/validate", None);
        assert_eq!(found.unwrap(), json!({"valid": is_valid}));
    }
    let api = mock_api(&server);
    let id = api
        .generate(&GenerateRequest::new().model("essence-1"))
        .unwrap()
        .agent_id;
    let before = credits(&api);
    let path = format!("/v1/agent/{id}/models");
    let model = json!({"model": "expression-2"});
    api.call(Method::Post, &path, Some(&model)).unwrap();
    assert_eq!(before - credits(&api), 2000);
    let state = |api: &Api| {
        let record = api
            .call(Method::Get, &format!("/v1/agent/{id}"), None)
            .unwrap();
        record["data"]["model_status"]["expression-2"]["state"].clone()
    };
    assert_eq!(state(&api), "pending");
    api.wait(&id, &Wait::new()).unwrap();
    assert_eq!(state(&api), "ready");
}

#[test]
fn the_2025_api_has_no_other_endpoint_and_says_so() {
    let server = MockServer::start(Settings::from(ApiVersion::V2025));
    let api = mock_api(&server);
    for (method, path) in [(Method::Get, "/v1/me"), (Method::Post, "/v1/validate")] {
        let error = api.call(method, path, None).unwrap_err();
        assert_eq!(error.kind(), NotFound);
    }
    let error = api.upload("a.jpg", Media::bytes(*b"a")).unwrap_err();
    assert_says(&error, "upload: the server has no uploads (404 NOT_FOUND)");
}
