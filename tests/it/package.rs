//! What the package promises to those who build it.

use std::collections::BTreeSet;
use std::process::Command;

use bithuman::serde_json::{self, Value};

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn metadata() -> Value {
    let version = run("rustc", &["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let args = ["metadata", "--format-version=1", "--offline", "--locked", "--filter-platform", host];
    serde_json::from_str(&run(env!("CARGO"), &args)).unwrap()
}

/// The packages that a program depending on this crate builds, this one included.
fn normal_packages(metadata: &Value) -> Vec<&Value> {
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let mut reached = BTreeSet::new();
    let mut open = vec![metadata["resolve"]["root"].as_str().unwrap()];
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            let node = nodes.iter().find(|node| node["id"] == id).unwrap();
            let normal = |dep: &&Value| dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null());
            open.extend(node["deps"].as_array().unwrap().iter().filter(normal).map(|dep| dep["pkg"].as_str().unwrap()));
        }
    }
    let packages = metadata["packages"].as_array().unwrap();
    packages.iter().filter(|package| reached.contains(package["id"].as_str().unwrap())).collect()
}

#[test]
fn few_dependencies_and_no_async_runtime() {
    let metadata = metadata();
    let names: Vec<_> = normal_packages(&metadata).iter().map(|package| package["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"ureq") && names.len() <= 38, "{}: {names:?}", names.len());
    for runtime in ["tokio", "async-std", "smol", "async-io", "futures-core", "hyper"] {
        assert!(!names.contains(&runtime), "{runtime}");
    }
}

#[test]
fn the_library_builds_with_its_rust_version() {
    let minor = |version: &str| version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok()).unwrap();
    let metadata = metadata();
    let ours = minor(env!("CARGO_PKG_RUST_VERSION"));
    for package in normal_packages(&metadata) {
        if let Some(theirs) = package["rust_version"].as_str() {
            assert!(minor(theirs) <= ours, "{} needs Rust {theirs}", package["name"]);
        }
    }
}
