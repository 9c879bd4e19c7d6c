//! What a program is resolved to, and what is said where it cannot be.

use super::*;

#[test]
fn a_missing_server_file_is_named() {
    let error = Program::new(PathBuf::from("/nowhere/server.js")).resolve().unwrap_err();
    assert_eq!(error.to_string(), "server file not found: /nowhere/server.js");
}

#[test]
fn a_directory_is_no_server_file() {
    let error = Program::new(PathBuf::from("/")).resolve().unwrap_err();
    assert_eq!(
        error.to_string(),
        "server file cannot be run: /: it is a directory; name the server file in it"
    );
}

#[test]
fn a_missing_node_is_named() {
    let file = tempfile::Builder::new().suffix(".js").tempfile().unwrap();
    let mut program = Program::new(file.path().to_owned());
    program.node = Some(PathBuf::from("no-such-node"));
    assert!(matches!(program.resolve(), Err(ProgramError::NodeNotFound { .. })));
    program.node = Some(PathBuf::from("./no-such-node"));
    assert!(matches!(program.resolve(), Err(ProgramError::NodeNotFound { .. })));
}

#[test]
fn a_node_that_is_no_program_is_there_and_cannot_be_run() {
    let file = tempfile::Builder::new().suffix(".js").tempfile().unwrap();
    let mut program = Program::new(file.path().to_owned());
    let directory = file.path().parent().unwrap().to_owned();
    for (node, why) in [(file.path().to_owned(), "not executable"), (directory, "a directory")] {
        program.node = Some(node.clone());
        let error = program.resolve().unwrap_err();
        let words = format!("node binary cannot be run: {}: it is {why}", node.display());
        assert_eq!(error.to_string(), words);
    }
}

#[test]
fn text_that_does_not_say_by_what_it_is_run_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let resolve = |contents: &[u8]| {
        let server = dir.path().join("server");
        fs::write(&server, contents).unwrap();
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
        Program::new(server).resolve()
    };
    for text in ["echo hi\n", "", "\n#!/bin/sh\n", "\u{1b}[1mbold"] {
        let error = resolve(text.as_bytes()).unwrap_err().to_string();
        assert!(
            error.ends_with("/server: it is text, and a script must begin with a line such as #!/bin/sh")
        );
    }
    for program in [&b"#!/bin/sh\n"[..], b"\x7fELF\x02\x01", b"MZ\x90\0\x03", b"PK\x03\x04"] {
        assert!(resolve(program).is_ok(), "the kernel may know how to run it: {program:?}");
    }
}

#[test]
fn what_is_gone_and_what_an_error_is_about_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (server, work) = (dir.path().join("server"), dir.path().join("work"));
    fs::write(&server, "#!/nowhere/python\n").unwrap();
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&work).unwrap();
    let mut program = Program::new(server.clone());
    program.set_directory(work.clone());
    let resolved = program.resolve().unwrap();
    let named = || resolved.name_path(io::Error::from_raw_os_error(libc::ENOENT)).to_string();
    assert_eq!(resolved.gone(), None);
    assert!(named().starts_with("/nowhere/python, by which the first line of /"), "{}", named());
    fs::remove_file(&server).unwrap();
    assert_eq!(resolved.gone(), Some(server.as_path()));
    fs::remove_dir(&work).unwrap();
    assert!(
        named().starts_with("the working directory /") && named().contains("/work: No such file"),
        "{}",
        named()
    );
    let other = resolved.name_path(io::Error::from_raw_os_error(libc::EMFILE));
    assert_eq!(other.raw_os_error(), Some(libc::EMFILE));
    fs::write(&work, "").unwrap();
    let error = program.resolve().unwrap_err().to_string();
    assert!(error.contains("/work: Not a directory"), "{error}");
}

#[test]
fn a_symlink_is_resolved_when_a_generation_begins() {
    let dir = tempfile::tempdir().unwrap();
    for release in ["one", "two"] {
        fs::create_dir(dir.path().join(release)).unwrap();
        let server = dir.path().join(release).join("server");
        fs::write(&server, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let current = dir.path().join("current");
    std::os::unix::fs::symlink("one", &current).unwrap();
    let program = Program::new(current.join("server"));
    let before = program.resolve().unwrap();
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("two", &current).unwrap();
    assert!(before.server.ends_with("one/server"));
    assert!(program.resolve().unwrap().server.ends_with("two/server"));
}
