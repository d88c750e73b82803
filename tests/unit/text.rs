use super::*;

#[test]
fn foreign_text_stays_on_one_line_and_cannot_hide_or_turn_anything() {
    let plain = "plain 'text' \"é\" 漢😀 \\";
    assert_eq!(OneLine(plain).to_string(), plain);
    assert_eq!(OneLine("a\r\n\tb").to_string(), r"a\r\n\tb");
    let escaped = r"\u{0} \u{1b}[31m \u{9b} \u{85} \u{2028} \u{202e} \u{200b} \u{feff} \u{e0041}";
    let hidden = "\u{0} \u{1b}[31m \u{9b} \u{85} \u{2028} \u{202e} \u{200b} \u{feff} \u{e0041}";
    assert_eq!(OneLine(hidden).to_string(), escaped);
    let all: String = ('\0'..=char::MAX).collect();
    let shown = OneLine(&all).to_string().replace(char::is_whitespace, "");
    assert_eq!(hidden_char(&shown), None);
}

#[test]
fn a_character_that_nobody_sees_is_found_and_named() {
    let invisible = "\0\u{1b}\u{7f}\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{200b}\u{200f}\u{2028}\
        \u{202e}\u{2060}\u{206f}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{fffb}\u{e007f}";
    for c in invisible.chars() {
        let name = format!("an invisible character (U+{:04X})", u32::from(c));
        assert_eq!(describe_char(c), name);
        assert_eq!(hidden_char(&format!("a b{c}\u{200c}")), Some(c), "{name}");
    }
    // Hidden or not, and the name.
    let table = [
        (true, '\t', "a tab"),
        (true, '\n', "a line feed"),
        (true, '\r', "a carriage return"),
        (true, '\u{a0}', "a no-break space (U+00A0)"),
        (true, '\u{3000}', "the character U+3000"),
        (false, ' ', "a space"),
        (false, '"', "the character \""),
        (false, 'é', "the character U+00E9"),
        (false, '\u{fffd}', "the character U+FFFD"),
    ];
    for (is_hidden, c, name) in table {
        assert_eq!(describe_char(c), name);
        assert_eq!(hidden_char(&format!("a{c}")).is_some(), is_hidden, "{name}");
    }
}

#[test]
fn an_excerpt_is_the_first_512_characters() {
    let long = "é漢😀x".repeat(200);
    assert_eq!(excerpt(&long), "é漢😀x".repeat(128));
    assert_eq!(excerpt(&"x".repeat(513)), "x".repeat(512));
    assert_eq!(excerpt(""), "");
}

#[test]
fn a_text_ends_before_its_first_url() {
    for (text, shown) in [
        ("HEAD https://h/f?sig=1 gave 403", "HEAD [URL]"),
        ("é HTTP://h/a b?sig=1", "é [URL]"),
        (r#"{"url":"https:\/\/h\/f"}"#, r#"{"url":"[URL]"#),
        (r#"{"url":"http\u003a//h/f"}"#, r#"{"url":"[URL]"#),
        ("to=https%3A%2F%2Fh&x", "to=[URL]"),
        ("an http error, then https://h", "an http error, then [URL]"),
        ("HTTP 502, httpStatus: 502", "HTTP 502, httpStatus: 502"),
        ("", ""),
    ] {
        assert_eq!(before_url(text), shown);
    }
}

#[test]
fn of_an_html_page_the_title_is_shown() {
    let table = [
        "<html><title>502 Bad Gateway</title>… => 502 Bad Gateway",
        "<HTML><TITLE lang=\"en\">\n 504 \n</TITLE> => 504",
        "İ<title>é İ</title> => é İ",
        " <title> </title> \n => <title> </title>",
        "<title>never closed => <title>never closed",
        "</title><title => </title><title",
        "  upstream connect error\r\n => upstream connect error",
        " => ",
    ];
    for row in table {
        let (page, expected) = row.split_once(" => ").unwrap();
        assert_eq!(page_title(page), expected);
    }
}

#[test]
fn durations_and_sizes_are_written_for_people() {
    let times = "0=0 ms, 99=99 ms, 100=0.1 s, 999=0.9 s, 1000=1 s, 1099=1 s, 1500=1.5 s, \
        59999=59.9 s, 60000=1 min, 90000=1 min 30 s, 900000=15 min, 3599000=59 min 59 s, \
        3600000=1 h, 7259000=2 h, 9000000=2 h 30 min, 360000000=100 h";
    for row in times.split(", ") {
        let (millis, expected) = row.split_once('=').unwrap();
        let time = Duration::from_millis(millis.parse().unwrap());
        assert_eq!(human_time(time), expected);
    }
    let sizes = "0=0 bytes, 1048575=1048575 bytes, 1048576=1 MiB, 1153433=1 MiB, 1153434=1.1 MiB, \
        3670016=3.5 MiB, 536870912=512 MiB, 18446744073709551615=17592186044415.9 MiB";
    for row in sizes.split(", ") {
        let (bytes, expected) = row.split_once('=').unwrap();
        assert_eq!(human_size(bytes.parse().unwrap()), expected);
    }
}
