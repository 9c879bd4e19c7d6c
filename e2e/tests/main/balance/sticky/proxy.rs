//! Proxies that keep their connections to the cluster, as people run them before one.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};
use recluster_e2e::{Home, Process, Running, fixture, installed};
use rustix::process::Signal;

/// A proxy that runs; it is ended when dropped.
pub(crate) struct Proxy {
    _process: Running,
    home: Home,
    front: SocketAddr,
}

impl Proxy {
    /// Where its clients reach it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.front
    }

    /// `HAProxy`. `protocol` is what its line for the server ends with, such as `send-proxy`.
    pub(crate) fn haproxy(cluster: SocketAddr, protocol: &str) -> Self {
        let program = installed("haproxy");
        let command = |configuration: &Path| {
            let mut command = Command::new(&program);
            // In the foreground, and quiet.
            command.args(["-db", "-q", "-f"]).arg(configuration);
            command
        };
        Self::start("haproxy.cfg", cluster, command, protocol)
    }

    /// nginx.
    pub(crate) fn nginx(cluster: SocketAddr) -> Self {
        let program = installed("nginx");
        let command = |configuration: &Path| {
            let mut command = Command::new(&program);
            // It takes over sockets as when its own binary is replaced.
            command.args(["-e", "stderr", "-c"]).arg(configuration).env("NGINX", "3;");
            command
        };
        Self::start("nginx.conf", cluster, command, "")
    }

    /// The socket is bound and listens before the proxy runs: whoever connects waits until it does.
    fn start(
        configuration: &str,
        cluster: SocketAddr,
        command: impl FnOnce(&Path) -> Command,
        protocol: &str,
    ) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let front = socket.local_addr().expect("it is bound");
        let home = Home::new();
        let text = fs::read_to_string(fixture("sticky").join(configuration)).expect("the fixture");
        let text = text
            .replace("@CLUSTER@", &cluster.to_string())
            .replace("@FRONT@", &front.to_string())
            .replace("@PREFIX@", &home.path().to_string_lossy())
            .replace("@PROTOCOL@", protocol);
        let mut command = command(&home.write(configuration, &text));
        let inherited = FdMapping { parent_fd: socket.into(), child_fd: 3 };
        command.fd_mappings(vec![inherited]).expect("there is one");
        Self { _process: Running::start(command), home, front }
    }
}

/// Killed, nginx would leave its worker behind: it is asked to end. `HAProxy` is one process, and writes no such file.
impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = self.home.read_if_there("nginx.pid").trim().parse().ok();
        if let Some(nginx) = pid.and_then(|pid| Process::open(pid).ok()) {
            nginx.signal(Signal::TERM);
            nginx.wait_end();
        }
    }
}
