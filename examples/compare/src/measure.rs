//! Time and memory of a process, seen from outside: the programs measured know nothing of it.

use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// What one run of a process took.
#[derive(Clone, Copy)]
pub struct Run {
    pub seconds: f64,
    /// The most memory that was resident, in bytes, with its children.
    pub peak: f64,
    /// The most of its own: not the pages of files, such as its code.
    pub private: f64,
}

/// Runs a process to its end, and gives what it took and what it printed.
pub fn run(command: &mut Command) -> Result<(Run, String)> {
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command
            .env_remove(name)
            .env_remove(name.to_ascii_uppercase());
    }
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (mut peak, mut private) = (0.0_f64, 0.0_f64);
    let status = loop {
        let seen = memory(child.id());
        (peak, private) = (peak.max(seen.0), private.max(seen.1));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let seconds = start.elapsed().as_secs_f64();
    let (printed, complaint) = output(child)?;
    if !status.success() {
        return Err(format!("{command:?}: {status}: {complaint}").into());
    }
    if peak == 0.0 {
        return Err(format!("{command:?}: no /proc/{{pid}}/status to read the memory from").into());
    }
    Ok((
        Run {
            seconds,
            peak,
            private,
        },
        printed,
    ))
}

/// What a process printed, and what it said of errors: a few lines, which the pipes hold.
fn output(mut child: Child) -> Result<(String, String)> {
    let (mut printed, mut complaint) = (String::new(), String::new());
    child
        .stdout
        .take()
        .map(|mut pipe| pipe.read_to_string(&mut printed))
        .transpose()?;
    child
        .stderr
        .take()
        .map(|mut pipe| pipe.read_to_string(&mut complaint))
        .transpose()?;
    Ok((printed, complaint))
}

/// The high-water marks of a process and its children, and what is resident of their own, in bytes; none of
/// one that has ended.
fn memory(pid: u32) -> (f64, f64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let bytes = |name: &str| {
        let kib = status.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_suffix("kB")?
                .trim()
                .parse()
                .ok()
        });
        kib.map_or(0.0, |kib: f64| kib * 1024.0)
    };
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let of_children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(memory);
    of_children.fold((bytes("VmHWM:"), bytes("RssAnon:")), |sum, child| {
        (sum.0 + child.0, sum.1 + child.1)
    })
}

/// The least of several times: the one that the rest of the machine disturbed least.
pub fn least(times: impl IntoIterator<Item = f64>) -> Option<f64> {
    times.into_iter().min_by(f64::total_cmp)
}

/// The most of several peaks.
pub fn most(peaks: impl IntoIterator<Item = f64>) -> Option<f64> {
    peaks.into_iter().max_by(f64::total_cmp)
}
