//! Ways to registries: passwords, private authorities, mirrors; and what is at them besides images. Needs the programs
//! docker-registry, skopeo, openssl and tar, and root (layers have owners).
#![allow(missing_docs)]

mod distribution;

use std::fs;
use std::path::Path;
use std::process::Command;

use distribution::{Layout, Place, Registry, engine, noise, run};
use ketch_engine::ErrorKind;
use ketch_engine::image::{self, Repository, Silent, pull, push};
use ketch_engine::registry::manifest::{Annotation, Inspected, Lists};
use ketch_engine::registry::{self, LoginRequest, RegistryAccess, manifest};
use ketch_spec::image::{Index, Manifest, media_type};
use ketch_spec::{Digest, Reference};

/// `me` with the password `s3cret`, by crypt(3).
const PASSWORDS: &str = "me:$2y$05$abcdefghijklmnopqrstuuLK7U1u6pVRmL7L1BBM2aS35PSZnDXlK\n";

fn with_access(place: Place, access: RegistryAccess) -> Place {
    Place {
        engine: place.engine.with_registries(access),
        dir: place.dir,
    }
}

fn raw(reference: &Reference, options: &[&str]) -> Vec<u8> {
    let output = Command::new("skopeo")
        .args(["inspect", "--raw"])
        .args(options)
        .arg(format!("docker://{reference}"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn privileged_a_password_is_kept_and_opens_the_registry() {
    let files = tempfile::tempdir().unwrap();
    let passwords = files.path().join("htpasswd");
    fs::write(&passwords, PASSWORDS).unwrap();
    let auth = format!(
        "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
        passwords.display()
    );
    let (registry, layout) = (Registry::start_with("", &auth), Layout::new());
    let layer = layout.layer("file", &noise(1000));
    let manifest = layout.image("amd64", &[layer]);
    let name = registry.reference("team/app:1");
    let creds = ["--dest-tls-verify=false", "--dest-creds=me:s3cret"];
    layout.send_with(&manifest, &name, &creds);

    let access = RegistryAccess {
        credentials: Some(files.path().join("client/config.json")),
        ..RegistryAccess::default()
    };
    let place = with_access(engine(), access.clone());
    let error = pull(&place.engine, &name, None, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.starts_with("pull access denied"), "{error}");
    let login = |password: &str| {
        let request = LoginRequest {
            host: registry.address.clone(),
            user: Some(("me".into(), password.into())),
        };
        registry::login(&access, &request)
    };
    let error = login("wrong").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorised);
    assert!(
        registry::known_user(&access, &registry.address)
            .unwrap()
            .is_none()
    );
    login("s3cret").unwrap();
    let known = registry::known_user(&access, &registry.address).unwrap();
    assert_eq!(known.as_deref(), Some("me"));
    pull(&place.engine, &name, None, &Silent).unwrap();

    let other = registry.reference("team/other:2");
    image::tag(&place.engine, &name.to_string(), &other.to_string()).unwrap();
    let pushed = push(&place.engine, &other, None, &Silent).unwrap();
    assert_eq!(pushed.digest, manifest.digest);
    let options = ["--tls-verify=false", "--creds=me:s3cret"];
    assert_eq!(Digest::of(&raw(&other, &options)), manifest.digest);
    assert!(registry::logout(&access, &registry.address).unwrap());
    let error = push(&place.engine, &other, None, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unauthorised, "{error}");
}

/// A private authority, and what it has signed.
struct Authority {
    dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = Self { dir };
        own.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
        ]);
        own
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn openssl(&self, words: &[&str]) {
        run(Command::new("openssl")
            .args(words)
            .current_dir(self.dir.path()));
    }

    /// `NAME.crt` and `NAME.key` for 127.0.0.1.
    fn sign(&self, name: &str) {
        let file = |end: &str| format!("{name}.{end}");
        fs::write(self.path("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            &file("key"),
            "-out",
            &file("csr"),
            "-subj",
            "/CN=test",
        ]);
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &file("csr"),
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            &file("crt"),
        ]);
    }
}

