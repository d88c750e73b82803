//! The download of a model file with this library.

use std::env;
use std::error::Error;

use bithuman::{Api, Download};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let [_, base_url, path] = &args[..] else {
        return Err("usage: BASE_URL PATH".into());
    };
    let builder = Api::builder().secret("sk-0123456789abcdef0123456789abcdef01234567");
    let api = builder.base_url(base_url).build()?;
    let file = api.download("A91XMB7113", path, &Download::new())?;
    println!("{}", file.length);
    Ok(())
}
