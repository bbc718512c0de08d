//! Images: listing, tags, archives, registries.

use ketch_test_support::{Registry, World};

#[test]
fn tags_listings_and_removal() {
    let world = World::with_busybox();
    let id = world.run("images -q --no-trunc busybox").ok();
    assert!(id.starts_with("sha256:"), "{id}");
    world.run("tag busybox mine/box:1").ok();
    assert_eq!(
        world
            .run("images --format '{{.Repository}}:{{.Tag}}' --filter reference=mine/*")
            .ok(),
        "mine/box:1"
    );
    assert!(
        world
            .run("images")
            .ok()
            .starts_with("REPOSITORY   TAG       IMAGE ID")
    );
    assert_eq!(world.run("rmi mine/box:1").ok(), "Untagged: mine/box:1");
    let removed = world.run("rmi busybox").ok();
    assert!(
        removed.contains("Untagged: busybox:latest") && removed.contains(&format!("Deleted: {id}")),
        "{removed}"
    );
    assert_eq!(world.run("images -q").ok(), "");
    assert!(
        std::fs::read_dir(world.data_root().join("images/blobs/sha256"))
            .expect("blobs")
            .next()
            .is_none(),
        "blobs are freed"
    );
    assert!(
        std::fs::read_dir(world.data_root().join("layers"))
            .expect("layers")
            .next()
            .is_none(),
        "layers are freed"
    );
    let missing = world.run("rmi absent").fails(1);
    assert!(missing.contains("No such image: absent"), "{missing}");
    world.finish();
}

#[test]
fn save_and_load_keep_every_byte() {
    let world = World::with_busybox();
    world.file(
        "app/Dockerfile",
        "FROM busybox\nRUN echo x > /x\nCMD [\"cat\", \"/x\"]\n",
    );
    world.run("build -q -t app:1 app").ok();
    let id = world.run("images -q --no-trunc app:1").ok();
    world.run("save -o both.tar app:1 busybox").ok();
    world.run("rmi app:1 busybox").ok();
    let loaded = world.run("load -i both.tar").ok();
    assert!(
        loaded.contains("Loaded image: app:1") && loaded.contains("Loaded image: busybox:latest"),
        "{loaded}"
    );
    assert_eq!(world.run("images -q --no-trunc app:1").ok(), id);
    assert_eq!(world.run("run --rm app:1").ok(), "x");
    world
        .on_host("skopeo copy --quiet docker-archive:both.tar:app:1 oci:copy:app")
        .ok();
    world.on_host("tar -C copy -cf copy.tar .").ok();
    world.run("rmi app:1").ok();
    world.run("load -i copy.tar").ok();
    world.finish();
}

#[test]
fn other_tools_read_the_store_in_place() {
    let world = World::with_busybox();
    let layout = world.data_root().join("images");
    let listed = world.on_host(&format!(
        "skopeo inspect --raw oci:{}:docker.io/library/busybox:latest",
        layout.display()
    ));
    assert!(listed.ok().contains("\"layers\""));
    world.finish();
}

#[test]
fn push_and_pull_through_a_real_registry() {
    let world = World::with_busybox();
    let registry = Registry::start(&world);
    let reference = registry.reference("team/box:2");
    world.run(&format!("tag busybox {reference}")).ok();
    let pushed = world.run(&format!("push {reference}")).ok();
    assert!(pushed.contains("digest: sha256:"), "{pushed}");
    let id = world.run("images -q --no-trunc busybox").ok();
    world.run(&format!("rmi {reference} busybox")).ok();
    assert_eq!(
        world.run(&format!("run --rm {reference} echo pulled")).ok(),
        "pulled"
    );
    assert_eq!(
        world.run(&format!("images -q --no-trunc {reference}")).ok(),
        id
    );
    let again = world.run(&format!("pull {reference}")).ok();
    assert!(again.contains("Image is up to date"), "{again}");
    world
        .on_host(&format!(
            "skopeo inspect --tls-verify=false docker://{reference}"
        ))
        .ok();
    let absent = world
        .run(&format!("pull {}", registry.reference("absent")))
        .fails(1);
    assert!(
        absent.contains("not found") || absent.contains("does not exist"),
        "{absent}"
    );
    drop(registry);
    world.finish();
}

#[test]
fn an_unreachable_registry_is_named_with_what_else_can_be_done() {
    let world = World::empty();
    let refused = world
        .run("run --rm 127.0.0.1:5999/nothing:1 true")
        .fails(125);
    assert!(refused.contains("127.0.0.1:5999"), "{refused}");
    assert!(
        refused.contains("ketch load") || refused.contains("ketch import"),
        "{refused}"
    );
    let invalid = world.run("pull team/UPPER").fails(1);
    assert!(invalid.contains("invalid reference format"), "{invalid}");
    world.finish();
}

#[test]
fn hostile_archives_write_nowhere_else() {
    let world = World::with_busybox();
    world.file(
        "make.py",
        r#"
import io, tarfile
def make(name, *members):
    with tarfile.open(name, "w") as tar:
        for path, kind, target, data in members:
            info = tarfile.TarInfo(path)
            info.type = kind
            info.linkname = target
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
F, S, H = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
make("dots.tar", ("../../escaped", F, "", b"x"))
make("absolute.tar", ("/escaped", F, "", b"x"))
make("through.tar", ("out", S, "/tmp", b""), ("out/ketch-escaped", F, "", b"x"))
make("hard.tar", ("passwd", H, "../../../../etc/passwd", b""))
"#,
    );
    world.on_host("python3 make.py").ok();
    for name in ["dots", "absolute", "through", "hard"] {
        let imported = world.run(&format!("import {name}.tar {name}"));
        assert!(
            !std::path::Path::new("/tmp/ketch-escaped").exists(),
            "{}",
            imported.describe()
        );
        assert!(
            !world.path().join("escaped").exists() && !std::path::Path::new("/escaped").exists(),
            "{}",
            imported.describe()
        );
    }
    world.finish();
}
