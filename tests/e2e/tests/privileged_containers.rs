//! Containers: run, exit codes, streams, exec, logs, stop, copy, listings.

use ketch_test_support::{World, eventually};

#[test]
fn run_passes_output_and_exit_codes_through() {
    let world = World::with_busybox();
    assert_eq!(world.run("run --rm busybox echo hello").ok(), "hello");
    let both = world.run("run --rm busybox sh -c 'echo out; echo err >&2; exit 42'");
    assert_eq!(both.stdout(), "out");
    assert_eq!(both.fails(42), "err");
    // process 1 has no default actions, so a child is what a signal ends
    world
        .run("run --rm busybox sh -c 'sh -c \"kill -TERM \\$\\$\"; exit $?'")
        .fails(143);
    world
        .run("run --rm busybox sh -c 'sh -c \"kill -KILL \\$\\$\"; exit $?'")
        .fails(137);
    let missing = world.run("run --rm busybox no-such-program").fails(127);
    assert!(
        missing.contains("executable file not found in $PATH"),
        "{missing}"
    );
    let directory = world.run("run --rm busybox /etc").fails(126);
    assert!(
        directory.contains("permission denied") || directory.contains("is a directory"),
        "{directory}"
    );
    world.run("run --rm --no-such-flag busybox true").fails(125);
    world.finish();
}

#[test]
fn large_output_arrives_whole_and_in_order() {
    let world = World::with_busybox();
    let text = world.run("run --rm busybox seq 1 200000").ok();
    assert_eq!(text.lines().count(), 200_000);
    assert!(
        text.lines()
            .zip(1..)
            .all(|(line, number)| line == number.to_string())
    );
    world.finish();
}

#[test]
fn standard_input_reaches_the_container() {
    let world = World::with_busybox();
    assert_eq!(
        world
            .run_with_input("run --rm -i busybox cat", b"from outside\n")
            .ok(),
        "from outside"
    );
    assert_eq!(world.run("run --rm busybox cat").ok(), "");
    let large = vec![b'x'; 3_000_000];
    assert_eq!(
        world
            .run_with_input("run --rm -i busybox wc -c", &large)
            .ok(),
        "3000000"
    );
    world.finish();
}

#[test]
fn a_detached_container_lives_until_it_is_stopped() {
    let world = World::with_busybox();
    let id = world.run("run -d --name web busybox sleep 600").ok();
    assert_eq!(id.len(), 64);
    assert!(world.run("ps").ok().contains("Up "));
    assert_eq!(world.run("ps -q").ok(), id[..12]);
    assert_eq!(world.run("ps -q --no-trunc").ok(), id);
    assert_eq!(world.run("exec web echo inside").ok(), "inside");
    assert_eq!(world.run("stop -t 0 web").ok(), "web");
    assert_eq!(world.run("ps -q").ok(), "");
    assert!(world.run("ps -a").ok().contains("Exited (137)"));
    assert_eq!(world.run("start web").ok(), "web");
    assert_eq!(
        world.run("inspect --format {{.State.Status}} web").ok(),
        "running"
    );
    let refused = world.run("rm web").fails(1);
    assert!(
        refused.contains("running") && refused.contains("force remove"),
        "{refused}"
    );
    assert_eq!(world.run("rm -f web").ok(), "web");
    world.run("inspect web").fails(1);
    world.finish();
}

#[test]
fn stop_sends_the_stop_signal_first() {
    let world = World::with_busybox();
    world.run("run -d --name polite busybox sh -c 'trap \"echo bye; exit 3\" TERM; while :; do sleep 1; done'").ok();
    // the trap must be set before the signal is sent
    eventually("the shell runs", || {
        world
            .run("exec polite pidof sleep")
            .stdout()
            .parse::<u32>()
            .ok()
    });
    world.run("stop polite").ok();
    assert_eq!(world.run("logs polite").ok(), "bye");
    assert_eq!(world.run("wait polite").ok(), "3");
    world.run("rm polite").ok();
    world.finish();
}

