//! A streamed GET from another origin, which gets no secret: the storage of model files. A signed URL
//! is a credential, so only its host is ever shown.

use std::{env, io::Read, time::Duration};

use ureq::http::header::{
    CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, IF_RANGE, LOCATION, RANGE,
    RETRY_AFTER,
};
use ureq::http::{HeaderMap, Uri};
use ureq::{BodyReader, Proxy};

use super::failure::{self, THROUGH};
use super::{BaseUrl, Limits, Request, Transport, UreqResponse, proxy};
use crate::config::Setting;
use crate::error::{Error, ErrorKind, Result};
use crate::{retry, text::human_time};

/// Object stores redirect to a region.
const MAX_REDIRECTS: usize = 5;

/// What to get.
pub(crate) struct Fetch<'a> {
    pub url: &'a str,
    /// The offset to begin at, and the validator of what is there before it.
    pub range: Option<(u64, &'a str)>,
    /// How long nothing may come.
    pub stall: Duration,
    /// The head may take as long as a response of the service, and so may what follows: ureq has
    /// one limit for each read.
    pub is_slow: bool,
    /// A time on the clock.
    pub deadline: Duration,
}

/// What the head of a response says.
#[derive(Default)]
pub(crate) struct Head {
    pub status: u16,
    pub etag: Option<String>,
    pub content_range: Option<String>,
    /// The length of the body.
    pub length: Option<u64>,
    pub is_chunked: bool,
    pub is_html: bool,
    /// Compressed, or changed in another way.
    pub is_encoded: bool,
    pub retry_after: Option<Duration>,
}

/// The body of a response, as it comes.
pub(crate) struct Stream<'a> {
    pub head: Head,
    /// The host that sends it.
    pub host: String,
    transport: &'a Transport,
    reader: BodyReader<'static>,
    stall: Duration,
    deadline: Duration,
}

