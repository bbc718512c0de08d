//! What runs below systemd, as a service of its.

mod annotations;
mod ends;
mod killed;
mod lifecycle;
mod limits;
mod names;
mod peers;
mod users;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use ketch_test_support::{Bundle, OciWorld, Ran, eventually};
use serde_json::Value;

/// A world whose containers are scopes.
struct Scopes {
    world: OciWorld,
    /// The user whose manager is asked; None: the machine's.
    user: Option<u32>,
}

impl Scopes {
    fn new() -> Self {
        Self {
            world: OciWorld::new(),
            user: None,
        }
    }

    fn runtime(&self, words: &[&str]) -> Ran {
        let words = ["--systemd-cgroup"].iter().chain(words);
        self.world.runtime(words)
    }

    /// A bundle that stays, with something changed in its configuration, or nothing.
    fn bundle(&self, change: impl FnOnce(&mut Value)) -> Bundle {
        let name = format!(
            "bundle-{}",
            std::fs::read_dir(self.world.path()).map_or(0, Iterator::count)
        );
        let mut bundle = self.world.bundle(&name, "echo up > /up; exec sleep 1000");
        change(&mut bundle.config);
        bundle.write();
        bundle
    }

    fn systemctl(&self, words: &[&str]) -> String {
        let mut command = match self.user {
            None => Command::new("systemctl"),
            Some(uid) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={uid}")).args([
                    "--clear-groups",
                    "systemctl",
                    "--user",
                ]);
                command.env("XDG_RUNTIME_DIR", format!("/run/user/{uid}"));
                command
            }
        };
        let output = command.args(words).output().expect("systemctl");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "systemctl {words:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// All that systemd tells of a unit.
    fn show(&self, unit: &str) -> BTreeMap<String, String> {
        let text = self.systemctl(&["show", "--all", unit]);
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn property(&self, unit: &str, name: &str) -> String {
        let value = self.systemctl(&["show", "--value", "-p", name, unit]);
        value.trim().to_owned()
    }

    /// Where a unit's group is.
    fn group(&self, unit: &str) -> PathBuf {
        let path = self.property(unit, "ControlGroup");
        assert!(!path.is_empty(), "{unit} has no group");
        Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'))
    }

    fn read(&self, unit: &str, file: &str) -> String {
        let path = self.group(unit).join(file);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        text.trim().to_owned()
    }

    /// Waits until systemd has forgotten a unit.
    fn wait_gone(&self, unit: &str) {
        eventually("the unit is gone", || {
            (self.property(unit, "LoadState") == "not-found").then_some(())
        });
    }

    /// Looks for units and groups that are left, and all else that may be.
    fn expect_nothing(&self, when: &str) {
        let prefix = self.world.id("");
        let units = self.systemctl(&["list-units", "--all", "--plain", "--no-legend"]);
        let left: Vec<&str> = units
            .lines()
            .filter(|line| line.contains(&prefix))
            .collect();
        assert!(left.is_empty(), "units left {when}: {left:?}");
        let mut groups = Vec::new();
        find(Path::new("/sys/fs/cgroup"), &prefix, &mut groups);
        assert!(groups.is_empty(), "groups left {when}: {groups:?}");
        self.world.expect_nothing(when);
    }

    fn end(self) {
        self.expect_nothing("at the end");
        self.world.end();
    }

    /// A world that has groups of its own by now is not expected to go on: for the end of one that made units itself.
    fn unit(&self, name: &str) -> String {
        format!("ketch-{}.scope", self.world.id(name))
    }
}

fn find(directory: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().contains(prefix) {
                found.push(entry.path());
            }
            find(&entry.path(), prefix, found);
        }
    }
}
