//! Time and memory of a process.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// What one run of a process took.
#[derive(Clone, Copy)]
pub struct Run {
    pub seconds: f64,
    /// The most memory that was resident, in bytes.
    pub peak: f64,
}

/// Runs a way and, at its end, tells whoever measures it what [`run`] is to know.
pub fn tell_peak(way: impl FnOnce() -> Result<()>) -> Result<bool> {
    way()?;
    eprintln!("{}", peak("self").ok_or("no /proc/self/status to read the memory from")?);
    Ok(true)
}

/// Runs a process to its end. One of ours tells its peak itself; a foreign one is looked at every
/// millisecond.
pub fn run(command: &mut Command, foreign: bool) -> Result<Run> {
    let start = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut seen = None;
    let status = loop {
        if foreign {
            seen = peak(&child.id().to_string()).or(seen);
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let seconds = start.elapsed().as_secs_f64();
    let mut told = String::new();
    child.stderr.take().map(|mut pipe| pipe.read_to_string(&mut told)).transpose()?;
    let peak = seen.or_else(|| told.trim().parse().ok()).filter(|_| status.success());
    Ok(Run { seconds, peak: peak.ok_or_else(|| format!("{command:?}: {status}: {told}"))? })
}

/// The high-water mark of a process, in bytes.
fn peak(pid: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib: f64 =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB"))?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// The medians of several runs.
pub fn median(runs: &[Run]) -> Run {
    let middle = |value: fn(&Run) -> f64| {
        let mut values: Vec<_> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
    };
    Run { seconds: middle(|run| run.seconds), peak: middle(|run| run.peak) }
}
