//! The environment as curl reads it.

use super::*;

const QUOTES: &str = "has a quote at its start or end: remove the quotes";
const NO_URL: &str = "is not the URL of a proxy such as http://localhost:3128";

/// What is chosen: `host:port`, `-` for none, or `! the text of the error`.
fn chosen(explicit: Option<&str>, base_url: &str, variables: &[(&str, &str)]) -> String {
    let base = BaseUrl::parse(&Setting::new("base_url", base_url)).unwrap();
    let get = |name: &str| {
        let (_, value) = variables.iter().find(|(set, _)| *set == name)?;
        Some(value.to_string())
    };
    let explicit = explicit.map(|url| Setting::new("proxy", url));
    match choose(explicit.as_ref(), &base, get) {
        Ok(Some(proxy)) => format!("{}:{}", proxy.host(), proxy.port()),
        Ok(None) => "-".into(),
        Err(error) => format!("! {}", error.what()),
    }
}

/// The base URL, the variables (names and values with `=` between, parted by `;`), what is chosen.
const TABLE: &str = "
# Which variable counts.
https://a.example |  | -
https://a.example | https_proxy=http://p:1; HTTPS_PROXY=http://q:2; all_proxy=http://r:3 | p:1
https://a.example | HTTPS_PROXY=http://q:2; all_proxy=http://r:3; ALL_PROXY=http://s:4 | q:2
https://a.example | all_proxy=http://r:3; ALL_PROXY=http://s:4 | r:3
https://a.example | ALL_PROXY=http://s:4 | s:4
https://a.example | http_proxy=http://h:5; HTTP_PROXY=http://h:5 | -
https://a.example | https_proxy=; HTTPS_PROXY=  ; all_proxy=http://r:3 | r:3
http://a.example | http_proxy=http://h:5; all_proxy=http://r:3; https_proxy=http://p:1 | h:5
http://a.example | all_proxy=http://r:3; ALL_PROXY=http://s:4 | r:3
http://a.example | ALL_PROXY=http://s:4; https_proxy=http://p:1; HTTPS_PROXY=http://p:1 | s:4
http://a.example | HTTP_PROXY=http://attacker:1 | -
http://a.example | HTTP_PROXY=http://attacker:1; HTTPS_PROXY=http://p:1 | -
# How a proxy is written.
https://a.example | https_proxy=p:3128 | p:3128
https://a.example | https_proxy=p | p:80
https://a.example | https_proxy=http://user:pw@p:3128/ | p:3128
https://a.example | https_proxy=HTTP://p:3128 | p:3128
https://a.example | https_proxy=https://p | {tls}
https://a.example | https_proxy=http://[2001:db8::1]:3128 | [2001:db8::1]:3128
# One that cannot be used is passed over where another can, and is an error alone.
https://a.example | all_proxy=gopher://s:1; https_proxy=http://p:1 | p:1
https://a.example | all_proxy=http://r:3; https_proxy=gopher://s:1 | r:3
https://a.example | https_proxy=http://p:x; HTTPS_PROXY='http://q:2'; ALL_PROXY=http://s:4 | s:4
http://a.example | http_proxy=gopher://s:1; ALL_PROXY=http://s:4 | s:4
https://a.example | all_proxy=gopher://geheim:1 | ! all_proxy {no_url}
https://a.example | https_proxy=http://geheim: x; all_proxy=gopher://geheim | ! https_proxy {no_url}
https://a.example | HTTPS_PROXY=http://geheim:x | ! HTTPS_PROXY {no_port}
https://a.example | https_proxy=http://geheim: | ! https_proxy {no_port}
https://a.example | https_proxy=http://geheim:99999 | ! https_proxy {no_port}
https://a.example | https_proxy=http:// | ! https_proxy {no_url}
https://a.example | https_proxy=\"http://geheim\" | ! https_proxy {quotes}
# An error of a variable that does not count, or of a host that needs none, is no error.
https://a.example | http_proxy=gopher://s:1 | -
http://a.example | https_proxy=gopher://s:1; HTTP_PROXY=gopher://s:1 | -
https://a.example | https_proxy=gopher://s:1; no_proxy=a.example | -
http://localhost:9000 | http_proxy=gopher://s:1; all_proxy=http://r:3 | -
https://127.0.0.1:9000 | https_proxy=http://p:1 | -
http://[::1]:9000 | http_proxy=http://p:1 | -
# NO_PROXY. The rows after this one have `p` for `https_proxy=p:1`, and more rows in one by `//`.
https://a.example | p; no_proxy=a.example // p; NO_PROXY=A.Example // p; no_proxy= ; NO_PROXY=a.example | -
https://a.example | p; no_proxy=localhost, a.example // p; no_proxy=x a.example // p; no_proxy=x ,,\ta.example , | -
https://a.example | p; no_proxy=.a.example // p; no_proxy=a.example. // p; no_proxy=example // p; no_proxy=*.example | -
https://a.example | p; no_proxy=* // p; no_proxy=x, * // p; no_proxy=* ; HTTPS_PROXY=q:2 | -
https://a.example | p; no_proxy=x; NO_PROXY=a.example // p; no_proxy=b.a.example // p; no_proxy=a.example.com | p:1
https://a.example | p; no_proxy=., :443, / // p; no_proxy=0.0.0.0/0, ::/0 // p; no_proxy=xample | p:1
https://ab.example | p; no_proxy=b.example // p; no_proxy=.b.example // p; no_proxy=a.b.example | p:1
https://a.b.example. | p; no_proxy=b.example // p; no_proxy=.b.example // p; no_proxy=a.b.example | -
https://a.example | p; no_proxy=a.example:443 // p; no_proxy=.example:443 | -
https://a.example | p; no_proxy=a.example:8443 // p; no_proxy=a.example:x // p; no_proxy=a.example: | p:1
https://a.example:8443 | p; no_proxy=a.example // p; no_proxy=x,a.example:8443 // p; no_proxy=.example:8443 | -
https://a.example:8443 | p; no_proxy=a.example:443 // p; no_proxy=example:84430 | p:1
https://10.1.2.3 | p; no_proxy=10.1.2.3 // p; no_proxy=10.1.2.3:443 // p; no_proxy=* | -
https://10.1.2.3 | p; no_proxy=10.1.2.3:444 // p; no_proxy=2.3, .3, 10.1.2, 10 // p; no_proxy=10.1.2.30 | p:1
https://10.1.2.3 | p; no_proxy=10.0.0.0/8 // p; no_proxy=x 10.0.0.0/8:443 // p; no_proxy=11.0.0.0/7 | -
https://10.1.2.3 | p; no_proxy=10.1.2.2/31 // p; no_proxy=0.0.0.0/0 // p; no_proxy=10.1.2.3/32 | -
https://10.1.2.3 | p; no_proxy=11.0.0.0/8 // p; no_proxy=10.0.0.0/8:444 // p; no_proxy=10.1.2.2/32 | p:1
https://10.1.2.3 | p; no_proxy=10.0.0.0/x, 10.0.0.0/, /8, 10.0.0.0/-1 // p; no_proxy=::/0 | p:1
https://[2001:db8::1] | p; no_proxy=2001:db8::1 // p; no_proxy=[2001:DB8:0::1] // p; no_proxy=[2001:db8::1]:443 | -
https://[2001:db8::1] | p; no_proxy=2001:db8::/32 // p; no_proxy=2001:db9::/31 // p; no_proxy=::/0 | -
https://[2001:db8::1] | p; no_proxy=2001:db9::/32 // p; no_proxy=[2001:db8::1]:444 // p; no_proxy=0.0.0.0/0 | p:1
";

