//! What holds whatever form layers have.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use ketch_spec::image::{Descriptor, ImageConfig, Manifest, RootFs, media_type};
use ketch_spec::{Digest, Reference};
use ketch_store::tar::{Entry, Kind, Writer};
use ketch_store::{Error, Health, LayerForm, Roots, Store};
use tempfile::TempDir;

use super::{FORM, FORMS};

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), FORMS).unwrap();
    (directory, store)
}

/// The path of a file in a layer.
fn inside(layer: &OwnedFd, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", layer.as_raw_fd())
}

/// A layer's archive with some files.
fn layer_archive(name: &str, size: usize) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let mut directory = Entry::new(Kind::Directory, "etc");
    directory.mode = 0o755;
    writer.append(&directory).unwrap();
    for part in 0..8u8 {
        let mut file = Entry::new(Kind::File, format!("etc/{name}{part}"));
        file.mode = 0o644;
        file.size = size as u64;
        // Bytes that do not compress away.
        let mut state = u32::from(part) + 1;
        let data: Vec<u8> = (0..size)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        writer.append_file(&file, &data[..]).unwrap();
    }
    writer.finish().unwrap().0
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: BTreeMap::new(),
        other: Default::default(),
    }
}

/// Receives and unpacks one layer.
fn fetch(store: &Store, blob: &Descriptor, diff_id: &Digest, bytes: &[u8]) -> Result<(), Error> {
    match store.begin_layer(blob, diff_id)? {
        None => Ok(()),
        Some(ingest) => {
            let offset = usize::try_from(ingest.offset()).unwrap();
            ingest.unpack(&bytes[offset..], diff_id, &|_| {}).map(drop)
        }
    }
}

/// An image of the given layers (blob and diff id), as its manifest's descriptor.
fn image(store: &Store, layers: &[(Descriptor, Digest)]) -> Descriptor {
    let config = ImageConfig {
        architecture: "amd64".into(),
        os: "linux".into(),
        rootfs: RootFs {
            diff_ids: layers.iter().map(|layer| layer.1.clone()).collect(),
            ..RootFs::default()
        },
        ..ImageConfig::default()
    };
    let config = store
        .put(media_type::CONFIG, &serde_json::to_vec(&config).unwrap())
        .unwrap();
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        config,
        layers: layers.iter().map(|layer| layer.0.clone()).collect(),
        other: Default::default(),
    };
    store
        .put(
            media_type::MANIFEST,
            &serde_json::to_vec(&manifest).unwrap(),
        )
        .unwrap()
}

/// Every file below a directory, without what is always there.
fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut queue = vec![root.to_owned()];
    while let Some(directory) = queue.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                queue.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

const ALWAYS: [&str; 5] = [
    "images/index.json",
    "images/index.lock",
    "images/lock",
    "images/oci-layout",
    "ingest/reserve",
];

/// Nothing is left of whatever was in the store.
#[track_caller]
fn assert_empty(root: &Path) {
    let mut left = files(root);
    left.retain(|file| !ALWAYS.contains(&file.as_str()));
    assert_eq!(left, [""; 0]);
}

#[test]
fn privileged_every_compression_gives_the_same_layer() {
    let plain = layer_archive("f", 100_000);
    let diff_id = Digest::of(&plain);
    let forms = [
        (media_type::LAYER, plain.clone()),
        (media_type::LAYER_GZIP, gzip(&plain)),
        (
            media_type::DOCKER_LAYER_GZIP,
            [gzip(&plain[..512]), gzip(&plain[512..])].concat(),
        ),
        (
            media_type::LAYER_ZSTD,
            zstd::encode_all(&plain[..], 3).unwrap(),
        ),
        // Registries are full of blobs whose media type is wrong.
        (media_type::LAYER, gzip(&plain)),
    ];
    for (media_type, bytes) in forms {
        let (_directory, store) = store();
        let blob = descriptor(media_type, &bytes);
        fetch(&store, &blob, &diff_id, &bytes).unwrap();
        let record = store.layer(&diff_id).unwrap();
        assert_eq!(
            (record.form, record.size_bytes, record.entries),
            (FORM, 800_000, 9)
        );
        assert_eq!(record.archive_bytes, plain.len() as u64);
        assert_eq!(store.read(&blob.digest, 1 << 20).unwrap(), bytes);
        let layer = store.open_lower(&diff_id).unwrap();
        let first = std::fs::metadata(inside(&layer, "etc/f0")).unwrap();
        assert_eq!((first.len(), first.mtime()), (100_000, 0));
    }
}

