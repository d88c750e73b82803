//! Instructions, counted by valgrind: they are the same whatever else the machine does.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::Result;
use crate::clients::{self, Client};
use crate::job::Job;
use crate::media::{Folder, KIB, MediaFile};
use crate::report::first_line;
use crate::service::Service;

/// The polls of a short job and of a long one.
const POLLS: [u64; 2] = [100, 600];

/// What `callgrind_annotate` calls the sum of all.
const TOTAL: &str = "PROGRAM TOTALS";

pub fn is_installed() -> bool {
    first_line(Command::new("valgrind").arg("--version")).is_some()
}

/// How many instructions a poll more takes, with the host by its address and by its name.
pub fn per_poll(
    service: &Service,
    folder: &Folder,
    media: &MediaFile,
    client: &Client,
) -> Result<[f64; 2]> {
    let mut both = [0.0; 2];
    for (per_poll, host) in both.iter_mut().zip(["127.0.0.1", "localhost"]) {
        let words =
            |base_url: &str| client.words(&base_url.replace("127.0.0.1", host), &media.path);
        let mut totals = [0.0; 2];
        for (total, out) in totals.iter_mut().zip(count(service, folder, media, words)?) {
            *total = read_total(&out)?;
        }
        *per_poll = slope(totals);
    }
    Ok(both)
}

fn read_total(out: &Path) -> Result<f64> {
    let text = fs::read_to_string(out)?;
    let line = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals: "));
    let line = line.ok_or_else(|| format!("no totals in {}", out.display()))?;
    Ok(line.trim().parse()?)
}

fn slope([short, long]: [f64; 2]) -> f64 {
    (long - short) / (POLLS[1] - POLLS[0]) as f64
}

/// Runs a short and a long job, and gives the files with what was counted.
fn count(
    service: &Service,
    folder: &Folder,
    media: &MediaFile,
    words: impl Fn(&str) -> Vec<OsString>,
) -> Result<[PathBuf; 2]> {
    let outs = POLLS.map(|polls| folder.path(&format!("callgrind.{polls}")));
    for (polls, out) in POLLS.into_iter().zip(&outs) {
        let mut file = OsString::from("--callgrind-out-file=");
        file.push(out);
        let valgrind = [
            "valgrind".into(),
            "--quiet".into(),
            "--tool=callgrind".into(),
            file,
        ];
        Job {
            service,
            media,
            polls,
        }
        .run_under(&valgrind, &words(&service.base_url(polls)))?;
    }
    Ok(outs)
}

/// Prints which functions the instructions of a poll are in, and which they are for.
pub fn profile(client: &str) -> Result<ExitCode> {
    let (service, folder) = (Service::start()?, Folder::new()?);
    let media = folder.media(64 * KIB)?;
    let program = clients::with_names(client)?;
    let words = |base_url: &str| {
        vec![
            program.clone().into(),
            base_url.into(),
            media.path.clone().into(),
            "1".into(),
        ]
    };
    let outs = count(&service, &folder, &media, words)?;

    for (title, inclusive, most) in [
        ("in the function itself", false, 60),
        ("with what it calls", true, 100),
    ] {
        let [short, long] = [costs(&outs[0], inclusive)?, costs(&outs[1], inclusive)?];
        let cost = |name: &str| {
            slope([&short, &long].map(|costs| costs.get(name).copied().unwrap_or_default()))
        };
        let total = cost(TOTAL);
        println!("{client}: {total:.0} instructions a poll, {title}:\n");
        // callgrind takes a thread's start for a recursion, and counts more than there is.
        let mut rows: Vec<_> = long
            .keys()
            .filter(|name| *name != TOTAL)
            .map(|name| (cost(name), name))
            .collect();
        rows.retain(|(cost, _)| *cost <= total);
        rows.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        for (cost, name) in rows.into_iter().take(most) {
            println!("{cost:9.0}  {}", name.chars().take(140).collect::<String>());
        }
        println!();
    }
    Ok(ExitCode::SUCCESS)
}

/// What `callgrind_annotate` says of each function.
fn costs(out: &Path, inclusive: bool) -> Result<HashMap<String, f64>> {
    let option = if inclusive {
        "--inclusive=yes"
    } else {
        "--inclusive=no"
    };
    let mut annotate = Command::new("callgrind_annotate");
    let output = annotate
        .args(["--auto=no", "--threshold=100"])
        .arg(option)
        .arg(out)
        .output()?;
    if !output.status.success() {
        return Err(format!("{annotate:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let mut costs = HashMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        // 13,897,383 (10.97%)  ./malloc/malloc.c:_int_free [/usr/lib/libc.so.6]
        let Some((cost, place)) = line
            .split_once(" (")
            .and_then(|(cost, rest)| Some((cost, rest.split_once(")  ")?.1)))
        else {
            continue;
        };
        let Ok(cost) = cost.trim().replace(',', "").parse::<f64>() else {
            continue;
        };
        let (_, name) = place.split_once(':').unwrap_or(("", place));
        let name = name.rsplit_once(" [/").map_or(name, |(name, _)| name);
        // A function has a line for each file that code of it comes from. What it calls is in one of them.
        let sum: &mut f64 = costs.entry(name.into()).or_default();
        *sum = if inclusive {
            sum.max(cost)
        } else {
            *sum + cost
        };
    }
    Ok(costs)
}
