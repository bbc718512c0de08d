//! Nothing is lost and nothing leaks when anything is killed.

use std::process::Command;

use ketch_test_support::{World, eventually};

fn kill9(pid: u32) {
    assert!(
        Command::new("kill")
            .args(["-9", &pid.to_string()])
            .status()
            .expect("kill")
            .success()
    );
}

fn only_monitor(world: &World) -> u32 {
    let monitors = world.monitors();
    assert_eq!(monitors.len(), 1, "one monitor: {monitors:?}");
    monitors[0]
}

/// Lets what was just started run for a while, before it is killed.
fn head_start(microseconds: u32) {
    let status = Command::new("/bin/busybox")
        .args(["usleep", &microseconds.to_string()])
        .status();
    assert!(status.expect("usleep").success());
}

/// Waits until nothing runs, and removes what is left.
fn remove_all(world: &World) {
    eventually("all have ended", || {
        world.monitors().is_empty().then_some(())
    });
    let left = world.run("ps -aq").ok();
    if !left.is_empty() {
        world
            .run(&format!("rm -f {}", left.replace('\n', " ")))
            .ok();
    }
}

#[test]
fn a_killed_monitor_takes_its_container_along_and_the_next_command_says_so() {
    let world = World::with_busybox();
    world
        .run("run -d --name lost -p 8080:80 -v data:/d busybox sleep 600")
        .ok();
    kill9(only_monitor(&world));
    eventually("the container is dead", || {
        world
            .run("inspect -f {{.State.Status}} lost")
            .stdout()
            .eq("exited")
            .then_some(())
    });
    assert_eq!(world.run("inspect -f {{.State.ExitCode}} lost").ok(), "255");
    assert!(
        world
            .run("inspect -f {{.State.Error}} lost")
            .ok()
            .contains("monitor")
    );
    world.run("start lost").ok();
    assert_eq!(
        world.run("inspect -f {{.State.Status}} lost").ok(),
        "running"
    );
    world.run("rm -f lost").ok();
    world.run("volume rm data").ok();
    world.finish();
}

#[test]
fn a_killed_foreground_command_leaves_its_container_running() {
    let world = World::with_busybox();
    let mut client = world.spawn("run --name on busybox sleep 600");
    eventually("it runs", || {
        (world.run("inspect -f {{.State.Status}} on").stdout() == "running").then_some(())
    });
    client.kill().expect("kill -9");
    client.wait().expect("reap");
    assert_eq!(world.run("inspect -f {{.State.Status}} on").ok(), "running");
    world.run("rm -f on").ok();
    world.finish();
}

#[test]
fn kills_at_any_moment_of_run_leave_a_readable_state() {
    let world = World::with_busybox();
    // a larger and larger head start walks the kill through create, start, bring-up, exit and removal
    for step in 0..40u32 {
        let mut client = world.spawn("run --rm busybox true");
        head_start(step * 500);
        let _ = client.kill();
        client.wait().expect("reap");
    }
    remove_all(&world);
    world.run("run --rm busybox true").ok();
    world.finish();
}

#[test]
fn kills_of_the_monitor_at_any_moment_leave_a_readable_state() {
    let world = World::with_busybox();
    for step in 0..30u32 {
        let mut client = world.spawn("run --rm --network bridge -p 8081:80 busybox sleep 1");
        head_start(step * 1_500);
        for pid in world.monitors() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        let _ = client.kill();
        client.wait().expect("reap");
    }
    remove_all(&world);
    world.run("run --rm -p 8081:80 busybox true").ok();
    world.finish();
}

#[test]
fn a_killed_pull_is_continued() {
    let world = World::with_busybox();
    let registry = ketch_test_support::Registry::start(&world);
    let reference = registry.reference("big:1");
    world.file(
        "big/Dockerfile",
        "FROM busybox\nRUN head -c 60000000 /dev/urandom > /blob\n",
    );
    world.run(&format!("build -q -t {reference} big")).ok();
    world.run(&format!("push {reference}")).ok();
    world.run(&format!("rmi {reference}")).ok();
    for step in 0..8u32 {
        let mut pull = world.spawn(&format!("pull {reference}"));
        head_start(step * 30_000);
        let _ = pull.kill();
        pull.wait().expect("reap");
    }
    assert_eq!(
        world
            .run(&format!("run --rm {reference} stat -c %s /blob"))
            .ok(),
        "60000000"
    );
    drop(registry);
    world.run("system prune -f").ok();
    world.finish();
}
