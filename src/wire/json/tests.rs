use super::*;
use crate::fuzzing;
use proptest::prelude::*;
use serde_json::Value;

/// Documents of RFC 8259's grammar.
const ACCEPT: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "10",
    "1.5",
    "1.50",
    "0.0",
    "1e5",
    "1E5",
    "1e+5",
    "1e-5",
    "-0.0e-0",
    "1e999",
    "-1e-999",
    "123456789012345678901234567890123456789012345678901234567890",
    "\"\"",
    "\"a\"",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\u0000\"",
    "\"\\u00e9\\uABCD\\uabcd\"",
    "\"\\ud83d\\ude00\"",
    "\"\\ud83d\"",
    "\"\\ude00\"",
    "\"\\ude00\\ud83d\"",
    "\"\\ud83dx\"",
    "\"\u{7f}\u{80}\u{2028}\u{ffff}\u{10ffff}é漢😀\"",
    "\"'//*#\"",
    "[]",
    "[ ]",
    "[1]",
    "[1,2]",
    "[[],[[]]]",
    "[null,true,false,0,\"\",[],{}]",
    " \t\r\n[ 1 , 2 ]\n",
    "{}",
    "{ }",
    "{\"\":0}",
    "{\"a\":1,\"b\":2}",
    "{\"a\":{\"a\":{\"a\":[{}]}}}",
    "{\"a\":1,\"a\":2}",
    "{\n\t\"a\" : [ ] ,\r\n\"b\" : { }\n}\n",
    "{\"\\u0061\":1}",
];

/// Texts outside RFC 8259's grammar, and why.
const REJECT: &[(&str, Why)] = &[
    ("", Why::Cut),
    (" ", Why::Cut),
    ("nul", Why::Cut),
    ("nulx", Why::Syntax),
    ("NULL", Why::Syntax),
    ("True", Why::Syntax),
    ("nullx", Why::Trailing),
    ("truefalse", Why::Trailing),
    ("null null", Why::Trailing),
    ("{}{}", Why::Trailing),
    ("[]]", Why::Trailing),
    ("1 2", Why::Trailing),
    ("01", Why::Trailing),
    ("-01", Why::Trailing),
    ("0x1", Why::Trailing),
    ("1_000", Why::Trailing),
    ("NaN", Why::Syntax),
    ("-NaN", Why::Syntax),
    ("Infinity", Why::Syntax),
    ("-Infinity", Why::Syntax),
    ("-", Why::Cut),
    ("--1", Why::Syntax),
    ("+1", Why::Syntax),
    (".5", Why::Syntax),
    ("1.", Why::Cut),
    ("[1.]", Why::Syntax),
    ("1.e5", Why::Syntax),
    ("1e", Why::Cut),
    ("1e+", Why::Cut),
    ("[1e]", Why::Syntax),
    ("1e5.5", Why::Trailing),
    ("\u{ff11}", Why::Syntax),
    ("'a'", Why::Syntax),
    ("\"", Why::Cut),
    ("\"a", Why::Cut),
    ("\"\\", Why::Cut),
    ("\"\\\"", Why::Cut),
    ("\"\\u", Why::Cut),
    ("\"\\u00", Why::Cut),
    ("\"\\u000\"", Why::Text),
    ("\"\\u00g0\"", Why::Text),
    ("\"\\u+123\"", Why::Text),
    ("\"\\u 123\"", Why::Text),
    ("\"\\ué000\"", Why::Text),
    ("\"\\U0000\"", Why::Text),
    ("\"\\x41\"", Why::Text),
    ("\"\\a\"", Why::Text),
    ("\"\\'\"", Why::Text),
    ("\"\\0\"", Why::Text),
    ("\"\\\n\"", Why::Text),
    ("\"\\é\"", Why::Text),
    ("\"\u{0}\"", Why::Text),
    ("\"\u{1f}\"", Why::Text),
    ("\"\n\"", Why::Text),
    ("\"\t\"", Why::Text),
    ("\"0123456789abcde\n\"", Why::Text),
    ("\"0123456789abcdef0123456789abcdef\r\"", Why::Text),
    ("[", Why::Cut),
    ("]", Why::Syntax),
    ("[1", Why::Cut),
    ("[1,", Why::Cut),
    ("[1,]", Why::Syntax),
    ("[,1]", Why::Syntax),
    ("[1,,2]", Why::Syntax),
    ("[1 2]", Why::Syntax),
    ("[1:2]", Why::Syntax),
    ("[1}", Why::Syntax),
    ("[\"a\"", Why::Cut),
    ("{", Why::Cut),
    ("}", Why::Syntax),
    ("{]", Why::Syntax),
    ("{\"a\"", Why::Cut),
    ("{\"a\":", Why::Cut),
    ("{\"a\":1", Why::Cut),
    ("{\"a\":1,", Why::Cut),
    ("{\"a\":1,}", Why::Syntax),
    ("{,\"a\":1}", Why::Syntax),
    ("{\"a\" 1}", Why::Syntax),
    ("{\"a\",1}", Why::Syntax),
    ("{\"a\"::1}", Why::Syntax),
    ("{\"a\":}", Why::Syntax),
    ("{\"a\":1 \"b\":2}", Why::Syntax),
    ("{\"a\":1]", Why::Syntax),
    ("{a:1}", Why::Syntax),
    ("{1:1}", Why::Syntax),
    ("{null:1}", Why::Syntax),
    ("{'a':1}", Why::Syntax),
    ("[1]//", Why::Trailing),
    ("/**/1", Why::Syntax),
    ("#\n1", Why::Syntax),
    ("\u{feff}1", Why::Syntax),
    ("\u{a0}1", Why::Syntax),
    ("\u{c}1", Why::Syntax),
    ("\u{b}1", Why::Syntax),
    ("1\u{0}", Why::Trailing),
    ("\u{0}", Why::Syntax),
    ("[\u{2028}1]", Why::Syntax),
    ("*", Why::Syntax),
    (",", Why::Syntax),
    (":", Why::Syntax),
];

