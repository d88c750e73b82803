//! Whom a download asks, what it says and shows to whom, and how long it goes on.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bithuman::serde_json::{Value, json};
use bithuman::{Api, Billing, Download, Error, ErrorKind, Event};

use crate::bounded::GRACE;
use crate::downloads::*;
use crate::harness::*;
use crate::mock_server::{self, ApiVersion, Settings};

#[test]
fn the_storage_gets_nothing_but_the_signed_url() {
    let desk = Desk::new(2 * MB);
    desk.storage()
        .change(|settings| settings.breaks_after = Some(MB + 1));
    desk.download().unwrap();
    for fetched in desk.fetched() {
        let head = fetched.head.to_ascii_lowercase();
        for word in [
            mock_server::SECRET,
            &desk.id,
            "api-secret",
            "cookie",
            "referer",
            "key",
        ] {
            assert!(!head.contains(&word.to_ascii_lowercase()), "{word}: {head}");
        }
        let names: Vec<_> = head
            .lines()
            .skip(1)
            .map(|line| line.split(':').next())
            .collect();
        let names: Vec<_> = names
            .into_iter()
            .flatten()
            .filter(|it| !it.is_empty())
            .collect();
        let known = [
            "accept",
            "accept-encoding",
            "host",
            "if-range",
            "range",
            "user-agent",
        ];
        assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
        assert!(head.contains("accept-encoding: identity"), "{head}");
        assert!(
            head.starts_with("get /models/file.imx?signature=s"),
            "{head}"
        );
    }
    // The service is asked with it, and with the caller's user agent.
    let odd = Odd::new();
    let builder = odd.script.builder(false).user_agent("caller/1");
    let api = builder.build().unwrap();
    let run = odd.watch([odd.offer()], [whole().into()], || {
        api.download(ID, odd.path(), &Download::new())
    });
    let [asked, fetched] = &run.requests[..] else {
        panic!("{:?}", run.requests)
    };
    assert_eq!(
        asked.target,
        format!("/v1/agent/{ID}/model/download?redirect=false")
    );
    assert_eq!(asked.header("api-secret"), Some(SECRET));
    assert_eq!(asked.header("user-agent"), Some("caller/1"));
    assert_eq!(fetched.header("api-secret"), None);
    let own = concat!("bithuman-rust/", env!("CARGO_PKG_VERSION"));
    assert_eq!(fetched.header("user-agent"), Some(own));
    assert_eq!(fetched.method, "GET");
}

#[test]
fn the_model_is_asked_for_by_name() {
    let odd = Odd::new();
    let download = Download::new().model("essence-2&redirect=true");
    let offer = offer_of(json!({"code": ID, "url": odd.url()}));
    let run = odd.play([offer.into()], [whole().into()], &download);
    let model = run.result.unwrap().model;
    assert_eq!(model.as_deref(), Some("essence-2&redirect=true"));
    let target = &run.requests[0].target;
    assert!(
        target.ends_with("?redirect=false&model=essence-2%26redirect%3Dtrue"),
        "{target}"
    );
}

/// What a person, an event or a log can see of a result.
fn shown<T: std::fmt::Debug>(result: &Result<T, Error>, events: &Events) -> String {
    let error = result.as_ref().err().map(printed);
    format!("{result:?} {error:?} {:?}", events.all())
}

