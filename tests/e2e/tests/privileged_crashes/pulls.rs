//! Pulls: what a killed one leaves is continued, by the next one or by one that waits for it.

use std::fs;
use std::process::Stdio;

use ketch_test_support::{Cutter, How, Registry, World};

use crate::DISK_MEBIBYTES;
use crate::operations::{self, Operation, PULLS};
use crate::sweep::{self, sweep};

#[test]
fn pulls_may_be_killed_at_every_step() {
    let mut world = World::empty();
    let registry = Registry::start(&world);
    operations::prepare(&world);
    operations::fill(&world, &registry);
    sweep(&mut world, PULLS, How::All);
    drop(registry);
    world.finish();
}

#[test]
fn pulls_may_lose_power_at_every_step() {
    let world = World::empty();
    let registry = Registry::start(&world);
    let mut world = world.on_disk(DISK_MEBIBYTES);
    operations::prepare(&world);
    operations::fill(&world, &registry);
    sweep(&mut world, PULLS, How::Power);
    drop(registry);
    world.finish();
}

/// Where a pull writes into the middle of a blob that is not a small one.
fn middles(steps: &[String]) -> Vec<usize> {
    let blob_of = |step: &String| {
        let path = step.strip_prefix("write ")?;
        path.contains("/ingest/blobs/").then(|| path.to_owned())
    };
    let blobs: Vec<Option<String>> = steps.iter().map(blob_of).collect();
    (0..blobs.len())
        .filter(|&at| blobs[at].is_some() && blobs[..at].contains(&blobs[at]))
        .map(|at| at + 1)
        .collect()
}

/// An image with a blob that takes a while.
const LONG: &[Operation] = &[
    Operation {
        name: "pull of a long gzip blob",
        line: "pull -q 127.0.0.1:5000/long:gzip",
        undo: &["rmi 127.0.0.1:5000/long:gzip"],
        ..operations::FOUND
    },
    Operation {
        name: "pull of a long zstd blob",
        line: "pull -q 127.0.0.1:5000/long:zstd",
        undo: &["rmi 127.0.0.1:5000/long:zstd"],
        ..operations::FOUND
    },
];

/// A world with the long image in its registry.
fn with_long() -> (World, Registry) {
    let world = World::empty();
    let registry = Registry::start(&world);
    operations::prepare(&world);
    world.file("long/Dockerfile", "FROM busybox\nCOPY noise /\n");
    operations::noise(&world, "long/noise", 16 << 20);
    for line in [
        "build -q -t long:1 long",
        "save -q -o long.tar long:1",
        "rmi long:1",
        "system prune -f",
    ] {
        world.run(line).ok();
    }
    for format in ["gzip", "zstd"] {
        let name = registry.reference(&format!("long:{format}"));
        operations::send(&world, "long.tar:long:1", format, &name);
    }
    (world, registry)
}

#[test]
fn what_a_killed_pull_has_fetched_is_not_fetched_again() {
    let (world, registry) = with_long();
    let cutter = Cutter::new(&world);
    for operation in LONG {
        let clean = sweep::rehearse(&world, &cutter, operation);
        let middles = middles(&clean.steps);
        let at = middles[middles.len() * 3 / 4];
        let cut = cutter.run(&world, operation.line, at, How::All);
        assert!(cut.happened, "{}", cut.describe());
        let what = format!("{}: {}", operation.name, cut.describe());
        let (hex, have) = largest(&world).expect(&what);
        let before = requests(&world).len();
        sweep::ok(&world, operation.line, &what);
        let asked = requests(&world).split_off(before);
        let blobs = world.data_root().join("images/blobs/sha256");
        let whole = fs::metadata(blobs.join(&hex)).expect(&what).len();
        // `"GET … HTTP/1.1" 206 BYTES`: the rest of it.
        let rest = format!("\" 206 {} ", whole - have);
        // What the killed one had asked for may be told only now.
        let continued = |line: &String| line.contains(&hex) && line.contains(&rest);
        assert!(
            asked.iter().any(continued),
            "{have} of {whole} bytes were here: {asked:#?}\n{what}"
        );
        sweep::take_back(&world, operation, &clean.left, &what);
    }
    drop(registry);
    world.finish();
}

/// The longest partial blob: its digits and bytes.
fn largest(world: &World) -> Option<(String, u64)> {
    let directory = world.seen(&world.data_root()).join("ingest/blobs");
    let partial = fs::read_dir(directory).ok()?.flatten().map(|entry| {
        let length = entry.metadata().map(|metadata| metadata.len());
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, length.unwrap_or_default())
    });
    partial
        .filter(|(_, length)| *length > 0)
        .max_by_key(|(_, length)| *length)
}

fn requests(world: &World) -> Vec<String> {
    let log = fs::read_to_string(Registry::log(world)).expect("the registry's log");
    log.lines().map(str::to_owned).collect()
}

#[test]
fn a_pull_that_waits_for_a_killed_one_goes_on_in_its_place() {
    let (world, registry) = with_long();
    let cutter = Cutter::new(&world);
    let operation = &LONG[0];
    let clean = sweep::rehearse(&world, &cutter, operation);
    let middles = middles(&clean.steps);
    for part in 1..4 {
        together(
            &world,
            &cutter,
            operation,
            middles[part * middles.len() / 4],
        );
        sweep::take_back(&world, operation, &clean.left, operation.name);
    }
    drop(registry);
    world.finish();
}

/// Two pulls at once, one of which is killed.
fn together(world: &World, cutter: &Cutter, operation: &Operation, at: usize) {
    let words: Vec<&str> = operation.line.split(' ').collect();
    let mut other = world.command(words);
    other.stdin(Stdio::null()).stdout(Stdio::piped());
    let other = other.stderr(Stdio::piped()).spawn().expect("start ketch");
    let cut = cutter.run(world, operation.line, at, How::All);
    let what = format!("{} beside another: {}", operation.name, cut.describe());
    let output = other.wait_with_output().expect("wait for ketch");
    assert!(output.status.success(), "{output:?}\n{what}");
    sweep::look(world, &what);
}
