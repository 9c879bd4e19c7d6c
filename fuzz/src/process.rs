//! What is read of and about processes: the first bytes of a program, its stderr, its answer to a health check, and what the kernel
//! says of it.

use recluster::fuzzing::{address_in_use, health_status, last_exception, process_stat, shebang};

/// The longest line of an exception, in bytes, and the sign that it was cut.
const LONGEST: usize = 500 + '…'.len_utf8();
/// The longest line about an address.
const LONGEST_OF_ADDRESS: usize = 1000;

/// What is shown of a program's words is one line, and short. What the kernel says is found behind any name that a program gives
/// itself.
pub fn process(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some((line, place)) = last_exception(&text) {
        assert!(line.len() <= LONGEST && !line.contains('\n'), "{line:?}");
        assert!(place.is_none_or(|place| !place.contains('\n')));
    }
    if let Some(line) = address_in_use(&text) {
        assert!(line.len() <= LONGEST_OF_ADDRESS && text.contains(&line), "{line:?}");
    }
    if let Some((line, program)) = shebang(bytes) {
        assert!(line.starts_with("#!") && !line.contains('\n'), "{line:?}");
        assert!(program.is_some_and(|program| line.contains(&*program.to_string_lossy())), "{line:?}");
    }
    if let Some(status) = health_status(bytes) {
        assert!(status <= 999);
    }
    let _ = process_stat(bytes);
    let named = [b"42 (", bytes, b") S 1 40 41 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 99 1000 25 0\n"].concat();
    assert_eq!(process_stat(&named), Some((42, 40)), "{:?}", String::from_utf8_lossy(&named));
}
