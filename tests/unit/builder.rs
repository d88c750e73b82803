use super::*;

/// The secret and the base URL as `name=text`, after filling from variables without the
/// `BITHUMAN_API_` before each name.
fn filled(builder: &ApiBuilder, variables: &str) -> String {
    let get = |name: &str| {
        let name = name.strip_prefix("BITHUMAN_API_")?;
        let mut variables = variables.split(';').filter_map(|pair| pair.split_once('='));
        let (_, value) = variables.find(|(set, _)| *set == name)?;
        Some(OsString::from(value))
    };
    let config = builder.clone().fill(get).config;
    let settings = [config.secret, config.base_url].into_iter().flatten();
    let shown = settings.map(|setting| format!("{}={}", setting.name, setting.text));
    shown
        .collect::<Vec<_>>()
        .join(" ")
        .replace("BITHUMAN_API_", "")
}

#[test]
fn the_environment_fills_what_is_not_set() {
    let none = ApiBuilder::default();
    let secret = none.clone().secret("mine");
    let base_url = none.clone().base_url("");
    let table = [
        (&none, "", ""),
        (&none, "SECRET=s;BASE=b;URL=u", "SECRET=s BASE=b"),
        (&none, "URL=u", "URL=u"),
        (&none, "BASE=;URL=u", "URL=u"),
        (&none, "BASE= \r\n;URL=u", "URL=u"),
        (&none, "BASE=\t;URL= ;SECRET=  ", ""),
        (&none, "BASE='b';URL=u", "BASE='b'"),
        (&secret, "SECRET=s;BASE=b;URL=u", "secret=mine BASE=b"),
        (&base_url, "SECRET=s;BASE=b;URL=u", "SECRET=s base_url="),
        (&base_url, "", "base_url="),
    ];
    for (builder, variables, expected) in table {
        assert_eq!(filled(builder, variables), expected, "{variables}");
    }
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_refused_by_its_name() {
    use std::os::unix::ffi::OsStringExt;
    for name in ["SECRET", "BASE", "URL"].map(|name| format!("BITHUMAN_API_{name}")) {
        let get = |asked: &str| match asked {
            _ if asked == name => Some(OsString::from_vec(vec![b'a', 0xff])),
            "BITHUMAN_API_URL" => Some("http://localhost".into()),
            _ => None,
        };
        let error = ApiBuilder::default().fill(get).transport().err().unwrap();
        assert!(error.what().starts_with(&name), "{error}");
    }
}

#[test]
fn a_time_of_zero_is_refused_by_its_name() {
    let builder = ApiBuilder::default().base_url("http://localhost");
    let connect = builder.clone().connect_timeout(Duration::ZERO);
    let response = builder.clone().response_timeout(Duration::ZERO);
    let errors = [connect, response].map(|builder| builder.transport().err().unwrap().to_string());
    assert_eq!(errors[0], "config: connect_timeout must be more than zero");
    assert_eq!(errors[1], "config: response_timeout must be more than zero");
    assert_eq!(
        format!("{:?}", builder.secret("geheim")),
        "ApiBuilder { .. }"
    );
}
