//! A world for the OCI runtime command: bundles, an own root for its state, and a look for what is left at the end.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::{Ran, eventually, program};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One test's own containers.
pub struct OciWorld {
    directory: tempfile::TempDir,
    prefix: String,
    finished: bool,
}

impl OciWorld {
    /// A world with a root file system of busybox.
    ///
    /// # Panics
    /// Where the test is not root, or the world cannot be made.
    pub fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes containers and needs root: run `cargo xtask test`"
        );
        let directory = tempfile::Builder::new()
            .prefix("ketch-oci-")
            .tempdir()
            .expect("a temporary directory");
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("ketch-oci-{}-{count}-", std::process::id());
        let world = Self {
            directory,
            prefix,
            finished: false,
        };
        std::os::unix::fs::symlink(program(), world.path().join("ketch-runtime"))
            .expect("a link to the program");
        world
    }

    /// The scratch directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Where the state is kept.
    pub fn root(&self) -> PathBuf {
        self.path().join("state")
    }

    /// An id that only this world uses.
    pub fn id(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A bundle that runs a shell script. Its root is its own; what the script writes to `/` can be read from there.
    pub fn bundle(&self, name: &str, script: &str) -> Bundle {
        let directory = self.path().join(name);
        let root = directory.join("rootfs");
        fs::create_dir_all(&root).expect("make the bundle");
        let archive = std::env::var_os("KETCH_BUSYBOX_TAR")
            .expect("KETCH_BUSYBOX_TAR: run `cargo xtask test`");
        let unpacked = Command::new("tar")
            .arg("-xf")
            .arg(archive)
            .arg("-C")
            .arg(&root)
            .status();
        assert!(unpacked.expect("tar").success());
        let bundle = Bundle {
            directory,
            config: config(script),
        };
        bundle.write();
        bundle
    }

    /// The program in its role, under the name that chooses it, not started yet.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(self.path().join("ketch-runtime"));
        command.arg("--root").arg(self.root()).args(words);
        command.stdin(Stdio::null()).current_dir(self.path());
        command
    }

    /// Runs the program to its end. Its output goes to files, because what it starts keeps it open.
    pub fn runtime<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ran {
        self.finish(&mut self.command(words))
    }

    /// Runs a command to its end, without waiting for whoever else has its output.
    pub fn finish(&self, command: &mut Command) -> Ran {
        let name = format!("output-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (out, err) = (
            self.path().join(format!("{name}.out")),
            self.path().join(format!("{name}.err")),
        );
        let create = |path: &Path| fs::File::create(path).expect("a file for the output");
        command.stdout(create(&out)).stderr(create(&err));
        let line = format!("{command:?}");
        let status = command
            .status()
            .unwrap_or_else(|error| panic!("{line}: {error}"));
        let read = |path: &Path| fs::read(path).expect("the output");
        Ran::new(
            line,
            std::process::Output {
                status,
                stdout: read(&out),
                stderr: read(&err),
            },
        )
    }

    /// `state`, parsed.
    #[track_caller]
    pub fn state(&self, id: &str) -> Value {
        let text = self.runtime(["state", id]).ok();
        serde_json::from_str(&text).expect("a state")
    }

    /// The status in the state.
    #[track_caller]
    pub fn status(&self, id: &str) -> String {
        self.state(id)["status"]
            .as_str()
            .expect("a status")
            .to_owned()
    }

    /// Waits until the status is so.
    #[track_caller]
    pub fn wait_status(&self, id: &str, status: &str) {
        eventually(status, || (self.status(id) == status).then_some(()));
    }

    /// Looks for what is left; the last act of every test.
    ///
    /// # Panics
    /// If there is something.
    #[track_caller]
    pub fn end(mut self) {
        self.finished = true;
        self.expect_nothing("at the end");
    }

    /// The same in the middle of a test.
    ///
    /// # Panics
    /// If there is something.
    #[track_caller]
    pub fn expect_nothing(&self, when: &str) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(5);
        // The kernel ends processes a moment after they were killed; what stays is a leak.
        let left = eventually("a settled state", || {
            let left = self.left();
            (left.is_empty() || std::time::Instant::now() > end).then_some(left)
        });
        assert!(left.is_empty(), "left behind {when}:\n{}", left.join("\n"));
    }

    fn left(&self) -> Vec<String> {
        let scratch = self.path().to_string_lossy().into_owned();
        let mut left: Vec<String> = fs::read_to_string("/proc/self/mountinfo")
            .unwrap_or_default()
            .lines()
            .filter(|line| line.contains(&scratch))
            .map(|line| format!("mount {line}"))
            .collect();
        left.extend(self.processes());
        left.extend(self.cgroups());
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            left.push(format!("state {}", entry.path().display()));
        }
        left
    }

    /// Commands, hooks and containers: something of ours is in their arguments, environment or root.
    fn processes(&self) -> Vec<String> {
        let scratch = self.path().to_string_lossy().into_owned();
        let ours = |pid: u32| {
            let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
            let names = |text: Vec<u8>| String::from_utf8_lossy(&text).contains(&scratch);
            let groups = String::from_utf8_lossy(&file("cgroup")).contains(&self.prefix);
            groups || names(file("cmdline")) || names(file("environ"))
        };
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|&pid| pid != std::process::id() && ours(pid))
            .filter(|pid| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                !stat.is_empty() && !stat.contains(") Z ")
            })
            .map(|pid| format!("process {pid}"))
            .collect()
    }

    fn cgroups(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
        let mounts = fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten();
        roots.extend(
            mounts
                .map(|entry| entry.path())
                .filter(|path| path.is_dir()),
        );
        for root in roots {
            for entry in fs::read_dir(root).into_iter().flatten().flatten() {
                if entry
                    .file_name()
                    .to_string_lossy()
                    .starts_with(&self.prefix)
                {
                    found.push(format!("cgroup {}", entry.path().display()));
                }
            }
        }
        found
    }
}

