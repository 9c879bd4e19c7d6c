//! [`Stage`]: where the puppets of one cluster appear.

use std::ffi::OsString;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::binary::beside;
use crate::event::on;
use crate::home::Home;
use crate::launch::Launch;
use crate::master::Master;
use crate::node::Node;
use crate::puppet::Puppet;
use crate::{DEADLINE, fixture};

/// Where the puppets of one cluster appear.
#[derive(Debug)]
pub struct Stage {
    home: Home,
    arrivals: Receiver<UnixStream>,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// An empty stage.
    pub fn new() -> Self {
        let home = Home::new();
        let listener = UnixListener::bind(home.join("stage")).expect("the directory is new");
        let (sender, arrivals) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if sender.send(stream).is_err() {
                    return;
                }
            }
        });
        Self { home, arrivals }
    }

    /// Its directory, which is that of the cluster.
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// A cluster whose workers are all puppets. These take what they are handed, and accept nothing by themselves.
    pub fn launch(&self) -> Launch {
        let puppet: OsString = beside("puppet").into();
        Launch::fixture("puppet.js")
            .handing_over()
            .home(&self.home)
            .option("--node", &fixture("puppet-node").to_string_lossy())
            .env("PUPPET", puppet)
            .env("PUPPET_STAGE", self.home.join("stage"))
            .env("PUPPET_REAL_NODE", &Node::under_test().path)
    }

    /// A cluster whose workers are all puppets, started as programs that are not Node.
    pub fn launch_program(&self) -> Launch {
        self.launch().server(fixture("puppet-program"))
    }

    /// A cluster whose worker of the last slot is a puppet; the others run `server`, a fixture, under Node.
    pub fn launch_beside(&self, server: &str, workers: u32) -> Launch {
        let slot = workers.saturating_sub(1).to_string();
        self.launch().server(fixture(server)).workers(workers).env("PUPPET_SLOTS", slot)
    }

    /// A cluster of two: a good server under Node that serves in slot 0, and a puppet that is online in slot 1.
    #[track_caller]
    pub fn beside_a_good_worker(&self) -> (Master, Puppet) {
        let master = self.launch_beside("server.js", 2).start();
        let mut puppet = self.next();
        puppet.online();
        master.wait(on("serving").slot(0));
        master.wait(on("online").slot(1));
        (master, puppet)
    }

    /// The same, with a puppet that serves as well.
    #[track_caller]
    pub fn beside_a_good_server(&self) -> (Master, Puppet) {
        let (master, mut puppet) = self.beside_a_good_worker();
        puppet.listen();
        master.wait(on("started"));
        (master, puppet)
    }

    /// The next puppet that appears.
    #[track_caller]
    pub fn next(&self) -> Puppet {
        let strings = self.arrivals.recv_timeout(DEADLINE).expect("a puppet should appear");
        Puppet::new(strings)
    }
}
