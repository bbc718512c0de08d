//! Archives of images, and directories: what we write others read, what others write we read, byte for byte; and what is
//! wrong with a bad one is said.

use std::path::Path;
use std::process::{Command, Stdio};

use ketch_test_support::World;

/// Gives the image `app:1`, built on `busybox`, with two layers.
fn with_app(world: &World) {
    world.file("app/Dockerfile", "FROM busybox\nRUN echo x > /x\n");
    world.run("build -q -t app:1 app").ok();
}

fn digest_of(world: &World, image: &str) -> String {
    world
        .run(&format!(
            "image inspect --format '{{{{.Descriptor.digest}}}}' {image}"
        ))
        .ok()
}

fn id_of(world: &World, image: &str) -> String {
    world.run(&format!("images -q --no-trunc {image}")).ok()
}

/// Runs a shell line where the world's programs run, with `ketch` in it as `$KETCH`.
fn shell(world: &World, line: &str) -> std::process::Output {
    let mut command = world.host(&["bash", "-o", "pipefail", "-c", line]);
    command
        .env("KETCH", ketch_test_support::program())
        .env("KETCH_DATA_ROOT", world.data_root())
        .env("KETCH_RUN_ROOT", world.run_root());
    command.output().expect("run a shell")
}

fn ok(output: std::process::Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{stdout}{stderr}");
    stdout
}

/// Whether a tree has a line of this platform without anything of it here.
fn is_absent(tree: &str, platform: &str) -> bool {
    let mut lines = tree.lines().filter(|line| line.contains(platform));
    lines.any(|line| line.split_whitespace().filter(|word| *word == "0B").count() == 2)
}

#[test]
fn every_form_comes_back_with_the_same_digests() {
    let world = World::with_busybox();
    with_app(&world);
    let (digest, id) = (digest_of(&world, "app:1"), id_of(&world, "app:1"));
    let gone = || {
        world.run("rmi app:1").ok();
        world.run("rmi busybox").ok();
        world.run("builder prune -f").code();
    };
    world.run("save -q -o docker.tar app:1 busybox").ok();
    world
        .run("save -q --format oci-archive -o oci.tar app:1 busybox")
        .ok();
    world.run("save -q --format oci-dir -o layout app:1").ok();
    // A second image is added to a layout that is there.
    world.run("save -q --format oci-dir -o layout busybox").ok();
    world.on_host("gzip -k docker.tar").ok();
    world.on_host("zstd -q docker.tar -o docker.tar.zst").ok();
    for input in [
        "docker.tar",
        "oci.tar",
        "docker.tar.gz",
        "docker.tar.zst",
        "layout",
    ] {
        gone();
        let loaded = world.run(&format!("load -i {input}")).ok();
        let lines: Vec<&str> = loaded.lines().collect();
        assert_eq!(
            lines,
            ["Loaded image: app:1", "Loaded image: busybox:latest"],
            "{input}"
        );
        assert_eq!(digest_of(&world, "app:1"), digest, "{input}");
        assert_eq!(id_of(&world, "app:1"), id, "{input}");
    }
    world.finish();
}

#[test]
fn pipes_carry_several_images_and_names_that_were_taken_are_told() {
    let world = World::with_busybox();
    with_app(&world);
    let busybox = id_of(&world, "busybox");
    let line = "$KETCH save app:1 busybox | gzip | $KETCH load -q";
    assert_eq!(
        ok(shell(&world, line)),
        "Loaded image: app:1\nLoaded image: busybox:latest\n"
    );
    world.run("save -q -o one.tar busybox").ok();
    world.run("tag app:1 busybox").ok();
    let taken = id_of(&world, "busybox");
    let told = world.run("load -q -i one.tar").ok();
    assert_eq!(
        told,
        format!(
            "The image busybox:latest already exists, renaming the old one with ID {taken} to empty string\nLoaded image: busybox:latest"
        )
    );
    assert_eq!(id_of(&world, "busybox"), busybox);
    let unnamed = format!("$KETCH save {busybox} | $KETCH load");
    assert_eq!(
        ok(shell(&world, &unnamed)),
        format!("Loaded image ID: {busybox}\n")
    );
    // A reader that has seen enough ends the writer, without words.
    let cut = shell(&world, "$KETCH save -q app:1 | head -c 600000 > /dev/null");
    assert_eq!(String::from_utf8_lossy(&cut.stderr), "");
    world.finish();
}