#[test]
fn privileged_a_cut_stream_continues_where_it_stopped() {
    let (_directory, store) = store();
    let plain = layer_archive("f", 100_000);
    let (diff_id, bytes) = (Digest::of(&plain), gzip(&plain));
    let blob = descriptor(media_type::LAYER_GZIP, &bytes);
    let ingest = store.begin_layer(&blob, &diff_id).unwrap().unwrap();
    let error = ingest
        .unpack(&bytes[..300_000], &diff_id, &|_| {})
        .expect_err("a cut stream");
    assert!(
        matches!(
            error,
            Error::Source {
                received_bytes: 300_000,
                ..
            }
        ),
        "{error}"
    );
    assert!(!store.has_layer(&diff_id) && !store.has(&blob.digest));

    let ingest = store.begin_layer(&blob, &diff_id).unwrap().unwrap();
    assert_eq!(ingest.offset(), 300_000);
    let seen = AtomicUsize::new(0);
    ingest
        .unpack(&bytes[300_000..], &diff_id, &|done| {
            seen.store(done as usize, Ordering::Relaxed)
        })
        .unwrap();
    assert_eq!(seen.into_inner(), bytes.len());
    assert!(store.has_layer(&diff_id) && store.has(&blob.digest));
    assert!(store.begin_layer(&blob, &diff_id).unwrap().is_none());
}

#[test]
fn privileged_wrong_bytes_never_become_visible() {
    let plain = layer_archive("f", 50_000);
    let (diff_id, bytes) = (Digest::of(&plain), gzip(&plain));
    let blob = descriptor(media_type::LAYER_GZIP, &bytes);
    let mut changed = bytes.clone();
    changed[200_000] ^= 1;
    let longer = [&bytes[..], b"more"].concat();
    let other_layer = Digest::of(b"another layer");
    let cases: [(&[u8], &Digest, &str); 3] = [
        (&changed, &diff_id, "digest mismatch: expected"),
        (&longer, &diff_id, "digest mismatch: expected"),
        (
            &bytes,
            &other_layer,
            "layer mismatch: the image config says diff id",
        ),
    ];
    for (bytes, diff_id, message) in cases {
        let (directory, store) = store();
        let error = fetch(&store, &blob, diff_id, bytes).expect_err(message);
        assert!(error.to_string().contains(message), "{error}");
        assert!(!store.has_layer(diff_id) && !store.has(&blob.digest));
        assert_empty(directory.path());
    }
}

#[test]
fn privileged_a_bad_archive_with_the_right_digest_names_its_entry() {
    let (directory, store) = store();
    let mut writer = Writer::new(Vec::new());
    let mut entry = Entry::new(Kind::HardLink, "bad/link");
    entry.link = b"../../etc/passwd".to_vec();
    writer.append(&entry).unwrap();
    let (mut bytes, _) = writer.finish().unwrap();
    // Much more behind it, so that the failure comes long before the end.
    bytes.resize(8 << 20, 0);
    let blob = descriptor(media_type::LAYER, &bytes);
    let error = fetch(&store, &blob, &Digest::of(&bytes), &bytes).expect_err("a hostile archive");
    assert_eq!(
        error.to_string(),
        "archive entry \"bad/link\": it leads out of the root directory"
    );
    assert_empty(directory.path());
}

#[test]
fn privileged_other_layers_and_compressions_are_refused_by_name() {
    let (_directory, store) = store();
    let xz = b"\xfd7zXZ\0rest of it".to_vec();
    let blob = descriptor(media_type::LAYER, &xz);
    let error = fetch(&store, &blob, &blob.digest, &xz).expect_err("xz");
    assert_eq!(error.to_string(), "cannot decompress xz data");
    let encrypted = descriptor("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", &xz);
    let error = store
        .begin_layer(&encrypted, &blob.digest)
        .expect_err("encrypted");
    assert!(
        error.to_string().contains("+encrypted are not supported"),
        "{error}"
    );
}

