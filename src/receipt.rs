use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::agent::{Agent, Status};
use crate::api::{Api, Shared};
use crate::error::{Error, ErrorKind, Result};
use crate::fingerprint::fingerprints;
use crate::generate::{GenerateRequest, Generation, Key, check_key};
use crate::retry;
use crate::wait::{Wait, Watch};

/// The format of the receipts this version writes, and the newest it reads.
const FORMAT: u64 = 1;

/// No receipt is longer: it holds two answers of a MiB, whose numbers may take four times as much here.
const LONGEST: u64 = 8 * 1024 * 1024;

/// A key without an agent may be another process still at it, for so long and for as long as the
/// upload takes at a MiB a second. After that, a crash is what it looks like.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often to look whether the other process has got further.
const LOOK: Duration = Duration::from_millis(200);

const TOO_OLD: &str = "the service may no longer know a key that is older than 23 h";

impl Api {
    /// [`generate`](Api::generate), **billed once** however often it is called and whatever crashes in
    /// between: the receipt, a small JSON file, remembers it.
    ///
    /// The receipt is on disk before the first byte is sent, with the base URL, the idempotency key, the
    /// time, and a fingerprint of each field of the request (no security hash), but neither the secret
    /// nor the media. Then:
    ///
    /// - A later call with the same request returns what the receipt says, with
    ///   [`replayed`](Generation::replayed) set, and sends nothing. Media are read to compare them,
    ///   which no deadline or [`shutdown`](Api::shutdown) cuts short.
    /// - Another request, base URL, key of the caller's or content of a medium is refused.
    /// - A receipt without an agent is a call that has crashed, or still runs: it is waited for, 10 s and
    ///   as long as the upload takes at 1 MiB/s. Then the same is sent with the same key, if the service
    ///   [honours keys](crate::ApiBuilder::idempotency_honored) and the key is younger than 23 h by a
    ///   clock that was not set back; if not, the outcome is unknown, and nothing is sent.
    /// - A generate that was certainly not taken leaves no receipt; one whose generation is known to have
    ///   failed, from [`ensure_agent`](Api::ensure_agent), is replaced, **which is billed**.
    ///
    /// Delete the receipt to pay for another agent. It knows nothing of accounts: a crash is mended with
    /// the secret of the next call. Beside it there may be files of its name with another ending while a
    /// call runs, and after a crash, when the next call may take 10 s longer.
    ///
    /// ```no_run
    /// use bithuman::{Api, GenerateRequest};
    ///
    /// let request = GenerateRequest::new().prompt("You are a friendly assistant.");
    /// let started = Api::from_env()?.generate_once("agent.json", &request)?;
    /// println!("{}", started.agent_id);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Receipt`](ErrorKind::Receipt) for a receipt that cannot be read or written, is of a newer version
    /// of this crate or for another request, or has a key whose
    /// [outcome is unknown](Error::outcome_unknown): with nothing sent, unless the error carries an
    /// [agent id](Error::agent_id), which the receipt then lacks. Otherwise as [`generate`](Api::generate).
    pub fn generate_once(&self, receipt: impl AsRef<Path>, request: &GenerateRequest) -> Result<Generation> {
        Ok(Store::new(self, receipt.as_ref()).obtain(request, None)?.1)
    }

