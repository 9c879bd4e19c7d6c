//! How workers are asked, and what is made of their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, TryRecvError};

use tokio::time::sleep;

use super::*;
use crate::process::awaited::Awaited;
use crate::process::hands::Chore;

#[test]
fn a_status_is_read_from_the_first_line() {
    assert_eq!(status_of(b"HTTP/1.1 204 No Content\r\n"), Some(204));
    assert_eq!(status_of(b"HTTP/1.0 503\r\n"), Some(503));
    for nonsense in [&b""[..], b"SSH-2.0-OpenSSH", b"HTTP/1.1 ok", b"HTTP/1.1"] {
        assert_eq!(status_of(nonsense), None);
    }
}

async fn run(command: &str, asked: &Asked, hands: &Hands) -> Result<(), Fault> {
    ended(command, asked, start(command, asked, hands).await?).await
}

/// This thread itself.
fn hands() -> Hands {
    Hands::new(None, Awaited::default(), Sink::new(|chore: Chore| chore()))
}

fn asked() -> Asked {
    let env = [("KEY".into(), "x".into()), ("PATH".into(), "/usr/bin:/bin".into())].into();
    Asked { pid: 7, slot: 1, directory: "/".into(), env, privileges: Privileges::default() }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_command_says_by_its_status() {
    runtime().block_on(async {
        assert_eq!(
            run(
                "test $RECLUSTER_PID = 7 && test $WORKER_ID = 1 && test $KEY = x && test $PWD = /",
                &asked(),
                &hands()
            )
            .await,
            Ok(())
        );
        assert_eq!(
            run("exit 3", &asked(), &hands()).await,
            Err("`exit 3` ended with status 3".to_owned().into())
        );
    });
}

#[test]
fn a_check_that_hangs_has_failed_and_is_ended() {
    let checks = Checks {
        check: ReadyCheck::Command("sleep 60".to_owned()),
        every: Duration::ZERO,
        timeout: Duration::from_millis(50),
    };
    let target = Target::Process(Box::new(asked()));
    let asked = runtime().block_on(checks.ask(WorkerId::from_number(1), &target, &Sink::new(drop), &hands()));
    assert_eq!(asked, Err("no answer within 50ms".to_owned().into()));
}

/// Another start hangs, and what is to be started afterwards waits for it.
#[test]
fn a_check_that_is_not_started_in_time_says_nothing_of_the_worker() {
    let (hanging, (begun, waiting)) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
    let is_hanging = Arc::clone(&hanging);
    let launcher =
        Sink::new(
            move |chore: Chore| {
                if is_hanging.load(Ordering::Relaxed) { begun.send(chore).unwrap() } else { chore() }
            },
        );
    let checks = Checks {
        check: ReadyCheck::Command("true".to_owned()),
        every: Duration::ZERO,
        timeout: Duration::from_millis(100),
    };
    let target = Target::Process(Box::new(asked()));
    runtime().block_on(async {
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let sink = Sink::new(move |event| sender.send(event).unwrap());
        let hands = Hands::new(None, Awaited::default(), launcher);
        let _checking = checks.unbegun().go_on(WORKER, target, sink, hands);
        while !matches!(events.recv().await, Some(Event::CheckPassed(WORKER))) {}
        hanging.store(true, Ordering::Relaxed);
        let told = events.recv().await;
        let Some(Event::NotChecked(WORKER, reason)) = &told else { panic!("{told:?}") };
        assert_eq!(reason, "`true` was not started within 100ms");
        for _ in 0..=PATIENCE {
            while let Err(TryRecvError::Empty) = waiting.try_recv() {
                sleep(Duration::from_millis(10)).await;
            }
        }
        assert!(events.try_recv().is_err(), "that is told once, and the worker is not called unhealthy");
    });
}

#[test]
fn that_nobody_checks_the_worker_any_more_is_told_with_the_reason() {
    runtime().block_on(async {
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let sink = Sink::new(move |event| {
            assert!(!matches!(event, Event::CheckFailed(..)), "out of order");
            sender.send(event).unwrap();
        });
        let _checking = http("/").unbegun().go_on(WORKER, Target::Process(Box::new(asked())), sink, hands());
        let Some(Event::Unheard(WORKER, panicked)) = events.recv().await else { panic!("it is not told") };
        assert_eq!((panicked.part, &*panicked.reason), (PART, "out of order"));
        assert!(panicked.place.unwrap().contains("health_check/tests.rs:"));
    });
}

#[test]
fn the_two_ends_belong_together() {
    runtime().block_on(async {
        let (mut ours, theirs) = pair().await.unwrap();
        let theirs = std::net::TcpStream::from(theirs);
        theirs.set_nonblocking(true).unwrap();
        let mut theirs = TcpStream::from_std(theirs).unwrap();
        theirs.write_all(b"x").await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), b'x');
    });
}