#[test]
fn the_signed_url_is_shown_nowhere() {
    let odd = Odd::new();
    let signed = |status: u16| -> Does {
        let body = json!({"success": false, "data": {"url": odd.url()}});
        Reply::json(status, body).into()
    };
    let location =
        |status: u16| -> Does { Reply::new(status, "").header("location", odd.url()).into() };
    let half: Vec<u8> = offer(&odd.url()).into();
    let field = |status: u16, name: &str| -> Does {
        let text = format!("HEAD {} gave 403", odd.url());
        let error = json!({"code": "FORBIDDEN", name: text, "upgrade_url": "https://e/plan"});
        Reply::json(status, json!({"error": error})).into()
    };
    let agent_with = |name: &str, status: &str| {
        let is_good = name != "message";
        let data = json!({"status": status, name: odd.url()});
        let body = json!({"success": is_good, "data": data, name: odd.url()});
        Reply::json(200, body).header("x-request-id", odd.url())
    };
    let said = |status: u16| -> Does { Reply::new(status, odd.url()).into() };
    let page = Reply::new(200, odd.url()).header("content-type", "text/html");
    let storage: [Vec<Does>; 8] = [
        vec![whole().into()],
        vec![Does::Reset],
        vec![raw("SSH-2.0\r\n\r\n")],
        vec![said(403), Does::Reset],
        vec![said(451)],
        vec![page.into()],
        vec![location(302)],
        vec![broken(whole(), 5), said(500)],
    ];
    let service: [Does; 10] = [
        field(403, "message"),
        field(500, "reason"),
        offer_of(json!({"code": odd.url(), "url": odd.url()})).into(),
        location(302),
        signed(200),
        signed(500),
        raw(&half[..half.len() - 30]),
        offer_of(json!({"code": "A2", "url": odd.url()})).into(),
        offer_of(json!({"code": ID, "url": format!("x{}", odd.url())})).into(),
        offer_of(json!({"code": ID, "link": odd.url()})).into(),
    ];
    // The status, of a server without the endpoint.
    let none = || Does::from(Reply::new(404, ""));
    let status: [Does; 6] = [
        location(302),
        said(200),
        said(503),
        agent_with("message", "").into(),
        agent_with("model_url", "").into(),
        agent_with("agent_id", "ready").into(),
    ];
    let rows = storage.into_iter().map(|turns| (vec![odd.offer()], turns));
    let service = service.map(|turn| vec![turn]).into_iter();
    let status = status.map(|turn| vec![none(), turn, none(), location(302)]);
    let service = service.chain(status).map(|turns| (turns, vec![said(451)]));
    for (service, storage) in rows.chain(service) {
        let case = format!("{service:?} {storage:?}");
        let events = Events::default();
        let api = events.record(odd.script.builder(false));
        let call = || api.download(ID, odd.path(), &Download::new());
        let run = odd.watch(service, storage, call);
        let shown = shown(&run.result, &events);
        assert!(!shown.contains("signature"), "{case}\n{shown}");
        // The page for help is meant to be seen.
        let is_helpful = case.contains("https://e/plan");
        assert_eq!(
            shown.contains("; see https://e/plan"),
            is_helpful,
            "{shown}"
        );
    }
    let note = fs::read_to_string(odd.dir.path("agent.imx.part.json")).unwrap();
    assert!(note.contains(ID), "{note}");
    assert!(
        !note.contains("signature") && !note.contains(SECRET),
        "{note}"
    );
}

/// What an error says of a URL that no file is fetched from.
const NO_URL: &str = "the URL of the file is not a valid https URL, or has a user in it; report it";

#[test]
fn redirects_are_followed_five_times_and_each_is_checked() {
    let odd = Odd::new();
    let to = |location: &str| -> Does { Reply::new(307, "").header("location", location).into() };
    let host = odd.storage.server.address;
    let elsewhere = Server::new([act(move |c| {
        let request = c.request().unwrap();
        assert_eq!(request.header("api-secret"), None);
        c.send(Vec::from(rest(10)));
    })]);
    let run = odd.get([
        broken(whole(), 10),
        to("/file?2"),
        to("/file?3"),
        to(&format!("http://{host}/file?4")),
        to("/file?5"),
        to(&format!("{}/moved", elsewhere.url)),
    ]);
    assert_eq!(run.result.unwrap().fetched, 36);
    assert_eq!(ranges(&run.requests)[1..], ["bytes=10-"; 5]);
    let moved = &elsewhere.requests()[0];
    assert_eq!(moved.header("range"), Some("bytes=10-"));
    assert_eq!(moved.header("if-range"), Some(ETAG));
    let run = odd.get([to("/file?again")]);
    assert_says(&run.result.unwrap_err(), "redirects more than 5 times");
    assert_eq!(run.requests.len(), 1 + 6);
    for location in [
        "http://storage.test/file",
        "https://user@storage.test/file",
        "//user@127.0.0.1/file",
        "file:///etc/passwd",
        "ftp://127.0.0.1/file",
        "/a file",
        "/f\u{e9}",
    ] {
        let run = odd.get([to(location)]);
        let error = run.result.unwrap_err();
        assert_says(&error, "redirects to what is not a valid https URL");
        assert_eq!(
            (run.requests.len(), error.is_retryable()),
            (2, false),
            "{location}"
        );
    }
    // Relative ones, too.
    let url = format!("//{host}/next?x=3");
    let turns = [
        to("?x=1"),
        to("sub/file?x=2"),
        to(&url),
        to("./last"),
        whole().into(),
    ];
    let run = odd.get(turns);
    run.result.unwrap();
    let targets: Vec<_> = fetches(&run.requests).map(|it| &*it.target).collect();
    let expected = [
        "/file?signature=s0",
        "/file?x=1",
        "/sub/file?x=2",
        "/next?x=3",
        "/last",
    ];
    assert_eq!(targets, expected);
}

