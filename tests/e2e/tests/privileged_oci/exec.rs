//! `exec`, `ps` and `kill --all`.

use ketch_test_support::{OciWorld, eventually};
use serde_json::json;

/// A world with a container that sleeps.
fn sleeping(world: &OciWorld) -> (ketch_test_support::Bundle, String) {
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    world
        .runtime(["run", "--detach", "-b", bundle.path(), &id])
        .ok();
    (bundle, id)
}

#[test]
fn privileged_exec_runs_in_the_container_and_gives_the_exit_code() {
    let world = OciWorld::new();
    let (_bundle, id) = sleeping(&world);
    let ran = world.runtime(["exec", &id, "sh", "-c", "hostname; echo err >&2; exit 9"]);
    assert_eq!(
        (ran.stdout().as_str(), ran.stderr().as_str()),
        ("ketch", "err")
    );
    let _ = ran.fails(9);
    let error = world.runtime(["exec", &id, "nowhere"]).fails(255);
    assert!(
        error.contains("executable file not found in $PATH"),
        "{error}"
    );
    world
        .runtime(["exec", &id, "sh", "-c", "kill -9 $$"])
        .fails(137);
    world.runtime(["delete", "-f", &id]).ok();
    world.end();
}

#[test]
fn privileged_exec_takes_what_its_flags_say() {
    let world = OciWorld::new();
    let (_bundle, id) = sleeping(&world);
    let script = "id -u; id -g; id -G; pwd; echo $A; echo $TERM; grep NoNewPrivs /proc/self/status";
    let words = [
        "exec",
        "--user",
        "1000:1001",
        "--additional-gids",
        "7",
        "-g",
        "8",
        "--cwd",
        "/tmp",
        "--env",
        "A=b",
        &id,
        "sh",
        "-c",
        script,
    ];
    let out = world.runtime(words).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[..6],
        ["1000", "1001", "1001 7 8", "/tmp", "b", "xterm"]
    );
    assert!(lines[6].ends_with('1'), "{out}");
    let caps = |words: &[&str]| {
        let words = ["exec"].iter().chain(words).copied();
        let rest = [id.as_str(), "grep", "CapEff", "/proc/self/status"];
        world.runtime(words.chain(rest)).ok()
    };
    assert!(caps(&[]).ends_with("0000000020000420"), "{}", caps(&[]));
    assert!(caps(&["--cap", "CAP_CHOWN"]).ends_with("0000000020000421"));
    world.runtime(["delete", "-f", &id]).ok();
    world.end();
}

#[test]
fn privileged_exec_takes_a_process_from_a_file_and_detaches() {
    let world = OciWorld::new();
    let (bundle, id) = sleeping(&world);
    let (file, pid_file) = (world.path().join("process.json"), world.path().join("pid"));
    let process = json!({
        "user": { "uid": 5, "gid": 6 }, "args": ["sh", "-c", "id -u > /tmp/u; sleep 1000"],
        "env": ["PATH=/bin"], "cwd": "/",
    });
    std::fs::write(&file, process.to_string()).unwrap();
    let tmp = bundle.root().join("tmp");
    std::fs::create_dir_all(&tmp).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&tmp, std::fs::Permissions::from_mode(0o777)).unwrap();
    let words = [
        "exec",
        "--process",
        file.to_str().unwrap(),
        "--detach",
        "--pid-file",
        pid_file.to_str().unwrap(),
        &id,
    ];
    world.runtime(words).ok();
    assert_eq!(bundle.wait_for("tmp/u"), "5\n");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let json = world.runtime(["ps", "--format", "json", &id]).ok();
    let pids: Vec<u32> = serde_json::from_str(&json).unwrap();
    assert!(pids.contains(&pid.parse().unwrap()), "{json}");
    assert!(pids.len() >= 2, "the container's own too: {json}");
    let table = world.runtime(["ps", &id, "-eo", "pid,args"]).ok();
    assert!(
        table.contains("PID") && table.contains(pid.trim()),
        "{table}"
    );
    assert!(table.lines().count() > 2, "{table}");
    world.runtime(["kill", "--all", &id, "KILL"]).ok();
    world.wait_status(&id, "stopped");
    world.runtime(["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_exec_works_in_a_created_container_and_not_in_a_paused_one() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    assert_eq!(world.runtime(["exec", &id, "hostname"]).ok(), "ketch");
    world.runtime(["start", &id]).ok();
    world.runtime(["pause", &id]).ok();
    assert_eq!(world.status(&id), "paused");
    let error = world.runtime(["exec", &id, "true"]).fails(255);
    assert!(
        error.contains("cannot exec in a paused container"),
        "{error}"
    );
    let error = world.runtime(["start", &id]).fails(1);
    assert!(error.contains("paused"), "{error}");
    world.runtime(["resume", &id]).ok();
    assert_eq!(world.status(&id), "running");
    world.runtime(["exec", &id, "true"]).ok();
    world.runtime(["pause", &id]).ok();
    world.runtime(["kill", &id, "KILL"]).ok();
    world.wait_status(&id, "stopped");
    world.runtime(["delete", &id]).ok();
    world.runtime(["run", "-d", "-b", bundle.path(), &id]).ok();
    world.runtime(["pause", &id]).ok();
    world.runtime(["delete", "--force", &id]).ok();
    world.end();
}

#[test]
fn privileged_without_a_pid_namespace_the_others_end_too() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "sleep 1001 & sleep 1000");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "pid");
    bundle.write();
    let id = world.id("a");
    world.runtime(["run", "-d", "-b", bundle.path(), &id]).ok();
    let count = || {
        let json = world.runtime(["ps", "-f", "json", &id]).ok();
        serde_json::from_str::<Vec<u32>>(&json).unwrap().len()
    };
    eventually("both", || (count() >= 2).then_some(()));
    world.runtime(["kill", &id, "KILL"]).ok();
    eventually("the end of both", || (count() == 0).then_some(()));
    world.runtime(["delete", &id]).ok();
    world.runtime(["run", "-d", "-b", bundle.path(), &id]).ok();
    world.runtime(["delete", "--force", &id]).ok();
    world.end();
}
