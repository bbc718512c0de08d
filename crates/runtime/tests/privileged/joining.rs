//! Processes that join a running container.

use std::fs;
use std::io::{Read, Write};

use ketch_runtime::{Container, ExecOptions, Exit, Process, Stdio, WindowSize};
use ketch_spec::runtime::{
    CpuAffinity, LinuxResources, LinuxSeccomp, NamespaceKind, Process as ProcessSpec,
    SeccompSyscall,
};

use crate::Case;
use crate::world::{Change, Outcome, TestCgroup, World, exec_options, list, namespace, pipes};

pub const CASES: &[Case] = &[
    ("privileged_exec_joins_everything", joins_everything),
    ("privileged_exec_words_of_refusals", words_of_refusals),
    (
        "privileged_exec_user_capabilities_and_filter",
        user_capabilities_and_filter,
    ),
    ("privileged_exec_terminal", terminal),
    ("privileged_exec_enters_the_cgroup", enters_the_cgroup),
    ("privileged_exec_of_an_ended_container", ended_container),
    (
        "privileged_exec_into_a_user_namespace",
        into_a_user_namespace,
    ),
    (
        "privileged_exec_dies_with_its_container",
        dies_with_its_container,
    ),
    ("privileged_exec_hides_its_program", hides_its_program),
    ("privileged_exec_affinity", affinity),
];

fn process(world: &World, script: &str) -> ProcessSpec {
    world.spec(script).process.unwrap()
}

fn exec(container: &Container, process: &ProcessSpec) -> Outcome {
    let (stdio, output) = pipes();
    let mut joined = ketch_runtime::exec(exec_options(container, process, stdio))
        .unwrap_or_else(|error| panic!("{error}"));
    let (stdout, stderr) = output.read();
    Outcome {
        exit: joined.wait().unwrap(),
        stdout,
        stderr,
    }
}

fn sleeper(world: &World) -> Container {
    world.sleeper(&world.spec("echo; exec sleep 1000"), None)
}

fn joins_everything() {
    let world = World::new();
    let container = sleeper(&world);
    let script = "cd /proc; for n in cgroup ipc mnt net pid uts; do \
                  [ $(readlink 1/ns/$n) = $(readlink self/ns/$n) ] && echo $n; done; hostname; pwd; exit 4";
    let outcome = exec(&container, &process(&world, script));
    assert_eq!(
        outcome.stdout, "cgroup\nipc\nmnt\nnet\npid\nuts\nbox\n/proc\n",
        "{outcome:?}"
    );
    assert_eq!(outcome.exit, Exit::Code(4));
    let ours = fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(
        fs::read_link("/proc/self/ns/pid_for_children").unwrap(),
        ours
    );
}

fn words_of_refusals() {
    let world = World::new();
    let container = sleeper(&world);
    for (program, code) in [("nope", 127), ("/etc", 126)] {
        let mut process = process(&world, "");
        process.args = list(&[program]);
        let (stdio, _output) = pipes();
        let error = ketch_runtime::exec(exec_options(&container, &process, stdio)).unwrap_err();
        assert_eq!(error.exit_code(), code, "{error}");
    }
    let mut process = process(&world, "");
    process.args = list(&["nope"]);
    let (stdio, _output) = pipes();
    let error = ketch_runtime::exec(exec_options(&container, &process, stdio)).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"exec: "nope": executable file not found in $PATH"#
    );
}

fn user_capabilities_and_filter() {
    let world = World::new();
    let container = sleeper(&world);
    let mut process = process(
        &world,
        "id -u; grep -E 'CapBnd|NoNew' /proc/self/status; unshare -m true",
    );
    process.user.uid = 33;
    process.no_new_privileges = true;
    process.capabilities.as_mut().unwrap().bounding = list(&["CAP_KILL"]);
    let rule = SeccompSyscall {
        names: list(&["unshare"]),
        action: "SCMP_ACT_ERRNO".into(),
        errno_ret: Some(38),
        ..SeccompSyscall::default()
    };
    let filter = LinuxSeccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        syscalls: vec![rule],
        ..LinuxSeccomp::default()
    };
    let program = ketch_runtime::seccomp::compile(&filter).unwrap();
    let (stdio, output) = pipes();
    let options = ExecOptions {
        seccomp: Some(&program),
        ..exec_options(&container, &process, stdio)
    };
    let mut joined = ketch_runtime::exec(options).unwrap();
    let (stdout, stderr) = output.read();
    joined.wait().unwrap();
    assert_eq!(stdout, "33\nCapBnd:\t0000000000000020\nNoNewPrivs:\t1\n");
    assert!(stderr.contains("Function not implemented"), "{stderr}");
}

