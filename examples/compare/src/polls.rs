//! The size of each client, and what its polls take.

use crate::Result;
use crate::clients::{Client, Package};
use crate::job::Job;
use crate::measure::most;
use crate::media::{Folder, KIB, MIB};
use crate::report::{Targets, cell};
use crate::service::Service;
use crate::{ROUNDS, callgrind};

/// The polls of a job whose memory is measured.
const POLLS: u64 = 100;

/// A client and what was measured of it.
struct Row {
    client: Client,
    /// A poll's, with the host by its address and by its name.
    instructions: Option<[f64; 2]>,
    /// In MiB, a round each.
    peaks: Vec<f64>,
    private: Vec<f64>,
}

/// A figure of a client; none where it has none.
type Figure = fn(&Row) -> Option<f64>;

const SIZE: Figure = |row| row.package(|package| package.size / 1e6);
const SMALL: Figure = |row| row.package(|package| package.small / 1e6);
const INSTRUCTIONS: Figure = |row| Some(row.instructions?[0]);
const BY_NAME: Figure = |row| Some(row.instructions?[1]);
const PEAK: Figure = |row| most(row.peaks.iter().copied());
const PRIVATE: Figure = |row| most(row.private.iter().copied());
const CRATES: Figure = |row| row.package(|package| package.crates as f64);

/// What it is called, how many digits it has after the point, its unit.
const COLUMNS: [(&str, usize, &str, Figure); 7] = [
    ("size", 2, " MB", SIZE),
    ("in the smallest profile", 2, " MB", SMALL),
    ("instructions a poll", 0, "", INSTRUCTIONS),
    ("by host name", 0, "", BY_NAME),
    ("peak memory", 2, " MiB", PEAK),
    ("private", 2, " MiB", PRIVATE),
    ("crates", 0, "", CRATES),
];

impl Row {
    fn package(&self, figure: fn(&Package) -> f64) -> Option<f64> {
        self.client.rust.as_ref().map(figure)
    }
}

/// Prints the table, and returns the versions of what is in it.
pub fn compare(targets: &mut Targets) -> Result<String> {
    eprintln!("building the clients");
    let mut rows = vec![];
    for client in Client::all()? {
        rows.push(Row {
            client,
            instructions: None,
            peaks: vec![],
            private: vec![],
        });
    }
    let (service, folder) = (Service::start()?, Folder::new()?);
    // So small that the memory is that of the polls.
    let media = folder.media(64 * KIB)?;
    let job = Job {
        service: &service,
        media: &media,
        polls: POLLS,
    };
    for round in 1..=ROUNDS {
        for row in &mut rows {
            eprintln!("polls, round {round}: {}", row.client.name);
            let run = job.run(&row.client)?;
            row.peaks.push(run.peak / MIB as f64);
            row.private.push(run.private / MIB as f64);
        }
    }
    if callgrind::is_installed() {
        for row in rows.iter_mut().filter(|row| row.client.rust.is_some()) {
            eprintln!("instructions: {}", row.client.name);
            let counted = callgrind::per_poll(&service, &folder, &media, &row.client)?;
            row.instructions = Some(counted);
        }
    }
    print_table(&rows);
    check(&rows, targets);
    let versions: Vec<_> = rows.iter().map(|row| &*row.client.version).collect();
    Ok(versions.join(", "))
}

fn print_table(rows: &[Row]) {
    let titles = COLUMNS.map(|(title, ..)| title).join(" | ");
    println!("| client | {titles} |");
    println!("|---|{}", "--:|".repeat(COLUMNS.len()));
    for row in rows {
        let cells = COLUMNS
            .map(|(_, digits, unit, figure)| cell(figure(row), figure(bare(rows)), digits, unit));
        println!("| {} |{}", row.client.name, cells.concat());
    }
    println!(
        "\nBefore each value stands its ratio to ureq by hand. Size: stripped. Instructions: what one more poll \
         takes; this library reads all that the service says, the others four fields. Peak memory: the most that \
         is resident during {POLLS} polls, the most of {ROUNDS} rounds; private: without the pages of files, such \
         as the program's code. Crates: in the dependency tree, the client itself not counted.\n"
    );
}

/// What the ratios are to.
fn bare(rows: &[Row]) -> &Row {
    &rows[1]
}

fn check(rows: &[Row], targets: &mut Targets) {
    for (what, figure, most) in [
        ("size to ureq by hand", SIZE, 1.05),
        ("size in the smallest profile to ureq by hand", SMALL, 1.05),
        ("instructions a poll to ureq by hand", INSTRUCTIONS, 1.05),
        (
            "instructions a poll by host name to ureq by hand",
            BY_NAME,
            1.05,
        ),
    ] {
        match (figure(&rows[0]), figure(bare(rows))) {
            (Some(ours), Some(bare)) => targets.at_most(what, ours / bare, most),
            _ => targets.not_measured(what),
        }
    }
    for row in rows.iter().filter(|row| row.client.rust.is_some()) {
        if let (Some(ours), Some(theirs)) = (PEAK(&rows[0]), PEAK(row)) {
            let what = format!("peak memory in MiB beside {}", row.client.name);
            targets.at_most(&what, ours, theirs);
        }
    }
}
