//! Secrets of builds: steps have them, disks do not.

use std::path::{Path, PathBuf};
use std::process::Child;

use ketch_test_support::{World, eventually};

const IN_FILE: &str = "value-of-the-file-41c7";
const IN_VARIABLE: &str = "value-of-the-variable-9b02";

/// A step that shows both secrets backwards and then waits for the file `go` in its cache mount.
const DOCKERFILE: &str = r#"FROM busybox
ARG ROUND
RUN --mount=type=cache,id=gate,target=/gate \
    --mount=type=secret,id=file \
    --mount=type=secret,id=variable,env=TOKEN \
    rev /run/secrets/file && echo "$TOKEN" | rev && stat -c 'mode %a' /run/secrets/file && \
    touch /gate/here-$ROUND && while [ ! -e /gate/go-$ROUND ]; do usleep 10000; done
"#;

fn start(world: &World, round: &str) -> Child {
    world.spawn(&format!(
        "build --progress plain --build-arg ROUND={round} --secret id=file,src=file.txt --secret id=variable,src=variable.txt -t app app"
    ))
}

/// The directory of the cache mount, once the step of that round is in it.
fn gate(world: &World, round: &str) -> PathBuf {
    let mounts = world.data_root().join("build/mounts");
    eventually("the step", || {
        let caches = std::fs::read_dir(&mounts).ok()?.flatten();
        caches
            .map(|entry| entry.path())
            .find(|path| path.join(format!("here-{round}")).exists())
    })
}

/// Files below `root` that hold a secret.
fn holders(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(about) = path.symlink_metadata() else {
            continue;
        };
        if about.is_dir() {
            let entries = std::fs::read_dir(&path).expect("list a directory");
            left.extend(entries.flatten().map(|entry| entry.path()));
        } else if about.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            if text.contains(IN_FILE) || text.contains(IN_VARIABLE) {
                found.push(path);
            }
        }
    }
    found
}

/// Whether the file system of a path is a tmpfs.
fn is_in_memory(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let innermost = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((Path::new(words.next()?), words.next()?))
        })
        .filter(|(place, _)| path.starts_with(place))
        .max_by_key(|(place, _)| place.components().count());
    innermost.is_some_and(|(_, kind)| kind == "tmpfs")
}

fn world() -> World {
    let world = World::with_busybox();
    world.file("file.txt", IN_FILE);
    world.file("variable.txt", IN_VARIABLE);
    world.file("app/Dockerfile", DOCKERFILE);
    world
}

fn backwards(text: &str) -> String {
    text.chars().rev().collect()
}

#[track_caller]
fn assert_on_no_disk(world: &World) {
    assert_eq!(holders(&world.data_root()), Vec::<PathBuf>::new());
    for path in holders(&world.run_root()) {
        assert!(is_in_memory(&path), "{}", path.display());
    }
}

/// Nothing is left of scratch directories, which are below the run root.
#[track_caller]
fn assert_scratch_is_empty(world: &World) {
    let scratch = world.run_root().join("build");
    let left: Vec<_> = std::fs::read_dir(&scratch)
        .expect("the scratch directories")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    assert!(!mounts.contains(&*scratch.to_string_lossy()), "{mounts}");
}

#[test]
fn a_secret_is_on_no_disk_during_the_build_and_after_it() {
    let world = world();
    let build = start(&world, "one");
    let gate = gate(&world, "one");
    assert_on_no_disk(&world);
    // The search would find one: the file is there, in memory.
    assert_eq!(holders(&world.run_root()).len(), 1);
    std::fs::write(gate.join("go-one"), "").expect("let it go on");
    let output = build.wait_with_output().expect("wait for the build");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    for expected in [&*backwards(IN_FILE), &*backwards(IN_VARIABLE), "mode 400"] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert_on_no_disk(&world);
    assert_scratch_is_empty(&world);
    for line in ["inspect app", "history --no-trunc app"] {
        let told = world.run(line).ok();
        assert!(
            !told.contains(IN_FILE) && !told.contains(IN_VARIABLE),
            "{told}"
        );
    }
    world.run("rmi app").ok();
    world.finish();
}

#[test]
fn the_secrets_of_a_killed_build_go_with_the_next() {
    let world = world();
    let mut build = start(&world, "one");
    gate(&world, "one");
    build.kill().expect("kill the build");
    build.wait().expect("reap the build");
    assert_on_no_disk(&world);
    eventually("the step's end", || {
        world.monitors().is_empty().then_some(())
    });
    let next = start(&world, "two");
    std::fs::write(gate(&world, "two").join("go-two"), "").expect("let it go on");
    let output = next.wait_with_output().expect("wait for the build");
    assert!(output.status.success(), "{output:?}");
    assert_on_no_disk(&world);
    assert_scratch_is_empty(&world);
    world.run("rmi app").ok();
    world.finish();
}
