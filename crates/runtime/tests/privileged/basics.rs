//! Starting, exit codes, users, limits, the words of refusals.

use std::io::Write;
use std::os::fd::AsRawFd;

use ketch_runtime::{Exit, Stdio, WindowSize};
use ketch_spec::runtime::{Rlimit, User};

use crate::Case;
use crate::world::{Change, World, list, pipes};

pub const CASES: &[Case] = &[
    ("privileged_exit_codes_and_output", exit_codes_and_output),
    ("privileged_a_signal_is_told_from_a_code", a_signal),
    (
        "privileged_programs_that_cannot_run",
        programs_that_cannot_run,
    ),
    (
        "privileged_working_directory_is_made",
        working_directory_is_made,
    ),
    ("privileged_user_groups_and_umask", user_groups_and_umask),
    ("privileged_limits_and_score", limits_and_score),
    ("privileged_signals_are_reset", signals_are_reset),
    (
        "privileged_a_container_that_is_dropped_is_killed",
        dropped_is_killed,
    ),
    ("privileged_terminal", terminal),
    (
        "privileged_pipes_can_be_opened_anew_by_users",
        pipes_can_be_opened_anew,
    ),
    (
        "privileged_preserved_descriptors_only",
        preserved_descriptors_only,
    ),
    ("privileged_threads_are_refused", threads_are_refused),
];

fn exit_codes_and_output() {
    let world = World::new();
    let outcome = world.sh("echo out; echo err >&2; exit 3");
    assert_eq!(outcome.exit, Exit::Code(3));
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("out\n", "err\n")
    );
    let outcome = world.sh("echo $A $$ $(hostname) $(pwd)");
    assert_eq!(outcome.ok(), "b 1 box /\n");
}

fn a_signal() {
    let world = World::new();
    let outcome = world.sh("sleep 1000 & kill -SEGV $!; wait $!");
    assert_eq!(outcome.exit, Exit::Code(139));
    let container = &mut world.sleeper(&world.spec("echo; exec sleep 1000"), None);
    container.kill(9).unwrap();
    assert_eq!(container.wait().unwrap(), Exit::Signal(9));
    container.kill(9).unwrap();
    assert_eq!(container.try_wait().unwrap(), Some(Exit::Signal(9)));
}

