//! Debian's docker-registry, an engine in a scratch directory, and images made without any of our code.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use ketch_engine::{Engine, EngineOptions};
use ketch_registry::{Client, ClientOptions};
use ketch_spec::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use ketch_spec::{Digest, Platform, Reference};
use tempfile::TempDir;

/// A registry of its own, gone with its directory when dropped.
pub struct Registry {
    child: Child,
    pub address: String,
    _dir: TempDir,
}

impl Registry {
    pub fn start() -> Self {
        Self::start_with("", "")
    }

    /// With more settings: in the section `http`, indented by two, and at the top.
    pub fn start_with(http: &str, top: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let root = dir.path().join("data");
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n{http}{top}",
            root.display()
        );
        fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry (Debian package docker-registry)");
        // The port is free for certain only when the registry says that it has it.
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(
                log.read_line(&mut line).unwrap() > 0,
                "docker-registry ended"
            );
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest
                    .find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':')
                    .unwrap();
                break rest[..end].to_owned();
            }
        };
        // It would block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self {
            child,
            address,
            _dir: dir,
        }
    }

    pub fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.address).parse().unwrap()
    }

    pub fn client(&self) -> Client {
        Client::new(ClientOptions::default()).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Place {
    pub engine: Engine,
    pub dir: TempDir,
}

pub fn engine() -> Place {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(EngineOptions {
        data_root: dir.path().join("data"),
        run_root: dir.path().join("run"),
        executable: PathBuf::from("/bin/false"),
        registry_config: None,
        layer_forms: Default::default(),
    })
    .unwrap();
    Place { engine, dir }
}

pub fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An OCI layout made without any of our code: gzip layers by tar.
pub struct Layout {
    pub dir: TempDir,
}

impl Layout {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(
            dir.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        Self { dir }
    }

    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        fs::write(
            self.dir.path().join("blobs/sha256").join(digest.hex()),
            bytes,
        )
        .unwrap();
        Descriptor {
            media_type: media_type.into(),
            digest,
            size: bytes.len() as u64,
            platform: None,
            annotations: Default::default(),
            other: Default::default(),
        }
    }

    /// A layer with one file; its blob and its diff id.
    pub fn layer(&self, name: &str, content: &[u8]) -> (Descriptor, Digest) {
        let files = tempfile::tempdir().unwrap();
        fs::write(files.path().join(name), content).unwrap();
        let plain = self.dir.path().join("layer.tar");
        run(Command::new("tar")
            .arg("-cf")
            .arg(&plain)
            .arg("-C")
            .arg(files.path())
            .arg(name));
        let diff_id = Digest::of(&fs::read(&plain).unwrap());
        run(Command::new("gzip").args(["-nf", "-1"]).arg(&plain));
        let packed = fs::read(plain.with_extension("tar.gz")).unwrap();
        (self.blob(media_type::LAYER_GZIP, &packed), diff_id)
    }

    /// An image of layers for an architecture; its manifest.
    pub fn image(&self, architecture: &str, layers: &[(Descriptor, Digest)]) -> Descriptor {
        let mut config = ImageConfig {
            architecture: architecture.into(),
            os: "linux".into(),
            ..ImageConfig::default()
        };
        config.rootfs.diff_ids = layers.iter().map(|(_, diff_id)| diff_id.clone()).collect();
        let config = self.blob(media_type::CONFIG, &serde_json::to_vec(&config).unwrap());
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.into()),
            config,
            layers: layers.iter().map(|(blob, _)| blob.clone()).collect(),
            other: Default::default(),
        };
        let mut manifest = self.blob(
            media_type::MANIFEST,
            &serde_json::to_vec(&manifest).unwrap(),
        );
        manifest.platform = Some(Platform::new("linux", architecture, None));
        manifest
    }

    pub fn index(&self, manifests: Vec<Descriptor>) -> Vec<u8> {
        serde_json::to_vec(&Index {
            schema_version: 2,
            media_type: Some(media_type::INDEX.into()),
            manifests,
            other: Default::default(),
        })
        .unwrap()
    }

    /// Sends one image (or, as an index, several) to a registry with skopeo.
    pub fn send(&self, top: &Descriptor, reference: &Reference) {
        self.send_with(top, reference, &["--dest-tls-verify=false"]);
    }

    /// As [`Layout::send`], with these options of skopeo's in place of plain HTTP's.
    pub fn send_with(&self, top: &Descriptor, reference: &Reference, options: &[&str]) {
        let mut top = top.clone();
        top.annotations
            .insert("org.opencontainers.image.ref.name".into(), "x".into());
        fs::write(self.dir.path().join("index.json"), self.index(vec![top])).unwrap();
        run(Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--all", "--preserve-digests"])
            .args(options)
            .arg(format!("oci:{}:x", self.dir.path().display()))
            .arg(format!("docker://{reference}")));
    }
}

/// Some bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
