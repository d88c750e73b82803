//! What a download promises: the file is whole and the right one, what is there is not fetched again,
//! and the storage learns nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bithuman::serde_json::{Value, json};
use bithuman::{Api, ApiBuilder, Download, Downloaded, Error, ErrorKind, GenerateRequest, Wait};

use crate::harness::*;
use crate::mock_server::{self, ApiVersion, Fetched, MockServer, Settings, Storage, Validator};

pub const MB: usize = 1_000_000;

/// A file of this length, no two blocks of which are alike.
pub fn content(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A mock server with a ready agent, and a folder for its file.
pub struct Desk {
    pub server: MockServer,
    pub clock: Arc<FakeClock>,
    pub dir: TempDir,
    pub id: String,
    pub file: Vec<u8>,
}

impl Desk {
    pub fn new(length: usize) -> Self {
        Desk::with(length, ApiVersion::Current.into())
    }

    pub fn with(length: usize, settings: Settings) -> Self {
        let server = MockServer::start(settings);
        let clock = FakeClock::real();
        let file = content(length);
        let shared = Arc::new(file.clone());
        server.storage().change(|settings| settings.file = shared);
        let builder = Api::builder()
            .secret(mock_server::SECRET)
            .base_url(server.base_url());
        let api = builder.clock(clock.clone()).build().unwrap();
        let request = GenerateRequest::new().prompt("p").model("essence-2");
        let agent = api.generate_and_wait(&request, &Wait::new()).unwrap();
        Desk {
            server,
            clock,
            dir: TempDir::new(),
            id: agent.agent_id,
            file,
        }
    }

    pub fn storage(&self) -> &Storage {
        self.server.storage()
    }

    pub fn builder(&self) -> ApiBuilder {
        Api::builder()
            .secret(mock_server::SECRET)
            .base_url(self.server.base_url())
            .clock(self.clock.clone())
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path("agent.imx")
    }

    pub fn download(&self) -> Result<Downloaded, Error> {
        self.download_as(&Download::new())
    }

    pub fn download_as(&self, download: &Download) -> Result<Downloaded, Error> {
        let api = self.builder().build().unwrap();
        api.download(&self.id, self.path(), download)
    }

    /// The file is there and whole, and nothing is beside it.
    #[track_caller]
    pub fn assert_whole(&self) {
        assert!(fs::read(self.path()).unwrap() == self.file, "other bytes");
        assert_eq!(self.dir.names(), ["agent.imx"]);
    }

    pub fn fetched(&self) -> Vec<Fetched> {
        self.storage().requests()
    }

    /// Where each request to the storage began, and how many bytes it brought.
    pub fn pieces(&self) -> Vec<(usize, usize)> {
        let pieces = self.fetched().into_iter();
        pieces
            .map(|fetched| (fetched.start, fetched.sent))
            .collect()
    }

    pub fn bytes_sent(&self) -> usize {
        self.fetched().iter().map(|fetched| fetched.sent).sum()
    }
}

/// How a note begins.
const NOTE: &str = "{\"request\":";

#[test]
fn a_file_is_downloaded_and_if_missing_leaves_it_alone() {
    let desk = Desk::new(3 * MB);
    let downloaded = desk.download().unwrap();
    desk.assert_whole();
    assert_eq!(downloaded.path, desk.path());
    assert_eq!(downloaded.length, 3 * MB as u64);
    assert_eq!(downloaded.fetched, 3 * MB as u64);
    assert_eq!(downloaded.model.as_deref(), Some("essence-2"));
    let there = desk.download_as(&Download::new().if_missing(true)).unwrap();
    assert_eq!((there.length, there.fetched), (3 * MB as u64, 0));
    // A crash may have left the note, but with a part beside it, it is somebody's.
    for (name, left) in [("agent.imx.part.json", 1), ("agent.imx.part", 3)] {
        fs::write(desk.dir.path("agent.imx.part.json"), NOTE).unwrap();
        fs::write(desk.dir.path(name), NOTE).unwrap();
        desk.download_as(&Download::new().if_missing(true)).unwrap();
        assert_eq!(desk.dir.names().len(), left);
    }
    assert_eq!(desk.fetched().len(), 1);
    // Its lock is not waited for: whoever has it downloads the same file.
    let note = fs::File::create(desk.dir.path("agent.imx.part.json")).unwrap();
    note.lock().unwrap();
    let slept = desk.clock.sleeps().len();
    desk.download_as(&Download::new().if_missing(true)).unwrap();
    assert_eq!(desk.clock.sleeps().len(), slept);
    drop(note);
    for name in ["agent.imx.part", "agent.imx.part.json"] {
        fs::remove_file(desk.dir.path(name)).unwrap();
    }
    // Without it, the file is replaced.
    fs::write(desk.path(), "old").unwrap();
    desk.download().unwrap();
    desk.assert_whole();
}

#[test]
fn a_link_that_breaks_at_every_9_mb_with_expired_urls_comes_through() {
    let desk = Desk::new(64 * MB);
    desk.storage().change(|settings| {
        settings.breaks_after = Some(9 * MB);
        settings.uses = Some(1);
    });
    let downloaded = desk.download().unwrap();
    desk.assert_whole();
    assert!(downloaded.fetched as usize <= 64 * MB * 105 / 100);
    assert!(
        desk.bytes_sent() <= 64 * MB * 105 / 100,
        "{:?}",
        desk.pieces()
    );
    let statuses: Vec<_> = desk.fetched().iter().map(|it| it.status).collect();
    assert_eq!(statuses, [200, 206, 206, 206, 206, 206, 206, 206]);
}

#[test]
fn tries_are_counted_since_the_file_grew() {
    let desk = Desk::new(3 * MB);
    desk.storage()
        .change(|settings| settings.breaks_after = Some(MB / 5));
    desk.download().unwrap();
    assert_eq!(desk.fetched().len(), 15);
    desk.assert_whole();
}

/// The service and the storage, both scripted, and a folder for the file.
pub struct Odd {
    pub script: Script,
    pub storage: Script,
    pub dir: TempDir,
}

impl Odd {
    pub fn new() -> Self {
        Odd {
            script: Script::new(),
            storage: Script::new(),
            dir: TempDir::new(),
        }
    }

    pub fn url(&self) -> String {
        format!("{}/file?signature=s0", self.storage.server.url)
    }

    /// The service names the URL of the file.
    pub fn offer(&self) -> Does {
        offer(&self.url()).into()
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path("agent.imx")
    }

    /// Downloads while the service does these, and the storage sends the file.
    pub fn run(&self, turns: impl IntoIterator<Item = Does>) -> Run<Result<Downloaded, Error>> {
        self.play(turns, [whole().into()], &Download::new())
    }

    /// Downloads while the service names the URL, and the storage does these.
    pub fn get(&self, turns: impl IntoIterator<Item = Does>) -> Run<Result<Downloaded, Error>> {
        self.play([self.offer()], turns, &Download::new())
    }

    /// Downloads while the service and the storage do these.
    pub fn play(
        &self,
        service: impl IntoIterator<Item = Does>,
        storage: impl IntoIterator<Item = Does>,
        download: &Download,
    ) -> Run<Result<Downloaded, Error>> {
        let api = self.script.builder(false).build().unwrap();
        self.watch(service, storage, || api.download(ID, self.path(), download))
    }

    /// Makes a call while the service and the storage do these. The requests to the storage come last.
    pub fn watch<T>(
        &self,
        service: impl IntoIterator<Item = Does>,
        storage: impl IntoIterator<Item = Does>,
        call: impl FnOnce() -> T,
    ) -> Run<T> {
        let run = self.storage.run(storage, || self.script.run(service, call));
        let mut requests = run.result.requests;
        requests.extend(run.requests);
        Run {
            requests,
            ..run.result
        }
    }
}

pub fn offer_of(data: Value) -> Reply {
    Reply::json(200, json!({"success": true, "data": data}))
}

pub fn offer(url: &str) -> Reply {
    offer_of(json!({"code": ID, "model": "essence-2", "url": url, "expires_in": 3600}))
}

pub const FILE: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyz";
pub const ETAG: &str = "\"v1\"";

/// The whole file.
pub fn whole() -> Reply {
    Reply::new(200, FILE).header("etag", ETAG)
}

/// The file from an offset on.
pub fn rest(start: usize) -> Reply {
    let range = format!("bytes {start}-{}/{}", FILE.len() - 1, FILE.len());
    let reply = Reply::new(206, &FILE[start..]).header("etag", ETAG);
    reply.header("content-range", range)
}

/// A response that breaks off after this many bytes of its body.
pub fn broken(reply: Reply, after: usize) -> Does {
    let cut = reply.body.len() - after;
    let mut bytes: Vec<u8> = reply.into();
    bytes.truncate(bytes.len() - cut);
    Does::Reply(bytes)
}

pub fn raw(text: impl Into<Vec<u8>>) -> Does {
    Does::Reply(text.into())
}

/// Those of the requests that the storage got.
pub fn fetches(requests: &[Request]) -> impl Iterator<Item = &Request> {
    let is_fetch = |request: &&Request| !request.target.starts_with("/v1/");
    requests.iter().filter(is_fetch)
}

/// The `Range` of each request to the storage.
pub fn ranges(requests: &[Request]) -> Vec<&str> {
    let range = |request| Request::header(request, "range").unwrap_or("all");
    fetches(requests).map(range).collect()
}

#[test]
fn the_end_of_a_file_is_checked() {
    let text = String::from_utf8(FILE.to_vec()).unwrap();
    let (length, ok) = (FILE.len(), "HTTP/1.1 200 OK\r\n");
    let chunks = format!("{ok}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{text}\r\n");
    for (response, requests) in [
        (format!("{ok}content-length: {length}\r\n\r\n{text}"), 1),
        (format!("{chunks}0\r\n\r\n"), 1),
        (
            format!("{chunks}0\r\n\r\n").replace("HTTP/1.1", "HTTP/1.0"),
            2,
        ),
        (
            format!("{ok}transfer-encoding: gzip\r\n\r\n{}", &text[1..]),
            2,
        ),
        // Whole but for its end: another try gets all of it.
        (chunks, 2),
        (format!("{ok}\r\n{text}"), 2),
        (format!("{ok}connection: close\r\n\r\n{text}"), 2),
        (
            format!("{ok}content-length: {}\r\n\r\n{text}", length + 1),
            2,
        ),
        (
            format!("{ok}content-length: {length}\r\n\r\n{}", &text[1..]),
            2,
        ),
        (format!("{ok}content-length: 0\r\n\r\n"), 2),
        (
            format!("{ok}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            2,
        ),
        (
            format!("{ok}content-length: {length}\r\ncontent-encoding: gzip\r\n\r\n{text}"),
            2,
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n".into(), 2),
        (String::new(), 2),
    ] {
        let odd = Odd::new();
        let run = odd.get([raw(&*response), whole().into()]);
        assert_eq!(run.result.unwrap().length, length as u64, "{response}");
        assert_eq!(ranges(&run.requests).len(), requests, "{response}");
        assert_eq!(fs::read(odd.path()).unwrap(), FILE, "{response}");
        assert_eq!(odd.dir.names(), ["agent.imx"], "{response}");
    }
}

#[test]
fn a_part_is_resumed_whatever_the_storage_says_in_between() {
    let page = Reply::new(200, "<html>Log in</html>").header("content-type", "text/html; x");
    let rows: [(Does, &[&str]); 8] = [
        (Does::Reset, &["bytes=10-", "bytes=10-"]),
        (page.into(), &["bytes=10-", "bytes=10-"]),
        (
            whole().header("content-range", "bytes 0-35/36").into(),
            &["bytes=10-", "bytes=10-"],
        ),
        (
            Reply::new(200, "").header("etag", ETAG).into(),
            &["bytes=10-", "bytes=10-"],
        ),
        (Reply::new(503, "busy").into(), &["bytes=10-", "bytes=10-"]),
        (
            raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            &["bytes=10-", "bytes=10-"],
        ),
        // A good part of what is missing.
        (broken(rest(10), 5), &["bytes=10-", "bytes=15-"]),
        (
            Reply::new(206, &FILE[10..20])
                .header("etag", ETAG)
                .header("content-range", "bytes 10-19/36")
                .into(),
            &["bytes=10-", "bytes=20-"],
        ),
    ];
    for (second, expected) in rows {
        let odd = Odd::new();
        let case = format!("{second:?}");
        let start: usize = expected[1][6..8].parse().unwrap();
        let turns = [broken(whole(), 10), second, rest(start).into()];
        let run = odd.get(turns);
        let downloaded = run.result.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(ranges(&run.requests)[1..], *expected, "{case}");
        assert_eq!(fs::read(odd.path()).unwrap(), FILE, "{case}");
        assert_eq!(downloaded.fetched, FILE.len() as u64, "{case}");
        assert_eq!(run.sleeps.len(), 2, "{case}");
        for request in fetches(&run.requests).skip(1) {
            assert_eq!(request.header("if-range"), Some(ETAG), "{case}");
        }
    }
}

#[test]
fn what_is_not_about_the_part_is_asked_for_without_a_range() {
    let changed = Reply::new(206, &FILE[10..]).header("etag", "\"v2\"");
    let long = Reply::new(206, [FILE, FILE].concat()).header("etag", ETAG);
    let rows: [Reply; 6] = [
        Reply::new(416, "").header("content-range", "bytes */36"),
        long.header("content-range", "bytes 10-35/36"),
        changed.header("content-range", "bytes 10-35/36"),
        Reply::new(206, &FILE[10..]).header("content-range", "bytes 10-35/36"),
        Reply::new(206, &FILE[9..])
            .header("etag", ETAG)
            .header("content-range", "bytes 9-35/36"),
        Reply::new(206, &FILE[10..])
            .header("etag", ETAG)
            .header("content-range", "bytes 10-35/99"),
    ];
    for second in rows {
        let odd = Odd::new();
        let case = format!("{second:?}");
        let run = odd.get([broken(whole(), 10), second.into(), whole().into()]);
        run.result.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(ranges(&run.requests), ["all", "bytes=10-", "all"], "{case}");
        assert_eq!(fs::read(odd.path()).unwrap(), FILE, "{case}");
        // Only the break was paused for.
        assert_eq!(run.sleeps.len(), 1, "{case}");
    }
    // A 416 for ever ends.
    let odd = Odd::new();
    let run = odd.get([broken(whole(), 10), Reply::new(416, "").into()]);
    let error = run.result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedResponse, "{error}");
    assert!(run.requests.len() < 30, "{}", run.requests.len());
}

#[test]
fn a_range_that_is_refused_is_asked_for_without_it_before_the_call_gives_up() {
    let page = || Reply::new(200, "<html>Log in</html>").header("content-type", "text/html");
    let refused = |status| Reply::new(status, "");
    let at_once = [304, 405, 409, 411, 412].map(|status| (refused(status), 1));
    let at_last = [400, 403, 404, 500, 501, 503, 505].map(|status| (refused(status), 9));
    for (no, tries) in at_once.into_iter().chain(at_last).chain([(page(), 9)]) {
        let odd = Odd::new();
        let case = format!("{no:?}");
        let refusals = || vec![Does::from(no.clone()); tries];
        let turns = || [vec![broken(whole(), 10)], refusals()].concat();
        // Until the file comes, what is there stays.
        let run = odd.get([turns(), vec![Reply::new(451, "").into()]].concat());
        assert_eq!(run.result.unwrap_err().kind(), ErrorKind::Rejected);
        assert_eq!(ranges(&run.requests).len(), 1 + tries + 1, "{case}");
        assert_eq!(ranges(&run.requests).last(), Some(&"all"), "{case}");
        assert_eq!(
            fs::read(odd.dir.path("agent.imx.part")).unwrap(),
            FILE[..10]
        );
        // Another call has as many tries.
        let tries = if tries == 1 { 1 } else { 10 };
        let run = odd.get([vec![no.into(); tries], vec![whole().into()]].concat());
        run.result.unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(ranges(&run.requests).len(), tries + 1, "{case}");
        assert_eq!(fs::read(odd.path()).unwrap(), FILE, "{case}");
    }
}

#[test]
fn a_body_that_goes_on_behind_the_end_of_the_file_is_thrown_away() {
    // More than is read at once.
    let (length, x) = (100_010, "x".repeat(100_000));
    let first =
        format!("HTTP/1.1 200 OK\r\netag: {ETAG}\r\ncontent-length: {length}\r\n\r\n0123456789");
    let head = format!(
        "HTTP/1.1 206 OK\r\netag: {ETAG}\r\ncontent-range: bytes 10-{}/{length}\r\n",
        length - 1
    );
    let chunk = format!("{:x}\r\n{x}\r\n", x.len());
    for long in [
        format!("{head}transfer-encoding: chunked\r\n\r\n{chunk}1\r\nx\r\n0\r\n\r\n"),
        format!("{head}\r\n{x}x"),
    ] {
        let odd = Odd::new();
        let turns = || [raw(&*first), raw(&*long)];
        // Another try asks for the whole file. Until it comes, what was there before stays.
        let no = Does::from(Reply::new(451, ""));
        let run = odd.get(turns().into_iter().chain([no]));
        assert_eq!(run.result.unwrap_err().kind(), ErrorKind::Rejected);
        assert_eq!(ranges(&run.requests), ["all", "bytes=10-", "all"]);
        let part = fs::read(odd.dir.path("agent.imx.part")).unwrap();
        assert_eq!(part, FILE[..10]);
        let run = odd.get([raw(&*long), whole().into()]);
        assert_eq!(run.result.unwrap().length, 36);
        assert_eq!(fs::read(odd.path()).unwrap(), FILE);
        // It brings the file no further.
        fs::remove_file(odd.path()).unwrap();
        let run = odd.get((0..20).flat_map(|_| turns()));
        run.result.unwrap_err();
        assert!(
            ranges(&run.requests).len() <= 12,
            "{:?}",
            ranges(&run.requests)
        );
    }
}

#[test]
fn without_a_strong_validator_nothing_is_resumed() {
    for validator in [Validator::Weak, Validator::Missing] {
        let desk = Desk::new(3 * MB);
        desk.storage().change(|settings| {
            settings.validator = validator;
            settings.breaks_after = Some(2 * MB);
        });
        let error = desk.download().unwrap_err();
        // Each try begins at the start, and brings the file no further than the first.
        assert_eq!(error.kind(), ErrorKind::Network, "{error}");
        assert_eq!(desk.pieces(), [(0, 2 * MB); 10 + 1][..desk.pieces().len()]);
        assert!((10..=11).contains(&desk.fetched().len()));
        desk.storage()
            .change(|settings| settings.breaks_after = None);
        desk.download().unwrap();
        assert_eq!(desk.fetched().last().unwrap().start, 0);
        desk.assert_whole();
    }
}

#[test]
fn a_server_that_ignores_ranges_and_always_breaks_does_not_loop() {
    let desk = Desk::new(3 * MB);
    desk.storage().change(|settings| {
        settings.ignores_range = true;
        settings.breaks_after = Some(2 * MB);
    });
    let error = desk.download().unwrap_err();
    assert_says(&error, " broke; call download again");
    assert!(desk.fetched().len() <= 11, "{:?}", desk.pieces());
    // What is there stays for a storage that does better.
    desk.storage().change(|settings| {
        settings.ignores_range = false;
        settings.breaks_after = None;
    });
    let downloaded = desk.download().unwrap();
    assert_eq!(downloaded.fetched, MB as u64);
    desk.assert_whole();
}

#[test]
fn a_file_that_changed_starts_over_even_where_if_range_is_ignored() {
    for ignores_if_range in [false, true] {
        let mut desk = Desk::new(3 * MB);
        desk.storage().change(|settings| {
            settings.breaks_after = Some(2 * MB);
            settings.ignores_range = true;
        });
        desk.download().unwrap_err();
        desk.file[2 * MB..].fill(7);
        desk.file[..997].fill(7);
        let file = Arc::new(desk.file.clone());
        desk.storage().change(|settings| {
            settings.breaks_after = None;
            settings.ignores_range = false;
            settings.ignores_if_range = ignores_if_range;
            settings.file = file;
        });
        let downloaded = desk.download().unwrap();
        assert_eq!(downloaded.fetched, 3 * MB as u64);
        desk.assert_whole();
    }
}

#[test]
fn a_part_of_something_else_starts_over() {
    // Another agent, another model, another service: each leaves its part to nobody.
    let odd = Odd::new();
    let other = Odd::new();
    let cut = || [broken(whole(), 10), Reply::new(451, "").into()];
    let download = |from: &Odd, id: &str, model: Option<&str>, turns: Vec<Does>| {
        let api = from.script.builder(false).build().unwrap();
        let download = match model {
            Some(model) => Download::new().model(model),
            None => Download::new(),
        };
        let offer = json!({"code": id, "model": model.unwrap_or("essence-2"), "url": from.url()});
        from.watch([offer_of(offer).into()], turns, || {
            api.download(id, odd.path(), &download)
        })
    };
    let rows: [(&Odd, &str, Option<&str>); 4] = [
        (&odd, "A2", None),
        (&odd, ID, Some("expression-2")),
        // The same model, but another request for it.
        (&odd, ID, Some("essence-2")),
        (&other, ID, None),
    ];
    for (from, id, model) in rows {
        let run = download(&odd, ID, None, cut().into());
        assert_eq!(run.result.unwrap_err().kind(), ErrorKind::Rejected);
        assert_eq!(odd.dir.names(), ["agent.imx.part", "agent.imx.part.json"]);
        let run = download(from, id, model, vec![whole().into()]);
        run.result.unwrap();
        assert_eq!(ranges(&run.requests), ["all"]);
        fs::remove_file(odd.path()).unwrap();
    }
    // The same again does resume.
    download(&odd, ID, None, cut().into()).result.unwrap_err();
    let run = download(&odd, ID, None, vec![rest(10).into()]);
    assert_eq!(run.result.unwrap().fetched, 26);
    assert_eq!(ranges(&run.requests), ["bytes=10-"]);
}
