//! The public API in one file, so that a change to it is seen in review.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/golden/public_api.txt");

fn source(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name)).unwrap()
}

/// The names that `lib.rs` exports, but for those it hides from the docs.
fn exported() -> BTreeSet<String> {
    let lib = source("lib.rs").replace("#[doc(hidden)]\npub use", "use");
    let uses = lib.lines().filter_map(|line| line.strip_prefix("pub use "));
    let names =
        uses.flat_map(|line| line.rsplit("::").next().unwrap().split(|c: char| !c.is_alphanumeric() && c != '_'));
    names.filter(|name| !name.is_empty()).map(String::from).collect()
}

/// The last word of a type's path in an `impl` or a definition, such as `Error` of `impl fmt::Debug for Error {`.
fn subject(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    let rest = ["struct ", "enum ", "type ", "const "].iter().find_map(|word| line.strip_prefix(word));
    let of_impl = || line.strip_prefix("impl")?.rsplit(" for ").next();
    let name = rest.or_else(of_impl)?.trim_start_matches(|c: char| !c.is_uppercase());
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

/// What is public of the exported items in one file: definitions, fields, variants, methods, traits.
fn public(text: &str, exported: &BTreeSet<String>) -> Vec<String> {
    let mut list = Vec::new();
    let mut within = None;
    let mut hidden = false;
    let mut attributes = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (indent, code) = (line.len() - line.trim_start().len(), line.trim());
        if code.starts_with("#[doc(hidden)]") || code.starts_with("#[cfg(test)]") {
            hidden = true;
        }
        if indent == 0 && (code.starts_with("#[derive(") || code == "#[non_exhaustive]") {
            attributes.push(code);
        }
        if code.is_empty() || code.starts_with("//") || code.starts_with("#[") {
            continue;
        }
        let whole_item = ["pub struct ", "pub enum ", "pub type ", "pub const ", "impl"];
        let name = subject(line).filter(|name| exported.contains(*name));
        let is_item = indent == 0 && whole_item.iter().any(|start| code.starts_with(start)) && name.is_some();
        let is_member = match within {
            Some("enum") => {
                (indent == 4 && code.starts_with(char::is_uppercase)) || (indent == 8 && code.ends_with(','))
            }
            Some(_) => indent == 4 && code.starts_with("pub "),
            None => false,
        };
        if (is_item || is_member) && !hidden {
            let mut item = String::from(code);
            while !item.ends_with(['{', ';', ',', '}']) || item.matches('(').count() > item.matches(')').count() {
                item += lines.next().unwrap().trim();
            }
            let item = item.trim_end_matches(['{', '}', ';', ',', ' ']);
            list.extend(attributes.iter().filter(|_| is_item).map(|attribute| String::from(*attribute)));
            list.push(format!("{}{item}", " ".repeat(indent)));
        }
        attributes.clear();
        if indent == 0 {
            within = is_item.then_some(if code.contains("enum ") { "enum" } else { "other" });
        }
        hidden = false;
    }
    list
}

#[test]
fn the_public_api_is_as_listed() {
    let exported = exported();
    let mut list = vec![format!("exported: {}", exported.iter().cloned().collect::<Vec<_>>().join(", "))];
    let mut files: Vec<_> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap().collect();
    files.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
    for entry in files {
        list.extend(public(&source(entry.unwrap().file_name().to_str().unwrap()), &exported));
    }
    let list = list.join("\n") + "\n";
    if env::var_os("BLESS").is_some() {
        fs::write(LIST, &list).unwrap();
    }
    assert!(list == fs::read_to_string(LIST).unwrap(), "the public API is another: BLESS=1 writes it down");
}
