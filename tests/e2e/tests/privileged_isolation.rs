//! What a container may not do, and what its limits are.

use ketch_test_support::{World, eventually};

#[test]
fn a_container_sees_only_itself() {
    let world = World::with_busybox();
    assert_eq!(world.run("run --rm busybox sh -c 'echo $$'").ok(), "1");
    assert_eq!(
        world.run("run --rm --hostname inner busybox hostname").ok(),
        "inner"
    );
    let short = world.run("run --rm busybox hostname").ok();
    assert!(
        short.len() == 12 && short.bytes().all(|b| b.is_ascii_hexdigit()),
        "{short}"
    );
    let mounts = world.run("run --rm busybox cat /proc/self/mountinfo").ok();
    assert!(
        mounts
            .lines()
            .next()
            .is_some_and(|line| line.contains(" / / ") && line.contains("overlay")),
        "{mounts}"
    );
    let links = world
        .run("run --rm --network none busybox ls /sys/class/net")
        .ok();
    assert_eq!(links, "lo");
    world.finish();
}

#[test]
fn default_capabilities_are_docker_s() {
    let world = World::with_busybox();
    let caps = |flags: &str| {
        world
            .run(&format!(
                "run --rm {flags} busybox sh -c 'grep CapEff /proc/self/status'"
            ))
            .ok()
    };
    assert_eq!(caps(""), "CapEff:\t00000000a80425fb");
    assert_eq!(caps("--cap-drop ALL"), "CapEff:\t0000000000000000");
    assert_eq!(
        caps("--cap-drop ALL --cap-add NET_BIND_SERVICE"),
        "CapEff:\t0000000000000400"
    );
    assert_eq!(caps("-u nobody"), "CapEff:\t0000000000000000");
    world.finish();
}

#[test]
fn the_default_filter_and_masks_hold() {
    let world = World::with_busybox();
    world.run("run --rm busybox unshare -m true").fails(1);
    assert_eq!(
        world
            .run("run --rm busybox sh -c 'grep Seccomp: /proc/self/status'")
            .ok(),
        "Seccomp:\t2"
    );
    assert_eq!(world.run("run --rm --security-opt seccomp=unconfined busybox sh -c 'grep Seccomp: /proc/self/status'").ok(), "Seccomp:\t0");
    assert_eq!(world.run("run --rm busybox cat /proc/timer_list").ok(), "");
    let written = world
        .run("run --rm busybox sh -c 'echo 1 > /proc/sys/kernel/panic'")
        .fails(1);
    assert!(written.contains("Read-only file system"), "{written}");
    assert_eq!(
        world
            .run("run --rm busybox ls /proc/acpi /sys/firmware")
            .stdout()
            .replace(['\n', ' '], ""),
        "/proc/acpi:/sys/firmware:"
    );
    world
        .run("run --rm busybox mount -t tmpfs none /tmp")
        .fails(1);
    world
        .run("run --rm --privileged busybox mount -t tmpfs none /tmp")
        .ok();
    assert_eq!(world.run("run --rm --security-opt no-new-privileges busybox sh -c 'grep NoNewPrivs /proc/self/status'").ok(), "NoNewPrivs:\t1");
    let read_only = world.run("run --rm --read-only busybox touch /x").fails(1);
    assert!(read_only.contains("Read-only file system"), "{read_only}");
    world.finish();
}

#[test]
fn limits_bite() {
    let world = World::with_busybox();
    let killed =
        world.run("run --name hungry --memory 16m busybox sh -c 'x=a; while :; do x=$x$x; done'");
    killed.fails(137);
    assert_eq!(
        world
            .run("inspect --format {{.State.OOMKilled}} hungry")
            .ok(),
        "true"
    );
    world.run("rm hungry").ok();
    let forks = world.run("run --rm --pids-limit 8 busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; wait'");
    assert!(
        forks.stderr().contains("can't fork"),
        "{}",
        forks.describe()
    );
    world
        .run("run -d --name half --cpus 0.5 --memory 64m busybox sleep 600")
        .ok();
    assert_eq!(
        world
            .run("inspect --format '{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}}' half")
            .ok(),
        "500000000 67108864"
    );
    world.run("rm -f half").ok();
    world.finish();
}

#[test]
fn the_own_binary_cannot_be_overwritten_from_inside() {
    let world = World::with_busybox();
    let before = std::fs::read(ketch_test_support::program()).expect("read the program");
    // the class of CVE-2019-5736: make the runtime execute itself inside the container, and write to it from there
    world.run("run -d --name evil --cap-add SYS_PTRACE busybox sh -c 'printf \"#!/proc/self/exe\\n\" > /bin/trap; chmod +x /bin/trap; while :; do for p in /proc/[0-9]*; do [ $(readlink $p/exe) = /bin/busybox ] || echo owned > $p/exe; done 2>/dev/null; done'").ok();
    for _ in 0..20 {
        let _ = world.run("exec evil /bin/trap").code();
        let _ = world.run("exec evil /proc/self/exe version").code();
    }
    world.run("rm -f evil").ok();
    assert!(
        std::fs::read(ketch_test_support::program()).expect("read the program") == before,
        "the program changed"
    );
    world.finish();
}

