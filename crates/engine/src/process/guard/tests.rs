use std::process::{Child, Command, Stdio};

use rustix::process::Pid;

use super::*;

/// Long enough for a test that does not wait for it.
const LONG: Duration = Duration::from_secs(3600);

fn sleeper() -> (Child, OwnedFd) {
    let child = Command::new("/bin/sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
    (child, pidfd)
}

fn end((mut child, _): (Child, OwnedFd)) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_program_serves_when_it_says_so_or_closes_the_pipe_and_lives_on() {
    let master = sleeper();
    let (pipe, told) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    assert_eq!(fate(&pipe, &master.1, Duration::ZERO, LONG).unwrap(), Fate::Hangs);
    rustix::io::write(&told, crate::upgrade::inheritance::SERVES).unwrap();
    assert_eq!(fate(&pipe, &master.1, LONG, LONG).unwrap(), Fate::Serves);
    drop(told);
    assert_eq!(fate(&pipe, &master.1, LONG, Duration::ZERO).unwrap(), Fate::Serves);
    end(master);
}

#[test]
fn a_program_that_ends_first_does_not_serve() {
    let mut master = sleeper();
    let (pipe, told) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    pidfd_send_signal(&master.1, Signal::ABORT).unwrap();
    assert_eq!(fate(&pipe, &master.1, LONG, LONG).unwrap(), Fate::Ended);
    assert_eq!(end_of(Pid::from_child(&master.0).as_raw_nonzero().get()), " by SIGABRT");
    // The kernel closes what it had.
    drop(told);
    assert_eq!(fate(&pipe, &master.1, LONG, LONG).unwrap(), Fate::Ended);
    master.0.wait().unwrap();
    assert_eq!(end_of(i32::MAX), "", "nobody has its number");
}

#[test]
fn an_end_is_read_as_the_kernel_writes_it() {
    let of = |state: &str, code: i32| exit_in(&format!("42 (a) b) {state} 1 40 41 0 -1 {code}\n"));
    assert_eq!(of("Z", 6), Some(Exit::Signal(6)));
    assert_eq!(of("Z", 6 | 0x80), Some(Exit::Signal(6)), "with a core");
    assert_eq!(of("Z", 3 << 8), Some(Exit::Code(3)));
    assert_eq!(of("Z", 0), None, "it may be hidden");
    assert_eq!(of("S", 6), None, "another process has its number");
    assert_eq!(exit_in(""), None);
}

#[test]
fn each_socket_has_one_name_and_those_that_were_given_come_first() {
    let arrival = |number, inode, role| Arrival { number, inode, role };
    let own = |is_first, listener: &str, place, file| {
        let listener = listener.to_owned();
        Role::Own { is_first, listener, place, file }
    };
    let arrivals = [
        arrival(9, 109, own(false, "listener/4", 0, None)),
        arrival(10, 110, own(false, "listener/4", 1, None)),
        // A worker has asked for the one below.
        arrival(11, 112, own(false, "listener/5", 0, None)),
        arrival(12, 112, own(true, "bound/1", 0, Some((7, 8)))),
        arrival(13, 113, Role::Given(None)),
        arrival(14, 114, Role::Given(Some("web".to_owned()))),
    ];
    let named = names(&arrivals);
    let named: Vec<_> = named.iter().map(|(number, name)| (*number, name.as_str())).collect();
    assert_eq!(
        named,
        [(13, ""), (14, "web"), (12, "recluster.0.0.7.8"), (9, "recluster.1.0"), (10, "recluster.1.1")]
    );
}

#[test]
fn whoever_begins_anew_has_the_sockets_and_the_words_of_before() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut saving = Saving::new("it");
    saving.arrive(&socket, Role::Given(Some("web".to_owned())));
    let sockets = names(saving.arrivals());
    let orders =
        Orders { task: Task::Replace { reason: "it had panicked".to_owned() }, sockets, open_files: Some(7) };
    let words = ["recluster", "run", "server.js"].map(OsString::from);
    let (memory, written) = orders.written(&words).unwrap();
    let option = format!("{OPTION}{}", memory.as_raw_fd());
    assert_eq!(written, ["recluster", COMMAND, &option, "--", "run", "server.js"].map(OsString::from));
    let read: Orders = serde_json::from_slice(&memory::read(&memory).unwrap()).unwrap();
    assert_eq!(read.sockets, [(socket.as_raw_fd(), "web".to_owned())]);
    assert!(matches!(read.task, Task::Replace { reason } if reason == "it had panicked"));
    assert!(orders.written(&[]).is_err());
}

/// Sealed memory that holds no orders, and a number that means none.
#[test]
fn what_is_no_guard_takes_nothing() {
    for number in ["", "-1", "x", "99999"] {
        assert!(orders(&number.into()).is_err(), "{number:?}");
    }
    let file = tempfile::tempfile().unwrap();
    let number = file.as_raw_fd().to_string();
    assert!(orders(&number.into()).unwrap_err().to_string().contains("no sealed memory"));
}
