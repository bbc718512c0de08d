//! `linux.intelRdt` from the bundle to the class and back, over a directory that stands for a resctrl file system.

use std::fs;
use std::path::{Path, PathBuf};

use ketch_runtime::oci::{self, CreateRequest, Id, Root};
use ketch_spec::runtime::{IntelRdt, Spec};

use super::world::{Change, World};

pub const CASES: &[super::Case] = &[
    (
        "privileged_class_is_entered_and_goes_with_the_container",
        whole_life,
    ),
    (
        "privileged_class_of_a_failed_or_killed_creation_goes",
        failures,
    ),
];

struct Bundle {
    world: World,
    directory: PathBuf,
    classes: PathBuf,
    root: Root,
    id: Id,
}

impl Bundle {
    fn new() -> Self {
        let world = World::new();
        let directory = world.scratch().join("bundle");
        let classes = world.scratch().join("classes");
        fs::create_dir_all(&directory).unwrap();
        fs::create_dir_all(&classes).unwrap();
        Self {
            root: Root::new(world.scratch().join("state")),
            id: Id::new(&format!("ketch-class-{}", std::process::id())).unwrap(),
            world,
            directory,
            classes,
        }
    }

    fn spec(&self, script: &str) -> Spec {
        let mut spec = self.world.spec(script);
        spec.root.as_mut().unwrap().path = self.world.root().to_string_lossy().into_owned();
        spec.linux_mut().intel_rdt = Some(IntelRdt {
            l3_cache_schema: "L3:0=f".into(),
            ..IntelRdt::default()
        });
        spec
    }

    fn create(&self, spec: &Spec) -> oci::Result<Vec<String>> {
        let text = serde_json::to_vec(spec).unwrap();
        fs::write(self.directory.join("config.json"), text).unwrap();
        oci::create(CreateRequest {
            root: &self.root,
            id: &self.id,
            bundle: &self.directory,
            console_socket: None,
            pidfd_socket: None,
            pid_file: None,
            systemd: false,
            rootless: false,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
            listen_fds: 0,
            resctrl: Some(&self.classes),
        })
    }

    fn class(&self) -> PathBuf {
        self.classes.join(self.id.as_str())
    }

    fn nothing_is_left(&self) {
        assert!(!self.class().exists());
        let state = self.world.scratch().join("state");
        assert!(fs::read_dir(state).unwrap().next().is_none());
    }
}

fn whole_life() {
    let bundle = Bundle::new();
    bundle.create(&bundle.spec("sleep 1000")).unwrap();
    let read = |name: &str| fs::read_to_string(bundle.class().join(name)).unwrap();
    assert_eq!(read("schemata"), "L3:0=f\n");
    let first = oci::processes(&bundle.root, &bundle.id).unwrap();
    assert_eq!(read("tasks"), first[0].to_string());
    let changed = IntelRdt {
        mem_bw_schema: "MB:0=50".into(),
        ..IntelRdt::default()
    };
    oci::update_class(&bundle.root, &bundle.id, &changed).unwrap();
    assert!(read("schemata").contains("MB:0=50\n"));
    oci::delete(&bundle.root, &bundle.id, true).unwrap();
    bundle.nothing_is_left();
}

fn failures() {
    let bundle = Bundle::new();
    let mut spec = bundle.spec("true");
    spec.process_mut().args = vec!["/nope".into()];
    bundle.create(&spec).unwrap_err();
    bundle.nothing_is_left();
    // What a creation that was killed has written down, and made.
    let entry = bundle
        .world
        .scratch()
        .join("state")
        .join(bundle.id.as_str());
    fs::create_dir(&entry).unwrap();
    let asked = serde_json::json!({
        "maker": { "pid": std::process::id(), "startTime": 1 },
        "cgroup": { "path": format!("/{}", bundle.id) },
        "resctrl": { "class": bundle.class(), "made": true },
        "config": spec,
    });
    fs::write(entry.join("create.json"), asked.to_string()).unwrap();
    make(&bundle.class());
    oci::delete(&bundle.root, &bundle.id, true).unwrap();
    bundle.nothing_is_left();
}

fn make(class: &Path) {
    fs::create_dir(class).unwrap();
    for file in ["tasks", "schemata"] {
        fs::write(class.join(file), "").unwrap();
    }
}
