use super::*;

fn parse(text: &str) -> Result<BaseUrl> {
    BaseUrl::parse(&Setting::new("BITHUMAN_API_URL", text))
}

#[test]
fn a_base_url_is_taken_apart() {
    // The text => URL, authority, host, port; `s` https and `l` localhost.
    let table = [
        " https://A.Example/\r\n => https://a.example a.example a.example 443 s",
        "HTTPS://a.example:8443// => https://a.example:8443 a.example:8443 a.example 8443 s",
        "https://a.example/Some/Prefix/ => https://a.example/Some/Prefix a.example a.example 443 s",
        "https://a.example/v10/v1x => https://a.example/v10/v1x a.example a.example 443 s",
        "https://v1/ => https://v1 v1 v1 443 s",
        "http://a.example => http://a.example a.example a.example 80 ",
        "http://localhost:9000/ => http://localhost:9000 localhost:9000 localhost 9000 l",
        "http://127.0.0.1 => http://127.0.0.1 127.0.0.1 127.0.0.1 80 l",
        "https://[::1] => https://[::1] [::1] ::1 443 sl",
        "http://[2001:DB8::1]:81/a => http://[2001:db8::1]:81/a [2001:db8::1]:81 2001:db8::1 81 ",
    ];
    for row in table {
        let (text, expected) = row.split_once(" => ").unwrap();
        let base = parse(text).unwrap();
        let s = if base.is_https { "s" } else { "" };
        let l = if base.is_loopback { "l" } else { "" };
        let found = format!("{} {} {}", base.authority, base.host, base.port);
        assert_eq!(format!("{} {found} {s}{l}", base.url), expected);
        assert_eq!(
            hint(&base.url),
            format!("is the base URL {} right?", base.url)
        );
    }
}

#[test]
fn a_rejected_secret_may_be_one_of_the_other_api() {
    let current = secret_hint(CURRENT_BASE_URL);
    assert!(current.ends_with("imaginex.bithuman.ai is for https://public.api.bithuman.ai"));
    let of_2025 = secret_hint(DEFAULT_BASE_URL);
    assert!(of_2025.ends_with("www.bithuman.ai is for https://api.bithuman.ai"));
    assert_eq!(
        secret_hint("https://a.test"),
        "is it one for https://a.test?"
    );
}

#[test]
fn what_cannot_be_a_base_url_is_refused_by_its_name_and_never_shown() {
    let no_url = "is not a URL such as https://public.api.bithuman.ai";
    let no_scheme = "must begin with https:// (or http:// for localhost)";
    let no_host = "has no host, or a port that is not a number";
    let quotes = "has a quote at its start or end: remove the quotes";
    let user = "contains a user or password, which are not the API secret: remove them";
    let bad_char = "contains a character that no host has: remove it";
    let query = "contains a query or a fragment: remove it";
    let v1 = "ends in /v1, which every request adds: remove it";
    let endpoint = "is the URL of one endpoint: remove /v1 and what follows";
    let table = [
        ("", no_url),
        ("https://", no_url),
        ("https://geheim geheim", no_url),
        ("https://geheim.é", no_url),
        ("https://[::1", no_url),
        ("https://geheim:port", no_host),
        ("geheim", no_scheme),
        ("geheim:8080", no_scheme),
        ("ftp://geheim", no_scheme),
        ("https://geheim:", no_host),
        ("https://geheim:99999", no_host),
        ("https://:443", no_host),
        ("https://user:geheim@a.example", user),
        ("https://geheim@a.example", user),
        ("https://geheim;a.example", bad_char),
        ("https://a.example/geheim,", bad_char),
        ("https://a.example?geheim", query),
        ("https://a.example/#geheim", query),
        ("https://a.example/?", query),
        ("https://api.bithuman.ai/v1", v1),
        ("https://a.example/geheim/v1//\r\n", v1),
        (
            "https://api.bithuman.ai/v1/runtime-tokens/request",
            "is a token URL, not a base URL: remove /v1 and what follows",
        ),
        ("https://a.example/geheim/v1/x", endpoint),
        ("\"https://geheim\"", quotes),
        ("'https://geheim'\r", quotes),
        ("https://geheim\r/", "contains a carriage return: remove it"),
        (
            "https://a\u{200b}.example",
            "contains an invisible character (U+200B): remove it",
        ),
        (
            "\u{feff}https://a.example",
            "contains an invisible character (U+FEFF): remove it",
        ),
        (
            "https://a.example\u{a0}/",
            "contains a no-break space (U+00A0): remove it",
        ),
    ];
    for (text, expected) in table {
        let error = parse(text).unwrap_err();
        let expected = format!("config: BITHUMAN_API_URL {expected}");
        assert_eq!(format!("{error:?}"), expected, "{text}");
    }
}

#[test]
fn only_the_current_apis_own_host_is_known_to_honor_keys() {
    let current = "https://api.bithuman.ai https://API.BITHUMAN.AI:443/prefix";
    for url in current.split(' ') {
        assert!(parse(url).unwrap().is_current_api(), "{url}");
    }
    let others = "https://public.api.bithuman.ai http://api.bithuman.ai http://api.bithuman.ai:443 \
        https://bithuman.ai https://api.bithuman.ai:8443 https://api.bithuman.ai.example \
        https://a.example/api.bithuman.ai https://xapi.bithuman.ai";
    for url in others.split(' ') {
        assert!(!parse(url).unwrap().is_current_api(), "{url}");
    }
    assert!(parse(CURRENT_BASE_URL).unwrap().is_current_api());
    assert!(!parse(DEFAULT_BASE_URL).unwrap().is_current_api());
}
