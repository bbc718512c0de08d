//! Hooks: when, where, in which order, with what, and what their failures do.

use ketch_test_support::{Bundle, OciWorld};
use serde_json::{Value, json};

/// A hook that runs a script of the host's shell; `$KIND` and `$OUT` tell it which it is and where to write.
fn hook(world: &OciWorld, kind: &str, script: &str) -> Value {
    let out = world.path().join("out").display().to_string();
    json!({
        "path": "/bin/sh",
        "args": ["sh", "-c", script, kind],
        "env": ["PATH=/usr/bin:/bin", format!("KIND={kind}"), format!("OUT={out}")],
    })
}

const ALL: [&str; 6] = [
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
];

/// Adds to each list a hook that writes its kind, the status it was told and its namespaces.
fn log_all(world: &OciWorld, bundle: &mut Bundle) {
    let script = r#"state=$(cat); status=${state#*\"status\":\"}
                    echo "$KIND ${status%%\"*} $(readlink /proc/self/ns/mnt) $#" >> "$OUT""#;
    let mut hooks = json!({});
    for kind in ALL {
        hooks[kind] = json!([hook(world, kind, script)]);
    }
    // It runs in the container, whose root has no such directory.
    hooks["startContainer"][0]["env"][2] = "OUT=/started".into();
    bundle.config["hooks"] = hooks;
}

fn lines(world: &OciWorld) -> Vec<String> {
    let text = std::fs::read_to_string(world.path().join("out")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn first_words(lines: &[String]) -> Vec<String> {
    let words = |line: &String| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    lines.iter().map(words).collect()
}

#[test]
fn privileged_hooks_run_at_their_times_in_their_namespaces() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "cat < /started > /seen; sleep 1000");
    log_all(&world, &mut bundle);
    bundle.write();
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    let created = lines(&world);
    let wanted = [
        "prestart creating",
        "createRuntime creating",
        "createContainer creating",
    ];
    assert_eq!(first_words(&created), wanted);
    let host = std::fs::read_link("/proc/self/ns/mnt")
        .unwrap()
        .display()
        .to_string();
    assert!(
        created[0].contains(&host) && created[1].contains(&host),
        "{created:?}"
    );
    assert!(
        !created[2].contains(&host),
        "createContainer runs in the container: {created:?}"
    );
    assert_eq!(bundle.read("started"), None);
    world.runtime(["start", &id]).ok();
    assert!(
        bundle
            .wait_for("seen")
            .starts_with("startContainer created")
    );
    assert_eq!(first_words(&lines(&world))[3..], ["poststart running"]);
    world.runtime(["delete", "--force", &id]).ok();
    assert_eq!(first_words(&lines(&world))[4..], ["poststop stopped"]);
    world.end();
}

#[test]
fn privileged_hooks_get_the_state_and_only_their_own_environment() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "true");
    let script = r#"cat > "$OUT"; env | sort >> "$OUT.env"; echo "$0" >> "$OUT.env""#;
    bundle.config["annotations"] = json!({ "a.b": "c" });
    bundle.config["hooks"] = json!({ "createRuntime": [hook(&world, "me", script)] });
    bundle.write();
    let id = world.id("a");
    let mut command = world.command(["create", "-b", bundle.path(), &id]);
    world.finish(command.env("SECRET", "1")).ok();
    let state: Value =
        serde_json::from_str(&std::fs::read_to_string(world.path().join("out")).unwrap()).unwrap();
    let now = world.state(&id);
    assert_eq!(state["pid"], now["pid"]);
    assert_eq!(state["bundle"], bundle.path());
    assert_eq!(state["status"], "creating");
    assert_eq!(state["annotations"]["a.b"], "c");
    let env = std::fs::read_to_string(world.path().join("out.env")).unwrap();
    assert!(env.contains("KIND=me") && !env.contains("SECRET"), "{env}");
    assert!(env.ends_with("me\n"), "{env}");
    world.runtime(["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_hooks_can_mount_into_the_root_before_it_is_entered() {
    let world = OciWorld::new();
    let mut bundle = world.bundle(
        "b",
        "cat /mnt/file; cat /mnt2/file; grep -c rootfs /proc/mounts",
    );
    for name in ["mnt", "mnt2"] {
        std::fs::create_dir_all(bundle.root().join(name)).unwrap();
    }
    let source = world.path().join("source");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("file"), "from the host\n").unwrap();
    let root = bundle.root();
    let (source, root) = (source.display(), root.display());
    let in_container = format!("mount --bind {source} {root}/mnt");
    let from_runtime = format!(
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); nsenter -m -t $pid mount --bind {source} {root}/mnt2 || \
         nsenter -t $pid -m -w/ mount --bind {source} {root}/mnt2"
    );
    bundle.config["hooks"] = json!({
        "createContainer": [hook(&world, "c", &in_container)],
        "createRuntime": [hook(&world, "r", &from_runtime)],
    });
    bundle.write();
    let id = world.id("a");
    let ran = world.runtime(["run", "-b", bundle.path(), &id]);
    assert!(
        ran.stdout().starts_with("from the host\nfrom the host"),
        "{}",
        ran.describe()
    );
    world.end();
}

