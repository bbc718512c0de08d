//! Images through the engine: load, save, import, tag, remove, prune, and layers being written; with skopeo as an independent
//! writer and reader. Needs skopeo, busybox-static and root (layers have owners, overlays are mounted).
#![allow(missing_docs)]

use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use ketch_engine::container::{self, CreateRequest, NetworkRequest};
use ketch_engine::image::{
    self, Format, ImportOptions, ListFilter, PruneOptions, RemoveOptions, RemovedImage,
    SaveOptions, Silent,
};
use ketch_engine::layer::{self, CacheRecord, LayerDraft, LayerView};
use ketch_engine::{Engine, EngineOptions, ErrorKind};
use ketch_spec::image::{Descriptor, History, ImageConfig, RootFs, RunConfig};
use ketch_spec::{Digest, Reference};
use tempfile::TempDir;

fn engine() -> (TempDir, Engine) {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(EngineOptions {
        data_root: directory.path().join("data"),
        run_root: directory.path().join("run"),
        executable: PathBuf::from("/bin/true"),
        registry_config: None,
        layer_forms: Default::default(),
    })
    .unwrap();
    (directory, engine)
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// A directory behind a descriptor, as a path.
fn path_of(directory: BorrowedFd<'_>) -> PathBuf {
    format!("/proc/self/fd/{}", directory.as_raw_fd()).into()
}

/// A layer with one file on top of others.
fn layer(engine: &Engine, parents: &[Digest], name: &str, content: &str) -> Descriptor {
    let draft = LayerDraft::new(engine, parents).unwrap();
    fs::write(path_of(draft.root()).join(name), content).unwrap();
    draft.commit().unwrap()
}

/// An image with these layers and names.
fn build(engine: &Engine, layers: &[Descriptor], created: &str, tags: &[&str]) -> Digest {
    let config = ImageConfig {
        created: Some(created.to_owned()),
        architecture: "amd64".into(),
        os: "linux".into(),
        config: Some(RunConfig {
            cmd: Some(vec!["sh".into()]),
            ..RunConfig::default()
        }),
        rootfs: RootFs {
            diff_ids: layers.iter().map(|layer| layer.digest.clone()).collect(),
            ..RootFs::default()
        },
        history: layers
            .iter()
            .map(|layer| History {
                created_by: Some(format!("COPY {}", layer.digest.short())),
                ..History::default()
            })
            .chain([History {
                created_by: Some("CMD sh".into()),
                empty_layer: true,
                ..History::default()
            }])
            .collect(),
        ..ImageConfig::default()
    };
    let tags = tags.iter().map(|tag| reference(tag)).collect();
    image::commit(
        engine,
        image::NewImage {
            config,
            layers: layers.to_vec(),
            tags,
        },
    )
    .unwrap()
}

fn create_container(engine: &Engine, name: &str, image: &str) -> String {
    let request = CreateRequest {
        name: Some(name.to_owned()),
        image: image.to_owned(),
        network: NetworkRequest::None,
        ..CreateRequest::default()
    };
    container::create(engine, request, &Silent)
        .unwrap()
        .id
        .to_string()
}

fn save(engine: &Engine, images: &[&str], format: Format) -> Vec<u8> {
    let images: Vec<String> = images.iter().map(|image| (*image).to_owned()).collect();
    let mut bytes = Vec::new();
    let options = SaveOptions {
        format,
        ..SaveOptions::default()
    };
    image::save(engine, &images, &mut bytes, &options, &Silent).unwrap();
    bytes
}

fn forced() -> RemoveOptions {
    RemoveOptions {
        force: true,
        ..RemoveOptions::default()
    }
}

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo")
        .args(arguments)
        .output()
        .expect("skopeo");
    assert!(
        output.status.success(),
        "skopeo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// No blob, layer or unfinished thing is left.
fn assert_empty(engine: &Engine) {
    let root = engine.paths().data_root();
    for place in [
        "images/blobs/sha256",
        "layers",
        "ingest/work",
        "ingest/blobs",
    ] {
        let left: Vec<_> = fs::read_dir(root.join(place))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "{place} has {left:?}");
    }
}

#[test]
fn privileged_drafts_are_overlays_of_their_parents() {
    let (_directory, engine) = engine();
    let base = LayerDraft::new(&engine, &[]).unwrap();
    let root = path_of(base.root());
    fs::create_dir_all(root.join("etc/conf.d")).unwrap();
    fs::write(root.join("etc/conf.d/a"), "a").unwrap();
    fs::write(root.join("etc/kept"), "kept").unwrap();
    let base = base.commit().unwrap();

    let mut draft = LayerDraft::new(&engine, std::slice::from_ref(&base.digest)).unwrap();
    let root = path_of(draft.root());
    assert_eq!(fs::read(root.join("etc/conf.d/a")).unwrap(), b"a");
    fs::remove_dir_all(root.join("etc/conf.d")).unwrap();
    fs::create_dir(root.join("etc/conf.d")).unwrap();
    fs::write(root.join("etc/conf.d/b"), "b").unwrap();
    fs::remove_file(root.join("etc/kept")).unwrap();
    fs::rename(root.join("etc/conf.d/b"), root.join("etc/c")).unwrap();
    draft.unmount().unwrap();
    draft.remount().unwrap();
    fs::write(path_of(draft.root()).join("after"), "remount").unwrap();
    let top = draft.commit().unwrap();

    let view = LayerView::open(&engine, &[base.digest.clone(), top.digest.clone()]).unwrap();
    let root = path_of(view.root());
    assert!(!root.join("etc/conf.d/a").exists() && !root.join("etc/kept").exists());
    assert_eq!(fs::read(root.join("etc/c")).unwrap(), b"b");
    assert_eq!(fs::read(root.join("after")).unwrap(), b"remount");
    assert!(
        fs::write(root.join("x"), "").is_err(),
        "a view is read-only"
    );
    assert_eq!(
        fs::read_dir(path_of(LayerView::open(&engine, &[]).unwrap().root()))
            .unwrap()
            .count(),
        0
    );

    // What the archive says is what another store makes of it.
    let (_other_directory, other) = self::engine();
    for blob in [&base, &top] {
        let bytes = engine.store().read(&blob.digest, 1 << 20).unwrap();
        let ingest = other
            .store()
            .begin_layer(blob, &blob.digest)
            .unwrap()
            .unwrap();
        ingest.unpack(&bytes[..], &blob.digest, &|_| {}).unwrap();
    }
    let view = LayerView::open(&other, &[base.digest, top.digest]).unwrap();
    let root = path_of(view.root());
    assert!(!root.join("etc/conf.d/a").exists() && !root.join("etc/kept").exists());
    assert_eq!(fs::read(root.join("etc/c")).unwrap(), b"b");
}

#[test]
fn privileged_the_root_directory_keeps_its_attributes() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (_directory, engine) = engine();
    let base = LayerDraft::new(&engine, &[]).unwrap();
    fs::set_permissions(path_of(base.root()), fs::Permissions::from_mode(0o1710)).unwrap();
    std::os::unix::fs::chown(path_of(base.root()), Some(0), Some(42)).unwrap();
    let base = base.commit().unwrap();
    let top = layer(&engine, std::slice::from_ref(&base.digest), "f", "x");
    build(
        &engine,
        &[base.clone(), top.clone()],
        "2024-01-01T00:00:00Z",
        &["app:1"],
    );
    let view = LayerView::open(&engine, &[base.digest, top.digest]).unwrap();
    let id = create_container(&engine, "user", "app:1").parse().unwrap();
    for path in [path_of(view.root()), engine.paths().writable_upper(&id)] {
        let root = fs::metadata(path).unwrap();
        assert_eq!((root.mode() & 0o7777, root.gid()), (0o1710, 42));
    }
}

