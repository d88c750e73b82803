//! Every client side by side, in one table, and what it has to show.

use crate::Result;
use crate::callgrind;
use crate::clients::{Client, Package};
use crate::job::Job;
use crate::measure::median;
use crate::media::{Folder, KIB, MIB, Medium};
use crate::report::{Targets, setting};
use crate::service::Service;

pub struct Options {
    pub rounds: usize,
    /// Measure cold builds too.
    pub build: bool,
    pub callgrind: bool,
}

/// A job for the time and memory of polls; the memory is that of this many.
const SHORT: u64 = 100;
/// The polls of a job whose connections are counted.
const USUAL: u64 = 60;

/// What is sent.
struct Media {
    /// So small that the memory is that of the polls.
    small: Medium,
    /// Large enough for the library to ask before it sends it, which costs a connection.
    large: Medium,
    huge: Medium,
}

/// What one round took of a client.
struct Round {
    cpu_per_poll: f64,
    instructions: Option<f64>,
    peak: f64,
    private: f64,
    upload_speed: f64,
    upload_peak: f64,
    connections: f64,
    connections_large: f64,
}

/// A client and what was measured of it: medians.
struct Row {
    client: Client,
    rounds: Vec<Round>,
    cold_build: Option<f64>,
}

/// A figure of a client; none where it has none.
type Figure = fn(&Row) -> Option<f64>;

const CRATES: Figure = |row| row.package(|package| package.crates as f64);
const SIZE: Figure = |row| row.package(|package| package.size / 1e6);
const SMALL: Figure = |row| row.package(|package| package.small / 1e6);
const CPU: Figure = |row| row.median(|round| Some(round.cpu_per_poll));
const INSTRUCTIONS: Figure = |row| row.median(|round| round.instructions);
const PEAK: Figure = |row| row.median(|round| Some(round.peak / MIB as f64));
const PRIVATE: Figure = |row| row.median(|round| Some(round.private / MIB as f64));
const SPEED: Figure = |row| row.median(|round| Some(round.upload_speed));
const UPLOAD_PEAK: Figure = |row| row.median(|round| Some(round.upload_peak / MIB as f64));
const CONNECTIONS: Figure = |row| row.median(|round| Some(round.connections));
const CONNECTIONS_LARGE: Figure = |row| row.median(|round| Some(round.connections_large));
const COLD_BUILD: Figure = |row| row.cold_build;

/// What it is called, how many digits it has after the point, its unit.
const COLUMNS: [(&str, usize, &str, Figure); 12] = [
    ("crates", 0, "", CRATES),
    ("size", 2, " MB", SIZE),
    ("size, `small`", 2, " MB", SMALL),
    ("CPU a poll", 0, " µs", CPU),
    ("instructions a poll", 0, "", INSTRUCTIONS),
    ("peak, 100 polls", 1, " MiB", PEAK),
    ("of it private", 2, " MiB", PRIVATE),
    ("upload", 0, " MB/s", SPEED),
    ("its peak", 1, " MiB", UPLOAD_PEAK),
    ("connections", 0, "", CONNECTIONS),
    ("large medium", 0, "", CONNECTIONS_LARGE),
    ("cold build", 0, " s", COLD_BUILD),
];

impl Row {
    fn package(&self, figure: fn(&Package) -> f64) -> Option<f64> {
        self.client.rust.as_ref().map(figure)
    }

    fn median(&self, figure: fn(&Round) -> Option<f64>) -> Option<f64> {
        median(self.rounds.iter().filter_map(figure))
    }
}

/// Runs them all in turn, prints a table, and tells whether the targets are reached.
pub fn compare(options: &Options) -> Result<bool> {
    let callgrind = options.callgrind && callgrind::is_installed();
    eprintln!("building the clients");
    let mut rows: Vec<_> = Client::all()?
        .into_iter()
        .map(|client| Row {
            client,
            rounds: vec![],
            cold_build: None,
        })
        .collect();
    if options.build {
        for row in &mut rows {
            let Some(package) = &row.client.rust else {
                continue;
            };
            eprintln!("building again, from nothing: {}", row.client.name);
            row.cold_build = Some(package.cold_build()?);
        }
    }
    let (service, folder) = (Service::start()?, Folder::new()?);
    let media = Media {
        small: folder.medium(64 * KIB)?,
        large: folder.medium(2 * MIB)?,
        huge: folder.medium(256 * MIB)?,
    };
    for n in 1..=options.rounds {
        for row in &mut rows {
            eprintln!("round {n} of {}: {}", options.rounds, row.client.name);
            let round = round(&service, &folder, &media, &row.client, callgrind)?;
            row.rounds.push(round);
        }
    }
    print_table(&rows);
    print_notes(&rows, options.rounds);
    Ok(check(&rows))
}

