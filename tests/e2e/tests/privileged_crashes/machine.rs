//! A whole machine that is reset in the middle of what it does with images; a virtual one. What is left on its disk is
//! looked at from here. `cargo xtask test --lab --power-cuts` does both in turns; what they have to know of each other is in
//! the directory that `KETCH_LAB_OUTSIDE` names, the disk is the one of `KETCH_TEST_DISK`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ketch_test_support::{Cutter, How, Registry, World};

use crate::operations::{self, BUILDS, LOADS, Operation, PULLS, REMOVALS};
use crate::sweep;

/// What the rounds are about, in turns.
fn operations() -> [&'static Operation; 8] {
    [
        &PULLS[0],
        &LOADS[0],
        &BUILDS[0],
        &PULLS[1],
        &LOADS[1],
        &REMOVALS[1],
        &LOADS[2],
        &REMOVALS[2],
    ]
}

/// Files of the world that everyone needs; `registry` is what one serves, wherever the world is.
const FILES: [&str; 5] = ["docker.tar", "oci.tar", "rootfs.tar", "made", "registry"];

#[test]
#[ignore = "a part of `cargo xtask test --lab --power-cuts`"]
fn makes_the_disk() {
    let outside = outside();
    let world = World::empty();
    let registry = Registry::start(&world);
    let world = world.on_disk(0);
    operations::prepare(&world);
    operations::fill(&world, &registry);
    for name in FILES {
        copy(&world.path().join(name), &outside);
    }
    let cutter = Cutter::new(&world);
    for operation in operations() {
        let clean = sweep::rehearse(&world, &cutter, operation);
        let left: Vec<String> = clean.left.into_iter().collect();
        let text = format!("{}\n{}", clean.steps.len(), left.join("\n"));
        put(&outside.join(operation.name), &text);
    }
    put(&outside.join("round"), "0");
    drop(registry);
    world.finish();
}

#[test]
#[ignore = "resets the machine: a part of `cargo xtask test --lab --power-cuts`"]
fn is_reset() {
    let outside = outside();
    let (round, operation) = round(&outside);
    let clean = remembered(&outside, operation);
    // Another part of each operation every time it has its turn, a little further each time.
    let turn = round / operations().len();
    let at = 1 + (clean.steps * (5 + 8 * turn) / 13) % clean.steps;
    println!(
        "round {round}: {} up to step {at} of {}",
        operation.name, clean.steps
    );
    let (world, _registry) = brought(&outside);
    sweep::prepare(&world, operation);
    let cut = Cutter::new(&world).run(&world, operation.line, at, How::Machine);
    panic!("the machine was not reset: {}", cut.describe());
}

#[test]
#[ignore = "a part of `cargo xtask test --lab --power-cuts`"]
fn is_looked_at() {
    let outside = outside();
    let (round, operation) = round(&outside);
    let clean = remembered(&outside, operation);
    let (world, registry) = brought(&outside);
    let what = format!("{} of round {round}", operation.name);
    sweep::look(&world, &what);
    if round.is_multiple_of(2) {
        let repeated = world.run(operation.line);
        assert!(
            repeated.code() == Some(0) || !operation.repeats,
            "{what}\nagain: {}",
            repeated.describe()
        );
        sweep::look(&world, &what);
    }
    sweep::take_back(&world, operation, &clean.left, &what);
    put(&outside.join("round"), &(round + 1).to_string());
    drop(registry);
    world.finish();
}

fn outside() -> PathBuf {
    PathBuf::from(std::env::var_os("KETCH_LAB_OUTSIDE").expect("KETCH_LAB_OUTSIDE"))
}

/// Which round it is, and what it is about.
fn round(outside: &Path) -> (usize, &'static Operation) {
    let text = fs::read_to_string(outside.join("round")).expect("the number of the round");
    let round = text.parse().expect("a number");
    (round, operations()[round % operations().len()])
}

/// A world with all that was put outside, a registry that serves it, and the disk.
fn brought(outside: &Path) -> (World, Registry) {
    let world = World::empty();
    for name in FILES {
        copy(&outside.join(name), world.path());
    }
    let registry = Registry::start(&world);
    (world.on_used_disk(), registry)
}

/// What was noted when the disk was made.
struct Remembered {
    steps: usize,
    left: BTreeSet<String>,
}

fn remembered(outside: &Path, operation: &Operation) -> Remembered {
    let text = fs::read_to_string(outside.join(operation.name)).expect("what was noted of it");
    let mut lines = text.lines();
    let steps = lines.next().expect("a number of steps");
    Remembered {
        steps: steps.parse().expect("a number of steps"),
        left: lines.map(str::to_owned).collect(),
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([from, to])
        .status();
    assert!(copied.expect("cp").success());
}

fn put(path: &Path, text: &str) {
    fs::write(path, text).expect("write outside");
}