#[test]
fn privileged_concurrent_fetches_of_one_layer_do_the_work_once() {
    let (_directory, store) = store();
    let plain = layer_archive("f", 200_000);
    let (diff_id, bytes) = (Digest::of(&plain), gzip(&plain));
    let blob = descriptor(media_type::LAYER_GZIP, &bytes);
    let fetched = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                if let Some(ingest) = store.begin_layer(&blob, &diff_id).unwrap() {
                    fetched.fetch_add(1, Ordering::Relaxed);
                    ingest.unpack(&bytes[..], &diff_id, &|_| {}).unwrap();
                }
                assert!(store.has_layer(&diff_id));
            });
        }
    });
    assert_eq!(fetched.into_inner(), 1);
}

#[test]
fn privileged_records_make_durable_what_they_name() {
    let (directory, store) = store();
    let plain = layer_archive("f", 1000);
    let blob = descriptor(media_type::LAYER, &plain);
    fetch(&store, &blob, &blob.digest, &plain).unwrap();
    let settled = |digest: &Digest| directory.path().join("layers").join(digest.hex()).exists();
    assert!(
        store.has_layer(&blob.digest) && !settled(&blob.digest),
        "no record: nothing to sync for"
    );
    let target = image(&store, &[(blob.clone(), blob.digest.clone())]);
    let name: Reference = "registry.example/app:1".parse().unwrap();
    store.set_tag(&name, &target, false).unwrap();
    assert!(settled(&blob.digest));
    let pending: Vec<_> = files(directory.path())
        .into_iter()
        .filter(|file| file.starts_with("ingest") && !ALWAYS.contains(&file.as_str()))
        .collect();
    assert_eq!(pending, [""; 0]);
    let missing = descriptor(media_type::MANIFEST, b"not here");
    assert!(matches!(
        store.set_tag(&name, &missing, false),
        Err(Error::MissingBlob { .. })
    ));
}

#[test]
fn privileged_a_name_that_moves_leaves_an_untagged_image() {
    let (_directory, store) = store();
    let make = |name: &str| {
        let plain = layer_archive(name, 10);
        let blob = descriptor(media_type::LAYER, &plain);
        fetch(&store, &blob, &blob.digest, &plain).unwrap();
        image(&store, &[(blob.clone(), blob.digest.clone())])
    };
    let (one, two) = (make("one"), make("two"));
    let (a, b): (Reference, Reference) = ("a".parse().unwrap(), "b".parse().unwrap());
    let records = || -> Vec<(Option<String>, bool)> {
        let records = store.images().unwrap();
        records
            .iter()
            .map(|r| {
                (
                    r.reference.as_ref().map(Reference::familiar),
                    r.target.digest == one.digest,
                )
            })
            .collect()
    };
    store.set_tag(&a, &one, true).unwrap();
    store.set_tag(&a, &two, false).unwrap();
    assert_eq!(records(), [(Some("a:latest".into()), false), (None, true)]);
    store.set_tag(&b, &one, false).unwrap();
    assert_eq!(
        records(),
        [
            (Some("a:latest".into()), false),
            (Some("b:latest".into()), true)
        ]
    );
    assert!(store.remove_tag(&b, true).unwrap());
    assert_eq!(records(), [(Some("a:latest".into()), false), (None, true)]);
    assert_eq!(store.remove_records(&one.digest).unwrap(), 1);
    assert!(store.remove_tag(&a, false).unwrap() && !store.remove_tag(&a, false).unwrap());
    assert_eq!(records(), []);
}

