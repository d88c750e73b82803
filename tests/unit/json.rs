use serde_json::json;

use super::*;

const OBJECT: &str = r#"{"success":true, "agent_id" : "A9\u0031","n":12345,"deep":{"a":[1,{}]},
    "text":"a\"b\\","float":-1.5e3,"null":null,"id":7}"#;

fn names(text: &str) -> String {
    let fields = Fields::parse(text).fields;
    let names: Vec<_> = fields.into_iter().map(|field| field.name).collect();
    names.join(" ")
}

#[test]
fn text_that_breaks_off_gives_the_fields_before_and_no_half_of_a_number() {
    let pairs = |text| {
        let fields = Fields::parse(text).fields;
        let pairs = fields.into_iter().map(|field| (field.name, field.json));
        pairs.collect::<Vec<_>>()
    };
    let whole = pairs(OBJECT);
    assert_eq!(whole.len(), 8);
    let start = OBJECT.as_ptr() as usize;
    for end in 1..OBJECT.len() {
        let mut cut = pairs(&OBJECT[..end]);
        // An object that breaks off is given too, for the fields in it.
        cut.pop_if(|(_, json)| json.starts_with('{') && !json.ends_with("]}"));
        let before = whole.iter().take_while(|(_, json)| {
            let needs_end = json.ends_with(|c: char| c.is_ascii_digit());
            let json_end = json.as_ptr() as usize + json.len() - start;
            json_end + usize::from(needs_end) <= end
        });
        assert_eq!(cut, whole[..before.count()], "{}", &OBJECT[..end]);
    }
}

#[test]
fn what_is_wrong_with_one_field_costs_no_other() {
    let arrays = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(300), "}".repeat(300));
    let good = r#""\ud83d"|"\ud83d\ud83d \udc00"|1e400|-0.0e-9999|"é�""#;
    let good = good
        .split('|')
        .chain([&*arrays, &objects])
        .map(|json| (json, "a bad z"));
    // From here on it is not JSON, and what follows could be anything.
    let bad = "NaN|\"line\nfeed\"|\"\0\"|\"\\x\"|'a'||-|1."
        .split('|')
        .map(|json| (json, "a"));
    for (json, expected) in good.chain(bad).chain([("1}, {", "a bad")]) {
        let text = format!(r#"{{"a":"A91","bad":{json},"z":true}}"#);
        assert_eq!(names(&text), expected, "{json}");
        let fields = Fields::parse(&text);
        assert_eq!(fields.id("a").as_deref(), Some("A91"));
        assert_eq!(fields.get("z").is_some(), expected.ends_with('z'));
    }
}

