//! Notifications: golden datagrams, and properties.

#![cfg(test)]

use std::time::Duration;

use proptest::prelude::*;
use recluster_wire::notify::{MAX_DATAGRAM, MAX_STATUS, Refused, Word, datagram, parse};

#[test]
fn every_word_as_systemd_writes_it() {
    let usec = Duration::from_micros;
    for (line, word) in [
        ("READY=1", Word::Ready),
        ("STATUS=Processing requests…", Word::Status("Processing requests…".into())),
        ("STATUS=", Word::Status(String::new())),
        ("STATUS=a=b", Word::Status("a=b".into())),
        ("STOPPING=1", Word::Stopping),
        ("RELOADING=1", Word::Reloading),
        ("MONOTONIC_USEC=123456789", Word::Monotonic(usec(123_456_789))),
        ("WATCHDOG=1", Word::WatchdogBeat),
        ("WATCHDOG=trigger", Word::WatchdogTrigger),
        ("WATCHDOG_USEC=20000000", Word::WatchdogTimeout(Duration::from_secs(20))),
        ("FDSTORE=1", Word::FdStore),
        ("FDSTOREREMOVE=1", Word::FdStoreRemove),
        ("BARRIER=1", Word::Barrier),
        ("MAINPID=4711", Word::MainPid(4711)),
        ("ERRNO=2", Word::Errno(2)),
        ("EXTEND_TIMEOUT_USEC=5000000", Word::ExtendTimeout(Duration::from_secs(5))),
    ] {
        assert_eq!(parse(line.as_bytes()), Ok(vec![word.clone()]), "{line}");
        assert_eq!(word.to_string(), line);
    }
}

#[test]
fn several_words_in_their_order() {
    let reloading = [Word::Reloading, Word::Monotonic(Duration::from_micros(7))];
    assert_eq!(parse(b"RELOADING=1\nMONOTONIC_USEC=7"), Ok(reloading.to_vec()));
    assert_eq!(parse(b"\nREADY=1\n\nSTOPPING=1\n"), Ok(vec![Word::Ready, Word::Stopping]));
    assert_eq!(parse(b"READY=1\0"), Ok(vec![Word::Ready]), "a C string with its end");
    assert_eq!(parse(b""), Ok(vec![]));
}

#[test]
fn what_makes_no_sense_is_skipped() {
    for line in [
        "READY=0",
        "READY=11",
        "READY",
        " READY=1",
        "ready=1",
        "WATCHDOG=0",
        "WATCHDOG_USEC=-1",
        "WATCHDOG_USEC=+1",
        "WATCHDOG_USEC=",
        "WATCHDOG_USEC=99999999999999999999",
        "MAINPID=0",
        "ERRNO=-2",
        "X_VENDOR=1",
        "=1",
    ] {
        assert_eq!(parse(format!("{line}\nREADY=1").as_bytes()), Ok(vec![Word::Ready]), "{line}");
    }
    assert_eq!(parse(b"STATUS=\xff\nREADY=1"), Ok(vec![Word::Ready]), "a status that is not UTF-8");
}

#[test]
fn what_is_refused_as_a_whole() {
    let longest = format!("READY=1\n{}", "x".repeat(MAX_DATAGRAM - 8));
    assert_eq!(parse(longest.as_bytes()), Ok(vec![Word::Ready]));
    assert_eq!(parse(format!("{longest}x").as_bytes()), Err(Refused::TooLong));
    assert_eq!(parse(b"READY=1\0STOPPING=1"), Err(Refused::Nul));
    assert_eq!(parse(b"READY=1\nBARRIER=1"), Err(Refused::BarrierInCompany));
    assert_eq!(parse(b"BARRIER=1\nX=1\n"), Err(Refused::BarrierInCompany));
    assert_eq!(parse(b"BARRIER=1\n"), Ok(vec![Word::Barrier]));
    assert_eq!(Refused::TooLong.to_string(), "a notification is longer than 4096 bytes");
    assert_eq!(Refused::Nul.to_string(), "a notification has a NUL in it");
    let company = "a barrier came with other words in its notification";
    assert_eq!(Refused::BarrierInCompany.to_string(), company);
}

#[test]
fn a_status_is_one_short_line() {
    assert_eq!(Word::status("a\nb\u{1b}[31m\u{85}"), Word::Status("a b [31m ".into()));
    let cut = Word::status(&"é".repeat(MAX_STATUS));
    assert_eq!(cut, Word::Status("é".repeat(MAX_STATUS / 2)));
    let uneven = Word::status(&format!("a{}", "é".repeat(MAX_STATUS)));
    assert_eq!(uneven, Word::Status(format!("a{}", "é".repeat(MAX_STATUS / 2 - 1))));
}

fn any_duration() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_micros)
}

/// Every word but the barrier, which comes alone.
fn any_word() -> impl Strategy<Value = Word> {
    prop_oneof![
        Just(Word::Ready),
        any::<String>().prop_map(|text| Word::status(&text)),
        Just(Word::Stopping),
        Just(Word::Reloading),
        any_duration().prop_map(Word::Monotonic),
        Just(Word::WatchdogBeat),
        Just(Word::WatchdogTrigger),
        any_duration().prop_map(Word::WatchdogTimeout),
        Just(Word::FdStore),
        Just(Word::FdStoreRemove),
        (1_u32..).prop_map(Word::MainPid),
        (0_i32..).prop_map(Word::Errno),
        any_duration().prop_map(Word::ExtendTimeout),
    ]
}

/// Bytes that come near to a notification.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => any_word().prop_map(|word| word.to_string().into_bytes()),
        1 => Just(b"BARRIER=1".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => "[A-Z_]{1,12}=-?[0-9a-z]{0,25}".prop_map(String::into_bytes),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.join(&b'\n'))
}

proptest! {
    // PROPTEST_CASES may ask for more.
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(1000),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_written_is_read(words in prop::collection::vec(any_word(), 0..6)) {
        let text = datagram(&words);
        prop_assert!(text.len() <= MAX_DATAGRAM, "six words fit");
        prop_assert_eq!(parse(text.as_bytes()), Ok(words));
    }

    #[test]
    fn whatever_arrives_what_is_made_of_it_is_sound(bytes in nearly()) {
        let Ok(words) = parse(&bytes) else { return Ok(()) };
        for word in &words {
            let line = word.to_string();
            prop_assert!(!line.contains(char::is_control), "{line:?}");
            prop_assert!(line.len() <= MAX_STATUS + "STATUS=".len(), "{line:?}");
        }
        prop_assert_eq!(parse(datagram(&words).as_bytes()), Ok(words));
    }

    #[test]
    fn any_bytes_at_all_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        let refused = parse(&bytes).is_err();
        prop_assert!(refused || bytes.len() <= MAX_DATAGRAM);
    }
}
