//! Ends: of the program, of creations that fail, by force.

use serde_json::json;

use super::Scopes;

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_scope_goes_when_its_container_ends() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let bundle = world.bundle("b", "read line < /fifo; exit 3");
    std::process::Command::new("mkfifo")
        .arg(bundle.root().join("fifo"))
        .status()
        .unwrap();
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    scopes.runtime(&["create", "-b", bundle.path(), &id]).ok();
    world.runtime(["start", &id]).ok();
    assert_eq!(scopes.property(&unit, "ActiveState"), "active");
    std::fs::write(bundle.root().join("fifo"), "\n").unwrap();
    world.wait_status(&id, "stopped");
    scopes.wait_gone(&unit);
    assert!(
        world
            .runtime(["exec", &id, "true"])
            .fails(255)
            .contains("stopped")
    );
    world.runtime(["delete", &id]).ok();
    scopes.end();
}

/// From 253 on systemd keeps such a unit, with the reason, until it is told to forget it.
#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_scope_whose_memory_ran_out_is_forgotten_with_the_container() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let mut bundle = world.bundle("b", "exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    bundle.config["linux"]["resources"] =
        json!({ "memory": { "limit": 33554432, "swap": 33554432 } });
    bundle.write();
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    let ran = scopes.runtime(&["run", "-b", bundle.path(), &id]);
    assert_eq!(ran.code(), Some(137), "{}", ran.describe());
    assert_eq!(scopes.property(&unit, "LoadState"), "not-found");
    scopes.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_force_deletes_what_runs_and_what_is_paused() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let bundle = scopes.bundle(|config| {
        config["process"]["args"] =
            json!(["sh", "-c", "sleep 1000 & sleep 1000 & echo up > /up; wait"]);
        // Without a pid namespace the others stay when the first process has ended.
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    for pause in [false, true] {
        scopes
            .runtime(&["run", "-d", "-b", bundle.path(), &id])
            .ok();
        bundle.wait_for("up");
        std::fs::remove_file(bundle.root().join("up")).unwrap();
        if pause {
            world.runtime(["pause", &id]).ok();
        }
        world.runtime(["delete", "--force", &id]).ok();
        assert_eq!(scopes.property(&unit, "LoadState"), "not-found");
        scopes.expect_nothing("by delete --force");
    }
    scopes.end();
}

/// systemd itself may stop a scope: at a shutdown, or because somebody says so.
#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_scope_that_systemd_stops_is_a_stopped_container() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let bundle = scopes.bundle(|config| {
        config["annotations"] = json!({ "org.systemd.property.TimeoutStopSec": "uint64 1" });
    });
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    scopes
        .runtime(&["run", "-d", "-b", bundle.path(), &id])
        .ok();
    bundle.wait_for("up");
    scopes.systemctl(&["stop", &unit]);
    world.wait_status(&id, "stopped");
    world.runtime(["delete", &id]).ok();
    scopes.wait_gone(&unit);
    scopes.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_creation_that_fails_leaves_no_unit() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let id = world.id("a");
    let failing = json!({ "prestart": [{ "path": "/bin/false" }] });
    let changes: [(&str, &str, serde_json::Value); 6] = [
        ("/process/cwd", "chdir", json!("/bin/sh")),
        ("/hooks", "prestart", failing),
        (
            "/linux/resources/unified",
            "cpu.max",
            json!({ "cpu.max": "1 1" }),
        ),
        (
            "/linux/resources/unified",
            "no.such",
            json!({ "no.such": "1" }),
        ),
        (
            "/linux/resources/cpu",
            "cpuset.cpus",
            json!({ "cpus": "4000" }),
        ),
        (
            "/linux/resources/devices",
            "device",
            json!([{ "allow": true, "type": "x", "access": "rwm" }]),
        ),
    ];
    for (pointer, said, value) in changes {
        let bundle = scopes.bundle(|config| {
            config["hooks"] = json!({});
            config["linux"]["resources"]["unified"] = json!({});
            config["linux"]["resources"]["cpu"] = json!({});
            *config.pointer_mut(pointer).unwrap() = value;
        });
        for words in [&["create"][..], &["run", "-d"]] {
            let words = [words, &["-b", bundle.path(), &id]].concat();
            let error = scopes.runtime(&words).fails(1);
            assert!(error.contains(said), "{pointer}: {error}");
            scopes.expect_nothing(pointer);
        }
    }
    scopes.end();
}