#[test]
fn skopeo_umoci_and_podman_read_and_write_the_same_images() {
    let world = World::with_busybox();
    with_app(&world);
    let (digest, id) = (digest_of(&world, "app:1"), id_of(&world, "app:1"));
    world.run("save -q -o docker.tar app:1").ok();
    world
        .run("save -q --format oci-archive -o oci.tar app:1")
        .ok();
    world.run("save -q --format oci-dir -o layout app:1").ok();
    for source in [
        "docker-archive:docker.tar:app:1",
        "oci-archive:oci.tar:1",
        "oci:layout:1",
    ] {
        let config = world.on_host(&format!("skopeo inspect --config --raw {source}"));
        let config = config.ok();
        assert!(config.contains("echo x > /x"), "{source}: {config}");
    }
    let raw = world.on_host("skopeo inspect --format {{.Digest}} oci:layout:1");
    assert_eq!(raw.ok(), digest);
    world.on_host("umoci unpack --image layout:1 unpacked").ok();
    assert!(world.path().join("unpacked/rootfs/x").exists());
    // umoci adds a layer to what we wrote, and we run it.
    world.file("unpacked/rootfs/from-umoci", "umoci\n");
    world
        .on_host("umoci repack --image layout:two unpacked")
        .ok();
    let podman = |line: &str| {
        let root = world.path().join("podman");
        let root = root.display();
        world.on_host(&format!(
            "podman --root {root}/root --runroot {root}/run --tmpdir {root}/tmp --storage-driver vfs --cgroup-manager cgroupfs {line}"
        ))
    };
    assert!(podman("load -q -i docker.tar").ok().contains("app:1"));
    let theirs = podman("images -q --no-trunc localhost/app:1").ok();
    let theirs = theirs.trim();
    if !theirs.is_empty() {
        assert_eq!(theirs, id, "podman knows it by the same id");
    }
    for (format, file) in [
        ("docker-archive", "theirs.tar"),
        ("oci-archive", "theirs-oci.tar"),
    ] {
        podman(&format!("save -q --format {format} -o {file} app:1")).ok();
    }
    world.run("rmi app:1").ok();
    for file in ["theirs.tar", "theirs-oci.tar"] {
        let loaded = world.run(&format!("load -q -i {file}")).ok();
        assert!(loaded.contains("app:1"), "{file}: {loaded}");
        let name = loaded.trim_start_matches("Loaded image: ").to_owned();
        assert_eq!(world.run(&format!("run --rm {name} cat /x")).ok(), "x");
        world.run(&format!("rmi {name}")).ok();
    }
    let copy = "skopeo copy -q docker-archive:docker.tar:app:1";
    world
        .on_host(&format!(
            "{copy} --dest-compress-format zstd oci:zstd:app:z"
        ))
        .ok();
    assert_eq!(world.run("load -q -i zstd").ok(), "Loaded image: app:z");
    assert_eq!(world.run("run --rm app:z cat /x").ok(), "x");
    // umoci gives the new entry all that the old one had, its full name too: the later one has it in the end.
    world.run("load -q -i layout").ok();
    assert_eq!(world.run("run --rm app:1 cat /from-umoci").ok(), "umoci");
    podman("rmi -f -a").ok();
    world.finish();
}