#[test]
fn privileged_a_dropped_draft_leaves_nothing() {
    let (_directory, engine) = engine();
    let base = layer(&engine, &[], "f", "x");
    let draft = LayerDraft::new(&engine, std::slice::from_ref(&base.digest)).unwrap();
    fs::write(path_of(draft.root()).join("g"), "y").unwrap();
    drop(draft);
    let missing = Digest::of(b"missing");
    let error = LayerDraft::new(&engine, &[missing]).expect_err("a missing parent");
    assert_eq!(error.kind, ErrorKind::NotFound);
    image::collect(&engine).unwrap();
    assert_empty(&engine);
}

#[test]
fn privileged_many_layers_stack() {
    let (_directory, engine) = engine();
    let mut layers: Vec<Digest> = Vec::new();
    for number in 0..128 {
        let draft = LayerDraft::new(&engine, &[]).unwrap();
        fs::write(path_of(draft.root()).join(format!("f{number}")), "x").unwrap();
        fs::write(path_of(draft.root()).join("top"), number.to_string()).unwrap();
        layers.push(draft.commit().unwrap().digest);
    }
    let view = LayerView::open(&engine, &layers).unwrap();
    let root = path_of(view.root());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 129);
    assert_eq!(fs::read(root.join("top")).unwrap(), b"127");
}

