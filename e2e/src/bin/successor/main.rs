//! A program that takes a master's place and does something first, or instead: what the file beside it says that has its name and `.does`,
//! a line for each thing. `kill PID` kills a process, `abort` aborts, `write PATH TEXT` writes a file, `hang` does nothing more, `become PATH` becomes another program. A dry run only becomes it.

#![expect(clippy::print_stderr, reason = "whoever reads the test's output sees why it has failed")]

use std::env;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{self, Command};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

fn main() {
    let own = env::current_exe().expect("it knows where it is");
    let does = fs::read_to_string(own.with_extension("does")).expect("it is told what to do");
    let is_real = env::var_os("RECLUSTER_UPGRADE").is_some();
    for line in does.lines() {
        match line.split_once(' ') {
            Some(("become", path)) => {
                eprintln!("{}", Command::new(path).args(env::args_os().skip(1)).exec());
            }
            Some(("kill", pid)) if is_real => {
                let pid = pid.parse().ok().and_then(Pid::from_raw).expect("a pid");
                kill_process(pid, Signal::KILL).expect("it lives");
            }
            Some(("write", written)) if is_real => {
                let (path, text) = written.split_once(' ').expect("a path and a text");
                fs::write(path, text).expect("it may be written");
            }
            None if is_real && line == "abort" => process::abort(),
            None if is_real && line == "hang" => loop {
                thread::park();
            },
            _ => {}
        }
    }
}