#[test]
fn privileged_a_private_authority_and_a_client_certificate() {
    let authority = Authority::new();
    authority.sign("server");
    authority.sign("client");
    let shown = |name: &str| authority.path(name).display().to_string();
    let tls = format!(
        "  tls:\n    certificate: {}\n    key: {}\n    clientcas: [{}]\n",
        shown("server.crt"),
        shown("server.key"),
        shown("ca.crt")
    );
    let (registry, layout) = (Registry::start_with(&tls, ""), Layout::new());
    let certificates = tempfile::tempdir().unwrap();
    let own = certificates.path().join(&registry.address);
    fs::create_dir(&own).unwrap();
    let give = |from: &str, to: &str| fs::copy(authority.path(from), own.join(to)).unwrap();
    give("ca.crt", "ca.crt");
    let place = with_access(
        engine(),
        RegistryAccess {
            certificates: vec![certificates.path().into()],
            ..RegistryAccess::default()
        },
    );
    let name = registry.reference("app:1");
    let error = pull(&place.engine, &name, None, &Silent).unwrap_err();
    assert!(
        error.to_string().contains("it wants a client certificate"),
        "{error}"
    );
    give("client.crt", "client.cert");
    give("client.key", "client.key");
    let manifest = layout.image("amd64", &[layout.layer("file", &noise(1000))]);
    layout.send_with(
        &manifest,
        &name,
        &[&format!("--dest-cert-dir={}", own.display())],
    );
    let pulled = pull(&place.engine, &name, None, &Silent).unwrap();
    assert_eq!(pulled.digest, manifest.digest);

    // Another authority is not believed, also where nothing would be checked without one.
    let stranger = Authority::new();
    fs::copy(stranger.path("ca.crt"), own.join("ca.crt")).unwrap();
    let error = pull(&place.engine, &name, None, &Silent).unwrap_err();
    assert!(error.to_string().contains("TLS failed"), "{error}");
    // The same by registries.toml, with paths beside it.
    let settings = authority.path("registries.toml");
    fs::write(
        &settings,
        format!(
            "[[registry]]\nprefix = '{}'\nca = 'ca.crt'\nclient-cert = 'client.crt'\nclient-key = 'client.key'\n",
            registry.address
        ),
    )
    .unwrap();
    let place = with_access(
        place,
        RegistryAccess {
            files: vec![settings],
            certificates: vec![certificates.path().into()],
            ..RegistryAccess::default()
        },
    );
    pull(&place.engine, &name, None, &Silent).unwrap();
}

fn settings(dir: &Path, text: &str) -> RegistryAccess {
    let file = dir.join("registries.toml");
    fs::write(&file, text).unwrap();
    RegistryAccess {
        files: vec![file],
        ..RegistryAccess::default()
    }
}

