//! Commands killed at any moment, and two of them at once.

use std::process::{Child, Command, Stdio};

use ketch_test_support::{OciWorld, eventually};
use serde_json::json;

fn spawn(command: &mut Command) -> Child {
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program")
}

fn kill(mut child: Child) {
    child.kill().expect("kill");
    child.wait().expect("wait");
}

/// A bundle whose hook of that kind says that it runs, and never ends.
fn hanging(world: &OciWorld, kind: &str) -> ketch_test_support::Bundle {
    let mut bundle = world.bundle("b", "sleep 1000");
    let mark = world.path().join("mark").display().to_string();
    let script = format!("echo > {mark}; exec sleep 1000");
    bundle.config["hooks"] = json!({ kind: [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    bundle.write();
    bundle
}

#[test]
fn privileged_a_create_killed_in_a_hook_leaves_no_process_and_its_id_is_free() {
    for kind in ["createRuntime", "createContainer"] {
        let world = OciWorld::new();
        let bundle = hanging(&world, kind);
        let good = world.bundle("good", "true");
        let id = world.id("a");
        let create = spawn(&mut world.command(["create", "-b", bundle.path(), &id]));
        eventually("the hook", || {
            world.path().join("mark").exists().then_some(())
        });
        let error = world.runtime(["create", "-b", good.path(), &id]).fails(1);
        assert!(error.contains("already exists"), "{error}");
        kill(create);
        world.runtime(["state", &id]).fails(1);
        assert_eq!(world.runtime(["list", "-q"]).ok(), "");
        // The next create takes the id over, and cleans what the killed one left.
        eventually("the id", || {
            let ran = world.runtime(["create", "-b", good.path(), &id]);
            (ran.code() == Some(0)).then_some(())
        });
        world.runtime(["start", &id]).ok();
        world.wait_status(&id, "stopped");
        world.runtime(["delete", &id]).ok();
        world.end();
    }
}

#[test]
fn privileged_what_a_killed_create_left_is_deleted() {
    let world = OciWorld::new();
    let bundle = hanging(&world, "createRuntime");
    let id = world.id("a");
    let create = spawn(&mut world.command(["create", "-b", bundle.path(), &id]));
    eventually("the hook", || {
        world.path().join("mark").exists().then_some(())
    });
    kill(create);
    world.runtime(["delete", "--force", &id]).ok();
    world.end();
}

#[test]
fn privileged_commands_killed_at_any_moment_leave_nothing() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    for round in 0..60u32 {
        let verb: &[&str] = if round % 2 == 0 {
            &["create"]
        } else {
            &["run", "--detach"]
        };
        let words = verb.iter().copied().chain(["-b", bundle.path(), &id]);
        let command = spawn(&mut world.command(words));
        // Some time passes, a little more in each round.
        for _ in 0..round * 200 {
            std::fs::metadata("/proc/self/status").unwrap();
        }
        kill(command);
        world.runtime(["delete", "--force", &id]).ok();
    }
    world.end();
}

#[test]
fn privileged_a_start_killed_in_its_hook_is_carried_on_by_the_container() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "echo ran > /ran; sleep 1000");
    let fifo = bundle.root().join("hold");
    Command::new("mkfifo").arg(&fifo).status().unwrap();
    let script = "echo > /hooked; read line < /hold";
    bundle.config["hooks"] =
        json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    bundle.write();
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    let start = spawn(&mut world.command(["start", &id]));
    bundle.wait_for("hooked");
    kill(start);
    std::fs::write(&fifo, "go\n").unwrap();
    bundle.wait_for("ran");
    world.wait_status(&id, "running");
    let error = world.runtime(["start", &id]).fails(1);
    assert!(error.contains("already running"), "{error}");
    world.runtime(["delete", "--force", &id]).ok();
    world.end();
}

#[test]
fn privileged_of_verbs_at_once_one_wins() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "echo ran >> /ran; sleep 1000");
    let id = world.id("a");
    let race = |words: &[&str]| {
        let mut children: Vec<Child> = (0..6).map(|_| spawn(&mut world.command(words))).collect();
        let won = |child: &mut Child| child.wait().expect("wait").success();
        children.iter_mut().map(won).filter(|won| *won).count()
    };
    for _ in 0..5 {
        assert_eq!(race(&["create", "-b", bundle.path(), &id]), 1);
        assert_eq!(race(&["start", &id]), 1);
        assert_eq!(world.status(&id), "running");
        assert_eq!(race(&["delete", "--force", &id]), 6);
    }
    assert_eq!(bundle.wait_for("ran").lines().count(), 5);
    world.end();
}

#[test]
fn privileged_deleting_while_creating_leaves_nothing() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    for _ in 0..10 {
        let mut children = Vec::new();
        for _ in 0..3 {
            children.push(spawn(&mut world.command([
                "create",
                "-b",
                bundle.path(),
                &id,
            ])));
            children.push(spawn(&mut world.command(["delete", "--force", &id])));
        }
        for mut child in children {
            child.wait().expect("wait");
        }
    }
    world.runtime(["delete", "--force", &id]).ok();
    world.end();
}

#[test]
fn privileged_a_start_that_hangs_in_its_hook_does_not_keep_others_from_ending_it() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "sleep 1000");
    let script = "echo > /hooked; exec sleep 1000";
    bundle.config["hooks"] =
        json!({ "startContainer": [{ "path": "/bin/sh", "args": ["sh", "-c", script] }] });
    bundle.write();
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    let mut start = spawn(&mut world.command(["start", &id]));
    bundle.wait_for("hooked");
    assert_eq!(world.status(&id), "created");
    let error = world.runtime(["delete", &id]).fails(1);
    assert!(error.contains("that is not stopped: created"), "{error}");
    world.runtime(["delete", "--force", &id]).ok();
    assert!(!start.wait().expect("wait").success());
    world.end();
}
