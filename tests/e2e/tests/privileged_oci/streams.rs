//! Standard streams, terminals and descriptors.

use std::os::unix::net::UnixListener;
use std::process::Command;

use ketch_test_support::{OciWorld, receive_descriptor};
use std::io::{Read, Write};

#[test]
fn privileged_a_terminal_s_other_end_goes_to_the_console_socket() {
    let world = OciWorld::new();
    let mut bundle = world.bundle("b", "tty; stty size; read line; echo got $line");
    bundle.config["process"]["terminal"] = true.into();
    bundle.config["process"]["consoleSize"] = serde_json::json!({ "height": 33, "width": 101 });
    bundle.write();
    let id = world.id("a");
    let error = world.runtime(["create", "-b", bundle.path(), &id]).fails(1);
    assert!(error.contains("without setting console socket"), "{error}");
    let socket = world.path().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let words = [
        "create",
        "-b",
        bundle.path(),
        "--console-socket",
        socket.to_str().unwrap(),
        &id,
    ];
    world.runtime(words).ok();
    let (connection, _) = listener.accept().unwrap();
    let (name, master) = receive_descriptor(&connection);
    assert_eq!(name, "/dev/ptmx");
    let mut master = std::fs::File::from(master);
    world.runtime(["start", &id]).ok();
    master.write_all(b"hello\n").unwrap();
    let mut text = String::new();
    let mut bytes = [0; 1024];
    // The end of a terminal is an error.
    while let Ok(count @ 1..) = master.read(&mut bytes) {
        text += &String::from_utf8_lossy(&bytes[..count]);
    }
    assert!(
        text.contains("/dev/pts/0") && text.contains("33 101"),
        "{text:?}"
    );
    assert!(text.contains("got hello"), "{text:?}");
    world.wait_status(&id, "stopped");
    world.runtime(["delete", &id]).ok();
    for (verb, terminal) in [("run", true), ("create", false)] {
        bundle.config["process"]["terminal"] = terminal.into();
        bundle.write();
        let socket = socket.to_str().unwrap();
        let words = [verb, "-b", bundle.path(), "--console-socket", socket, &id];
        let error = world.runtime(words).fails(1);
        assert!(error.contains("cannot use console socket"), "{error}");
    }
    world.end();
}

/// The words in a shell's single quotes.
fn quoted(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| format!("'{}' ", word.to_string_lossy()))
        .collect()
}

#[test]
fn privileged_a_terminal_in_the_foreground_is_copied_both_ways() {
    let world = OciWorld::new();
    let mut bundle = world.bundle(
        "b",
        "test -t 0 && test -t 1 && tty; read line; echo got $line; exit 5",
    );
    bundle.config["process"]["terminal"] = true.into();
    bundle.write();
    let id = world.id("a");
    let run = quoted(&world.command(["run", "-b", bundle.path(), &id]));
    let input = world.path().join("input");
    std::fs::write(&input, "hello\n").unwrap();
    let mut command = Command::new("script");
    command
        .args(["-qefc", &run, "/dev/null"])
        .stdin(std::fs::File::open(&input).unwrap());
    let ran = world.finish(&mut command);
    assert!(ran.stdout().contains("/dev/pts/0"), "{}", ran.describe());
    assert!(ran.stdout().contains("got hello"), "{}", ran.describe());
    let _ = ran.fails(5);
    world.end();
}

#[test]
fn privileged_exec_has_a_terminal_too() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    let id = world.id("a");
    world.runtime(["run", "-d", "-b", bundle.path(), &id]).ok();
    let run = quoted(&world.command(["exec", "--tty", &id, "sh", "-c", "tty; exit 6"]));
    let mut command = Command::new("script");
    command
        .args(["-qefc", &run, "/dev/null"])
        .stdin(std::process::Stdio::null());
    let ran = world.finish(&mut command);
    assert!(ran.stdout().contains("/dev/pts/0"), "{}", ran.describe());
    let _ = ran.fails(6);
    let socket = world.path().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let words = [
        "exec",
        "-t",
        "-d",
        "--console-socket",
        socket.to_str().unwrap(),
        &id,
        "tty",
    ];
    world.runtime(words).ok();
    let (connection, _) = listener.accept().unwrap();
    let (_, master) = receive_descriptor(&connection);
    let mut bytes = [0; 64];
    let count = std::fs::File::from(master).read(&mut bytes).unwrap();
    assert!(String::from_utf8_lossy(&bytes[..count]).starts_with("/dev/pts/"));
    world.runtime(["delete", "-f", &id]).ok();
    world.end();
}

