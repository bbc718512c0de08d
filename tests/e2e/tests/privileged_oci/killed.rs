//! Every command killed before each of its calls that change something or wait: what it leaves, `delete --force` takes
//! away. strace(1) does the killing.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use ketch_test_support::{Bundle, OciWorld};
use serde_json::json;

/// Calls between which the state is another one, and those that wait for others.
const CALLS: &str = "mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,write,pwrite64,clone3,clone,vfork,execve,\
    sendmsg,sendto,recvmsg,recvfrom,poll,ppoll,wait4,waitid,pidfd_send_signal,kill,flock,bind,listen,connect,accept4,setns,\
    unshare,umount2,move_mount,open_tree,mount,fsmount,chown,fchown,fchmodat,ftruncate,memfd_create,prlimit64";

/// How often each call is made by a command that nobody kills.
fn count(world: &OciWorld, words: &[&str]) -> BTreeMap<String, usize> {
    let trace = world.path().join("trace");
    let mut command = strace(world, &["-o", &trace.to_string_lossy(), "-e", CALLS], words);
    let ran = world.finish(&mut command);
    ran.ok();
    let text = std::fs::read_to_string(&trace).expect("the trace");
    let mut counts = BTreeMap::new();
    for name in text.lines().filter_map(|line| line.split_once('(')) {
        *counts.entry(name.0.to_owned()).or_default() += 1;
    }
    // The execution itself, at least.
    assert!(counts.contains_key("execve"), "{text}");
    counts
}

fn strace(world: &OciWorld, options: &[&str], words: &[&str]) -> Command {
    let plain = world.command(words);
    // The program is executed anew by itself; that is traced too, what it makes of others is not.
    let mut command = Command::new("strace");
    command.arg("-qq").args(options).arg(plain.get_program());
    command.args(plain.get_args()).current_dir(world.path());
    command.stdin(Stdio::null());
    command
}

/// Runs `words` as often as it makes calls, killed before another one each time, after `before` and before
/// `delete --force`; then nothing is left.
fn kill_everywhere(world: &OciWorld, before: &[&[&str]], words: &[&str], id: &str) {
    let prepare = || {
        for words in before {
            world.runtime(*words).ok();
        }
    };
    let delete = || world.runtime(["delete", "--force", id]).ok();
    prepare();
    let counts = count(world, words);
    delete();
    for (call, count) in counts {
        // Once more than counted: how often is waited depends on others.
        for number in 1..=count + 1 {
            prepare();
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let mut command = strace(world, &["-o", "/dev/null", "-e", &inject], words);
            let _ = world.finish(&mut command);
            delete();
            world.expect_nothing(&format!(
                "by {words:?}, killed before {call} number {number}"
            ));
        }
    }
}

/// A bundle with a hook of every kind.
fn hooked(world: &OciWorld, script: &str) -> Bundle {
    let mut bundle = world.bundle("hooked", script);
    let hook = json!([{ "path": "/bin/sh", "args": ["sh", "-c", "exit 0"] }]);
    let kinds = [
        "prestart",
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ];
    bundle.config["hooks"] = kinds
        .iter()
        .map(|kind| ((*kind).to_owned(), hook.clone()))
        .collect();
    bundle.write();
    bundle
}

/// One whose root is attached where the host sees it.
fn without_mount_namespace(world: &OciWorld, script: &str) -> Bundle {
    let mut bundle = world.bundle("shared", script);
    let namespaces = bundle.config["linux"]["namespaces"]
        .as_array_mut()
        .expect("a list");
    namespaces.retain(|namespace| namespace["type"] != "mount");
    for field in ["maskedPaths", "readonlyPaths"] {
        bundle.config["linux"][field] = json!([]);
    }
    bundle.write();
    bundle
}

#[test]
fn privileged_a_create_killed_before_any_call_is_deleted() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    kill_everywhere(&world, &[], &["create", "-b", bundle.path(), &id], &id);
    world.end();
}

#[test]
fn privileged_a_create_with_hooks_killed_before_any_call_is_deleted() {
    let world = OciWorld::new();
    let bundle = hooked(&world, "sleep 1000");
    let id = world.id("a");
    kill_everywhere(&world, &[], &["create", "-b", bundle.path(), &id], &id);
    world.end();
}

#[test]
fn privileged_a_create_without_a_mount_namespace_killed_before_any_call_is_deleted() {
    let world = OciWorld::new();
    let bundle = without_mount_namespace(&world, "sleep 1000");
    let id = world.id("a");
    kill_everywhere(&world, &[], &["create", "-b", bundle.path(), &id], &id);
    world.end();
}

#[test]
fn privileged_a_run_killed_before_any_call_is_deleted() {
    let world = OciWorld::new();
    let bundle = hooked(&world, "sleep 1000");
    let shared = without_mount_namespace(&world, "sleep 1000");
    let id = world.id("a");
    for bundle in [bundle.path(), shared.path()] {
        kill_everywhere(&world, &[], &["run", "--detach", "-b", bundle, &id], &id);
    }
    world.end();
}

#[test]
fn privileged_a_start_killed_before_any_call_is_deleted() {
    let world = OciWorld::new();
    let bundle = hooked(&world, "sleep 1000");
    let id = world.id("a");
    let create: &[&str] = &["create", "-b", bundle.path(), &id];
    kill_everywhere(&world, &[create], &["start", &id], &id);
    world.end();
}

#[test]
fn privileged_an_exec_killed_before_any_call_is_deleted() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    let run: &[&str] = &["run", "--detach", "-b", bundle.path(), &id];
    let exec: &[&str] = &["exec", "--detach", &id, "sleep", "1000"];
    kill_everywhere(&world, &[run], exec, &id);
    world.end();
}

#[test]
fn privileged_a_delete_killed_before_any_call_is_deleted() {
    let world = OciWorld::new();
    let bundle = hooked(&world, "sleep 1000");
    let shared = without_mount_namespace(&world, "sleep 1000");
    let id = world.id("a");
    for bundle in [bundle.path(), shared.path()] {
        let run: &[&str] = &["run", "--detach", "-b", bundle, &id];
        kill_everywhere(&world, &[run], &["delete", "--force", &id], &id);
    }
    world.end();
}

#[test]
fn privileged_commands_on_a_running_container_killed_before_any_call_leave_it_to_be_deleted() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    let run: &[&str] = &["run", "--detach", "-b", bundle.path(), &id];
    kill_everywhere(&world, &[run], &["pause", &id], &id);
    kill_everywhere(&world, &[run, &["pause", &id]], &["resume", &id], &id);
    kill_everywhere(&world, &[run], &["kill", "--all", &id, "KILL"], &id);
    kill_everywhere(&world, &[run], &["update", "--memory", "64m", &id], &id);
    world.end();
}

#[test]
fn privileged_what_a_killed_create_left_is_taken_over_by_the_next() {
    let world = OciWorld::new();
    let bundle = without_mount_namespace(&world, "sleep 1000");
    let id = world.id("a");
    let words = ["create", "-b", bundle.path(), &id];
    // The last that it does: everything is there but what says so.
    for call in ["rename", "renameat", "renameat2"] {
        let inject = format!("inject={call}:signal=KILL:when=1");
        let mut command = strace(&world, &["-o", "/dev/null", "-e", &inject], &words);
        let killed = world.finish(&mut command).code() != Some(0);
        if killed {
            world.runtime(["state", &id]).fails(1);
            world.runtime(words).ok();
        }
        world.runtime(["delete", "--force", &id]).ok();
        world.expect_nothing(call);
    }
    world.end();
}