#[test]
fn a_url_that_cannot_be_meant_is_refused_before_anything_is_sent_there() {
    let odd = Odd::new();
    for url in [
        "http://storage.test/file?signature=1",
        "http://127.0.0.1.test/file",
        "https://user:password@storage.test/file",
        "https://user@127.0.0.1/file",
        "https://storage.test\\@127.0.0.1/file",
        "https://storage.test?@127.0.0.1/file",
        "ftp://storage.test/file",
        "models/A91/file.imx",
        "https://",
        "https://stor age.test/file",
        "https:///file",
        "file:///etc/passwd",
        "https://storage.test:x/file",
        "https://storage.test/a file",
        " https://storage.test/file",
        "https://storage.test/file?a=\n",
        "https://storage.test/f\u{e9}",
        &format!("https://storage.test/file?{}", "x".repeat(70_000)),
    ] {
        let run = odd.run([offer(url).into()]);
        let error = run.result.unwrap_err();
        assert_says(&error, NO_URL);
        assert_eq!(error.kind(), ErrorKind::UnexpectedResponse, "{url}");
        assert_eq!(run.requests.len(), 1, "{url}");
        assert!(odd.dir.names().is_empty(), "{url}");
    }
    // A localhost that the base URL is not on is somebody else's.
    let proxy = Server::new([act(|c| {
        c.head();
        c.send("HTTP/1.1 200 Connected\r\n\r\n");
        c.reply_to_all(offer("http://127.0.0.1:1/file"));
    })]);
    let builder = api("http://service.test").allow_plain_http(true);
    let api = builder.proxy(&*proxy.url).build().unwrap();
    let error = api.download(ID, odd.path(), &Download::new()).unwrap_err();
    assert_says(&error, NO_URL);
}

#[test]
fn a_storage_that_speaks_no_tls_says_nothing_of_the_base_url() {
    let odd = Odd::new();
    let plain = Server::new([act(|c| c.send("HTTP/1.1 400 Bad Request\r\n\r\n"))]);
    let url = plain.url.replace("http://", "https://");
    let run = odd.run([offer(&url).into()]);
    let error = run.result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert!(
        error.to_string().ends_with(": it does not speak TLS"),
        "{error}"
    );
}

#[test]
fn the_proxy_is_decided_for_each_host() {
    let child = || {
        let proxy = std::env::var("https_proxy").unwrap();
        let odd = Odd::new();
        let api = odd.script.builder(false).build().unwrap();
        for (host, through) in [("storage.test", true), ("exempt.test", false)] {
            let url = format!("https://{host}:1/file?signature=1");
            let turns = [Does::from(offer(&url))];
            let call = || api.download(ID, odd.path(), &Download::new());
            let error = odd.script.run(turns, call).result.unwrap_err();
            let line = error.to_string();
            assert_eq!(line.contains(&proxy[7..]), through, "{line}");
        }
    };
    let proxy = Server::new([reply(Reply::new(403, ""))]);
    let variables = [("https_proxy", &*proxy.url), ("NO_PROXY", "exempt.test")];
    alone(
        "downloads_asked::the_proxy_is_decided_for_each_host",
        &variables,
        child,
    );
    for request in proxy.requests() {
        assert_eq!(request.target, "storage.test:1");
        assert_eq!(request.header("api-secret"), None);
    }
    assert!(!proxy.requests().is_empty());
}

#[test]
fn each_try_has_a_url_that_was_just_asked_for() {
    let odd = Odd::new();
    for status in [400, 401, 403, 404, 410] {
        let refused = Reply::new(status, "<Error/>").into();
        let run = odd.get([broken(whole(), 10), refused, rest(10).into()]);
        assert_eq!(run.result.as_ref().unwrap().fetched, 36);
        assert_eq!(ranges(&run.requests), ["all", "bytes=10-", "bytes=10-"]);
        // After a pause.
        assert_eq!((run.requests.len(), run.sleeps.len()), (6, 2), "{status}");
    }
    // Not for ever.
    let desk = Desk::new(MB);
    desk.storage().change(|settings| settings.uses = Some(0));
    let error = desk.download().unwrap_err();
    assert_says(&error, "refuses the signed URL (403); call download again");
    assert_eq!(desk.fetched().len(), 10);
    assert!(desk.dir.names().is_empty());
}

