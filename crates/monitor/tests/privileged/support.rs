//! A sealed world for tests of real runs: own roots, own network namespace, one busybox image.

use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ketch_engine::container::stream::{Frame, read_frame};
use ketch_engine::container::{
    self, AttachStreams, ContainerState, CreateRequest, ExitRecord, NetworkRequest, StartOptions,
};
use ketch_engine::image::{ImportOptions, Silent, import};
use ketch_engine::{Engine, EngineOptions, Error};
use ketch_spec::Id;

/// Limit of everything that a test waits for.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Programs of the image.
const APPLETS: [&str; 13] = [
    "sh", "true", "false", "cat", "echo", "sleep", "kill", "stty", "ls", "id", "seq", "touch", "nc",
];

pub struct World {
    pub engine: Engine,
    directory: tempfile::TempDir,
}

impl World {
    /// Runs `test` in a world, in a thread with a network namespace of its own.
    pub fn enter(test: impl FnOnce(&World) + Send + 'static) {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes containers and needs root"
        );
        let thread = std::thread::spawn(|| {
            ketch_sys::namespace::unshare(ketch_sys::namespace::Namespaces::NETWORK)
                .expect("a network namespace");
            let own =
                std::fs::File::open("/proc/thread-self/ns/net").expect("own network namespace");
            ketch_network::loopback_up(own.as_fd()).expect("loopback");
            let world = World::new();
            test(&world);
            world.leave();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("ketch-monitor-")
            .tempdir()
            .expect("tempdir");
        let engine = Engine::open(EngineOptions {
            data_root: directory.path().join("data"),
            run_root: directory.path().join("run"),
            executable: program(),
            registry_config: None,
            layer_forms: Default::default(),
        })
        .expect("engine");
        let world = Self { engine, directory };
        world.make_image();
        world
    }

    fn make_image(&self) {
        let root = self.directory.path().join("root");
        for name in ["bin", "dev", "proc", "sys", "tmp", "etc"] {
            std::fs::create_dir_all(root.join(name)).expect("mkdir");
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("a static busybox at /bin/busybox");
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).expect("symlink");
        }
        let mut tar = Command::new("tar")
            .arg("-C")
            .arg(&root)
            .args(["-c", "."])
            .stdout(Stdio::piped())
            .spawn()
            .expect("tar");
        let reference = Some("busybox:latest".parse().expect("reference"));
        let options = ImportOptions {
            reference,
            ..ImportOptions::default()
        };
        let archive = tar.stdout.take().expect("stdout");
        import(&self.engine, archive, &options, &Silent).expect("import");
        assert!(tar.wait().expect("tar").success());
    }

    /// Nothing of it may be left.
    fn leave(&self) {
        for found in container::list(&self.engine).expect("list") {
            let options = container::RemoveOptions {
                force: true,
                volumes: true,
            };
            container::remove(&self.engine, found.config.id.as_str(), options).expect("remove");
        }
        eventually("no monitor is left", || {
            self.monitors().is_empty().then_some(())
        });
        let left = |path: PathBuf| {
            std::fs::read_dir(path)
                .map(|entries| entries.flatten().count())
                .unwrap_or(0)
        };
        assert_eq!(left(self.engine.paths().run_dirs()), 0, "run directories");
        assert_eq!(left(self.engine.paths().containers_dir()), 0, "containers");
    }

    /// Process numbers of monitors of this world.
    pub fn monitors(&self) -> Vec<u32> {
        let wanted = self.directory.path().to_string_lossy().into_owned();
        let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        numbers
            .filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line);
                line.starts_with("ketch\0monitor\0") && line.contains(&wanted)
            })
            .collect()
    }

    /// A request for a shell that runs `script`, without a network.
    pub fn shell(&self, script: &str) -> CreateRequest {
        CreateRequest {
            image: "busybox".into(),
            command: ["/bin/sh", "-c", script].map(String::from).into(),
            network: NetworkRequest::None,
            ..CreateRequest::default()
        }
    }

    /// Makes a container.
    pub fn create(&self, request: CreateRequest) -> Id {
        container::create(&self.engine, request, &Silent)
            .expect("create")
            .id
    }

    /// Starts it, attached to its output and input.
    pub fn start_attached(&self, id: &Id) -> Result<Client, Error> {
        let streams = AttachStreams {
            stdin: true,
            stdout: true,
            stderr: true,
        };
        let options = StartOptions {
            attach: Some(streams),
            size: Some((24, 80)),
        };
        let attached = container::start(&self.engine, id.as_str(), options)?;
        Ok(Client::new(attached.expect("a connection").stream))
    }

    /// Makes and starts it, without a client.
    pub fn run_detached(&self, request: CreateRequest) -> Id {
        let id = self.create(request);
        container::start(&self.engine, id.as_str(), StartOptions::default()).expect("start");
        id
    }

    /// Its state.
    pub fn state(&self, id: &Id) -> ContainerState {
        container::load(&self.engine, id).expect("load").1
    }

    /// Waits until its state is as wanted.
    pub fn await_state(
        &self,
        id: &Id,
        what: &str,
        wanted: impl Fn(&ContainerState) -> bool,
    ) -> ContainerState {
        eventually(what, || Some(self.state(id)).filter(|state| wanted(state)))
    }

    /// Messages of its log.
    pub fn log(&self, id: &Id) -> String {
        let text = std::fs::read_to_string(self.engine.paths().log_file(id)).expect("log");
        let message = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON")["log"].clone()
        };
        text.lines()
            .map(|line| message(line).as_str().expect("text").to_owned())
            .collect()
    }
}

/// An attached client.
pub struct Client {
    pub stream: UnixStream,
    reader: BufReader<UnixStream>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Client {
    pub fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("timeout");
        let reader = BufReader::new(stream.try_clone().expect("clone"));
        Self {
            stream,
            reader,
            stdout: Vec::new(),
            stderr: Vec::new(),
        }
    }

    /// Reads until the exit frame.
    pub fn finish(&mut self) -> ExitRecord {
        loop {
            if let Some(exit) = self.step() {
                return exit;
            }
        }
    }

    /// Reads until standard output has `wanted` in it.
    pub fn expect(&mut self, wanted: &str) {
        while !String::from_utf8_lossy(&self.stdout).contains(wanted) {
            if let Some(exit) = self.step() {
                panic!(
                    "ended with {exit:?} before {wanted:?}; output so far: {}",
                    self.text()
                );
            }
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    fn step(&mut self) -> Option<ExitRecord> {
        match read_frame(&mut self.reader)
            .expect("a frame in time")
            .expect("an exit frame before the end")
        {
            Frame::Stdout(bytes) => self.stdout.extend(bytes),
            Frame::Stderr(bytes) => self.stderr.extend(bytes),
            Frame::Exit(exit) => return Some(exit),
            other => panic!("{other:?} from a monitor"),
        }
        None
    }
}

/// Asks again and again, with a limit.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < limit, "not in time: {what}");
        std::thread::yield_now();
    }
}

/// The program with the role `monitor`, built beside this test.
fn program() -> PathBuf {
    let test = std::env::current_exe().expect("own path");
    let directory = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target directory");
    directory.join("examples").join("monitor_role")
}
