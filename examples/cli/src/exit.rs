//! The exit codes: what a script needs to know to decide what comes next.

use bithuman::{Billing, ErrorKind};

pub const DONE: u8 = 0;
pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const PERHAPS_BILLED: u8 = 3;
pub const NO_AGENT: u8 = 66;
pub const UNAVAILABLE: u8 = 69;
pub const UNFINISHED: u8 = 75;
pub const ACCOUNT: u8 = 77;
pub const INTERRUPTED: u8 = 130;

pub const HELP: &str = "\
Exit codes:
  0    done
  1    the generation failed (refunded), or the service refused the request
  2    usage or bad input, or a file that cannot be used, such as an empty secret file
  3    perhaps billed: look at your account before you pay again
  66   no such agent
  69   the service cannot be reached or failed, and nothing is billed
  75   still running, or the agent is there but not what was asked for: the line says how to go on,
       which costs nothing
  77   no secret, or the service refuses the secret, the plan or for want of credits
  130  Ctrl-C, SIGTERM or SIGHUP (but 3 while a request that may be billed is on its way); a second
       one ends the program at once, whatever it is doing
Once create has an agent that is billed, it ends with 0, 75 or 130, or with 1 if that is refunded.

JSON of a failure:
  exit_code, kind, error     always; kind is Usage, NoSecret, Interrupted, Stdout or an ErrorKind of
                             the library, and error is the line on stderr
  billing                    of create and call: NotBilled, Refunded, Billed or Unknown
  agent_id, idempotency_key  where known
  http_status, code, agent   where the service said it; agent is its last status
  look, retry, resume        what to do, as on stderr: a command, or the same one again
status prints the agent, and adds the first three where that failed or was deleted.";

/// Returns the exit code of an error. `creates` is whether the command creates an agent.
///
/// The order matters: what may have been billed comes first, because a script that takes it for
/// anything else pays twice.
pub fn code(kind: ErrorKind, billing: Billing, creates: bool) -> u8 {
    use ErrorKind::*;
    match (kind, billing) {
        // Of an agent that the service does not know, nobody knows whether it was billed.
        (NotFound, Billing::Unknown) if !creates => NO_AGENT,
        (_, Billing::Unknown) => PERHAPS_BILLED,
        (ShutDown, _) => INTERRUPTED,
        // Whatever it is, to create another agent is the wrong thing to do.
        (_, Billing::Billed) if creates => UNFINISHED,
        (GenerationFailed, _) => FAILED,
        // It names no agent: what the service does not know is the URL.
        (NotFound, _) if creates => FAILED,
        (NotFound, _) => NO_AGENT,
        (WaitTimedOut, _) if creates => UNAVAILABLE,
        (WaitTimedOut, _) => UNFINISHED,
        (Unauthorized | PlanLimit | InsufficientBalance, _) => ACCOUNT,
        (InvalidInput | Receipt | File, _) => USAGE,
        (Rejected, _) => FAILED,
        _ => UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Billing::*;
    use ErrorKind::*;

    #[test]
    fn a_command_that_creates_an_agent_ends_by_what_was_billed() {
        // Not billed, billed, unknown.
        for (kind, codes) in [
            (InvalidInput, [2, 75, 3]),
            (Receipt, [2, 75, 3]),
            (File, [2, 75, 3]),
            (Unauthorized, [77, 75, 3]),
            (PlanLimit, [77, 75, 3]),
            (InsufficientBalance, [77, 75, 3]),
            (NotFound, [1, 75, 3]),
            (Rejected, [1, 75, 3]),
            (RateLimited, [69, 75, 3]),
            (Service, [69, 75, 3]),
            (Network, [69, 75, 3]),
            (Tls, [69, 75, 3]),
            (Timeout, [69, 75, 3]),
            (UnexpectedResponse, [69, 75, 3]),
            (WaitTimedOut, [69, 75, 3]),
            (ShutDown, [130, 130, 3]),
            (GenerationFailed, [1, 75, 3]),
        ] {
            let all = [NotBilled, Billed, Unknown].map(|billing| code(kind, billing, true));
            assert_eq!(all, codes, "{kind:?}");
        }
        assert_eq!(code(GenerationFailed, Refunded, true), 1);
    }

    #[test]
    fn a_free_command_ends_by_what_went_wrong() {
        // The agent of a wait was billed when it was created.
        for (kind, billing, expected) in [
            (InvalidInput, NotBilled, 2),
            (File, Billed, 2),
            (Unauthorized, Billed, 77),
            (PlanLimit, Billed, 77),
            (InsufficientBalance, Billed, 77),
            (NotFound, Unknown, 66),
            (NotFound, Billed, 66),
            (Rejected, Billed, 1),
            (RateLimited, Billed, 69),
            (Service, Billed, 69),
            (Network, Billed, 69),
            (Tls, Billed, 69),
            (Timeout, Billed, 69),
            (UnexpectedResponse, Billed, 69),
            (GenerationFailed, Refunded, 1),
            (WaitTimedOut, Billed, 75),
            (ShutDown, Billed, 130),
            // Of a call, which may be a POST that is billed.
            (Service, Unknown, 3),
            (ShutDown, Unknown, 3),
        ] {
            assert_eq!(
                code(kind, billing, false),
                expected,
                "{kind:?}, {billing:?}"
            );
        }
    }
}
