//! A root file system of busybox, specifications as an engine would write them, and running them.

use std::fs;
use std::io::{PipeReader, Read};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use ketch_runtime::cgroup::Cgroup;
use ketch_runtime::{Container, CreateOptions, Error, Exit, Rootfs, Stdio};
use ketch_spec::runtime::{
    Capabilities, Linux, LinuxNamespace, LinuxResources, Mount, NamespaceKind, Process, Root, Spec,
};

const BUSYBOX: &str = "/bin/busybox";

/// A root file system in a scratch directory.
pub struct World {
    scratch: tempfile::TempDir,
}

/// What a container did.
#[derive(Debug)]
pub struct Outcome {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Its output, if it ended well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.exit, Exit::Code(0), "{self:?}");
        self.stdout
    }
}

impl World {
    pub fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let world = Self { scratch };
        for directory in ["bin", "dev", "etc", "proc", "sys", "tmp", "root"] {
            fs::create_dir_all(world.root().join(directory)).unwrap();
        }
        fs::copy(BUSYBOX, world.root().join("bin/busybox")).expect("busybox-static is installed");
        let list = Command::new(BUSYBOX).arg("--list").output().unwrap();
        for applet in String::from_utf8(list.stdout).unwrap().lines() {
            // Those that are there already are busybox itself.
            let _ = symlink("busybox", world.root().join("bin").join(applet));
        }
        world
    }

    pub fn root(&self) -> PathBuf {
        self.scratch.path().join("root fs")
    }

    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// A specification like an engine's default one, which runs a shell script.
    pub fn spec(&self, script: &str) -> Spec {
        let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        Spec {
            oci_version: ketch_spec::runtime::VERSION.into(),
            root: Some(Root {
                path: "/unused".into(),
                ..Root::default()
            }),
            hostname: "box".into(),
            mounts: default_mounts(),
            process: Some(Process {
                args,
                env: vec!["PATH=/usr/bin:/bin".into(), "A=b".into()],
                cwd: "/".into(),
                capabilities: Some(default_capabilities()),
                ..Process::default()
            }),
            linux: Some(Linux {
                namespaces: default_namespaces(),
                masked_paths: list(&[
                    "/proc/kcore",
                    "/proc/keys",
                    "/proc/acpi",
                    "/sys/firmware",
                    "/nope",
                ]),
                readonly_paths: list(&["/proc/bus", "/proc/sys", "/proc/sysrq-trigger", "/nope"]),
                ..Linux::default()
            }),
            ..Spec::default()
        }
    }

    pub fn options<'a>(
        &self,
        spec: &'a Spec,
        root: &'a Path,
        cgroup: Option<&'a Cgroup>,
        stdio: Stdio,
    ) -> CreateOptions<'a> {
        CreateOptions {
            cgroup,
            id: "box",
            ..CreateOptions::new(spec, Rootfs::Path(root), Path::new("/"), stdio)
        }
    }

    /// Runs it to its end.
    pub fn run(&self, spec: &Spec) -> Outcome {
        self.run_in(spec, None)
    }

    pub fn run_in(&self, spec: &Spec, cgroup: Option<&Cgroup>) -> Outcome {
        let root = self.root();
        let (stdio, output) = pipes();
        let mut container = ketch_runtime::create(self.options(spec, &root, cgroup, stdio))
            .unwrap_or_else(|error| panic!("create: {error}"));
        container
            .start()
            .unwrap_or_else(|error| panic!("start: {error}"));
        output.collect(&mut container)
    }

    /// Runs a script with the default specification.
    pub fn sh(&self, script: &str) -> Outcome {
        self.run(&self.spec(script))
    }

    /// Why it does not start.
    #[track_caller]
    pub fn refusal(&self, spec: &Spec) -> Error {
        let root = self.root();
        let (stdio, _output) = pipes();
        match ketch_runtime::create(self.options(spec, &root, None, stdio)) {
            Err(error) => error,
            Ok(mut container) => container.start().expect_err("a refusal"),
        }
    }

    /// Starts a container that goes on until it is killed.
    pub fn sleeper(&self, spec: &Spec, cgroup: Option<&Cgroup>) -> Container {
        let root = self.root();
        let (stdio, output) = pipes();
        let mut container = ketch_runtime::create(self.options(spec, &root, cgroup, stdio))
            .unwrap_or_else(|error| panic!("create: {error}"));
        container
            .start()
            .unwrap_or_else(|error| panic!("start: {error}"));
        // It says a line when it is ready.
        let mut byte = [0];
        let mut stdout = output.stdout;
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "the container's word");
        container
    }
}

