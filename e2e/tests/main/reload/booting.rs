//! How many workers boot at a time (`--boot-limit`).

use recluster_e2e::{Launch, Master};

/// The most workers that had been started and were not ready, at any time.
fn most_that_booted(master: &Master) -> i32 {
    let change = |name: &str| i32::from(name == "spawned") - i32::from(name == "ready");
    let booting = master.log().into_iter().scan(0, |booting, event| {
        *booting += change(event.name());
        Some(*booting)
    });
    booting.max().unwrap_or_default()
}

/// The next one is started when one before it is ready, in a start and in a reload.
#[test]
fn only_so_many_workers_boot_at_a_time() {
    for limit in [1, 2] {
        let launch = Launch::fixture("server.js").workers(4).option("--bake", "100ms");
        let master = launch.option("--boot-limit", &limit.to_string()).serve();
        master.reload().expect_code(0);
        assert_eq!(most_that_booted(&master), limit);
        assert_eq!(master.get("/").text("generation"), "2");
    }
}