#[test]
fn privileged_a_mirror_stands_for_a_registry_that_is_away() {
    let (registry, layout) = (Registry::start(), Layout::new());
    let manifest = layout.image("amd64", &[layout.layer("file", &noise(1000))]);
    layout.send(&manifest, &registry.reference("hub/library/app:1"));
    let place = engine();
    let text = format!(
        "[[registry]]\nprefix = 'docker.io'\nlocation = 'away.invalid'\n[[registry.mirror]]\nlocation = '{}/hub'\n",
        registry.address
    );
    let access = settings(place.dir.path(), &text);
    let place = with_access(place, access);
    let name: Reference = "app:1".parse().unwrap();
    let pulled = pull(&place.engine, &name, None, &Silent).unwrap();
    assert_eq!(pulled.digest, manifest.digest);
    let records = place.engine.store().images().unwrap();
    assert_eq!(records[0].reference.as_ref(), Some(&name));
    let broken = settings(place.dir.path(), "[[registry]]\nprefx = 'docker.io'\n");
    let place = with_access(place, broken);
    let error = pull(&place.engine, &name, None, &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(
        error.to_string().contains("registries.toml line 2"),
        "{error}"
    );
}

#[test]
fn privileged_all_tags_come_and_go() {
    let (registry, layout, place) = (Registry::start(), Layout::new(), engine());
    let layer = layout.layer("file", &noise(1000));
    for tag in ["1", "2"] {
        let manifest = layout.image("amd64", std::slice::from_ref(&layer));
        layout.send(&manifest, &registry.reference(&format!("app:{tag}")));
    }
    let name = Reference::parse_name(&format!("{}/app", registry.address)).unwrap();
    let repository = Repository::open(&place.engine, &name).unwrap();
    let mut tags = repository.tags().unwrap();
    tags.sort();
    assert_eq!(tags.len(), 2);
    for tag in &tags {
        repository.pull(tag, None, &Silent).unwrap();
    }
    assert_eq!(repository.local_tags().unwrap(), tags);
    let none = Reference::parse_name(&format!("{}/none", registry.address)).unwrap();
    let error = Repository::open(&place.engine, &none)
        .unwrap()
        .tags()
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[test]
fn privileged_artifacts_are_kept_as_they_are_and_are_no_images() {
    let (registry, layout, place) = (Registry::start(), Layout::new(), engine());
    let document = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        config: layout.blob("application/vnd.example.chart+json", b"{}"),
        layers: vec![layout.blob("application/vnd.example.chart", b"a chart, not a layer")],
        other: Default::default(),
    };
    let bytes = serde_json::to_vec(&document).unwrap();
    let artifact = layout.blob(media_type::MANIFEST, &bytes);
    let name = registry.reference("chart:1");
    layout.send(&artifact, &name);
    let pulled = pull(&place.engine, &name, None, &Silent).unwrap();
    assert_eq!(
        (pulled.digest, pulled.newer),
        (artifact.digest.clone(), true)
    );
    assert!(!pull(&place.engine, &name, None, &Silent).unwrap().newer);
    image::collect(&place.engine).unwrap();
    assert!(place.engine.store().has(&document.layers[0].digest));
    let error = image::resolve(&place.engine, &name.to_string()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
    assert!(
        error
            .message
            .contains("artifact of type application/vnd.example.chart+json"),
        "{error}"
    );
    // Everything but running: listed, shown, named, saved and loaded.
    let listed = image::list(&place.engine, &image::ListFilter::default()).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].image.id, artifact.digest);
    assert_eq!(listed[0].image.references, std::slice::from_ref(&name));
    let shown = image::inspect(&place.engine, &name.to_string(), None).unwrap();
    assert_eq!(shown["ArtifactType"], "application/vnd.example.chart+json");
    assert_eq!(shown["Id"], artifact.digest.as_str());
    let prefix = &artifact.digest.hex()[..12];
    image::tag(&place.engine, prefix, "local/chart:3").unwrap();
    let (one, two) = (
        place.dir.path().join("one"),
        place.dir.path().join("two.tar"),
    );
    let wanted = ["local/chart:3".to_owned()];
    image::save_directory(&place.engine, &wanted, &one, &[], &Silent).unwrap();
    let file = fs::File::create(&two).unwrap();
    let options = image::SaveOptions::default();
    image::save(&place.engine, &wanted, file, &options, &Silent).unwrap();
    for archive in [true, false] {
        let elsewhere = engine();
        let loaded = if archive {
            let file = fs::File::open(&two).unwrap();
            image::load(&elsewhere.engine, file, &[], &Silent).unwrap()
        } else {
            image::load_directory(&elsewhere.engine, &one, &[], &Silent).unwrap()
        };
        assert_eq!(loaded[0].id, artifact.digest, "archive: {archive}");
        let found = image::list(&elsewhere.engine, &image::ListFilter::default()).unwrap();
        assert_eq!(found[0].image.references[0].familiar(), "local/chart:3");
        let prune = image::PruneOptions {
            all: true,
            ..Default::default()
        };
        let pruned = image::prune(&elsewhere.engine, &prune).unwrap();
        assert_eq!(pruned.removed.len(), 2, "{:?}", pruned.removed);
        assert!(!elsewhere.engine.store().has(&document.layers[0].digest));
    }
    let removed = image::remove(&place.engine, "local/chart:3", &Default::default());
    assert_eq!(removed.unwrap().len(), 1);
    // The same name again, at a registry that has lost it.
    let again = Registry::start();
    let other = again.reference("chart:2");
    let target = place.engine.store().images().unwrap()[0].target.clone();
    place
        .engine
        .store()
        .set_tag(&other, &target, false)
        .unwrap();
    push(&place.engine, &other, None, &Silent).unwrap();
    assert_eq!(raw(&other, &["--tls-verify=false"]), bytes);
    for name in [&name, &other] {
        let removed = image::remove(
            &place.engine,
            &name.to_string(),
            &image::RemoveOptions::default(),
        );
        assert!(!removed.unwrap().is_empty());
    }
    assert!(!place.engine.store().has(&document.layers[0].digest));
}