#[test]
fn privileged_signals_to_the_command_reach_the_program() {
    let world = OciWorld::new();
    let bundle = world.bundle(
        "b",
        "trap 'exit 4' TERM; echo > /ready; while :; do sleep 0.05; done",
    );
    let id = world.id("a");
    let mut run = world
        .command(["run", "-b", bundle.path(), &id])
        .spawn()
        .unwrap();
    bundle.wait_for("ready");
    Command::new("kill")
        .arg("-TERM")
        .arg(run.id().to_string())
        .status()
        .unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(4));
    world.end();
}

#[test]
fn privileged_descriptors_are_passed_on_only_if_asked_for() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "ls /proc/self/fd; cat <&3");
    let id = world.id("a");
    std::fs::write(world.path().join("given"), "given\n").unwrap();
    let shell = |flags: &[&str]| {
        let words = ["run", "-b", bundle.path()].into_iter();
        let words = words.chain(flags.iter().copied());
        let run = quoted(&world.command(words.chain([id.as_str()])));
        let mut command = Command::new("sh");
        command.current_dir(world.path());
        command.args(["-c", &format!("exec 3< given 4< given; exec {run}")]);
        world.finish(&mut command)
    };
    let ran = shell(&["--preserve-fds", "1"]);
    // 4 is that of the directory that ls reads.
    assert_eq!(ran.stdout(), "0\n1\n2\n3\n4\ngiven", "{}", ran.describe());
    let ran = shell(&[]);
    assert!(ran.stdout().starts_with("0\n1\n2\n3"), "{}", ran.describe());
    assert!(!ran.stdout().contains("given"), "{}", ran.describe());
    let error = shell(&["--preserve-fds", "30"]).fails(1);
    assert!(error.contains("is not open"), "{error}");
    world.end();
}

#[test]
fn privileged_sockets_of_the_caller_are_told_as_systemd_tells_them() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "echo $LISTEN_FDS $LISTEN_PID; cat <&3");
    let id = world.id("a");
    std::fs::write(world.path().join("given"), "given\n").unwrap();
    let run = quoted(&world.command(["run", "-b", bundle.path(), &id]));
    let mut command = Command::new("sh");
    command.current_dir(world.path());
    let script = format!("exec 3< given; export LISTEN_FDS=1 LISTEN_PID=$$; exec {run}");
    assert_eq!(
        world.finish(command.args(["-c", &script])).ok(),
        "1 1\ngiven"
    );
    world.end();
}

#[test]
fn privileged_the_program_of_the_runtime_cannot_be_written_through_a_container() {
    let world = OciWorld::new();
    let bundle = world.bundle("b", "sleep 1000");
    let (id, copy) = (world.id("a"), world.path().join("copy"));
    std::fs::copy(ketch_test_support::program(), &copy).unwrap();
    std::fs::remove_file(world.path().join("ketch-runtime")).unwrap();
    std::os::unix::fs::symlink(&copy, world.path().join("ketch-runtime")).unwrap();
    world.runtime(["create", "-b", bundle.path(), &id]).ok();
    // CVE-2019-5736: who gets hold of the program while it runs waits for its end, and writes then.
    let pid = world.state(&id)["pid"].to_string();
    let held = std::fs::File::open(format!("/proc/{pid}/exe")).unwrap();
    world.runtime(["delete", "--force", &id]).ok();
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let written = std::fs::OpenOptions::new().write(true).open(again);
    let error = written.expect_err("the program can be written");
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::ReadOnlyFilesystem,
        "{error}"
    );
    std::fs::OpenOptions::new()
        .write(true)
        .open(&copy)
        .expect("outside it can");
    world.end();
}
