//! Compose: an application of services.

use ketch_test_support::{World, eventually};

const FILE: &str = r#"
services:
  web:
    build: ./web
    environment:
      - WHO=${WHO:-nobody}
    env_file: web.env
    ports: ["${PORT}:80"]
    depends_on:
      store: {condition: service_healthy}
  store:
    image: busybox
    command: sh -c "mkdir -p /data && touch /data/ready && exec nc -ll -p 7000 -e cat /data/value"
    volumes: ["values:/data"]
    healthcheck:
      test: ["CMD-SHELL", "test -e /data/ready"]
      interval: 200ms
      retries: 50
volumes:
  values:
"#;

fn application(world: &World) {
    world.file("shop/compose.yaml", FILE);
    world.file("shop/.env", "PORT=8090\nWHO=env\n");
    world.file("shop/web.env", "EXTRA=from file\n");
    world.file(
        "shop/web/Dockerfile",
        "FROM busybox\nCOPY serve /serve\nCMD [\"sh\", \"/serve\"]\n",
    );
    world.file(
        "shop/web/serve",
        "echo \"$WHO $EXTRA\" > /index.html\nexec httpd -f -p 80 -h /\n",
    );
}

#[test]
fn up_runs_services_in_order_and_down_removes_them() {
    let world = World::with_busybox();
    application(&world);
    world.run("compose -f shop/compose.yaml up -d --build").ok();
    eventually("the web answers", || {
        (world
            .on_host("curl -s -m 2 http://127.0.0.1:8090/")
            .stdout()
            == "env from file")
            .then_some(())
    });
    let listed = world.run("compose -f shop/compose.yaml ps").ok();
    assert!(
        listed.contains("shop-web-1")
            && listed.contains("shop-store-1")
            && listed.contains("(healthy)"),
        "{listed}"
    );
    world
        .run("exec shop-store-1 sh -c 'echo kept > /data/value'")
        .ok();
    eventually("services talk", || {
        (world.run("exec shop-web-1 nc store 7000").stdout() == "kept").then_some(())
    });
    let before = world.run("ps -q --no-trunc").ok();
    world.run("compose -f shop/compose.yaml up -d").ok();
    assert_eq!(
        world.run("ps -q --no-trunc").ok(),
        before,
        "an unchanged project stays as it is"
    );
    world.run("compose -f shop/compose.yaml down").ok();
    assert_eq!(world.run("ps -aq").ok(), "");
    assert_eq!(
        world.run("network ls -q --filter name=shop_default").ok(),
        ""
    );
    assert_eq!(world.run("volume ls -q").ok(), "shop_values");
    world.run("compose -f shop/compose.yaml up -d").ok();
    assert_eq!(world.run("exec shop-store-1 cat /data/value").ok(), "kept");
    world.run("compose -f shop/compose.yaml down -v").ok();
    assert_eq!(world.run("volume ls -q").ok(), "");
    world.finish();
}

#[test]
fn config_shows_the_project_and_names_mistakes() {
    let world = World::with_busybox();
    application(&world);
    let shown = world.run("compose -f shop/compose.yaml config").ok();
    assert!(
        shown.contains("name: shop")
            && shown.contains("WHO: env")
            && shown.contains("published: \"8090\""),
        "{shown}"
    );
    assert_eq!(
        world
            .run("compose -f shop/compose.yaml config --services")
            .ok(),
        "store\nweb"
    );
    world.file(
        "bad/compose.yaml",
        "services:\n  a:\n    image: busybox\n    comand: true\n",
    );
    let unknown = world.run("compose -f bad/compose.yaml config").fails(1);
    assert!(
        unknown.contains("comand") && unknown.contains("compose.yaml"),
        "{unknown}"
    );
    world.file("bad/compose.yaml", "services:\n  a:\n    image: busybox\n    depends_on: [b]\n  b:\n    image: busybox\n    depends_on: [a]\n");
    let cycle = world.run("compose -f bad/compose.yaml config").fails(1);
    assert!(cycle.contains("cycle"), "{cycle}");
    let absent = world.run("compose -f nothing.yaml up").fails(1);
    assert!(absent.contains("nothing.yaml"), "{absent}");
    world.finish();
}

