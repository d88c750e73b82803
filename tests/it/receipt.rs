//! A receipt: one generate is billed, whatever happens in between.

use std::fs;

use bithuman::{GenerateRequest, Wait};

use crate::stand_in::{Form, SECRET, StandIn};
use crate::support::api_to;

#[test]
fn smoke() {
    let service = StandIn::start(Form::Of2026);
    let api = api_to(&service.base_url()).secret(SECRET).build().unwrap();
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("smoke.json");
    let _ = fs::remove_file(&path);
    let request = GenerateRequest::new().prompt("x");
    let one = api.generate_once(&path, &request).unwrap();
    println!("{}", fs::read_to_string(&path).unwrap());
    let two = api.generate_once(&path, &request).unwrap();
    assert_eq!(one.agent_id, two.agent_id);
    println!("{:?}", api.generate_once(&path, &GenerateRequest::new().prompt("y")).unwrap_err());
    let agent = api.ensure_agent(&path, &request, &Wait::new()).unwrap();
    println!("{}", fs::read_to_string(&path).unwrap());
    assert_eq!(agent, api.ensure_agent(&path, &request, &Wait::new()).unwrap());
    fs::remove_file(&path).unwrap();
    let request = GenerateRequest::new().prompt("[fail]");
    for _ in 0..2 {
        println!("{:?}", api.ensure_agent(&path, &request, &Wait::new()).unwrap_err());
        println!("{}", fs::read_to_string(&path).unwrap());
    }
    assert_eq!(service.billed(), 3);
}
