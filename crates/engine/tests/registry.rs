//! Pull and push against Debian's docker-registry, with skopeo as an independent writer and reader.
//! Needs the programs docker-registry, skopeo and tar, and root (layers have owners).
#![allow(missing_docs)]

mod distribution;

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use distribution::{Layout, Place, Registry, engine, noise, run};
use ketch_engine::ErrorKind;
use ketch_engine::image::{PullEvent, PullObserver, Silent, pull, push};
use ketch_spec::image::{Descriptor, ImageConfig, Manifest, media_type};
use ketch_spec::{Digest, Platform, Reference};

#[derive(Default)]
struct Recorder(Mutex<Vec<PullEvent>>);

impl PullObserver for Recorder {
    fn event(&self, event: PullEvent) {
        self.0.lock().unwrap().push(event);
    }
}

impl Recorder {
    fn count(&self, wanted: impl Fn(&PullEvent) -> bool) -> usize {
        self.0
            .lock()
            .unwrap()
            .iter()
            .filter(|event| wanted(event))
            .count()
    }
}

fn file_in(place: &Place, diff_id: &Digest, name: &str) -> Vec<u8> {
    let files = place.engine.store().open_lower(diff_id).unwrap();
    fs::read(format!("/proc/self/fd/{}/{name}", files.as_raw_fd())).unwrap()
}

#[test]
fn privileged_pull_fetches_every_layer_once_and_then_nothing() {
    let (registry, place, layout) = (Registry::start(), engine(), Layout::new());
    let layers: Vec<_> = (0..6)
        .map(|n| layout.layer(&format!("file{n}"), &noise(100_000 + n)))
        .collect();
    let mut all = layers.clone();
    all.push(layers[0].clone());
    let manifest = layout.image("amd64", &all);
    let reference = registry.reference("team/app:1");
    layout.send(&manifest, &reference);

    let observer = Recorder::default();
    let pulled = pull(&place.engine, &reference, None, &observer).unwrap();
    assert_eq!((&pulled.digest, pulled.newer), (&manifest.digest, true));
    assert_eq!(observer.count(|e| matches!(e, PullEvent::Done { .. })), 6);
    for (n, (_, diff_id)) in layers.iter().enumerate() {
        assert_eq!(
            file_in(&place, diff_id, &format!("file{n}")),
            noise(100_000 + n)
        );
    }
    let records = place.engine.store().images().unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(
        (records[0].reference.as_ref(), records[0].remote),
        (Some(&reference), true)
    );

    let again = Recorder::default();
    let pulled = pull(&place.engine, &reference, None, &again).unwrap();
    assert!(!pulled.newer);
    assert_eq!(
        again.count(|e| matches!(e, PullEvent::Downloading { .. })),
        0
    );
    let by_digest = reference.with_digest(manifest.digest.clone());
    assert_eq!(
        pull(&place.engine, &by_digest, None, &Silent)
            .unwrap()
            .digest,
        manifest.digest
    );
    assert_eq!(place.engine.store().images().unwrap().len(), 2);
}

