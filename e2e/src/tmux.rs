//! A terminal with somebody at it: tmux, in which a shell runs a script. What is on the screen is what tmux says.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{Finished, Home, command, eventually, installed};

/// A terminal. It is closed when dropped.
#[derive(Debug)]
pub struct Tmux {
    home: Home,
    socket: PathBuf,
}

impl Tmux {
    /// A terminal of this size, in which `sh` runs a script in the home. `$RECLUSTER` is the command under test.
    pub fn start(home: &Home, (width, height): (u16, u16), script: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let script = home.write("script.sh", script);
        // A server that ends may still have the socket of the one before.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let tmux = Self { home: home.clone(), socket: home.join(&format!("tmux-{number}")) };
        let size = [width, height].map(|number| number.to_string());
        let mut begin = tmux.command(&["new-session", "-d", "-x", &size[0], "-y", &size[1], "sh"]);
        begin.arg(script);
        Finished::run(begin).expect_code(0);
        tmux
    }

    /// Asks tmux for something, and returns what it says.
    #[track_caller]
    pub fn ask(&self, args: &[&str]) -> String {
        let finished = Finished::run(self.command(args));
        finished.expect_code(0);
        finished.stdout
    }

    /// Presses keys, by the names that tmux has for them.
    #[track_caller]
    pub fn press(&self, keys: &[&str]) {
        self.ask(&[&["send-keys"], keys].concat());
    }

    /// What is on the screen.
    #[track_caller]
    pub fn screen(&self) -> String {
        self.ask(&["capture-pane", "-p"])
    }

    /// Waits until the screen is so, and returns it.
    #[track_caller]
    pub fn wait(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let mut screen = String::new();
        eventually(&format!("{what} on a screen"), || {
            screen = self.screen();
            is_so(&screen)
        });
        screen
    }

    /// Waits until this is on the screen.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait(text, |screen| screen.contains(text))
    }

    /// Gives the terminal another size.
    #[track_caller]
    pub fn resize(&self, width: u16, height: u16) {
        let size = [width, height].map(|number| number.to_string());
        self.ask(&["resize-window", "-x", &size[0], "-y", &size[1]]);
    }

    /// Closes the terminal, with whatever runs in it.
    pub fn close(&self) {
        // It may be closed already.
        let _ = self.command(&["kill-server"]).output();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut tmux = Command::new(installed("tmux"));
        let recluster = command(self.home.path());
        for (name, value) in recluster.get_envs() {
            match value {
                Some(value) => tmux.env(name, value),
                None => tmux.env_remove(name),
            };
        }
        tmux.env("RECLUSTER", recluster.get_program()).env_remove("TMUX").env("TERM", "xterm-256color");
        tmux.current_dir(self.home.path()).arg("-S").arg(&self.socket);
        tmux.args(["-f", "/dev/null", "-u"]).args(args);
        tmux
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        self.close();
    }
}
