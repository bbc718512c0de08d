//! Archives that try to get out, or to make trouble, through every way in: import, load, ADD and cp.

use ketch_store::tar::{Entry, Kind, Time, Writer};
use ketch_test_support::World;

/// An archive, and what has to be said of it: by import and load, by ADD, by cp; None: it is taken.
struct Hostile {
    name: &'static str,
    archive: Vec<u8>,
    refused: Option<&'static str>,
    refused_by_cp: Option<&'static str>,
}

fn entry(kind: Kind, path: &[u8], link: &str) -> Entry {
    let mut entry = Entry::new(kind, path);
    entry.mode = 0o755;
    entry.link = link.into();
    entry
}

fn file(path: &[u8]) -> Entry {
    let mut entry = entry(Kind::File, path, "");
    entry.size = 4;
    entry
}

fn hostile(name: &'static str, refused: Option<&'static str>, entries: &[Entry]) -> Hostile {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        writer.append_file(entry, &b"evil"[..]).unwrap();
    }
    Hostile {
        name,
        archive: writer.finish().unwrap().0,
        refused,
        refused_by_cp: refused,
    }
}

fn all(outside: &str) -> Vec<Hostile> {
    let out = Some("leads out of the root directory");
    let by_cp = |mut hostile: Hostile, refused| {
        hostile.refused_by_cp = refused;
        hostile
    };
    let mut strange = file(b"strange\n\xff\x1b[2J");
    strange.mtime = Time {
        seconds: -5,
        nanoseconds: 7,
    };
    strange.mode = 0o6755;
    let mut marked = entry(Kind::Directory, b"marked/", "");
    marked.xattrs = [
        ("trusted.overlay.redirect", "/etc"),
        ("trusted.overlay.opaque", "y"),
    ]
    .map(|(key, value)| (key.into(), value.into()))
    .to_vec();
    let mut device = entry(Kind::BlockDevice, b"disk", "");
    device.major = 8;
    vec![
        by_cp(
            hostile("dots", out, &[file(b"../../x")]),
            Some("leaves its directory"),
        ),
        by_cp(
            hostile(
                "a-hard-link-out",
                out,
                &[entry(Kind::HardLink, b"x", "../../etc/passwd")],
            ),
            Some("leaves its directory"),
        ),
        by_cp(
            hostile(
                "a-link-and-a-file-behind-it",
                Some("cannot extract \"out/x\""),
                &[entry(Kind::Symlink, b"out", outside), file(b"out/x")],
            ),
            Some("cannot write"),
        ),
        by_cp(
            hostile(
                "a-whiteout-of-what-is-above",
                Some("whiteout of nothing"),
                &[file(b".wh..")],
            ),
            None,
        ),
        by_cp(
            hostile(
                "a-long-name",
                Some("longer than 255 bytes"),
                &[file(&[b'n'; 256])],
            ),
            Some("cannot write"),
        ),
        hostile("strange-names", None, &[strange, file(b".wh.../x")]),
        hostile("marks-of-overlayfs", None, &[marked]),
        hostile("a-disk", None, &[device]),
    ]
}

/// An image archive as Docker's older ones are, with one layer.
fn image(layer: &[u8], name: &str) -> Vec<u8> {
    let digest = ketch_spec::Digest::of(layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#
    );
    let manifest =
        format!(r#"[{{"Config":"c.json","RepoTags":["{name}:1"],"Layers":["layer.tar"]}}]"#);
    let mut writer = Writer::new(Vec::new());
    for (path, data) in [
        ("layer.tar", layer),
        ("c.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut file = entry(Kind::File, path.as_bytes(), "");
        file.size = data.len() as u64;
        writer.append_file(&file, data).unwrap();
    }
    writer.finish().unwrap().0
}

#[track_caller]
fn expect(ran: &ketch_test_support::Ran, refused: Option<&str>, what: &str) {
    match refused {
        None => assert_eq!(ran.code(), Some(0), "{what}: {}", ran.describe()),
        Some(words) => {
            assert!(ran.code() != Some(0), "{what} was taken");
            assert!(
                ran.stderr().contains(words),
                "{what} does not say {words:?}: {}",
                ran.describe()
            );
        }
    }
}

#[test]
fn hostile_archives_write_nowhere_else_and_are_named() {
    let world = World::with_busybox();
    let outside = world.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    world.run("create --name target busybox true").ok();
    for hostile in all(outside.to_str().unwrap()) {
        let Hostile {
            name,
            archive,
            refused,
            refused_by_cp,
        } = hostile;
        let ran = world.run_with_input(&format!("import - {name}:imported"), &archive);
        expect(&ran, refused, &format!("import of {name}"));
        let ran = world.run_with_input("load -q", &image(&archive, name));
        expect(&ran, refused, &format!("load of {name}"));
        std::fs::create_dir_all(world.path().join(name)).unwrap();
        std::fs::write(world.path().join(name).join("evil.tar"), &archive).unwrap();
        world.file(
            &format!("{name}/Dockerfile"),
            "FROM busybox\nADD evil.tar /added/\nRUN ls /added\n",
        );
        let ran = world.run(&format!("build -q -t {name}:built {name}"));
        expect(&ran, refused, &format!("ADD of {name}"));
        let ran = world.run_with_input("cp - target:/tmp", &archive);
        expect(&ran, refused_by_cp, &format!("cp of {name}"));
        assert_eq!(
            std::fs::read_dir(&outside).unwrap().count(),
            0,
            "{name} got out"
        );
        // A terminal is not the archive's to speak to.
        assert!(!ran.stderr().contains('\x1b'), "{name}");
    }
    // What was taken is what a container sees, and no more.
    let seen = world
        .run("run --rm marks-of-overlayfs:built ls /added/marked")
        .ok();
    assert_eq!(seen, "");
    let seen = world
        .run("run --rm a-disk:built sh -c 'cat /added/disk 2>&1; true'")
        .ok();
    assert!(seen.contains("not permitted"), "{seen}");
    world.run("rm target").ok();
    world.finish();
}