impl Default for OciWorld {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for OciWorld {
    fn drop(&mut self) {
        for entry in fs::read_dir(self.root()).into_iter().flatten().flatten() {
            let _ = self
                .command([
                    OsStr::new("delete"),
                    OsStr::new("--force"),
                    &entry.file_name(),
                ])
                .output();
        }
        if !self.finished && !std::thread::panicking() {
            // a test that forgets the leak check must not pass
            std::process::abort();
        }
    }
}

/// A bundle on disk, and its configuration.
pub struct Bundle {
    /// Its directory.
    pub directory: PathBuf,
    /// What is in `config.json`; changes need [`Bundle::write`].
    pub config: Value,
}

impl Bundle {
    /// Its root file system.
    pub fn root(&self) -> PathBuf {
        self.directory.join("rootfs")
    }

    /// The directory, for `--bundle`.
    pub fn path(&self) -> &str {
        self.directory.to_str().expect("a path in UTF-8")
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        let text = serde_json::to_string_pretty(&self.config).expect("JSON");
        fs::write(self.directory.join("config.json"), text).expect("write config.json");
    }

    /// A file below the root, if it is there.
    pub fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.root().join(name)).ok()
    }

    /// Waits for a file below the root.
    #[track_caller]
    pub fn wait_for(&self, name: &str) -> String {
        eventually(name, || self.read(name).filter(|text| text.ends_with('\n')))
    }
}

fn config(script: &str) -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let kinds = ["pid", "network", "ipc", "uts", "mount"];
    let namespaces: Vec<Value> = kinds.iter().map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.2.0",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", script],
            "env": ["PATH=/bin:/usr/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "ketch",
        "mounts": [
            mount("/proc", "proc", &[]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
        },
    })
}

/// What is sent over a socket with one descriptor along: the text and the descriptor.
///
/// # Panics
/// If something else comes.
pub fn receive_descriptor(socket: impl std::os::fd::AsFd) -> (String, std::os::fd::OwnedFd) {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    let mut bytes = [0; 4096];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [std::io::IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut parts, &mut control, flags).expect("a message");
    let descriptor = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    let text = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
    (text, descriptor.expect("a descriptor"))
}
