//! Programs that are not Node's and know how to take a socket.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;

use recluster_e2e::{Home, Launch, fixture, installed};

use crate::ask::fastcgi;
use crate::meter::nobody_waits;
use crate::programs::{built_by_go, compiled, of_python};
use crate::trial::{Ends, Trial};

/// A server with a listener, and the small application in this directory.
pub(crate) fn serving(server: PathBuf, args: &[&str]) -> Launch {
    let launch = Launch::of(server).listen("127.0.0.1:0").env("PYTHONPATH", fixture("languages"));
    args.iter().fold(launch, Launch::arg)
}

fn application(name: &str) -> String {
    fixture("languages").join(name).to_string_lossy().into_owned()
}

/// A socket for a server that takes over only those at an address of its configuration, and that address.
fn known_before() -> (TcpListener, String) {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("it is bound").to_string();
    (socket, address)
}

#[test]
#[cfg_attr(not(has = "gcc"), ignore = "gcc is not installed")]
fn c() {
    let home = Home::new();
    let server = compiled(&home);
    Trial::of("C", serving(server, &[]), Ends::Cleanly).clients(nobody_waits()).run();
}

#[test]
#[cfg_attr(not(has = "go"), ignore = "Go is not installed")]
fn go() {
    let home = Home::new();
    let server = built_by_go(&home);
    Trial::of("Go", serving(server, &[]), Ends::Cleanly).run();
}

/// A connection that it accepts while it begins to shut down is kept for as long as the client likes, but for the timeout.
#[test]
#[cfg_attr(not(has = "python3-venv"), ignore = "python3-venv is not installed")]
fn uvicorn() {
    let server = of_python("uvicorn");
    let args = ["--fd", "3", "--timeout-graceful-shutdown", "3", "--no-access-log", "hello:app"];
    let launch = serving(server, &args);
    Trial::of("uvicorn", launch, Ends::AsItDoes).run();
}

/// It says by `sd_notify` that it is ready.
#[test]
#[cfg_attr(not(has = "python3-venv"), ignore = "python3-venv is not installed")]
fn gunicorn() {
    let server = of_python("gunicorn");
    let launch = serving(server, &["--workers", "1", "hello:application"]);
    let launch = launch.option("--ready-when", "notify");
    Trial::of("gunicorn", launch, Ends::AsItDoes).clients(nobody_waits()).run();
}

#[test]
#[cfg_attr(not(has = "python3-venv"), ignore = "python3-venv is not installed")]
fn hypercorn() {
    let server = of_python("hypercorn");
    let launch = serving(server, &["--bind", "fd://3", "hello:app"]);
    Trial::of("hypercorn", launch, Ends::AsItDoes).run();
}

/// While each of its threads has a client that keeps its connection and soon asks again, puma 5 does not look at signals:
/// it has more threads than the meter has clients.
#[test]
#[cfg_attr(not(has = "puma"), ignore = "puma is not installed")]
fn puma() {
    let server = installed("puma");
    let args = ["--threads=0:32", "--bind-to-activated-sockets=only", &application("hello.ru")];
    Trial::of("puma", serving(server, &args), Ends::AsItDoes).run();
}

/// It finds its socket by the variable of `Server::Starter`.
#[test]
#[cfg_attr(not(has = "plackup"), ignore = "plackup (starlet) is not installed")]
fn starlet() {
    let server = installed("plackup");
    let args = ["-s", "Starlet", "--max-workers=2", "-E", "production", &application("hello.psgi")];
    Trial::of("Starlet", serving(server, &args), Ends::AsItDoes).clients(nobody_waits()).run();
}

#[test]
#[cfg_attr(not(has = "php"), ignore = "PHP is not installed")]
fn php() {
    let server = installed("php");
    let launch = serving(server, &[&application("hello.php")]);
    Trial::of("PHP", launch, Ends::Cleanly).clients(nobody_waits()).run();
}

/// It is told of its socket by a variable of its own, and says by `sd_notify` that it is ready.
#[test]
#[cfg_attr(not(has = "php-fpm8.2"), ignore = "php8.2-fpm is not installed")]
fn php_fpm() {
    let server = installed("php-fpm8.2");
    let home = Home::new();
    let (socket, address) = known_before();
    let text = fs::read_to_string(fixture("languages/fpm.conf")).expect("the fixture");
    let configuration = home.write("fpm.conf", &text.replace("@ADDRESS@", &address));
    let launch = Launch::of(server).socket(socket).env("FPM_SOCKETS", format!("{address}=3"));
    let launch = launch.option("--drain-signal", "QUIT").option("--ready-when", "notify");
    let launch = launch.arg("--nodaemonize").arg("--allow-to-run-as-root");
    let launch = launch.arg("--fpm-config").arg(&configuration);
    Trial::of("php-fpm", launch, Ends::AsItDoes).request(fastcgi(&application("page.php"))).run();
}

/// It takes over sockets as when its own binary is replaced.
#[test]
#[cfg_attr(not(has = "nginx"), ignore = "nginx is not installed")]
fn nginx() {
    let server = installed("nginx");
    let home = Home::new();
    let (socket, address) = known_before();
    let configure = |generation: u64| {
        let prefix = home.path().display();
        let text = fs::read_to_string(fixture("languages/nginx.conf")).expect("the fixture");
        let text = text.replace("@PREFIX@", &prefix.to_string()).replace("@ADDRESS@", &address);
        home.write("nginx.conf", &text.replace("@GENERATION@", &generation.to_string()))
    };
    let configuration = configure(1).to_string_lossy().into_owned();
    let launch = Launch::of(server).socket(socket).env("NGINX", "3;").option("--drain-signal", "QUIT");
    let launch = launch.arg("-c").arg(&configuration).arg("-e").arg("stderr");
    Trial::of("nginx", launch, Ends::AsItDoes).before(|generation| _ = configure(generation)).run();
}