    /// [`generate_once`](Api::generate_once) and [`wait`](Api::wait), with one deadline over both: the
    /// agent of this receipt, made, **and billed, once**. For programs that run again and again, such
    /// as build scripts.
    ///
    /// How the wait ended is in the receipt too. Once the agent is ready the call returns it from there,
    /// with no network and whatever the secret; its URLs may expire, and [`status`](Api::status) with its
    /// id then tells the new ones. Once the generation has failed, which this call reports, the next one
    /// **pays anew**, with a new key. After any other error that carries an [agent id](Error::agent_id) the
    /// next call goes on waiting.
    ///
    /// ```no_run
    /// use bithuman::{Api, GenerateRequest, Wait};
    ///
    /// let request = GenerateRequest::new().prompt("You are a friendly assistant.");
    /// let agent = Api::from_env()?.ensure_agent("agent.json", &request, &Wait::new())?;
    /// println!("{:?}", agent.model_url);
    /// # Ok::<(), bithuman::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`generate_once`](Api::generate_once) and [`wait`](Api::wait). A `Receipt` error with
    /// [`last_seen`](Error::last_seen) could not record that agent.
    pub fn ensure_agent(&self, receipt: impl AsRef<Path>, request: &GenerateRequest, wait: &Wait) -> Result<Agent> {
        wait.check().map_err(|error| error.with(|e| e.call = "ensure_agent"))?;
        let deadline = self.shared.clock.now().saturating_add(wait.timeout);
        let store = Store::new(self, receipt.as_ref());
        let (receipt, started) = store.obtain(request, Some(deadline)).map_err(|error| wait.ran_out(error))?;
        if let Some(agent) = receipt.agent.as_ref().filter(|agent| agent.is_ready()) {
            return Ok(agent.clone());
        }
        let first = if started.replayed { Duration::ZERO } else { wait.interval };
        let ended = Watch::new(self, &started.agent_id, wait, deadline, first).finish();
        let seen = ended.as_ref().map_or_else(Error::last_seen, Some);
        let recorded =
            seen.map(|agent| store.swap(&receipt, Some(&Receipt { agent: Some(agent.clone()), ..receipt.clone() })));
        let told = |error: Error| error.with(|e| e.idempotency_key = Some(started.idempotency_key.clone()));
        match (ended, recorded) {
            (Ok(agent), Some(Err(error))) => Err(told(error).with(|e| {
                e.agent_id = Some(started.agent_id.clone());
                e.last_seen = Some(agent);
            })),
            (Ok(agent), _) => Ok(agent),
            (Err(error), recorded) => Err(told(error).with(|e| {
                if e.kind == ErrorKind::GenerationFailed && matches!(recorded, Some(Ok(true))) {
                    e.advice = Some(match request.own_key() {
                        Some(_) => "choose another idempotency key to pay for another try",
                        None => "the same call again pays for another try",
                    });
                }
            })),
        }
    }
}

/// What is known of one generate, as it is on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Receipt {
    format: u64,
    base_url: String,
    idempotency_key: String,
    /// In Unix seconds.
    first_sent_unix: u64,
    /// How many calls have sent it, or were about to.
    calls: u32,
    /// The fingerprint of each field.
    request: BTreeMap<String, String>,
    /// The service's answer, once there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<Generation>,
    /// The agent when it was last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<Agent>,
}

/// What there is to do about a receipt that is there.
#[derive(Debug, PartialEq)]
enum Step {
    /// It tells all.
    Return(Generation),
    /// This has failed.
    Anew(Generation),
    /// Another process may be at it.
    Wait,
    /// A crash. The key is so old.
    Resend(Duration),
    /// A crash after which nothing can be done, for this reason.
    Unknown(&'static str),
    /// Not the receipt of this request.
    Refuse(String),
}

impl Receipt {
    fn parse(text: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(text).unwrap_or_default();
        let receipt = match value.get("format").and_then(Value::as_u64) {
            Some(FORMAT) => Receipt::deserialize(value).ok().filter(|r| check_key(&r.idempotency_key).is_ok()),
            Some(newer @ 2..) => {
                return Err(format!("is of format {newer}, which a later version of bithuman wrote: update bithuman"));
            }
            _ => None,
        };
        receipt.ok_or_else(|| {
            "is damaged, or no receipt: restore it; or look for the agent in the account, then delete it to pay for another".into()
        })
    }

    /// Only what can be read back: it may be the only trace of what is paid.
    fn to_text(&self) -> io::Result<Vec<u8>> {
        let fits = |text: &Vec<u8>| text.len() as u64 <= LONGEST;
        // There is no bound to what the indents of a small answer may take.
        let text = Some(serde_json::to_vec_pretty(self)?).filter(fits).map_or_else(|| serde_json::to_vec(self), Ok)?;
        let is_good = fits(&text) && Receipt::parse(&text).is_ok();
        is_good.then_some(text).ok_or_else(|| io::Error::other("the service's answer is too long or too deep"))
    }

