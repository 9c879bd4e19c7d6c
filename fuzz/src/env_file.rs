//! Files of variables for workers.

use recluster::check_variable;
use recluster::fuzzing::env_file as read;

/// Every name and value is one that a worker can have. Two files, one behind the other, say what each of them says, and so does a
/// value that is written in single quotes.
pub fn env_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let lines = text.split('\n').count();
    let variables = match read(text) {
        Ok(variables) => variables,
        Err((line, problem)) => {
            assert!((1..=lines).contains(&line), "line {line} of {lines}");
            assert!(!problem.contains(char::is_control), "{problem:?}");
            return;
        }
    };
    for (name, value) in &variables {
        assert_eq!(check_variable(name), Ok(()));
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { continue };
        assert!(!value.contains('\0'));
        if !value.contains(['\'', '\r']) {
            assert_eq!(read(&format!("{name}='{value}'")), Ok(vec![(name.into(), value.into())]));
        }
    }
    let twice = [&variables[..], &variables].concat();
    assert_eq!(read(&format!("{text}\n{text}")), Ok(twice));
}