#[test]
fn privileged_what_is_about_an_image_goes_with_it() {
    let (registry, layout, place) = (Registry::start(), Layout::new(), engine());
    let image = layout.image("amd64", &[layout.layer("file", &noise(1000))]);
    let name = registry.reference("app:1");
    layout.send(&image, &name);
    // As cosign makes them: the config of an image, and no layers of one.
    let config = br#"{"architecture":"","os":"","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}}"#;
    let mut document = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.into()),
        config: layout.blob(media_type::CONFIG, config),
        layers: vec![layout.blob(
            "application/vnd.dev.cosign.simplesigning.v1+json",
            br#"{"critical":{}}"#,
        )],
        other: Default::default(),
    };
    document
        .other
        .insert("subject".into(), serde_json::to_value(&image).unwrap());
    let bytes = serde_json::to_vec(&document).unwrap();
    let signature = layout.blob(media_type::MANIFEST, &bytes);
    let signed = registry.reference("app:signature");
    layout.send(&signature, &signed);
    pull(&place.engine, &name, None, &Silent).unwrap();
    let alone = image::inspect(&place.engine, &name.to_string(), None).unwrap();
    assert!(alone.get("Referrers").is_none(), "{alone}");
    pull(&place.engine, &signed, None, &Silent).unwrap();
    let shown = image::inspect(&place.engine, &name.to_string(), None).unwrap();
    assert_eq!(shown["Referrers"][0]["Id"], signature.digest.as_str());
    assert_eq!(
        shown["Referrers"][0]["ArtifactType"],
        "application/vnd.dev.cosign.simplesigning.v1+json"
    );
    let again = Registry::start();
    let other = again.reference("copy:1");
    image::tag(&place.engine, &name.to_string(), &other.to_string()).unwrap();
    push(&place.engine, &other, None, &Silent).unwrap();
    let there = other.with_digest(signature.digest.clone());
    let there = Reference { tag: None, ..there };
    assert_eq!(raw(&there, &["--tls-verify=false"]), bytes);
    // The registry lists no referrers: the tag that stands for the list has it.
    let listed = again
        .client()
        .referrers(&other, &image.digest, None)
        .unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].digest, signature.digest);
}

#[test]
fn privileged_a_manifest_list_is_made_and_pushed() {
    let (registry, layout, place) = (Registry::start(), Layout::new(), engine());
    let mut images = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let layer = layout.layer(architecture, architecture.as_bytes());
        let manifest = layout.image(architecture, &[layer]);
        let name = registry.reference(&format!("build/{architecture}:1"));
        layout.send(&manifest, &name);
        images.push(name);
    }
    let list = registry.reference("app:1");
    let lists = Lists::new(
        RegistryAccess::default(),
        place.dir.path().join("client/manifests"),
    );
    lists.create(&list, &images, false).unwrap();
    let error = lists.create(&list, &images, false).unwrap_err();
    assert!(error.message.contains("--amend"), "{error}");
    lists.create(&list, &images, true).unwrap();
    let annotation = Annotation {
        variant: Some("v8".into()),
        os_features: vec!["x".into()],
        ..Annotation::default()
    };
    lists.annotate(&list, &images[1], &annotation).unwrap();
    let wrong = Annotation {
        os: Some("beos".into()),
        ..Annotation::default()
    };
    lists.annotate(&list, &images[1], &wrong).unwrap_err();
    let pushed = manifest::push(&lists, &list, true).unwrap();
    assert_eq!(pushed.images.len(), 2);
    let bytes = raw(&list, &["--tls-verify=false"]);
    assert_eq!(Digest::of(&bytes), pushed.digest);
    let index: Index = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(index.media_type.as_deref(), Some(media_type::INDEX));
    let platform = index.manifests[1].platform.as_ref().unwrap();
    assert_eq!(platform.to_string(), "linux/arm64/v8");
    assert_eq!(platform.other["os.features"][0], "x");
    // The blobs have come with it: the list is whole where it is.
    pull(
        &place.engine,
        &list,
        Some(&"linux/arm64".parse().unwrap()),
        &Silent,
    )
    .unwrap();
    match lists.inspect(&list, true).unwrap() {
        Inspected::List { entries, .. } => assert_eq!(entries.len(), 2),
        other @ Inspected::Manifest(_) => panic!("{other:?}"),
    }
    // Pushing has forgotten the list.
    let error = lists.remove(std::slice::from_ref(&list)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}