#[test]
fn the_url_must_be_for_the_same_agent_and_model() {
    let odd = Odd::new();
    let named = |code: &str, model: &str| -> Does {
        offer_of(json!({"code": code, "model": model, "url": odd.url()})).into()
    };
    let download = Download::new().model("essence-2");
    let redirect = || Does::from(Reply::new(302, "").header("location", odd.url()));
    for (other, says) in [
        (
            named("A2", "essence-2"),
            format!("named the file of A2 instead of {ID}; check"),
        ),
        (
            named(ID, "expression-2"),
            "named the file of expression-2 instead of essence-2; check the id and the model"
                .into(),
        ),
        (redirect(), "has no URL of the file (302)".into()),
    ] {
        let run = odd.play([other], [whole().into()], &download);
        let error = run.result.unwrap_err();
        assert_says(&error, &says);
        assert_eq!((run.requests.len(), error.is_retryable()), (1, false));
    }
    // Half a response may lack what would say so.
    let half: Vec<u8> = offer(&odd.url()).into();
    let run = odd.run([raw(&half[..half.len() - 3]), odd.offer()]);
    run.result.unwrap();
    assert_eq!(run.requests.len(), 3);
    // The default changed between two URLs: what is there is of the other one.
    let service = [odd.offer(), named(ID, "expression-2")];
    let storage = [broken(whole(), 10), whole().into()];
    let run = odd.play(service, storage, &Download::new());
    assert_eq!(run.result.unwrap().model.as_deref(), Some("expression-2"));
    assert_eq!(ranges(&run.requests), ["all", "all"]);
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    let desk = Desk::with(
        MB,
        Settings {
            file_delay: 300,
            ..ApiVersion::Current.into()
        },
    );
    let slept = desk.clock.sleeps().len();
    desk.download().unwrap();
    assert_eq!(desk.clock.sleeps()[slept..], [secs(5); 300]);
    let odd = Odd::new();
    let pending = |code: &str, reason: &str| -> Does {
        Reply::json(409, json!({"error": {"code": code, "reason": reason}})).into()
    };
    let slow = service_error(404, "MODEL_ARTIFACT_NOT_READY").header("retry-after", "60");
    let reason = json!({"error": "X", "code": "X", "reason": "DEVICE_BUILD_PENDING"});
    let turns = [
        pending("CONFLICT", "DEVICE_BUILD_PENDING"),
        Reply::json(409, reason).into(),
        slow.into(),
        odd.offer(),
    ];
    let run = odd.run(turns);
    run.result.unwrap();
    assert_eq!(run.sleeps, [secs(5), secs(5), secs(60)]);
    // Asking for it is no failed try.
    let mut turns = vec![pending("X", "DEVICE_BUILD_PENDING"); 20];
    turns.extend([gateway(502).into(), odd.offer()]);
    odd.run(turns).result.unwrap();
    // Its time runs out, and no wait starts that would pass it.
    let api = odd.script.builder(false).build().unwrap();
    let download = Download::new().timeout(secs(3600)).interval(secs(1000));
    let run = odd.script.run([pending("X", "DEVICE_BUILD_PENDING")], || {
        api.download(ID, odd.path().with_file_name("other"), &download)
    });
    let error = run.result.unwrap_err();
    assert_eq!(run.sleeps, [secs(1000); 3]);
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::WaitTimedOut, true)
    );
    assert_says(
        &error,
        "; the last try failed: the file is not there yet (409); call download again in half",
    );
}

#[test]
fn a_pause_that_does_not_fit_says_who_asked_for_it() {
    let odd = Odd::new();
    let day = |reply: Reply| Does::from(reply.header("retry-after", "97200"));
    let not_ready = || service_error(404, "MODEL_ARTIFACT_NOT_READY");
    let busy = || Reply::new(503, "busy");
    let cut = || broken(whole(), 10);
    let hour = Download::new().timeout(secs(3600));
    let seldom = hour.clone().interval(secs(97_200));
    let server = "the server asks to wait 27 h, but the deadline is in ";
    let rows: [(&Download, Does, Vec<Does>, &str); 4] = [
        (&hour, day(not_ready()), vec![], server),
        (
            &seldom,
            not_ready().into(),
            vec![],
            "no other try fits into 1 h; the last",
        ),
        (&hour, odd.offer(), vec![day(busy())], server),
        (
            &hour,
            odd.offer(),
            vec![cut(), day(busy())],
            " s (10 bytes are there); the",
        ),
    ];
    for (download, service, storage, says) in rows {
        let error = odd.play([service], storage, download).result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WaitTimedOut, "{error}");
        assert_says(&error, says);
        assert_says(&error, "; the last try failed: the ");
    }
    // A pause may rarely end right at the deadline.
    let short = Download::new().timeout(ms(400));
    let fails = |_| {
        odd.play([busy().into()], [], &short)
            .result
            .unwrap_err()
            .to_string()
    };
    let says = "no other try fits into 0.4 s";
    assert!((0..5).map(fails).any(|line| line.contains(says)));
}

