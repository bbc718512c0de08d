//! An ordinary user, whose own systemd makes the scopes.

use std::process::Command;

use ketch_test_support::{Bundle, Ran, eventually};
use serde_json::json;

use super::Scopes;

const UID: u32 = 1000;

impl Scopes {
    /// A world of the user's, who has a manager and a bus.
    fn of_user() -> Self {
        let scopes = Self::new();
        scopes.systemctl(&["start", &format!("user@{UID}.service")]);
        let bus = format!("/run/user/{UID}/bus");
        eventually("the user's bus", || {
            std::path::Path::new(&bus).exists().then_some(())
        });
        give(scopes.world.path());
        Self {
            user: Some(UID),
            ..scopes
        }
    }

    /// The command as the user, from where the test is: outside of all that the user's systemd has.
    fn outside(&self, words: &[&str]) -> Command {
        let plain = self.world.command(["--systemd-cgroup"].iter().chain(words));
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={UID}"))
            .arg(format!("--regid={UID}"))
            .arg("--clear-groups");
        command.arg(plain.get_program()).args(plain.get_args());
        command
            .current_dir(self.world.path())
            .stdin(std::process::Stdio::null());
        command.env("XDG_RUNTIME_DIR", format!("/run/user/{UID}"));
        command.env(
            "DBUS_SESSION_BUS_ADDRESS",
            format!("unix:path=/run/user/{UID}/bus"),
        );
        command
    }

    /// The command as the user, in a service of the user's systemd.
    fn within(&self, words: &[&str]) -> Command {
        let plain = self.outside(&[]);
        let mut command = Command::new("setpriv");
        command.args(plain.get_args().take(3)).arg("systemd-run");
        command.args([
            "--user",
            "--pipe",
            "--wait",
            "--quiet",
            "--collect",
            "--property=KillMode=process",
            "--",
        ]);
        command
            .args(plain.get_args().skip(3))
            .args(words)
            .current_dir(self.world.path());
        command.env("XDG_RUNTIME_DIR", format!("/run/user/{UID}"));
        command.stdin(std::process::Stdio::null());
        command
    }

    fn user_bundle(&self, script: &str) -> Bundle {
        let bundle = self.bundle(|config| {
            config["process"]["args"] = json!(["sh", "-c", script]);
            let linux = &mut config["linux"];
            linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            linux["uidMappings"] = json!([{ "containerID": 0, "hostID": UID, "size": 1 }]);
            linux["gidMappings"] = linux["uidMappings"].clone();
            linux["resources"] = json!({ "memory": { "limit": 67108864 }, "pids": { "limit": 40 }, "cpu": { "shares": 512 } });
        });
        give(&bundle.directory);
        bundle
    }

    fn run_all(&self, how: &dyn Fn(&[&str]) -> Ran) {
        let world = &self.world;
        let bundle = self.user_bundle("echo up > /up; exec sleep 1000");
        let (id, unit) = (world.id("a"), self.unit("a"));
        how(&["create", "-b", bundle.path(), &id]).ok();
        let group = format!("/user.slice/user-{UID}.slice/user@{UID}.service/user.slice/{unit}");
        assert_eq!(self.property(&unit, "ControlGroup"), group);
        assert_eq!(self.property(&unit, "MemoryMax"), "67108864");
        assert_eq!(self.property(&unit, "TasksMax"), "40");
        assert_eq!(self.read(&unit, "memory.max"), "67108864");
        assert_eq!(self.read(&unit, "pids.max"), "40");
        assert_eq!(self.read(&unit, "cpu.weight"), "20");
        let pid = world.state(&id)["pid"].to_string();
        assert_eq!(self.read(&unit, "cgroup.procs"), pid);
        how(&["start", &id]).ok();
        bundle.wait_for("up");
        let ran = how(&["exec", &id, "cat", "/proc/self/cgroup"]).ok();
        assert_eq!(ran, format!("0::{group}"));
        how(&["pause", &id]).ok();
        assert!(how(&["state", &id]).ok().contains("paused"));
        how(&["resume", &id]).ok();
        how(&["update", "--memory", "48M", "--pids-limit", "30", &id]).ok();
        assert_eq!(self.property(&unit, "MemoryMax"), "50331648");
        assert_eq!(self.read(&unit, "memory.max"), "50331648");
        self.systemctl(&["daemon-reload"]);
        assert_eq!(self.read(&unit, "memory.max"), "50331648");
        how(&["kill", &id, "KILL"]).ok();
        world.wait_status(&id, "stopped");
        self.wait_gone(&unit);
        how(&["delete", &id]).ok();
        self.expect_nothing("by a user");
        how(&["run", "-d", "-b", bundle.path(), &id]).ok();
        how(&["delete", "--force", &id]).ok();
        self.expect_nothing("by delete --force");
    }
}

