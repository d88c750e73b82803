// Without a TLS feature an https base URL is refused.
#![cfg(feature = "_tls")]

use super::*;

#[test]
fn the_variables() {
    let with = |variables: &[(&str, &str)]| {
        let get = |name: &str| Some(variables.iter().find(|(n, _)| *n == name)?.1.into());
        from_variables(get).and_then(ApiBuilder::build).map(|api| api.shared.transport.base_url().to_owned())
    };
    for (url, base_url) in
        [(None, DEFAULT_BASE_URL), (Some(""), DEFAULT_BASE_URL), (Some("https://a/b/"), "https://a/b")]
    {
        let variables: Vec<_> =
            url.map(|url| (URL_VARIABLE, url)).into_iter().chain([(SECRET_VARIABLE, "s")]).collect();
        assert_eq!(with(&variables).unwrap(), base_url);
    }
    for none in [&[][..], &[(SECRET_VARIABLE, "")], &[(URL_VARIABLE, "https://a")]] {
        let error = with(none).unwrap_err().to_string();
        assert!(error.starts_with("Api: no API secret: set BITHUMAN_API_SECRET"), "{error}");
    }
    assert!(with(&[(SECRET_VARIABLE, "s"), (URL_VARIABLE, "nonsense")]).is_err());
}