fn http(path: &str) -> Checks {
    let check = ReadyCheck::Http(path.to_owned());
    Checks { check, every: Duration::ZERO, timeout: Duration::from_secs(30) }
}

/// Answers one connection after the other, each with the next of these responses; returns what was asked.
async fn answer(listener: TcpListener, responses: &[&str]) -> Vec<String> {
    let mut asked = Vec::new();
    for response in responses {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut request).await.unwrap();
        }
        asked.push(String::from_utf8(request).unwrap().lines().next().unwrap().to_owned());
        stream.write_all(response.as_bytes()).await.unwrap();
    }
    asked
}

const WORKER: WorkerId = WorkerId::from_number(1);

#[test]
fn an_http_check_goes_by_the_status() {
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::Own(listener.local_addr().unwrap());
        let checks = http("/healthz");
        let sink = Sink::new(|event| panic!("{event:?}"));
        let asking = async {
            let mut results = Vec::new();
            for _ in 0..4 {
                results.push(checks.ask(WORKER, &target, &sink, &hands()).await);
            }
            results
        };
        let responses = ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 503 Busy\r\n\r\n", "SSH-2.0\r\n", ""];
        let (results, asked) = tokio::join!(asking, answer(listener, &responses));
        assert_eq!(asked, ["GET /healthz HTTP/1.1"; 4]);
        let not_http = || Err("GET /healthz was not answered in HTTP".to_owned().into());
        assert_eq!(
            results,
            [
                Ok(()),
                Err("GET /healthz was answered with status 503".to_owned().into()),
                not_http(),
                not_http()
            ]
        );
        // Bound, and not listening.
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let target = Target::Own(silent.local_addr().unwrap().as_socket().unwrap());
        let refused = checks.ask(WORKER, &target, &sink, &hands()).await;
        assert_eq!(refused, Err("Connection refused (os error 111)".to_owned().into()));
    });
}

#[test]
fn a_check_that_cannot_reach_its_target_fails() {
    let sink = Sink::new(drop);
    let asked =
        runtime().block_on(http("/").ask(WORKER, &Target::Process(Box::new(asked())), &sink, &hands()));
    assert_eq!(asked, Err("this worker cannot be asked in this way".to_owned().into()));
}

#[test]
fn a_node_worker_is_asked_over_a_connection_that_is_handed_to_it() {
    runtime().block_on(async {
        let checks = http("/");
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let sink = Sink::new(move |event| sender.send(event).unwrap());
        let worker = async {
            let Some(Event::HandOver(WORKER, HandOver { connection, reply })) = events.recv().await else {
                panic!("no connection")
            };
            reply.send(true).unwrap();
            let stream = std::net::TcpStream::from(connection);
            stream.set_nonblocking(true).unwrap();
            TcpStream::from_std(stream).unwrap().write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
            let Some(Event::HandOver(WORKER, HandOver { reply, .. })) = events.recv().await else {
                panic!("no connection")
            };
            reply.send(false).unwrap();
        };
        let asking = async {
            assert_eq!(checks.ask(WORKER, &Target::HandOver, &sink, &hands()).await, Ok(()));
            let refused = checks.ask(WORKER, &Target::HandOver, &sink, &hands()).await;
            assert_eq!(refused, Err("it has no server to be asked on".to_owned().into()));
        };
        tokio::join!(worker, asking);
    });
}