#[test]
fn wait_gives_the_exit_code_of_a_running_container() {
    let world = World::with_busybox();
    world
        .run("run -d --name short busybox sh -c 'read line || exit 7'")
        .ok();
    assert_eq!(
        world.run("wait short").ok(),
        "7",
        "standard input is closed, so read fails"
    );
    world.run("rm short").ok();
    world
        .run("run -d -i --name held busybox sh -c 'read line; exit 7'")
        .ok();
    let waiting = world.spawn("wait held");
    world.run("kill -s TERM held").ok();
    world.run("kill held").ok();
    let output = waiting.wait_with_output().expect("wait ends");
    let code = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(code == "137" || code == "143", "{code}");
    world.run("rm held").ok();
    world.finish();
}

#[test]
fn logs_keep_streams_order_and_times() {
    let world = World::with_busybox();
    world.run("run --name talk busybox sh -c 'for i in 1 2 3; do echo line $i; done; echo problem >&2'").ok();
    let logs = world.run("logs talk");
    assert_eq!(logs.stdout(), "line 1\nline 2\nline 3");
    assert_eq!(logs.stderr(), "problem");
    world.run("run --name count busybox seq 1 1000").ok();
    assert_eq!(world.run("logs --tail 2 count").ok(), "999\n1000");
    assert_eq!(world.run("logs -n 0 count").ok(), "");
    let stamped = world.run("logs -t --tail 4 count").ok();
    assert!(
        stamped
            .lines()
            .all(|line| line.as_bytes()[4] == b'-' && line.contains("Z ")),
        "{stamped}"
    );
    world.run("rm talk count").ok();
    world.finish();
}

