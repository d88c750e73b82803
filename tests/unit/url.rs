use super::*;

#[test]
fn the_host_and_the_port_of_an_http_url_are_found() {
    let table = [
        ("https://example.com", "example.com", None),
        ("HTTP://Example.com/a:1/b@c", "Example.com", None),
        ("https://example.com:8443?a:1", "example.com", Some("8443")),
        ("http://u:p@example.com:80#@x", "example.com", Some("80")),
        ("http://a@b@localhost/", "localhost", None),
        ("http://[::1]:9000/a", "::1", Some("9000")),
        ("http://localhost:", "localhost", Some("")),
        ("https:///a", "", None),
    ];
    for (url, host, port) in table {
        assert_eq!(host_and_port(url), Some((host, port)), "{url}");
    }
    for url in [
        "",
        "ftp://a",
        "a.example",
        "https:/a",
        " https://a",
        "httpé://a",
    ] {
        assert_eq!(host_and_port(url), None, "{url}");
    }
}

#[test]
fn localhost_is_known_by_its_name_and_its_addresses() {
    for host in "localhost LocalHost 127.0.0.1 127.255.0.9 ::1 ::ffff:127.0.0.1".split(' ') {
        assert!(is_loopback(host), "{host}");
    }
    let others = " localhost.example.com 127.0.0.1.nip.io 128.0.0.1 10.0.0.1 ::2 1::1";
    for host in others.split(' ') {
        assert!(!is_loopback(host), "{host}");
    }
}

#[test]
fn any_text_is_one_segment_of_a_path() {
    assert_eq!(path_segment("aZ09-._~"), "aZ09-._~");
    assert_eq!(path_segment("../a?b#c%2f"), "..%2Fa%3Fb%23c%252f");
    assert_eq!(
        path_segment("a b+c&d=é\n\\"),
        "a%20b%2Bc%26d%3D%C3%A9%0A%5C"
    );
}

#[test]
fn a_reference_is_resolved_as_rfc_3986_says() {
    let url = "http://a/b/c/d;p?q";
    for (reference, expected) in [
        ("g:h", "g:h"),
        ("https://x/y#f", "https://x/y"),
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y=/../x", "http://a/b/c/g?y=/../x"),
        ("#s", "http://a/b/c/d;p?q"),
        ("g#s", "http://a/b/c/g"),
        ("g?y#s", "http://a/b/c/g?y"),
        (";x", "http://a/b/c/;x"),
        ("", "http://a/b/c/d;p?q"),
        (".", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../..", "http://a/"),
        ("../../../g", "http://a/g"),
        ("/./g/../h", "http://a/h"),
        ("g/a:b", "http://a/b/c/g/a:b"),
        ("1:b", "http://a/b/c/1:b"),
        ("/g//h?s=%2F+", "http://a/g//h?s=%2F+"),
    ] {
        assert_eq!(resolve(url, reference), expected, "{reference}");
    }
    for url in [
        "https://a:1",
        "https://a:1/",
        "https://a:1/x",
        "https://a:1?x=/y/z",
    ] {
        assert_eq!(resolve(url, "g"), "https://a:1/g", "{url}");
    }
    assert_eq!(resolve("https://a", "?x"), "https://a/?x");
}
