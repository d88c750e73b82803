use super::*;
use crate::error::ErrorKind;

fn secret(text: &str) -> Secret {
    Secret::new(&Setting::new("secret", text)).unwrap()
}

#[test]
fn what_cannot_be_a_secret_is_refused_without_being_shown() {
    for text in r#"x a=b <a a> a$b sk_live_/+=\"'. OTHER=x"#.split(' ') {
        assert_eq!(secret(&format!(" {text}\r\n")).expose(), text);
    }
    let table = [
        " => is empty: set it to your API secret",
        " \r\n => is empty: set it to your API secret",
        "geheim x => contains a space, which no secret has",
        "geheimé => contains the character U+00E9, which no secret has",
        "geheim\u{fffd} => is not UTF-8",
        "geheim\ngeheim => contains a line feed: remove it",
        "\"geheim\" => has a quote at its start or end: remove the quotes",
        "<geheim> => is not a secret but a placeholder or an assignment",
        "${geheim} => is not a secret but a placeholder or an assignment",
        "$GEHEIM => is not a secret but a placeholder or an assignment",
        "%GEHEIM% => is not a secret but a placeholder or an assignment",
        "{{ geheim }} => contains a space, which no secret has",
        "{{geheim}} => is not a secret but a placeholder or an assignment",
        "api-secret:geheim => is not a secret but a URL or a header",
        "https://geheim => is not a secret but a URL or a header",
        "geheim; => ends in a separator or an escape: remove it",
        "geheim\\n => ends in a separator or an escape: remove it",
        "BITHUMAN_API_SECRET=geheim => is not a secret but a placeholder or an assignment",
    ];
    for row in table {
        let (text, expected) = row.split_once(" => ").unwrap();
        let setting = Setting::new("BITHUMAN_API_SECRET", text);
        let error = Secret::new(&setting).err().unwrap();
        let expected = format!("config: BITHUMAN_API_SECRET {expected}");
        assert_eq!(format!("{error:?}"), expected);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn the_secret_is_masked_wherever_the_service_repeats_it() {
    // The secret | what the service says | what is shown.
    let table = [
        "s3cret-v | key s3cret-v, s3cret-vs3cret-v. | key [secret], [secret][secret].",
        "s3cret-v | S3CRET-V s3cret- | S3CRET-V s3cret-",
        r#"a"b\c/de | is a"b\c/de | is [secret]"#,
        r#"a"b\c/de | {"is":"a\"b\\c/de"} | {"is":"[secret]"}"#,
        r#"a"b\c/de | {"is":"a\"b\\c\/de"} | {"is":"[secret]"}"#,
        // Under 8 characters it may be part of any word.
        "s3cret- | key s3cret- | key s3cret-",
        "s | success | success",
    ];
    for row in table {
        let cells: Vec<_> = row.split(" | ").collect();
        assert_eq!(secret(cells[0]).mask(cells[1]), cells[2]);
    }
}

#[test]
fn the_secret_is_masked_as_other_json_writers_escape_it() {
    let go = secret("a&b<c>def").mask(r"is a\u0026b\u003cc\u003edef");
    let dot_net = secret("a+b'c-def").mask(r"is a\u002Bb\u0027c-def");
    assert_eq!([go, dot_net], ["is [secret]", "is [secret]"]);
}
