//! The world itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::crash::Machine;
use crate::{Ran, leaks};

/// Limit of everything that a test waits for.
const DEADLINE: Duration = Duration::from_secs(30);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// One test's own ketch.
pub struct World {
    directory: tempfile::TempDir,
    namespace: String,
    /// If the data root is on a disk of its own, what has it mounted.
    machine: Option<Machine>,
    finished: bool,
}

impl World {
    /// A world without images.
    ///
    /// # Panics
    /// Where the test is not root, or the world cannot be made.
    pub fn empty() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes containers and needs root: run `cargo xtask test`"
        );
        let namespace = format!(
            "ketch-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let directory = tempfile::Builder::new()
            .prefix("ketch-test-")
            .tempdir()
            .expect("a temporary directory");
        plain(Command::new("ip").args(["netns", "add", &namespace]));
        let world = Self {
            directory,
            namespace,
            machine: None,
            finished: false,
        };
        plain(&mut world.host(&["ip", "link", "set", "lo", "up"]));
        world
    }

    /// Gives a world without state a disk of its own for its data root, of `mebibytes`, with ext4 on it, and turns it
    /// on. Whatever was started in the world before stays outside.
    ///
    /// # Panics
    /// Where there is no loop device or no ext4.
    pub fn on_disk(mut self, mebibytes: u32) -> Self {
        let disk = Machine::make_disk(self.path(), mebibytes);
        self.machine = Some(Machine::start(self.path(), &disk));
        self
    }

    /// As [`World::on_disk`], with the disk of an earlier boot, which `KETCH_TEST_DISK` names.
    ///
    /// # Panics
    /// Where it does not mount.
    pub fn on_used_disk(mut self) -> Self {
        let disk = std::env::var_os("KETCH_TEST_DISK").expect("KETCH_TEST_DISK");
        self.machine = Some(Machine::start(self.path(), Path::new(&disk)));
        self
    }

    /// After a power cut: waits until the disk is free and mounts it again, with an empty run root and another boot id.
    /// Without a power cut it is an orderly restart.
    ///
    /// # Panics
    /// If the world has no disk, or it does not mount.
    pub fn power_on(&mut self) {
        let disk = self.machine.take().expect("a world on a disk").stop();
        self.machine = Some(Machine::start(self.path(), &disk));
    }

    /// A file of this world's state as the test can open it: a world on a disk has its mounts to itself.
    pub fn seen(&self, path: &Path) -> PathBuf {
        match &self.machine {
            Some(machine) => machine.seen(path),
            None => path.to_owned(),
        }
    }

    /// A world with the image `busybox`.
    pub fn with_busybox() -> Self {
        let world = Self::empty();
        world.import_busybox();
        world
    }

    /// Makes the image `busybox`.
    pub fn import_busybox(&self) {
        let archive = std::env::var_os("KETCH_BUSYBOX_TAR")
            .expect("KETCH_BUSYBOX_TAR: run `cargo xtask test`");
        let archive = archive.to_string_lossy();
        self.ketch([
            "import",
            "--change",
            "CMD [\"sh\"]",
            &archive,
            "busybox:latest",
        ])
        .ok();
    }

    /// The world's scratch directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The persistent state.
    pub fn data_root(&self) -> PathBuf {
        self.path().join("data")
    }

    /// The state that is gone at boot.
    pub fn run_root(&self) -> PathBuf {
        self.path().join("run")
    }

    /// Writes a file below the scratch directory, its folders too, and returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a folder"))
            .expect("make the folder");
        std::fs::write(&path, text).expect("write the file");
        path
    }

    /// A `ketch` command in this world, not started yet; its working directory is the scratch directory.
    pub fn command<I, S>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = self.host(&[]);
        command.arg(program()).args(arguments);
        command
            .env("KETCH_DATA_ROOT", self.data_root())
            .env("KETCH_RUN_ROOT", self.run_root());
        command.env("DOCKER_CONFIG", self.path().join("client"));
        // All of it can be tested with layers in one form or the other.
        if let Some(form) = std::env::var_os("KETCH_LAYER_FORM") {
            command.env("KETCH_LAYER_FORM", form);
        }
        command
    }

    /// Runs `ketch` to its end.
    pub fn ketch<I, S>(&self, arguments: I) -> Ran
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        finish(&mut self.command(arguments))
    }

    /// Runs `ketch` with the words of `line`, split at blanks; quote with single quotes.
    pub fn run(&self, line: &str) -> Ran {
        self.ketch(words(line))
    }

    /// Runs `ketch` with `input` on its standard input.
    pub fn run_with_input(&self, line: &str, input: &[u8]) -> Ran {
        use std::io::Write;
        let mut command = self.command(words(line));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start ketch");
        // a reader that ends early closes the pipe, which is its right
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        Ran::new(
            line.to_owned(),
            child.wait_with_output().expect("wait for ketch"),
        )
    }

    /// Starts `ketch` and leaves it running.
    pub fn spawn(&self, line: &str) -> Child {
        let mut command = self.command(words(line));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start ketch")
    }

    /// A program in this world's network namespace, which plays the host.
    pub fn host(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace));
        match &self.machine {
            // The working directory is looked up by its name in the namespace.
            Some(machine) => command
                .arg(format!("--mount={}", machine.namespace()))
                .args(["--", "sh", "-c", "cd \"$0\" && exec \"$@\""])
                .arg(self.path()),
            None => command.arg("--"),
        };
        command.args(words);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path());
        command
            .env("LC_ALL", "C")
            .env("TZ", "UTC")
            .env("COLUMNS", "200")
            .current_dir(self.path());
        command
    }

    /// Runs a program in this world's network namespace to its end.
    pub fn on_host(&self, line: &str) -> Ran {
        let words = words(line);
        finish(&mut self.host(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    /// Process ids of this world's monitors.
    pub fn monitors(&self) -> Vec<u32> {
        leaks::processes(&self.data_root())
    }

    /// Ends the world and checks that nothing is left of its containers, networks and temporary files. Images stay.
    ///
    /// # Panics
    /// If anything is left.
    #[track_caller]
    pub fn finish(mut self) {
        let left = leaks::check(
            self.path(),
            &self.seen(&self.data_root()),
            &self.seen(&self.run_root()),
            &self.namespace,
        );
        self.finished = true;
        assert!(left.is_empty(), "left behind:\n{}", left.join("\n"));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for pid in self.monitors() {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        if std::thread::panicking() {
            // what this test leaves must not look like a leak of the next one
            if let Ok(listed) = self.command(["ps", "-aq"]).output() {
                let ids = String::from_utf8_lossy(&listed.stdout).into_owned();
                let _ = self
                    .command(["rm", "-f"].into_iter().chain(ids.split_whitespace()))
                    .output();
            }
        }
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.namespace])
            .output();
        if !self.finished && !std::thread::panicking() {
            // a test that forgets the leak check must not pass
            std::process::abort();
        }
    }
}

/// The program under test.
pub fn program() -> PathBuf {
    std::env::var_os("KETCH_BIN")
        .map(PathBuf::from)
        .expect("KETCH_BIN: run `cargo xtask test`")
}

/// Tries `attempt` until it gives something, for states that no event tells of.
///
/// # Panics
/// After 30 seconds, with `what`.
#[track_caller]
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    let (_open, never) = mpsc::channel::<()>();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(
            Instant::now() < end,
            "did not happen within {DEADLINE:?}: {what}"
        );
        let _ = never.recv_timeout(Duration::from_millis(10));
    }
}

fn finish(command: &mut Command) -> Ran {
    let line = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    Ran::new(line, output)
}

fn plain(command: &mut Command) {
    finish(command).ok();
}

/// Splits at blanks; single quotes keep a word together.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}