#[test]
fn accepts_what_the_grammar_allows() {
    for text in ACCEPT {
        assert_eq!(Raw::check(text).map(Raw::text), Ok(text.trim()), "{text:?}");
        fuzzing::json::document(text.as_bytes());
    }
}

#[test]
fn rejects_what_the_grammar_forbids() {
    for &(text, why) in REJECT {
        assert_eq!(Raw::check(text).map_err(|bad| bad.why), Err(why), "{text:?}");
        fuzzing::json::document(text.as_bytes());
        // The same inside other values, where the end of the text is not the end of the value.
        for (before, behind) in [("[", "]"), ("{\"k\":", "}"), ("[0,", ",0]")] {
            let nested = format!("{before}{text}{behind}");
            if serde_json::from_str::<serde::de::IgnoredAny>(&nested).is_err() {
                assert!(Raw::check(&nested).is_err(), "{nested:?}");
            }
        }
    }
}

#[test]
fn a_special_byte_is_found_at_every_offset_of_every_length() {
    for special in (0..0x20).chain([b'"', b'\\']) {
        for length in 0..70usize {
            let mut text = vec![b'a'; length];
            assert_eq!(text::plain_len(&text), length);
            for at in 0..length {
                text[at] = special;
                assert_eq!(text::plain_len(&text), at, "{special} at {at} of {length}");
                text[at] = b'a';
            }
        }
    }
}

#[test]
fn no_plain_byte_is_taken_for_a_special_one_beside_any_other() {
    for first in 0..=255u8 {
        for second in 0..=255u8 {
            let text = [b'~', first, second, b'~', b'~', b'~', b'~', b'~'];
            let special = |b: &u8| *b < 0x20 || *b == b'"' || *b == b'\\';
            let slow = text.iter().position(special).unwrap_or(text.len());
            assert_eq!(text::plain_len(&text), slow, "{text:?}");
        }
    }
}

