//! `recluster.toml`.

use recluster_cli::fuzzing::{Key, config as read, printable};

/// What a file says can be written into another file, plainly, and is read from there as the same. What is wrong with one is said in
/// one line that moves no cursor.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match read(text) {
        Ok(keys) => assert_eq!(read(&written(&keys)).as_ref(), Ok(&keys), "{}", written(&keys)),
        Err(error) => {
            let shown = printable(&error);
            assert!(!shown.contains(|c: char| c.is_control() && c != '\t'), "{shown:?}");
        }
    }
}

fn written(keys: &[Key]) -> String {
    let lines = keys.iter().map(|Key { path, values, is_switch }| {
        let key: Vec<_> = path.iter().map(|part| quoted(part)).collect();
        let value = match values.as_slice() {
            [value] if *is_switch => value.clone(),
            [value] => quoted(value),
            values => {
                format!("[{}]", values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", "))
            }
        };
        format!("{} = {value}\n", key.join("."))
    });
    lines.collect()
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        c => c.to_string(),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
