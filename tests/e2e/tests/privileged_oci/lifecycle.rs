//! The specification's operations and states, and their errors.

use ketch_test_support::OciWorld;
use serde_json::Value;

#[test]
fn privileged_a_container_goes_through_its_states() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "echo ran > /ran; cat > /dev/null < /hold");
    std::process::Command::new("mkfifo")
        .arg(bundle.root().join("hold"))
        .status()
        .unwrap();
    let id = world.id("a");
    let pid_file = world.path().join("pid");
    world
        .runtime([
            "create",
            "--bundle",
            bundle.path(),
            "--pid-file",
            pid_file.to_str().unwrap(),
            &id,
        ])
        .ok();
    let state = world.state(&id);
    assert_eq!(state["ociVersion"], "1.2.0");
    assert_eq!(state["id"], id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], bundle.path());
    assert_eq!(state["rootfs"], bundle.root().to_str().unwrap());
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    assert_eq!(state["pid"].to_string(), pid);
    assert_eq!(bundle.read("ran"), None, "create must not run the program");
    world.runtime(["start", &id]).ok();
    bundle.wait_for("ran");
    assert_eq!(world.status(&id), "running");
    std::fs::write(bundle.root().join("hold"), "x").unwrap();
    world.wait_status(&id, "stopped");
    assert_eq!(world.state(&id)["pid"], 0);
    world.runtime(["delete", &id]).ok();
    let error = world.runtime(["state", &id]).fails(1);
    assert!(error.contains("container does not exist"), "{error}");
    world.end();
}

