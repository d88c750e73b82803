//! What the service says when it is asked for the file: where it is, and for how long.

use std::io;
use std::time::Duration;

use super::job::{Job, unexpected};
use super::step::Then;
use crate::agent::{Agent, Status};
use crate::clock::Stopwatch;
use crate::error::{Error, ErrorKind};
use crate::http::{Request, Response};
use crate::status::not_found;
use crate::{json::Fields, retry, url::path_segment};

/// The signed URL that the service names: a credential, so it has no `Debug`.
pub(super) struct Offer {
    pub url: String,
    pub model: Option<String>,
    age: Stopwatch,
    lifetime: Option<Duration>,
}

impl Offer {
    pub fn is_fresh(&self) -> bool {
        self.lifetime
            .is_none_or(|lifetime| self.age.elapsed() < lifetime)
    }
}

/// Why a try brought no whole file.
pub(super) struct Failure {
    pub error: Error,
    pub then: Then,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let then = match error.is_retryable() {
            true => Then::Retry,
            false => Then::Stop,
        };
        Failure { error, then }
    }
}

impl From<io::Error> for Failure {
    fn from(reason: io::Error) -> Self {
        Error::new(ErrorKind::File, format!("cannot be written: {reason}")).into()
    }
}

impl Job<'_> {
    /// Asks the service for the URL.
    pub(super) fn ask(&self, id: &str) -> Result<Offer, Failure> {
        let age = self.api.stopwatch();
        let mut path = format!("/v1/agent/{id}/model/download?redirect=false");
        if let Some(model) = &self.download.model {
            path += &format!("&model={}", path_segment(model));
        }
        let transport = &self.api.shared.transport;
        let response = transport.send(Request {
            deadline: Some(self.deadline),
            ..Request::get(&path)
        })?;
        let has_no_endpoint = response.status == 404 && response.code().is_none();
        if has_no_endpoint {
            return self.ask_agent(age);
        }
        let data = good_fields(&response)?.object("data");
        let named = Agent::id_in(&data);
        let model = data.text("model");
        let asked = &self.download.model;
        let is_other_model = asked.is_some() && model.is_some() && *asked != model;
        if named.is_some_and(|named| named != self.agent_id) || is_other_model {
            let what = "the service named the file of another agent or model";
            return Err(unexpected(what).repeat_is_safe(false).into());
        }
        let Some(url) = data.text("url") else {
            return Err(unexpected("the response has no URL of the file").into());
        };
        let lifetime = data.any_text("expires_in");
        Ok(Offer {
            url,
            model: model.or(asked.clone()),
            age,
            lifetime: lifetime.and_then(|time| retry::parse_retry_after(&time)),
        })
    }

    /// The 2025 API has the link in the agent's status.
    fn ask_agent(&self, age: Stopwatch) -> Result<Offer, Failure> {
        let agent = self.api.ask_status(self.agent_id, Some(self.deadline))?;
        if agent.status == Status::Deleted {
            return Err(Error::new(ErrorKind::NotFound, "the agent was deleted").into());
        }
        match agent.model_url {
            Some(url) => Ok(Offer {
                url,
                model: None,
                age,
                lifetime: None,
            }),
            None if agent.status == Status::Failed => {
                let what = "the generation failed, so there is no file";
                Err(Error::new(ErrorKind::GenerationFailed, what).into())
            }
            None => Err(Failure {
                error: Error::new(ErrorKind::NotFound, "the agent has no file yet"),
                then: Then::Wait,
            }),
        }
    }
}

/// The fields of a response of the service that is no error. No response is quoted that may have the
/// signed URL.
fn good_fields(response: &Response) -> Result<Fields<'_>, Failure> {
    let fields = response.fields();
    if (300..=399).contains(&response.status) {
        let error = unexpected("the server redirects, which is not followed");
        return Err(error.repeat_is_safe(false).into());
    }
    if response.is_success() && !fields.says_failure() {
        return match response.is_whole() {
            true => Ok(fields),
            false => Err(Error::new(ErrorKind::Network, "the response broke off").into()),
        };
    }
    if fields.object("data").get("url").is_some() {
        return Err(unexpected("the response is an error, and has a URL").into());
    }
    let reason = fields.object("error").text("reason");
    let code = reason.or(fields.text("reason")).or(response.code());
    let error = response.error();
    let error = match (code.as_deref(), response.status) {
        (Some("MODEL_ARTIFACT_NOT_READY" | "DEVICE_BUILD_PENDING"), _) => {
            return Err(Failure {
                error: error.what_is("the file is not there yet"),
                then: Then::Wait,
            });
        }
        (Some("DEVICE_BUILD_FAILED"), _) => error
            .what_is("the service could not build the file")
            .repeat_is_safe(false),
        (Some("MODEL_NOT_DOWNLOADABLE"), _) => error
            .what_is("the model has no file")
            .advice("choose another model"),
        (Some("MODEL_NOT_GENERATED"), _) => error
            .what_is("the agent does not have the model")
            .advice("choose a model that the agent has"),
        (_, 404) => not_found(error),
        _ => error,
    };
    Err(error.into())
}