#[test]
fn privileged_images_are_found_by_every_name() {
    let (_directory, engine) = engine();
    let base = layer(&engine, &[], "f", "x");
    let id = build(
        &engine,
        &[base],
        "2024-01-01T00:00:00Z",
        &["app:1", "registry.example:5000/team/app:2"],
    );
    for name in [
        "app:1",
        "docker.io/library/app:1",
        "registry.example:5000/team/app:2",
    ] {
        assert_eq!(image::resolve(&engine, name).unwrap().id, id, "{name}");
    }
    let manifest = image::resolve(&engine, "app:1").unwrap().target.digest;
    for name in [
        id.as_str(),
        id.hex(),
        &id.hex()[..12],
        &id.hex()[..2],
        manifest.as_str(),
    ] {
        assert_eq!(image::resolve(&engine, name).unwrap().id, id, "{name}");
    }
    for (name, message) in [
        ("app", "No such image: app:latest"),
        ("nope", "No such image: nope:latest"),
        ("sha256:0123", "No such image: sha256:0123"),
    ] {
        let error = image::resolve(&engine, name).expect_err(name);
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::NotFound, message)
        );
    }
    assert_eq!(
        image::resolve(&engine, "UPPER CASE")
            .expect_err("no name")
            .kind,
        ErrorKind::Invalid
    );
    image::tag(&engine, &id.hex()[..12], "again").unwrap();
    assert_eq!(
        image::resolve(&engine, "again").unwrap().references.len(),
        3
    );
    let document = image::inspect(&engine, "again", None).unwrap();
    assert_eq!(document["Id"], id.as_str());
    assert_eq!(document["RepoTags"].as_array().unwrap().len(), 3);
    assert_eq!(document["Config"]["Cmd"][0], "sh");
    assert_eq!(document["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    let history = image::history(&engine, "again", None).unwrap();
    assert_eq!(
        (
            history[0].created_by.as_str(),
            history[0].size_bytes,
            &history[0].id
        ),
        ("CMD sh", 0, &Some(id))
    );
    assert_eq!((history[1].size_bytes, &history[1].id), (1, &None));
}

#[test]
fn privileged_listings_filter() {
    let (_directory, engine) = engine();
    let base = layer(&engine, &[], "f", "12345");
    let top = layer(&engine, &[], "g", "123");
    build(
        &engine,
        std::slice::from_ref(&base),
        "2024-01-01T00:00:00Z",
        &["old:1"],
    );
    build(
        &engine,
        &[base, top],
        "2024-02-01T00:00:00Z",
        &["new:1", "new:2"],
    );
    let list = |filter: ListFilter| -> Vec<String> {
        let found = image::list(&engine, &filter).unwrap();
        found
            .iter()
            .map(|s| {
                s.image
                    .references
                    .iter()
                    .map(Reference::familiar)
                    .collect::<Vec<_>>()
                    .join(",")
            })
            .collect()
    };
    assert_eq!(list(ListFilter::default()), ["new:1,new:2", "old:1"]);
    assert_eq!(
        list(ListFilter {
            references: vec!["new".into()],
            ..ListFilter::default()
        }),
        ["new:1,new:2"]
    );
    assert_eq!(
        list(ListFilter {
            references: vec!["*:2".into()],
            ..ListFilter::default()
        }),
        ["new:2"]
    );
    assert_eq!(
        list(ListFilter {
            since: Some("old:1".into()),
            ..ListFilter::default()
        }),
        ["new:1,new:2"]
    );
    assert_eq!(
        list(ListFilter {
            before: Some("new:1".into()),
            ..ListFilter::default()
        }),
        ["old:1"]
    );
    assert_eq!(
        list(ListFilter {
            dangling: Some(true),
            ..ListFilter::default()
        }),
        [""; 0]
    );
    let sizes = image::list(&engine, &ListFilter::default()).unwrap();
    assert_eq!((sizes[0].image.size_bytes, sizes[0].shared_bytes), (8, 5));
}

#[test]
fn privileged_removal_follows_dockers_rules() {
    let (_directory, engine) = engine();
    let base = layer(&engine, &[], "f", "x");
    let id = build(
        &engine,
        std::slice::from_ref(&base),
        "2024-01-01T00:00:00Z",
        &["app:1", "app:2", "other:1"],
    );
    let untagged = |name: &str| RemovedImage::Untagged(name.to_owned());
    assert_eq!(
        image::remove(&engine, "app:1", &RemoveOptions::default()).unwrap(),
        [untagged("app:1")]
    );
    let error = image::remove(&engine, &id.hex()[..12], &RemoveOptions::default())
        .expect_err("several repositories");
    assert_eq!(error.kind, ErrorKind::Conflict);
    let short = id.short();
    assert_eq!(
        error.message,
        format!(
            "conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
        )
    );
    image::remove(&engine, "other:1", &RemoveOptions::default()).unwrap();

    let container = create_container(&engine, "user", "app:2");
    let user = &container[..12];
    let error = image::remove(&engine, "app:2", &RemoveOptions::default()).expect_err("in use");
    assert_eq!(
        error.message,
        format!(
            "conflict: unable to remove repository reference \"app:2\" (must force) - container {user} is using its referenced image {short}"
        )
    );
    let error = image::remove(&engine, id.as_str(), &RemoveOptions::default()).expect_err("in use");
    assert_eq!(
        error.message,
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container {user}"
        )
    );
    let removed = image::remove(&engine, "app:2", &forced()).unwrap();
    assert_eq!(
        removed,
        [untagged("app:2"), RemovedImage::Deleted(id.to_string())]
    );
    assert!(
        engine.store().has_layer(&base.digest),
        "the container still needs it"
    );
    container::remove(&engine, "user", Default::default()).unwrap();
    assert_empty(&engine);

    let base = layer(&engine, &[], "f", "y");
    let id = build(
        &engine,
        std::slice::from_ref(&base),
        "2024-01-01T00:00:00Z",
        &["app:1"],
    );
    let removed = image::remove(&engine, "app:1", &RemoveOptions::default()).unwrap();
    let gone = [id.to_string(), base.digest.to_string()].map(RemovedImage::Deleted);
    assert_eq!(removed, [&[untagged("app:1")][..], &gone].concat());
    assert_empty(&engine);
    // A name that could be the beginning of the image's id is a name all the same.
    let base = layer(&engine, &[], "f", "z");
    let id = build(&engine, &[base], "2024-01-01T00:00:00Z", &["app:3"]);
    let tricky = &id.hex()[..5];
    image::tag(&engine, "app:3", tricky).unwrap();
    assert_eq!(
        image::remove(&engine, tricky, &RemoveOptions::default()).unwrap(),
        [untagged(&format!("{tricky}:latest"))]
    );
    let manifest = image::resolve(&engine, "app:3").unwrap().manifest.digest;
    assert_eq!(
        image::remove(&engine, manifest.as_str(), &RemoveOptions::default())
            .unwrap()
            .len(),
        3
    );

    let error = image::remove(&engine, "app:1", &forced()).expect_err("gone");
    assert_eq!(error.message, "No such image: app:1");
}