#[test]
fn privileged_annotations_are_in_the_state() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "true");
    bundle.config["annotations"] = serde_json::json!({ "org.example.a": "b" });
    bundle.write();
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    assert_eq!(world.state(&id)["annotations"]["org.example.a"], "b");
    world.runtime(["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_changes_of_the_configuration_after_create_have_no_effect() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "echo before > /ran");
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    bundle.config["process"]["args"][2] = "echo after > /ran".into();
    bundle.config["ociVersion"] = "1.1.0".into();
    bundle.write();
    world.runtime(["start", &id]).ok();
    assert_eq!(bundle.wait_for("ran"), "before\n");
    assert_eq!(world.state(&id)["ociVersion"], "1.2.0");
    world.runtime(["delete", "--force", &id]).ok();
    world.end();
}

#[test]
fn privileged_ids_are_unique_and_have_no_paths() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "true");
    for wrong in ["", ".", "..", "a/b", "../a", "a b", "ä", "a\n"] {
        let error = world
            .runtime(["create", "-b", bundle.path(), wrong])
            .fails(1);
        assert!(
            error.contains("invalid container ID format"),
            "{wrong:?}: {error}"
        );
        for verb in ["state", "start", "delete"] {
            let error = world.runtime([verb, wrong]).fails(1);
            assert!(
                error.contains("invalid container ID format"),
                "{verb} {wrong:?}: {error}"
            );
        }
    }
    let id = world.id("a_b+c.d-E");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    let before = world.state(&id);
    let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
    assert!(
        error.contains("container with given ID already exists"),
        "{error}"
    );
    assert_eq!(world.state(&id), before, "the attempt must have no effect");
    world.runtime(["delete", &id]).ok();
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    world.runtime(["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_a_link_in_the_state_directory_is_not_followed() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "true");
    let elsewhere = world.path().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::create_dir_all(world.root()).unwrap();
    let id = world.id("a");
    std::os::unix::fs::symlink(&elsewhere, world.root().join(&id)).unwrap();
    world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
    world.runtime(["delete", "--force", &id]).ok();
    assert!(elsewhere.is_dir() && std::fs::read_dir(&elsewhere).unwrap().next().is_none());
    std::fs::remove_file(world.root().join(&id)).unwrap();
    world.end();
}

#[test]
fn privileged_operations_in_the_wrong_state_are_errors_without_effect() {
    let world = OciWorld::new();
    let missing = world.id("none");
    for words in [
        vec!["state"],
        vec!["start"],
        vec!["kill"],
        vec!["delete"],
        vec!["pause"],
    ] {
        let error = world
            .runtime(words.iter().copied().chain([missing.as_str()]))
            .fails(1);
        assert!(
            error.contains("container does not exist"),
            "{words:?}: {error}"
        );
    }
    world.runtime(["delete", "--force", &missing]).ok();

    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    world
        .runtime(["run", "--detach", "-b", bundle.path(), &id])
        .ok();
    let before = world.state(&id);
    let error = world.runtime(["start", &id]).fails(1);
    assert!(
        error.contains("cannot start an already running container"),
        "{error}"
    );
    let error = world.runtime(["delete", &id]).fails(1);
    assert!(error.contains("that is not stopped: running"), "{error}");
    let error = world.runtime(["resume", &id]).fails(1);
    assert!(error.contains("container not paused"), "{error}");
    assert_eq!(world.state(&id), before);

    world.runtime(["kill", &id, "KILL"]).ok();
    world.wait_status(&id, "stopped");
    let error = world.runtime(["kill", &id, "TERM"]).fails(1);
    assert!(error.contains("container not running"), "{error}");
    world.runtime(["kill", "--all", &id, "TERM"]).ok();
    let error = world.runtime(["start", &id]).fails(1);
    assert!(
        error.contains("cannot start a container that has stopped"),
        "{error}"
    );
    let error = world.runtime(["exec", &id, "true"]).fails(255);
    assert!(
        error.contains("cannot exec in a stopped container"),
        "{error}"
    );
    world.runtime(["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_a_created_container_is_deleted_without_force() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "echo ran > /ran");
    let id = world.id("a");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    world.runtime(["delete", &id]).ok();
    assert_eq!(bundle.read("ran"), None);
    world.end();
}

/// A signal reaches a container that waits for its start; one that needs an operand is refused without it.
#[test]
fn privileged_a_created_container_takes_signals() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "echo ran > /ran");
    let id = world.id("a");
    for verb in ["create", "start", "state", "kill", "delete"] {
        world.runtime([verb]).fails(1);
    }
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    world.runtime(["kill", &id, "KILL"]).ok();
    world.wait_status(&id, "stopped");
    let error = world.runtime(["start", &id]).fails(1);
    assert!(error.contains("has stopped"), "{error}");
    assert_eq!(bundle.read("ran"), None);
    world.runtime(["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_signals_have_names_and_numbers() {
    let world = OciWorld::new();
    let script = "trap 'echo usr1 >> /got' USR1; trap 'echo hup >> /got' HUP; trap 'exit 0' TERM; echo > /ready; \
                  while :; do sleep 0.05; done";
    let bundle = world.bundle("b", script);
    let id = world.id("a");
    world.runtime(["run", "-d", "-b", bundle.path(), &id]).ok();
    bundle.wait_for("ready");
    world.runtime(["kill", &id, "SIGUSR1"]).ok();
    assert_eq!(bundle.wait_for("got"), "usr1\n");
    world.runtime(["kill", &id, "1"]).ok();
    ketch_test_support::eventually("both", || {
        (bundle.read("got")? == "usr1\nhup\n").then_some(())
    });
    world.runtime(["kill", "--all", &id, "0"]).ok();
    world.runtime(["kill", &id, "0"]).ok();
    let error = world.runtime(["kill", &id, "NONE"]).fails(1);
    assert!(error.contains("NONE"), "{error}");
    world.runtime(["kill", &id]).ok();
    world.wait_status(&id, "stopped");
    world.runtime(["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_run_gives_the_exit_code_and_removes() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "echo out; echo err >&2; exit 7");
    let id = world.id("a");
    let ran = world.runtime(["run", "-b", bundle.path(), &id]);
    assert_eq!(
        (ran.stdout().as_str(), ran.stderr().as_str()),
        ("out", "err")
    );
    let _ = ran.fails(7);
    world.runtime(["state", &id]).fails(1);
    world
        .runtime(["run", "--keep", "-b", bundle.path(), &id])
        .fails(7);
    assert_eq!(world.status(&id), "stopped");
    world.runtime(["delete", &id]).ok();
    let killed = world.bundle("k", "kill -9 $$");
    // A first process cannot kill itself in its namespace: the shell goes on to its end.
    world.runtime(["run", "-b", killed.path(), &id]).ok();
    world.end();
}

#[test]
fn privileged_a_program_that_is_not_there_is_told_by_create() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "");
    bundle.config["process"]["args"] = serde_json::json!(["nowhere"]);
    bundle.write();
    let id = world.id("a");
    let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
    assert!(
        error.contains("executable file not found in $PATH"),
        "{error}"
    );
    bundle.config["process"]["args"] = serde_json::json!(["/nowhere"]);
    bundle.write();
    let error = world.runtime(["run", "-b", bundle.path(), &id]).fails(1);
    assert!(error.contains("no such file or directory"), "{error}");
    world.end();
}

#[test]
fn privileged_start_tells_why_the_program_cannot_be_executed() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "");
    std::fs::write(bundle.root().join("text"), "no program").unwrap();
    bundle.config["process"]["args"] = serde_json::json!(["/text"]);
    bundle.write();
    let id = world.id("a");
    // engines expect this one of the creation
    let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
    assert!(error.contains("permission denied"), "{error}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.root().join("text"), mode).unwrap();
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    let error = world.runtime(["start", &id]).fails(1);
    assert!(error.contains("exec format error"), "{error}");
    world.wait_status(&id, "stopped");
    world.runtime(["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_a_wrong_bundle_leaves_nothing() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "true");
    let id = world.id("a");
    let good = bundle.config.clone();
    let error = world.runtime(["create", "-b", "/nowhere", &id]).fails(1);
    assert!(error.contains("/nowhere/config.json"), "{error}");
    let wrongs: [(&str, Value, &str); 12] = [
        ("root", serde_json::json!({ "path": "" }), "root.path"),
        ("hostname", "a\0b".into(), "hostname: it has a zero byte"),
        (
            "linux",
            serde_json::json!({ "cgroupsPath": "/a\0b" }),
            "linux.cgroupsPath: it has a zero byte",
        ),
        (
            "annotations",
            serde_json::json!({ "": "x" }),
            "annotations: a name is empty",
        ),
        (
            "annotations",
            serde_json::json!({ "x": 1 }),
            "expected a string",
        ),
        (
            "hooks",
            serde_json::json!({ "poststop": [{ "path": "/bin/true", "args": ["\0"] }] }),
            "hooks.poststop: a zero byte",
        ),
        (
            "linux",
            serde_json::json!({ "netDevices": { "eth9": {} } }),
            "linux.netDevices is not supported",
        ),
        ("ociVersion", "2.0.0".into(), "2.0.0"),
        ("process", Value::Null, "process"),
        ("root", Value::Null, "root"),
        ("hostname", "x".repeat(100).into(), "host name"),
        ("root", serde_json::json!({ "path": "nowhere" }), "nowhere"),
    ];
    for (field, value, words) in wrongs {
        bundle.config = good.clone();
        bundle.config[field] = value;
        bundle.write();
        let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
        assert!(error.contains(words), "{field}: {error}");
    }
    world.end();
}

#[test]
fn privileged_a_configuration_must_be_text_with_an_end() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "true");
    let path = bundle.directory.join("config.json");
    let good = std::fs::read_to_string(&path).unwrap();
    let id = world.id("a");
    let refusal = || world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
    // What is in it twice, what is no UTF-8, and what is deeper than any configuration.
    let twice = good.replacen('{', r#"{"annotations":{"a":"1","a":"2"},"#, 1);
    std::fs::write(&path, twice).unwrap();
    assert!(refusal().contains("duplicate name"));
    std::fs::write(&path, b"{\"hostname\":\"\xff\"}").unwrap();
    assert!(refusal().contains("config.json"));
    let deep = good.replacen('{', &format!(r#"{{"zz":{},"#, "[".repeat(100_000)), 1);
    std::fs::write(&path, deep).unwrap();
    assert!(refusal().contains("recursion limit exceeded"));
    // What has no end, or waits for somebody.
    std::fs::write(&path, " ".repeat(16 << 20) + &good).unwrap();
    assert!(refusal().contains("longer than"));
    for target in ["/dev/zero", "/"] {
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(target, &path).unwrap();
        assert!(refusal().contains("is no regular file"));
    }
    std::fs::remove_file(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    assert!(refusal().contains("is no regular file"));
    world.end();
}

/// In a root that others can write to, what they put there is not believed: it names processes and programs.
#[test]
fn privileged_a_state_that_another_user_wrote_is_not_read() {
    let world = OciWorld::new();
    let id = world.id("a");
    let bundle = world.bundle("b", "true");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    world.runtime(["kill", &id, "KILL"]).ok();
    world.wait_status(&id, "stopped");
    let directory = world.root().join(&id);
    let state = directory.join("state.json");
    let touched = bundle.directory.join("touched");
    let text = std::fs::read_to_string(&state).unwrap();
    let mut planted: Value = serde_json::from_str(&text).unwrap();
    planted["poststop"] = serde_json::json!([{ "path": "/bin/touch", "args": ["touch", touched] }]);
    std::fs::write(&state, planted.to_string()).unwrap();
    for path in [&state, &directory] {
        std::os::unix::fs::chown(path, Some(12_345), None).unwrap();
    }
    for words in [
        vec!["state"],
        vec!["delete"],
        vec!["delete", "--force"],
        vec!["kill"],
        vec!["start"],
    ] {
        let error = world
            .runtime(words.iter().copied().chain([id.as_str()]))
            .fails(1);
        assert!(
            error.contains("belongs to user 12345, not to the caller"),
            "{words:?}: {error}"
        );
    }
    let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
    assert!(error.contains("belongs to user 12345"), "{error}");
    assert!(!touched.exists());
    // It is the caller's own again: so are its hooks.
    std::os::unix::fs::chown(&directory, Some(0), None).unwrap();
    world.runtime(["delete", &id]).ok();
    assert!(touched.exists());
    world.end();
}

#[test]
fn privileged_lists_have_all_containers() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    assert_eq!(world.runtime(["list", "-q"]).ok(), "");
    let (one, two) = (world.id("1"), world.id("2"));
    world.runtime(["create", "-b", bundle.path(), &one]).ok();
    world.runtime(["run", "-d", "-b", bundle.path(), &two]).ok();
    assert_eq!(
        world.runtime(["list", "--quiet"]).ok(),
        format!("{one}\n{two}")
    );
    let json = world.runtime(["list", "--format", "json"]).ok();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json[0]["status"], &json[1]["status"]),
        (&"created".into(), &"running".into())
    );
    let table = world.runtime(["list"]).ok();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    );
    assert_eq!((lines[1][0], lines[1][2]), (one.as_str(), "created"));
    for id in [&one, &two] {
        world.runtime(["delete", "-f", id]).ok();
    }
    world.end();
}

#[test]
fn privileged_errors_are_written_as_callers_parse_them() {
    let world = OciWorld::new();
    let log = world.path().join("log");
    let words = [
        "--log",
        log.to_str().unwrap(),
        "--log-format",
        "json",
        "state",
    ];
    let id = world.id("none");
    let ran = world.runtime(words.iter().copied().chain([id.as_str()]));
    let line = std::fs::read_to_string(&log).unwrap();
    let line: Value = serde_json::from_str(line.trim_end()).unwrap();
    assert_eq!(line["level"], "error");
    let message = line["msg"].as_str().unwrap();
    assert!(message.starts_with("container does not exist"), "{message}");
    assert!(line["time"].is_string());
    assert_eq!(ran.fails(1), message, "standard error has the bare message");
    let error = world.runtime(["state", &id]).fails(1);
    assert!(
        error.starts_with("time=\"") && error.contains("level=error msg=\""),
        "{error}"
    );
    world.end();
}

#[test]
fn privileged_what_there_is_not_is_refused_by_name() {
    let world = OciWorld::new();
    for verb in ["checkpoint", "restore"] {
        let error = world.runtime([verb, "--image-path", "/x", "id"]).fails(1);
        assert!(
            error.contains(&format!("{verb} is not supported")),
            "{error}"
        );
    }
    let error = world.runtime(["--criu", "/x", "list"]).fails(1);
    assert!(error.contains("--criu is not supported"), "{error}");
    let error = world.runtime(["list", "--nonsense"]).fails(1);
    assert!(error.contains("--nonsense"), "{error}");
    // Numbers, documents and logs that cannot be.
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    let most = ["create", "--preserve-fds", "4294967295", "-b"];
    let words = most.into_iter().chain([bundle.path(), &id]);
    let error = world.runtime(words).fails(1);
    assert!(error.contains("is not open"), "{error}");
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    for words in [["update", "-r"], ["exec", "-p"]] {
        let words = words.into_iter().chain(["/dev/zero", id.as_str()]);
        let error = world.runtime(words).fails(1);
        assert!(error.contains("/dev/zero is longer than"), "{error}");
    }
    let words = ["--log", "/nowhere/log", "state", "none"];
    let error = world.runtime(words).fails(1);
    assert!(error.contains("write the log /nowhere/log: "), "{error}");
    assert!(error.contains("container does not exist"), "{error}");
    world.runtime(["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_version_features_and_spec_are_told() {
    let world = OciWorld::new();
    let version = world.runtime(["--version"]).ok();
    assert!(version.starts_with("ketch-runtime version "), "{version}");
    assert!(version.ends_with("\nspec: 1.2.0"), "{version}");
    let features: Value = serde_json::from_str(&world.runtime(["features"]).ok()).unwrap();
    assert_eq!(features["ociVersionMax"], "1.2.0");
    assert_eq!(features["linux"]["intelRdt"]["enabled"], true);
    assert_eq!(
        features["linux"]["mountExtensions"]["idmap"]["enabled"],
        true
    );
    let bundle = world.bundle("b", "true");
    let error = world.runtime(["spec", "--bundle", bundle.path()]).fails(1);
    assert!(error.contains("config.json"), "{error}");
    std::fs::remove_file(bundle.directory.join("config.json")).unwrap();
    world.runtime(["spec", "-b", bundle.path()]).ok();
    let text = std::fs::read_to_string(bundle.directory.join("config.json")).unwrap();
    let mut bundle = bundle;
    bundle.config = serde_json::from_str(&text).unwrap();
    assert_eq!(bundle.config["process"]["terminal"], true);
    bundle.config["process"]["terminal"] = false.into();
    bundle.config["process"]["rlimits"] = serde_json::json!([]);
    bundle.config["process"]["args"] = serde_json::json!(["hostname"]);
    bundle.write();
    let id = world.id("a");
    assert_eq!(
        world.runtime(["run", "-b", bundle.path(), &id]).ok(),
        "ketch"
    );
    world.end();
}