/// Both outputs of a process.
pub struct Output {
    pub stdout: PipeReader,
    pub stderr: PipeReader,
}

/// Standard input that has ended, and pipes.
pub fn pipes() -> (Stdio, Output) {
    let (stdout, out) = std::io::pipe().unwrap();
    let (stderr, err) = std::io::pipe().unwrap();
    let stdin = fs::File::open("/dev/null").unwrap();
    let stdio = Stdio::Files {
        stdin: stdin.into(),
        stdout: out.into(),
        stderr: err.into(),
    };
    (stdio, Output { stdout, stderr })
}

impl Output {
    pub fn read(self) -> (String, String) {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        let mut bytes = Vec::new();
        let mut both = self;
        both.stdout.read_to_end(&mut bytes).unwrap();
        stdout.push_str(&String::from_utf8_lossy(&bytes));
        bytes.clear();
        both.stderr.read_to_end(&mut bytes).unwrap();
        stderr.push_str(&String::from_utf8_lossy(&bytes));
        (stdout, stderr)
    }

    fn collect(self, container: &mut Container) -> Outcome {
        let (stdout, stderr) = self.read();
        let exit = container.wait().expect("the end");
        Outcome {
            exit,
            stdout,
            stderr,
        }
    }
}

pub fn list(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

pub fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: list(options),
        ..Mount::default()
    }
}

pub fn default_mounts() -> Vec<Mount> {
    let strict = ["nosuid", "noexec", "nodev"];
    vec![
        mount("/proc", "proc", "proc", &strict),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &strict),
        mount(
            "/dev/shm",
            "tmpfs",
            "shm",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=64m"],
        ),
    ]
}

pub fn namespace(kind: NamespaceKind) -> LinuxNamespace {
    LinuxNamespace { kind, path: None }
}

pub fn default_namespaces() -> Vec<LinuxNamespace> {
    use NamespaceKind::{Cgroup, Ipc, Mount, Network, Pid, Uts};
    [Mount, Network, Uts, Pid, Ipc, Cgroup]
        .map(namespace)
        .to_vec()
}

pub fn default_capabilities() -> Capabilities {
    let names = list(&[
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ]);
    Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..Capabilities::default()
    }
}

/// The parts of a specification that cases change.
pub trait Change {
    fn process_mut(&mut self) -> &mut Process;
    fn linux_mut(&mut self) -> &mut Linux;
}

impl Change for Spec {
    fn process_mut(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    fn linux_mut(&mut self) -> &mut Linux {
        self.linux.as_mut().unwrap()
    }
}

/// A cgroup of this process's own, removed at the end.
pub struct TestCgroup(pub Cgroup);

impl TestCgroup {
    pub fn new(name: &str, resources: &LinuxResources) -> Self {
        let path = format!("/ketch-test-{}/{name}", std::process::id());
        Self(Cgroup::create(&path, resources).unwrap_or_else(|error| panic!("{error}")))
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        self.0.kill().expect("kill the cgroup");
        self.0
            .remove(std::time::Duration::from_secs(10))
            .expect("remove the cgroup");
    }
}

/// A process that joins a container, with as little as possible.
pub fn exec_options<'a>(
    container: &'a ketch_runtime::Container,
    process: &'a ketch_spec::runtime::Process,
    stdio: ketch_runtime::Stdio,
) -> ketch_runtime::ExecOptions<'a> {
    ketch_runtime::ExecOptions {
        target: container.pidfd(),
        process,
        cgroup: None,
        stdio,
        preserve_fds: 0,
        seccomp: None,
        agent: None,
        lifetime: ketch_runtime::Lifetime::Parents,
        resctrl: None,
    }
}