#[test]
fn privileged_prune_takes_what_nobody_uses() {
    let (_directory, engine) = engine();
    let layers: Vec<_> = ["1", "2", "3"]
        .map(|content| layer(&engine, &[], "f", content))
        .to_vec();
    build(&engine, &layers[..1], "2024-01-01T00:00:00Z", &["app:1"]);
    build(&engine, &layers[1..2], "2024-01-01T00:00:00Z", &["app:1"]);
    build(&engine, &layers[2..], "2024-01-01T00:00:00Z", &["used:1"]);
    create_container(&engine, "user", "used:1");
    let pruned = image::prune(&engine, &PruneOptions::default()).unwrap();
    assert_eq!(
        pruned
            .removed
            .iter()
            .filter(|line| matches!(line, RemovedImage::Untagged(_)))
            .count(),
        0
    );
    assert!(
        !engine.store().has_layer(&layers[0].digest) && engine.store().has_layer(&layers[1].digest)
    );
    assert!(pruned.freed_bytes > 0);
    let all = PruneOptions {
        all: true,
        ..PruneOptions::default()
    };
    let pruned = image::prune(&engine, &all).unwrap();
    assert_eq!(pruned.removed[0], RemovedImage::Untagged("app:1".into()));
    assert_eq!(
        image::list(&engine, &ListFilter::default()).unwrap().len(),
        1
    );
}

