//! Text for people: one safe line, durations and sizes, and characters nobody sees.

use std::{fmt, time::Duration};

/// How much of foreign text an error keeps, in characters.
const EXCERPT: usize = 512;

/// Foreign text on one line: characters that could break it or forge another are escaped.
pub(crate) struct OneLine<'a>(pub &'a str);

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || is_invisible(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

/// Whether a character takes no space, changes the direction of text, or separates lines.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// The first character that a person does not see in a text, or takes for a plain space.
pub(crate) fn hidden_char(text: &str) -> Option<char> {
    text.chars()
        .filter(|c| !c.is_ascii_graphic())
        .find(|&c| c.is_control() || is_invisible(c) || (c.is_whitespace() && c != ' '))
}

/// A character's name for an error message: it may be one that nobody sees.
pub(crate) fn describe_char(c: char) -> String {
    match c {
        ' ' => "a space".into(),
        '\t' => "a tab".into(),
        '\n' => "a line feed".into(),
        '\r' => "a carriage return".into(),
        '\u{a0}' => "a no-break space (U+00A0)".into(),
        c if c.is_ascii_graphic() => format!("the character {c}"),
        c if c.is_control() || is_invisible(c) => {
            format!("an invisible character (U+{:04X})", u32::from(c))
        }
        c => format!("the character U+{:04X}", u32::from(c)),
    }
}

/// The first 512 characters.
pub(crate) fn excerpt(text: &str) -> &str {
    let end = text.char_indices().nth(EXCERPT).map(|(at, _)| at);
    text.get(..end.unwrap_or(text.len())).unwrap_or_default()
}

/// Cuts a text of the service's before its first URL, which may be a credential.
pub(crate) fn before_url(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    for (at, _) in lower.match_indices("http") {
        let after = lower.get(at + 4..).unwrap_or_default();
        let after = after.strip_prefix('s').unwrap_or(after);
        // JSON, HTML and other URLs may escape the colon.
        if after.starts_with([':', '%', '\\', '&']) {
            return text.get(..at).unwrap_or_default().to_owned() + "[URL]";
        }
    }
    text.into()
}

/// What a gateway's page says: the title of an HTML page, or the text itself.
pub(crate) fn page_title(text: &str) -> &str {
    let lower = text.to_ascii_lowercase();
    let title = || {
        let start = lower.find("<title")?;
        let start = start + lower.get(start..)?.find('>')? + 1;
        let end = start + lower.get(start..)?.find("</title")?;
        Some(text.get(start..end)?.trim()).filter(|title| !title.is_empty())
    };
    title().unwrap_or_else(|| text.trim())
}

/// A duration as people write it: `0.8 s`, `1 min 30 s`, `15 min`, `2 h 30 min`.
pub(crate) fn human_time(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes, seconds % 60) {
        (0, 0, 0) if millis < 100 => format!("{millis} ms"),
        (0, 0, s) if millis >= 100 => format!("{s}.{} s", millis / 100),
        (0, 0, s) => format!("{s} s"),
        (0, m, 0) => format!("{m} min"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, 0, _) => format!("{h} h"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

/// A size as people write it: `900 bytes`, `3.5 MiB`.
pub(crate) fn human_size(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    match (bytes / MIB, bytes % MIB * 10 / MIB) {
        (0, _) => format!("{bytes} bytes"),
        (whole, 0) => format!("{whole} MiB"),
        (whole, tenths) => format!("{whole}.{tenths} MiB"),
    }
}

#[cfg(test)]
#[path = "../tests/unit/text.rs"]
mod tests;
