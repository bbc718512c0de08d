//! AppArmor from the command line to the program. On a machine that has it (the lab's have), containers run under
//! Docker's default profile; on one that has not, a profile is refused by name. Needs root.

use ketch_test_support::World;

const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

fn has_apparmor() -> bool {
    let on = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    on.is_ok_and(|text| text.starts_with('Y')) && std::fs::read_to_string(PROFILES).is_ok()
}

fn profile(world: &World, flags: &str) -> String {
    let line =
        format!("run --rm --network none {flags} busybox cat /proc/self/attr/apparmor/current");
    world.run(&line).ok()
}

#[test]
fn privileged_without_apparmor_profiles_are_refused_by_name() {
    if has_apparmor() {
        return;
    }
    let world = World::with_busybox();
    let error = world
        .run("run --rm --security-opt apparmor=mine busybox true")
        .fails(125);
    assert!(error.contains("apparmor=mine is not supported"), "{error}");
    assert_eq!(world.run("ps -aq").ok(), "");
    let run = "run --rm --network none --security-opt apparmor=unconfined busybox echo fine";
    assert_eq!(world.run(run).ok(), "fine");
    let options = world.run("info --format {{.SecurityOptions}}").ok();
    assert!(!options.contains("apparmor"), "{options}");
    world.run("create --name box busybox true").ok();
    assert_eq!(
        world.run("inspect --format {{.AppArmorProfile}} box").ok(),
        ""
    );
    world.run("rm box").ok();
    world.finish();
}

#[test]
fn privileged_with_apparmor_containers_run_under_docker_s_profile() {
    if !has_apparmor() {
        return;
    }
    let world = World::with_busybox();
    let options = world.run("info --format '{{json .SecurityOptions}}'").ok();
    assert!(options.contains("\"name=apparmor\""), "{options}");
    assert_eq!(profile(&world, ""), "docker-default (enforce)");
    // It is loaded only where it is missing.
    assert_eq!(profile(&world, ""), "docker-default (enforce)");
    assert_eq!(
        profile(&world, "--security-opt apparmor=docker-default"),
        "docker-default (enforce)"
    );
    assert_eq!(
        profile(&world, "--security-opt apparmor=unconfined"),
        "unconfined"
    );
    assert_eq!(profile(&world, "--privileged"), "unconfined");
    let error = world
        .run(
            "run --rm --network none --security-opt apparmor=ketch-nobody-loaded-this busybox true",
        )
        .fails(125);
    assert!(error.contains("no profile of that name"), "{error}");
    assert_eq!(world.run("ps -aq").ok(), "");
    world.finish();
}

#[test]
fn privileged_docker_s_profile_denies_what_docker_s_does() {
    if !has_apparmor() {
        return;
    }
    let world = World::with_busybox();
    let all =
        "--cap-add ALL --security-opt seccomp=unconfined --security-opt systempaths=unconfined";
    let sh = |script: &str| {
        world.run(&format!(
            "run --rm --network none {all} busybox sh -c '{script}'"
        ))
    };
    for denied in [
        "mount -t tmpfs none /tmp",
        "echo 1 > /proc/sys/kernel/panic",
        "echo 1 > /proc/sys/vm/swappiness",
        "echo h > /proc/sysrq-trigger",
        "head -c 1 /proc/kcore",
        "ls /sys/firmware/acpi",
    ] {
        let ran = sh(denied);
        assert_ne!(ran.code(), Some(0), "{denied}");
        let said = ran.stderr().to_lowercase();
        assert!(said.contains("permission denied"), "{denied}: {said}");
    }
    for allowed in [
        "echo 0 > /proc/self/oom_score_adj",
        "cat /proc/sys/kernel/panic",
        "echo 1000 > /proc/sys/kernel/shmmni",
        "sleep 100 & kill $!",
        "ls /sys/fs/cgroup",
        "echo x > /tmp/file && cat /tmp/file",
    ] {
        sh(allowed).ok();
    }
    world.finish();
}

#[test]
fn privileged_sessions_run_under_the_profile_of_their_container() {
    if !has_apparmor() {
        return;
    }
    let world = World::with_busybox();
    for (flags, shown) in [
        ("", "docker-default (enforce)"),
        ("--security-opt apparmor=unconfined", "unconfined"),
    ] {
        world
            .run(&format!(
                "run -d --name box --network none {flags} busybox sleep 1000"
            ))
            .ok();
        let current = "cat /proc/self/attr/apparmor/current";
        assert_eq!(world.run(&format!("exec box {current}")).ok(), shown);
        assert_eq!(
            world.run(&format!("exec --privileged box {current}")).ok(),
            shown
        );
        let named = shown.trim_end_matches(" (enforce)");
        assert_eq!(
            world.run("inspect --format {{.AppArmorProfile}} box").ok(),
            named
        );
        // A container under a profile can be stopped by an engine without one.
        world.run("stop -t 0 box").ok();
        world.run("rm box").ok();
    }
    world.finish();
}