#[test]
fn privileged_the_cache_keeps_its_layers() {
    let (_directory, engine) = engine();
    let made = layer(&engine, &[], "f", "x");
    let key = Digest::of(b"key");
    assert!(layer::cache_get(&engine, &key).unwrap().is_none());
    let mut record = CacheRecord::new(Some(made.clone()));
    record.other.insert("note".into(), "kept".into());
    layer::cache_put(&engine, &key, &record).unwrap();
    image::collect(&engine).unwrap();
    assert_eq!(layer::cache_get(&engine, &key).unwrap().unwrap(), record);
    let (keys, freed) = layer::cache_prune(&engine, std::time::Duration::ZERO).unwrap();
    assert_eq!((keys, freed.layers), (vec![key.clone()], vec![made.digest]));
    assert!(layer::cache_get(&engine, &key).unwrap().is_none());
    assert_empty(&engine);
}

#[test]
fn privileged_a_collection_waits_for_those_at_work() {
    let (_directory, engine) = engine();
    let made = layer(&engine, &[], "f", "x");
    let lock = engine.store().lock_shared().unwrap();
    assert_eq!(image::collect(&engine).unwrap().layers, []);
    assert!(engine.store().has_layer(&made.digest));
    drop(lock);
    image::collect_if_pending(&engine).unwrap();
    assert_empty(&engine);
    let again = layer(&engine, &[], "f", "x");
    image::collect_if_pending(&engine).unwrap();
    assert!(
        engine.store().has_layer(&again.digest),
        "nothing is pending any more"
    );
}

