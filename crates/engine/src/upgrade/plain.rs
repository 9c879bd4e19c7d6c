//! Values that serde writes for this process alone, or not at all, as plain data that another program reads: `#[serde(with = "plain")]`.
//! What the system calls a name may be no text; moments mean this process's clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::upgrade::moment::Moment;

/// A value that has a plain form.
pub(crate) trait Plain: Sized {
    type Form: Serialize + DeserializeOwned;

    fn plain(&self) -> Self::Form;
    fn of_plain(form: Self::Form) -> Self;
}

pub(crate) fn serialize<S: Serializer>(value: &impl Plain, serializer: S) -> Result<S::Ok, S::Error> {
    value.plain().serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Plain>(deserializer: D) -> Result<T, D::Error> {
    T::Form::deserialize(deserializer).map(T::of_plain)
}

/// Bytes, which are text for the most part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Bytes {
    Text(String),
    /// In a list of numbers each of them would take thirty times its room.
    Other {
        #[serde(with = "hex")]
        hex: Vec<u8>,
    },
}

/// Two digits for each byte.
mod hex {
    use std::fmt::Write as _;

    use serde::de::{Deserialize as _, Error as _};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        let mut digits = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Memory takes what is written there.
            let _ = write!(digits, "{byte:02x}");
        }
        serializer.serialize_str(&digits)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let byte = |[high, low]: &[u8; 2]| {
            let [high, low] = [high, low].map(|digit| char::from(*digit).to_digit(16));
            u8::try_from((high? << 4) | low?).ok()
        };
        let bytes = pairs.iter().map(byte).collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty());
        bytes.ok_or_else(|| D::Error::custom("these are no bytes in hexadecimal digits"))
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        std::str::from_utf8(bytes)
            .map_or_else(|_| Self::Other { hex: bytes.to_owned() }, |text| Self::Text(text.to_owned()))
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        match bytes {
            Bytes::Text(text) => text.into_bytes(),
            Bytes::Other { hex } => hex,
        }
    }
}

impl Plain for Vec<u8> {
    type Form = Bytes;

    fn plain(&self) -> Bytes {
        self.as_slice().into()
    }

    fn of_plain(form: Bytes) -> Self {
        form.into()
    }
}

impl Plain for Arc<[u8]> {
    type Form = Bytes;

    fn plain(&self) -> Bytes {
        (&**self).into()
    }

    fn of_plain(form: Bytes) -> Self {
        Vec::from(form).into()
    }
}

impl Plain for OsString {
    type Form = Bytes;

    fn plain(&self) -> Bytes {
        self.as_bytes().into()
    }

    fn of_plain(form: Bytes) -> Self {
        Self::from_vec(form.into())
    }
}

impl Plain for Arc<OsStr> {
    type Form = Bytes;

    fn plain(&self) -> Bytes {
        self.as_bytes().into()
    }

    fn of_plain(form: Bytes) -> Self {
        OsString::of_plain(form).into()
    }
}

impl Plain for PathBuf {
    type Form = Bytes;

    fn plain(&self) -> Bytes {
        self.as_os_str().as_bytes().into()
    }

    fn of_plain(form: Bytes) -> Self {
        OsString::of_plain(form).into()
    }
}

impl Plain for Instant {
    type Form = Moment;

    fn plain(&self) -> Moment {
        (*self).into()
    }

    fn of_plain(form: Moment) -> Self {
        form.into()
    }
}

impl<T: Plain> Plain for Option<T> {
    type Form = Option<T::Form>;

    fn plain(&self) -> Self::Form {
        self.as_ref().map(T::plain)
    }

    fn of_plain(form: Self::Form) -> Self {
        form.map(T::of_plain)
    }
}

impl<T: Plain> Plain for Vec<T> {
    type Form = Vec<T::Form>;

    fn plain(&self) -> Self::Form {
        self.iter().map(T::plain).collect()
    }

    fn of_plain(form: Self::Form) -> Self {
        form.into_iter().map(T::of_plain).collect()
    }
}

impl<T: Plain> Plain for VecDeque<T> {
    type Form = Vec<T::Form>;

    fn plain(&self) -> Self::Form {
        self.iter().map(T::plain).collect()
    }

    fn of_plain(form: Self::Form) -> Self {
        form.into_iter().map(T::of_plain).collect()
    }
}

impl<T: Plain + Ord> Plain for BTreeSet<T> {
    type Form = Vec<T::Form>;

    fn plain(&self) -> Self::Form {
        self.iter().map(T::plain).collect()
    }

    fn of_plain(form: Self::Form) -> Self {
        form.into_iter().map(T::of_plain).collect()
    }
}

impl<K: Plain + Ord, V: Plain> Plain for BTreeMap<K, V> {
    type Form = Vec<(K::Form, V::Form)>;

    fn plain(&self) -> Self::Form {
        self.iter().map(|(key, value)| (key.plain(), value.plain())).collect()
    }

    fn of_plain(form: Self::Form) -> Self {
        form.into_iter().map(|(key, value)| (K::of_plain(key), V::of_plain(value))).collect()
    }
}

impl<A: Plain, B: Plain> Plain for (A, B) {
    type Form = (A::Form, B::Form);

    fn plain(&self) -> Self::Form {
        (self.0.plain(), self.1.plain())
    }

    fn of_plain((one, other): Self::Form) -> Self {
        (A::of_plain(one), B::of_plain(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct All {
        #[serde(with = "super")]
        name: OsString,
        #[serde(with = "super")]
        path: Option<PathBuf>,
        #[serde(with = "super")]
        env: BTreeMap<OsString, OsString>,
        #[serde(with = "super")]
        args: Vec<OsString>,
        #[serde(with = "super")]
        line: Vec<u8>,
        #[serde(with = "super")]
        at: Option<Instant>,
    }

    #[test]
    fn bytes_that_are_no_text_are_digits() {
        let all: Vec<u8> = (0..=255).collect();
        let text = serde_json::to_string(&all.plain()).unwrap();
        assert!(text.starts_with(r#"{"hex":"000102"#) && text.ends_with(r#"fdfeff"}"#), "{text}");
        assert_eq!(Vec::<u8>::of_plain(serde_json::from_str(&text).unwrap()), all);
        for wrong in
            [r#"{"hex":"0"}"#, r#"{"hex":"0g"}"#, r#"{"hex":"+1"}"#, r#"{"hex":"é"}"#, r#"{"hex":1}"#, "[1]"]
        {
            assert!(serde_json::from_str::<Bytes>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_are_no_text_and_moments_are_read_as_they_were() {
        let odd = OsString::from_vec(vec![b'a', 0xff]);
        let all = All {
            name: odd.clone(),
            path: Some("/srv".into()),
            env: [(odd.clone(), "1".into())].into(),
            args: vec![odd, "x".into()],
            line: b"half a li".to_vec(),
            at: Some(Instant::now()),
        };
        let text = serde_json::to_string(&all).unwrap();
        assert!(text.contains(r#""path":"/srv""#) && text.contains(r#""line":"half a li""#), "{text}");
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::from_value::<All>(value).unwrap(), all);
    }
}