/// [`text::string_end`], one byte and one escape after the other.
fn string_end_slowly(bytes: &[u8], start: usize) -> Result<text::End, text::Fault> {
    let mut end = text::End { at: start, escapes: false, halves: false };
    loop {
        match bytes.get(end.at) {
            None => return Err(text::Fault::Cut(end.at)),
            Some(b'"') => return Ok(end),
            Some(b'\\') => match text::escape_len(&bytes[end.at..]) {
                text::Escape::Whole(used) => {
                    let unit = std::str::from_utf8(&bytes[end.at..end.at + used]).unwrap();
                    let unit = text::unit_at(unit);
                    end.halves |= unit.is_some_and(|u| text::is_high(u) || text::is_low(u));
                    end.escapes = true;
                    end.at += used;
                }
                text::Escape::Cut => return Err(text::Fault::Cut(end.at)),
                text::Escape::Bad => return Err(text::Fault::Bad(end.at)),
            },
            Some(..0x20) => return Err(text::Fault::Bad(end.at)),
            Some(_) => end.at += 1,
        }
    }
}

/// Strings dense with what is special, of every length around the blocks' edges.
#[test]
fn strings_end_where_a_slow_reader_finds_their_end() {
    const PIECES: &[&str] = &[
        "\\\\",
        "\\\"",
        "\\n",
        "\\t",
        "\\r",
        "\\/",
        "\\b",
        "\\f",
        "\\u00e9",
        "\\ud83d",
        "\\uDE00",
        "\\u9fff",
        "\\udfFF",
        "\\ue000",
        "u",
        "n",
        "a",
        "plain text ",
        "é",
        "漢",
        "\"",
        "\\",
        "\n",
        "\\x",
        "\\u12",
        "\\U",
        "\\é",
        "\u{0}",
    ];
    // The last ones end a string or are wrong: drawn rarely, so that most strings are long.
    const SOUND: usize = 20;
    let mut random = 7u64;
    let mut below = |limit: usize| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        usize::try_from(random >> 33).unwrap() % limit
    };
    let (mut ended, mut broken) = (0, 0);
    for _ in 0..40_000 {
        let (mut string, kinds, length) = (String::from("\""), 1 + below(4), below(300));
        let kinds: Vec<&str> = (0..kinds).map(|_| PIECES[below(SOUND)]).collect();
        while string.len() < length {
            let odd = below(150) == 0;
            string.push_str(if odd {
                PIECES[below(PIECES.len())]
            } else {
                kinds[below(kinds.len())]
            });
        }
        string.push_str(["\"", "", "\" ", "\",\"x\\y\":1}"][below(4)]);
        let front = text::string_front(string.as_bytes(), 1);
        let found = text::string_end(string.as_bytes(), 1, front);
        assert_eq!(found, string_end_slowly(string.as_bytes(), 1), "{string:?}");
        ended += u32::from(found.is_ok());
        broken += u32::from(found.is_err());
    }
    assert!(ended > 10_000 && broken > 10_000, "{ended} sound, {broken} broken");
}

#[test]
fn depth_bombs_are_refused_at_the_limit() {
    let limit = DEPTH_MAX as usize;
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":[", "]}]")] {
        for depth in [1_000, 100_000, 1_000_000] {
            let bomb = open.repeat(depth);
            assert_eq!(Raw::check(&bomb).map_err(|bad| bad.why), Err(Why::Depth));
            let whole = bomb + "1" + &close.repeat(depth);
            let bad = Raw::check(&whole).unwrap_err();
            assert_eq!(bad.why, Why::Depth);
            assert!(bad.at <= limit * open.len(), "looked at no more than it had to: {bad}");
        }
    }
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    assert!(Raw::check(&nested(limit)).is_ok());
    assert!(serde_json::from_str::<Value>(&nested(limit)).is_ok());
    assert!(Raw::check(&nested(limit + 1)).is_err());
    assert!(serde_json::from_str::<Value>(&nested(limit + 1)).is_err());
}