impl Transport {
    /// Sends a GET without the secret, and follows redirects.
    pub fn fetch(&self, fetch: &Fetch) -> Result<Stream<'_>> {
        let mut url = fetch.url.to_owned();
        let mut redirects = 0;
        loop {
            let target = self.check_url(&url)?;
            let response = self.fetch_once(&url, &target, fetch)?;
            let status = response.status().as_u16();
            let location = text(response.headers(), LOCATION);
            let Some(location) = location.filter(|_| matches!(status, 301..=303 | 307 | 308))
            else {
                return Ok(self.stream(response, target.authority, fetch));
            };
            redirects += 1;
            if redirects > MAX_REDIRECTS {
                let host = target.authority;
                let what = format!("the storage {host} redirects more than {MAX_REDIRECTS} times");
                return Err(Error::new(ErrorKind::Rejected, what));
            }
            url = join(&target.url, &location);
        }
    }

    /// The host of a URL that the service or the storage names, or why no file is fetched from there.
    fn check_url(&self, url: &str) -> Result<BaseUrl> {
        let fail = |what: &str| {
            let what = format!("the URL of the file {what}");
            Err(Error::new(ErrorKind::UnexpectedResponse, what).repeat_is_safe(false))
        };
        let uri = url.parse::<Uri>().unwrap_or_default();
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return fail("is not a URL");
        };
        if authority.as_str().contains('@') {
            return fail("contains a user or a password");
        }
        let origin = Setting::new("url", format!("{scheme}://{authority}"));
        let Ok(target) = BaseUrl::parse(&origin) else {
            return fail("is not an https URL");
        };
        let is_local = target.is_loopback && self.base.is_loopback;
        if !target.is_https && !is_local {
            return fail(&format!("is plain http, to {}", target.authority));
        }
        Ok(target)
    }

    fn fetch_once(&self, url: &str, target: &BaseUrl, fetch: &Fetch) -> Result<UreqResponse> {
        if self.is_stopped() {
            return Err(Error::new(ErrorKind::ShutDown, "shut down"));
        }
        let proxy = self.storage_proxy(target)?;
        let mut peer = target.authority.clone();
        if let Some(proxy) = &proxy {
            peer += &format!("{THROUGH}{}:{}", proxy.host(), proxy.port());
        }
        let stall = match fetch.is_slow {
            true => fetch.stall.max(self.response_timeout),
            false => fetch.stall,
        };
        let limits = Limits {
            peer: &peer,
            hint: "",
            response: self.response_timeout.min(stall),
            max_idle: Duration::ZERO,
            ..self.limits(&Request {
                deadline: Some(fetch.deadline),
                ..Request::get(url)
            })?
        };
        let at_most = |own: Duration| Some(own.min(limits.remaining.unwrap_or(own)));
        let mut request = self
            .storage
            .get(url)
            .config()
            .accept("*/*")
            .timeout_connect(at_most(limits.connect).filter(|_| proxy.is_none()))
            .timeout_send_request(at_most(limits.write))
            .timeout_per_write(at_most(limits.write))
            .timeout_per_read(at_most(stall))
            .timeout_recv_response(at_most(limits.response))
            .timeout_recv_body(limits.remaining)
            .max_idle_age(limits.max_idle)
            .proxy(proxy)
            .build();
        if let Some((offset, validator)) = fetch.range {
            request = request
                .header(RANGE, format!("bytes={offset}-"))
                .header(IF_RANGE, validator);
        }
        match request.call() {
            _ if self.is_stopped() => Err(Error::new(ErrorKind::ShutDown, "shut down")),
            Ok(response) => Ok(response),
            // Their texts quote the URL.
            Err(
                ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::RequireHttpsOnly(_),
            ) => {
                let what = format!("the request to {peer} failed");
                Err(Error::new(ErrorKind::Network, what))
            }
            Err(error) => Err(failure::to_error(error, &limits)),
        }
    }

    /// The proxy for this host, which may be another one than the service's.
    fn storage_proxy(&self, target: &BaseUrl) -> Result<Option<Proxy>> {
        if target.is_loopback {
            return Ok(None);
        }
        let variable = |name: &str| Some(env::var_os(name)?.to_string_lossy().into_owned());
        proxy::choose(self.proxy.as_ref(), target, variable)
    }

    fn stream(&self, response: UreqResponse, host: String, fetch: &Fetch) -> Stream<'_> {
        let (head, body) = response.into_parts();
        let headers = &head.headers;
        let media_type = text(headers, CONTENT_TYPE).unwrap_or_default();
        let encoding = text(headers, CONTENT_ENCODING);
        let length = body.content_length();
        let head = Head {
            status: head.status.as_u16(),
            etag: text(headers, ETAG),
            content_range: text(headers, CONTENT_RANGE),
            is_chunked: length.is_none() && headers.contains_key("transfer-encoding"),
            length,
            is_html: media_type.to_ascii_lowercase().starts_with("text/html"),
            is_encoded: encoding.is_some_and(|it| !it.eq_ignore_ascii_case("identity")),
            retry_after: text(headers, RETRY_AFTER)
                .and_then(|wait| retry::parse_retry_after(&wait)),
        };
        Stream {
            head,
            host,
            transport: self,
            reader: body.into_reader(),
            stall: fetch.stall,
            deadline: fetch.deadline,
        }
    }
}

impl Stream<'_> {
    /// Reads some bytes of the body, 0 at its proper end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let read = self.reader.read(buffer);
        // A shutdown passes for the end of some bodies.
        if self.transport.is_stopped() {
            return Err(Error::new(ErrorKind::ShutDown, "shut down"));
        }
        let error = match read {
            Ok(n) => return Ok(n),
            Err(error) => ureq::Error::from(error),
        };
        self.transport.remaining(Some(self.deadline))?;
        if matches!(error, ureq::Error::Timeout(_)) {
            let stall = human_time(self.stall);
            let what = format!("{} sent nothing for {stall}", self.host);
            return Err(Error::new(ErrorKind::Timeout, what));
        }
        let what = format!("the connection to {} broke", self.host);
        Err(Error::new(ErrorKind::Network, what).caused_by(error.into_io()))
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// The URL that a `Location` means. What is relative to a folder is no URL: no object store sends it.
fn join(origin: &str, location: &str) -> String {
    let scheme = origin.split("//").next().unwrap_or_default();
    match location {
        path if path.starts_with("//") => format!("{scheme}{path}"),
        path if path.starts_with('/') => format!("{origin}{path}"),
        url => url.to_owned(),
    }
}
