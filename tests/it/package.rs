//! What the package promises to those who build it.

use std::path::Path;
use std::process::Command;

use bithuman::serde_json::{self, Value};

use crate::layout::{files, sources};

fn cargo(args: &str) -> String {
    let mut command = Command::new(env!("CARGO"));
    command
        .args(args.split(' '))
        .args(["--offline", "--locked"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The names of the packages in a tree, each once.
fn tree(args: &str) -> Vec<String> {
    let tree = cargo(&format!("tree --package bithuman --prefix none {args}"));
    let lines = tree.lines().skip(1);
    let mut names: Vec<_> = lines
        .map(|line| line.split(' ').next().unwrap().into())
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_dependencies_are_those_that_the_rules_allow() {
    let direct = "--depth 1 --edges";
    let normal = tree(&format!("{direct} normal,build"));
    assert_eq!(normal, ["base64", "serde", "serde_json", "ureq"]);
    assert_eq!(tree(&format!("{direct} dev")), ["httpmock"]);
}

/// The targets of the links in a text that lead to files.
fn linked_files(text: &str) -> Vec<&str> {
    let links = text.split("](").skip(1);
    let targets = links.filter_map(|rest| rest.split([')', '#']).next());
    targets
        .filter(|target| !target.is_empty() && !target.contains("://"))
        .collect()
}

#[test]
fn the_readme_is_short_and_what_it_links_to_is_in_the_package() {
    let (readme, changelog) = (
        include_str!("../../README.md"),
        include_str!("../../CHANGELOG.md"),
    );
    assert!(readme.lines().count() <= 130);
    assert!(readme.split_whitespace().count() <= 1_000);
    let is_wide = |line: &str| line.starts_with('|') && line.matches('|').count() > 4;
    assert!(!readme.lines().any(is_wide));
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // A packaged copy, which cargo does not package again, has what is in it.
    let packaged = match root.join("Cargo.toml.orig").exists() {
        true => None,
        false => Some(cargo("package --list --allow-dirty --package bithuman")),
    };
    let linked = linked_files(readme);
    assert!(linked.len() > 10, "{linked:?}");
    for file in linked.into_iter().chain(linked_files(changelog)) {
        let is_packaged = match &packaged {
            Some(list) => list.lines().any(|line| line == file),
            None => root.join(file).exists(),
        };
        assert!(is_packaged, "{file}");
    }
    // The docs link to items alone, which rustdoc checks.
    for (path, text) in sources().iter().chain(&files("src/_docs")) {
        let files: Vec<_> = linked_files(text)
            .into_iter()
            .filter(|target| target.contains('/'))
            .collect();
        assert_eq!(files, [""; 0], "{path}");
    }
}

#[test]
fn few_packages_are_built_and_no_async_runtime_or_newer_rust_is_needed() {
    let built = tree("--edges normal,build");
    assert!(built.len() < 40, "{built:?}");
    for runtime in [
        "tokio",
        "async-std",
        "smol",
        "async-io",
        "futures-core",
        "hyper",
        "mio",
    ] {
        assert!(!built.iter().any(|name| name == runtime), "{runtime}");
    }
    let minor = |version: &str| version.split('.').nth(1).unwrap().parse::<u32>().unwrap();
    let metadata = cargo("metadata --format-version=1 --filter-platform x86_64-unknown-linux-gnu");
    let metadata: Value = serde_json::from_str(&metadata).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let is_built = built.iter().any(|name| package["name"] == **name);
        let needed = package["rust_version"].as_str().filter(|_| is_built);
        let is_newer = |version| minor(version) > minor(env!("CARGO_PKG_RUST_VERSION"));
        assert!(!needed.is_some_and(is_newer), "{}", package["name"]);
    }
}

#[test]
fn the_package_has_its_tests_and_no_nested_crate_or_script() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Cargo makes no package of a package.
    if root.join("Cargo.toml.orig").exists() {
        return;
    }
    let files = cargo("package --list --allow-dirty --package bithuman");
    let mut folders: Vec<_> = files
        .lines()
        .filter_map(|file| file.strip_prefix("tests"))
        .filter_map(|file| file.split(['/', '\\']).nth(1))
        .collect();
    folders.dedup();
    assert_eq!(folders, ["harness", "it", "mock_server", "unit"]);
}
