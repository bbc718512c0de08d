//! An ordinary user, whose own systemd makes the scopes. The command is root of a user namespace of the user's, as podman
//! makes one.

use std::cell::RefCell;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ketch_test_support::{Bundle, Ran, eventually};
use serde_json::{Value, json};

use super::Scopes;

const UID: u32 = 1000;

/// A user's world.
struct User {
    scopes: Scopes,
    /// Holds the user namespace.
    holder: RefCell<Child>,
}

fn as_user(command: &mut Command) -> &mut Command {
    command.arg(format!("--reuid={UID}"));
    command
        .arg(format!("--regid={UID}"))
        .arg("--clear-groups")
        .env("XDG_RUNTIME_DIR", format!("/run/user/{UID}"))
        .stdin(Stdio::null())
}

/// Gives a directory, and all in it, to the user.
fn give(directory: &Path) {
    let mut command = Command::new("chown");
    let status = command
        .arg("-R")
        .arg(format!("{UID}:{UID}"))
        .arg(directory)
        .status();
    assert!(status.unwrap().success());
}

impl User {
    /// One who has a manager and a bus.
    fn new() -> Self {
        let scopes = Scopes::new();
        scopes.systemctl(&["start", &format!("user@{UID}.service")]);
        let bus = format!("/run/user/{UID}/bus");
        eventually("the user's bus", || Path::new(&bus).exists().then_some(()));
        give(scopes.world.path());
        let mut command = Command::new("setpriv");
        as_user(&mut command).args(["unshare", "--user", "--map-root-user", "--mount"]);
        let holder = command.args(["sleep", "100000"]).spawn().unwrap();
        eventually("the user namespace", || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", holder.id())).ok()?;
            (name == "sleep\n").then_some(())
        });
        Self {
            scopes: Scopes {
                user: Some(UID),
                ..scopes
            },
            holder: RefCell::new(holder),
        }
    }

    fn end(self) {
        let mut holder = self.holder.borrow_mut();
        holder.kill().unwrap();
        holder.wait().unwrap();
        drop(holder);
        self.scopes.end();
    }

    /// The command's words, in the user namespace.
    fn words(&self, words: &[&str]) -> Vec<String> {
        let plain = self
            .scopes
            .world
            .command(["--systemd-cgroup"].iter().chain(words));
        let mut all = vec!["nsenter".to_owned(), "--user".into(), "--mount".into()];
        all.extend(["--preserve-credentials".into(), "--target".into()]);
        all.extend([self.holder.borrow().id().to_string(), "--".into()]);
        all.push(plain.get_program().to_string_lossy().into_owned());
        let arguments = plain.get_args();
        all.extend(arguments.map(|argument| argument.to_string_lossy().into_owned()));
        all
    }

    /// From where the test is, as after a login over ssh: outside of all that the user's systemd has.
    fn outside(&self, words: &[&str]) -> Ran {
        let mut command = Command::new("setpriv");
        as_user(&mut command).args(self.words(words));
        let world = &self.scopes.world;
        world.finish(command.current_dir(world.path()))
    }

    /// In a service of the user's systemd.
    fn within(&self, words: &[&str]) -> Ran {
        let mut command = Command::new("setpriv");
        as_user(&mut command).args(["systemd-run", "--user", "--pipe", "--wait"]);
        command.args(["--collect", "--property=KillMode=process", "--"]);
        command.args(self.words(words));
        let world = &self.scopes.world;
        world.finish(command.current_dir(world.path()))
    }

    fn bundle(&self, change: impl FnOnce(&mut Value)) -> Bundle {
        let bundle = self.scopes.bundle(|config| {
            config["linux"]["resources"] = json!({
                "memory": { "limit": 67108864 }, "pids": { "limit": 40 }, "cpu": { "shares": 512 },
                "devices": [{ "allow": false, "access": "rwm" }],
            });
            // The terminals' group is none of the namespace's.
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.retain(|mount| mount["type"] != "devpts");
            change(config);
        });
        give(&bundle.directory);
        bundle
    }
}

fn state(how: &dyn Fn(&[&str]) -> Ran, id: &str) -> Value {
    serde_json::from_str(&how(&["state", id]).ok()).unwrap()
}

fn every_verb(user: &User, how: &dyn Fn(&[&str]) -> Ran) {
    let scopes = &user.scopes;
    let bundle = user.bundle(|_| ());
    let (id, unit) = (scopes.world.id("a"), scopes.unit("a"));
    how(&["create", "-b", bundle.path(), &id]).ok();
    let group = format!("/user.slice/user-{UID}.slice/user@{UID}.service/user.slice/{unit}");
    for (name, value) in [
        ("ControlGroup", group.as_str()),
        ("MemoryMax", "67108864"),
        ("TasksMax", "40"),
        ("CPUWeight", "20"),
    ] {
        assert_eq!(scopes.property(&unit, name), value, "{name}");
    }
    for (file, value) in [
        ("memory.max", "67108864"),
        ("pids.max", "40"),
        ("cpu.weight", "20"),
    ] {
        assert_eq!(scopes.read(&unit, file), value, "{file}");
    }
    let pid = state(how, &id)["pid"].to_string();
    assert_eq!(scopes.read(&unit, "cgroup.procs"), pid, "and no other");
    how(&["start", &id]).ok();
    bundle.wait_for("up");
    let joined = how(&["exec", &id, "cat", "/proc/self/cgroup"]).ok();
    assert_eq!(joined, format!("0::{group}"));
    how(&["pause", &id]).ok();
    assert_eq!(state(how, &id)["status"], "paused");
    how(&["resume", &id]).ok();
    how(&["update", "--memory", "48M", "--pids-limit", "30", &id]).ok();
    assert_eq!(scopes.property(&unit, "MemoryMax"), "50331648");
    scopes.systemctl(&["daemon-reload"]);
    assert_eq!(scopes.read(&unit, "memory.max"), "50331648");
    assert_eq!(scopes.read(&unit, "pids.max"), "30");
    how(&["kill", &id, "KILL"]).ok();
    eventually("its end", || {
        (state(how, &id)["status"] == "stopped").then_some(())
    });
    scopes.wait_gone(&unit);
    how(&["delete", &id]).ok();
    scopes.expect_nothing("by delete");
    how(&["run", "-d", "-b", bundle.path(), &id]).ok();
    how(&["delete", "--force", &id]).ok();
    scopes.expect_nothing("by delete --force");
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_user_s_scopes_from_within_the_user_s_own_group() {
    let user = User::new();
    every_verb(&user, &|words| user.within(words));
    user.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_user_s_scopes_from_outside_of_the_user_s_own_group() {
    let user = User::new();
    every_verb(&user, &|words| user.outside(words));
    user.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_a_user_s_failed_creation_leaves_no_unit() {
    let user = User::new();
    let bundle = user.bundle(|config| config["process"]["cwd"] = "/bin/sh".into());
    let id = user.scopes.world.id("a");
    let error = user.outside(&["create", "-b", bundle.path(), &id]).fails(1);
    assert!(error.contains("chdir"), "{error}");
    user.scopes.expect_nothing("by a creation that failed");
    user.end();
}