#[test]
fn logs_follow_ends_with_the_container() {
    let world = World::with_busybox();
    world
        .run("run -d -i --name talk busybox sh -c 'echo first; read line; echo last'")
        .ok();
    let following = world.spawn("logs -f talk");
    let feeder = world.run_with_input("attach talk", b"go on\n");
    assert_eq!(feeder.code(), Some(0), "{}", feeder.describe());
    let output = following.wait_with_output().expect("logs -f ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "first\nlast\n");
    world.run("rm talk").ok();
    world.finish();
}

#[test]
fn exec_has_its_own_user_directory_environment_and_code() {
    let world = World::with_busybox();
    world.run("run -d --name box -e A=1 busybox sleep 600").ok();
    assert_eq!(world.run("exec -w /tmp box pwd").ok(), "/tmp");
    assert_eq!(world.run("exec -u nobody box id -un").ok(), "nobody");
    assert_eq!(world.run("exec -e B=2 box sh -c 'echo $A$B'").ok(), "12");
    world.run("exec box sh -c 'exit 9'").fails(9);
    world.run("exec box no-such-program").fails(127);
    assert_eq!(
        world.run_with_input("exec -i box cat", b"through").ok(),
        "through"
    );
    world
        .run("exec -d box sh -c 'echo done > /tmp/detached'")
        .ok();
    eventually("the detached process wrote", || {
        (world.run("exec box cat /tmp/detached").stdout() == "done").then_some(())
    });
    let gone = world.run("exec nobody-there true").fails(1);
    assert!(gone.contains("No such container: nobody-there"), "{gone}");
    world.run("rm -f box").ok();
    let stopped = world.run("create --name box busybox true");
    stopped.ok();
    let refused = world.run("exec box true").fails(1);
    assert!(refused.contains("is not running"), "{refused}");
    world.run("rm box").ok();
    world.finish();
}

#[test]
fn copy_goes_both_ways_for_running_and_stopped_containers() {
    let world = World::with_busybox();
    world.file("in/a.txt", "alpha");
    world.file("in/deep/b.txt", "beta");
    world
        .run("run -d --name box -v data:/data busybox sleep 600")
        .ok();
    world.run("cp in box:/tmp").ok();
    assert_eq!(world.run("exec box cat /tmp/in/deep/b.txt").ok(), "beta");
    world.run("cp in/a.txt box:/data/renamed").ok();
    assert_eq!(world.run("exec box cat /data/renamed").ok(), "alpha");
    world.run("stop -t 0 box").ok();
    world.run("cp box:/tmp/in out").ok();
    assert_eq!(
        std::fs::read_to_string(world.path().join("out/deep/b.txt")).expect("copied out"),
        "beta"
    );
    world.run("cp box:/data/renamed fromvolume").ok();
    assert_eq!(
        std::fs::read_to_string(world.path().join("fromvolume")).expect("copied out"),
        "alpha"
    );
    let missing = world.run("cp box:/nothing .").fails(1);
    assert!(
        missing.contains("Could not find the file /nothing in container box"),
        "{missing}"
    );
    world.run("rm -f box").ok();
    world.run("volume rm data").ok();
    world.finish();
}

#[test]
fn a_restart_policy_restarts_and_a_user_stops_it() {
    let world = World::with_busybox();
    world
        .run("run -d --name crash --restart on-failure:2 busybox sh -c 'echo try; exit 1'")
        .ok();
    eventually("two restarts", || {
        (world
            .run("inspect -f {{.RestartCount}}-{{.State.Status}} crash")
            .stdout()
            == "2-exited")
            .then_some(())
    });
    assert_eq!(world.run("logs crash").ok(), "try\ntry\ntry");
    world
        .run("run -d --name keep --restart always busybox sh -c 'exit 0'")
        .ok();
    eventually("a restart", || {
        (world.run("inspect -f {{.RestartCount}} keep").stdout() != "0").then_some(())
    });
    world.run("stop keep").ok();
    assert_eq!(
        world.run("inspect -f {{.State.Status}} keep").ok(),
        "exited"
    );
    world.run("rm crash keep").ok();
    world.finish();
}

#[test]
fn a_restart_leaves_a_container_that_removes_itself_in_place() {
    let world = World::with_busybox();
    world
        .run("run -d --rm --name once -v /kept busybox sh -c 'echo x >> /kept/runs; echo up; trap exit TERM; while :; do usleep 10000; done'")
        .ok();
    let id = world.run("inspect -f {{.Id}} once").ok();
    let volume = world.run("volume ls -q").ok();
    for runs in 2..4 {
        world.run("restart once").ok();
        assert_eq!(world.run("inspect -f {{.Id}} once").ok(), id);
        assert_eq!(world.run("volume ls -q").ok(), volume);
        eventually("the next run", || {
            let told = world.run("exec once wc -l /kept/runs").stdout();
            told.starts_with(&runs.to_string()).then_some(())
        });
    }
    // The next stop is an end as any other.
    world.run("stop once").ok();
    world.run("inspect once").fails(1);
    assert_eq!(world.run("volume ls -q").ok(), "");
    world.finish();
}

#[test]
fn names_are_unique_and_can_change() {
    let world = World::with_busybox();
    world.run("create --name one busybox true").ok();
    let conflict = world.run("create --name one busybox true").fails(1);
    assert!(
        conflict.contains("Conflict. The container name \"/one\" is already in use by container"),
        "{conflict}"
    );
    world.run("rename one two").ok();
    world.run("inspect one").fails(1);
    world.run("run -d --name live busybox sleep 600").ok();
    world.run("rename live lively").ok();
    assert_eq!(world.run("ps --format {{.Names}}").ok(), "lively");
    world.run("rm -f two lively").ok();
    world.finish();
}

#[test]
fn listings_filter_and_format() {
    let world = World::with_busybox();
    world
        .run("run -d --name aa --label tier=front busybox sleep 600")
        .ok();
    world
        .run("create --name bb --label tier=back busybox true")
        .ok();
    assert_eq!(
        world
            .run("ps -a --filter label=tier=back --format {{.Names}}")
            .ok(),
        "bb"
    );
    assert_eq!(
        world
            .run("ps -a --filter status=running --format {{.Names}}")
            .ok(),
        "aa"
    );
    assert_eq!(
        world
            .run("ps -a --filter name=^/bb$ --format {{.Names}}")
            .ok(),
        "bb"
    );
    assert_eq!(
        world
            .run("ps --format 'table {{.Names}}\\t{{.Status}}'")
            .ok()
            .lines()
            .next()
            .map(str::trim),
        Some("NAMES     STATUS")
    );
    let row: serde_json::Value =
        serde_json::from_str(&world.run("ps --format json").ok()).expect("one JSON object");
    assert_eq!(row["Names"], "aa");
    assert_eq!(row["Labels"], "tier=front");
    assert!(
        world
            .run("ps")
            .ok()
            .starts_with("CONTAINER ID   IMAGE     COMMAND")
    );
    let bad = world.run("ps --filter nonsense=1").fails(1);
    assert!(bad.contains("invalid filter 'nonsense'"), "{bad}");
    assert!(world.run("top aa").ok().contains("sleep 600"));
    world.run("rm -f aa bb").ok();
    world.finish();
}

#[test]
fn an_image_never_changes_because_of_its_containers() {
    let world = World::with_busybox();
    let before = world
        .run("inspect --format {{.Id}}{{.RootFS}}{{.Config}} busybox")
        .ok();
    world
        .run("run --rm busybox sh -c 'echo changed > /etc/passwd; rm /bin/true'")
        .ok();
    assert!(
        world
            .run("run --rm busybox cat /etc/passwd")
            .ok()
            .starts_with("root:x:0:0")
    );
    world.run("run --rm busybox true").ok();
    assert_eq!(
        world
            .run("inspect --format {{.Id}}{{.RootFS}}{{.Config}} busybox")
            .ok(),
        before
    );
    let in_use = world.run("create --name holder busybox true");
    in_use.ok();
    let refused = world.run("rmi busybox").fails(1);
    assert!(
        refused.contains("container") && refused.contains("is using its referenced image"),
        "{refused}"
    );
    world.run("rm holder").ok();
    world.finish();
}

#[test]
fn many_containers_start_at_once() {
    let world = World::with_busybox();
    let children: Vec<_> = (0..12)
        .map(|n| world.spawn(&format!("run --rm busybox echo {n}")))
        .collect();
    let mut seen: Vec<String> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().expect("run ends");
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        })
        .collect();
    seen.sort_by_key(|text| text.parse::<u32>().unwrap_or(u32::MAX));
    assert_eq!(seen, (0..12).map(|n| n.to_string()).collect::<Vec<_>>());
    world.finish();
}

