//! A program that becomes another one by `exec` on its first thread keeps its workers, also those that end with the thread that has
//! started them, and at the second `exec` as well. (No test harness: that would have the first thread.)

use std::env;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;

use recluster::Cluster;
use recluster::host::{FirstThread, Seat};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// The workers of the programs that this process has been, in their order.
const WORKERS: &str = "RECLUSTER_TEST_WORKERS";

/// It ends with 7 when it is told to, and leaves nothing behind, unless it was sent TERM before: that ends it at once.
const WORKER: &str =
    "#!/bin/sh\ntrap 'kill $!; exit 7' USR1\necho > \"$1\"\nwhile :; do sleep 1000 & wait $!; done\n";

fn main() -> ExitCode {
    let mut workers = env::var(WORKERS).unwrap_or_default();
    if workers.split_whitespace().count() == 2 {
        for worker in workers.split_whitespace() {
            has_outlived_all(worker.parse().expect("a pid"));
        }
        println!("two workers have outlived each exec");
        return ExitCode::SUCCESS;
    }
    let (first, seat) = FirstThread::new();
    let cluster = thread::spawn(move || start(seat));
    first.work();
    let worker = cluster.join().expect("a cluster that starts");
    workers = format!("{workers} {worker}");
    let error = Command::new("/proc/self/exe").env(WORKERS, workers).exec();
    panic!("{error}");
}

/// A worker of a cluster of which nothing is left when this returns.
fn start(seat: Seat) -> u32 {
    let home = tempfile::tempdir().expect("a directory");
    let program = home.path().join("worker");
    write_program(&program);
    let ready = home.path().join("ready");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let builder = Cluster::builder(&program).args([&ready]).end_with_master(true).starts_on(seat);
        let cluster = builder.start().await.expect("it starts");
        cluster.started().await.expect("it serves");
        while !ready.exists() {
            tokio::task::yield_now().await;
        }
        let workers = cluster.workers().await.expect("it lives");
        workers[0].pid.expect("its process")
    })
}

/// Another process writes it: a file that is open for writing in a child that was forked meanwhile cannot be run.
fn write_program(path: &Path) {
    let script = "printf %s \"$1\" > \"$0\" && chmod +x \"$0\"";
    let status = Command::new("/bin/sh").arg("-c").arg(script).arg(path).arg(WORKER).status();
    assert!(status.expect("a shell").success());
}

fn has_outlived_all(worker: i32) {
    let worker = Pid::from_raw(worker).expect("a pid");
    kill_process(worker, Signal::USR1).expect("it is our child");
    let status =
        waitid(WaitId::Pid(worker), WaitIdOptions::EXITED).expect("it is our child").expect("it has ended");
    assert_eq!((status.exit_status(), status.terminating_signal()), (Some(7), None));
}