#[test]
fn logs_and_changes() {
    let world = World::with_busybox();
    world.file(
        "p/docker-compose.yml",
        "services:\n  talk:\n    image: busybox\n    command: echo spoken\n",
    );
    world.run("compose -f p/docker-compose.yml up -d").ok();
    eventually("it spoke", || {
        world
            .run("compose -f p/docker-compose.yml logs --no-color")
            .stdout()
            .contains("talk-1  | spoken")
            .then_some(())
    });
    world.file(
        "p/docker-compose.yml",
        "services:\n  talk:\n    image: busybox\n    command: echo changed\n",
    );
    world.run("compose -f p/docker-compose.yml up -d").ok();
    eventually("recreated", || {
        world
            .run("compose -f p/docker-compose.yml logs --no-color")
            .stdout()
            .contains("changed")
            .then_some(())
    });
    world.run("compose -f p/docker-compose.yml down").ok();
    world.finish();
}

const PAIR: &str = r#"
services:
  ends:
    image: busybox
    command: sh -c "echo said; echo wrong >&2; exit 3"
  stays:
    image: busybox
    command: sh -c "trap 'echo bye; exit 0' TERM; while :; do sleep 0.05; done"
"#;

#[test]
fn an_attached_up_shows_output_and_ends_as_it_was_told() {
    let world = World::with_busybox();
    world.file("pair/compose.yaml", PAIR);
    let first = world.run("compose -f pair/compose.yaml up --abort-on-container-exit");
    assert_eq!(first.code(), Some(3), "{}", first.describe());
    for line in [
        "Attaching to ends-1, stays-1",
        "ends-1   | said",
        "stays-1  | bye",
        "ends-1 exited with code 3",
    ] {
        assert!(
            first.stdout().lines().any(|shown| shown == line),
            "{line} in {}",
            first.describe()
        );
    }
    assert!(
        first.stderr().contains("ends-1   | wrong"),
        "{}",
        first.describe()
    );
    let from = world.run("compose -f pair/compose.yaml up --exit-code-from stays --no-log-prefix");
    assert_eq!(from.code(), Some(0), "{}", from.describe());
    assert!(
        from.stdout().lines().any(|shown| shown == "said"),
        "{}",
        from.describe()
    );
    let up = world.spawn("compose -f pair/compose.yaml up stays");
    eventually("it runs", || {
        world
            .run("compose -f pair/compose.yaml ps --services")
            .stdout()
            .contains("stays")
            .then_some(())
    });
    interrupt(&up);
    let ended = up.wait_with_output().expect("wait for up");
    assert_eq!(ended.status.code(), Some(130));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("Gracefully Stopping"));
    assert_eq!(world.run("compose -f pair/compose.yaml ps -q").ok(), "");
    world.run("compose -f pair/compose.yaml down").ok();
    world.finish();
}

/// Ctrl-C for the program that `nsenter` became.
fn interrupt(child: &std::process::Child) {
    let status = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(status.expect("kill").success());
}

#[test]
fn one_off_containers_and_commands_in_services() {
    let world = World::with_busybox();
    world.file(
        "job/compose.yaml",
        "services:\n  job: {image: busybox, command: sleep 1000, environment: {A: one}, init: true}\n  dep: {image: busybox, command: sleep 1000, init: true}\n  both: {image: busybox, depends_on: [dep], command: 'true'}\n",
    );
    let file = "compose -f job/compose.yaml";
    let ran = world.run(&format!(
        "{file} run --rm -e B=two job sh -c 'echo $A $B; exit 7'"
    ));
    assert_eq!(
        (ran.code(), ran.stdout()),
        (Some(7), "one two".to_owned()),
        "{}",
        ran.describe()
    );
    assert_eq!(world.run("ps -aq").ok(), "");
    world.run(&format!("{file} run --rm both")).ok();
    assert_eq!(
        world.run(&format!("{file} ps --services")).ok(),
        "dep",
        "what it depends on was started"
    );
    let id = world
        .run(&format!("{file} run -d --name mine -l x=y job sleep 1000"))
        .ok();
    assert_eq!(world.run("ps -q --no-trunc --filter label=x=y").ok(), id);
    world.run(&format!("{file} exec job true")).fails(1);
    world.run(&format!("{file} up -d job")).ok();
    assert_eq!(
        world
            .run(&format!("{file} exec -T -e C=three job sh -c 'echo $A $C'"))
            .ok(),
        "one three"
    );
    assert_eq!(
        world
            .run(&format!("{file} exec -T job sh -c 'exit 9'"))
            .code(),
        Some(9)
    );
    world.run(&format!("{file} exec nosuch true")).fails(1);
    assert_eq!(
        world
            .run_with_input(&format!("{file} exec -T job cat"), b"typed")
            .ok(),
        "typed"
    );
    world.run(&format!("{file} down -t 1")).ok();
    assert_eq!(
        world.run("ps -aq").ok(),
        "",
        "down takes one-off containers, too"
    );
    world.finish();
}

