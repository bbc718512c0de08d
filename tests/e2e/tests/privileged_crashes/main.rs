//! Nothing is lost and nothing stays when a command that works on images is killed, or the machine loses its power, at
//! any step. Needs root; the power cuts need loop devices and ext4.
//!
//! The short form ends each operation at a few points, evenly spread over all that it does to the disk. `cargo xtask test
//! --crashes` does it at each, `cargo xtask test --lab --power-cuts` on other kernels and by resetting whole machines.

// A run takes long, and says how far it is.
#![allow(clippy::print_stdout)]

mod full;
mod machine;
mod operations;
mod pulls;
mod sweep;

use ketch_test_support::{How, World};

use operations::{BUILDS, LOADS, Operation, REMOVALS};
use sweep::sweep;

fn killed(operations: &[Operation]) {
    let mut world = World::empty();
    operations::prepare(&world);
    sweep(&mut world, operations, How::All);
    world.finish();
}

/// A disk of this size has room for all that an operation does.
const DISK_MEBIBYTES: u32 = 160;

fn without_power(operations: &[Operation]) {
    let mut world = World::empty().on_disk(DISK_MEBIBYTES);
    operations::prepare(&world);
    sweep(&mut world, operations, How::Power);
    world.finish();
}

#[test]
fn loads_may_be_killed_at_every_step() {
    killed(LOADS);
}

#[test]
fn loads_may_lose_power_at_every_step() {
    without_power(LOADS);
}

#[test]
fn builds_may_be_killed_at_every_step() {
    killed(BUILDS);
}

#[test]
fn builds_may_lose_power_at_every_step() {
    without_power(BUILDS);
}

#[test]
fn clients_may_be_killed_while_their_containers_go_on() {
    let mut world = World::empty();
    operations::prepare(&world);
    sweep(&mut world, BUILDS, How::Alone);
    world.finish();
}

#[test]
fn removals_may_be_killed_at_every_step() {
    killed(REMOVALS);
}

#[test]
fn removals_may_lose_power_at_every_step() {
    without_power(REMOVALS);
}
