//! Commands on registries, against Debian's docker-registry; skopeo is the independent reader.

use std::os::unix::fs::PermissionsExt;

use ketch_test_support::{Registry, World};
use serde_json::Value;

#[test]
fn login_keeps_a_password_and_logout_forgets_it() {
    let world = World::with_busybox();
    let registry = Registry::start_for_user(&world);
    let name = registry.reference("box:1");
    let host = name.split('/').next().expect("a host");
    world.run(&format!("tag busybox {name}")).ok();
    let refused = world.run(&format!("push {name}")).fails(1);
    assert!(refused.contains("ketch login"), "{refused}");

    let login = format!("login -u me --password-stdin {host}");
    let wrong = world.run_with_input(&login, b"wrong\n").fails(1);
    assert!(
        wrong.contains(&format!("http://{host}/v2/")) && wrong.contains("unauthorized"),
        "{wrong}"
    );
    let done = world.run_with_input(&login, b"s3cret\n");
    assert!(
        done.stderr()
            .contains("WARNING! Your credentials are stored unencrypted in"),
        "{}",
        done.describe()
    );
    assert_eq!(done.ok(), "Login Succeeded");
    let config = world.path().join("client/config.json");
    let mode = config.metadata().expect("config.json").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.run(&format!("push -q {name}")).ok();
    let known = world.run(&format!("login {host}")).ok();
    assert!(
        known.starts_with("Authenticating with existing credentials... [Username: me]")
            && known.ends_with("Login Succeeded"),
        "{known}"
    );
    let read = world
        .on_host(&format!(
            "skopeo inspect --tls-verify=false --creds me:s3cret docker://{name}"
        ))
        .ok();
    assert!(read.contains("Digest"), "{read}");

    assert_eq!(
        world.run(&format!("logout {host}")).ok(),
        format!("Removing login credentials for {host}")
    );
    world.run(&format!("push {name}")).fails(1);
    drop(registry);
    world.finish();
}

#[test]
fn a_password_is_asked_for_without_showing_it() {
    let world = World::empty();
    let registry = Registry::start_for_user(&world);
    let host = registry.reference("");
    let host = host.trim_end_matches('/');
    let no_terminal = world.run(&format!("login -u me {host}")).fails(1);
    assert!(no_terminal.contains("non TTY device"), "{no_terminal}");
    let both = world
        .run(&format!("login -u me -p x --password-stdin {host}"))
        .fails(1);
    assert!(both.contains("cannot specify both"), "{both}");

    // script(1) is the terminal; what it is given comes only when the question is there.
    let client = world.path().join("client");
    let line = format!(
        "(until grep -qs Password: seen; do :; done; echo s3cret) | script -qefc '{} --config {} login -u me {host}' seen",
        ketch_test_support::program().display(),
        client.display()
    );
    let script = world.file("ask.sh", &line);
    let seen = world.on_host(&format!("sh {}", script.display())).ok();
    assert!(seen.contains("Password: "), "{seen}");
    assert!(seen.contains("Login Succeeded"), "{seen}");
    assert!(!seen.contains("s3cret"), "{seen}");
    drop(registry);
    world.finish();
}

#[test]
fn all_tags_of_a_repository_are_pushed_and_pulled() {
    let world = World::with_busybox();
    let registry = Registry::start(&world);
    let name = registry.reference("team/box");
    for tag in ["1", "2"] {
        world.run(&format!("tag busybox {name}:{tag}")).ok();
    }
    let wrong = world.run(&format!("push -a {name}:1")).fails(1);
    assert!(
        wrong.contains("tag can't be used with --all-tags/-a"),
        "{wrong}"
    );
    let pushed = world.run(&format!("push --all-tags {name}")).ok();
    let lines: Vec<&str> = pushed.lines().collect();
    assert_eq!(lines[0], format!("The push refers to repository [{name}]"));
    for tag in ["1", "2"] {
        let line = format!("{tag}: digest: sha256:");
        assert!(lines.iter().any(|l| l.starts_with(&line)), "{pushed}");
    }
    world.run(&format!("rmi {name}:1 {name}:2")).ok();
    let pulled = world.run(&format!("pull -a {name}")).ok();
    assert!(
        pulled.ends_with(&format!(
            "Status: Downloaded newer image for {name}\n{name}"
        )),
        "{pulled}"
    );
    let listed = world
        .run(&format!("images --format {{{{.Tag}}}} {name}"))
        .ok();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert_eq!(world.run(&format!("pull -aq {name}")).ok(), name);
    drop(registry);
    world.finish();
}