/// HOME is what the container's own passwd says of the user, unless the image or the command says it.
#[test]
fn privileged_home_is_the_user_s_of_the_container_s_passwd() {
    let world = World::with_busybox();
    let home = "sh -c 'echo $HOME'";
    assert_eq!(world.run(&format!("run --rm busybox {home}")).ok(), "/root");
    assert_eq!(
        world.run(&format!("run --rm -u 12345 busybox {home}")).ok(),
        "/",
        "a user without an entry"
    );
    assert_eq!(
        world
            .run(&format!("run --rm -e HOME=/given busybox {home}"))
            .ok(),
        "/given"
    );
    let user = "me:x:77:78::/home/of me:/bin/sh";
    let script = format!("echo \"{user}\" >> /etc/passwd; echo ready; exec sleep 1000");
    world
        .run(&format!("run -d --name box busybox sh -c '{script}'"))
        .ok();
    ketch_test_support::eventually("the entry", || {
        world.run("logs box").ok().contains("ready").then_some(())
    });
    for (flags, wanted) in [
        ("", "/root"),
        ("-u me", "/home/of me"),
        ("-u 77", "/home/of me"),
        ("-u 77:0", "/home/of me"),
        ("-u 12345", "/"),
        ("-u me -e HOME=/x", "/x"),
    ] {
        let said = world.run(&format!("exec {flags} box {home}")).ok();
        assert_eq!(said, wanted, "{flags}");
    }
    world.run("commit box withme").ok();
    assert_eq!(
        world.run(&format!("run --rm -u me withme {home}")).ok(),
        "/home/of me"
    );
    world.run("rm -f box").ok();
    world.finish();
}
