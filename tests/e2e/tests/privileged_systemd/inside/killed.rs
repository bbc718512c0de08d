//! `create` killed between its calls: what it leaves, `delete --force` takes away, the unit too.

use std::process::{Command, Stdio};

use super::Scopes;

/// Those that talk to systemd or change what there is.
const CALLS: [&str; 7] = [
    "connect", "write", "read", "clone3", "rename", "waitid", "recvmsg",
];
/// Kills of each call.
const KILLS: usize = 4;

fn strace(scopes: &Scopes, options: &[&str], words: &[&str]) -> Command {
    let plain = scopes.world.command(words);
    let mut command = Command::new("strace");
    command.arg("-qq").args(options).arg(plain.get_program());
    command
        .args(plain.get_args())
        .current_dir(scopes.world.path());
    command.stdin(Stdio::null());
    command
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_create_killed_in_the_middle_leaves_what_delete_takes_away() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let bundle = scopes.bundle(|_| ());
    let id = world.id("a");
    let create = ["--systemd-cgroup", "create", "-b", bundle.path(), &id];
    let trace = world.path().join("trace");
    let options = ["-o", trace.to_str().unwrap(), "-e", &CALLS.join(",")];
    world.finish(&mut strace(&scopes, &options, &create)).ok();
    world.runtime(["delete", "--force", &id]).ok();
    let trace = std::fs::read_to_string(trace).unwrap();
    for call in CALLS {
        let begin = format!("{call}(");
        let count = trace
            .lines()
            .filter(|line| line.starts_with(&begin))
            .count();
        for turn in 0..KILLS.min(count) {
            // The last ones too: those of reads are far behind the dynamic linker's.
            let number = count - turn * count.div_ceil(KILLS).min(count - 1);
            let inject = format!("inject={call}:signal=KILL:when={number}");
            let options = ["-o", "/dev/null", "-e", &inject];
            let _ = world.finish(&mut strace(&scopes, &options, &create));
            world.runtime(["delete", "--force", &id]).ok();
            scopes.expect_nothing(&format!("killed before {call} number {number}"));
        }
    }
    // And the next create takes over.
    let options = [
        "-o",
        "/dev/null",
        "-e",
        "inject=rename,renameat,renameat2:signal=KILL:when=1",
    ];
    let _ = world.finish(&mut strace(&scopes, &options, &create));
    world.runtime(create).ok();
    world.runtime(["delete", &id]).ok();
    scopes.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_delete_killed_in_the_middle_is_finished_by_the_next() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let bundle = scopes.bundle(|_| ());
    let id = world.id("a");
    let delete = ["delete", "--force", &id];
    for (call, number) in [
        ("connect", 1),
        ("write", 1),
        ("write", 3),
        ("rmdir", 1),
        ("unlink", 1),
        ("poll", 1),
    ] {
        scopes
            .runtime(&["run", "-d", "-b", bundle.path(), &id])
            .ok();
        let inject = format!("inject={call}:signal=KILL:when={number}");
        let options = ["-o", "/dev/null", "-e", &inject];
        let _ = world.finish(&mut strace(&scopes, &options, &delete));
        world.runtime(delete).ok();
        scopes.expect_nothing(&format!("by a delete killed before {call} number {number}"));
    }
    scopes.end();
}
