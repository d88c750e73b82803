use super::*;

#[test]
fn blanks_around_a_setting_are_removed_and_what_cannot_be_meant_is_refused_unshown() {
    let good = [
        "  a b \t",
        "https://a\r\n",
        "\u{a0}a\u{3000}",
        "it's a \"é\" x",
        " \n",
    ];
    for text in good {
        assert_eq!(Setting::new("url", text).checked().unwrap(), text.trim());
    }
    let table = [
        "geheim\rgeheim => contains a carriage return: remove it",
        "geheim\n\ngeheim => contains a line feed: remove it",
        "geheim\u{a0}x => contains a no-break space (U+00A0): remove it",
        "\u{feff}geheim => contains an invisible character (U+FEFF): remove it",
        "geheim\u{200b} => contains an invisible character (U+200B): remove it",
        "geheim\0 => contains an invisible character (U+0000): remove it",
    ];
    let quoted = "\"geheim\"| 'geheim'\r\n|`geheim`|“geheim”|‘geheim|geheim’|«geheim»|geheim\"|\"";
    let quotes = "has a quote at its start or end: remove the quotes";
    let rows = table.map(|row| row.split_once(" => ").unwrap());
    for (text, expected) in rows
        .into_iter()
        .chain(quoted.split('|').map(|text| (text, quotes)))
    {
        let setting = Setting::new("BITHUMAN_API_BASE", text);
        let error = setting.checked().unwrap_err();
        assert_eq!(
            format!("{error:?}"),
            format!("config: BITHUMAN_API_BASE {expected}")
        );
    }
}

#[test]
fn the_defaults_are_those_of_the_docs() {
    let config = Config::default();
    assert_eq!(config.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.response_timeout, Duration::from_secs(300));
    assert_eq!(config.max_retries, 3);
    assert!(config.honors_idempotency_keys.is_none() && !config.allow_plain_http);
    let user_agent = concat!("bithuman-rust/", env!("CARGO_PKG_VERSION"));
    assert_eq!(config.user_agent.text, user_agent);
}
