//! Cgroups: where they are, whose they are, and changing limits.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use ketch_test_support::OciWorld;
use serde_json::{Value, json};

/// The file of a limit, by its names in versions 1 and 2.
fn limit(path: &str, v1: &str, v2: &str) -> String {
    let controller = v1.split('.').next().unwrap_or_default();
    let old = Path::new("/sys/fs/cgroup")
        .join(controller)
        .join(path)
        .join(v1);
    let file = if old.exists() {
        old
    } else {
        PathBuf::from("/sys/fs/cgroup").join(path).join(v2)
    };
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    text.trim().to_owned()
}

#[test]
fn privileged_limits_are_set_and_updated() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "sleep 1000");
    bundle.config["linux"]["resources"]["memory"] = json!({ "limit": 67108864 });
    bundle.config["linux"]["resources"]["pids"] = json!({ "limit": 50 });
    bundle.write();
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    let memory = || limit(&id, "memory.limit_in_bytes", "memory.max");
    let pids = || limit(&id, "pids.max", "pids.max");
    assert_eq!((memory(), pids()), ("67108864".into(), "50".into()));
    world
        .runtime(["update", "--memory", "32M", "--pids-limit", "60", &id])
        .ok();
    assert_eq!((memory(), pids()), ("33554432".into(), "60".into()));
    let file = world.path().join("resources.json");
    std::fs::write(&file, json!({ "pids": { "limit": 70 } }).to_string()).unwrap();
    world
        .runtime(["update", "--resources", file.to_str().unwrap(), &id])
        .ok();
    assert_eq!((memory(), pids()), ("33554432".into(), "70".into()));
    let mut command = world.command(["update", "--resources", "-", &id]);
    command.stdin(std::fs::File::open(&file).unwrap());
    std::fs::write(&file, json!({ "pids": { "limit": -1 } }).to_string()).unwrap();
    world.finish(&mut command).ok();
    assert_eq!(pids(), "max");
    let error = world.runtime(["update", "--memory", "much", &id]).fails(1);
    assert!(error.contains("much"), "{error}");
    let error = world
        .runtime(["update", "--l3-cache-schema", "L3:0=f", &id])
        .fails(1);
    assert!(error.contains("no class of linux.intelRdt"), "{error}");
    world.runtime(["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_usage_is_told_as_runc_tells_it() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    world.runtime(["run", "-d", "-b", bundle.path(), &id]).ok();
    let line: Value =
        serde_json::from_str(&world.runtime(["events", "--stats", &id]).ok()).unwrap();
    assert_eq!(
        (&line["type"], &line["id"]),
        (&"stats".into(), &id.as_str().into())
    );
    assert_eq!(line["data"]["pids"]["current"], 1);
    assert!(line["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
    assert!(line["data"]["memory"]["usage"]["usage"].as_u64().unwrap() > 0);
    let watched = world
        .command(["events", "--interval", "10ms", &id])
        .stdout(std::process::Stdio::piped())
        .spawn();
    let mut watched = watched.unwrap();
    let mut output = BufReader::new(watched.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.contains("stats"), "it watches: {line}");
    world.runtime(["delete", "--force", &id]).ok();
    std::io::copy(&mut output, &mut std::io::sink()).unwrap();
    assert!(
        watched.wait().unwrap().success(),
        "it ends with the container"
    );
    world.end();
}

#[test]
fn privileged_a_group_of_somebody_else_is_neither_entered_nor_removed() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "sleep 1000");
    let group = world.id("theirs");
    let directory = Path::new("/sys/fs/cgroup/pids");
    let directory = if directory.exists() {
        directory
    } else {
        Path::new("/sys/fs/cgroup")
    };
    let directory = directory.join(&group);
    std::fs::create_dir(&directory).unwrap();
    bundle.config["linux"]["cgroupsPath"] = format!("/{group}").into();
    bundle.write();
    let mut theirs = std::process::Command::new("sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    std::fs::write(directory.join("cgroup.procs"), theirs.id().to_string()).unwrap();
    let id = world.id("a");
    let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
    assert!(error.contains("is not empty"), "{error}");
    assert!(theirs.try_wait().unwrap().is_none(), "it lives");
    theirs.kill().unwrap();
    theirs.wait().unwrap();
    std::fs::remove_dir(&directory).unwrap();
    world.end();
}

/// A container in it would wait for ever.
#[test]
fn privileged_a_frozen_group_is_refused() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "true");
    let group = world.id("frozen");
    let version_1 = Path::new("/sys/fs/cgroup/freezer");
    let (directory, file, frozen, thawed) = if version_1.exists() {
        (version_1.join(&group), "freezer.state", "FROZEN", "THAWED")
    } else {
        (
            Path::new("/sys/fs/cgroup").join(&group),
            "cgroup.freeze",
            "1",
            "0",
        )
    };
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join(file), frozen).unwrap();
    bundle.config["linux"]["cgroupsPath"] = format!("/{group}").into();
    bundle.write();
    let id = world.id("a");
    for verb in ["create", "run"] {
        let error = world.runtime([verb, "-b", bundle.path(), &id]).fails(1);
        assert!(
            error.contains("container's cgroup unexpectedly frozen"),
            "{error}"
        );
    }
    std::fs::write(directory.join(file), thawed).unwrap();
    world.runtime(["run", "-b", bundle.path(), &id]).ok();
    std::fs::remove_dir(&directory).unwrap();
    world.end();
}