/// Gives a directory, and all in it, to the user.
fn give(directory: &std::path::Path) {
    let mut command = Command::new("chown");
    let status = command
        .arg("-R")
        .arg(format!("{UID}:{UID}"))
        .arg(directory)
        .status();
    assert!(status.unwrap().success());
}

#[test]
#[ignore = "below systemd"]
fn privileged_a_user_s_scopes_from_within_the_user_s_own_group() {
    let scopes = Scopes::of_user();
    scopes.run_all(&|words| scopes.world.finish(&mut scopes.within(words)));
    scopes.end();
}

/// As after a login over ssh: the caller's group is beside the one that the user's systemd has.
#[test]
#[ignore = "below systemd"]
fn privileged_a_user_s_scopes_from_outside_of_the_user_s_own_group() {
    let scopes = Scopes::of_user();
    scopes.run_all(&|words| scopes.world.finish(&mut scopes.outside(words)));
    scopes.end();
}

#[test]
#[ignore = "below systemd"]
fn privileged_a_user_s_failed_creation_leaves_no_unit() {
    let scopes = Scopes::of_user();
    let bundle = scopes.user_bundle("true");
    let id = scopes.world.id("a");
    let mut config = bundle.config.clone();
    config["process"]["cwd"] = "/bin/sh".into();
    std::fs::write(bundle.directory.join("config.json"), config.to_string()).unwrap();
    let mut command = scopes.outside(&["create", "-b", bundle.path(), &id]);
    let error = scopes.world.finish(&mut command).fails(1);
    assert!(error.contains("chdir"), "{error}");
    scopes.expect_nothing("by a creation that failed");
    scopes.end();
}

/// Root of a user namespace that the user has made, as podman is.
#[test]
#[ignore = "below systemd"]
fn privileged_root_of_a_user_s_namespace_asks_the_user_s_systemd() {
    let scopes = Scopes::of_user();
    let bundle = scopes.bundle(|config| {
        config["linux"]["resources"] = json!({ "memory": { "limit": 67108864 } });
        // The network namespace's sysfs is not theirs to mount; that of the user namespace is not needed.
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["type"] != "devpts");
    });
    give(&bundle.directory);
    let (id, unit) = (scopes.world.id("a"), scopes.unit("a"));
    let inside = |words: &[&str]| {
        let plain = scopes.outside(words);
        let mut command = Command::new("setpriv");
        command.args(plain.get_args().take(3));
        command.args(["unshare", "--user", "--map-root-user", "--mount"]);
        command
            .args(plain.get_args().skip(3))
            .current_dir(scopes.world.path());
        command.env("XDG_RUNTIME_DIR", format!("/run/user/{UID}"));
        command.stdin(std::process::Stdio::null());
        scopes.world.finish(&mut command)
    };
    inside(&["run", "-d", "-b", bundle.path(), &id]).ok();
    bundle.wait_for("up");
    assert_eq!(scopes.property(&unit, "MemoryMax"), "67108864");
    let pid = scopes.world.state(&id)["pid"].to_string();
    assert_eq!(scopes.read(&unit, "cgroup.procs"), pid);
    inside(&["delete", "--force", &id]).ok();
    scopes.end();
}