#[test]
fn older_forms_load() {
    let world = World::with_busybox();
    world.run("save -q -o new.tar busybox").ok();
    world.file(
        "older.py",
        r#"
import gzip, io, json, tarfile
new = tarfile.open("new.tar")
entry = json.load(new.extractfile("manifest.json"))[0]
config = new.extractfile(entry["Config"]).read()
layer = new.extractfile(entry["Layers"][0]).read()
def make(name, files, links, manifest):
    with tarfile.open(name, "w") as tar:
        for path, data in files.items():
            info = tarfile.TarInfo(path); info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for path, target in links.items():
            info = tarfile.TarInfo(path); info.type = tarfile.SYMTYPE; info.linkname = target
            tar.addfile(info)
        if manifest:
            data = json.dumps(manifest).encode(); info = tarfile.TarInfo("manifest.json"); info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
a, b, c = "a" * 64, "b" * 64, "c" * 64
two = json.loads(config); two["rootfs"]["diff_ids"] *= 2; two["history"] *= 2
twice = json.dumps(two).encode()
# Docker 1.10 to 24: a directory a layer, equal ones as links to the first.
make("linked.tar", {a + "/VERSION": b"1.0", a + "/json": b"{}", a + "/layer.tar": layer, c + ".json": twice},
     {b + "/layer.tar": "../" + a + "/layer.tar"},
     [{"Config": c + ".json", "RepoTags": ["linked:1"], "Layers": [a + "/layer.tar", b + "/layer.tar"]}])
# Bazel, jib, crane: layers in gzip, names of every kind.
make("gzipped.tar", {"sha256:" + c: config, a + ".tar.gz": gzip.compress(layer)}, {},
     [{"Config": "sha256:" + c, "RepoTags": ["gzipped:1", "gzipped:2"], "Layers": [a + ".tar.gz"]}])
make("ancient.tar", {a + "/VERSION": b"1.0", a + "/json": b"{}", a + "/layer.tar": layer, "repositories": b"{}"}, {}, None)
"#,
    );
    world.on_host("python3 older.py").ok();
    assert_eq!(
        world.run("load -q -i linked.tar").ok(),
        "Loaded image: linked:1"
    );
    assert_eq!(world.run("run --rm linked:1 echo here").ok(), "here");
    assert_eq!(
        world.run("load -q -i gzipped.tar").ok(),
        "Loaded image: gzipped:1\nLoaded image: gzipped:2"
    );
    assert_eq!(id_of(&world, "gzipped:2"), id_of(&world, "busybox"));
    let refused = world.run("load -q -i ancient.tar").fails(1);
    assert!(refused.contains("before 1.10"), "{refused}");
    world.finish();
}

#[test]
fn platforms_are_saved_loaded_and_removed_apart() {
    let world = World::with_busybox();
    world.run("save -q --format oci-dir -o layout busybox").ok();
    world.file(
        "two.py",
        r#"
import hashlib, json
def put(document):
    data = json.dumps(document).encode(); digest = hashlib.sha256(data).hexdigest()
    open("layout/blobs/sha256/" + digest, "wb").write(data)
    return {"digest": "sha256:" + digest, "size": len(data)}
def get(digest): return json.load(open("layout/blobs/sha256/" + digest.split(":")[1]))
index = json.load(open("layout/index.json"))
here = index["manifests"][0]
manifest = get(here["digest"]); config = get(manifest["config"]["digest"])
other = dict(config, architecture="s390x")
manifest2 = dict(manifest, config=dict(manifest["config"], **put(other)))
kind = manifest["mediaType"]
children = [
    {"mediaType": kind, "digest": here["digest"], "size": here["size"],
     "platform": {"os": "linux", "architecture": config["architecture"]}},
    dict(put(manifest2), mediaType=kind, platform={"os": "linux", "architecture": "s390x"}),
    # As in the archives of others: a platform of which only the manifest is there.
    dict(put(dict(manifest2, layers=[dict(manifest["layers"][0], digest="sha256:" + "0" * 64)])), mediaType=kind,
         platform={"os": "linux", "architecture": "ppc64le"}),
]
kind = "application/vnd.oci.image.index.v1+json"
both = dict(put({"schemaVersion": 2, "mediaType": kind, "manifests": children}), mediaType=kind,
            annotations={"io.containerd.image.name": "docker.io/library/both:1"})
json.dump(dict(index, manifests=[both]), open("layout/index.json", "w"))
print(both["digest"])
"#,
    );
    let digest = world.on_host("python3 two.py").ok();
    world.on_host("tar -C layout -cf both.tar .").ok();
    // What the store has of an index belongs to it, whoever brought it.
    world.run("rmi busybox").ok();
    for input in ["layout", "both.tar"] {
        assert_eq!(
            world.run(&format!("load -q -i {input}")).ok(),
            "Loaded image: both:1"
        );
        assert_eq!(digest_of(&world, "both:1"), digest, "{input}");
        let tree = world.run("images --tree both").ok();
        assert!(
            tree.contains("├─ linux/") && tree.contains("├─ linux/s390x"),
            "{tree}"
        );
        assert!(
            is_absent(&tree, "linux/ppc64le") && !is_absent(&tree, "linux/s390x"),
            "{tree}"
        );
        world.run("rmi both:1").ok();
    }
    let architecture = |flag: &str| {
        world.run(&format!(
            "image inspect {flag} --format '{{{{.Architecture}}}}' both:1"
        ))
    };
    world.run("load -q --platform linux/s390x -i both.tar").ok();
    assert_eq!(architecture("").ok(), "s390x", "the other one is not here");
    let absent = world
        .run("load -q --platform linux/mips -i both.tar")
        .fails(1);
    assert!(
        absent.contains("image with reference both:1 was found but does not provide the specified platform (linux/mips)"),
        "{absent}"
    );
    world.run("load -q -i layout").ok();
    assert_eq!(architecture("--platform linux/s390x").ok(), "s390x");
    assert_ne!(architecture("").ok(), "s390x");
    assert_eq!(
        world
            .run("history -q --platform linux/s390x both:1")
            .ok()
            .lines()
            .count(),
        1
    );
    world
        .run("save -q --platform linux/s390x --format oci-archive -o s390x.tar both:1")
        .ok();
    let config = world.on_host("skopeo inspect --config --raw oci-archive:s390x.tar:1");
    assert!(config.ok().contains("\"s390x\""));
    let removed = world.run("rmi --platform linux/s390x both:1").ok();
    assert!(removed.starts_with("Deleted: sha256:"), "{removed}");
    let tree = world.run("images --tree both").ok();
    assert!(is_absent(&tree, "linux/s390x"), "{tree}");
    let last = world
        .run("rmi --platform linux/amd64 --platform linux/arm64 both:1")
        .code();
    assert_eq!(
        last,
        Some(1),
        "one of them is not there, the other is the last"
    );
    assert_eq!(digest_of(&world, "both:1"), digest);
    world.run("load -q -i s390x.tar").ok();
    assert_eq!(architecture("").ok(), "s390x");
    world.finish();
}

