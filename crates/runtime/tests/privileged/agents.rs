//! Calls that a filter leaves to an agent: its listener, who gets it, and what is missing without one.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use ketch_runtime::ExecOptions;
use ketch_spec::runtime::{LinuxSeccomp, SeccompSyscall};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::Case;
use crate::world::{Change, World, list, pipes};

pub const CASES: &[Case] = &[
    ("privileged_agent_gets_the_listener", agent),
    ("privileged_agent_of_a_joining_process", agent_of_exec),
    ("privileged_agent_of_our_own_calls", agent_of_our_own_calls),
    ("privileged_agent_that_is_missing", missing_agent),
];

/// `mkdir` is left to an agent.
fn notifying(path: &str) -> LinuxSeccomp {
    LinuxSeccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        listener_path: path.into(),
        listener_metadata: "some words".into(),
        syscalls: vec![SeccompSyscall {
            names: list(&["mkdir", "mkdirat"]),
            action: "SCMP_ACT_NOTIFY".into(),
            ..SeccompSyscall::default()
        }],
        ..LinuxSeccomp::default()
    }
}

/// What an agent gets over one connection.
fn receive(mut stream: UnixStream) -> (serde_json::Value, OwnedFd) {
    let mut bytes = vec![0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let got = recvmsg(&stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let mut descriptors: Vec<OwnedFd> = control
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
            _ => Vec::new(),
        })
        .collect();
    assert_eq!(descriptors.len(), 1);
    bytes.truncate(got.bytes);
    // The connection is closed after it.
    stream.read_to_end(&mut bytes).unwrap();
    let state = serde_json::from_slice(&bytes).unwrap();
    (state, descriptors.remove(0))
}

fn check_listener(listener: &OwnedFd) {
    let link = format!("/proc/self/fd/{}", listener.as_raw_fd());
    let link = std::fs::read_link(link).unwrap();
    assert_eq!(link.to_str().unwrap(), "anon_inode:seccomp notify");
}

fn agent() {
    let world = World::new();
    let path = world.scratch().join("agent");
    let agent = UnixListener::bind(&path).unwrap();
    let mut spec = world.spec("mkdir /tmp/x; echo after");
    spec.annotations.insert("key".into(), "value".into());
    spec.linux_mut().seccomp = Some(notifying(path.to_str().unwrap()));
    for no_new_privileges in [false, true] {
        spec.process_mut().no_new_privileges = no_new_privileges;
        let root = world.root();
        let (stdio, output) = pipes();
        let mut container =
            ketch_runtime::create(world.options(&spec, &root, None, stdio)).unwrap();
        container.start().unwrap();
        let (state, listener) = receive(agent.accept().unwrap().0);
        check_listener(&listener);
        let pid = container.pid();
        let expected = serde_json::json!({
            "ociVersion": ketch_spec::runtime::VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "metadata": "some words",
            "state": {
                "ociVersion": spec.oci_version,
                "id": "box",
                "status": "creating",
                "pid": pid,
                "bundle": "/",
                "annotations": { "key": "value" },
            },
        });
        assert_eq!(state, expected);
        // The call waits for an answer, and there is none once the listener is closed.
        let mut asked = [rustix::event::PollFd::new(
            &listener,
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut asked, None).unwrap();
        drop(listener);
        let (stdout, stderr) = output.read();
        assert_eq!(stdout, "after\n");
        assert!(stderr.contains("Function not implemented"), "{stderr}");
        container.wait().unwrap();
    }
}

/// An agent that is left alone with calls that the runtime makes itself at the end: those that come after it was told
/// wait for it, and none comes before.
fn agent_of_our_own_calls() {
    let world = World::new();
    let path = world.scratch().join("agent");
    let agent = UnixListener::bind(&path).unwrap();
    let mut spec = world.spec("echo ran");
    let mut filter = notifying(path.to_str().unwrap());
    filter.syscalls[0].names = list(&["sendmsg", "recvmsg", "capset", "prctl"]);
    spec.linux_mut().seccomp = Some(filter);
    let root = world.root();
    let (stdio, output) = pipes();
    let mut container = ketch_runtime::create(world.options(&spec, &root, None, stdio)).unwrap();
    // The listener is closed as soon as it has come, so that its calls fail: the program is not executed then.
    let told = ketch_sys::clone::clone_process(
        &ketch_sys::clone::CloneOptions {
            keep: &[agent.as_raw_fd(), 2],
            ..Default::default()
        },
        || {
            let (_, listener) = receive(agent.accept().unwrap().0);
            let mut asked = [rustix::event::PollFd::new(
                &listener,
                rustix::event::PollFlags::IN,
            )];
            rustix::event::poll(&mut asked, None).unwrap();
            0
        },
    );
    let told = told.unwrap();
    let error = container.start().unwrap_err().to_string();
    assert!(error.contains("Function not implemented"), "{error}");
    let status = ketch_sys::process::wait_child(told.pid, true).unwrap();
    assert_eq!(status, Some(0));
    assert_eq!(output.read().0, "");
}

fn agent_of_exec() {
    let world = World::new();
    let path = world.scratch().join("agent");
    let agent = UnixListener::bind(&path).unwrap();
    let container = world.sleeper(&world.spec("echo; exec sleep 1000"), None);
    let mut spec = world.spec("mkdir /tmp/x; echo after");
    let filter = notifying(path.to_str().unwrap());
    let program = ketch_runtime::seccomp::compile(&filter).unwrap();
    spec.linux_mut().seccomp = Some(filter);
    let process = spec.process.clone().unwrap();
    let options = |agent, stdio| ExecOptions {
        target: container.pidfd(),
        process: &process,
        cgroup: None,
        stdio,
        preserve_fds: 0,
        seccomp: Some(&program),
        agent,
        lifetime: ketch_runtime::Lifetime::Parents,
        resctrl: None,
    };
    let told = ketch_runtime::NotifyAgent::new(&spec, "box", std::path::Path::new("/"));
    let (stdio, output) = pipes();
    let mut joined = ketch_runtime::exec(options(told, stdio)).unwrap();
    let (state, listener) = receive(agent.accept().unwrap().0);
    assert_eq!(state["pid"], joined.pid());
    assert_eq!(state["state"]["status"], "running");
    drop(listener);
    assert_eq!(output.read().0, "after\n");
    joined.wait().unwrap();
    let (stdio, _output) = pipes();
    let error = ketch_runtime::exec(options(None, stdio)).unwrap_err();
    assert!(
        error.to_string().contains("listenerPath is missing"),
        "{error}"
    );
}

fn missing_agent() {
    let world = World::new();
    let mut spec = world.spec("echo ran > /tmp/ran");
    let nowhere = world.scratch().join("nowhere");
    spec.linux_mut().seccomp = Some(notifying(nowhere.to_str().unwrap()));
    let error = world.refusal(&spec).to_string();
    assert!(
        error.starts_with(
            "failed to connect with seccomp agent at linux.seccomp.listenerPath: connect "
        ),
        "{error}"
    );
    assert!(!world.root().join("tmp/ran").exists());
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap();
    assert_eq!(children, "", "the process is gone");
    let filter = spec.linux_mut().seccomp.as_mut().unwrap();
    filter.listener_path.clear();
    let error = world.refusal(&spec).to_string();
    assert!(error.contains("invalid linux.seccomp"), "{error}");
}