#[test]
fn levels_that_were_walked_count_towards_the_depth() {
    fn walk(cursor: &mut Cursor<'_>) -> Result<(), Bad> {
        cursor.array(walk)
    }
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let limit = DEPTH_MAX as usize;
    assert_eq!(document(&nested(limit), walk), Ok(()));
    assert_eq!(document(&nested(limit + 1), walk).unwrap_err().why, Why::Depth);
    let skip_inside = |cursor: &mut Cursor<'_>| cursor.array(|cursor| cursor.skip().map(drop));
    assert_eq!(document(&nested(limit), skip_inside), Ok(()));
    assert_eq!(document(&nested(limit + 1), skip_inside).unwrap_err().why, Why::Depth);
}

#[test]
fn siblings_do_not_count_towards_the_depth() {
    let many = format!("[{}[]]", "[[]],{\"a\":{}},".repeat(1000));
    assert!(Raw::check(&many).is_ok());
    let mut count = 0;
    document(&many, |cursor| {
        cursor.array(|cursor| {
            count += 1;
            match cursor.kind()? {
                Kind::Array => cursor.array(|_| Ok(())),
                _ => cursor.object(|_, _| Ok(())),
            }
        })
    })
    .unwrap();
    assert_eq!(count, 2001);
}

#[test]
fn large_keys_numbers_and_member_counts_are_read_in_one_pass() {
    let key = "k".repeat(1 << 20);
    let text = format!("{{\"{key}\":1}}");
    document(&text, |cursor| {
        cursor.object(|found, _| {
            assert_eq!(found, key);
            Ok(())
        })
    })
    .unwrap();
    let digits = "9".repeat(1 << 20);
    assert!(Raw::check(&digits).is_ok());
    assert_eq!(document(&digits, Cursor::unsigned).unwrap_err().why, Why::Range);
    let members: Vec<String> = (0..100_000).map(|n| format!("\"{n}\":{n}")).collect();
    assert!(Raw::check(&format!("{{{}}}", members.join(","))).is_ok());
}

#[test]
fn keys_that_decide_stand_once_and_without_escapes() {
    let read = |text| {
        let mut model = None;
        document(text, |cursor| {
            cursor.object(|key, cursor| match key {
                "model" => once(&mut model, cursor.string()?.raw()),
                _ => Ok(()),
            })
        })
        .map(|()| model)
    };
    assert_eq!(read("{\"a\":1,\"model\":\"m\",\"a\":2}"), Ok(Some("m")));
    let twice = "{\"model\":\"m\", \"model\":\"n\"}";
    assert_eq!(read(twice), Err(Bad { at: 14, why: Why::Duplicate }));
    let escaped = "{\"model\":\"m\",\"mod\\u0065l\":\"n\"}";
    assert_eq!(read(escaped), Err(Bad { at: 13, why: Why::EscapedKey }));
}

