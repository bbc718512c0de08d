//! Containers of a user without rights, who comes without a user namespace of his own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use ketch_test_support::{Bundle, OciWorld, Ran, eventually, program};
use serde_json::{Value, json};

/// Nobody's on any machine.
const USER: u32 = 54_321;

/// A world that is the user's, with a bundle whose configuration is the one that the program offers.
fn user_s_world(script: &str) -> (OciWorld, Bundle) {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "true");
    // The program may be where only root may go.
    let own = world.path().join("ketch-runtime");
    fs::remove_file(&own).unwrap();
    fs::copy(program(), &own).unwrap();
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let config = Path::new(bundle.path()).join("config.json");
    fs::remove_file(&config).unwrap();
    give(world.path());
    let mut spec = world.command(["spec", "--rootless"]);
    world
        .finish(spec.current_dir(bundle.path()).uid(USER).gid(USER))
        .ok();
    change(&bundle, |config| {
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["sh", "-c", script]);
        config["root"]["readonly"] = json!(false);
    });
    (world, bundle)
}

fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

fn change(bundle: &Bundle, change: impl FnOnce(&mut Value)) {
    let path = Path::new(bundle.path()).join("config.json");
    let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    fs::write(&path, config.to_string()).unwrap();
    chown(&path, Some(USER), Some(USER)).unwrap();
}

fn as_user<const N: usize>(world: &OciWorld, words: [&str; N]) -> Ran {
    world.finish(world.command(words).uid(USER).gid(USER))
}

fn status(world: &OciWorld, id: &str) -> String {
    let state: Value = serde_json::from_str(&as_user(world, ["state", id]).ok()).unwrap();
    state["status"].as_str().unwrap().to_owned()
}

#[test]
fn privileged_a_user_runs_containers() {
    let (world, bundle) = user_s_world("id -u; cat /proc/self/uid_map; echo made > /file; exit 3");
    let id = world.id("a");
    let ran = as_user(&world, ["run", "-b", bundle.path(), &id]);
    assert_eq!(ran.code(), Some(3), "{}", ran.describe());
    let said = ran.stdout();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "54321", "1"]);
    let file = bundle.root().join("file");
    assert_eq!(fs::metadata(file).unwrap().uid(), USER);
    world.end();
}

#[test]
fn privileged_a_user_s_container_goes_through_its_states() {
    let (world, bundle) = user_s_world("exec sleep 1000");
    let id = world.id("a");
    as_user(&world, ["create", "-b", bundle.path(), &id]).ok();
    assert_eq!(status(&world, &id), "created");
    as_user(&world, ["start", &id]).ok();
    let inside = as_user(&world, ["exec", &id, "sh", "-c", "id -u; echo $$ > /told"]).ok();
    assert_eq!(inside.trim(), "0");
    assert!(bundle.read("told").is_some());
    as_user(&world, ["kill", &id, "KILL"]).ok();
    eventually("it has stopped", || {
        (status(&world, &id) == "stopped").then_some(())
    });
    as_user(&world, ["delete", &id]).ok();
    world.end();
}

#[test]
fn privileged_ids_that_are_not_a_user_s_are_not_mapped() {
    let (world, bundle) = user_s_world("true");
    change(&bundle, |config| {
        config["linux"]["uidMappings"][0]["hostID"] = json!(0);
    });
    let id = world.id("a");
    let error = as_user(&world, ["run", "-b", bundle.path(), &id]).fails(1);
    assert!(error.contains("uid_map"), "{error}");
    change(&bundle, |config| {
        config["linux"]["uidMappings"][0]["hostID"] = json!(USER);
        config["linux"]["uidMappings"][0]["size"] = json!(10);
    });
    let error = as_user(&world, ["run", "-b", bundle.path(), &id]).fails(1);
    assert!(error.contains("newuidmap"), "{error}");
    change(&bundle, |config| {
        config["linux"]["uidMappings"][0]["size"] = json!(1);
        config["process"]["user"]["uid"] = json!(33);
    });
    let error = as_user(&world, ["run", "-b", bundle.path(), &id]).fails(1);
    assert!(
        error.contains("process.user.uid: 33 is not in the mappings"),
        "{error}"
    );
    let state = fs::read_dir(world.root());
    assert!(state.is_err() || state.unwrap().next().is_none());
    world.end();
}