fn round(
    service: &Service,
    folder: &Folder,
    media: &Media,
    client: &Client,
    callgrind: bool,
) -> Result<Round> {
    let run = |medium, polls| {
        Job {
            service,
            medium,
            polls,
        }
        .run(client)
    };
    let short = run(&media.small, SHORT)?;
    let long = run(&media.small, client.long)?;
    let instructions = (callgrind && client.rust.is_some())
        .then(|| {
            let words = |base_url: &str| client.words(base_url, &media.small.path);
            callgrind::per_poll(service, folder, &media.small, words)
        })
        .transpose()?;
    let upload = run(&media.huge, 1)?.run;
    Ok(Round {
        cpu_per_poll: (long.run.cpu_micros - short.run.cpu_micros) / (client.long - SHORT) as f64,
        instructions,
        peak: short.run.peak,
        private: short.run.private,
        upload_speed: media.huge.len as f64 / 1e6 / upload.seconds,
        upload_peak: upload.peak,
        connections: run(&media.small, USUAL)?.connections,
        connections_large: run(&media.large, USUAL)?.connections,
    })
}

fn print_table(rows: &[Row]) {
    // A column that nobody measured is none.
    let columns: Vec<_> = COLUMNS
        .iter()
        .filter(|(.., figure)| rows.iter().any(|row| figure(row).is_some()))
        .collect();
    let titles: String = columns
        .iter()
        .map(|(title, ..)| format!(" {title} |"))
        .collect();
    println!("| client |{titles}");
    println!("|---|{}", "--:|".repeat(columns.len()));
    for row in rows {
        let cells: String = columns
            .iter()
            .map(
                |(_, digits, unit, figure)| match (figure(row), figure(&rows[0])) {
                    (Some(value), Some(ours)) => {
                        format!(" {value:.digits$}{unit} ({:.2}) |", value / ours)
                    }
                    _ => " - |".into(),
                },
            )
            .collect();
        println!("| {} |{cells}", row.client.name);
    }
}

fn print_notes(rows: &[Row], rounds: usize) {
    let versions: Vec<_> = rows.iter().map(|row| &*row.client.version).collect();
    println!("\n{}; {}.", setting(), versions.join(", "));
    println!(
        "Rounds: {rounds}; the figures are their medians, those in parentheses the ratio to ours. A job is a generate \
         with a medium, and polls a millisecond apart, of which ours reads all the service says and the others in \
         Rust four fields, typed. crates: in the tree, the client itself aside. size: stripped; `small` is the \
         profile for small hosts. CPU, instructions: what one more poll takes, start-up aside. peak: most memory \
         resident; the pages of files, such as the program's code, are not private. upload: a medium of 256 MiB. \
         connections: for a generate and 60 polls, with a medium of 64 KiB and with a large one of 2 MiB. cold \
         build: one, with everything fetched, in an empty folder.\n"
    );
}

/// Tells of each target whether it is reached.
fn check(rows: &[Row]) -> bool {
    let (ours, bare, peers) = (&rows[0], &rows[1], &rows[2..]);
    let mut targets = Targets::new();

    for (what, figure, most, why) in [
        (
            "instructions a poll",
            INSTRUCTIONS,
            1.10,
            "without callgrind",
        ),
        ("stripped size", SIZE, 1.05, ""),
        ("size in the profile `small`", SMALL, 1.05, ""),
    ] {
        let what = format!("{what} at most {most:.2} of bare ureq");
        match (figure(ours), figure(bare)) {
            (Some(ours), Some(bare)) => {
                let value = format!("{ours:.2} to {bare:.2}, {:.3}", ours / bare);
                targets.check(&what, &value, ours / bare <= most);
            }
            _ => targets.skip(&what, why),
        }
    }

    let connections = CONNECTIONS(ours)
        .into_iter()
        .chain(CONNECTIONS_LARGE(ours))
        .fold(0.0, f64::max);
    targets.check(
        "at most 2 connections a job",
        &format!("{connections}"),
        connections <= 2.0,
    );

    // Nobody does with less than one connection: there it is enough that nobody has fewer.
    for (what, figure, ahead) in [
        (
            "smaller than every other peer",
            SIZE,
            f64::lt as fn(&f64, &f64) -> bool,
        ),
        (
            "less memory for 100 polls than every other peer",
            PEAK,
            f64::lt,
        ),
        ("a faster upload than every other peer", SPEED, f64::gt),
        (
            "less memory for an upload than every other peer",
            UPLOAD_PEAK,
            f64::lt,
        ),
        (
            "no more connections than any other peer",
            CONNECTIONS,
            f64::le,
        ),
        ("no more for a large medium", CONNECTIONS_LARGE, f64::le),
        (
            "a faster cold build than every other peer",
            COLD_BUILD,
            f64::lt,
        ),
    ] {
        let Some(own) = figure(ours) else {
            targets.skip(what, "without --build");
            continue;
        };
        let theirs: Vec<_> = peers
            .iter()
            .filter_map(|peer| Some((peer.client.name, figure(peer)?)))
            .collect();
        let list: Vec<_> = theirs
            .iter()
            .map(|(name, value)| format!("{name} {value:.2}"))
            .collect();
        let ok = theirs.iter().all(|(_, value)| ahead(&own, value));
        targets.check(what, &format!("{own:.2} to {}", list.join(", ")), ok);
    }
    targets.are_reached()
}
