//! The layout of the source: modules import only from below, and no file or function is too long.

use std::fs;
use std::path::Path;

/// The compiled files of `src`, by their paths without it, and the text of each: `lib.rs` first,
/// then module by module in the order of their `mod` lines.
pub fn sources() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut open = vec!["lib.rs".to_owned()];
    while let Some(path) = open.pop() {
        let text = fs::read_to_string(src.join(&path)).unwrap();
        let folder = match path.strip_suffix("mod.rs") {
            Some(folder) => folder.to_owned(),
            None if path == "lib.rs" => String::new(),
            None => path.replace(".rs", "/"),
        };
        for name in modules(&text).into_iter().rev() {
            let file = format!("{folder}{name}.rs");
            let is_file = src.join(&file).exists();
            open.push(if is_file {
                file
            } else {
                format!("{folder}{name}/mod.rs")
            });
        }
        sources.push((path, text));
    }
    sources
}

/// The modules of a file, in the order of their `mod` lines. The tests of a file come last.
fn modules(text: &str) -> Vec<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("mod "));
    let names = lines.filter_map(|rest| Some(rest.split_once(';')?.0));
    names.filter(|name| *name != "tests").collect()
}

/// The lines that are neither blank nor comments.
fn code(text: &str) -> Vec<&str> {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    text.lines().filter(is_code).collect()
}

/// The first name in each path after `crate::`, in those of `crate::{a, b::c}` too.
fn crate_names(text: &str) -> Vec<String> {
    let code = code(text).join("\n");
    let mut names = Vec::new();
    for path in code.split("crate::").skip(1) {
        let paths: Vec<_> = match path.strip_prefix('{') {
            Some(list) => list.split(';').next().unwrap().split(',').collect(),
            None => vec![path],
        };
        for path in paths {
            let name = path
                .trim()
                .split(|c: char| !c.is_alphanumeric() && c != '_');
            names.extend(name.take(1).map(String::from));
        }
    }
    names
}

#[test]
fn a_module_imports_only_from_those_below_it_and_only_http_names_ureq() {
    let some = "use crate::{\n    a, b::{C, d}};\nfn e(_: crate::f::G)\n// crate::h";
    assert_eq!(crate_names(some), ["a", "b", "d", "f"]);
    let sources = sources();
    let order = modules(&sources[0].1);
    let height = |module: &str| order.iter().position(|name| *name == module);
    for (path, text) in &sources[1..] {
        let module = path.split(['/', '.']).next().unwrap();
        for name in crate_names(text) {
            let is_above = height(&name).is_some_and(|it| Some(it) < height(module));
            assert!(!is_above, "{path} uses crate::{name}, which is above it");
        }
        let names_ureq = code(text).iter().any(|line| line.contains("ureq"));
        assert!(!names_ureq || module == "http", "{path} names ureq");
    }
}

#[test]
fn no_file_has_over_400_lines_of_code_and_no_function_over_60() {
    for (path, text) in &sources()[1..] {
        assert_short(path, text);
    }
}

fn assert_short(path: &str, text: &str) {
    let lines = code(text);
    assert!(lines.len() <= 400, "{path}: {} lines", lines.len());
    for (at, line) in lines.iter().enumerate() {
        let is_function = line.split(' ').any(|word| word == "fn");
        let indent = line.len() - line.trim_start().len();
        let end = " ".repeat(indent) + "}";
        let length = lines[at..].iter().position(|line| **line == end);
        let is_long = is_function && !line.ends_with(';') && length >= Some(60);
        assert!(!is_long, "{path}: {line} has {length:?} lines");
    }
}

/// Words that the text avoids, since there are plainer or more usual ones.
const WORDS: &str = "a generate,is taken,not taken,was taken,sat out,sit out,sits out,ride through,\
    mend,mends,mended,anew,begun,stand-in,stand_in,a medium,is none,so many,time-out,look-up,\
    white space,honour,honours,honoured,licence,what was told,is told,are told,tell,tells,trouble,\
    troubles,resend,resends,resent,resending,sent again,send again,this machine,the handle";

fn avoided(text: &str) -> Vec<&str> {
    let mut text = text.to_lowercase();
    // What is meant as plain English means it.
    for plain in ["a generate request", "there is none"] {
        text = text.replace(plain, "");
    }
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let is_there = |word: &&str| {
        text.match_indices(word).any(|(at, _)| {
            !text[..at].ends_with(is_part) && !text[at + word.len()..].starts_with(is_part)
        })
    };
    WORDS.split(',').filter(is_there).collect()
}

/// The text of each file below a path, by its own path. A packaged copy lacks some.
fn texts(path: &Path, texts: &mut Vec<(String, String)>) {
    if path.ends_with("target") {
        return;
    }
    for entry in fs::read_dir(path).into_iter().flatten() {
        self::texts(&entry.unwrap().path(), texts);
    }
    // Other files than text are what a build left.
    if let Ok(text) = fs::read_to_string(path) {
        texts.push((path.display().to_string(), text));
    }
}

#[test]
fn no_text_has_a_word_to_avoid() {
    assert_eq!(avoided("It tells; the honour.").join(" "), "honour tells");
    let mut all = Vec::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let paths = "README.md CHANGELOG.md src examples .ci tests/it/golden";
    for path in paths.split(' ') {
        texts(&folder.join(path), &mut all);
    }
    assert!(all.len() > 50, "{}", all.len());
    for (path, text) in all {
        assert_eq!(avoided(&text), [""; 0], "{path}");
    }
}

/// The text of each Rust file of a folder, by its path. A packaged copy has no program.
pub fn files(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            files.push((path.display().to_string(), text));
        }
    }
    files
}

#[test]
fn an_example_fits_on_a_screen_and_so_does_a_function_of_the_program() {
    for (path, text) in files("examples") {
        let length = text.lines().count();
        assert!(length <= 50, "{path}: {length} lines");
    }
    for (path, text) in files("examples/cli/src") {
        assert_short(&path, &text);
    }
}

#[test]
fn a_chapter_of_the_docs_fits_on_two_screens() {
    let chapters = files("src/_docs");
    assert!(chapters.len() > 6);
    for (path, text) in chapters {
        let length = text.lines().count();
        assert!(length <= 80, "{path}: {length} lines");
    }
}
