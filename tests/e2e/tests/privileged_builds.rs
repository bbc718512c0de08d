//! Building images.

use ketch_test_support::{World, eventually};

#[test]
fn instructions_do_what_they_say() {
    let world = World::with_busybox();
    world.file("app/hello.txt", "hello");
    world.file("app/src/a.c", "a");
    world.file("app/src/b.c", "b");
    world.file("app/secret.key", "no");
    world.file("app/.dockerignore", "*.key\n");
    world.file(
        "app/Dockerfile",
        r#"# comment
ARG BASE=busybox
FROM ${BASE} AS base
ARG WHO=world
ENV GREETING="hello $WHO" PLAIN=yes
WORKDIR /work
RUN echo "$GREETING" > greeting && \
    echo more >> greeting
COPY --chown=nobody:nogroup --chmod=640 hello.txt sub/
COPY src/*.c ./c/
COPY . /all
FROM base AS unused
RUN exit 9
FROM base
COPY --from=base /work/greeting /from-base
RUN ["sh", "-c", "id -u > /who"]
USER nobody
RUN id -un > /tmp/me
LABEL one=1 two="2 2"
EXPOSE 80 53/udp
VOLUME /data
ENTRYPOINT ["sh", "-c"]
CMD ["cat /work/greeting /from-base /who /tmp/me; stat -c %U:%G:%a sub/hello.txt; ls c; ls -A /all"]
"#,
    );
    world.run("build -t app --build-arg WHO=you app").ok();
    assert_eq!(
        world.run("run --rm app").ok(),
        "hello you\nmore\nhello you\nmore\n0\nnobody\nnobody:nogroup:640\na.c\nb.c\n.dockerignore\nDockerfile\nhello.txt\nsrc"
    );
    let image: serde_json::Value =
        serde_json::from_str(&world.run("inspect app").ok()).expect("JSON");
    let config = &image[0]["Config"];
    assert_eq!(config["User"], "nobody");
    assert_eq!(config["Labels"]["two"], "2 2");
    assert!(config["ExposedPorts"]["53/udp"].is_object());
    assert!(config["Volumes"]["/data"].is_object());
    assert_eq!(config["WorkingDir"], "/work");
    assert!(world.run("history app").ok().contains("RUN"));
    world.run("rmi app").ok();
    world.finish();
}

#[test]
fn a_second_build_runs_nothing_and_a_changed_file_reruns_what_depends_on_it() {
    let world = World::with_busybox();
    world.file("app/one", "1");
    world.file("app/two", "2");
    world.file("app/Dockerfile", "FROM busybox\nCOPY one /one\nRUN head -c 8 /dev/urandom > /early\nCOPY two /two\nRUN head -c 8 /dev/urandom > /late\n");
    let digest = |file: &str| world.run(&format!("run --rm app md5sum {file}")).ok();
    let first = world.run("build -q -t app app").ok();
    let (early, late) = (digest("/early"), digest("/late"));
    assert_eq!(world.run("build -q -t app app").ok(), first);
    assert!(world.run("build -t app app").stderr().contains("CACHED"));
    world.file("app/one", "1");
    assert_eq!(
        world.run("build -q -t app app").ok(),
        first,
        "a rewritten file with the same content is the same"
    );
    world.file("app/two", "changed");
    assert_ne!(world.run("build -q -t app app").ok(), first);
    assert_eq!(digest("/early"), early);
    assert_ne!(digest("/late"), late);
    world.run("build -q --no-cache -t app app").ok();
    assert_ne!(digest("/early"), early);
    world.finish();
}

#[test]
fn mistakes_are_named_with_their_place() {
    let world = World::with_busybox();
    world.file("bad/Dockerfile", "FROM busybox\n\nRUNN echo hi\n");
    let unknown = world.run("build bad").fails(1);
    assert!(
        unknown.contains("Dockerfile:3") && unknown.contains("unknown instruction: RUNN"),
        "{unknown}"
    );
    world.file(
        "bad/Dockerfile",
        "FROM busybox\nRUN true\nRUN sh -c 'exit 3'\n",
    );
    let failed = world.run("build -t bad bad").fails(1);
    assert!(
        failed.contains("Dockerfile:3") && failed.contains(">>> RUN sh -c 'exit 3'"),
        "{failed}"
    );
    assert!(
        failed.contains("did not complete successfully: exit code: 3"),
        "{failed}"
    );
    world.run("inspect bad").fails(1);
    world.file("bad/Dockerfile", "FROM busybox\nCOPY absent /x\n");
    let absent = world.run("build bad").fails(1);
    assert!(
        absent.contains("absent") && absent.contains("not found"),
        "{absent}"
    );
    world.run("build nowhere").fails(1);
    world.file("bad/Dockerfile", "RUN true\n");
    let no_base = world.run("build bad").fails(1);
    assert!(
        no_base.contains("no build stage in current context"),
        "{no_base}"
    );
    world.finish();
}

#[test]
fn the_context_is_a_fence() {
    let world = World::with_busybox();
    world.file("secret", "private");
    world.file("app/Dockerfile", "FROM busybox\nCOPY link /copied\n");
    std::os::unix::fs::symlink("../secret", world.path().join("app/link")).expect("a link");
    let built = world.run("build -q -t fence app");
    if built.code() == Some(0) {
        let content = world.run("run --rm fence cat /copied");
        assert!(
            !content.stdout().contains("private"),
            "{}",
            content.describe()
        );
    }
    world.file("app/Dockerfile", "FROM busybox\nCOPY ../secret /copied\n");
    let outside = world.run("build -q -t fence app");
    assert_ne!(outside.code(), Some(0), "{}", outside.describe());
    world.finish();
}

#[test]
fn a_killed_build_leaves_nothing() {
    let world = World::with_busybox();
    world.file(
        "app/Dockerfile",
        "FROM busybox\nRUN echo started && sleep 631\n",
    );
    let mut build = world.spawn("build -t never app");
    eventually("the step runs", || {
        world
            .on_host("pgrep -f '^sleep 631$'")
            .code()
            .filter(|code| *code == 0)
    });
    build.kill().expect("kill -9 of the build");
    build.wait().expect("reap it");
    eventually("its container ended", || {
        world.monitors().is_empty().then_some(())
    });
    world.run("inspect never").fails(1);
    assert_eq!(world.run("ps -aq").ok(), "");
    world.run("image prune -f").ok();
    world.finish();
}
