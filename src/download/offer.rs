//! What the service says when it is asked for the file.

use super::Download;
use super::job::Job;
use super::step::Failure;
use crate::agent::{Agent, Status};
use crate::error::{self, Error, ErrorKind};
use crate::http::{Request, Response};
use crate::status::{is_unknown, not_found, segment};

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
    pub(super) fn ask(&self, endpoint: &str) -> Result<Offer, Failure> {
        let mut request = Request::get(endpoint);
        request.deadline = Some(self.deadline);
        let response = self.api.shared.transport.send(request)?;
        if response.status == 404 && response.code().is_none() {
            return self.ask_2025();
        }
        let fields = response.fields();
        let data = fields.object("data");
        let is_redirect = (300..=399).contains(&response.status);
        let is_good = response.is_success() && !fields.says_failure();
        // What may have the signed URL in it is not quoted.
        if !is_good && !is_redirect && data.get("url").is_none() {
            return Err(refusal(&response));
        }
        let asked = &self.download.model;
        let (named, model) = (Agent::id_in(data), data.text("model"));
        let is_other_model = asked.is_some() && model.is_some() && *asked != model;
        let is_other = is_other_model || named.is_some_and(|named| named != self.agent_id);
        let what = match data.text("url") {
            _ if is_other => "the service named the file of another agent or model",
            Some(url) if is_good && response.is_whole() => {
                let model = model.or(asked.clone());
                return Ok(Offer { url, model });
            }
            _ => "the response has no URL of the file",
        };
        let error = response.unquoted(what);
        Err(error.repeat_is_safe(!is_redirect && !is_other).into())
    }

    /// The 2025 API has the link in the agent's status.
    fn ask_2025(&self) -> Result<Offer, Failure> {
        let agent = self.api.ask_status(self.agent_id, Some(self.deadline))?;
        let (kind, what) = match (agent.status, agent.model_url) {
            (Status::Deleted, _) => (ErrorKind::NotFound, "the agent was deleted"),
            (_, Some(url)) => return Ok(Offer { url, model: None }),
            (Status::Failed, None) => (ErrorKind::GenerationFailed, "the generation failed"),
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