#[test]
fn bad_archives_are_told_by_their_entry_and_leave_nothing() {
    let world = World::with_busybox();
    world.run("save -q -o good.tar busybox").ok();
    world.file(
        "bad.py",
        r#"
import hashlib, io, json, tarfile
good = tarfile.open("good.tar")
files = {m.name: good.extractfile(m).read() for m in good if m.isfile()}
def make(name, change):
    these = dict(files); change(these)
    with tarfile.open(name, "w") as tar:
        for path, data in these.items():
            info = tarfile.TarInfo(path); info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
entry = json.loads(files["manifest.json"])[0]
layer = entry["Layers"][0]
print(layer)
def flipped(these): these[layer] = these[layer][:-1] + b"x"
def absent(these): del these[layer]
def dots(these):
    del these["index.json"]
    these["manifest.json"] = json.dumps([dict(entry, Config="../../etc/passwd")]).encode()
def huge(these): these["index.json"] = b"{" + b" " * (17 << 20) + b"}"
def named(these): these["blobs/sha256/../../escaped"] = b"x"
def broken(these): these["index.json"] = b"{\"schemaVersion\": 2"
def none(these): these["index.json"] = b"{\"schemaVersion\": 2, \"manifests\": []}"
for change in [flipped, absent, dots, huge, broken, none]:
    make(change.__name__ + ".tar", change)
whole = open("good.tar", "rb").read()
open("cut.tar", "wb").write(whole[: len(whole) // 2])
open("text.tar", "wb").write(b"this is no archive\n" * 100)
open("empty.tar", "wb").write(b"")
"#,
    );
    let layer = world.on_host("python3 bad.py").ok();
    world.on_host("xz -k good.tar").ok();
    world.on_host("bzip2 -k good.tar").ok();
    world.run("rmi busybox").ok();
    let hex = layer.rsplit('/').next().expect("a digest").to_owned();
    for (file, words) in [
        (
            "flipped.tar",
            vec![layer.as_str(), "is damaged", "digest mismatch"],
        ),
        (
            "absent.tar",
            vec!["layer sha256:", &hex, "is not in the archive"],
        ),
        (
            "dots.tar",
            vec!["manifest.json names \"../../etc/passwd\", which is not in the archive"],
        ),
        (
            "huge.tar",
            vec!["archive entry \"index.json\" is larger than"],
        ),
        ("broken.tar", vec!["bad index.json", "EOF"]),
        ("none.tar", vec!["index.json names no image"]),
        ("cut.tar", vec!["blobs/sha256/"]),
        ("text.tar", vec!["archive"]),
        ("empty.tar", vec!["unrecognized image format"]),
        ("good.tar.xz", vec!["xz", "not supported"]),
        ("good.tar.bz2", vec!["bzip2", "not supported"]),
        ("app", vec!["open app", "No such file"]),
    ] {
        let told = world.run(&format!("load -q -i {file}")).fails(1);
        for word in words {
            assert!(
                told.contains(word),
                "{file}: {told:?} does not say {word:?}"
            );
        }
        assert_eq!(world.run("images -aq").ok(), "", "{file}");
        for place in ["images/blobs/sha256", "layers", "ingest/work"] {
            let place = world.data_root().join(place);
            let left: Vec<_> = std::fs::read_dir(&place).into_iter().flatten().collect();
            assert!(left.is_empty(), "{file}: {left:?} in {}", place.display());
        }
    }
    world.finish();
}

#[test]
fn a_hostile_directory_leads_nowhere() {
    let world = World::with_busybox();
    world.run("save -q --format oci-dir -o layout busybox").ok();
    let manifest = digest_of(&world, "busybox");
    let blob = format!("layout/blobs/sha256/{}", &manifest["sha256:".len()..]);
    world.run("rmi busybox").ok();
    world.on_host("cp -a layout pipe").ok();
    let piped = blob.replace("layout", "pipe");
    world.on_host(&format!("rm {piped}")).ok();
    world.on_host(&format!("mkfifo {piped}")).ok();
    let told = world.run("load -q -i pipe").fails(1);
    assert!(told.contains("is not a file"), "{told}");
    world.on_host(&format!("ln -sf /etc/passwd {blob}")).ok();
    let told = world.run("load -q -i layout").fails(1);
    assert!(told.contains("is not in the archive"), "{told}");
    let told = world.run("load -q -i .").fails(1);
    assert!(told.contains("has no index.json"), "{told}");
    world.finish();
}

#[test]
fn an_interrupted_save_or_load_leaves_nothing_and_can_be_done_again() {
    let world = World::with_busybox();
    // Writes into a pipe that nobody empties: it is at work for as long as we like.
    let mut saving = world
        .command(["save", "busybox"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start ketch");
    interrupt(&mut saving);
    world.run("save -q -o good.tar busybox").ok();
    world.run("rmi busybox").ok();
    let bytes = std::fs::read(world.path().join("good.tar")).expect("the archive");
    let mut loading = world
        .command(["load", "-q"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("start ketch");
    let half = &bytes[..bytes.len() / 2];
    std::io::Write::write_all(loading.stdin.as_mut().expect("a pipe"), half).expect("feed it");
    interrupt(&mut loading);
    assert_eq!(world.run("images -aq").ok(), "");
    assert_eq!(
        world.run("load -q -i good.tar").ok(),
        "Loaded image: busybox:latest"
    );
    assert_eq!(world.run("run --rm busybox echo well").ok(), "well");
    // `save -o` to a file that is there: it stays until the new one is whole.
    world.file("keep.tar", "old");
    let refused = world.run("save -q -o keep.tar busybox absent").fails(1);
    assert!(refused.contains("No such image: absent"), "{refused}");
    assert_eq!(
        std::fs::read_to_string(world.path().join("keep.tar")).expect("the file"),
        "old"
    );
    let refused = world.run("save -q -o no/where.tar busybox").fails(1);
    assert_eq!(
        refused,
        "failed to save image: invalid output path: directory \"no\" does not exist"
    );
    left_alone(world.path());
    world.finish();
}

fn interrupt(child: &mut std::process::Child) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status();
    assert!(sent.expect("kill").success());
    let status = child.wait().expect("wait for ketch");
    use std::os::unix::process::ExitStatusExt;
    // As a shell sees it: 130.
    assert!(
        status.signal() == Some(2) || status.code() == Some(130),
        "{status}"
    );
}

fn left_alone(directory: &Path) {
    let names = std::fs::read_dir(directory).expect("the directory");
    for name in names {
        let name = name.expect("an entry").file_name();
        assert!(!name.to_string_lossy().ends_with(".tmp"), "{name:?}");
    }
}