fn terminal() {
    let world = World::new();
    let container = sleeper(&world);
    let mut process = process(&world, "tty; stty size; read line; echo got $line");
    process.terminal = true;
    let size = Some(WindowSize {
        rows: 5,
        columns: 6,
    });
    let mut joined =
        ketch_runtime::exec(exec_options(&container, &process, Stdio::Terminal { size })).unwrap();
    let mut master = fs::File::from(joined.take_console().unwrap());
    master.write_all(b"hello\n").unwrap();
    let mut seen = Vec::new();
    // EIO: the last user of the terminal is gone.
    let _ = master.read_to_end(&mut seen);
    let seen = String::from_utf8(seen).unwrap().replace("\r\n", "\n");
    for line in ["/dev/pts/0\n", "5 6\n", "got hello\n"] {
        assert!(seen.contains(line), "{line:?} in {seen:?}");
    }
    joined.wait().unwrap();
}

fn enters_the_cgroup() {
    let world = World::new();
    let cgroup = TestCgroup::new("exec", &LinuxResources::default());
    let container = world.sleeper(&world.spec("echo; exec sleep 1000"), Some(&cgroup.0));
    let process = process(&world, "exec sleep 1000");
    let (stdio, _output) = pipes();
    let options = ExecOptions {
        cgroup: Some(&cgroup.0),
        ..exec_options(&container, &process, stdio)
    };
    let joined: Process = ketch_runtime::exec(options).unwrap();
    let mut expected = vec![container.pid(), joined.pid()];
    expected.sort_unstable();
    assert_eq!(cgroup.0.processes().unwrap(), expected);
}

fn ended_container() {
    let world = World::new();
    let mut container = sleeper(&world);
    container.kill(9).unwrap();
    container.wait().unwrap();
    let process = process(&world, "true");
    let (stdio, _output) = pipes();
    let error = ketch_runtime::exec(exec_options(&container, &process, stdio)).unwrap_err();
    assert_eq!(error.errno(), Some(rustix::io::Errno::SRCH), "{error}");
}

fn into_a_user_namespace() {
    let world = World::new();
    let mut spec = world.spec("echo; exec sleep 1000");
    let mapping = ketch_spec::runtime::IdMapping {
        container_id: 0,
        host_id: 0,
        size: 1000,
    };
    spec.linux_mut()
        .namespaces
        .push(namespace(NamespaceKind::User));
    spec.linux_mut().uid_mappings = vec![mapping];
    spec.linux_mut().gid_mappings = vec![mapping];
    let container = world.sleeper(&spec, None);
    let script =
        "id -u; [ $(readlink /proc/1/ns/user) = $(readlink /proc/self/ns/user) ] && echo same";
    assert_eq!(exec(&container, &process(&world, script)).ok(), "0\nsame\n");
}

fn dies_with_its_container() {
    let world = World::new();
    let mut container = sleeper(&world);
    let process = process(&world, "exec sleep 1000");
    let (stdio, _output) = pipes();
    let mut joined = ketch_runtime::exec(exec_options(&container, &process, stdio)).unwrap();
    container.kill(9).unwrap();
    assert_eq!(joined.wait().unwrap(), Exit::Signal(9));
    assert_eq!(container.wait().unwrap(), Exit::Signal(9));
    container.release_mounts();
}

/// CVE-2019-5736: what a container can get hold of while we enter it is our own program. Its first process tries for
/// every process that appears, until one of them has come and gone.
fn hides_its_program() {
    let world = World::new();
    let script = "echo; while true; do for p in /proc/[0-9]*; do \
                  [ $p = /proc/1 ] || readlink $p/exe; done; done > /tmp/seen 2> /dev/null";
    let container = world.sleeper(&world.spec(script), None);
    for _ in 0..20 {
        assert_eq!(
            exec(&container, &process(&world, "true")).exit,
            Exit::Code(0)
        );
    }
    let seen = fs::read_to_string(world.root().join("tmp/seen")).unwrap();
    let others: Vec<&str> = seen
        .lines()
        .filter(|line| !line.ends_with("/bin/busybox"))
        .collect();
    assert!(others.is_empty(), "{others:?}");
}

fn affinity() {
    let world = World::new();
    let container = sleeper(&world);
    let mut process = process(&world, "grep Cpus_allowed_list /proc/self/status | cut -f2");
    let usual = exec(&container, &process).ok();
    // The first set is for the time before the cgroup is entered; then the cgroup's counts, or the last one.
    process.exec_cpu_affinity = Some(CpuAffinity {
        initial: "0".into(),
        last: String::new(),
    });
    assert_eq!(exec(&container, &process).ok(), usual);
    process.exec_cpu_affinity = Some(CpuAffinity {
        initial: String::new(),
        last: "0".into(),
    });
    assert_eq!(exec(&container, &process).ok(), "0\n");
    process.exec_cpu_affinity = Some(CpuAffinity {
        initial: "x".into(),
        last: String::new(),
    });
    let (stdio, _output) = pipes();
    let error = ketch_runtime::exec(exec_options(&container, &process, stdio))
        .unwrap_err()
        .to_string();
    assert!(error.contains("no list of processors"), "{error}");
}