/// The first check fails and the second passes; after another failure and a success, three fail in a row.
#[test]
fn only_failures_in_a_row_make_a_serving_worker_unhealthy() {
    let directory = tempfile::tempdir().unwrap();
    // The n-th check ends with the n-th of these digits.
    let script = "n=$(wc -l < count); echo >> count; exit $(echo 101011100000 | cut -c $((n + 1)))";
    std::fs::write(directory.path().join("count"), "").unwrap();
    let check = ReadyCheck::Command(script.to_owned());
    let checks = Checks { check, every: Duration::ZERO, timeout: Duration::from_secs(30) };
    let target = Target::Process(Box::new(Asked { directory: directory.path().to_owned(), ..asked() }));
    runtime().block_on(async {
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let sink = Sink::new(move |event| sender.send(event).unwrap());
        let checking = checks.unbegun().go_on(WORKER, target, sink, hands());
        let mut heard = Vec::new();
        while heard.len() < 3 {
            heard.push(events.recv().await.unwrap());
        }
        drop(checking);
        let [Event::CheckFailed(..), Event::CheckPassed(WORKER), Event::Unhealthy(WORKER, reason)] =
            &heard[..]
        else {
            panic!("{heard:?}")
        };
        assert!(reason.ends_with("ended with status 1"), "{reason}");
        let checks = std::fs::read_to_string(directory.path().join("count")).unwrap().lines().count();
        assert!(checks >= 7, "three in a row are the fifth to the seventh, not the third: {checks}");
    });
}

#[test]
fn a_command_sees_a_control_socket_and_no_empty_variable() {
    let mut asked = asked();
    runtime().block_on(async {
        asked.env.insert(CONTROL.into(), "/run/it.sock".into());
        let command = "test \"$RECLUSTER_CONTROL\" = /run/it.sock";
        assert_eq!(run(command, &asked, &hands()).await, Ok(()));
        asked.env.insert(CONTROL.into(), "".into());
        assert_eq!(run("test -z \"${RECLUSTER_CONTROL+set}\"", &asked, &hands()).await, Ok(()));
    });
}

#[test]
fn what_the_master_has_too_little_of_says_nothing_of_the_worker() {
    let of = |errno| Fault::of(&io::Error::from_raw_os_error(errno), "it".to_owned());
    assert!([libc::EMFILE, libc::EAGAIN].map(of).iter().all(|fault| matches!(fault, Fault::NotMade(_))));
    assert!([libc::ECONNREFUSED, libc::ENOENT].map(of).iter().all(|fault| matches!(fault, Fault::Failed(_))));
}

#[test]
fn a_command_that_is_ended_by_a_signal_has_failed() {
    let ended = runtime().block_on(run("kill -9 $$", &asked(), &hands()));
    assert_eq!(ended, Err("`kill -9 $$` was ended by SIGKILL".to_owned().into()));
}

/// What is left of checks says that they have passed, how many were failed since, and when the next one is due.
#[test]
fn checks_that_are_left_go_on_where_they_were() {
    runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let asks = |script: &str| {
            let check = ReadyCheck::Command(script.to_owned());
            let target =
                Target::Process(Box::new(Asked { directory: directory.path().to_owned(), ..asked() }));
            (Checks { check, every: Duration::ZERO, timeout: Duration::from_secs(30) }, target)
        };
        let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
        let sink = Sink::new(move |event| sender.send(event).unwrap());
        let (checks, target) = asks("test ! -e serves && touch serves");
        let checking = checks.unbegun().go_on(WORKER, target, sink.clone(), hands());
        assert!(matches!(events.recv().await, Some(Event::CheckPassed(WORKER))));
        let left = loop {
            match checking.save() {
                Ok(left) if left.course.failures > 0 => break left,
                // Its command runs.
                Err(SaveError::Refused(_)) | Ok(_) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        };
        drop(checking);
        while events.try_recv().is_ok() {}
        let text = serde_json::to_string(&left).unwrap();
        let again: Left = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        let _goes_on = again.go_on(WORKER, asks("").1, sink, hands());
        // It is not asked whether it ever passed, and it fails on.
        assert!(matches!(events.recv().await, Some(Event::Unhealthy(WORKER, _))));
    });
}