#[test]
fn privileged_collection_keeps_what_is_reachable() {
    let (directory, store) = store();
    let fetched = |name: &str| {
        let plain = layer_archive(name, 1000);
        let blob = descriptor(media_type::LAYER_GZIP, &gzip(&plain));
        let diff_id = Digest::of(&plain);
        fetch(&store, &blob, &diff_id, &gzip(&plain)).unwrap();
        (blob, diff_id)
    };
    let (shared, first, second) = (fetched("shared"), fetched("first"), fetched("second"));
    let one = image(&store, &[shared.clone(), first.clone()]);
    let two = image(&store, &[shared.clone(), second.clone()]);
    store.set_tag(&"one".parse().unwrap(), &one, false).unwrap();
    store.set_tag(&"two".parse().unwrap(), &two, false).unwrap();
    let draft = store.draft().unwrap();
    std::fs::create_dir(directory.path().join("ingest/settling/another-boot")).unwrap();
    std::fs::write(directory.path().join("ingest/work/garbage"), b"x").unwrap();

    let collect = |roots: &Roots| {
        store
            .collect(roots, store.lock_exclusive().unwrap())
            .unwrap()
    };
    let freed = collect(&Roots::default());
    assert_eq!((freed.blobs.len(), freed.layers.len()), (0, 0));
    assert!(
        !directory
            .path()
            .join("ingest/settling/another-boot")
            .exists()
    );
    assert!(!directory.path().join("ingest/work/garbage").exists());
    assert!(draft.path().exists(), "a draft with an owner is in use");

    store.remove_records(&two.digest).unwrap();
    // A container still runs on the second image's own layer.
    let roots = Roots {
        layers: [second.1.clone()].into(),
        ..Roots::default()
    };
    let freed = collect(&roots);
    assert_eq!(freed.layers, []);
    assert!(freed.blobs.contains(&second.0.digest) && !store.has(&two.digest));
    assert!(store.has_layer(&second.1) && store.has_layer(&shared.1));

    let freed = collect(&Roots::default());
    assert_eq!(freed.layers, [second.1]);
    match FORM {
        LayerForm::Directory => assert_eq!(freed.bytes, 8000),
        // The archive, and what there is of the image.
        LayerForm::Erofs => assert!((14_000..40_000).contains(&freed.bytes), "{}", freed.bytes),
    }
    store.remove_records(&one.digest).unwrap();
    assert_eq!(collect(&Roots::default()).layers.len(), 2);
    drop(draft);
    assert_empty(directory.path());
}