#[test]
fn the_2025_api_has_the_link_in_the_status() {
    let desk = Desk::with(MB, ApiVersion::V2025.into());
    let events = Events::default();
    let api = events.record(desk.builder());
    let downloaded = api
        .download(&desk.id, desk.path(), &Download::new())
        .unwrap();
    desk.assert_whole();
    assert_eq!(downloaded.model, None);
    assert!(!format!("{:?}", events.all()).contains("/models/"));
    let odd = Odd::new();
    let none = || Does::from(Reply::json(404, json!({"error": "Not Found"})));
    let status = |fields: Value| Does::from(agent(fields));
    for (fields, kind, says) in [
        (
            json!({"status": "failed"}),
            ErrorKind::GenerationFailed,
            "the generation failed",
        ),
        (
            json!({"status": "deleted", "model_url": odd.url()}),
            ErrorKind::NotFound,
            "was deleted",
        ),
        (
            json!({"status": "ready", "model_url": "http://storage.test/file"}),
            ErrorKind::UnexpectedResponse,
            NO_URL,
        ),
    ] {
        let run = odd.run([none(), status(fields)]);
        let error = run.result.unwrap_err();
        assert_eq!((error.kind(), error.billing()), (kind, Billing::Billed));
        assert_says(&error, says);
    }
    // It is asked for again until it is there.
    let waiting = [none(), status(json!({"status": "ready"})), none()];
    let there = json!({"status": "ready", "model_url": odd.url()});
    let run = odd.run(waiting.into_iter().chain([status(there)]));
    assert_eq!(run.result.unwrap().length, 36);
    assert_eq!(run.sleeps, [secs(5)]);
}

/// A gateway's page may be what stands there for the endpoint: then the status is of no use.
#[test]
fn what_does_not_fit_in_the_status_may_fit_the_next_time() {
    let odd = Odd::new();
    let page = || Does::from(Reply::new(404, "<html>Not Found</html>"));
    let status = |fields: Value| Does::from(agent(fields));
    let link = |model: &str| json!({"status": "ready", "model": model, "model_url": odd.url()});
    let reference = json!({"status": "ready", "model_url": "agents/A91/model"});
    let download = Download::new().model("essence-2");
    for (first, says) in [
        (reference, "the model_url is no URL; call download again"),
        (
            link("expression-1"),
            "named the file of expression-1 instead of essence-2",
        ),
    ] {
        let turns = [page(), status(first.clone()), odd.offer()];
        let run = odd.play(turns, [whole().into()], &download);
        assert_eq!(run.result.unwrap().model.as_deref(), Some("essence-2"));
        let mut turns = Vec::new();
        for _ in 0..10 {
            turns.extend([page(), status(first.clone())]);
        }
        let run = odd.play(turns, [whole().into()], &download);
        assert_says(&run.result.unwrap_err(), says);
        assert_eq!(run.requests.len(), 20);
    }
    let turns = [page(), status(link("essence-2"))];
    let run = odd.play(turns, [whole().into()], &download);
    assert_eq!(run.result.unwrap().model.as_deref(), Some("essence-2"));
    // Nor is it asked for where the endpoint is known to be.
    let turns = [odd.offer(), page(), odd.offer()];
    let run = odd.play(turns, [broken(whole(), 10), rest(10).into()], &download);
    assert_eq!(run.result.unwrap().fetched, 36);
    assert_eq!(ranges(&run.requests), ["all", "bytes=10-"]);
    assert!(
        run.requests
            .iter()
            .all(|request| !request.target.contains("/status/"))
    );
}

/// The line of each error of the service, and whether asking again may help.
#[test]
fn what_the_service_refuses_ends_the_call_and_leaves_what_is_there() {
    use ErrorKind::{NotFound, PlanLimit, Rejected, Service, Unauthorized};
    for (status, code, kind, says) in [
        (
            400,
            "MODEL_NOT_DOWNLOADABLE",
            Rejected,
            "the model has no file (400 MODEL_NOT",
        ),
        (
            409,
            "MODEL_NOT_GENERATED",
            Rejected,
            "the agent does not have the model (409",
        ),
        (410, "AGENT_DELETED", NotFound, "the agent was deleted"),
        (410, "AGENT_PURGED", NotFound, "the agent was deleted"),
        (
            403,
            "PLAN_REQUIRED",
            PlanLimit,
            "the plan does not allow this",
        ),
        (401, "UNAUTHORIZED", Unauthorized, "rejected the API secret"),
        (404, "AGENT_NOT_FOUND", NotFound, "knows no such agent"),
        (
            500,
            "DEVICE_BUILD_FAILED",
            Service,
            "could not build the file",
        ),
    ] {
        let odd = Odd::new();
        fs::write(odd.path(), "before").unwrap();
        let run = odd.run([service_error(status, code).into()]);
        let error = run.result.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_says(&error, says);
        assert_eq!((run.requests.len(), run.sleeps.len()), (1, 0), "{code}");
        let billing = if code == "AGENT_NOT_FOUND" {
            Billing::Unknown
        } else {
            Billing::Billed
        };
        assert_eq!(
            (error.billing(), error.agent_id()),
            (billing, Some(ID)),
            "{code}"
        );
        assert_eq!(fs::read(odd.path()).unwrap(), b"before");
        assert_eq!(odd.dir.names(), ["agent.imx"], "{code}");
    }
    for turn in [
        gateway(502),
        service_error(429, "RATE_LIMITED"),
        service_error(500, "X"),
    ] {
        let odd = Odd::new();
        let turns = [turn.into(), Does::Reset, odd.offer()];
        odd.run(turns).result.unwrap();
    }
}