#[test]
fn privileged_saved_images_load_with_the_same_digests() {
    let (directory, engine) = engine();
    let base = layer(&engine, &[], "f", "x");
    let top = layer(&engine, std::slice::from_ref(&base.digest), "g", "y");
    let one = build(
        &engine,
        std::slice::from_ref(&base),
        "2024-01-01T00:00:00Z",
        &["one:1", "one:2"],
    );
    let two = build(
        &engine,
        &[base, top],
        "2024-01-01T00:00:00Z",
        &["registry.example/two:1"],
    );
    let target = image::resolve(&engine, "one:1").unwrap().target;
    for format in [Format::Docker, Format::Oci] {
        let bytes = save(&engine, &["one", "registry.example/two:1"], format);
        assert_eq!(
            bytes,
            save(&engine, &["one", "registry.example/two:1"], format),
            "the same images, the same bytes"
        );
        for bytes in [bytes.clone(), gzip(&bytes)] {
            let (_other_directory, other) = self::engine();
            let loaded = image::load(&other, &bytes[..], &[], &Silent).unwrap();
            let ids: Vec<_> = loaded
                .iter()
                .map(|l| (l.id.clone(), l.references.len()))
                .collect();
            assert_eq!(ids, [(one.clone(), 2), (two.clone(), 1)]);
            assert_eq!(image::resolve(&other, "one:2").unwrap().target, target);
            assert_eq!(
                save(&other, &["one", "registry.example/two:1"], format),
                save(&engine, &["one", "registry.example/two:1"], format)
            );
            assert_eq!(
                image::load(&other, &bytes[..], &[], &Silent).unwrap(),
                loaded,
                "again, from what is here"
            );
        }
        let path = directory.path().join("saved.tar");
        fs::write(&path, &bytes).unwrap();
        let name = if format == Format::Docker {
            "docker-archive"
        } else {
            "oci-archive"
        };
        let from = match format {
            Format::Docker => format!("{name}:{}:one:1", path.display()),
            Format::Oci => format!("{name}:{}:1", save_one(&engine, directory.path()).display()),
        };
        let config = skopeo(&["inspect", "--config", "--raw", &from]);
        assert_eq!(Digest::of(config.as_bytes()), one, "{name}");
    }
    let unnamed = save(&engine, &[&one.hex()[..12]], Format::Docker);
    let (_other_directory, other) = self::engine();
    let loaded = image::load(&other, &unnamed[..], &[], &Silent).unwrap();
    assert_eq!(
        (loaded[0].id.clone(), loaded[0].references.len()),
        (one.clone(), 0)
    );
    assert!(image::resolve(&other, one.as_str()).unwrap().is_dangling());
    let error = image::save(
        &engine,
        &["nope".to_owned()],
        Vec::new(),
        &SaveOptions::default(),
        &Silent,
    )
    .expect_err("no image");
    assert_eq!(error.message, "No such image: nope");
}

fn save_one(engine: &Engine, directory: &Path) -> PathBuf {
    let path = directory.join("one.tar");
    fs::write(&path, save(engine, &["one:1"], Format::Oci)).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

/// A root file system with busybox, as an archive.
fn busybox_root() -> Vec<u8> {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("bin")).unwrap();
    fs::copy("/bin/busybox", root.path().join("bin/busybox")).expect("busybox-static");
    std::os::unix::fs::symlink("busybox", root.path().join("bin/sh")).unwrap();
    Command::new("tar")
        .arg("-C")
        .arg(root.path())
        .args(["-cf", "-", "."])
        .output()
        .unwrap()
        .stdout
}

#[test]
fn privileged_imports_make_images_of_one_layer() {
    let (_directory, engine) = engine();
    let archive = busybox_root();
    let options = ImportOptions {
        reference: Some(reference("busybox")),
        changes: vec!["CMD [\"sh\"]".into(), "ENV A=1".into()],
        ..ImportOptions::default()
    };
    let id = image::import(&engine, &archive[..], &options, &Silent).unwrap();
    let found = image::resolve(&engine, "busybox").unwrap();
    assert_eq!((found.id, found.layers.len()), (id, 1));
    assert_eq!(found.config.config.unwrap().env, ["A=1"]);
    assert_eq!(
        found.config.history[0].comment.as_deref(),
        Some("Imported from -")
    );
    let view = LayerView::open(&engine, &found.layers).unwrap();
    assert!(path_of(view.root()).join("bin/sh").exists());

    let (_other_directory, other) = self::engine();
    let error = image::import(
        &other,
        &b"certainly not an archive of anything"[..],
        &ImportOptions::default(),
        &Silent,
    );
    assert_eq!(error.expect_err("no archive").kind, ErrorKind::Invalid);
    let bad = ImportOptions {
        changes: vec!["RUN x".into()],
        ..ImportOptions::default()
    };
    let error = image::import(&other, &archive[..], &bad, &Silent).expect_err("a bad change");
    assert!(
        error
            .to_string()
            .contains("RUN is not a valid change command")
    );
    assert_empty(&other);
}

