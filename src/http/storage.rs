//! A streamed GET from another origin, which gets no secret: the storage of model files. A signed URL
//! is a credential, so only its host is ever shown.

use std::{io::Read, time::Duration};

use ureq::BodyReader;
use ureq::http::header::{self, ACCEPT, IF_RANGE, LOCATION, RANGE};
use ureq::http::{HeaderMap, Request as UreqRequest, Uri, Version};

use super::failure::{self, Limits};
use super::{BaseUrl, Request, Transport, peer, proxy, variable};
use crate::config::{Setting, USER_AGENT};
use crate::error::{Error, ErrorKind, Facts, Result};
use crate::{retry, url::resolve};

/// Object stores redirect to a region.
const MAX_REDIRECTS: usize = 5;

/// What to get.
pub(crate) struct Fetch<'a> {
    pub url: &'a str,
    /// The offset to begin at, and the validator of what is there before it.
    pub range: Option<(u64, &'a str)>,
    /// How long nothing may come, of the head or between two reads.
    pub stall: Duration,
    /// A time on the clock.
    pub deadline: Duration,
}

pub(crate) struct Head {
    pub status: u16,
    pub version: Version,
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
        let mut target = self.origin(&url).ok_or_else(|| {
            let what = "the URL of the file is not a valid https URL, or has a user in it";
            let error = Error::new(ErrorKind::UnexpectedResponse, what).repeat_is_safe(false);
            error.advice("report it to the service")
        })?;
        for _ in 0..=MAX_REDIRECTS {
            let stream = self.fetch_once(&url, &target, fetch)?;
            let is_redirect = matches!(stream.head.status, 301..=303 | 307 | 308);
            let location = stream.head.headers.get(LOCATION);
            let Some(location) = location.filter(|_| is_redirect) else {
                return Ok(stream);
            };
            url = resolve(&url, &String::from_utf8_lossy(location.as_bytes()));
            target = self.origin(&url).ok_or_else(|| {
                let what = "redirects to what is not a valid https URL, or has a user in it";
                let error = stream.error(ErrorKind::UnexpectedResponse, what);
                error.repeat_is_safe(false)
            })?;
        }
        let what = format!("the storage redirects more than {MAX_REDIRECTS} times");
        Err(Error::new(ErrorKind::Rejected, what))
    }

    /// The origin of a URL, if a file may come from there.
    fn origin(&self, url: &str) -> Option<BaseUrl> {
        let is_valid = url.is_ascii() && url.parse::<Uri>().is_ok();
        let origin: Vec<_> = url.split('/').take(3).collect();
        let origin = BaseUrl::parse(&Setting::new("url", origin.join("/"))).ok()?;
        let is_safe = origin.is_https || origin.is_loopback && self.base.is_loopback;
        (is_valid && is_safe).then_some(origin)
    }

    fn fetch_once(&self, url: &str, target: &BaseUrl, fetch: &Fetch) -> Result<Stream<'_>> {
        self.check_stopped()?;
        let proxy = proxy::choose(self.proxy_setting.as_ref(), target, variable)?;
        let mut get = Request::get(url);
        get.deadline = Some(fetch.deadline);
        let limits = Limits {
            peer: peer(target, proxy.as_ref()).into(),
            hint: "",
            proxy,
            response: self.response_timeout,
            stall: Some(fetch.stall),
            max_idle: Duration::ZERO,
            ..self.limits(&get)?
        };
        // The caller's own user agent is for the service.
        let mut request = UreqRequest::get(url)
            .header(ACCEPT, "*/*")
            .header(header::USER_AGENT, USER_AGENT);
        if let Some((offset, validator)) = fetch.range {
            request = request
                .header(RANGE, format!("bytes={offset}-"))
                .header(IF_RANGE, validator);
        }
        let request = request.body(()).map_err(ureq::Error::from);
        let response = request.and_then(|it| self.storage.run(self.limit(it, &limits)));
        self.check_stopped()?;
        let response = response.map_err(|error| failure::to_error(error, &limits))?;
        let (head, body) = response.into_parts();
        let head = Head {
            status: head.status.as_u16(),
            version: head.version,
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

    /// Whether the body says itself where it ends. ureq reads any other coding to the close.
    pub fn is_chunked(&self) -> bool {
        let coding = self.get("transfer-encoding").unwrap_or_default();
        self.version == Version::HTTP_11 && coding.eq_ignore_ascii_case("chunked")
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