fn programs_that_cannot_run() {
    let world = World::new();
    std::fs::write(world.root().join("bin/garbage"), "\x7fELF no").unwrap();
    std::fs::write(world.root().join("bin/script"), "#!/nowhere\n").unwrap();
    for name in ["garbage", "script"] {
        use std::os::unix::fs::PermissionsExt;
        let path = world.root().join("bin").join(name);
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let cases = [
        (
            "nope",
            127,
            r#"exec: "nope": executable file not found in $PATH"#,
        ),
        (
            "/nope",
            127,
            r#"exec: "/nope": stat /nope: no such file or directory"#,
        ),
        ("/etc", 126, r#"exec: "/etc": is a directory"#),
        (
            "/bin/garbage",
            126,
            r#"exec: "/bin/garbage": exec format error"#,
        ),
        (
            "/bin/script",
            127,
            r#"exec: "/bin/script": stat /bin/script: no such file or directory"#,
        ),
        (
            "/bin/busybox/x",
            127,
            r#"exec: "/bin/busybox/x": stat /bin/busybox/x: not a directory"#,
        ),
    ];
    for (program, code, words) in cases {
        let mut spec = world.spec("");
        spec.process_mut().args = list(&[program]);
        let error = world.refusal(&spec);
        assert_eq!(
            (error.exit_code(), error.to_string().as_str()),
            (code, words)
        );
    }
    std::fs::write(world.root().join("bin/data"), "x").unwrap();
    let mut spec = world.spec("");
    spec.process_mut().args = list(&["data"]);
    let error = world.refusal(&spec);
    assert_eq!(error.to_string(), r#"exec: "data": permission denied"#);
    assert_eq!(error.exit_code(), 126);
}

fn working_directory_is_made() {
    let world = World::new();
    let mut spec = world.spec("pwd");
    spec.process_mut().cwd = "/a/b".into();
    assert_eq!(world.run(&spec).ok(), "/a/b\n");
    assert!(world.root().join("a/b").is_dir());
    spec.root.as_mut().unwrap().readonly = true;
    spec.process_mut().cwd = "/c".into();
    assert_eq!(world.run(&spec).ok(), "/c\n");
    spec.process_mut().cwd = "/bin/busybox".into();
    let error = world.refusal(&spec).to_string();
    assert!(error.contains("chdir to cwd (\"/bin/busybox\")"), "{error}");
}

fn user_groups_and_umask() {
    let world = World::new();
    let script = "id -u; id -g; id -G; umask; grep CapEff /proc/self/status; cat /tmp/secret";
    let mut spec = world.spec(script);
    let secret = world.root().join("tmp/secret");
    std::fs::write(&secret, "secret").unwrap();
    std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    spec.process_mut().user = User {
        uid: 1000,
        gid: 1001,
        additional_gids: vec![5, 7],
        umask: Some(0o027),
        ..User::default()
    };
    let outcome = world.run(&spec);
    let expected = "1000\n1001\n1001 5 7\n0027\nCapEff:\t0000000000000000\n";
    assert_eq!(outcome.stdout, expected, "{outcome:?}");
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
    assert_eq!(world.sh("umask").ok(), "0022\n");
}

fn limits_and_score() {
    let world = World::new();
    let mut spec = world.spec("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj");
    let rlimit = |soft, hard| Rlimit {
        kind: "RLIMIT_NOFILE".into(),
        soft,
        hard,
    };
    spec.process_mut().rlimits = vec![rlimit(100, 200)];
    spec.process_mut().oom_score_adj = Some(500);
    assert_eq!(world.run(&spec).ok(), "100\n200\n500\n");
    spec.process_mut().rlimits = vec![rlimit(1, 1 << 60)];
    let error = world.refusal(&spec).to_string();
    assert!(
        error.starts_with("set RLIMIT_NOFILE to 1:1152921504606846976: prlimit: "),
        "{error}"
    );
    // What is not given stays the caller's.
    std::fs::write("/proc/self/oom_score_adj", "77").unwrap();
    assert_eq!(world.sh("cat /proc/self/oom_score_adj").ok(), "77\n");
}

/// An ignored signal of the caller would be one of the program too; Rust programs ignore SIGPIPE.
fn signals_are_reset() {
    let world = World::new();
    let ours = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(!ours.contains("SigIgn:\t0000000000000000"), "{ours}");
    let mut spec = world.spec("");
    spec.process_mut().args = list(&["grep", "-E", "SigBlk|SigIgn", "/proc/self/status"]);
    let zero = "0000000000000000";
    assert_eq!(
        world.run(&spec).ok(),
        format!("SigBlk:\t{zero}\nSigIgn:\t{zero}\n")
    );
}

fn dropped_is_killed() {
    let world = World::new();
    let container = world.sleeper(&world.spec("echo; exec sleep 1000"), None);
    let process = format!("/proc/{}", container.pid());
    assert!(std::path::Path::new(&process).exists());
    drop(container);
    assert!(!std::path::Path::new(&process).exists());
    // Not started at all: the same.
    let (stdio, _output) = pipes();
    let (spec, root) = (world.spec("true"), world.root());
    let container = ketch_runtime::create(world.options(&spec, &root, None, stdio)).unwrap();
    let process = format!("/proc/{}", container.pid());
    drop(container);
    assert!(!std::path::Path::new(&process).exists());
}

fn terminal() {
    let world = World::new();
    let script = "tty; stty size; read line; echo got $line; ls -1 /dev/pts; readlink /dev/ptmx; \
                  ls -l /dev/console | cut -c1; echo x > /dev/tty";
    let mut spec = world.spec(script);
    spec.process_mut().terminal = true;
    let root = world.root();
    let size = Some(WindowSize {
        rows: 33,
        columns: 77,
    });
    let options = world.options(&spec, &root, None, Stdio::Terminal { size });
    let mut container = ketch_runtime::create(options).unwrap();
    container.start().unwrap();
    let console = container.take_console().expect("a master");
    assert!(container.take_console().is_none());
    let mut master = std::fs::File::from(console);
    master.write_all(b"hello\n").unwrap();
    let mut seen = Vec::new();
    // EIO: the last user of the terminal is gone.
    let _ = std::io::Read::read_to_end(&mut master, &mut seen);
    let seen = String::from_utf8(seen).unwrap().replace("\r\n", "\n");
    for line in [
        "/dev/pts/0",
        "33 77",
        "got hello",
        "0\nptmx",
        "pts/ptmx",
        "c\nx",
    ] {
        assert!(seen.contains(line), "{line:?} in {seen:?}");
    }
    assert_eq!(container.wait().unwrap(), Exit::Code(0));
    spec.process_mut().terminal = false;
    let size = None;
    let options = world.options(&spec, &root, None, Stdio::Terminal { size });
    assert!(
        ketch_runtime::create(options)
            .unwrap_err()
            .to_string()
            .contains("process.terminal")
    );
}

fn pipes_can_be_opened_anew() {
    let world = World::new();
    let mut spec = world.spec("echo again > /dev/stdout");
    spec.process_mut().user.uid = 1000;
    assert_eq!(world.run(&spec).ok(), "again\n");
}

fn preserved_descriptors_only() {
    let world = World::new();
    // A descriptor without close-on-exec, as a careless caller would leave it.
    let (reader, _writer) = std::io::pipe().unwrap();
    let leaked = rustix::io::fcntl_dupfd_cloexec(&reader, 20).unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let script = "ls /proc/self/fd | grep -v '^[012]$' | wc -l";
    // One more is the directory that ls reads.
    assert_eq!(world.sh(script).ok(), "1\n");
    let (kept, mut sender) = std::io::pipe().unwrap();
    assert!(kept.as_raw_fd() >= 3);
    let mut third = kept;
    while third.as_raw_fd() != 3 {
        third = match rustix::io::fcntl_dupfd_cloexec(&third, 3) {
            Ok(fd) if fd.as_raw_fd() == 3 => fd.into(),
            _ => break,
        };
    }
    sender.write_all(b"through\n").unwrap();
    drop(sender);
    if third.as_raw_fd() == 3 {
        let (spec, root) = (world.spec("cat <&3"), world.root());
        let (stdio, output) = pipes();
        let mut options = world.options(&spec, &root, None, stdio);
        options.preserve_fds = 1;
        let mut container = ketch_runtime::create(options).unwrap();
        container.start().unwrap();
        assert_eq!(output.read().0, "through\n");
        container.wait().unwrap();
    }
    let (spec, root) = (world.spec("true"), world.root());
    let (stdio, _output) = pipes();
    let mut options = world.options(&spec, &root, None, stdio);
    options.preserve_fds = 1000;
    let error = ketch_runtime::create(options).unwrap_err().to_string();
    assert!(error.contains("is not open"), "{error}");
}

fn threads_are_refused() {
    let world = World::new();
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || receive.recv());
    let error = world.refusal(&world.spec("true")).to_string();
    assert!(error.contains("more than one thread"), "{error}");
    drop(send);
    thread.join().unwrap().unwrap_err();
}
