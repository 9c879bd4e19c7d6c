//! Every tag of V8's format by itself: what it is read as, and that nothing less is a whole value.

use super::*;

fn value(body: &[u8]) -> Vec<u8> {
    [&[MARK, 15], body].concat()
}

/// As JSON; none where it is not whole.
fn read(reach: Reach, value: &[u8]) -> Option<String> {
    let mut reader = Reader::new(reach);
    reader.read(value);
    reader.is_whole().then(|| String::from_utf8(reader.take_json()).expect("JSON is UTF-8"))
}

/// What a number of eight bytes is read as.
fn double(number: f64) -> Option<String> {
    read(Reach::All, &value(&[b"N".as_slice(), &number.to_le_bytes()].concat()))
}

const VALUES: &[(&[u8], &str)] = &[
    (b"_", "null"),
    (b"0", "null"),
    (b"-", "null"),
    (b"T", "true"),
    (b"y", "true"),
    (b"F", "false"),
    (b"x", "false"),
    // The sign is the lowest bit.
    (b"I\x00", "0"),
    (b"I\x01", "-1"),
    (b"I\x02", "1"),
    (b"I\x03", "-2"),
    (b"I\xfe\xff\xff\xff\x0f", "2147483647"),
    (b"I\xff\xff\xff\xff\x0f", "-2147483648"),
    (b"U\x05", "5"),
    (b"U\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "18446744073709551615"),
    (b"n\0\0\0\0\0\0\xf8\x3f", "1.5"),
    (b"D\0\0\0\0\0\0\xf8\x3f", "null"),
    (b"\"\x00", "\"\""),
    (b"\"\x02a\"", r#""a\"""#),
    (b"c\x04a\0\xac\x20", r#""a\u20ac""#),
    (b"\0c\x02a\0", r#""a""#),
    (b"S\x03\xe2\x82\xac", "\"\u{20ac}\""),
    (b"S\x01\"", r#""\"""#),
    (b"s\"\x01a", r#""a""#),
    (b"Z\x00", "null"),
    (b"Z\x10\x01\0\0\0\0\0\0\0", "null"),
    (b"z\x10\x01\0\0\0\0\0\0\0", "null"),
    (b"^\x00", "null"),
    (b"B\x00", "null"),
    (b"B\x02ab", "null"),
    (b"~\x02\x10ab", "null"),
    (b"?\x05T", "true"),
    // Objects; each sort of key.
    (b"o{\x00", "{}"),
    (b"o\"\x01aI\x02\"\x01bT{\x02", r#"{"a":1,"b":true}"#),
    (b"oI\x02T{\x01", r#"{"1":true}"#),
    (b"oU\x07T{\x01", r#"{"7":true}"#),
    (b"oN\0\0\0\0\0\0\xf8\x3fT{\x01", r#"{"1.5":true}"#),
    (b"oc\x02a\0T{\x01", r#"{"a":true}"#),
    (b"oS\x01aT{\x01", r#"{"a":true}"#),
    // Arrays: what they have beside their items is left out, and so is one whose values have an index each.
    (b"A\x00$\x00\x00", "[]"),
    (b"A\x02I\x02A\x01F$\x00\x01$\x00\x02", "[1,[false]]"),
    (b"A\x01I\x02\"\x01xI\x04$\x01\x01", "[1]"),
    (b"A\x02a\x05I\x06T@\x01\x05I\x02$\x00\x02", "[null,1]"),
    // A Map and a Set.
    (b"A\x02;\"\x01aT:\x02I\x02$\x00\x02", "[null,1]"),
    (b"A\x02'I\x02I\x04,\x02I\x02$\x00\x02", "[null,1]"),
    // A buffer, and a view of it.
    (b"A\x02B\x02abVB\x00\x02\x00I\x02$\x00\x02", "[null,1]"),
    (b"A\x02~\x02\x10abVB\x00\x02\x00I\x02$\x00\x02", "[null,1]"),
    // What Node writes itself: a view with its bytes, and another object.
    (b"A\x02\\\x00\x01\x02abI\x02$\x00\x02", "[null,1]"),
    (b"A\x02\\\x01o\"\x01aT{\x01I\x02$\x00\x02", r#"[{"a":true},1]"#),
    (b"A\x02R\"\x01a\x03I\x02$\x00\x02", "[null,1]"),
    (b"A\x02rEm\"\x01xs\"\x01yco{\x00.I\x02$\x00\x02", "[null,1]"),
    (b"rRFSTU.", "null"),
];

#[test]
fn each_value_is_read_as_json_and_nothing_less_is_whole() {
    for &(body, json) in VALUES {
        let value = value(body);
        assert_eq!(read(Reach::All, &value).as_deref(), Some(json), "{body:?}");
        for end in 0..value.len() {
            assert_eq!(read(Reach::All, &value[..end]), None, "{body:?} up to {end}");
        }
    }
}

#[test]
fn what_the_format_does_not_have_is_no_value() {
    let wrong: &[&[u8]] = &[
        b"\x07",
        b"oT",
        b"o\"\x01a{\x01",
        b"A\x01I\x02T",
        b"A\x01VB\x00\x02\x00",
        b"A\x02B\x02ab\x00I\x02VB\x00\x02\x00",
        b"\\\x02",
        b"rx",
        // A number of more than 64 bits.
        b"U\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",
    ];
    for body in wrong {
        let mut reader = Reader::new(Reach::All);
        reader.read(&value(body));
        assert_eq!(reader.want, Want::Failed, "{body:?}");
    }
    for start in [b"\xfe\x0fT", b"\xff\x0cT"] {
        assert_eq!(read(Reach::All, start), None);
    }
}

#[test]
fn a_view_of_an_older_version_has_no_flags() {
    let array = b"A\x02B\x02abVB\x00\x02I\x02$\x00\x02";
    assert_eq!(read(Reach::All, &[&[MARK, 13], array.as_slice()].concat()).as_deref(), Some("[null,1]"));
}

#[test]
fn a_number_is_written_as_json_has_it() {
    for (number, json) in [
        (0.1, "0.1"),
        (-2.5, "-2.5"),
        (-0.0, "0"),
        (4_294_967_296.0, "4294967296"),
        (f64::NAN, "null"),
        (f64::INFINITY, "null"),
    ] {
        assert_eq!(double(number).as_deref(), Some(json));
    }
}

#[test]
fn where_only_names_are_wanted_little_is_written() {
    // Of 1000 bytes each.
    for (tag, text) in [(b'"', "a".repeat(1000)), (b'S', "é".repeat(500))] {
        let long = [&[tag, 0xe8, 0x07], text.as_bytes()].concat();
        let length = |reach| read(reach, &value(&long)).expect("whole").len() - 2;
        assert_eq!((length(Reach::Names), length(Reach::All)), (NAME_LENGTH, 1000));
    }

    let deep = b"o\"\x03msgo\"\x01ao\"\x01bT{\x01{\x01\"\x01cF{\x02";
    assert_eq!(read(Reach::Names, &value(deep)).as_deref(), Some(r#"{"msg":{"a":null},"c":false}"#));
    assert_eq!(read(Reach::AllButMsg, &value(deep)).as_deref(), Some(r#"{"msg":null,"c":false}"#));
    assert_eq!(read(Reach::All, &value(deep)).as_deref(), Some(r#"{"msg":{"a":{"b":true}},"c":false}"#));
}
