//! Annotations `org.systemd.property.*`: properties of the unit, as runc has them.

use serde_json::json;

use super::Scopes;

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_annotations_become_properties() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let (id, unit) = (world.id("a"), scopes.unit("a"));
    let bundle = scopes.bundle(|config| {
        config["annotations"] = json!({
            "org.systemd.property.TimeoutStopSec": "uint64 123",
            "org.systemd.property.RuntimeMaxUSec": "uint64 3600000000",
            "org.systemd.property.CollectMode": "'inactive-or-failed'",
            "org.systemd.property.Description": "\"a \\u0041\"",
            "org.systemd.property.After": "['one.service', 'two.service']",
            "org.systemd.property.SendSIGHUP": "true",
            "org.systemd.property.IOWeight": "@t 77",
            "org.systemd.property.TasksMax": "uint64 500",
            "com.example.other": "not ours",
        });
        // What is asked for in the proper place has the last word.
        config["linux"]["resources"]["pids"] = json!({ "limit": 40 });
    });
    scopes.runtime(&["create", "-b", bundle.path(), &id]).ok();
    let known = scopes.show(&unit);
    for (name, value) in [
        ("TimeoutStopUSec", "2min 3s"),
        ("RuntimeMaxUSec", "1h"),
        ("CollectMode", "inactive-or-failed"),
        ("Description", "a A"),
        ("SendSIGHUP", "yes"),
        ("IOWeight", "77"),
        ("TasksMax", "40"),
    ] {
        assert_eq!(known[name], value, "{name}");
    }
    for other in ["one.service", "two.service"] {
        let after = &known["After"];
        assert!(after.split(' ').any(|unit| unit == other), "{after}");
    }
    world.runtime(["delete", &id]).ok();
    scopes.end();
}

#[test]
#[ignore = "runs below systemd: `cargo xtask test --lab systemd`"]
fn privileged_annotations_that_are_wrong_are_refused_and_leave_nothing() {
    let scopes = Scopes::new();
    let world = &scopes.world;
    let id = world.id("a");
    for (name, value, said) in [
        ("No", "1", "org.systemd.property.No"),
        ("Not.A.Name", "1", "org.systemd.property.Not.A.Name"),
        (
            "CollectMode",
            "no quotes",
            "org.systemd.property.CollectMode",
        ),
        (
            "TimeoutStopSec",
            "'text'",
            "org.systemd.property.TimeoutStopSec",
        ),
        ("NoSuchProperty", "1", "NoSuchProperty"),
        // A number of another type than systemd's.
        ("RuntimeMaxUSec", "1", "StartTransientUnit"),
    ] {
        let bundle = scopes.bundle(|config| {
            config["annotations"] = json!({ format!("org.systemd.property.{name}"): value });
        });
        let error = scopes
            .runtime(&["create", "-b", bundle.path(), &id])
            .fails(1);
        assert!(error.contains(said), "{name}: {error}");
        scopes.expect_nothing(name);
        // They are systemd's: nobody else reads them.
        world.runtime(["create", "-b", bundle.path(), &id]).ok();
        world.runtime(["delete", &id]).ok();
    }
    scopes.end();
}
