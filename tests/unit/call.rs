//! Which requests are refused before anything is sent.

use super::*;

#[test]
fn a_path_stays_below_the_base_url_and_means_the_same_to_every_server() {
    let good = "/v1/me /v1/agents?limit=100&offset=0 /v1/agent/A91XMB7113 /v1/a%2Fb%25/c
        /v1/x?next=../y&u=http://h//z /v1/...;a=b/~!$&'()*+,=:@-._ /v1/agent/generate/x
        /v1/agent/%252e%252e";
    for path in good.split_whitespace() {
        assert_eq!(check(Method::Post, path, true), Ok(()), "{path}");
    }
    let begin = "the path must begin with /, as in /v1/me";
    let segment = "the path has a segment that is empty, . or ..: remove it";
    let bad = [
        ("", begin),
        ("v1/me", begin),
        ("http://h/v1/me", begin),
        ("@h/v1/me", begin),
        ("?a", begin),
        (" /v1/me", begin),
        ("//h/v1/me", segment),
        ("/v1//me", segment),
        ("/..", segment),
        ("/v1/./me", segment),
        ("/v1/%2e%2E/me", segment),
        ("/v1/.%2e?a", segment),
        ("/v1/..%2Fme", segment),
        ("/v1/a%5c..%5Cb", segment),
        ("/", segment),
        ("/v1/agent/", segment),
        ("/v1/..;a=b/x", segment),
        ("/v1/%2e%2e;/x", segment),
    ];
    for (path, what) in bad {
        assert_eq!(check(Method::Get, path, false), Err(what.into()), "{path}");
    }
    let chars = [
        ('\\', "the character \\"),
        ('#', "the character #"),
        ('{', "the character {"),
        (' ', "a space"),
        ('\t', "a tab"),
        ('\n', "a line feed"),
        ('\r', "a carriage return"),
        ('\0', "an invisible character (U+0000)"),
        ('\u{7f}', "an invisible character (U+007F)"),
        ('\u{200b}', "an invisible character (U+200B)"),
        ('ü', "the character U+00FC"),
    ];
    for (c, name) in chars {
        let what = format!("the path contains {name}: percent-encode it");
        for path in [format!("/v1{c}"), format!("/v1?a={c}")] {
            assert_eq!(check(Method::Get, &path, false), Err(what.clone()));
        }
    }
}

#[test]
fn an_agent_is_created_by_generate_alone_and_a_get_has_no_body() {
    for path in [
        "/v1/agent/generate",
        "/v1/agent/%67enerate",
        "/v1/Agent/Generate?a=b",
    ] {
        let what = check(Method::Post, path, true).unwrap_err();
        assert!(what.contains("use generate"), "{what}");
        assert_eq!(check(Method::Get, path, false), Ok(()));
    }
    assert!(check(Method::Get, "/v1/me", true).is_err());
    assert_eq!(check(Method::Delete, "/v1/me", true), Ok(()));
}
