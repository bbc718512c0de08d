//! Layers that are kept as images: mounted once for everyone, unmounted when nobody uses them. As root: they are mounted.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ketch_engine::layer::{self, LayerDraft, LayerUse, LayerView};
use ketch_engine::{Engine, EngineOptions, Forms};
use ketch_spec::Digest;
use ketch_store::tar::{Entry, Kind, Writer};
use ketch_sys::namespace::{Namespaces, unshare};
use rustix::mount::MountPropagationFlags;
use tempfile::TempDir;

fn open(root: &Path) -> Engine {
    Engine::open(EngineOptions {
        data_root: root.join("data"),
        run_root: root.join("run"),
        executable: "/proc/self/exe".into(),
        registry_config: None,
        layer_forms: Forms::Erofs,
    })
    .unwrap()
}

fn engine() -> (TempDir, Engine) {
    let directory = tempfile::tempdir().unwrap();
    let engine = open(directory.path());
    (directory, engine)
}

/// A layer with one file, whose name and content are the same.
fn layer_of(engine: &Engine, name: &str) -> Digest {
    let mut writer = Writer::new(Vec::new());
    let mut directory = Entry::new(Kind::Directory, "d");
    directory.mode = 0o755;
    writer.append(&directory).unwrap();
    let mut file = Entry::new(Kind::File, format!("d/{name}"));
    (file.mode, file.size) = (0o644, name.len() as u64);
    writer.append_file(&file, name.as_bytes()).unwrap();
    let bytes = writer.finish().unwrap().0;
    let imported = engine.store().import_layer(&bytes[..]).unwrap();
    imported.layer.unwrap().diff_id
}

fn read(view: &LayerView, name: &str) -> String {
    let path = format!("/proc/self/fd/{}/d/{name}", view.root().as_raw_fd());
    fs::read_to_string(path).unwrap()
}

/// The mounts of this thread's namespace below a directory.
fn mounts_below(directory: &Path) -> Vec<String> {
    let prefix = directory.to_str().unwrap();
    fs::read_to_string("/proc/thread-self/mountinfo")
        .unwrap()
        .lines()
        .filter(|line| {
            line.split(' ')
                .nth(4)
                .is_some_and(|place| place.starts_with(prefix))
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn privileged_a_layer_is_mounted_once_and_as_long_as_it_is_used() {
    let (directory, engine) = engine();
    let (one, two) = (layer_of(&engine, "one"), layer_of(&engine, "two"));
    let first = LayerView::open(&engine, &[one.clone(), two.clone()]).unwrap();
    assert_eq!(mounts_below(directory.path()).len(), 2);
    let second = LayerView::open(&engine, std::slice::from_ref(&one)).unwrap();
    let draft = LayerDraft::new(&engine, &[one, two]).unwrap();
    assert_eq!(mounts_below(directory.path()).len(), 2, "one mount a layer");
    drop(first);
    drop(draft);
    assert_eq!(
        mounts_below(directory.path()).len(),
        1,
        "only the first is used"
    );
    assert_eq!(read(&second, "one"), "one");
    drop(second);
    assert_eq!(mounts_below(directory.path()), [""; 0]);
    assert_eq!(
        fs::read_dir(engine.paths().layer_mounts()).unwrap().count(),
        0
    );
}

/// Programs that stay on one file system must not take a layer's files for another one's.
#[test]
fn privileged_files_of_all_layers_are_on_one_device() {
    let (_directory, engine) = engine();
    let layers = [layer_of(&engine, "one"), layer_of(&engine, "two")];
    let draft = LayerDraft::new(&engine, &layers).unwrap();
    let root = PathBuf::from(format!("/proc/self/fd/{}/", draft.root().as_raw_fd()));
    fs::write(root.join("new"), "new").unwrap();
    let device = fs::metadata(&root).unwrap().dev();
    for name in ["d", "d/one", "d/two", "new"] {
        assert_eq!(
            fs::metadata(root.join(name)).unwrap().dev(),
            device,
            "{name}"
        );
    }
}

#[test]
fn privileged_users_that_come_and_go_at_once_leave_nothing() {
    let (directory, engine) = engine();
    let layers: Vec<Digest> = (0..6)
        .map(|number| layer_of(&engine, &format!("l{number}")))
        .collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (engine, layers) = (&engine, &layers);
            scope.spawn(move || {
                for round in 0..40 {
                    let from = (thread + round) % layers.len();
                    let view = LayerView::open(engine, &layers[from..]).unwrap();
                    for number in from..layers.len() {
                        assert_eq!(read(&view, &format!("l{number}")), format!("l{number}"));
                    }
                }
            });
        }
    });
    assert_eq!(mounts_below(directory.path()), [""; 0]);
}

/// Told in the environment to be the process that is killed while it uses a layer.
const CHILD: &str = "KETCH_TEST_LAYER_CHILD";

#[test]
fn privileged_child_that_uses_a_layer() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let (root, diff_id) = told.split_once('=').unwrap();
    let engine = open(Path::new(root));
    let _used = LayerUse::new(&engine, &[diff_id.parse().unwrap()]).unwrap();
    std::io::stdout().write_all(b"used\n").unwrap();
    std::io::stdin().lock().lines().for_each(drop);
}

#[test]
fn privileged_what_a_killed_user_left_is_unmounted_by_the_next() {
    let (directory, engine) = engine();
    let layer = layer_of(&engine, "one");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "privileged_child_that_uses_a_layer",
            "--nocapture",
        ])
        .env(CHILD, format!("{}={layer}", directory.path().display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap().contains("used")));
    layer::sweep(&engine).unwrap();
    assert_eq!(mounts_below(directory.path()).len(), 1, "it is in use");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(mounts_below(directory.path()).len(), 1);
    layer::sweep(&engine).unwrap();
    assert_eq!(mounts_below(directory.path()), [""; 0]);
}

/// Where mounts are shared with other namespaces, as systemd has it, those of layers are not.
#[test]
fn privileged_nothing_leaks_into_other_namespaces() {
    let (directory, engine) = engine();
    let layer = layer_of(&engine, "one");
    let work = || {
        unshare(Namespaces::MOUNT).unwrap();
        let change =
            |flags| rustix::mount::mount_change("/", flags | MountPropagationFlags::REC).unwrap();
        change(MountPropagationFlags::PRIVATE);
        change(MountPropagationFlags::SHARED);
        let use_and_leave = |engine: &Engine| {
            let used = LayerUse::new(engine, std::slice::from_ref(&layer)).unwrap();
            let mounts = mounts_below(directory.path());
            assert_eq!(
                mounts.len(),
                2,
                "the directory's own and the layer's: {mounts:?}"
            );
            assert!(
                mounts.iter().all(|line| !line.contains("shared:")),
                "{mounts:?}"
            );
            drop(used);
            assert_eq!(mounts_below(directory.path()), [""; 0]);
        };
        use_and_leave(&engine);
        use_and_leave(&engine);
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap());
    assert_eq!(mounts_below(directory.path()), [""; 0]);
}
