//! What an error means for the receipt, and what to do.

use std::{fs, io};

use super::Receipt;
use super::lines::{may_be_receipt, parse};
use crate::error::{Billing, Error, ErrorKind};
use crate::generate::{GenerateRequest, Generation, accepted_line};

impl Receipt<'_> {
    /// What is wrong with the receipt begins with a verb, as in "is a folder".
    pub fn error(&self, what: impl Into<String>) -> Error {
        self.named(Error::new(ErrorKind::Receipt, what))
    }

    pub fn named(&self, error: Error) -> Error {
        let subject = format!("the receipt {}", self.path.display());
        error.subject(subject.trim()).call(self.call)
    }

    /// An error before the receipt was read under its lock.
    pub fn unread(&self, error: Error) -> Error {
        if !self.may_be_pending() {
            return error;
        }
        error.billing_is(Billing::Unknown).and_advice(&format!(
            "nothing was sent, but an earlier request of the receipt {} may have been billed",
            self.path.display()
        ))
    }

    /// Whether there may be a request of unknown outcome: not if nothing is there, or more is known.
    fn may_be_pending(&self) -> bool {
        use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
        match fs::metadata(&self.path).map(|metadata| metadata.len()) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(reason) => {
                let kind = reason.kind();
                return !matches!(
                    kind,
                    NotFound | NotADirectory | InvalidInput | InvalidFilename
                );
            }
        }
        let Ok(bytes) = self.bytes() else {
            return true;
        };
        match parse(&bytes) {
            Ok(lines) => lines.last.is_some_and(|last| last.is_pending()),
            Err(_) => may_be_receipt(&bytes),
        }
    }

    /// Says which time ran out, in an error of a request.
    pub fn about_time(&self, error: Error) -> Error {
        match self.wait {
            Some(wait) => wait.name_timeout(error),
            None => error,
        }
    }

    pub fn not_recorded(&self, generation: &Generation, reason: &io::Error) -> Error {
        let (id, key) = (&generation.agent_id, &generation.idempotency_key);
        let what = format!("cannot record the agent, which was accepted and billed: {reason}");
        let line = accepted_line(id, key);
        self.error(what)
            .billing_is(Billing::Billed)
            .repeat_is_safe(false)
            .agent(id)
            .key(key)
            .advice(format!(
                "call wait with this agent; to use the receipt again, add the line {line}"
            ))
    }

    /// Adds to an error of a wait what the receipt means for it.
    pub fn after_wait(
        &self,
        error: Error,
        request: &GenerateRequest,
        generation: &Generation,
        is_recorded: bool,
    ) -> Error {
        let error = error.paid_for(generation);
        let is_own_key = request.own_key() == Some(&generation.idempotency_key);
        match error.kind() {
            ErrorKind::GenerationFailed if error.billing() != Billing::Refunded => error,
            ErrorKind::GenerationFailed if !is_recorded => {
                error.advice("the service refunds it; call again to see how to continue")
            }
            ErrorKind::GenerationFailed if is_own_key => {
                error.advice("the service refunds it; another try, billed again, needs another key")
            }
            ErrorKind::GenerationFailed => {
                error.advice("the service refunds it; the same call again pays for another try")
            }
            ErrorKind::NotFound => error.and_advice(&format!(
                "delete the receipt {} to pay for another agent",
                self.path.display()
            )),
            _ => error,
        }
    }
}