#[test]
fn a_path_that_is_no_place_for_a_file_is_refused_before_anything_is_asked() {
    let odd = Odd::new();
    let api = odd.script.builder(false).build().unwrap();
    let download = |path: &Path| {
        let run = odd
            .script
            .run([odd.offer()], || api.download(ID, path, &Download::new()));
        assert_eq!(run.requests.len(), 0, "{path:?}");
        run.result.unwrap_err()
    };
    let dir = odd.dir.path("dir");
    fs::create_dir(&dir).unwrap();
    let missing = odd.dir.path("missing/agent.imx");
    let ends = format!("{}/", odd.dir.path("x").display());
    for (path, says) in [
        (&*dir, "is a folder"),
        (&*missing, "does not exist; create the folder"),
        (Path::new(&ends), "ends in a separator"),
        (Path::new(""), "has an empty path"),
    ] {
        let error = download(path);
        assert_eq!(
            (error.kind(), error.is_retryable()),
            (ErrorKind::File, false)
        );
        assert_says(&error, says);
    }
    for name in ["agent.imx.part", "agent.imx.part.json"] {
        fs::create_dir(odd.dir.path(name)).unwrap();
        assert_says(
            &download(&odd.path()),
            &format!("{name}: is not a regular file"),
        );
        fs::remove_dir(odd.dir.path(name)).unwrap();
    }
    #[cfg(unix)]
    {
        let fifo = odd.dir.path("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        assert_says(&download(&fifo), "is not a regular file");
        assert_says(&download(Path::new("/dev/null")), "is not a regular file");
        // Whoever planted it would choose where the file goes.
        std::os::unix::fs::symlink("elsewhere", odd.dir.path("agent.imx.part")).unwrap();
        assert_says(
            &download(&odd.path()),
            "agent.imx.part: is not a regular file",
        );
        fs::remove_file(odd.dir.path("agent.imx.part")).unwrap();
        fs::remove_file(fifo).unwrap();
        for (link, to) in [("a", "b"), ("b", "a")] {
            std::os::unix::fs::symlink(to, odd.dir.path(link)).unwrap();
        }
        assert_says(
            &download(&odd.dir.path("a")),
            "a: is a loop of symbolic links; choose",
        );
        assert!(odd.dir.path("a").is_symlink());
        fs::remove_file(odd.dir.path("a")).unwrap();
        fs::remove_file(odd.dir.path("b")).unwrap();
    }
    assert_eq!(odd.dir.names(), ["dir"]);
}

#[test]
fn an_argument_that_cannot_be_meant_is_refused() {
    let odd = Odd::new();
    let api = odd.script.builder(false).build().unwrap();
    let new = Download::new;
    for (id, download, says) in [
        ("", new(), "the agent id is empty"),
        ("..", new(), "is . or .."),
        (ID, new().model(""), "the model is empty"),
        (ID, new().model(" "), "the model has a blank"),
        (
            ID,
            new().model("a\u{200b}"),
            "the model contains an invisible character",
        ),
        (
            ID,
            new().interval(secs(0)),
            "the interval must be more than zero",
        ),
        (ID, new().stall(secs(0)), "the stall must be more than zero"),
    ] {
        let error = api.download(id, odd.path(), &download).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_says(&error, says);
    }
    assert!(odd.script.server.requests().is_empty() && odd.dir.names().is_empty());
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_followed() {
    let odd = Odd::new();
    fs::create_dir(odd.dir.path("files")).unwrap();
    for existing in [false, true] {
        let target = odd.dir.path("files/real.imx");
        if existing {
            fs::write(&target, "old").unwrap();
        }
        let _ = fs::remove_file(odd.path());
        std::os::unix::fs::symlink("files/real.imx", odd.path()).unwrap();
        let run = odd.get([whole().into()]);
        assert_eq!(run.result.unwrap().path, target);
        assert!(odd.path().is_symlink());
        assert_eq!(fs::read(odd.path()).unwrap(), FILE);
        fs::remove_file(target).unwrap();
    }
    assert_eq!(odd.dir.names(), ["agent.imx", "files"]);
}

#[test]
fn two_calls_for_one_path_take_turns() {
    for (if_missing, fetches) in [(true, 1), (false, 2)] {
        let desk = Desk::new(2 * MB);
        desk.storage().change(|settings| settings.pause = ms(2));
        let download = Download::new().if_missing(if_missing);
        std::thread::scope(|scope| {
            let both = [0, 1].map(|_| {
                let api = Api::builder()
                    .secret(mock_server::SECRET)
                    .base_url(desk.server.base_url());
                let (api, download, desk) = (api.build().unwrap(), &download, &desk);
                scope.spawn(move || api.download(&desk.id, desk.path(), download))
            });
            for thread in both {
                assert_eq!(thread.join().unwrap().unwrap().length, 2 * MB as u64);
            }
        });
        desk.assert_whole();
        assert_eq!(desk.pieces(), vec![(0, 2 * MB); fetches]);
    }
}

#[test]
fn files_that_differ_in_their_extension_have_parts_of_their_own() {
    let odd = Odd::new();
    let api = odd.script.builder(false).build().unwrap();
    for name in ["agent.imx", "agent.bin", "agent"] {
        let turns = [broken(whole(), 10), Reply::new(451, "").into()];
        let path = odd.dir.path(name);
        let run = odd.watch([odd.offer()], turns, || {
            api.download(ID, path, &Download::new())
        });
        run.result.unwrap_err();
    }
    let parts = "agent.bin.part agent.bin.part.json agent.imx.part agent.imx.part.json \
        agent.part agent.part.json";
    assert_eq!(odd.dir.names().join(" "), parts);
}

#[test]
fn progress_never_goes_backwards_and_comes_at_most_ten_times_a_second() {
    let desk = Desk::new(3 * MB);
    let (clock, times) = (FakeClock::real(), Arc::new(Mutex::new(Vec::new())));
    let api = desk.builder().clock(clock.clone()).build().unwrap();
    let seen = times.clone();
    let api = api.on_event(move |event| {
        use bithuman::Clock;
        if let Event::Downloading { received, total } = event {
            assert_eq!(*total, Some(3 * MB as u64));
            seen.lock().unwrap().push((clock.now(), *received));
        }
    });
    desk.storage().change(|settings| {
        settings.ignores_range = true;
        settings.breaks_after = Some(2 * MB);
        settings.pause = ms(5);
    });
    api.download(&desk.id, desk.path(), &Download::new())
        .unwrap_err();
    desk.storage()
        .change(|settings| settings.breaks_after = None);
    api.download(&desk.id, desk.path(), &Download::new())
        .unwrap();
    let times = times.lock().unwrap();
    let calls: Vec<_> = times.chunk_by(|one, next| one.1 < next.1).collect();
    assert_eq!(calls.len(), 2, "{times:?}");
    assert_eq!(calls[1].last().unwrap().1, 3 * MB as u64);
    for call in calls {
        let (_, not_last) = call.split_last().unwrap();
        assert!(
            not_last.is_sorted_by(|one, next| next.0 - one.0 >= ms(100)),
            "{call:?}"
        );
    }
}

#[test]
fn a_storage_that_stalls_or_begins_late_is_left_for_another_connection() {
    let odd = Odd::new();
    let head: Vec<u8> = whole().into();
    let cut = head.len() - FILE.len() + 10;
    let download = Download::new().stall(ms(150));
    for (stalled, next) in [(&head[..cut], rest(10)), (&[], whole())] {
        let events = Events::default();
        let api = events.record(odd.script.builder(false));
        let turns = [Does::Stall(stalled.into()), next.into()];
        let run = odd.watch([odd.offer()], turns, || {
            api.download(ID, odd.path(), &download)
        });
        run.result.unwrap();
        let events = format!("{:?}", events.all());
        assert!(events.contains("nothing came from "), "{events}");
        assert!(events.contains(" within 0.1 s"), "{events}");
    }
    // A head that takes longer than a stall is waited for the second time.
    let late = Server::new([act(|c| {
        if c.request().is_some() {
            std::thread::sleep(ms(250));
            c.send(Vec::from(whole()));
        }
    })]);
    let run = odd.play([offer(&late.url).into()], [], &download);
    assert_eq!(run.result.unwrap().length, 36);
    assert_eq!(late.requests().len(), 2);
}

#[test]
fn each_try_has_its_own_connection_after_the_pause_that_the_storage_asks_for() {
    let odd = Odd::new();
    let busy = || Vec::from(Reply::new(503, "").header("retry-after", "7"));
    // It would keep its connections.
    let both = || replies_on_one_connection([busy(), whole().into()]);
    let storage = Server::new([both(), both(), reply(whole())]);
    let run = odd.run([offer(&storage.url).into()]);
    run.result.unwrap();
    assert_eq!(run.sleeps, [secs(7); 2]);
    let requests = storage.requests();
    let connections: Vec<_> = requests.iter().map(|request| request.connection).collect();
    assert_eq!(connections, [0, 1, 2]);
}

#[test]
fn the_deadline_ends_a_download_that_drips() {
    let odd = Odd::new();
    let drips = Server::new([act(|c| {
        c.request();
        c.send("HTTP/1.1 200 OK\r\ncontent-length: 99999\r\netag: \"a\"\r\n\r\n");
        c.drip("x");
    })]);
    let api = odd.script.builder(false).build().unwrap();
    let download = Download::new().timeout(ms(200));
    let start = Instant::now();
    let run = odd.script.run([offer(&drips.url)], || {
        api.download(ID, odd.path(), &download)
    });
    let error = run.result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WaitTimedOut);
    assert_says(&error, "the file was not whole within 0.2 s (");
    assert_says(&error, " bytes are there); call download again");
    // The service that names the URL, or the status, may be silent too.
    for turns in [vec![], vec![Does::from(Reply::new(404, ""))]] {
        let turns = turns.into_iter().chain([Does::Stall(Vec::new())]);
        let path = odd.dir.path("other");
        let run = odd.script.run(turns, || api.download(ID, path, &download));
        assert_says(
            &run.result.unwrap_err(),
            "the file was not whole within 0.2 s; call",
        );
    }
    assert!(start.elapsed() < ms(600) + GRACE, "{:?}", start.elapsed());
}

#[test]
fn the_deadline_is_looked_at_while_the_file_comes() {
    let desk = Desk::new(3 * MB);
    desk.storage()
        .change(|settings| settings.breaks_after = Some(MB));
    let clock = desk.clock.clone();
    let api = desk.builder().build().unwrap().on_event(move |event| {
        if matches!(event, Event::Downloading { received, .. } if *received > MB as u64) {
            clock.pass(secs(5 * 60 * 60));
        }
    });
    let error = api
        .download(&desk.id, desk.path(), &Download::new())
        .unwrap_err();
    assert_says(&error, "the file was not whole within 4 h (");
    // An earlier try broke off, but the last one was receiving.
    assert_says(&error, " are there); call download again");
}

#[test]
fn a_shutdown_ends_a_storage_that_stalls() {
    let odd = Odd::new();
    let head: Vec<u8> = whole().into();
    for stalled in [head[..head.len() - 5].to_vec(), Vec::new()] {
        let events = Events::default();
        let api = events.record(odd.script.builder(false));
        let stopper = api.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(ms(100));
            stopper.shutdown();
            Instant::now()
        });
        let path = odd.dir.path("stalled.imx");
        let run = odd.watch([odd.offer()], [Does::Stall(stalled)], || {
            api.download(ID, &path, &Download::new())
        });
        let end = Instant::now();
        let elapsed = end.saturating_duration_since(thread.join().unwrap());
        assert!(elapsed < GRACE, "{elapsed:?}");
        let error = run.result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ShutDown, "{error}");
        // It passes for no broken connection.
        let events = format!("{:?}", events.all());
        assert!(!events.contains("Retrying"), "{events}");
    }
}

