//! Labels of security modules, where the kernel has them, and how they are refused where it has not. AppArmor is at work
//! in the lab's machines; SELinux is nowhere here, so its labels are tested against a made-up /proc only (src/labels.rs).

use std::io::Write;
use std::process::{Command, Stdio};

use ketch_runtime::has_apparmor;
use ketch_spec::runtime::Process;

use super::world::{Change, World, exec_options, pipes};

pub const CASES: &[super::Case] = &[
    ("privileged_labels_of_absent_modules_are_refused", absent),
    ("privileged_apparmor_profile_holds_the_program", program),
    (
        "privileged_apparmor_profile_that_is_unknown_is_told",
        unknown,
    ),
    (
        "privileged_apparmor_profile_of_a_process_that_joins",
        joining,
    ),
    ("privileged_apparmor_unconfined_is_no_profile", unconfined),
];

/// Profiles that allow all but one thing each, in the kernel as long as the value lives.
struct Profiles(Vec<String>);

impl Profiles {
    /// None where the kernel has no AppArmor: then there is nothing to be tested but the refusal.
    fn load(names: &[&str]) -> Option<Self> {
        if !has_apparmor() {
            let world = World::new();
            let mut spec = world.spec("true");
            spec.process_mut().apparmor_profile = names[0].into();
            let error = world.refusal(&spec).to_string();
            assert!(
                error.contains(names[0]) && error.contains("no AppArmor"),
                "{error}"
            );
            return None;
        }
        let names = names
            .iter()
            .map(|name| format!("{name}-{}", std::process::id()));
        let profiles = Self(names.collect());
        for name in &profiles.0 {
            let rules = "network,\ncapability,\nfile,\nsignal,\nptrace,\nmount,\numount,\ndeny /forbidden* w,\n";
            let flags = "flags=(attach_disconnected,mediate_deleted)";
            parser(
                "--replace",
                &format!("profile {name} {flags} {{\n{rules}}}\n"),
            );
        }
        Some(profiles)
    }
}

impl Drop for Profiles {
    fn drop(&mut self) {
        for name in &self.0 {
            parser("--remove", &format!("profile {name} {{}}\n"));
        }
    }
}

fn parser(action: &str, text: &str) {
    let mut child = Command::new("apparmor_parser")
        .args([action, "--skip-cache"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("apparmor_parser, of the package apparmor");
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "{action} {text}");
}

const SHOW: &str = "cat /proc/self/attr/apparmor/current; echo x > /allowed && echo written; echo x > /forbidden || true";

fn absent() {
    let world = World::new();
    let mut spec = world.spec("true");
    let selinux = std::path::Path::new("/sys/fs/selinux/enforce").exists();
    if !selinux {
        let label = "system_u:system_r:container_t:s0";
        spec.process_mut().selinux_label = label.into();
        let error = world.refusal(&spec).to_string();
        assert!(
            error.contains(label) && error.contains("no SELinux"),
            "{error}"
        );
        spec.process_mut().selinux_label.clear();
        spec.linux_mut().mount_label = label.into();
        let error = world.refusal(&spec).to_string();
        assert!(
            error.contains(label) && error.contains("no SELinux"),
            "{error}"
        );
    }
    drop(Profiles::load(&["box"]));
}

fn program() {
    let Some(profiles) = Profiles::load(&["box"]) else {
        return;
    };
    let world = World::new();
    let mut spec = world.spec(SHOW);
    spec.process_mut().apparmor_profile = profiles.0[0].clone();
    for forbids in [false, true] {
        spec.process_mut().no_new_privileges = forbids;
        let outcome = world.run(&spec);
        assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
        assert_eq!(
            outcome.ok(),
            format!("{} (enforce)\nwritten\n", profiles.0[0])
        );
    }
}

fn unknown() {
    if Profiles::load(&["box"]).is_none() {
        return;
    }
    let world = World::new();
    let mut spec = world.spec("true");
    spec.process_mut().apparmor_profile = "ketch-nobody-loaded-this".into();
    let error = world.refusal(&spec).to_string();
    let said = "invalid process.apparmorProfile \"ketch-nobody-loaded-this\": the kernel has no profile of that name";
    assert!(error.contains(said), "{error}");
}

fn joining() {
    let Some(profiles) = Profiles::load(&["box", "other"]) else {
        return;
    };
    let world = World::new();
    let mut spec = world.spec("echo ready; sleep 1000");
    spec.process_mut().apparmor_profile = profiles.0[0].clone();
    let container = world.sleeper(&spec, None);
    for (profile, shown) in [
        (
            profiles.0[0].clone(),
            format!("{} (enforce)\n", profiles.0[0]),
        ),
        (
            profiles.0[1].clone(),
            format!("{} (enforce)\n", profiles.0[1]),
        ),
        (String::new(), "unconfined\n".to_owned()),
    ] {
        let process = Process {
            args: ["cat", "/proc/self/attr/apparmor/current"]
                .map(str::to_owned)
                .to_vec(),
            apparmor_profile: profile,
            ..spec.process.clone().unwrap()
        };
        let (stdio, output) = pipes();
        let mut joined = ketch_runtime::exec(exec_options(&container, &process, stdio)).unwrap();
        assert_eq!(output.read().0, shown);
        joined.wait().unwrap();
    }
    let mut process = spec.process.clone().unwrap();
    process.apparmor_profile = "ketch-nobody-loaded-this".into();
    let (stdio, _output) = pipes();
    let error = ketch_runtime::exec(exec_options(&container, &process, stdio)).unwrap_err();
    assert!(
        error.to_string().contains("no profile of that name"),
        "{error}"
    );
    drop(container);
}

fn unconfined() {
    if Profiles::load(&["box"]).is_none() {
        return;
    }
    let world = World::new();
    let mut spec = world.spec("cat /proc/self/attr/apparmor/current");
    assert_eq!(world.run(&spec).ok(), "unconfined\n");
    spec.process_mut().apparmor_profile = "unconfined".into();
    assert_eq!(world.run(&spec).ok(), "unconfined\n");
}
