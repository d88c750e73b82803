use super::*;

#[test]
fn a_url_that_the_service_could_not_fetch_is_refused() {
    let no_scheme = "a media URL begins with http:// or https://; use Media::file for a file";
    let table = [
        ("https://example.com/a.jpg", ""),
        ("HTTP://u:p@example.com:8080/é?b=c#d", ""),
        ("http://10.0.0.1/a.jpg", ""),
        ("https://localhost.example.com/", ""),
        ("http://localhost/a.jpg", "a media URL on localhost"),
        ("https://LOCALHOST:9000", "a media URL on LOCALHOST"),
        ("http://u@127.0.0.1/a", "a media URL on 127.0.0.1"),
        ("http://[::1]:80/a", "a media URL on ::1"),
        ("https://h/a b", "contains a space"),
        ("https://h/a\n", "contains a line feed"),
        ("https://h/\u{200b}a", "an invisible character (U+200B)"),
        ("https://", "has no host"),
        ("https:///a.jpg", "has no host"),
        ("portrait.jpg", no_scheme),
        ("file:///portrait.jpg", no_scheme),
        (" https://example.com/a", no_scheme),
        ("", no_scheme),
    ];
    for (url, expected) in table {
        // A service on localhost can fetch what is there too.
        let is_good = expected.is_empty() || expected.contains("URL on");
        assert_eq!(check_url(url, true).is_ok(), is_good, "{url}");
        let error = check_url(url, false).err().map(|error| error.to_string());
        assert_eq!(error.is_some(), !expected.is_empty(), "{url}");
        assert!(error.unwrap_or_default().contains(expected), "{url}");
    }
}

#[test]
fn base64_without_content_is_empty_media() {
    let empty = "| \r\n|data:|data:,| data:, \n|DATA:image/png;base64,|data:image/png;base64";
    for text in empty.split('|') {
        assert!(is_empty_base64(text), "{text}");
    }
    for text in "aGk= data:,x data:image/png;base64,aGk= data é data:,,".split(' ') {
        assert!(!is_empty_base64(text), "{text}");
    }
}

#[test]
fn debug_shows_no_content() {
    let all = [Media::url("https://u:pw@h/"), Media::bytes(*b"hi")];
    let expected = "[Media::url(15 bytes), Media::bytes(2 bytes)]";
    assert_eq!(format!("{all:?}"), expected);
}
