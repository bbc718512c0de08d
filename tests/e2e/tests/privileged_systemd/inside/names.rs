//! Names: `slice:prefix:name`.

use std::process::{Command, Stdio};

use super::Scopes;
use ketch_test_support::eventually;

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_names_are_units_in_slices() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let (id, name) = (world.id("a"), world.id("name"));
    // A slice goes with its last unit, one above the other.
    let nested = format!("{}a-b.slice", world.id("").replace('-', "_"));
    let stem = nested.trim_end_matches("-b.slice").to_owned();
    for (slice, prefix, unit, group) in [
        (
            "",
            "docker",
            format!("docker-{name}.scope"),
            "/system.slice".to_owned(),
        ),
        (
            "user.slice",
            "p",
            format!("p-{name}.scope"),
            "/user.slice".to_owned(),
        ),
        (
            "machine.slice",
            "",
            format!("{name}.scope"),
            "/machine.slice".to_owned(),
        ),
        (
            "-.slice",
            "libpod",
            format!("libpod-{name}.scope"),
            String::new(),
        ),
        (
            &nested,
            "x",
            format!("x-{name}.scope"),
            format!("/{stem}.slice/{nested}"),
        ),
        (
            "system.slice",
            "a:b".split(':').next().unwrap(),
            format!("a-{name}.scope"),
            "/system.slice".to_owned(),
        ),
    ] {
        let bundle = scopes.bundle(|config| {
            config["linux"]["cgroupsPath"] = format!("{slice}:{prefix}:{name}").into();
            // So that something has to be handed down all the way.
            config["linux"]["resources"]["cpu"] =
                serde_json::json!({ "cpus": "0", "shares": 2048 });
        });
        scopes
            .runtime(&["run", "-d", "-b", bundle.path(), &id])
            .ok();
        assert_eq!(
            scopes.property(&unit, "ControlGroup"),
            format!("{group}/{unit}")
        );
        let pid = world.state(&id)["pid"].to_string();
        assert_eq!(scopes.read(&unit, "cgroup.procs"), pid);
        assert_eq!(scopes.read(&unit, "cpuset.cpus"), "0");
        world.runtime(["delete", "--force", &id]).ok();
        scopes.wait_gone(&unit);
        scopes.expect_nothing(&unit);
    }
    // Slices stay until somebody stops them, as below runc.
    scopes.systemctl(&["stop", &nested, &format!("{stem}.slice")]);
    scopes.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_wrong_names_are_refused() {
    let scopes = Scopes::new();
    let id = scopes.world.id("a");
    for (path, said) in [
        ("/a/b", "slice:prefix:name"),
        ("a.slice:b", "slice:prefix:name"),
        ("a.slice:b:c:d", "slice:prefix:name"),
        ("a.slice:b:", "the name is missing"),
        ("a--b.slice:b:c", "the slice is not one"),
        ("a:b:c", "the slice is not one"),
        ("a.slice:b:c/d", "units are named with"),
        ("a.slice:b:../c", "units are named with"),
        ("a.slice:b:c.slice", "a scope, not a slice"),
    ] {
        let bundle = scopes.bundle(|config| config["linux"]["cgroupsPath"] = path.into());
        let error = scopes
            .runtime(&["create", "-b", bundle.path(), &id])
            .fails(1);
        assert!(error.contains(said), "{path}: {error}");
        scopes.expect_nothing(path);
    }
    scopes.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_scope_of_somebody_else_is_left_alone() {
    let scopes = Scopes::new();
    let (id, unit) = (scopes.world.id("a"), scopes.unit("a"));
    let bundle = scopes.bundle(|_| ());
    let mut theirs = Command::new("systemd-run")
        .args(["--scope", "--unit", &unit, "sleep", "1000"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("their scope", || {
        let there = scopes.property(&unit, "ActiveState") == "active";
        (there && scopes.read(&unit, "cgroup.procs") == theirs.id().to_string()).then_some(())
    });
    for verb in ["create", "run"] {
        let error = scopes.runtime(&[verb, "-b", bundle.path(), &id]).fails(1);
        assert!(error.contains("is not empty"), "{error}");
        scopes.world.runtime(["delete", "--force", &id]).ok();
        assert_eq!(scopes.property(&unit, "ActiveState"), "active");
    }
    assert!(theirs.try_wait().unwrap().is_none(), "it lives");
    theirs.kill().unwrap();
    theirs.wait().unwrap();
    scopes.wait_gone(&unit);
    scopes.end();
}

/// A unit that failed keeps its name, as long as nobody says that it may be forgotten.
#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_the_name_of_a_failed_scope_is_taken_over() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    let bundle = scopes.bundle(|_| ());
    let failed = Command::new("systemd-run")
        .args([
            "--scope",
            "--unit",
            &unit,
            "-p",
            "RuntimeMaxSec=100ms",
            "sleep",
            "1000",
        ])
        .stderr(Stdio::null())
        .status();
    assert!(!failed.unwrap().success());
    eventually("it has failed", || {
        (scopes.property(&unit, "ActiveState") == "failed").then_some(())
    });
    scopes.runtime(&["create", "-b", bundle.path(), &id]).ok();
    assert_eq!(scopes.property(&unit, "ActiveState"), "active");
    world.runtime(["start", &id]).ok();
    bundle.wait_for("up");
    world.runtime(["delete", "--force", &id]).ok();
    scopes.end();
}

/// Two containers that are to be one unit: the first has it, and keeps it.
#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_of_two_with_one_name_one_is_refused() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let name = world.id("name");
    let ids = [world.id("a"), world.id("b"), world.id("c")];
    let bundle = scopes.bundle(|config| {
        config["linux"]["cgroupsPath"] = format!(":ketch:{name}").into();
    });
    let children: Vec<_> = ids
        .iter()
        .map(|id| {
            let words = ["--systemd-cgroup", "create", "-b", bundle.path(), id];
            let mut command = world.command(words);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        })
        .collect();
    let made = children
        .into_iter()
        .map(|mut child| child.wait().unwrap().success());
    let made: Vec<bool> = made.collect();
    assert_eq!(made.iter().filter(|&&made| made).count(), 1, "{made:?}");
    let winner = &ids[made.iter().position(|&made| made).unwrap()];
    assert_eq!(world.status(winner), "created");
    let unit = format!("ketch-{name}.scope");
    let pid = world.state(winner)["pid"].to_string();
    assert_eq!(scopes.read(&unit, "cgroup.procs"), pid);
    for id in ids.iter().filter(|&id| id != winner) {
        world.runtime(["delete", "--force", id]).ok();
    }
    assert_eq!(world.status(winner), "created");
    world.runtime(["delete", winner]).ok();
    scopes.end();
}
