//! A streamed GET from another origin, which gets no secret: the storage of model files. A signed URL
//! is a credential, so only its host is ever shown.

use std::{io::Read, time::Duration};

use ureq::BodyReader;
use ureq::http::header::{ACCEPT, IF_RANGE, RANGE};
use ureq::http::{HeaderMap, Request as UreqRequest};

use super::failure::{self, Limits};
use super::{BaseUrl, Request, Transport, peer, proxy, variable};
use crate::config::Setting;
use crate::error::{Error, ErrorKind, Facts, Result};
use crate::retry;

/// Object stores redirect to a region.
const MAX_REDIRECTS: usize = 5;

/// What to get.
pub(crate) struct Fetch<'a> {
    pub url: &'a str,
    /// The offset to begin at, and the validator of what is there before it.
    pub range: Option<(u64, &'a str)>,
    /// How long nothing may come. ureq has one limit for the head and for each read.
    pub stall: Duration,
    /// A time on the clock.
    pub deadline: Duration,
}

pub(crate) struct Head {
    pub status: u16,
    pub headers: HeaderMap,
}

/// A response whose body is read as it comes.
pub(crate) struct Stream<'a> {
    pub head: Head,
    transport: &'a Transport,
    limits: Limits,
    reader: BodyReader<'static>,
}

impl Transport {
    /// Sends a GET without the secret, and follows redirects.
    pub fn fetch(&self, fetch: &Fetch) -> Result<Stream<'_>> {
        let mut url = fetch.url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let target = self.check_url(&url)?;
            let stream = self.fetch_once(&url, &target, fetch)?;
            match (stream.head.status, stream.head.get("location")) {
                (301..=303 | 307 | 308, Some(to)) if to.starts_with('/') => {
                    url = format!("{}{to}", target.url)
                }
                (301..=303 | 307 | 308, Some(to)) => url = to.to_owned(),
                _ => return Ok(stream),
            }
        }
        let what = format!("the storage redirects more than {MAX_REDIRECTS} times");
        Err(Error::new(ErrorKind::Rejected, what))
    }

    /// The origin of a URL that the service or the storage names, if a file may come from there.
    fn check_url(&self, url: &str) -> Result<BaseUrl> {
        let origin: Vec<_> = url.split('/').take(3).collect();
        match BaseUrl::parse(&Setting::new("url", origin.join("/"))) {
            Ok(target) if target.is_https || target.is_loopback && self.base.is_loopback => {
                Ok(target)
            }
            _ => {
                let what = "the URL of the file is not https, or has a user in it";
                let error = Error::new(ErrorKind::UnexpectedResponse, what);
                Err(error
                    .repeat_is_safe(false)
                    .advice("report it to the service"))
            }
        }
    }

    fn fetch_once(&self, url: &str, target: &BaseUrl, fetch: &Fetch) -> Result<Stream<'_>> {
        self.check_stopped()?;
        let proxy = proxy::choose(self.proxy_setting.as_ref(), target, variable)?;
        let mut get = Request::get(url);
        get.deadline = Some(fetch.deadline);
        let limits = Limits {
            peer: peer(target, proxy.as_ref()),
            hint: "",
            proxy,
            response: self.response_timeout,
            stall: Some(fetch.stall),
            max_idle: Duration::ZERO,
            ..self.limits(&get)?
        };
        let mut request = UreqRequest::get(url).header(ACCEPT, "*/*");
        if let Some((offset, validator)) = fetch.range {
            request = request
                .header(RANGE, format!("bytes={offset}-"))
                .header(IF_RANGE, validator);
        }
        let response = match request.body(()) {
            Ok(request) => self.storage.run(self.limit(request, &limits)),
            Err(error) => Err(error.into()),
        };
        self.check_stopped()?;
        let response = response.map_err(|error| failure::to_error(error, &limits))?;
        let (head, body) = response.into_parts();
        let head = Head {
            status: head.status.as_u16(),
            headers: head.headers,
        };
        Ok(Stream {
            head,
            transport: self,
            limits,
            reader: body.into_reader(),
        })
    }
}

impl Head {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

impl Stream<'_> {
    /// Reads some bytes of the body, 0 at its proper end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.reader.read(buffer);
        // A shutdown passes for the end of some bodies.
        self.transport.check_stopped()?;
        self.transport.remaining(self.limits.deadline)?;
        let error = match read {
            Ok(n) => return Ok(n),
            Err(error) => failure::to_error(error.into(), &self.limits),
        };
        // Whatever broke, the file can be resumed.
        let what = format!("the file broke off: {}", error.what());
        Err(Error::new(ErrorKind::Network, what))
    }

    /// An error about this response, which is not quoted.
    pub fn error(&self, kind: ErrorKind, what: &str) -> Error {
        let wait = self.head.get("retry-after");
        let facts = Facts {
            http_status: Some(self.head.status),
            retry_after: wait.and_then(retry::parse_retry_after),
            ..Facts::default()
        };
        Error::new(kind, format!("the storage {} {what}", self.limits.peer)).response(facts)
    }
}
