//! Scopes of a real systemd, where the machine has version 2 of cgroups alone.

use std::fs;
use std::process::Command;
use std::time::Duration;

use ketch_runtime::Error;
use ketch_runtime::cgroup::{Cgroup, is_unified};
use ketch_spec::runtime::{Cpu, DeviceRule, LinuxResources, Memory, Pids};
use ketch_test_support::below_systemd;

use crate::Case;
use crate::world::World;

pub const CASES: &[Case] = &[
    ("privileged_systemd_scopes", scopes),
    // What the one above runs inside, once over systemd's own socket and once over the bus.
    ("systemd_scope", scope),
];

/// Emulated, a container takes seconds.
const LIMIT: Duration = Duration::from_secs(180);

fn scopes() {
    if !is_unified() {
        return;
    }
    let program = std::env::current_exe().unwrap();
    let run = format!("{} --case systemd_scope", program.display());
    let commands = format!("{run} && systemctl start dbus.service && {run} && echo all is well");
    let said = below_systemd(&commands, LIMIT);
    assert!(said.ends_with("all is well\n"), "{said}");
}

fn property(unit: &str, name: &str) -> String {
    let output = Command::new("systemctl")
        .args(["show", "--value", "-p", name, unit])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn limits(memory: i64) -> LinuxResources {
    let memory = Memory {
        limit: Some(memory),
        ..Memory::default()
    };
    let cpu = Cpu {
        shares: Some(512),
        quota: Some(50_000),
        period: Some(100_000),
        cpus: "0".into(),
        ..Cpu::default()
    };
    let refuse_all = DeviceRule {
        allow: false,
        kind: "a".into(),
        ..DeviceRule::default()
    };
    LinuxResources {
        memory: Some(memory),
        cpu: Some(cpu),
        pids: Some(Pids { limit: 50 }),
        devices: vec![refuse_all],
        ..LinuxResources::default()
    }
}

fn scope() {
    let path = format!("ketch-test.slice:ketch:{}", std::process::id());
    let cgroup = Cgroup::create(&path, &limits(64 << 20)).unwrap_or_else(|error| panic!("{error}"));
    let unit = cgroup.unit().unwrap().to_owned();
    let directory = cgroup.directories()[0].1.clone();
    assert!(
        directory.ends_with(format!("ketch.slice/ketch-test.slice/{unit}")),
        "{directory:?}"
    );
    assert!(
        Cgroup::create(&path, &LinuxResources::default()).is_err(),
        "the name is taken"
    );
    let read = |name: &str| {
        fs::read_to_string(directory.join(name))
            .unwrap()
            .trim()
            .to_owned()
    };
    let expected = [
        ("memory.max", "67108864"),
        ("cpu.weight", "20"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "50"),
        ("cpuset.cpus", "0"),
    ];
    let check = || {
        expected
            .iter()
            .for_each(|(name, value)| assert_eq!(read(name), *value, "{name}"))
    };
    check();
    let known = [
        ("MemoryMax", "67108864"),
        ("CPUWeight", "20"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("TasksMax", "50"),
        ("AllowedCPUs", "0"),
        ("Delegate", "yes"),
        ("Slice", "ketch-test.slice"),
    ];
    known
        .iter()
        .for_each(|(name, value)| assert_eq!(property(&unit, name), *value, "{name}"));
    let world = World::new();
    let mut container = world.sleeper(&world.spec("echo; exec sleep 1000"), Some(&cgroup));
    assert_eq!(
        cgroup.processes().unwrap(),
        [container.pid()],
        "and no placeholder"
    );
    // What systemd does at such times does not change what we have set.
    assert!(
        Command::new("systemctl")
            .arg("daemon-reload")
            .status()
            .unwrap()
            .success()
    );
    check();
    let mut opened = Cgroup::open(&path).unwrap();
    opened.update(&limits(48 << 20)).unwrap();
    assert_eq!(read("memory.max"), "50331648");
    assert_eq!(property(&unit, "MemoryMax"), "50331648");
    let error = opened.remove(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(property(&unit, "ActiveState"), "active");
    opened.freeze().unwrap();
    opened.thaw().unwrap();
    opened.kill().unwrap();
    container.wait().unwrap();
    opened.remove(Duration::from_secs(30)).unwrap();
    assert!(!opened.exists());
    assert_eq!(property(&unit, "LoadState"), "not-found");
    opened.remove(Duration::from_secs(30)).unwrap();
    // A scope without a container goes as well.
    let again = Cgroup::create(&path, &limits(64 << 20)).unwrap();
    assert!(
        matches!(again.remove(Duration::ZERO), Err(Error::Timeout { .. })),
        "the placeholder"
    );
    drop(again);
    opened.remove(Duration::from_secs(30)).unwrap();
    assert!(!opened.exists());
}