#[test]
fn privileged_pull_chooses_the_platform_of_an_index() {
    let (registry, place, layout) = (Registry::start(), engine(), Layout::new());
    let amd = layout.layer("amd", b"amd64");
    let arm = layout.layer("arm", b"arm64");
    let manifests = vec![
        layout.image("amd64", std::slice::from_ref(&amd)),
        layout.image("arm64", std::slice::from_ref(&arm)),
    ];
    let top = layout.blob(media_type::INDEX, &layout.index(manifests));
    let reference = registry.reference("multi:1");
    layout.send(&top, &reference);

    let wanted: Platform = "linux/arm64".parse().unwrap();
    let pulled = pull(&place.engine, &reference, Some(&wanted), &Silent).unwrap();
    assert_eq!(pulled.digest, top.digest);
    assert_eq!(file_in(&place, &arm.1, "arm"), b"arm64");
    assert!(!place.engine.store().has_layer(&amd.1));
    let missing: Platform = "linux/s390x".parse().unwrap();
    let error = pull(&place.engine, &reference, Some(&missing), &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(
        error.message,
        "no matching manifest for linux/s390x in the manifest list entries"
    );
    assert!(
        error.hints[0].ends_with("linux/amd64, linux/arm64"),
        "{:?}",
        error.hints
    );
    let amd_wanted: Platform = "linux/amd64".parse().unwrap();
    let pulled = pull(&place.engine, &reference, Some(&amd_wanted), &Silent).unwrap();
    assert!(pulled.newer, "the other platform was missing");
    assert_eq!(file_in(&place, &amd.1, "amd"), b"amd64");
}

#[test]
fn privileged_pull_continues_what_a_killed_one_left() {
    let (registry, layout) = (Registry::start(), Layout::new());
    let layer = layout.layer("file", &noise(3_000_000));
    let manifest = layout.image("amd64", std::slice::from_ref(&layer));
    let reference = registry.reference("big:1");
    layout.send(&manifest, &reference);
    let blob = fs::read(
        layout
            .dir
            .path()
            .join("blobs/sha256")
            .join(layer.0.digest.hex()),
    )
    .unwrap();
    let left_good = blob[..2_000_000].to_vec();
    let left_bad = vec![7; 2_000_000];
    for (left, first_event) in [(left_good, 2_000_000), (left_bad, 2_000_000)] {
        let place = engine();
        let mut ingest = place.engine.store().ingest(&layer.0).unwrap().unwrap();
        ingest.write_all(&left).unwrap();
        drop(ingest);
        let observer = Recorder::default();
        pull(&place.engine, &reference, None, &observer).unwrap();
        assert_eq!(file_in(&place, &layer.1, "file"), noise(3_000_000));
        let events = observer.0.lock().unwrap();
        let done = events.iter().find_map(|event| match event {
            PullEvent::Downloading { done_bytes, .. } => Some(*done_bytes),
            _ => None,
        });
        assert_eq!(done, Some(first_event));
    }
}

#[test]
fn privileged_pulls_at_once_share_the_work() {
    let (registry, place, layout) = (Registry::start(), engine(), Layout::new());
    let layers: Vec<_> = (0..4)
        .map(|n| layout.layer(&format!("f{n}"), &noise(500_000 + n)))
        .collect();
    let manifest = layout.image("amd64", &layers);
    let reference = registry.reference("shared:1");
    layout.send(&manifest, &reference);
    let observer = Arc::new(Recorder::default());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| pull(&place.engine, &reference, None, &*observer).unwrap());
        }
    });
    assert_eq!(observer.count(|e| matches!(e, PullEvent::Done { .. })), 4);
    assert_eq!(place.engine.store().images().unwrap().len(), 1);
}

#[test]
fn privileged_push_is_byte_exact_and_sends_nothing_twice() {
    let (registry, place, layout) = (Registry::start(), engine(), Layout::new());
    let layers = vec![layout.layer("a", &noise(50_000)), layout.layer("b", b"b")];
    let manifest = layout.image("amd64", &layers);
    let first = registry.reference("one:1");
    layout.send(&manifest, &first);
    pull(&place.engine, &first, None, &Silent).unwrap();
    let store = place.engine.store();
    let target = store.images().unwrap()[0].target.clone();

    // Another repository of the same registry: everything is mounted.
    let second = registry.reference("two:2");
    store.set_tag(&second, &target, false).unwrap();
    let observer = Recorder::default();
    let pushed = push(&place.engine, &second, None, &observer).unwrap();
    assert_eq!(
        (&pushed.digest, pushed.size_bytes),
        (&manifest.digest, manifest.size)
    );
    assert_eq!(observer.count(|e| matches!(e, PullEvent::Exists { .. })), 3);
    let fetched = registry.client().resolve(&second).unwrap();
    assert_eq!(fetched.digest, manifest.digest);
    assert!(store.images().unwrap().iter().all(|record| record.remote));

    // Another registry: everything is sent, and skopeo reads what it sent before.
    let other = Registry::start();
    let third = other.reference("three:3");
    store.set_tag(&third, &target, false).unwrap();
    let observer = Recorder::default();
    push(&place.engine, &third, None, &observer).unwrap();
    assert_eq!(observer.count(|e| matches!(e, PullEvent::Done { .. })), 3);
    let out = place.dir.path().join("out");
    run(Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--src-tls-verify=false"])
        .arg(format!("docker://{third}"))
        .arg(format!("dir:{}", out.display())));
    assert_eq!(
        Digest::of(&fs::read(out.join("manifest.json")).unwrap()),
        manifest.digest
    );
    for (blob, _) in &layers {
        assert_eq!(
            Digest::of(&fs::read(out.join(blob.digest.hex())).unwrap()),
            blob.digest
        );
    }
    let error = push(&place.engine, &registry.reference("none:1"), None, &Silent).unwrap_err();
    let message = format!(
        "An image does not exist locally with the tag: {}/none",
        registry.address
    );
    assert_eq!((error.kind, error.message), (ErrorKind::NotFound, message));
}

