//! How long a container takes. Not a test: run with `--ignored`, on a quiet machine, with an optimised build.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use ketch_runtime::cgroup::Cgroup;
use ketch_runtime::seccomp::Program;
use ketch_runtime::{CreateOptions, Rootfs, Stdio};
use ketch_spec::runtime::{Cpu, LinuxResources, LinuxSeccomp, Memory, Pids, Spec};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use crate::Case;
use crate::world::{Change, World, list};

pub const CASES: &[Case] = &[
    ("speed_of_a_whole_container", whole),
    ("speed_of_a_filter", filter_alone),
];

/// What a filter costs at start: read and compiled, compiled, or kept from before.
fn filter_alone() {
    let text = include_str!("../../src/seccomp/docker-default.json");
    let read = || serde_json::from_str::<LinuxSeccomp>(text).unwrap();
    let rules = read();
    let compile = |rules: &LinuxSeccomp| ketch_runtime::seccomp::compile(rules).unwrap();
    let kept = compile(&rules).to_bytes();
    let each = |name: &str, work: &dyn Fn() -> Program| {
        let begin = Instant::now();
        for _ in 0..ROUNDS {
            std::hint::black_box(work());
        }
        let microseconds = begin.elapsed().as_secs_f64() * 1e6 / ROUNDS as f64;
        println!("{microseconds:9.1} us  {name}");
    };
    each("read and compiled", &|| compile(&read()));
    each("compiled", &|| compile(&rules));
    each("kept", &|| Program::from_bytes(&kept).unwrap());
}

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

/// Runs a container of `/bin/true`, and says when each part of it was over.
fn round(world: &World, spec: &Spec, resources: &LinuxResources, filter: &Program) -> [Instant; 7] {
    let upper = world.scratch().join("upper");
    let begin = Instant::now();
    let cgroup = Cgroup::create("/ketch-speed/x", resources).unwrap();
    let grouped = Instant::now();
    let root = overlay(world, &upper);
    let mut container = ketch_runtime::create(CreateOptions {
        cgroup: Some(&cgroup),
        seccomp: Some(filter),
        ..CreateOptions::new(
            spec,
            Rootfs::Detached(root.as_fd()),
            Path::new("/"),
            Stdio::Inherit,
        )
    })
    .unwrap();
    drop(root);
    let created = Instant::now();
    container.wait_prepared().unwrap();
    let prepared = Instant::now();
    container.start().unwrap();
    let started = Instant::now();
    container.wait().unwrap();
    let reaped = Instant::now();
    container.release_mounts();
    cgroup.remove(Duration::from_secs(1)).unwrap();
    let cleaned = Instant::now();
    std::fs::remove_dir_all(upper).unwrap();
    [begin, grouped, created, prepared, started, reaped, cleaned]
}

fn whole() {
    let world = World::new();
    let mut spec = world.spec("");
    // The floor's program is a static `true` of its own; busybox is the nearest.
    spec.process_mut().args = list(&["/bin/true"]);
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
    let profile = include_str!("../../src/seccomp/docker-default.json");
    let filter = ketch_runtime::seccomp::compile(&serde_json::from_str(profile).unwrap()).unwrap();
    let rounds: Vec<[Instant; 7]> = (0..ROUNDS)
        .map(|_| round(&world, &spec, &resources, &filter))
        .collect();
    let parts = [
        ("cgroup", 0, 1),
        ("overlay+create", 1, 2),
        ("prepared", 2, 3),
        ("start", 3, 4),
        ("exit+reap", 4, 5),
        ("clean up", 5, 6),
        ("begin to end", 0, 5),
        ("whole", 0, 6),
    ];
    for (name, from, to) in parts {
        let mut times: Vec<Duration> = rounds.iter().map(|at| at[to] - at[from]).collect();
        times.sort_unstable();
        println!(
            "{name:16} median {:?}  min {:?}",
            times[ROUNDS / 2],
            times[0]
        );
    }
}
