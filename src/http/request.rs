//! A request to the service.

use std::time::Duration;

use crate::body::Body;

/// The method of a request that [`Api::call`](crate::Api::call) sends.
///
/// Methods may be added: keep a `_` arm.
///
/// ```
/// use bithuman::Method;
///
/// assert_ne!(Method::Get, Method::Delete);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Method {
    /// Reads, and changes nothing: it is never billed.
    Get,
    /// Creates or changes something. Some POST requests are billed.
    Post,
    /// Deletes something.
    Delete,
}

impl Method {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// What is sent, besides what every request has.
pub(crate) struct Request<'a> {
    pub method: Method,
    /// The path below the base URL, and the query.
    pub path: &'a str,
    pub body: Option<&'a mut Body>,
    pub idempotency_key: Option<&'a str>,
    /// A time on the clock.
    pub deadline: Option<Duration>,
}

impl<'a> Request<'a> {
    /// A request without a body, key or deadline.
    pub fn new(method: Method, path: &'a str) -> Self {
        Request {
            method,
            path,
            body: None,
            idempotency_key: None,
            deadline: None,
        }
    }

    pub fn get(path: &'a str) -> Self {
        Request::new(Method::Get, path)
    }

    pub fn body_len(&self) -> u64 {
        self.body.as_ref().map_or(0, |body| body.len())
    }
}
