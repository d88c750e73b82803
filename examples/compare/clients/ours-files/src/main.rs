//! A file to the service's storage, or a model file to the disk, with this library.

use std::env;
use std::error::Error;

use bithuman::{Api, Download, Media};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let [_, command, base_url, path] = &args[..] else {
        return Err("usage: upload|download BASE_URL PATH".into());
    };
    let builder = Api::builder().secret("sk-0123456789abcdef0123456789abcdef01234567");
    let api = builder.base_url(base_url).build()?;
    if command == "upload" {
        println!("{}", api.upload("model.imx", Media::file(path))?);
    } else {
        let file = api.download("A91XMB7113", path, &Download::new())?;
        println!("{}", file.length);
    }
    Ok(())
}