#[test]
fn a_value_of_another_type_is_an_error_of_its_own() {
    fn check(own: &[&str], read: impl Fn(&mut Cursor<'_>) -> Result<(), Bad>) {
        for text in ["{}", "[]", "\"\"", "true", "false", "0", "null"] {
            let result = document(text, &read).map_err(|bad| bad.why);
            let expected = if own.contains(&text) { Ok(()) } else { Err(Why::Type) };
            assert_eq!(result, expected, "{text}");
        }
        assert_eq!(document("", &read).unwrap_err().why, Why::Cut);
        assert_eq!(document("?", &read).unwrap_err().why, Why::Syntax);
    }
    check(&["{}"], |cursor| cursor.object(|_, _| Ok(())));
    check(&["[]"], |cursor| cursor.array(|_| Ok(())));
    check(&["\"\""], |cursor| cursor.string().map(drop));
    check(&["true", "false"], |cursor| cursor.boolean().map(drop));
    check(&["0"], |cursor| cursor.unsigned().map(drop));
    assert_eq!(document("null", Cursor::string_or_null), Ok(None));
    assert_eq!(document("\"x\"", Cursor::string_or_null), Ok(Some(Escaped("x"))));
    assert_eq!(document("1", Cursor::string_or_null).unwrap_err().why, Why::Type);
}

#[test]
fn unsigned_numbers_are_exact_or_refused() {
    let cases = [
        ("0", Some(0)),
        ("7", Some(7)),
        ("7.0", Some(7)),
        ("7.000", Some(7)),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("7.5", None),
        ("7.0e1", None),
        ("7e0", None),
        ("-0", None),
        ("-7", None),
    ];
    for (text, expected) in cases {
        let result = document(text, Cursor::unsigned);
        assert_eq!(result.map_err(|bad| bad.why), expected.ok_or(Why::Range), "{text}");
    }
}

#[test]
fn values_that_nobody_read_are_skipped_and_checked() {
    let nothing = |cursor: &mut Cursor<'_>| cursor.object(|_, _| Ok(()));
    assert_eq!(document("{\"a\":[1,{\"b\":2}],\"c\":\"d\"}", nothing), Ok(()));
    assert_eq!(document("{\"a\":[1,{\"b\":2}},\"c\":1}", nothing).unwrap_err().why, Why::Syntax);
    // A reader that only looked at the kind has read nothing.
    let looks = |cursor: &mut Cursor<'_>| cursor.array(|cursor| cursor.kind().map(drop));
    assert_eq!(document("[ 1, \"a\", [] ]", looks), Ok(()));
}

#[test]
fn escaped_text_means_what_it_says() {
    let cases = [
        ("", ""),
        ("plain é😀", "plain é😀"),
        ("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\u{8}\u{c}\n\r\t"),
        ("\\u0041\\u00e9\\u0000", "Aé\0"),
        ("\\ud83d\\ude00", "😀"),
        ("\\uD83D\\uDE00", "😀"),
        ("\\ud83d", "\u{fffd}"),
        ("\\ude00", "\u{fffd}"),
        ("\\ude00\\ud83d", "\u{fffd}\u{fffd}"),
        ("\\ud83d\\ud83d\\ude00", "\u{fffd}😀"),
        ("\\ud83dx\\ude00", "\u{fffd}x\u{fffd}"),
        ("\\ud83d\\u0041", "\u{fffd}A"),
        ("\\ud83d\\n", "\u{fffd}\n"),
        ("\\\\ud83d", "\\ud83d"),
        ("\\\\n", "\\n"),
    ];
    for (raw, plain) in cases {
        let text = Escaped::trusted(raw);
        assert_eq!(text.decode(), plain, "{raw}");
        assert!(text.is(plain), "{raw}");
        assert!(!text.is(&format!("{plain}x")), "{raw}");
        assert!(plain.is_empty() || !text.is(""), "{raw}");
    }
    assert!(!Escaped("\\n").is("\\n"), "an escape is not its own spelling");
}

#[test]
fn verbatim_takes_only_what_needs_no_escape() {
    assert_eq!(Escaped::verbatim("shell"), Some(Escaped("shell")));
    assert_eq!(Escaped::verbatim("größe 漢"), Some(Escaped("größe 漢")));
    for text in ["a\"", "a\\", "a\n", "\0"] {
        assert_eq!(Escaped::verbatim(text), None, "{text:?}");
    }
}

#[test]
fn utf8_says_where_it_breaks() {
    assert_eq!(utf8("é".as_bytes()), Ok("é"));
    for bytes in [&b"ab\xff"[..], b"ab\xc3", b"ab\xed\xa0\x80", b"ab\xc0\xaf"] {
        assert_eq!(utf8(bytes), Err(Bad { at: 2, why: Why::Utf8 }));
    }
}

#[test]
fn broken_halves_are_mended_and_whole_texts_are_not_touched() {
    // Deltas, what the client gets of each, what is left at the end.
    let cases: [(&[&str], &[&str], &str); 13] = [
        (&["a", "b\\n", "\\\\ud83d"], &["a", "b\\n", "\\\\ud83d"], ""),
        (&["x\\ud83d\\ude00y"], &["x\\ud83d\\ude00y"], ""),
        (&["x\\ud83d", "\\ude00y"], &["x", "\\ud83d\\ude00y"], ""),
        (&["\\uD83D", "\\uDE00"], &["", "\\uD83D\\uDE00"], ""),
        (&["x\\ud83d", "y"], &["x", "\\ufffdy"], ""),
        (&["x\\ud83d", "", "\\ude00"], &["x", "", "\\ud83d\\ude00"], ""),
        (&["x\\ud83d"], &["x"], "\\ufffd"),
        (&["\\ude00x"], &["\\ufffdx"], ""),
        (&["\\ude00\\ud83d"], &["\\ufffd"], "\\ufffd"),
        (&["a\\ud83d\\ud83d\\ude00"], &["a\\ufffd\\ud83d\\ude00"], ""),
        (&["\\ud83d", "\\ud83d", "\\ude00"], &["", "\\ufffd", "\\ud83d\\ude00"], ""),
        (&["\\ud83d", "\\ude00\\ude00\\ud83d"], &["", "\\ud83d\\ude00\\ufffd"], "\\ufffd"),
        (&["\\ud83dx\\u0041\\ud83d\\ude00"], &["\\ufffdx\\u0041\\ud83d\\ude00"], ""),
    ];
    for (deltas, expected, end) in cases {
        let (mut surrogates, mut scratch) = (Surrogates::default(), String::new());
        for (&delta, &expected) in deltas.iter().zip(expected) {
            let passed = surrogates.pass(Escaped::trusted(delta), &mut scratch);
            assert_eq!(passed.raw(), expected, "{deltas:?}");
        }
        let left = surrogates.finish().map_or("", Escaped::raw);
        assert_eq!(left, end, "{deltas:?}");
        assert_eq!(surrogates.finish(), None);
    }
}

#[test]
fn whole_texts_and_values_are_mended_at_once() {
    let mut scratch = String::new();
    assert_eq!(Escaped::trusted("a\\ud83d").paired(&mut scratch).raw(), "a\\ufffd");
    let fine = "{\"a\":\"\\ud83d\\ude00\\\\ud83d\"}";
    assert_eq!(Raw::trusted(fine).paired(&mut scratch).text(), fine);
    let torn = "[\"\\ud83d\",\"\\ude00\",{\"\\ude00\":1}]";
    let mended = "[\"\\ufffd\",\"\\ufffd\",{\"\\ufffd\":1}]";
    assert_eq!(Raw::trusted(torn).paired(&mut scratch).text(), mended);
}

#[test]
fn halves_are_found_at_every_offset_of_a_long_text() {
    for half in
        ["\\ud83d", "\\\\ud83d", "\\ud83d\\ude00", "\\\\\\uDE00", "\\ud7ff\\uD83d", "\\n\\ude00"]
    {
        for before in 0..150 {
            let text = format!("{}{half}{}", "x\\n".repeat(before), "y".repeat(before));
            fuzzing::json::halves(&text, 1 << (before % 64));
            let text = format!("{}{half}{}", "x".repeat(before), "\\\\u".repeat(before));
            fuzzing::json::halves(&text, 1 << (before % 64));
        }
    }
}

#[test]
fn what_is_escaped_is_as_others_escape_it_at_every_offset() {
    for special in [
        "\"",
        "\\",
        "\n",
        "\r",
        "\t",
        "\u{1}",
        "\u{1f}",
        "\u{0}\u{0}\u{0}\"\\",
        "\n\n\n\n\n\n\n\n\n",
    ] {
        for before in 0..150 {
            let text = format!("{}{special}{}é", "x".repeat(before), special.repeat(before));
            let mut out = Vec::new();
            string(&text, &mut out);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
            assert_eq!(out, serde_json::to_vec(&text).unwrap());
        }
    }
}

#[test]
fn text_inside_text_is_escaped_twice() {
    let inner = "{\"input\":\"a\\n\\\"b\\\" \\\\ \\ud83d\\ude00 é\"}";
    let mut once = Vec::new();
    escape(inner, &mut once);
    let mut outer = Vec::new();
    escape_again(Escaped::trusted(utf8(&once).unwrap()), &mut outer);
    let once_back = Escaped::trusted(utf8(&outer).unwrap()).decode();
    assert_eq!(once_back.as_bytes(), once);
    assert_eq!(Escaped::trusted(&once_back).decode(), inner);
}

#[test]
fn members_are_separated_where_they_have_to_be() {
    let mut out = b"data: ".to_vec();
    out.push(b'{');
    member("a", "x\"y", &mut out);
    member_quoted("b", Escaped::trusted("\\n"), &mut out);
    member_number("c", u64::MAX, &mut out);
    key("d", &mut out);
    out.push(b'[');
    for value in ["1", "{}"] {
        comma(&mut out);
        out.extend_from_slice(value.as_bytes());
    }
    out.push(b']');
    member_raw("e", "null", &mut out);
    out.push(b'}');
    let expected =
        "data: {\"a\":\"x\\\"y\",\"b\":\"\\n\",\"c\":18446744073709551615,\"d\":[1,{}],\"e\":null}";
    assert_eq!(utf8(&out), Ok(expected));
}

/// Strings with much of what is special in them.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[a-z ]{0,20}",
        "\\PC{0,5}",
        any::<char>().prop_map(String::from),
        prop::char::range('\0', '\u{20}').prop_map(String::from),
        Just("\"".to_owned()),
        Just("\\".to_owned()),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// The inside of a JSON string: any escapes, halves of pairs too.
fn escapes() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "[a-zé😀]{0,3}",
        2 => (0xd7ffu16..=0xe000).prop_map(|unit| format!("\\u{unit:04x}")),
        2 => (0xd83du16..=0xd83e).prop_map(|unit| format!("\\u{unit:04X}")),
        2 => (0xde00u16..=0xde01).prop_map(|unit| format!("\\u{unit:04x}")),
        1 => any::<u16>().prop_map(|unit| format!("\\u{unit:04X}")),
        2 => "\\\\[\"\\\\/bfnrt]",
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300f64..1e300).prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::vec((text(), inner), 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Texts that are nearly JSON.
fn soup() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"a\":", "\\", "\\n", "\\u", "00e9",
        "\\ud83d", "0", "1", "-", ".", "e", "E", "+", "true", "fals", "e", "null", " ", "\n", "\t",
        "é", "\u{1}", "/", "nul", "l",
    ]);
    prop::collection::vec(token, 0..14).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn what_is_escaped_here_others_read(text in text()) {
        let mut out = Vec::new();
        string(&text, &mut out);
        prop_assert_eq!(&serde_json::from_slice::<String>(&out).unwrap(), &text);
        let mut copy = out.clone();
        prop_assert_eq!(&simd_json::serde::from_slice::<String>(&mut copy).unwrap(), &text);
        let raw = Raw::check(utf8(&out).unwrap()).unwrap();
        prop_assert!(raw.string().unwrap().is(&text));
    }

    #[test]
    fn documents_others_wrote_are_read_alike(value in value(), pretty in any::<bool>()) {
        let text = if pretty {
            serde_json::to_string_pretty(&value)
        } else {
            serde_json::to_string(&value)
        };
        fuzzing::json::document(text.unwrap().as_bytes());
    }

    #[test]
    fn damaged_documents_are_judged_alike(value in value(), at in any::<prop::sample::Index>(),
                                          byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = serde_json::to_vec(&value).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(if cut { at } else { bytes.len() });
        fuzzing::json::document(&bytes);
    }

    #[test]
    fn near_json_is_judged_alike(text in soup()) {
        fuzzing::json::document(text.as_bytes());
        let ours = Raw::check(&text).is_ok();
        let theirs = simd_json::to_borrowed_value(&mut text.clone().into_bytes()).is_ok();
        // simd-json refuses lone surrogates and numbers beyond its types, which are grammatical.
        let theirs_may_refuse = text.contains("\\u") || text.contains(['e', 'E']);
        prop_assert!(ours == theirs || (ours && theirs_may_refuse), "{:?}", text);
    }

    #[test]
    fn surrogates_come_out_whole_however_a_text_is_cut(text in escapes(), cuts in any::<u64>()) {
        fuzzing::json::halves(&text, cuts);
    }
}
