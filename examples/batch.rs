//! Creates an agent for each FILE with a prompt. SECONDS are between two requests: 15 where 4 a
//! minute are allowed. Run it again after any error: FILE.receipt remembers what is paid for.

use bithuman::{Api, GenerateRequest, Wait};
use std::{env, error::Error, fs, io, io::Write, process, thread, time::Duration};

fn main() {
    let Err(error) = run() else { return };
    let _ = writeln!(io::stderr(), "error: {error}");
    process::exit(1);
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let seconds = args.next().unwrap_or_default().parse();
    let seconds = seconds.map_err(|_| "usage: cargo run --example batch -- SECONDS FILE..")?;
    let api = Api::from_env()?;
    let (mut started, mut missing, mut pause) = (Vec::new(), 0, Duration::ZERO);
    for file in args {
        let prompt = fs::read_to_string(&file).map_err(|reason| format!("{file}: {reason}"))?;
        let request = GenerateRequest::new().prompt(prompt).model("expression-1");
        thread::sleep(pause);
        match api.generate_once(format!("{file}.receipt"), &request) {
            Ok(generation) => {
                pause = Duration::from_secs(if generation.replayed { 0 } else { seconds });
                started.push((file, request));
            }
            // Nothing was sent: the settings or the receipt must be fixed first.
            Err(error) if error.attempts() == 0 => return Err(error.into()),
            Err(error) => {
                pause = Duration::from_secs(seconds);
                missing += 1;
                writeln!(io::stderr(), "{file}: {error}")?;
            }
        }
    }
    for (file, request) in started {
        match api.ensure_agent(format!("{file}.receipt"), &request, &Wait::new()) {
            Ok(agent) => writeln!(io::stdout(), "{} {file}", agent.agent_id)?,
            Err(error) => {
                missing += 1;
                writeln!(io::stderr(), "{file}: {error}")?;
            }
        }
    }
    if missing > 0 {
        return Err(format!("prompts without an agent: {missing}; run this again").into());
    }
    Ok(())
}
