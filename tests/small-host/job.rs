//! One job of the library, for a host that lacks something. It prints one line.

use std::fs::File;
use std::time::Duration;
use std::{env, iter, thread};

use bithuman::{Api, Download, Error, GenerateRequest, Media, Wait};

fn main() -> Result<(), Error> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let _held = hold_descriptors();
    let wait = Wait::new()
        .interval(Duration::from_millis(20))
        .timeout(Duration::from_secs(8))
        .outage(Duration::from_secs(1));
    let download = Download::new()
        .interval(Duration::from_millis(20))
        .timeout(Duration::from_secs(8));
    let request = GenerateRequest::new()
        .prompt("You live on a small host.")
        .model("expression-2");
    let agent = match args[..] {
        ["thread"] => return try_thread(),
        ["upload", file] => {
            let url = api()?.upload("voice.wav", Media::file(file))?;
            println!("uploaded to {url}");
            return Ok(());
        }
        ["create"] => api()?.generate_and_wait(&request, &wait)?,
        ["create", image] => {
            let request = request.image(Media::file(image));
            api()?.generate_and_wait(&request, &wait)?
        }
        ["ensure", receipt] => api()?.ensure_agent(receipt, &request, &wait)?,
        ["download", path] => {
            let agent = api()?.generate_and_wait(&request, &wait)?;
            let file = api()?.download(&agent.agent_id, path, &download)?;
            println!("{} MiB of {}", file.length >> 20, agent.agent_id);
            return Ok(());
        }
        _ => panic!("not a job: {args:?}"),
    };
    println!("{} is {}", agent.agent_id, agent.status);
    Ok(())
}

fn api() -> Result<Api, Error> {
    let mut builder = Api::builder()
        .from_env()
        .connect_timeout(Duration::from_secs(3))
        .max_retries(1)
        .honors_idempotency_keys(true)
        .allow_plain_http(true);
    if let Ok(pem) = env::var("ROOTS") {
        builder = builder.root_certificates_pem(pem);
    }
    builder.build()
}

/// Leaves as many descriptors as the variable says, if it is set.
fn hold_descriptors() -> Vec<File> {
    let Ok(spare) = env::var("SPARE_DESCRIPTORS") else {
        return Vec::new();
    };
    let mut held: Vec<_> = iter::from_fn(|| File::open("/dev/null").ok()).collect();
    held.truncate(held.len() - spare.parse::<usize>().unwrap());
    held
}

/// Shows that the limit on threads is one.
fn try_thread() -> Result<(), Error> {
    match thread::Builder::new().spawn(|| ()) {
        Ok(_) => println!("a thread"),
        Err(error) => println!("no thread: {error}"),
    }
    Ok(())
}
