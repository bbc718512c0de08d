//! How long a container takes. Not a test: run with `--ignored`, on a quiet machine, with an optimised build.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use ketch_runtime::cgroup::Cgroup;
use ketch_runtime::{CreateOptions, Rootfs, Stdio};
use ketch_spec::runtime::{Cpu, LinuxResources, Memory, Pids};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use crate::Case;
use crate::world::{Change, World, list};

pub const CASES: &[Case] = &[("speed_of_a_whole_container", whole)];

const ROUNDS: usize = 200;

fn overlay(world: &World, upper: &Path) -> OwnedFd {
    let (up, work) = (upper.join("up"), upper.join("work"));
    std::fs::create_dir_all(&up).unwrap();
    std::fs::create_dir_all(&work).unwrap();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_set_string(context.as_fd(), "lowerdir", world.root().as_path()).unwrap();
    fsconfig_set_string(context.as_fd(), "upperdir", up.as_path()).unwrap();
    fsconfig_set_string(context.as_fd(), "workdir", work.as_path()).unwrap();
    fsconfig_create(context.as_fd()).unwrap();
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .unwrap()
}

fn whole() {
    let world = World::new();
    let mut spec = world.spec("");
    spec.process_mut().args = list(&["/bin/true"]);
    // The floor's program is a static `true` of its own; busybox is the nearest.
    let resources = LinuxResources {
        memory: Some(Memory {
            limit: Some(256 << 20),
            ..Memory::default()
        }),
        cpu: Some(Cpu {
            quota: Some(100_000),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: 100 }),
        ..LinuxResources::default()
    };
    let filter = ketch_spec::runtime::LinuxSeccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        ..Default::default()
    };
    let program = ketch_runtime::seccomp::compile(&filter).unwrap();
    let mut times: [Vec<Duration>; 8] = Default::default();
    for round in 0..ROUNDS {
        let upper = world.scratch().join(format!("upper{round}"));
        let mut at = vec![Instant::now()];
        let cgroup = Cgroup::create("/ketch-speed/x", &resources).unwrap();
        at.push(Instant::now());
        let root = overlay(&world, &upper);
        let mut container = ketch_runtime::create(CreateOptions {
            spec: &spec,
            rootfs: Rootfs::Detached(root.as_fd()),
            bundle: Path::new("/"),
            cgroup: Some(&cgroup),
            stdio: Stdio::Inherit,
            preserve_fds: 0,
            seccomp: Some(&program),
        })
        .unwrap();
        drop(root);
        at.push(Instant::now());
        container.wait_prepared().unwrap();
        at.push(Instant::now());
        container.start().unwrap();
        at.push(Instant::now());
        container.wait().unwrap();
        at.push(Instant::now());
        container.release_mounts();
        cgroup.remove(Duration::from_secs(1)).unwrap();
        at.push(Instant::now());
        for (index, pair) in at.windows(2).enumerate() {
            times[index].push(pair[1] - pair[0]);
        }
        times[6].push(at[5] - at[0]);
        times[7].push(at[6] - at[0]);
        std::fs::remove_dir_all(upper).unwrap();
    }
    let names = [
        "cgroup",
        "overlay+create",
        "prepared",
        "start",
        "exit+reap",
        "clean up",
        "begin to end",
        "whole",
    ];
    for (name, mut times) in names.into_iter().zip(times) {
        times.sort_unstable();
        println!(
            "{name:16} median {:?}  min {:?}",
            times[ROUNDS / 2],
            times[0]
        );
    }
}