#[test]
fn privileged_archives_of_skopeo_load() {
    let (directory, engine) = engine();
    let at = |name: &str| directory.path().join(name).display().to_string();
    image::import(
        &engine,
        &busybox_root()[..],
        &ImportOptions {
            reference: Some(reference("busybox:1")),
            ..ImportOptions::default()
        },
        &Silent,
    )
    .unwrap();
    let layout = engine
        .paths()
        .data_root()
        .join("images")
        .display()
        .to_string();
    let source = format!("oci:{layout}:docker.io/library/busybox:1");
    skopeo(&[
        "copy",
        "-q",
        &source,
        &format!("docker-archive:{}:copied:1", at("docker.tar")),
    ]);
    skopeo(&[
        "copy",
        "-q",
        &source,
        &format!("oci-archive:{}:copied:2", at("oci.tar")),
    ]);
    skopeo(&[
        "copy",
        "-q",
        "--dest-compress-format",
        "zstd",
        &source,
        &format!("oci-archive:{}:copied:3", at("zstd.tar")),
    ]);
    let id = image::resolve(&engine, "busybox:1").unwrap().id;
    for (file, name) in [
        ("docker.tar", "copied:1"),
        ("oci.tar", "copied:2"),
        ("zstd.tar", "copied:3"),
    ] {
        let (_other_directory, other) = self::engine();
        let loaded = image::load(&other, fs::File::open(at(file)).unwrap(), &[], &Silent).unwrap();
        assert_eq!(loaded.len(), 1, "{file}");
        let names: Vec<_> = loaded[0]
            .references
            .iter()
            .map(Reference::familiar)
            .collect();
        assert_eq!(names, [name], "{file}");
        assert_eq!(loaded[0].id, id, "{file}");
        let found = image::resolve(&other, name).unwrap();
        let view = LayerView::open(&other, &found.layers).unwrap();
        assert!(path_of(view.root()).join("bin/busybox").exists(), "{file}");
    }
}

#[test]
fn privileged_bad_archives_load_nothing() {
    let (directory, engine) = engine();
    let base = layer(&engine, &[], "f", "some content");
    build(
        &engine,
        std::slice::from_ref(&base),
        "2024-01-01T00:00:00Z",
        &["app:1"],
    );
    let bytes = save(&engine, &["app:1"], Format::Docker);
    let unpacked = directory.path().join("unpacked");
    let repacked = |change: &dyn Fn(&Path)| {
        fs::create_dir(&unpacked).unwrap();
        let archive = directory.path().join("a.tar");
        fs::write(&archive, &bytes).unwrap();
        assert!(
            Command::new("tar")
                .arg("-C")
                .arg(&unpacked)
                .arg("-xf")
                .arg(&archive)
                .status()
                .unwrap()
                .success()
        );
        change(&unpacked);
        let bytes = Command::new("tar")
            .arg("-C")
            .arg(&unpacked)
            .args(["-cf", "-", "."])
            .output()
            .unwrap()
            .stdout;
        fs::remove_dir_all(&unpacked).unwrap();
        bytes
    };
    let blob = format!("blobs/sha256/{}", base.digest.hex());
    let cases: [(Vec<u8>, &str); 5] = [
        (
            repacked(&|root| fs::write(root.join(&blob), "changed").unwrap()),
            "is damaged",
        ),
        (
            repacked(&|root| fs::remove_file(root.join(&blob)).unwrap()),
            "is not in the archive",
        ),
        (
            repacked(&|root| {
                fs::remove_file(root.join("index.json")).unwrap();
                fs::remove_file(root.join("manifest.json")).unwrap();
            }),
            "neither manifest.json nor index.json",
        ),
        (bytes[..bytes.len() / 2].to_vec(), ""),
        (b"\xfd7zXZ\0".to_vec(), "xz"),
    ];
    for (bytes, message) in cases {
        let (_other_directory, other) = self::engine();
        let error = image::load(&other, &bytes[..], &[], &Silent).expect_err(message);
        assert!(
            error.to_string().contains(message),
            "{error} does not say: {message}"
        );
        assert_empty(&other);
        assert_eq!(
            image::list(&other, &ListFilter::default()).unwrap().len(),
            0
        );
    }
}