#[test]
fn an_object_is_found_whatever_is_around_it_and_nothing_else_is_one() {
    let table = [
        ("\u{feff}{\"a\":1,\"b\":2}", "a b"),
        ("\u{feff}\r\n\t {\"a\":1}", "a"),
        (r#"{"a":1} and more"#, "a"),
        (r#"{"a":1}{"b":2}"#, "a"),
        (r#"{"a":1,}"#, "a"),
        (r#"{"\u0061\"":1}"#, "a\""),
        (r#"{"a":1,"\ud83d":2,"b":3}"#, r"a \ud83d b"),
        ("{\"a\":1,\"b\t\":2,\"c\":3}", "a"),
        ("{<html>", ""),
        ("", ""),
        ("null", ""),
        (r#"[{"a":1}]"#, ""),
        ("<html>{}</html>", ""),
    ];
    for (text, expected) in table {
        assert_eq!(names(text), expected, "{text}");
    }
    // Of a field that comes twice, the last one counts.
    let fields = Fields::parse(r#"{"a":"1","b":{"c":1},"a":"2","b":{"c":2}}"#);
    assert_eq!(fields.text("a").as_deref(), Some("2"));
    assert_eq!(fields.object("b").get("c"), Some("2"));
}

#[test]
fn a_field_is_read_as_text_as_any_text_and_as_an_id() {
    // The JSON => as text | as any text | as an id.
    let table = [
        r#""A91" => A91 | A91 | A91"#,
        r#""\u00e9\"" => é" | é" | é""#,
        r#""a\ud83d" => a\ud83d | a\ud83d | a\ud83d"#,
        r#""" => - | - | -"#,
        "null => - | - | -",
        "12 => - | 12 | 12",
        "18446744073709551615 => - | 18446744073709551615 | 18446744073709551615",
        "-12 => - | -12 | -",
        "1.5 => - | 1.5 | -",
        "1e3 => - | 1000.0 | -",
        "1e400 => - | - | -",
        "true => - | true | -",
        r#"{ "a": "\u0073ecret" } => - | {"a":"secret"} | -"#,
        r#"["a", 1] => - | ["a",1] | -"#,
    ];
    for row in table {
        let (json, expected) = row.split_once(" => ").unwrap();
        let object = format!(r#"{{"f":{json}}}"#);
        let fields = Fields::parse(&object);
        let read = [fields.text("f"), fields.any_text("f"), fields.id("f")];
        let read = read.map(|text| text.unwrap_or("-".into()));
        assert_eq!(read.join(" | "), expected, "{json}");
        assert_eq!(fields.object("f").is_whole, json.starts_with('{'));
        assert!(fields.text("g").is_none() && fields.id("g").is_none());
    }
    for (len, expected) in [(MAX_EXTRA, Some("[1]")), (MAX_EXTRA + 1, None)] {
        let long = format!(r#"{{"f":[1{}]}}"#, " ".repeat(len - 3));
        assert_eq!(Fields::parse(&long).any_text("f").as_deref(), expected);
    }
}

#[test]
fn extra_keeps_64_kib_of_json_text_and_drops_what_has_no_room() {
    let json = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
    let (a, b, c, d) = (64 * 1024, 60 * 1024 - 1, 5 * 1024, 4 * 1024 - 1);
    let all = [("a", a), ("b", b), ("c", c), ("d", d), ("e", 3)];
    let all = all.map(|(name, len)| format!("\"{name}\":{}", json(len)));
    let object = format!("{{{}}}", all.join(","));
    let extra = Fields::parse(&object).read(|_, _| false);
    assert_eq!(extra.keys().collect::<Vec<_>>(), ["b", "d"]);

    let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    let bad = format!(r#"{{"a":"\ud83d","b":1e400,"c":{deep},"good":[1,{{"a":null}}]}}"#);
    let extra = Fields::parse(&bad).read(|_, _| false);
    assert_eq!(json!(extra), json!({"good": [1, {"a": null}]}));
}

#[test]
fn a_field_is_taken_only_where_it_has_its_type() {
    let object =
        r#"{"a":1,"a":"x","a":"y","b":null,"c":"","d":"x","d":1,"e":0.5,"f":"x","g":null}"#;
    let [mut a, mut b, mut c, mut d] = [(); 4].map(|()| Some("before".to_owned()));
    let [mut e, mut f, mut g] = [Some(0.0); 3];
    let extra = Fields::parse(object).read(|name, json| match name {
        "a" => take_text(json, &mut a),
        "b" => take_text(json, &mut b),
        "c" => take_text(json, &mut c),
        "d" => take_text(json, &mut d),
        "e" => take(json, &mut e),
        "f" => take(json, &mut f),
        _ => take(json, &mut g),
    });
    assert_eq!([a, b, c, d], [Some("y".into()), None, None, None]);
    assert_eq!([e, f, g], [Some(0.5), None, None]);
    assert_eq!(json!(extra), json!({"d": 1, "f": "x"}));
}

#[test]
fn reread_gives_an_object_as_text() {
    let read = |text: &str| reread(&mut serde_json::Deserializer::from_str(text)).ok();
    assert_eq!(read(r#"{ "a": [1] }"#).as_deref(), Some(r#"{"a":[1]}"#));
    assert_eq!(read("[1]"), None);
}

#[test]
fn an_agent_id_is_found_in_text_that_is_not_json() {
    let table = [
        r#"{"message":NaN, "agent_id" : "A91", "x":1 => A91"#,
        "{\"message\":\"line\nfeed\0\u{1b}\",\"agent_id\"\r\n:\t\"A91\" => A91",
        r#"{"success":true,"data":{"x":1e400,"agent_id":"A91" => A91"#,
        r#"<pre>{"agent_id":"A91"}</pre> => A91"#,
        r#"{"agent_id":4711} => 4711"#,
        r#"{"agent_id":4711, => 4711"#,
        // The first that is one.
        r#"{"agent_id":"","data":{"agent_id":"A91"}} => A91"#,
        r#"{"agent_id":null,"agent_id":NaN,"agent_id":"A91"} => A91"#,
        r#"{"agent_id":"A91","agent_id":"A92"} => A91"#,
        r#"{"missing":"agent_id","agent_id":"A91"} => A91"#,
        // Half of one.
        r#"{"agent_id":4711 => -"#,
        r#"{"agent_id":"A9 => -"#,
        r#"{"agent_id":" => -"#,
        r#"{"agent_id" => -"#,
        // Not the field, or no id.
        r#"{"message":"send \"agent_id\":\"A91\" again"} => -"#,
        r#"{"message":"\"agent_id\": 4711 is wrong"} => -"#,
        r#"["agent_id","A91"] => -"#,
        r#"{"my_agent_id":"A91"} => -"#,
        r#"{"my\"agent_id":"A91"} => -"#,
        r#"{"agent_id":NaN} => -"#,
        r#"{"agent_id":-4711} => -"#,
        r#"{"agent_id":{"x":"A91"}} => -"#,
        "é\"agent_id\"é => -",
    ];
    for row in table {
        let (text, expected) = row.rsplit_once(" => ").unwrap();
        let id = scan_for_agent_id(text);
        assert_eq!(id.as_deref().unwrap_or("-"), expected, "{text}");
    }
}

#[test]
fn a_text_that_is_not_json_says_failure_where_success_is_false() {
    let yes = r#"{"x":NaN,"success":false|<pre>{"success":true} "success" : false"#;
    let no = r#"{"x":NaN,"success":true|"success"|false|{"success":null,"x":false}|"#;
    assert!(yes.split('|').all(scan_for_failure));
    assert!(!no.split('|').any(scan_for_failure));
}

#[test]
fn the_scan_makes_up_no_id() {
    for value in ["1.5", "1e400", "12abc", r#""A\"1""#] {
        let text = format!(r#"{{"agent_id":{value}}}"#);
        let id = Fields::parse(&text).id("agent_id");
        let scanned = scan_for_agent_id(&text);
        assert!(scanned.is_none() || scanned == id, "{value}: {scanned:?}");
    }
}