    /// What to do for a call that would write `wanted` now. `own_key`: the caller chose its key.
    /// `patience`: how old a key may be another process's, if there is still time to wait for that.
    fn step(&self, wanted: &Receipt, own_key: bool, honored: bool, patience: Option<Duration>) -> Step {
        let same_key = self.idempotency_key == wanted.idempotency_key;
        let has_failed = self.agent.as_ref().is_some_and(Agent::is_failed);
        let mut differing = BTreeSet::new();
        let base_url = format!("base URL ({})", self.base_url);
        if self.base_url != wanted.base_url {
            differing.insert(base_url.as_str());
        }
        if own_key && !same_key && !has_failed {
            differing.insert("idempotency key");
        }
        let names = self.request.keys().chain(wanted.request.keys());
        differing.extend(names.filter(|name| self.request.get(*name) != wanted.request.get(*name)).map(String::as_str));
        if !differing.is_empty() {
            let differing = Vec::from_iter(differing).join(", ");
            let agent = self.agent_id().map(|id| format!(" (of agent {id})")).unwrap_or_default();
            return Step::Refuse(format!(
                "is the receipt of a request with another {differing}: set that again to go on with it, use another receipt, or delete this one{agent} to pay anew"
            ));
        }
        if let Some(generation) = &self.generation {
            return match has_failed {
                false => Step::Return(generation.clone()),
                true if own_key && same_key => Step::Refuse(
                    "tells that the generation with this idempotency key failed: choose another key to pay for another try".into(),
                ),
                true => Step::Anew(generation.clone()),
            };
        }
        let age = wanted.first_sent_unix.checked_sub(self.first_sent_unix).map(Duration::from_secs);
        if patience.is_some_and(|patience| age.is_none_or(|age| age < patience)) {
            return Step::Wait;
        }
        match age {
            None => Step::Unknown("the clock of this machine was set back"),
            Some(_) if !honored => Step::Unknown("the service is not known to honour idempotency keys"),
            Some(age) if retry::may_resend(true, honored, age) => Step::Resend(age),
            Some(_) => Step::Unknown(TOO_OLD),
        }
    }

    /// How far it is. A number with a fraction may not be quite the same once read back, so receipts
    /// are told apart by this.
    fn stage(&self) -> (&str, u32, Option<&str>, Option<&Status>) {
        let ended = self.agent.as_ref().filter(|agent| agent.is_finished());
        (&self.idempotency_key, self.calls, self.agent_id(), ended.map(|agent| &agent.status))
    }

    fn agent_id(&self) -> Option<&str> {
        self.generation.as_ref().map(|generation| generation.agent_id.as_str())
    }
}

/// Where a receipt is. It is only ever there whole, and changes only from what it was known to be.
struct Store<'a> {
    api: &'a Api,
    path: PathBuf,
    /// `fs::hard_link`, but for tests: not every file system has links.
    link: fn(&Path, &Path) -> io::Result<()>,
}

impl<'a> Store<'a> {
    fn new(api: &'a Api, path: &Path) -> Self {
        // To rename over a link would take its place.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        Store { api, path, link: |from, to| fs::hard_link(from, to) }
    }

    fn fail(&self, what: &str) -> Error {
        let what = format!("{} {what}", self.path.display());
        Error::new(ErrorKind::Receipt, what).with(|e| e.call = "receipt")
    }

    fn cannot(&self, what: &str, error: io::Error) -> Error {
        self.fail(what).with(|e| e.source = Some(error.into()))
    }

    /// An outcome that nobody knows, for this reason.
    fn unknown(&self, why: &str, key: String) -> Error {
        let what = format!("has a key and no agent: a call got no answer, crashed, or still runs, and {why}");
        self.fail(&what).with(|e| {
            (e.idempotency_key, e.receipt) = (Some(key), Some(self.path.clone()));
            (e.outcome_unknown, e.repeat_is_safe) = (true, false);
        })
    }