#[test]
fn no_descriptor_of_the_host_leaks_into_a_container() {
    let world = World::with_busybox();
    let open = world
        .run("run --rm busybox sh -c 'ls -l /proc/self/fd'")
        .ok();
    let outside: Vec<_> = open
        .lines()
        .filter(|line| {
            line.contains("->")
                && !line.contains("/proc/")
                && !line.contains("pipe:")
                && !line.contains("/dev/null")
        })
        .collect();
    assert!(outside.is_empty(), "{open}");
    // CVE-2024-21626: a working directory reached through a leaked descriptor
    for fd in 3..12 {
        let escaped = world.run(&format!(
            "run --rm -w /proc/self/fd/{fd} busybox cat ../../../etc/hostname"
        ));
        assert_ne!(escaped.code(), Some(0), "{}", escaped.describe());
    }
    world.finish();
}

#[test]
fn links_in_an_image_lead_mounts_nowhere_else() {
    let world = World::with_busybox();
    world.file("trap/Dockerfile", "FROM busybox\nRUN rm -rf /proc /sys /dev || true\nRUN mkdir -p /t && ln -s ../../../../../../tmp/ketch-escape /t/out && ln -s / /t/root\n");
    world.run("build -q -t trap trap").ok();
    world.run("run --rm -v vol:/t/out/deep trap sh -c 'touch /t/out/deep/x; ls /tmp/ketch-escape/deep'").ok();
    assert!(!std::path::Path::new("/tmp/ketch-escape").exists());
    world.run("rmi trap").ok();
    world.run("volume rm vol").ok();
    world.finish();
}

#[test]
fn a_terminal_is_one() {
    let world = World::with_busybox();
    let typed = world.on_host(&format!(
        "script -qec '{} --data-root {} --run-root {} run --rm -t busybox tty' /dev/null",
        ketch_test_support::program().display(),
        world.data_root().display(),
        world.run_root().display()
    ));
    assert_eq!(typed.ok().trim(), "/dev/pts/0");
    world.finish();
}

#[test]
fn init_reaps_orphans() {
    let world = World::with_busybox();
    world.run("run -d --init --name tidy busybox sh -c 'while :; do sh -c \"sleep 0 &\"; sleep 1; done'").ok();
    eventually("init is process 1", || {
        world
            .run("exec tidy cat /proc/1/cmdline")
            .stdout()
            .contains("init")
            .then_some(())
    });
    let zombies = world
        .run("exec tidy sh -c 'grep -l \"State:.Z\" /proc/[0-9]*/status 2>/dev/null | wc -l'")
        .ok();
    assert_eq!(zombies, "0");
    world.run("rm -f tidy").ok();
    world.finish();
}

/// A profile may leave system calls to an agent, which hears of the container's processes and of those that join it.
#[test]
fn privileged_an_agent_of_system_calls_hears_of_every_process() {
    use std::io::Read;

    let world = World::with_busybox();
    let socket = world.path().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let profile = world.path().join("profile.json");
    let text = serde_json::json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": socket,
        "listenerMetadata": "of the test",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    std::fs::write(&profile, text.to_string()).unwrap();
    // It reads without taking the descriptor, so that the kernel closes it: nobody answers, the calls are ENOSYS.
    let agent = std::thread::spawn(move || {
        let heard = |_| {
            let mut bytes = Vec::new();
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_to_end(&mut bytes).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        [0, 1].map(heard) as [serde_json::Value; 2]
    });
    let option = format!("--security-opt seccomp={}", profile.display());
    let id = world
        .run(&format!("run -d --name box {option} busybox sleep 1000"))
        .ok();
    let error = world.run("exec box mkdir /x").fails(1);
    assert!(error.contains("Function not implemented"), "{error}");
    for (state, status) in agent.join().unwrap().iter().zip(["creating", "running"]) {
        assert_eq!(state["fds"], serde_json::json!(["seccompFd"]));
        assert_eq!(state["metadata"], "of the test");
        assert_eq!(state["state"]["id"], id.as_str());
        assert_eq!(state["state"]["status"], status);
        assert!(state["pid"].as_u64().unwrap() > 0);
    }
    // Nobody listens any more: a process without its agent does not run.
    let error = world.run("exec box true").fails(1);
    assert!(error.contains("agent.sock"), "{error}");
    world.run("rm -f box").ok();
    world.finish();
}
