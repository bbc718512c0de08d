//! Volumes and mounts.

use ketch_test_support::World;

#[test]
fn data_outlives_containers_and_is_shared() {
    let world = World::with_busybox();
    world
        .run("run --rm -v notes:/notes busybox sh -c 'echo kept > /notes/a'")
        .ok();
    assert_eq!(
        world
            .run("run --rm -v notes:/other busybox cat /other/a")
            .ok(),
        "kept"
    );
    world
        .run("run -d --name writer -v notes:/n busybox sh -c 'echo live > /n/b; sleep 600'")
        .ok();
    world
        .run("run --rm -v notes:/n busybox sh -c 'until [ -s /n/b ]; do :; done'")
        .ok();
    let used = world.run("volume rm notes").fails(1);
    assert!(used.contains("volume is in use"), "{used}");
    assert_eq!(world.run("volume ls -q").ok(), "notes");
    world.run("rm -f writer").ok();
    assert_eq!(world.run("volume rm notes").ok(), "notes");
    world.finish();
}

#[test]
fn a_new_volume_takes_over_the_image_s_content() {
    let world = World::with_busybox();
    world.file("app/Dockerfile", "FROM busybox\nRUN mkdir /seed && echo born > /seed/file && chown -R 7:8 /seed && chmod 750 /seed\nVOLUME /seed\n");
    world.run("build -q -t seeded app").ok();
    assert_eq!(
        world
            .run("run --rm -v fresh:/seed seeded sh -c 'cat /seed/file; stat -c %u:%g:%a /seed'")
            .ok(),
        "born\n7:8:750"
    );
    world
        .run("run --rm -v fresh:/seed seeded sh -c 'echo changed > /seed/file'")
        .ok();
    assert_eq!(
        world
            .run("run --rm -v fresh:/seed seeded cat /seed/file")
            .ok(),
        "changed"
    );
    assert_eq!(world.run("run --rm seeded cat /seed/file").ok(), "born");
    assert_eq!(
        world.run("volume ls -q").ok(),
        "fresh",
        "--rm removes anonymous volumes"
    );
    world.run("run --name keep seeded true").ok();
    assert_eq!(world.run("volume ls -q").ok().lines().count(), 2);
    world.run("rm -v keep").ok();
    world.run("volume rm fresh").ok();
    world.run("rmi seeded").ok();
    world.finish();
}

#[test]
fn binds_tmpfs_and_read_only() {
    let world = World::with_busybox();
    world.file("host/file", "from the host");
    assert_eq!(
        world.run("run --rm -v ./host:/h busybox cat /h/file").ok(),
        "from the host"
    );
    let refused = world
        .run("run --rm -v ./host:/h:ro busybox touch /h/x")
        .fails(1);
    assert!(refused.contains("Read-only file system"), "{refused}");
    world.run("run --rm -v ./made:/h busybox touch /h/x").ok();
    assert!(world.path().join("made/x").exists());
    let missing = world
        .run(&format!(
            "run --rm --mount type=bind,src={}/absent,dst=/h busybox true",
            world.path().display()
        ))
        .fails(125);
    assert!(
        missing.contains("bind source path does not exist"),
        "{missing}"
    );
    let tmpfs = world
        .run("run --rm --tmpfs /scratch:size=1m busybox sh -c 'grep /scratch /proc/mounts'")
        .ok();
    assert!(
        tmpfs.contains("tmpfs") && tmpfs.contains("size=1024k"),
        "{tmpfs}"
    );
    assert_eq!(
        world
            .run("run --rm -v ./host/file:/one:ro busybox cat /one")
            .ok(),
        "from the host"
    );
    world.finish();
}

#[test]
fn volume_commands() {
    let world = World::with_busybox();
    assert_eq!(world.run("volume create --label use=test v1").ok(), "v1");
    assert_eq!(world.run("volume create").ok().len(), 64);
    assert_eq!(
        world
            .run("volume ls --filter label=use=test --format '{{.Driver}} {{.Name}}'")
            .ok(),
        "local v1"
    );
    let inspected: serde_json::Value =
        serde_json::from_str(&world.run("volume inspect v1").ok()).expect("JSON");
    assert_eq!(inspected[0]["Name"], "v1");
    assert_eq!(inspected[0]["Labels"]["use"], "test");
    world.run("volume inspect absent").fails(1);
    let pruned = world.run("volume prune -f").ok();
    assert!(pruned.contains("Total reclaimed space"), "{pruned}");
    assert_eq!(
        world.run("volume ls -q").ok(),
        "v1",
        "prune takes anonymous volumes only"
    );
    world.run("volume prune -a -f").ok();
    assert_eq!(world.run("volume ls -q").ok(), "");
    let driver = world.run("volume create --driver nfs x").fails(1);
    assert!(driver.contains("nfs"), "{driver}");
    world.finish();
}
