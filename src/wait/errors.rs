//! The errors of a wait: what failed, what was last seen, and what to do.

use super::{LAST_POLL, Watch};
use crate::agent::{Agent, ModelStatus};
use crate::error::{Billing, Error, ErrorKind, Facts};
use crate::status;
use crate::text::{excerpt, human_time};

impl Watch {
    /// An error that ends the wait, but not the generation.
    pub(super) fn ended_by(&self, error: Error) -> Error {
        let again = format!("call {} again", self.call);
        let advice = match error.kind() {
            ErrorKind::InvalidInput => return error.call(self.call),
            ErrorKind::NotFound | ErrorKind::Rejected | ErrorKind::Tls => "",
            ErrorKind::Unauthorized | ErrorKind::PlanLimit => {
                &format!("fix that, then {again}, which is free")
            }
            _ if self.last_seen.is_none() => &again,
            _ => &format!("generation continues, {again}"),
        };
        let is_unknown = status::is_unknown(&error) && self.last_seen.is_none();
        let error = self.about_agent(error).and_advice(advice);
        match is_unknown {
            true => error.billing_is(Billing::Unknown),
            false => error,
        }
    }

    pub(super) fn about_agent(&self, error: Error) -> Error {
        let error = error
            .call(self.call)
            .agent(&self.agent_id)
            .after(self.polls);
        let error = error.seen(self.last_seen.clone());
        error.repeat_is_safe(true).billing_is(Billing::Billed)
    }

    pub(super) fn generation_failed(&self, agent: &Agent) -> Error {
        let why = agent.error_message.as_deref();
        let error = self.failed("the generation", why.or(self.model_reason(agent)));
        let error = error.billing_is(Billing::Refunded);
        error.advice("the service refunds it; another try is billed again")
    }

    pub(super) fn model_failed(&self, agent: &Agent) -> Error {
        let model = self.wait.model.as_deref().unwrap_or_default();
        let error = self.failed(&format!("the model {model}"), self.model_reason(agent));
        error.advice("the agent itself has not failed; check whether the service refunds the model")
    }

    fn model_reason<'a>(&self, agent: &'a Agent) -> Option<&'a str> {
        self.model_status(agent)?.reason.as_deref()
    }

    /// How far the model is that is waited for.
    fn model_status<'a>(&self, agent: &'a Agent) -> Option<&'a ModelStatus> {
        agent.model_status.get(self.wait.model.as_ref()?)
    }

    fn failed(&self, what: &str, message: Option<&str>) -> Error {
        let message = self.masked(message);
        let why = match message {
            Some(_) => "",
            None => ", and the service does not say why",
        };
        let error = Error::new(ErrorKind::GenerationFailed, format!("{what} failed{why}"));
        self.about_agent(error.response(Facts {
            message,
            ..Facts::default()
        }))
    }

    /// There is no time left, or too little for another poll.
    pub(super) fn deadline_error(&mut self) -> Error {
        let timeout = human_time(self.wait.timeout);
        let what = if self.remaining() <= LAST_POLL {
            format!("not ready within {timeout}")
        } else {
            format!("not ready, and too little of {timeout} remains for another poll")
        };
        let again = format!("call {} again", self.call);
        let advice = match &self.last_seen {
            None => again,
            Some(agent) if self.seems_to_continue(agent) => {
                format!("generation continues, {again}")
            }
            Some(_) => format!("check the agent, or {again}"),
        };
        let error = Error::new(ErrorKind::WaitTimedOut, format!("{what} ({})", self.seen()));
        let error = self.about_agent(error).advice(advice);
        error.after_try("poll", self.last_error.take())
    }

    fn seems_to_continue(&self, agent: &Agent) -> bool {
        let model = self.model_status(agent);
        let is_pending = !agent.is_finished() || model.is_some_and(ModelStatus::is_pending);
        is_pending && !agent.is_failed() && agent.status.is_known() && agent.error_message.is_none()
    }

    /// What was last seen of the agent: `last seen: generating, 35%, lip_sync`.
    fn seen(&self) -> String {
        let Some(agent) = &self.last_seen else {
            return "no good response".into();
        };
        let word = self.masked(Some(agent.status.as_str())).unwrap_or_default();
        let mut seen = match agent.status.is_known() {
            true => format!("last seen: {word}"),
            false => format!("last seen: the unknown status \"{word}\""),
        };
        // Rounded down, but for the inexactness of 0.29 * 100. Some services count to 100.
        let progress = agent.progress.filter(|part| (0.0..=1.0).contains(part));
        if let Some(progress) = progress {
            seen += &format!(", {}%", (progress * 100.0 + 1e-6) as u8);
        }
        if let Some(step) = self.masked(agent.current_step.as_deref()) {
            seen += &format!(", {step}");
            if step == "awaiting_face_marking" {
                seen += " (the service waits for a person)";
            }
        }
        if let Some(model) = &self.wait.model {
            let state = self.model_status(agent).map(|status| status.state.as_str());
            let state = self.masked(state);
            seen += &format!(", {model} {}", state.as_deref().unwrap_or("not listed"));
        }
        if let Some(message) = self.masked(agent.error_message.as_deref()) {
            seen += &format!(", error message: {message}");
        }
        seen
    }

    /// The service's text for an error.
    fn masked(&self, text: Option<&str>) -> Option<String> {
        let masked = self.api.shared.transport.mask(text?);
        Some(excerpt(&masked).to_owned()).filter(|text| !text.is_empty())
    }
}
