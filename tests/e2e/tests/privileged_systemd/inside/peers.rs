//! The same container by runc: what systemd tells of it is the same, or the difference is in docs/compatibility.md.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::Scopes;

/// Of one run and not of another.
const OF_THE_MOMENT: [&str; 24] = [
    "Id",
    "Names",
    "ControlGroup",
    "InvocationID",
    "FragmentPath",
    "DropInPaths",
    "ActiveEnterTimestamp",
    "ActiveEnterTimestampMonotonic",
    "InactiveExitTimestamp",
    "InactiveExitTimestampMonotonic",
    "StateChangeTimestamp",
    "StateChangeTimestampMonotonic",
    "ConditionTimestamp",
    "ConditionTimestampMonotonic",
    "AssertTimestamp",
    "AssertTimestampMonotonic",
    "CPUUsageNSec",
    "MemoryCurrent",
    "MemoryAvailable",
    "EffectiveCPUs",
    "ControlGroupId",
    "TasksCurrent",
    "IOReadBytes",
    "IOWriteBytes",
];
/// Those of docs/compatibility.md.
const DIFFERENT: [&str; 5] = [
    "Description",
    "DevicePolicy",
    "DeviceAllow",
    "IOWeight",
    "NeedDaemonReload",
];

fn told(scopes: &Scopes, unit: &str) -> BTreeMap<String, String> {
    let mut known = scopes.show(unit);
    known.retain(|name, _| !OF_THE_MOMENT.contains(&name.as_str()));
    known
}

fn runc(scopes: &Scopes, words: &[&str]) {
    let mut command = Command::new("runc");
    command
        .arg("--systemd-cgroup")
        .arg("--root")
        .arg(scopes.world.path().join("runc"));
    scopes.world.finish(command.args(words)).ok();
}

fn requests() -> Vec<Value> {
    vec![
        json!({}),
        json!({ "memory": { "limit": 67108864, "swap": 100663296, "reservation": 33554432 } }),
        json!({ "memory": { "limit": 67108864, "swap": -1 } }),
        json!({ "cpu": { "shares": 512, "quota": 33333, "period": 100000, "cpus": "0-1", "mems": "0" } }),
        json!({ "cpu": { "quota": -1, "shares": 2 } }),
        json!({ "cpu": { "period": 50000 } }),
        json!({ "pids": { "limit": 50 } }),
        json!({ "pids": { "limit": -1 } }),
        json!({ "blockIO": { "weight": 500 } }),
        json!({ "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }] }),
        json!({ "unified": { "memory.high": "60002304", "cpu.weight": "77", "cpu.max": "10000 50000", "pids.max": "33" } }),
        json!({ "unified": { "memory.min": "4096", "memory.low": "8192", "memory.max": "max", "cpuset.cpus": "1" } }),
    ]
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_units_are_as_runc_makes_them() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let (id, name) = (world.id("a"), world.id("name"));
    let unit = format!("p-{name}.scope");
    let mut wrong = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for resources in requests() {
        let bundle = scopes.bundle(|config| {
            config["linux"]["cgroupsPath"] = format!("machine.slice:p:{name}").into();
            config["linux"]["resources"] = resources.clone();
            // The last version that runc of Debian knows.
            config["ociVersion"] = "1.0.2".into();
            config["annotations"] = json!({ "org.systemd.property.TimeoutStopSec": "uint64 12" });
        });
        runc(&scopes, &["create", "-b", bundle.path(), &id]);
        let theirs = told(&scopes, &unit);
        runc(&scopes, &["delete", "--force", &id]);
        scopes.wait_gone(&unit);
        scopes.runtime(&["create", "-b", bundle.path(), &id]).ok();
        let ours = told(&scopes, &unit);
        world.runtime(["delete", &id]).ok();
        scopes.wait_gone(&unit);
        std::fs::remove_dir_all(&bundle.directory).unwrap();
        let names: std::collections::BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
        for name in names {
            let (theirs, ours) = (theirs.get(name), ours.get(name));
            if theirs == ours {
                continue;
            }
            if DIFFERENT.contains(&name.as_str()) {
                seen.insert(name.clone());
            } else {
                wrong.push(format!(
                    "{resources}: {name}: runc {theirs:?}, ketch {ours:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let listed: Vec<&str> = DIFFERENT
        .into_iter()
        .filter(|name| !seen.contains(*name))
        .collect();
    assert!(listed.is_empty(), "no differences any more: {listed:?}");
    let _ = std::fs::remove_dir_all(world.path().join("runc"));
    scopes.end();
}