#[test]
fn states_change_and_are_listed() {
    let world = World::with_busybox();
    world.file(
        "s/compose.yaml",
        "services:\n  a: {image: busybox, command: sleep 1000, init: true, ports: ['8070:80']}\n  b: {image: busybox, command: sleep 1000, init: true, depends_on: [a], profiles: [more]}\n",
    );
    let file = "compose -f s/compose.yaml";
    let compose = |line: &str| world.run(&format!("{file} {line}"));
    let plan = compose("--dry-run --profile more up -d").ok();
    assert!(
        plan.contains("create container s-b-1 (it is not there)"),
        "{plan}"
    );
    assert_eq!(world.run("ps -aq").ok(), "", "a dry run does nothing");
    compose("up -d").ok();
    assert_eq!(compose("ps --services").ok(), "a");
    compose("up -d b").ok();
    let listed = compose("ps --format json").ok();
    let first: serde_json::Value =
        serde_json::from_str(listed.lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        (&first["Service"], &first["State"], &first["Name"]),
        (&"a".into(), &"running".into(), &"s-a-1".into())
    );
    assert_eq!(first["Publishers"][0]["PublishedPort"], 8070);
    assert_eq!(compose("port a 80").ok(), "0.0.0.0:8070");
    compose("pause a").ok();
    assert_eq!(compose("ps -a --status paused --services").ok(), "a");
    compose("unpause a").ok();
    compose("stop -t 1 a").ok();
    assert!(compose("ps -a a").ok().contains("Exited"));
    compose("start").ok();
    compose("restart -t 1").ok();
    assert_eq!(compose("top a").ok().lines().count(), 3);
    let ls = world.run("compose ls").ok();
    assert!(
        ls.contains("running(2)") && ls.contains("s/compose.yaml"),
        "{ls}"
    );
    assert_eq!(
        world.run("compose -p s ps --services").ok(),
        "a\nb",
        "a name is enough"
    );
    world.file(
        "s/compose.yaml",
        "services:\n  a: {image: busybox, command: sleep 1000, init: true}\n",
    );
    let orphans = compose("up -d -t 1");
    assert!(
        orphans
            .stderr()
            .contains("Found orphan containers ([s-b-1])"),
        "{}",
        orphans.describe()
    );
    let used = compose("down -t 1");
    assert!(
        used.code() == Some(0)
            && used
                .stderr()
                .contains("Network s_default  Resource is still in use"),
        "{}",
        used.describe()
    );
    compose("up -d --remove-orphans --scale a=3 -t 1").ok();
    assert_eq!(compose("ps -q").ok().lines().count(), 3);
    compose("kill").ok();
    compose("rm -f").ok();
    assert_eq!(world.run("ps -aq").ok(), "");
    compose("down").ok();
    world.finish();
}

