//! Creates an agent for each line of a file, within a rate limit. Needs `BITHUMAN_API_SECRET`. Run
//! it again after any error, or with other lines: the folder `receipts` remembers what is paid for.
//! SECONDS are between two requests. Default: 15, since a free account may send 4 a minute.

use bithuman::{Api, GenerateRequest, Wait};
use std::{env, error::Error, fs, process, thread, time::Duration};

fn main() {
    let Err(error) = run() else { return };
    eprintln!("error: {error}");
    process::exit(1);
}

fn run() -> Result<(), Box<dyn Error>> {
    let usage = "which prompts? cargo run --example batch -- FILE [SECONDS]";
    let file = env::args().nth(1).ok_or(usage)?;
    let text = fs::read_to_string(&file).map_err(|reason| format!("{file}: {reason}"))?;
    let seconds = env::args().nth(2).unwrap_or("15".into());
    let pause = seconds.parse().map(Duration::from_secs);
    let pause = pause.map_err(|_| format!("{seconds}: not a whole number of seconds"))?;
    let api = Api::from_env()?;
    fs::create_dir_all("receipts").map_err(|reason| format!("folder receipts: {reason}"))?;
    let (mut started, mut missing) = (Vec::new(), 0);
    for prompt in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        // Named by a hash (FNV-1a), so that lines can move. The same prompt twice is one agent.
        let add = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let hash = prompt.bytes().fold(0xcbf2_9ce4_8422_2325, add);
        let receipt = format!("receipts/{hash:016x}.receipt");
        let request = GenerateRequest::new().prompt(prompt).model("expression-1");
        missing += 1;
        match api.generate_once(&receipt, &request) {
            Ok(generation) => {
                started.push((prompt, receipt, request));
                // Not after a receipt that has its agent: then nothing was sent.
                thread::sleep(pause * u32::from(!generation.replayed));
            }
            Err(error) => eprintln!("{prompt}: {error}"),
        }
    }
    for (prompt, receipt, request) in started {
        let result = api.ensure_agent(receipt, &request, &Wait::new());
        missing -= usize::from(result.is_ok());
        match result {
            Ok(agent) => println!("{} {prompt}", agent.agent_id),
            Err(error) => eprintln!("{prompt}: {error}"),
        }
    }
    let left = format!("prompts without an agent: {missing}; see the errors above, then run again");
    (missing == 0).then_some(()).ok_or(left.into())
}
