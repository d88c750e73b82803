//! What a download promises: the file is whole and the right one, what is there is not fetched again,
//! and the storage learns nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bithuman::serde_json::json;
use bithuman::{
    Api, ApiBuilder, Billing, Download, Downloaded, Error, ErrorKind, Event, GenerateRequest, Wait,
};

use crate::harness::*;
use crate::mock_server::{self, ApiVersion, Fetched, MockServer, Settings, Storage, Validator};

const MB: usize = 1_000_000;

/// A file of this length, no two blocks of which are alike.
fn content(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A mock server with a ready agent, and a folder for its file.
struct Desk {
    server: MockServer,
    clock: Arc<FakeClock>,
    dir: TempDir,
    id: String,
    file: Vec<u8>,
}

impl Desk {
    fn new(length: usize) -> Self {
        Desk::with(length, ApiVersion::Current.into())
    }

    fn with(length: usize, settings: Settings) -> Self {
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

    fn storage(&self) -> &Storage {
        self.server.storage()
    }

    fn builder(&self) -> ApiBuilder {
        Api::builder()
            .secret(mock_server::SECRET)
            .base_url(self.server.base_url())
            .clock(self.clock.clone())
    }

    fn path(&self) -> PathBuf {
        self.dir.path("agent.imx")
    }

    fn download(&self) -> Result<Downloaded, Error> {
        self.download_as(&Download::new())
    }

    fn download_as(&self, download: &Download) -> Result<Downloaded, Error> {
        let api = self.builder().build().unwrap();
        api.download(&self.id, self.path(), download)
    }

    /// The file is there and whole, and nothing is beside it.
    #[track_caller]
    fn assert_whole(&self) {
        assert!(fs::read(self.path()).unwrap() == self.file, "other bytes");
        assert_eq!(self.dir.names(), ["agent.imx"]);
    }

    fn fetched(&self) -> Vec<Fetched> {
        self.storage().requests()
    }

    /// Where each request to the storage began, and how many bytes it brought.
    fn pieces(&self) -> Vec<(usize, usize)> {
        let pieces = self.fetched().into_iter();
        pieces
            .map(|fetched| (fetched.start, fetched.sent))
            .collect()
    }

    fn bytes_sent(&self) -> usize {
        self.fetched().iter().map(|fetched| fetched.sent).sum()
    }
}

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
    assert_eq!(desk.fetched().len(), 1);
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
        settings.uses = Some(2);
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
    assert_eq!(
        statuses,
        [200, 206, 403, 206, 206, 403, 206, 206, 403, 206, 206]
    );
}