    /// A receipt with its generation: as found, or after sending.
    fn obtain(&self, request: &GenerateRequest, deadline: Option<Duration>) -> Result<(Receipt, Generation)> {
        let Shared { transport, clock, idempotency_honored: honored, .. } = &*self.api.shared;
        let (key, mut body) = self.api.prepare(request)?;
        let prints = fingerprints(request.fields(), &mut body).map_err(|error| error.with(|e| e.call = "generate"))?;
        let patience = PATIENCE + Duration::from_secs(body.len() / (1024 * 1024));
        let mut waited = Duration::ZERO;
        // The key whose failure this call is to make good.
        let mut failed = None;
        let (receipt, sent_before) = loop {
            self.check_running()?;
            let since = self.api.age();
            let wanted = Receipt {
                format: FORMAT,
                base_url: transport.base_url().into(),
                idempotency_key: key.clone(),
                first_sent_unix: clock.wall_time().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
                calls: 1,
                request: prints.clone(),
                generation: None,
                agent: None,
            };
            let may_wait = Some(patience).filter(|patience| waited < *patience);
            let found = self.read(&self.path)?;
            let step = match &found {
                Some(found) => found.step(&wanted, request.own_key().is_some(), *honored, may_wait),
                None if self.place(&wanted, &self.path)? => break (wanted, None),
                None if may_wait.is_none() => return Err(self.fail("cannot be made: something else is there")),
                None => Step::Wait,
            };
            let replayed = |generation| Generation { replayed: true, ..generation };
            if let (Step::Resend(_) | Step::Unknown(_), Some(found)) = (&step, &found) {
                if let Some(generation) = self.left_by_crash(&found.idempotency_key) {
                    return Ok((self.record(found, &generation)?, replayed(generation)));
                }
            }
            match (step, found) {
                (Step::Return(generation), Some(found)) => return Ok((found, replayed(generation))),
                (Step::Resend(age), Some(found)) => {
                    // Marked: a call that is refused now must not take the receipt away from this one.
                    // And a receipt that cannot be written is to be known before sending, not after.
                    let marked = Receipt { calls: found.calls.saturating_add(1), ..found.clone() };
                    if self.swap(&found, Some(&marked))? {
                        let age = age.saturating_add(since());
                        if !retry::may_resend(true, *honored, age) {
                            return Err(self.unknown(TOO_OLD, found.idempotency_key));
                        }
                        break (marked, Some(age));
                    }
                }
                (Step::Anew(generation), Some(found)) => {
                    if *failed.get_or_insert_with(|| found.idempotency_key.clone()) != found.idempotency_key {
                        // Another call has begun anew meanwhile, and that failed too: to be told, not paid for.
                        return Ok((found, replayed(generation)));
                    }
                    if self.swap(&found, Some(&wanted))? {
                        break (wanted, None);
                    }
                }
                (Step::Refuse(what), _) => return Err(self.fail(&what)),
                (Step::Unknown(why), Some(found)) => return Err(self.unknown(why, found.idempotency_key)),
                _ if deadline.is_some_and(|deadline| deadline <= clock.now()) => {
                    let what = "is being written by another process, or by one that crashed: call again later";
                    return Err(self.fail(what).with(|e| e.kind = ErrorKind::WaitTimedOut));
                }
                _ => {
                    clock.sleep(LOOK);
                    waited += LOOK;
                }
            }
        };

        let key = Key { text: receipt.idempotency_key.clone(), is_kept: true, sent_before };
        match self.api.submit(&key, &mut body, deadline) {
            Ok(generation) => Ok((self.record(&receipt, &generation)?, generation)),
            Err(error) if error.outcome_unknown() => Err(error.with(|e| e.receipt = Some(self.path.clone()))),
            // Nothing was taken, so there is nothing to remember.
            Err(error) => Err(match self.swap(&receipt, None) {
                Ok(_) => error,
                Err(_) => error.with(|e| e.what += &format!("; delete the receipt {}", self.path.display())),
            }),
        }
    }

    /// What is paid for must be found again.
    fn record(&self, receipt: &Receipt, generation: &Generation) -> Result<Receipt> {
        let paid = |found: &Receipt| Receipt { generation: Some(generation.clone()), ..found.clone() };
        let recorded = || loop {
            match self.read(&self.path)? {
                // Another process has sent the same key and was quicker, or refused.
                Some(found) if found.agent_id() == Some(&generation.agent_id) => return Ok(found),
                None if self.place(&paid(receipt), &self.path)? => return Ok(paid(receipt)),
                Some(found) if found.agent_id().is_none() && found.idempotency_key == receipt.idempotency_key => {
                    if self.swap(&found, Some(&paid(&found)))? {
                        return Ok(paid(&found));
                    }
                }
                _ => return Err(self.fail("was changed meanwhile")),
            }
        };
        recorded().map_err(|error| {
            error.with(|e| {
                e.what += "; the service has taken the request, and the receipt does not tell its agent";
                e.agent_id = Some(generation.agent_id.clone());
                e.idempotency_key = Some(generation.idempotency_key.clone());
            })
        })
    }

    /// The answer to this key, if a call crashed while it was on its way into the receipt.
    fn left_by_crash(&self, key: &str) -> Option<Generation> {
        let left = self.read(&self.claim()).ok().flatten();
        left.filter(|left| left.idempotency_key == key)?.generation
    }