#[test]
fn the_environment_is_read_as_curl_reads_it() {
    let needs_tls = format!("! https_proxy is a proxy that needs {}", tls::FEATURES);
    let tls = if cfg!(feature = "_tls") {
        "p:443"
    } else {
        &needs_tls
    };
    let table = TABLE
        .replace("{tls}", tls)
        .replace("{no_url}", NO_URL)
        .replace("{no_port}", "has a port that is not a number")
        .replace("{quotes}", QUOTES)
        .replace(" p; ", " https_proxy=p:1; ");
    for row in table.lines().filter(|row| row.contains(" | ")) {
        let cells: Vec<_> = row.split(" | ").collect();
        for variables in cells[1].split(" // ") {
            let pairs = variables.split(';').map(|pair| pair.trim_start());
            let pairs: Vec<_> = pairs.filter_map(|pair| pair.split_once('=')).collect();
            let found = chosen(None, cells[0], &pairs);
            assert_eq!(found, cells[2].trim(), "{} with {pairs:?}", cells[0]);
        }
    }
}

#[test]
fn a_socks_proxy_needs_its_feature_and_does_not_hide_another() {
    for url in "socks://s:1 socks4://s:1 socks4a://s:1 SOCKS5://s:1 socks5h://s:1".split(' ') {
        let (socks, good) = (("all_proxy", url), ("https_proxy", "http://p:1"));
        assert_eq!(chosen(None, "https://a.example", &[socks, good]), "p:1");
        let variable = chosen(None, "https://a.example", &[socks]);
        let setter = chosen(Some(url), "https://a.example", &[]);
        let needs = "is a proxy that needs the feature socks-proxy of bithuman";
        if cfg!(feature = "socks-proxy") {
            assert_eq!([&*variable, &*setter], ["s:1", "s:1"]);
        } else {
            assert_eq!(variable, format!("! all_proxy {needs}"));
            assert_eq!(setter, format!("! proxy {needs}"));
        }
    }
}

#[test]
fn an_explicit_proxy_goes_before_the_environment_and_is_never_passed_over() {
    let variables = [
        ("https_proxy", "p:1"),
        ("http_proxy", "p:1"),
        ("no_proxy", "a.example"),
    ];
    let choose = |explicit, base_url| chosen(Some(explicit), base_url, &variables);
    assert_eq!(choose(" http://e:6\n", "https://a.example"), "e:6");
    assert_eq!(choose("e:6", "http://a.example"), "e:6");
    let no_url = format!("! proxy {NO_URL}");
    assert_eq!(choose("gopher://geheim", "https://a.example"), no_url);
    assert_eq!(choose("", "https://a.example"), no_url);
    let hidden = "! proxy contains an invisible character (U+200B): remove it";
    assert_eq!(choose("http://e\u{200b}", "https://a.example"), hidden);
    let local = "! proxy is not used for a base URL on localhost: remove it";
    assert_eq!(choose("http://e:6", "http://localhost:9000"), local);
}