#[test]
fn privileged_paths_of_cgroups_are_the_caller_s() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "sleep 1000");
    let (parent, id) = (world.id("parent"), world.id("a"));
    for path in [
        format!("/{parent}/x"),
        format!("{parent}/x"),
        format!("/../{parent}/./x/"),
    ] {
        bundle.config["linux"]["cgroupsPath"] = path.into();
        bundle.write();
        world.runtime(["create", "-b", bundle.path(), &id]).ok();
        assert_eq!(limit(&format!("{parent}/x"), "pids.max", "pids.max"), "max");
        world.runtime(["delete", &id]).ok();
    }
    for root in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        // The group above is not the container's: whoever named it removes it.
        let _ = std::fs::remove_dir(root.path().join(&parent));
    }
    let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(&parent));
    let mut refused = |path: &str, flags: &[&str]| {
        bundle.config["linux"]["cgroupsPath"] = path.into();
        bundle.write();
        let words = flags
            .iter()
            .copied()
            .chain(["create", "-b", bundle.path(), &id]);
        let error = world.runtime(words).fails(1);
        assert!(error.contains("slice:prefix:name"), "{error}");
    };
    refused("/plain", &["--systemd-cgroup"]);
    refused("a.slice:b:c", &[]);
    world.end();
}

#[test]
fn privileged_exec_enters_groups_below_the_container_s() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    world.runtime(["run", "-d", "-b", bundle.path(), &id]).ok();
    let exec = |places: &[&str]| {
        let flags = places.iter().flat_map(|place| ["--cgroup", place]);
        let program = [id.as_str(), "cat", "/proc/self/cgroup"];
        world.runtime(["exec"].into_iter().chain(flags).chain(program))
    };
    assert!(exec(&["nope"]).fails(255).contains("/nope"));
    assert!(
        exec(&[":nope"])
            .fails(255)
            .contains("no controller before the colon")
    );
    let memory = Path::new("/sys/fs/cgroup/memory").join(&id);
    if memory.is_dir() {
        std::fs::create_dir(memory.join("sub")).unwrap();
        let groups = exec(&["memory:sub"]).ok();
        assert!(groups.contains(&format!("memory:/{id}/sub\n")), "{groups}");
        assert!(groups.contains(&format!("pids:/{id}\n")), "{groups}");
        let pids = Path::new("/sys/fs/cgroup/pids").join(&id).join("other");
        std::fs::create_dir(&pids).unwrap();
        let groups = exec(&["memory:sub", "pids:other"]).ok();
        assert!(groups.contains(&format!("memory:/{id}/sub\n")), "{groups}");
        assert!(groups.contains(&format!("pids:/{id}/other\n")), "{groups}");
        assert!(exec(&["nothing:sub"]).fails(255).contains("nothing"));
    } else {
        assert!(
            exec(&["memory:x"])
                .fails(255)
                .contains("one group for all controllers")
        );
    }
    world.runtime(["delete", "--force", &id]).ok();
    world.end();
}

#[test]
fn privileged_what_cannot_be_had_fails_at_creation() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "true");
    let good = bundle.config.clone();
    let id = world.id("a");
    for (field, value, said) in [
        ("cwd", json!("/bin/sh"), "chdir /bin/sh: Not a directory"),
        (
            "scheduler",
            json!({ "policy": "SCHED_DEADLINE", "runtime": 1 }),
            "set process.scheduler",
        ),
        (
            "rlimits",
            json!([{ "type": "RLIMIT_NOFILE", "soft": 3, "hard": 1u64 << 40 }]),
            "set RLIMIT_NOFILE to 3:1099511627776: prlimit",
        ),
    ] {
        bundle.config = good.clone();
        bundle.config["process"][field] = value;
        bundle.write();
        let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
        assert!(error.contains(said), "{error}");
        world.expect_nothing(field);
    }
    world.end();
}