/// Beyond 64 MiB a blob goes in parts: what a real registry makes of them is what was sent.
#[test]
fn privileged_push_of_a_large_blob_arrives_whole() {
    let (registry, place) = (Registry::start(), engine());
    let store = place.engine.store();
    let bytes = noise(1 << 20).repeat(65);
    let blob = Descriptor {
        media_type: media_type::LAYER.into(),
        digest: Digest::of(&bytes),
        size: bytes.len() as u64,
        platform: None,
        annotations: Default::default(),
        other: Default::default(),
    };
    let mut ingest = store.ingest(&blob).unwrap().unwrap();
    ingest.write_all(&bytes).unwrap();
    ingest.commit().unwrap();
    let mut config = ImageConfig {
        architecture: "amd64".into(),
        os: "linux".into(),
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids = vec![blob.digest.clone()];
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        config: store
            .put(media_type::CONFIG, &serde_json::to_vec(&config).unwrap())
            .unwrap(),
        layers: vec![blob.clone()],
        other: Default::default(),
    };
    let manifest = store
        .put(
            media_type::MANIFEST,
            &serde_json::to_vec(&manifest).unwrap(),
        )
        .unwrap();
    let reference = registry.reference("large:1");
    store.set_tag(&reference, &manifest, false).unwrap();
    push(&place.engine, &reference, None, &Silent).unwrap();
    // The stream checks size and digest itself.
    let mut stream = registry.client().blob(&reference, &blob, 0).unwrap();
    assert_eq!(
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap(),
        blob.size
    );
}

#[test]
fn privileged_push_of_an_index_goes_as_far_as_it_is_here() {
    let (registry, place, layout) = (Registry::start(), engine(), Layout::new());
    let manifests = vec![
        layout.image("amd64", &[layout.layer("amd", b"amd64")]),
        layout.image("arm64", &[layout.layer("arm", b"arm64")]),
    ];
    let amd = manifests[0].digest.clone();
    let top = layout.blob(media_type::INDEX, &layout.index(manifests));
    let reference = registry.reference("multi:1");
    layout.send(&top, &reference);
    let wanted = |text: &str| text.parse::<Platform>().unwrap();
    pull(
        &place.engine,
        &reference,
        Some(&wanted("linux/amd64")),
        &Silent,
    )
    .unwrap();
    let copy = registry.reference("copy:1");
    place.engine.store().set_tag(&copy, &top, false).unwrap();
    assert_eq!(
        push(&place.engine, &copy, None, &Silent).unwrap().digest,
        amd
    );
    pull(
        &place.engine,
        &reference,
        Some(&wanted("linux/arm64")),
        &Silent,
    )
    .unwrap();
    assert_eq!(
        push(&place.engine, &copy, None, &Silent).unwrap().digest,
        top.digest
    );
    let one = push(&place.engine, &copy, Some(&wanted("linux/amd64")), &Silent).unwrap();
    assert_eq!(one.digest, amd);
}

#[test]
fn privileged_failures_say_what_is_missing_and_what_else_can_be_done() {
    let (registry, place) = (Registry::start(), engine());
    let error = pull(&place.engine, &registry.reference("nope:1"), None, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let text = error.to_string();
    let wanted = format!(
        "manifest for {}/nope:1 not found: manifest unknown",
        registry.address
    );
    assert!(text.starts_with(&wanted), "{text}");

    let gone = registry.address.clone();
    drop(registry);
    let unreachable: Reference = format!("{gone}/app:1").parse().unwrap();
    let error = pull(&place.engine, &unreachable, None, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let text = error.to_string();
    assert!(
        text.contains(&format!("cannot reach registry {gone}")),
        "{text}"
    );
    assert!(text.contains("Connection refused"), "{text}");
    let hints = error.hints.join("\n");
    for wanted in ["ketch load", "ketch import", "FROM scratch"] {
        assert!(hints.contains(wanted), "{hints}");
    }
    assert!(place.engine.store().images().unwrap().is_empty());
}

/// Wrong layers never become visible, and what is right of them stays hidden without a record.
#[test]
fn privileged_a_layer_that_is_not_what_the_config_says_is_refused() {
    let (registry, place, layout) = (Registry::start(), engine(), Layout::new());
    let (blob, _) = layout.layer("file", b"content");
    let lie = Digest::of(b"something else");
    let manifest = layout.image("amd64", &[(blob, lie.clone())]);
    let reference = registry.reference("lie:1");
    layout.send(&manifest, &reference);
    let error = pull(&place.engine, &reference, None, &Silent).unwrap_err();
    assert!(error.to_string().contains("layer mismatch"), "{error}");
    assert!(!place.engine.store().has_layer(&lie));
    assert!(place.engine.store().images().unwrap().is_empty());
    assert_eq!(leftovers(place.dir.path()), Vec::<PathBuf>::new());
}

fn leftovers(root: &Path) -> Vec<PathBuf> {
    let work = fs::read_dir(root.join("data/ingest/work")).unwrap();
    work.map(|entry| entry.unwrap().path()).collect()
}