    fn check_running(&self) -> Result<()> {
        match self.api.shared.transport.is_stopped() {
            true => Err(Error::new(ErrorKind::ShutDown, "shut down").with(|e| e.call = "receipt")),
            false => Ok(()),
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Receipt>> {
        let mut text = Vec::new();
        // Asked before opening: to open a FIFO waits for its writer.
        let read = fs::metadata(path).and_then(|kind| match kind.is_file() {
            true => File::open(path)?.take(LONGEST).read_to_end(&mut text),
            false => Err(io::Error::other("not a regular file")),
        });
        match read {
            Ok(_) => Receipt::parse(&text).map(Some).map_err(|what| self.fail(&what)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.cannot("cannot be read", error)),
        }
    }

    /// Puts a receipt where nothing is, durably: of two processes only one does.
    fn place(&self, receipt: &Receipt, path: &Path) -> Result<bool> {
        let cannot = |error| self.cannot("cannot be written", error);
        let text = receipt.to_text().map_err(cannot)?;
        let aside = self.beside(&format!("{:016x}", retry::random()));
        let placed = write_new(&aside, &text).and_then(|()| match (self.link)(&aside, path) {
            // There are no links. What others read there must be whole, so it is renamed into place.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists && path != self.path => write_new(path, &text),
            linked => linked,
        });
        let _ = fs::remove_file(&aside);
        match placed.and_then(|()| self.sync().inspect_err(|_| drop(fs::remove_file(path)))) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(_) if path == self.path => self.swap(None, Some(receipt)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(self.cannot("cannot be written: is there such a folder?", error))
            }
            Err(error) => Err(cannot(error)),
        }
    }

    /// Makes, replaces or removes the receipt if it still is what it was, and tells whether it did.
    ///
    /// The replacement waits under a name that only one process can take, so that nothing changes
    /// between the look and the rename. One that crashed leaves it there.
    fn swap<'r>(&self, was: impl Into<Option<&'r Receipt>>, next: Option<&'r Receipt>) -> Result<bool> {
        let was = was.into();
        let Some(content) = next.or(was) else { return Ok(true) };
        let clock = &self.api.shared.clock;
        let claim = self.claim();
        let (mut waited, mut holder) = (Duration::ZERO, None);
        loop {
            let made = fs::symlink_metadata(&claim).ok().map(|claim| claim.modified().ok());
            if made.is_none() && self.place(content, &claim)? {
                break;
            }
            if made != holder {
                (waited, holder) = (Duration::ZERO, made);
            } else if waited >= PATIENCE {
                match fs::remove_file(&claim) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(self.cannot("cannot be replaced: delete the file of its name and .new", error));
                    }
                    _ => continue,
                }
            }
            self.check_running()?;
            clock.sleep(LOOK);
            waited += LOOK;
        }
        let is_now = |what: Option<&Receipt>| {
            Ok(self.read(&self.path)?.as_ref().map(Receipt::stage) == what.map(Receipt::stage))
        };
        if !is_now(was).unwrap_or(false) {
            let _ = fs::remove_file(&claim);
            return Ok(false);
        }
        let swapped = match next {
            Some(_) => fs::rename(&claim, &self.path),
            None => fs::remove_file(&self.path).and_then(|()| fs::remove_file(&claim)),
        };
        match swapped {
            // Who was taken for crashed may have lost the claim to another, or moved that one's.
            Ok(()) if !is_now(next)? => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            swapped => match swapped.and_then(|()| self.sync()) {
                Ok(()) => Ok(true),
                Err(error) => Err(self.cannot("cannot be replaced", error)),
            },
        }
    }

    /// Where a change waits: who can make this file may change the receipt.
    fn claim(&self) -> PathBuf {
        self.beside("new")
    }

    /// A file in the same folder, whose name is the receipt's and this ending.
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{ending}"));
        name.into()
    }

    /// Makes the folder's names durable. Not every system can: what it says of that is no trouble.
    fn sync(&self) -> io::Result<()> {
        use io::ErrorKind::{InvalidInput, Unsupported};
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        match File::open(folder).and_then(|folder| folder.sync_all()) {
            Err(error) if cfg!(unix) && !matches!(error.kind(), InvalidInput | Unsupported) => Err(error),
            _ => Ok(()),
        }
    }
}

/// Writes a file that is not there yet, whole or not at all, and has it on the disk.
fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    let written = file.write_all(text).and_then(|()| file.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(path);
    }
    written
}

#[cfg(test)]
#[path = "../tests/unit/receipt.rs"]
mod tests;
