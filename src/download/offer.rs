//! What the service says when it is asked for the file.

use super::Download;
use super::job::Job;
use super::step::Failure;
use crate::agent::{Agent, Status};
use crate::error::{self, Error, ErrorKind};
use crate::http::{Request, Response};
use crate::status::{is_unknown, not_found, segment};
use crate::text::excerpt;

/// Where the file is. The signed URL is a credential, so this has no `Debug`.
pub(super) struct Offer {
    pub url: String,
    pub model: Option<String>,
}

/// The path below the base URL that names the file.
pub(super) fn endpoint(agent_id: &str, download: &Download) -> error::Result<String> {
    let id = segment("agent id", agent_id)?;
    let path = format!("/v1/agent/{id}/model/download?redirect=false");
    match &download.model {
        Some(model) => Ok(format!("{path}&model={}", segment("model", model)?)),
        None => Ok(path),
    }
}

impl Job<'_> {
    /// Asks the service where the file is.
    pub(super) fn ask(&mut self, endpoint: &str) -> Result<Offer, Failure> {
        let mut request = Request::get(endpoint);
        request.deadline = Some(self.deadline);
        let transport = &self.api.shared.transport;
        let response = transport.send(request)?;
        // A gateway sent it, or a server without the endpoint.
        let is_page = response.status == 404 && response.code().is_none();
        if is_page && !self.has_offer && !transport.base().is_current_api() {
            return self.ask_2025();
        }
        let fields = response.fields();
        let data = fields.object("data");
        let is_redirect = (300..=399).contains(&response.status);
        let is_good = response.is_success() && !fields.says_failure();
        // What may have the signed URL in it is not quoted.
        if !is_good && !is_redirect && !is_page && data.get("url").is_none() {
            return Err(refusal(&response));
        }
        let (asked, model) = (self.download.model.as_deref(), data.text("model"));
        self.check_name(Some(self.agent_id), Agent::id_in(data).as_deref())
            .and_then(|()| self.check_name(asked, model.as_deref()))
            .map_err(|error| error.repeat_is_safe(false))?;
        if let Some(url) = data.text("url").filter(|_| is_good && response.is_whole()) {
            self.has_offer = true;
            let model = model.or(self.download.model.clone());
            return Ok(Offer { url, model });
        }
        let error = response.unquoted("the response has no URL of the file");
        Err(error.repeat_is_safe(!is_redirect).into())
    }

    /// Fails if the service named the file of another agent or model.
    fn check_name(&self, asked: Option<&str>, named: Option<&str>) -> error::Result<()> {
        let (Some(asked), Some(other)) = (asked, named.filter(|_| named != asked)) else {
            return Ok(());
        };
        let other = self.api.shared.transport.mask(other);
        let other = excerpt(&other);
        let what = format!("the service named the file of {other} instead of {asked}");
        let error = Error::new(ErrorKind::UnexpectedResponse, what);
        Err(error.advice("check the id and the model"))
    }

    /// The 2025 API has the link in the agent's status. The response may as well be that of another
    /// API behind a gateway, so what does not fit may fit the next time.
    fn ask_2025(&self) -> Result<Offer, Failure> {
        let agent = self.api.ask_status(self.agent_id, Some(self.deadline))?;
        let asked = self.download.model.as_deref();
        self.check_name(asked, agent.model.as_deref())?;
        let (kind, what) = match (agent.status, agent.model_url) {
            (Status::Deleted, _) => (ErrorKind::NotFound, "the agent was deleted"),
            (_, Some(url)) if url.to_ascii_lowercase().starts_with("http") => {
                let model = agent.model;
                return Ok(Offer { url, model });
            }
            (Status::Failed, _) => (ErrorKind::GenerationFailed, "the generation failed"),
            // The current API has a reference to the storage there.
            (_, Some(_)) => (ErrorKind::UnexpectedResponse, "the model_url is no URL"),
            (_, None) => {
                return Err(Failure {
                    error: Error::new(ErrorKind::NotFound, "the agent has no file yet"),
                    is_pending: true,
                });
            }
        };
        Err(Error::new(kind, what).into())
    }
}

/// What the service's refusal means. Its own client looks at the reason before the code.
fn refusal(response: &Response) -> Failure {
    let fields = response.fields();
    let reason = fields.object("error").text("reason");
    let code = reason.or(fields.text("reason")).or(response.code());
    let error = response.error();
    let (what, advice, is_pending) = match code.as_deref().unwrap_or_default() {
        "MODEL_ARTIFACT_NOT_READY" | "DEVICE_BUILD_PENDING" => {
            ("the file is not there yet", "", true)
        }
        "DEVICE_BUILD_FAILED" => ("the service could not build the file", "", false),
        "MODEL_NOT_DOWNLOADABLE" => ("the model has no file", "choose another model", false),
        "MODEL_NOT_GENERATED" => ("the agent does not have the model", "choose another", false),
        _ if is_unknown(&error) => return not_found(error).into(),
        _ => return error.into(),
    };
    Failure {
        error: error.what_is(what).advice(advice).repeat_is_safe(false),
        is_pending,
    }
}