#[test]
fn privileged_a_failing_hook_destroys_the_container() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let world = OciWorld::new();
        let mut bundle = world.bundle("b", "echo ran > /ran");
        log_all(&world, &mut bundle);
        let failing = hook(&world, kind, "echo because of this >&2; exit 3");
        bundle.config["hooks"][kind]
            .as_array_mut()
            .unwrap()
            .push(failing);
        bundle.write();
        let id = world.id("a");
        let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
        assert!(
            error.contains(kind) && error.contains("exit status 3"),
            "{error}"
        );
        assert!(error.contains("because of this"), "{error}");
        let last = first_words(&lines(&world)).pop();
        assert_eq!(last.as_deref(), Some("poststop stopped"), "{kind}");
        world.runtime(["state", &id]).fails(1);
        world.end();
    }
}

#[test]
fn privileged_a_failing_start_hook_stops_the_container() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "echo ran > /ran");
    bundle.config["hooks"] = json!({ "startContainer": [hook(&world, "s", "exit 4")] });
    bundle.write();
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    let error = world.runtime(["start", &id]).fails(1);
    assert!(
        error.contains("startContainer") && error.contains("exit status 4"),
        "{error}"
    );
    world.wait_status(&id, "stopped");
    assert_eq!(bundle.read("ran"), None);
    world.runtime(["delete", &id]).ok();
    world.runtime(["run", "-b", bundle.path(), &id]).fails(1);
    world.end();
}

/// Each list in its order; programs of the runtime's namespaces are looked for there, those of the container's in its
/// root, whatever the other one has.
#[test]
fn privileged_hooks_are_called_in_order_and_found_where_they_run() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "cat /order > /seen; sleep 1000");
    let script = "#!/bin/sh\ncat > /dev/null; echo \"$1\" >> \"$2\"\n";
    let outside = world.path().join("a hook");
    let inside = bundle.root().join("inside");
    for path in [&outside, &inside] {
        std::fs::write(path, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path, mode).unwrap();
    }
    let out = world.path().join("out");
    let mut hooks = json!({});
    for kind in ALL {
        let (path, out) = match kind {
            "startContainer" => (json!("/inside"), json!("/order")),
            _ => (json!(outside), json!(out)),
        };
        let one = |number: u32| {
            let said = format!("{kind} {number}");
            json!({ "path": path, "args": ["hook", said, out], "env": ["PATH=/usr/bin:/bin"] })
        };
        hooks[kind] = json!([one(1), one(2), one(3)]);
    }
    bundle.config["hooks"] = hooks;
    bundle.write();
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    world.runtime(["start", &id]).ok();
    let in_container = bundle.wait_for("seen");
    world.runtime(["delete", "--force", &id]).ok();
    let of = |kinds: &[&str]| -> Vec<String> {
        let numbered = |kind: &&str| [1, 2, 3].map(|number| format!("{kind} {number}"));
        kinds.iter().flat_map(numbered).collect()
    };
    let host = [
        "prestart",
        "createRuntime",
        "createContainer",
        "poststart",
        "poststop",
    ];
    assert_eq!(lines(&world), of(&host));
    let started: Vec<&str> = in_container.lines().collect();
    assert_eq!(started, of(&["startContainer"]));
    for (kind, path) in [
        ("createContainer", json!("/inside")),
        ("createRuntime", json!("/inside")),
        ("startContainer", json!(outside)),
    ] {
        bundle.config["hooks"] = json!({ kind: [{ "path": path, "args": ["hook", "x", "/x"] }] });
        bundle.write();
        let error = world.runtime(["run", "-b", bundle.path(), &id]).fails(1);
        assert!(
            error.contains(kind) && error.contains("(os error 2)"),
            "{error}"
        );
        world.runtime(["delete", "--force", &id]).ok();
    }
    world.end();
}

