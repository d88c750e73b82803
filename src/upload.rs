//! `POST /v1/files/upload`: a media file to the service's storage, for free.

use crate::api::Api;
use crate::body::{Body, Field};
use crate::error::{ErrorKind, Result};
use crate::http::{LARGE_BODY, Method, Request, Response};
use crate::media::{Media, Source};

const PATH: &str = "/v1/files/upload";

impl Api {
    /// Uploads a media file to the service's storage, and returns its URL (current API).
    ///
    /// This is free. The URL serves as the `image` or `audio` of any number of requests, as a
    /// [`Media::url`]. Upload first in two cases, and otherwise put [`Media::file`] into the request:
    ///
    /// - Many requests use one media file. It is uploaded once.
    /// - The file is large or the connection is bad. The billed request is then small, and a broken
    ///   upload leaves no doubt about what was billed.
    ///
    /// The file is read and encoded while it is sent. A [`Media::url`] is fetched by the service
    /// itself: only the URL is sent, without `file_name`. The service documents a limit of 10 MB
    /// for an image, 25 MB for audio and 100 MB for video. It does not document how long it keeps a
    /// file.
    ///
    /// Transient errors (no connection, 408, 425, 429, 5xx) are retried up to
    /// [`max_retries`](crate::ApiBuilder::max_retries) times. A body over 1 MiB is preceded by a free
    /// status request, so that a wrong secret costs no upload.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) for what cannot be sent.
    /// [`NotFound`](ErrorKind::NotFound) for a server without uploads, such as the 2025 API's.
    /// [`Rejected`](ErrorKind::Rejected) for a file that the service does not accept, or where it has
    /// retired uploads. Otherwise [`Unauthorized`](ErrorKind::Unauthorized),
    /// [`PlanLimit`](ErrorKind::PlanLimit), [`RateLimited`](ErrorKind::RateLimited),
    /// [`Service`](ErrorKind::Service), [`Network`](ErrorKind::Network), [`Tls`](ErrorKind::Tls),
    /// [`Timeout`](ErrorKind::Timeout), [`UnexpectedResponse`](ErrorKind::UnexpectedResponse) or
    /// [`ShutDown`](ErrorKind::ShutDown).
    ///
    /// ```no_run
    /// use bithuman::{Api, GenerateRequest, Media};
    ///
    /// let api = Api::from_env()?;
    /// let voice = api.upload("voice.mp3", Media::file("voice.mp3"))?;
    /// for prompt in ["You are a teacher.", "You are a guide."] {
    ///     let request = GenerateRequest::new()
    ///         .prompt(prompt)
    ///         .audio(Media::url(&voice))
    ///         .model("essence-2");
    ///     println!("{}", api.generate(&request)?.agent_id);
    /// }
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    pub fn upload(&self, file_name: &str, media: Media) -> Result<String> {
        let is_local = self.shared.transport.base().is_loopback;
        let body = open(file_name, media, is_local);
        let mut body = body.map_err(|error| error.call("upload"))?;
        if let Some(hook) = &self.hook {
            body.report_to(hook, &self.shared.clock);
        }
        if body.len() > LARGE_BODY
            && let Some(refusal) = self.refusal(None)
        {
            return Err(refusal.call("upload"));
        }
        let sent = self.retry(|| {
            let sent = self.send_upload(&mut body);
            sent.map_err(|error| error.call("upload"))
        });
        sent.map_err(|error| match body.broke_off() {
            true => error.and_advice("try a smaller media file"),
            false => error,
        })
    }

    fn send_upload(&self, body: &mut Body) -> Result<String> {
        body.rewind();
        let sent = self.shared.transport.send(Request {
            body: Some(&mut *body),
            ..Request::new(Method::Post, PATH)
        });
        match sent {
            Ok(response) => file_url(response).map_err(|error| error.after(1)),
            // An upload that was too slow once will be too slow again.
            Err(error) if body.broke_off() && error.kind() == ErrorKind::Timeout => {
                Err(error.repeat_is_safe(false))
            }
            Err(error) => Err(error),
        }
    }
}

fn open(file_name: &str, media: Media, service_is_local: bool) -> Result<Body> {
    if let Source::Url(_) = media.0 {
        return Body::new([("file_url", &Field::Media(media))], service_is_local);
    }
    let name = Field::Json(file_name.into());
    let data = Field::Media(media);
    Body::new(
        [("file_name", &name), ("file_data", &data)],
        service_is_local,
    )
}

/// Reads the response.
fn file_url(response: Response) -> Result<String> {
    let fields = response.fields();
    if !response.is_success() || fields.says_failure() {
        let error = response.error();
        return Err(match (response.status, error.code()) {
            (404, None | Some("NOT_FOUND")) | (_, Some("ENDPOINT_RETIRED")) => error
                .what_is("the server has no uploads")
                .and_advice("put the media file into the generate request"),
            _ => error,
        });
    }
    let url = fields.object("data").text("file_url");
    url.ok_or_else(|| response.missing("the response names no file"))
}
