//! What a batch reads, and what it calls its receipts.

use std::collections::BTreeSet;
use std::fs;

const DEMO: &str = "You are a patient teacher of mathematics.\nYou are a cheerful tour guide.\nYou are a gardener.";

/// The prompts of a file, one a line, each once: the same prompt has the same receipt, and so the same agent.
pub fn read(file: Option<String>, is_demo: bool) -> Result<Vec<String>, String> {
    let text =
        match file {
            Some(file) => fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?,
            None if is_demo => DEMO.into(),
            None => return Err(
                "which prompts? Give a file with one a line (without one it is a demonstration, where BITHUMAN_API_SECRET is not set)"
                    .into(),
            ),
        };
    let mut seen = BTreeSet::new();
    let is_prompt =
        |line: &&str| !line.is_empty() && !line.starts_with('#') && seen.insert(line.to_string());
    let prompts: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(is_prompt)
        .map(String::from)
        .collect();
    if prompts.is_empty() {
        return Err("there is no prompt in the file".into());
    }
    Ok(prompts)
}

/// The same prompt finds its receipt again: its first words, for people, and a hash (FNV-1a).
pub fn receipt_name(prompt: &str) -> String {
    let hash = prompt
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
    let words: String = prompt
        .chars()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    format!("{words}-{hash:016x}.json")
}
