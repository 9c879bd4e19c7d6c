//! Values as people write them: addresses, durations, sizes, names and checks.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::Duration;

use recluster::{InstanceEnv, Listen, ReadyCheck, StickyBy};
use recluster_cli::fuzzing::{cluster_name, duration, memory, scale};
use recluster_wire::env::SocketName;

/// A hundred years: what can be added to any clock.
const LONGEST: Duration = Duration::from_secs(876_600 * 3600);

/// A value that is understood can be written and read again, and is within its bounds.
pub fn values(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    same_again::<InstanceEnv>(text);
    same_again::<ReadyCheck>(text);
    same_again::<SocketName>(text);
    same_again::<StickyBy>(text);
    address(text);
    if let Some(span) = duration(text) {
        assert!(span <= LONGEST);
        let rounded = Duration::from_millis(u64::try_from(span.as_millis()).expect("it is bounded"));
        // It is read as a floating-point number, which is off by a few nanoseconds in a hundred years.
        let again = duration(&format!("{}ms", rounded.as_millis()));
        assert!(again.is_some_and(|again| again.abs_diff(rounded) < Duration::from_micros(1)), "{again:?}");
    }
    if let Some(bytes) = memory(text) {
        assert_eq!(memory(&bytes.to_string()), Some(bytes));
    }
    if let Some(name) = cluster_name(text) {
        assert_eq!(name, text);
        assert!(!name.contains(['/', '\0']) && name.len() <= 64 && name != "." && name != "..");
    }
    if let Some(change) = scale(text) {
        assert_eq!(scale(&change), Some(change));
    }
}

fn same_again<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        assert_eq!(written.parse::<T>().ok(), Some(value), "{written:?}");
    }
}

fn address(text: &str) {
    let Ok(listen) = text.parse::<Listen>() else { return };
    assert!(listen.name().is_none_or(|name| name.parse::<SocketName>().is_ok()));
    let address = listen.to_string();
    let bare = address.parse::<Listen>().expect("its address alone is one");
    assert_eq!((bare.name(), bare.to_string()), (None, address));
}
