//! A disk that gets full: it is said, nothing half-made stays, and it goes on once there is room.

use std::path::PathBuf;

use ketch_test_support::{Cutter, Registry, World};

use crate::operations::{self, BUILDS, LOADS, Operation, PULLS, REMOVALS};
use crate::sweep::{self, Clean};

/// A disk that is full quickly.
const DISK_MEBIBYTES: u32 = 48;

/// What is left on the disk when an operation begins, in KiB: less than most of them need. The short form takes some.
const ROOM_KIBIBYTES: [u64; 8] = [64, 0, 900, 8, 24, 200, 400, 1500];
const SHORT: usize = 2;

#[test]
fn a_full_disk_is_told_and_what_was_begun_is_gone() {
    let world = World::empty();
    let registry = Registry::start(&world);
    let world = world.on_disk(DISK_MEBIBYTES);
    operations::prepare(&world);
    operations::fill(&world, &registry);
    let cutter = Cutter::new(&world);
    let rooms = match sweep::is_long() {
        true => ROOM_KIBIBYTES.as_slice(),
        false => &ROOM_KIBIBYTES[..SHORT],
    };
    let mut refused = 0;
    for operation in PULLS.iter().chain(LOADS).chain(&BUILDS[..2]) {
        let clean = sweep::rehearse(&world, &cutter, operation);
        for &room in rooms {
            refused += usize::from(run_out_of_room(&world, operation, &clean, room));
        }
    }
    assert!(refused > 8, "the disk was not full: {refused} refusals");
    drop(registry);
    world.finish();
}

/// Whether the operation was refused.
fn run_out_of_room(world: &World, operation: &Operation, clean: &Clean, room: u64) -> bool {
    let what = format!("{} with {room} KiB left", operation.name);
    sweep::prepare(world, operation);
    let filler = fill_up(world, room);
    let ran = world.run(operation.line);
    let is_refused = ran.code() != Some(0);
    if is_refused {
        let said = ran.stderr().to_lowercase();
        // What a step of a build ran has its own words, which `-q` does not show.
        assert!(
            said.contains("no space left on device")
                || said.contains("did not complete successfully: exit code: 1"),
            "{what}: {}",
            ran.describe()
        );
    }
    // What is here can be looked at all the same.
    sweep::ok(world, "images", &what);
    sweep::ok(world, "ps -a", &what);
    std::fs::remove_file(filler).expect("make room");
    sweep::look(world, &what);
    sweep::ok(world, operation.line, &what);
    sweep::look(world, &what);
    sweep::take_back(world, operation, &clean.left, &what);
    is_refused
}

#[test]
fn removals_make_room_on_a_full_disk() {
    let world = World::empty().on_disk(DISK_MEBIBYTES);
    operations::prepare(&world);
    let cutter = Cutter::new(&world);
    for operation in &REMOVALS[1..] {
        let what = format!("{} on a full disk", operation.name);
        let clean = sweep::rehearse(&world, &cutter, operation);
        sweep::prepare(&world, operation);
        let filler = fill_up(&world, 0);
        sweep::ok(&world, operation.line, &what);
        std::fs::remove_file(filler).expect("make room");
        sweep::look(&world, &what);
        sweep::take_back(&world, operation, &clean.left, &what);
    }
    world.finish();
}

/// Fills the disk but for some KiB; the file that does it.
fn fill_up(world: &World, room: u64) -> PathBuf {
    let data = world.seen(&world.data_root());
    let filler = data.join("lost+found/filler");
    // What is not yet written has blocks only when it is. Large pieces first, or it takes many.
    let line = format!(
        "sync -f {data}; have=0; free() {{ echo $(($(stat -f -c '%f * %S' {data}) - {room} * 1024)); }}; \
         for piece in 1048576 65536 4096 1024; do \
         while [ $(free) -ge $piece ] && fallocate -o $have -l $piece {filler} 2> /dev/null; do have=$((have + piece)); done; \
         done",
        data = data.display(),
        filler = filler.display(),
    );
    let status = std::process::Command::new("sh")
        .args(["-c", &line])
        .status();
    assert!(status.expect("sh").success(), "{line}");
    filler
}