#[test]
fn mistakes_and_what_is_not_there() {
    let world = World::with_busybox();
    world.file("m/compose.yaml", "services:\n  a: {image: busybox}\n  gone: {image: 'nosuch.invalid/x:1', pull_policy: never}\n");
    let file = "compose -f m/compose.yaml";
    let compose = |line: &str| world.run(&format!("{file} {line}"));
    assert!(
        compose("up -d nosuch")
            .fails(1)
            .contains("no such service: nosuch")
    );
    assert!(
        compose("up -d")
            .fails(1)
            .contains("No such image: nosuch.invalid/x:1")
    );
    assert!(
        compose("watch")
            .fails(1)
            .contains("compose watch is not supported")
    );
    assert!(compose("upp").fails(1).contains("unknown compose command"));
    assert!(
        compose("up --watch")
            .stderr()
            .contains("--watch is not supported")
    );
    assert!(
        world
            .run("compose --compatibility -f m/compose.yaml up")
            .stderr()
            .contains("--compatibility is not supported")
    );
    world.file(
        "bad/compose.yaml",
        "services:\n  a: {image: busybox, command: [nosuchprogram]}\n",
    );
    let failed = world.run("compose -f bad/compose.yaml up -d");
    assert!(
        failed.code() != Some(0) && failed.stderr().contains("nosuchprogram"),
        "{}",
        failed.describe()
    );
    world.run("compose -f bad/compose.yaml down").ok();
    world.finish();
}

#[test]
fn an_up_that_was_killed_is_finished_by_the_next() {
    let world = World::with_busybox();
    let services: String = (0..6)
        .map(|n| format!("  s{n}: {{image: busybox, command: sleep 1000, init: true}}\n"))
        .collect();
    world.file("k/compose.yaml", &format!("services:\n{services}"));
    for _ in 0..3 {
        let mut up = world.spawn("compose -f k/compose.yaml up -d --force-recreate -t 0");
        eventually("something is there", || {
            (!world.run("ps -aq").stdout().is_empty()).then_some(())
        });
        up.kill().expect("kill it");
        up.wait().expect("it ends");
    }
    world.run("compose -f k/compose.yaml up -d -t 0").ok();
    assert_eq!(
        world.run("compose -f k/compose.yaml ps --services").ok(),
        "s0\ns1\ns2\ns3\ns4\ns5"
    );
    let names = world.run("ps -a --format '{{.Names}}'").ok();
    assert!(
        names.lines().count() == 6 && names.lines().all(|name| name.starts_with("k-s")),
        "{names}"
    );
    world.run("compose -f k/compose.yaml down -t 0").ok();
    world.finish();
}

#[test]
fn secrets_and_configs_arrive_as_files() {
    let world = World::with_busybox();
    world.file("c/word.txt", "from file");
    world.file(
        "c/compose.yaml",
        "services:\n  a:\n    image: busybox\n    command: sleep 1000\n    init: true\n    secrets: [file, variable]\n    configs: [{source: text, target: /deep/er/conf, mode: 0400, uid: '7'}]\nsecrets:\n  file: {file: ./word.txt}\n  variable: {environment: WORD}\nconfigs:\n  text: {content: \"x=${WORD}\\n\"}\n",
    );
    world.file("c/.env", "WORD=spoken\n");
    let file = "compose -f c/compose.yaml";
    world.run(&format!("{file} up -d")).ok();
    let inside = |line: &str| world.run(&format!("{file} exec -T a {line}")).ok();
    assert_eq!(inside("cat /run/secrets/file"), "from file");
    assert_eq!(inside("cat /run/secrets/variable"), "spoken");
    assert_eq!(inside("cat /deep/er/conf"), "x=spoken");
    assert_eq!(inside("stat -c '%a %u' /deep/er/conf"), "400 7");
    world.file("c/.env", "WORD=changed\n");
    world.run(&format!("{file} up -d -t 0")).ok();
    assert_eq!(
        inside("cat /run/secrets/variable"),
        "changed",
        "a new content makes a new container"
    );
    world.run(&format!("{file} down -t 0")).ok();
    world.finish();
}

#[test]
fn the_program_answers_to_docker_compose() {
    let world = World::with_busybox();
    world.file("d/docker-compose.yml", "services: {a: {image: busybox}}\n");
    std::os::unix::fs::symlink(
        ketch_test_support::program(),
        world.path().join("docker-compose"),
    )
    .expect("a link");
    let program = world.path().join("docker-compose");
    let shown = world
        .on_host(&format!(
            "{} -f d/docker-compose.yml config --services",
            program.display()
        ))
        .ok();
    assert_eq!(shown, "a");
    assert!(
        world
            .on_host(&format!("{} version --short", program.display()))
            .ok()
            .starts_with(|c: char| c.is_ascii_digit())
    );
    world.finish();
}
