//! The job with this library.

use std::env;
use std::error::Error;
use std::time::Duration;

use bithuman::{Api, GenerateRequest, Media, Wait};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let [_, base_url, file, interval] = &args[..] else {
        return Err("usage: BASE_URL FILE INTERVAL_MS".into());
    };

    let api = Api::builder()
        .secret("sk-0123456789abcdef0123456789abcdef01234567")
        .base_url(base_url)
        .build()?;
    let request = GenerateRequest::new()
        .prompt("You are a friendly assistant.")
        .image(Media::file(file));
    let generation = api.generate(&request)?;
    let wait = Wait::new().interval(Duration::from_millis(interval.parse()?));
    let agent = api.wait(&generation.agent_id, &wait)?;
    println!("{}", agent.model_url.unwrap_or_default());
    Ok(())
}