#[test]
fn a_manifest_list_is_made_shown_and_pushed() {
    let world = World::with_busybox();
    let registry = Registry::start(&world);
    let (image, list) = (
        registry.reference("build/box:1"),
        registry.reference("box:1"),
    );
    world.run(&format!("tag busybox {image}")).ok();
    world.run(&format!("push -q {image}")).ok();
    assert_eq!(
        world.run(&format!("manifest create {list} {image}")).ok(),
        format!("Created manifest list {list}")
    );
    let again = world
        .run(&format!("manifest create {list} {image}"))
        .fails(1);
    assert!(again.contains("no --amend flag"), "{again}");
    world
        .run(&format!(
            "manifest annotate --os linux --arch arm64 --variant v8 {list} {image}"
        ))
        .ok();
    let shown = world.run(&format!("manifest inspect {list}")).ok();
    let document: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(
        document["manifests"][0]["platform"]["architecture"],
        "arm64"
    );
    assert!(shown.starts_with("{\n   \"schemaVersion\": 2,"), "{shown}");
    let one = world.run(&format!("manifest inspect {list} {image}")).ok();
    assert!(one.starts_with("{\n\t\"schemaVersion\": 2,"), "{one}");
    let all = world.run(&format!("manifest inspect -v {list}")).ok();
    let all: Value = serde_json::from_str(&all).expect("JSON");
    assert_eq!(all[0]["Ref"], image.as_str());
    let pushed = world.run(&format!("manifest push -p {list}")).ok();
    let digest = pushed.lines().last().expect("a digest");
    let read = world
        .on_host(&format!(
            "skopeo inspect --tls-verify=false --raw docker://{list}"
        ))
        .ok();
    assert!(read.contains("arm64"), "{read}");
    assert!(digest.starts_with("sha256:"), "{pushed}");
    world.run(&format!("manifest rm {list}")).fails(1);
    // Nothing is kept here: this is what the registry has.
    let remote = world.run(&format!("manifest inspect {list}")).ok();
    assert_eq!(
        serde_json::from_str::<Value>(&remote).expect("JSON"),
        document
    );
    drop(registry);
    world.finish();
}

#[test]
fn a_registry_without_a_search_is_named() {
    let world = World::empty();
    let registry = Registry::start(&world);
    let refused = world
        .run(&format!("search {}", registry.reference("box")))
        .fails(1);
    assert!(
        refused.contains("cannot be searched") && refused.contains("127.0.0.1:5000"),
        "{refused}"
    );
    let limit = world.run("search --limit 101 box").fails(1);
    assert!(
        limit.contains("limit 101 is outside the range of [1, 100]"),
        "{limit}"
    );
    let filter = world.run("search --filter what=1 box").fails(1);
    assert!(filter.contains("invalid filter 'what'"), "{filter}");
    drop(registry);
    world.finish();
}

#[test]
fn a_settings_file_leads_to_a_mirror() {
    let world = World::with_busybox();
    let registry = Registry::start(&world);
    let there = registry.reference("hub/library/box:1");
    world.run(&format!("tag busybox {there}")).ok();
    world.run(&format!("push -q {there}")).ok();
    let text = "[[registry]]\nprefix = 'docker.io'\nlocation = 'away.invalid'\n[[registry.mirror]]\nlocation = '127.0.0.1:5000/hub'\n";
    let file = world.file(".config/ketch/registries.toml", text);
    let pulled = world.run("pull box:1").ok();
    assert!(pulled.ends_with("docker.io/library/box:1"), "{pulled}");
    world.run("run --rm box:1 true").ok();
    std::fs::write(&file, "\n[[registri]]\n").expect("write");
    let refused = world.run("pull box:1").fails(1);
    assert!(refused.contains("registries.toml line 2"), "{refused}");
    drop(registry);
    world.finish();
}
