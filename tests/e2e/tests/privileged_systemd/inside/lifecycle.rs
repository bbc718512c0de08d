//! All verbs, on a scope.

use super::Scopes;

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_every_verb_works_on_a_scope() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let bundle = scopes.bundle(|_| ());
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    scopes.runtime(&["create", "-b", bundle.path(), &id]).ok();
    assert_eq!(world.status(&id), "created");
    for (name, value) in [
        ("ActiveState", "active"),
        ("SubState", "running"),
        ("Slice", "system.slice"),
        ("Delegate", "yes"),
        ("Transient", "yes"),
        ("ControlGroup", &format!("/system.slice/{unit}")),
    ] {
        assert_eq!(scopes.property(&unit, name), value, "{name}");
    }
    let pid = world.state(&id)["pid"].to_string();
    assert_eq!(scopes.read(&unit, "cgroup.procs"), pid, "and no other");
    world.runtime(["start", &id]).ok();
    bundle.wait_for("up");
    assert_eq!(world.status(&id), "running");
    let group = world
        .runtime(["exec", &id, "cat", "/proc/self/cgroup"])
        .ok();
    assert_eq!(group, format!("0::/system.slice/{unit}"));
    let listed = world.runtime(["ps", "-f", "json", &id]).ok();
    assert!(listed.contains(&pid), "{listed}");
    assert!(world.runtime(["list", "-q"]).ok().contains(&id));
    let numbers = world.runtime(["events", "--stats", &id]).ok();
    assert!(numbers.contains("\"pids\":{\"current\":1"), "{numbers}");
    world.runtime(["pause", &id]).ok();
    assert_eq!(world.status(&id), "paused");
    assert_eq!(scopes.read(&unit, "cgroup.freeze"), "1");
    // systemd thaws what it has not frozen itself as little as it freezes it.
    scopes.systemctl(&["daemon-reload"]);
    assert_eq!(world.status(&id), "paused");
    world.runtime(["resume", &id]).ok();
    assert_eq!(world.status(&id), "running");
    world.runtime(["kill", &id, "KILL"]).ok();
    world.wait_status(&id, "stopped");
    scopes.wait_gone(&unit);
    world.runtime(["delete", &id]).ok();
    scopes.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_run_ends_with_its_program_and_leaves_no_unit() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let bundle = world.bundle("b", "cat /proc/self/cgroup; exit 7");
    let id = world.id("a");
    let ran = scopes.runtime(&["run", "-b", bundle.path(), &id]);
    assert_eq!(ran.code(), Some(7), "{}", ran.describe());
    assert_eq!(
        ran.stdout(),
        format!("0::/system.slice/{}", scopes.unit("a"))
    );
    scopes.expect_nothing("by run");
    // The same name again, at once.
    for _ in 0..3 {
        let ran = scopes.runtime(&["run", "-b", bundle.path(), &id]);
        assert_eq!(ran.code(), Some(7), "{}", ran.describe());
    }
    scopes.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_scope_survives_reloads_of_systemd() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let bundle = scopes.bundle(|config| {
        config["linux"]["resources"]["memory"] = serde_json::json!({ "limit": 67108864 });
        config["linux"]["resources"]["cpu"] =
            serde_json::json!({ "quota": 33333, "period": 100000, "shares": 512, "cpus": "0" });
        config["linux"]["resources"]["pids"] = serde_json::json!({ "limit": 40 });
    });
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    scopes
        .runtime(&["run", "-d", "-b", bundle.path(), &id])
        .ok();
    bundle.wait_for("up");
    let exec = ["exec", &id, "dd", "if=/dev/mem", "count=1"];
    let check = |when: &str| {
        assert_eq!(world.status(&id), "running", "{when}");
        for (file, value) in [
            ("memory.max", "67108864"),
            ("cpu.weight", "20"),
            ("cpuset.cpus", "0"),
            ("pids.max", "40"),
        ] {
            assert_eq!(scopes.read(&unit, file), value, "{file} {when}");
        }
        world.runtime(["exec", &id, "true"]).ok();
        world
            .runtime(["exec", &id, "mknod", "/mem", "c", "1", "1"])
            .fails(1);
        let _ = world.runtime(exec).fails(1);
    };
    check("at first");
    for verb in ["daemon-reload", "daemon-reexec"] {
        scopes.systemctl(&[verb]);
        check(verb);
    }
    world.runtime(["update", "--memory", "48M", &id]).ok();
    assert_eq!(scopes.read(&unit, "memory.max"), "50331648");
    assert_eq!(scopes.property(&unit, "MemoryMax"), "50331648");
    scopes.systemctl(&["daemon-reload"]);
    assert_eq!(scopes.read(&unit, "memory.max"), "50331648");
    assert_eq!(scopes.read(&unit, "cpu.weight"), "20");
    world.runtime(["delete", "--force", &id]).ok();
    scopes.end();
}