#[test]
fn privileged_a_directory_becomes_a_layer_that_others_unpack_alike() {
    let (directory, store) = store();
    let upper = directory.path().join("upper");
    std::fs::create_dir_all(upper.join("usr/bin")).unwrap();
    std::fs::write(upper.join("usr/bin/tool"), b"#!/bin/sh\n").unwrap();
    let set = |name: &str, key: &std::ffi::CStr, value: &[u8]| {
        let parent = ketch_sys::fs::open_directory(&upper).unwrap();
        ketch_sys::fs::set_xattr_at(parent.as_fd(), name.as_ref(), key, value).unwrap();
    };
    set("usr", c"trusted.overlay.origin", b"\0\xfb\x1d");
    set("usr", c"trusted.overlay.opaque", b"y");
    let layer = store.commit_layer(&upper).unwrap();
    assert!(!upper.exists());
    let open = store.open_lower(&layer.digest).unwrap();
    let usr = std::fs::metadata(inside(&open, "usr")).unwrap();
    assert_eq!(usr.mtime_nsec(), 0, "times are those of the archive");
    let keys = |name: &str| {
        let xattrs = ketch_sys::fs::xattrs_at(open.as_fd(), name.as_ref()).unwrap();
        xattrs
            .into_iter()
            .map(|(key, _)| key.into_string().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(keys("usr"), ["trusted.overlay.opaque"]);

    let (_directory, other) = self::store();
    let bytes = store.read(&layer.digest, 1 << 20).unwrap();
    fetch(&other, &layer, &layer.digest, &bytes).unwrap();
    let totals = |store: &Store| {
        let record = store.layer(&layer.digest).unwrap();
        (record.size_bytes, record.archive_bytes, record.entries)
    };
    assert_eq!(totals(&other), totals(&store));
    let open = other.open_lower(&layer.digest).unwrap();
    let there = std::fs::metadata(inside(&open, "usr")).unwrap();
    assert_eq!(
        (there.mode(), there.mtime(), there.mtime_nsec()),
        (usr.mode(), usr.mtime(), 0)
    );
}

#[test]
fn privileged_other_tools_read_the_layout_in_place() {
    let (directory, store) = store();
    let plain = layer_archive("f", 1000);
    let blob = descriptor(media_type::LAYER_GZIP, &gzip(&plain));
    fetch(&store, &blob, &Digest::of(&plain), &gzip(&plain)).unwrap();
    let target = image(&store, &[(blob, Digest::of(&plain))]);
    store
        .set_tag(&"registry.example/app:1".parse().unwrap(), &target, false)
        .unwrap();
    store
        .set_tag(&"busybox".parse().unwrap(), &target, false)
        .unwrap();
    let layout = directory.path().join("images").display().to_string();
    for name in ["registry.example/app:1", "docker.io/library/busybox:latest"] {
        let output = Command::new("skopeo")
            .args(["inspect", &format!("oci:{layout}:{name}")])
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(shown["Digest"], target.digest.as_str());
    }
    let copy = directory.path().join("copy.tar").display().to_string();
    let arguments = [
        "copy",
        "-q",
        &format!("oci:{layout}:registry.example/app:1"),
        &format!("docker-archive:{copy}:x:y"),
    ];
    assert!(
        Command::new("skopeo")
            .args(arguments)
            .status()
            .unwrap()
            .success()
    );
    let output = Command::new("umoci")
        .args(["ls", "--layout", &layout])
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(
        listed.lines().any(|line| line == "registry.example/app:1"),
        "{listed}"
    );
}

/// Told in the environment to be the process that is killed: receives a layer from its standard input.
const CHILD: &str = "KETCH_TEST_STORE_CHILD";

#[test]
fn privileged_child_of_the_kill_test() {
    let Ok(root) = std::env::var(CHILD) else {
        return;
    };
    let store = Store::open(Path::new(&root), FORMS).unwrap();
    let _lock = store.lock_shared().unwrap();
    let mut diff_id = [0u8; 71];
    io::stdin().read_exact(&mut diff_id).unwrap();
    let mut blob = [0u8; 71];
    io::stdin().read_exact(&mut blob).unwrap();
    let parse = |text: &[u8]| {
        std::str::from_utf8(text)
            .unwrap()
            .parse::<Digest>()
            .unwrap()
    };
    let descriptor = Descriptor {
        digest: parse(&blob),
        size: 16 << 20,
        ..descriptor(media_type::LAYER, b"")
    };
    let ingest = store
        .begin_layer(&descriptor, &parse(&diff_id))
        .unwrap()
        .unwrap();
    let _ = ingest.unpack(io::stdin(), &parse(&diff_id), &|_| {});
}

#[test]
fn privileged_a_killed_fetch_leaves_what_the_next_one_continues() {
    let (directory, store) = store();
    let mut plain = layer_archive("f", 1 << 20);
    plain.resize(16 << 20, 0);
    let blob = descriptor(media_type::LAYER, &plain);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            concat!(module_path!(), "::privileged_child_of_the_kill_test")
                .split_once("::")
                .unwrap()
                .1,
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(format!("{}{}", blob.digest, blob.digest).as_bytes())
        .unwrap();
    // Once these are written, the child has read all but what a pipe holds.
    stdin.write_all(&plain[..6 << 20]).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!store.has_layer(&blob.digest) && !store.has(&blob.digest));
    assert_eq!(
        std::fs::read_dir(directory.path().join("ingest/work"))
            .unwrap()
            .count(),
        1,
        "half a tree is left"
    );

    // Its locks died with it: collection goes ahead, and keeps the bytes that came.
    store
        .collect(&Roots::default(), store.lock_exclusive().unwrap())
        .unwrap();
    assert_eq!(
        std::fs::read_dir(directory.path().join("ingest/work"))
            .unwrap()
            .count(),
        0
    );
    let ingest = store.begin_layer(&blob, &blob.digest).unwrap().unwrap();
    let offset = usize::try_from(ingest.offset()).unwrap();
    assert!(offset > 4 << 20, "only {offset} bytes were kept");
    ingest
        .unpack(&plain[offset..], &blob.digest, &|_| {})
        .unwrap();
    assert_eq!(store.layer(&blob.digest).unwrap().size_bytes, 8 << 20);
}

#[test]
fn locks_exclude_across_handles() {
    let (_directory, store) = store();
    let shared = store.lock_shared().unwrap();
    let second = store.clone().lock_shared().unwrap();
    assert!(store.try_lock_exclusive().unwrap().is_none());
    drop((shared, second));
    let exclusive = store.try_lock_exclusive().unwrap();
    assert!(exclusive.is_some());
}

#[test]
fn privileged_what_is_damaged_is_told() {
    let (directory, store) = store();
    let plain = layer_archive("f", 1000);
    let (blob, diff_id) = (
        descriptor(media_type::LAYER_GZIP, &gzip(&plain)),
        Digest::of(&plain),
    );
    fetch(&store, &blob, &diff_id, &gzip(&plain)).unwrap();
    assert_eq!(store.verify_blob(&blob.digest).unwrap(), Health::Sound);
    let sound = store.verify_layer(&diff_id).unwrap();
    let damage = |name: &str| {
        let file = files(directory.path())
            .into_iter()
            .find(|file| file.ends_with(name))
            .unwrap();
        let path = directory.path().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    };
    damage(blob.digest.hex());
    assert!(matches!(
        store.verify_blob(&blob.digest).unwrap(),
        Health::Damaged(_)
    ));
    match FORM {
        LayerForm::Directory => assert_eq!(sound, Health::Unknown),
        LayerForm::Erofs => {
            assert_eq!(sound, Health::Sound);
            damage("layer.erofs");
            let Health::Damaged(why) = store.verify_layer(&diff_id).unwrap() else {
                panic!("a damaged image")
            };
            assert!(why.contains("layer.erofs"), "{why}");
            damage("layer.tar");
            let Health::Damaged(why) = store.verify_layer(&diff_id).unwrap() else {
                panic!("a damaged archive")
            };
            assert!(why.contains("layer.tar"), "{why}");
        }
    }
}

#[test]
fn privileged_a_plain_blob_and_its_archive_are_one_file() {
    let (directory, store) = store();
    let plain = layer_archive("f", 1000);
    let imported = store.import_layer(&plain[..]).unwrap();
    let (blob, diff_id) = (imported.descriptor.digest, imported.layer.unwrap().diff_id);
    assert_eq!(
        (&blob, &diff_id),
        (&Digest::of(&plain), &Digest::of(&plain))
    );
    let kept = files(directory.path());
    let archive = kept.iter().find(|file| file.ends_with("layer.tar"));
    assert_eq!(archive.is_some(), FORM == LayerForm::Erofs);
    if let Some(archive) = archive {
        let found = std::fs::metadata(directory.path().join(archive)).unwrap();
        assert_eq!((found.nlink(), found.len()), (2, plain.len() as u64));
        // Freed once, with the second of its names.
        let roots = Roots {
            layers: [diff_id].into(),
            ..Roots::default()
        };
        let freed = store
            .collect(&roots, store.lock_exclusive().unwrap())
            .unwrap();
        assert_eq!((freed.blobs.len(), freed.bytes), (1, 0));
        let freed = store
            .collect(&Roots::default(), store.lock_exclusive().unwrap())
            .unwrap();
        assert!(freed.bytes >= plain.len() as u64);
    }
}

#[test]
fn privileged_an_image_becomes_files_for_kernels_that_mount_none() {
    let (directory, store) = store();
    let plain = layer_archive("f", 1000);
    let (blob, diff_id) = (
        descriptor(media_type::LAYER_GZIP, &gzip(&plain)),
        Digest::of(&plain),
    );
    fetch(&store, &blob, &diff_id, &gzip(&plain)).unwrap();
    let record = store.unpack_image(&diff_id).unwrap();
    assert_eq!(
        (record.form, record.size_bytes, record.entries),
        (LayerForm::Directory, 8000, 9)
    );
    assert_eq!(store.layer(&diff_id).unwrap(), record);
    let layer = store.open_lower(&diff_id).unwrap();
    let first = std::fs::metadata(inside(&layer, "etc/f0")).unwrap();
    assert_eq!((first.len(), first.mtime()), (1000, 0));
    let left = files(directory.path());
    assert!(
        !left
            .iter()
            .any(|file| file.contains("layer.tar") || file.contains("work/")),
        "{left:?}"
    );
}
