//! A worker does not get an address because another one of the cluster has bound it itself: the log says so in one line, with
//! what to do.

use recluster_e2e::{Home, Launch, Master, fixture, on};

/// A cluster of a program that binds one port in every worker, in this home.
fn binds_itself(home: &Home) -> Launch {
    let program = fixture("binds-itself.py");
    let program = home.script("program", &format!("exec python3 '{}' \"$@\"", program.display()));
    Launch::of(program).home(home).option("--bake", "1h")
}

/// The port, and the worker that has it.
fn has_it(master: &Master) -> (String, u64) {
    let died = master.wait(on("address_taken")).id();
    let port = master.home().read("port");
    let others = master.wait_all(2, on("spawned").generation(1));
    let holder = others.iter().map(recluster_e2e::Event::id).find(|id| *id != died).expect("there are two");
    (port, holder)
}

const SHARED: &str = "the program binds it itself, so that workers do not share it";

#[test]
fn a_program_that_names_no_port_is_told_which_one_its_sibling_listens_on() {
    let home = Home::new();
    let mut master = binds_itself(&home).option("--attempts", "3").start();
    master.expect_end(3);
    let (port, holder) = has_it(&master);
    let said = master.wait(on("address_taken")).text("/reason").to_owned();
    assert!(said.starts_with(&format!("worker {holder} of this cluster (pid ")), "{said}");
    let advice = format!(
        ") listens on port {port}: {SHARED}; let recluster bind it (--listen {port}), and the program take it as \
         descriptor 3 (docs/languages.md), or run one worker (--workers 1)"
    );
    assert!(said.ends_with(&advice), "{said}");
    assert_eq!(master.seen(&on("failed")).len(), 3);
    assert_eq!(master.seen(&on("address_taken")).len(), 1, "that is told once");
    assert_eq!(master.wait(on("start_failed")).text("/failure/hint"), said);
}

/// A program of which nothing is known but that it lives serves before it fails to bind.
#[test]
fn a_program_that_served_before_it_died_is_told_as_well() {
    let home = Home::new();
    let master = binds_itself(&home).arg("named").option("--bake", "0s").serve();
    let (port, holder) = has_it(&master);
    let said = master.wait(on("address_taken")).text("/reason").to_owned();
    assert!(
        said.starts_with(&format!("port {port} is taken by worker {holder} of this cluster (pid ")),
        "{said}"
    );
    master.wait_all(4, on("respawning"));
    assert_eq!(master.seen(&on("address_taken")).len(), 1, "that is told once");
}

#[test]
fn a_reload_finds_that_the_old_worker_has_the_address() {
    let home = Home::new();
    let master = binds_itself(&home).workers(1).config("bake = '0s'\nattempts = 1").serve();
    // It runs, but may not have bound yet.
    master.wait_stdout("bound");
    master.configure("bake = '1h'\nattempts = 1");
    let reload = master.reload();
    reload.expect_code(1);
    let hint = master.wait(on("reloaded")).text("/failure/hint").to_owned();
    assert!(hint.starts_with("worker 1 of this cluster") && hint.contains(SHARED), "{hint}");
    assert!(!hint.contains("--workers 1"), "there is one: {hint}");
    assert!(reload.stderr.contains(SHARED), "{reload:?}");
}

/// The master binds it, the program inherits it, and binds it again.
#[test]
fn an_address_that_the_master_hands_over_is_to_be_taken_and_not_bound() {
    let home = Home::new();
    let program = home.script(
        "program",
        "exec python3 -c \"import os,socket; a=os.environ['SERVER_STARTER_PORT'].split('=')[0].split(':'); \
         socket.socket().bind((a[0], int(a[1])))\"",
    );
    let mut master = Launch::of(program)
        .home(&home)
        .workers(1)
        .option("--attempts", "1")
        .option("--bake", "1h")
        .listen("127.0.0.1:0")
        .start();
    master.expect_end(3);
    let said = master.wait(on("address_taken")).text("/reason").to_owned();
    let address = master.bound_ip(0);
    assert!(said.starts_with(&format!("if it was {address}: this recluster listens there")), "{said}");
    assert!(said.contains("descriptor 3"), "{said}");
}

#[test]
fn a_node_server_that_binds_its_own_sockets_is_told_what_makes_workers_share() {
    let home = Home::new();
    let server = home.write(
        "server.js",
        "const fs = require('fs'), http = require('http')\n\
         const taken = () => fs.existsSync('port') ? listen(+fs.readFileSync('port', 'utf8')) : setTimeout(taken, 10)\n\
         const listen = (port) => http.createServer().listen({ port, host: '127.0.0.1', exclusive: true }, function () {\n\
           fs.writeFileSync('new', String(this.address().port)); fs.renameSync('new', 'port')\n\
         })\n\
         try { fs.writeFileSync('first', '', { flag: 'wx' }); listen(0) } catch { taken() }\n",
    );
    let master = Launch::of(&server)
        .home(&home)
        .option("--ready-when", "started")
        .option("--bake", "1h")
        .option("--attempts", "1")
        .start();
    // Such a server hears of no drain: a stop would wait for it.
    master.wait(on("start_failed"));
    let (port, holder) = has_it(&master);
    let said = master.wait(on("address_taken")).text("/reason").to_owned();
    assert!(said.starts_with(&format!("port {port} is taken by worker {holder} of this cluster")), "{said}");
    assert!(said.contains("without `exclusive` and `reusePort`"), "{said}");
}