#[test]
fn a_shutdown_ends_a_download_and_the_next_one_resumes() {
    let desk = Desk::new(3 * MB);
    desk.storage().change(|settings| settings.pause = ms(10));
    let api = desk.builder().build().unwrap();
    let stopper = api.clone();
    let stopped = Arc::new(Mutex::new(None));
    let at = stopped.clone();
    let api = api.on_event(move |event| {
        assert!(!matches!(event, Event::Retrying { .. }), "{event:?}");
        let is_due = matches!(event, Event::Downloading { received, .. } if *received > MB as u64);
        if is_due && at.lock().unwrap().is_none() {
            *at.lock().unwrap() = Some(Instant::now());
            stopper.shutdown();
        }
    });
    let result = api.download(&desk.id, desk.path(), &Download::new());
    let elapsed = stopped.lock().unwrap().unwrap().elapsed();
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown, "{error}");
    assert!(elapsed < GRACE, "{elapsed:?}");
    assert_eq!(desk.dir.names(), ["agent.imx.part", "agent.imx.part.json"]);
    let downloaded = desk.download().unwrap();
    assert!(downloaded.fetched < 2 * MB as u64);
    desk.assert_whole();
    // Before and after it, nothing is sent.
    let error = api
        .download(&desk.id, desk.path(), &Download::new())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ShutDown, "{error}");
}