/// Their programs are the image's.
#[test]
fn privileged_start_hooks_are_confined_like_the_program() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "true");
    let script = "umask; id -u; id -G; grep -E 'CapBnd|CapEff|NoNewPrivs|Seccomp:' /proc/self/status; ulimit -n";
    bundle.config["process"]["user"] =
        json!({ "uid": 12, "gid": 34, "additionalGids": [56], "umask": 0o27 });
    bundle.config["process"]["noNewPrivileges"] = true.into();
    bundle.config["process"]["rlimits"] =
        json!([{ "type": "RLIMIT_NOFILE", "soft": 99, "hard": 100 }]);
    let lines = format!("exec > /out/$0; {script}");
    bundle.config["process"]["args"] = json!(["sh", "-c", lines, "program"]);
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["sethostname"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }],
    });
    let confined = hook(&world, "hook", &lines);
    let denied = hook(&world, "denied", "! hostname other");
    bundle.config["hooks"] = json!({ "startContainer": [confined, denied] });
    let out = std::path::Path::new(&bundle.path()).join("rootfs/out");
    std::fs::create_dir(&out).unwrap();
    std::fs::set_permissions(&out, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    bundle.write();
    world
        .runtime(["run", "-b", bundle.path(), &world.id("a")])
        .ok();
    let program = bundle.read("out/program").expect("what the program wrote");
    assert_eq!(bundle.read("out/hook").as_deref(), Some(program.as_str()));
    let wanted = ["0027", "12", "34 56"];
    assert_eq!(program.lines().take(3).collect::<Vec<_>>(), wanted);
    assert!(
        program.contains("NoNewPrivs:\t1") && program.contains("Seccomp:\t2"),
        "{program}"
    );
    world.end();
}

/// As runc's: hooks name files of the container's root relative to it.
#[test]
fn privileged_create_container_hooks_begin_in_the_root() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "true");
    let inside = hook(&world, "c", "echo $PWD > $OUT; test -e ./bin/busybox");
    bundle.config["hooks"] = json!({ "createContainer": [inside] });
    bundle.write();
    world
        .runtime(["run", "-b", bundle.path(), &world.id("a")])
        .ok();
    assert_eq!(lines(&world), [format!("{}/rootfs", bundle.path())]);
    world.end();
}

#[test]
fn privileged_failures_of_late_hooks_are_warnings() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "sleep 1000");
    bundle.config["hooks"] = json!({
        "poststart": [hook(&world, "p", "exit 5"), hook(&world, "p", "echo second > $OUT")],
        "poststop": [hook(&world, "p", "exit 6"), hook(&world, "p", "echo third >> $OUT")],
    });
    bundle.write();
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    let ran = world.runtime(["start", &id]);
    assert!(ran.stderr().contains("level=warning"), "{}", ran.describe());
    ran.ok();
    assert_eq!(world.status(&id), "running");
    let ran = world.runtime(["delete", "-f", &id]);
    assert!(ran.stderr().contains("exit status 6"), "{}", ran.describe());
    ran.ok();
    assert_eq!(lines(&world), ["second", "third"]);
    world.end();
}

#[test]
fn privileged_a_hook_that_takes_too_long_is_killed() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "true");
    let mut slow = hook(&world, "slow", "exec sleep 1000");
    slow["timeout"] = 1.into();
    bundle.config["hooks"] = json!({ "createRuntime": [slow] });
    bundle.write();
    let id = world.id("a");
    let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
    assert!(error.contains("timeout"), "{error}");
    world.end();
}

#[test]
fn privileged_wrong_hooks_are_refused() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "true");
    let id = world.id("a");
    for (hook, words) in [
        (json!({ "path": "sh" }), "not absolute"),
        (
            json!({ "path": "/bin/sh", "timeout": 0 }),
            "greater than zero",
        ),
        (json!({ "path": "/nowhere" }), "/nowhere"),
    ] {
        bundle.config["hooks"] = json!({ "createRuntime": [hook] });
        bundle.write();
        let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
        assert!(error.contains(words), "{error}");
    }
    world.end();
}
