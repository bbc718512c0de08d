//! Real runs of a real busybox: what a user sees of a monitor.

use crate::support::{Client, World};
use ketch_engine::ErrorKind;
use ketch_engine::container::config::RestartPolicy;
use ketch_engine::container::request::CreateRequest;
use ketch_engine::container::stream::{Frame, write_frame};
use ketch_engine::container::{
    self, ExecConfig, RemoveOptions, StartOptions, Status, StopOptions, WaitCondition,
};
use ketch_spec::image::HealthCheck;

const SECOND: i64 = 1_000_000_000;

#[test]
fn privileged_output_arrives_and_is_logged() {
    World::enter(|world| {
        let id = world.create(world.shell("echo out; echo err >&2; exit 7"));
        let mut client = world.start_attached(&id).expect("start");
        let exit = client.finish();
        assert_eq!((exit.code, exit.signal, exit.error.as_str()), (7, None, ""));
        assert_eq!(
            (client.text().as_str(), client.stderr.as_slice()),
            ("out\n", &b"err\n"[..])
        );
        let state = world.state(&id);
        assert_eq!((state.status, state.pid), (Status::Exited, 0));
        assert_eq!(state.exit.expect("exit").code, 7);
        let log = world.log(&id);
        assert!(log.contains("out\n") && log.contains("err\n"), "{log}");
    });
}

#[test]
fn privileged_a_large_output_is_whole() {
    World::enter(|world| {
        let id = world.create(world.shell("seq 1 200000"));
        let mut client = world.start_attached(&id).expect("start");
        assert_eq!(client.finish().code, 0);
        let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
        assert!(
            client.text() == expected,
            "{} of {} bytes",
            client.stdout.len(),
            expected.len()
        );
        assert!(world.log(&id) == expected);
    });
}

#[test]
fn privileged_standard_input_is_fed_and_ends() {
    World::enter(|world| {
        let request = CreateRequest {
            open_stdin: true,
            stdin_once: true,
            ..world.shell("cat; echo done")
        };
        let id = world.create(request);
        let mut client = world.start_attached(&id).expect("start");
        write_frame(&mut client.stream, &Frame::Stdin(b"hello\n".to_vec())).expect("write");
        client.expect("hello");
        write_frame(&mut client.stream, &Frame::StdinEnd).expect("write");
        assert_eq!(client.finish().code, 0);
        assert_eq!(client.text(), "hello\ndone\n");
    });
}

#[test]
fn privileged_a_program_that_is_missing_does_not_start() {
    World::enter(|world| {
        let request = CreateRequest {
            command: vec!["/no/such".into()],
            ..world.shell("")
        };
        let id = world.create(request);
        let error = container::start(&world.engine, id.as_str(), StartOptions::default())
            .expect_err("cannot start");
        assert!(
            error.to_string().contains("no such file or directory"),
            "{error}"
        );
        let state = world.state(&id);
        assert_eq!(
            (state.status, state.exit.expect("exit").code),
            (Status::Created, 127)
        );
        // And for one that removes itself, nothing stays.
        let id = world.create(CreateRequest {
            command: vec!["nope".into()],
            auto_remove: true,
            ..world.shell("")
        });
        let error = world.start_attached(&id).err().expect("cannot start");
        assert!(
            error
                .to_string()
                .contains("executable file not found in $PATH"),
            "{error}"
        );
        assert_eq!(
            container::resolve(&world.engine, id.as_str())
                .expect_err("gone")
                .kind,
            ErrorKind::NotFound
        );
    });
}

#[test]
fn privileged_a_container_that_removes_itself_is_gone_when_its_client_hears_the_end() {
    World::enter(|world| {
        let id = world.create(CreateRequest {
            auto_remove: true,
            ..world.shell("echo hi; exit 3")
        });
        let mut client = world.start_attached(&id).expect("start");
        assert_eq!(client.finish().code, 3);
        assert!(!world.engine.paths().container_dir(&id).exists());
        assert!(!world.engine.paths().run_dir(&id).exists());
    });
}

#[test]
fn privileged_stop_obeys_the_signal_and_then_the_clock() {
    World::enter(|world| {
        let script = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
        let id = world.create(world.shell(script));
        let mut client = world.start_attached(&id).expect("start");
        client.expect("ready");
        container::stop(&world.engine, id.as_str(), StopOptions::default()).expect("stop");
        assert_eq!(client.finish().code, 5);
        assert!(client.text().contains("bye"));
        let state = world.state(&id);
        assert!(state.stopped_by_user && state.status == Status::Exited);

        let id =
            world.create(world.shell("trap '' TERM; echo ready; while :; do sleep 0.05; done"));
        let mut client = world.start_attached(&id).expect("start");
        client.expect("ready");
        let options = StopOptions {
            signal: None,
            timeout_s: Some(0),
        };
        container::stop(&world.engine, id.as_str(), options).expect("stop");
        assert_eq!(client.finish().code, 137);
    });
}

#[test]
fn privileged_exec_runs_beside_init() {
    World::enter(|world| {
        let id = world.run_detached(world.shell("sleep 1000"));
        let exec = |command: &[&str]| ExecConfig {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..ExecConfig::default()
        };
        let attach = |config| {
            let attached = container::exec(&world.engine, id.as_str(), config).expect("exec");
            Client::new(attached.expect("a connection").stream)
        };
        let mut client = attach(ExecConfig {
            env: vec!["A=b".into()],
            ..exec(&["sh", "-c", "echo $A; echo no >&2; exit 4"])
        });
        assert_eq!(client.finish().code, 4);
        assert_eq!(
            (client.text().as_str(), client.stderr.as_slice()),
            ("b\n", &b"no\n"[..])
        );

        let mut client = attach(ExecConfig {
            stdin: true,
            ..exec(&["cat"])
        });
        write_frame(&mut client.stream, &Frame::Stdin(b"in".to_vec())).expect("write");
        write_frame(&mut client.stream, &Frame::StdinEnd).expect("write");
        assert_eq!((client.finish().code, client.text().as_str()), (0, "in"));

        let mut client = attach(exec(&["sh", "-c", "sleep 1000 & echo left"]));
        assert_eq!(
            (client.finish().code, client.text().as_str()),
            (0, "left\n")
        );

        let error = container::exec(&world.engine, id.as_str(), exec(&["nope"]))
            .expect_err("no such program");
        assert!(
            error
                .to_string()
                .contains("executable file not found in $PATH"),
            "{error}"
        );
        let detached = ExecConfig {
            detach: true,
            ..exec(&["touch", "/tmp/mark"])
        };
        assert!(
            container::exec(&world.engine, id.as_str(), detached)
                .expect("exec")
                .is_none()
        );
        let mut client = attach(exec(&[
            "sh",
            "-c",
            "while ! [ -e /tmp/mark ]; do sleep 0.05; done; id -u",
        ]));
        assert_eq!((client.finish().code, client.text().as_str()), (0, "0\n"));

        let mut client = attach(exec(&["sleep", "1000"]));
        container::kill(&world.engine, id.as_str(), 9).expect("kill");
        assert_eq!(client.finish().code, 137);
        world.await_state(&id, "exited", |state| state.status == Status::Exited);
    });
}

#[test]
fn privileged_a_terminal_works_both_ways_and_has_a_size() {
    World::enter(|world| {
        let script = "stty size; read line; echo \"got $line\"; stty size; exit 2";
        let id = world.create(CreateRequest {
            tty: true,
            open_stdin: true,
            ..world.shell(script)
        });
        let mut client = world.start_attached(&id).expect("start");
        client.expect("24 80");
        write_frame(
            &mut client.stream,
            &Frame::Resize {
                rows: 50,
                columns: 132,
            },
        )
        .expect("write");
        write_frame(&mut client.stream, &Frame::Stdin(b"word\r".to_vec())).expect("write");
        assert_eq!(client.finish().code, 2);
        assert!(
            client.text().contains("got word\r\n") && client.text().contains("50 132"),
            "{}",
            client.text()
        );

        let id = world.run_detached(world.shell("sleep 1000"));
        let config = ExecConfig {
            command: ["sh", "-c", "stty size; exit 6"].map(String::from).into(),
            tty: true,
            stdin: true,
            size: Some((33, 99)),
            ..ExecConfig::default()
        };
        let attached = container::exec(&world.engine, id.as_str(), config)
            .expect("exec")
            .expect("a connection");
        let mut client = Client::new(attached.stream);
        assert_eq!(client.finish().code, 6);
        assert!(client.text().contains("33 99"), "{}", client.text());
    });
}

#[test]
fn privileged_a_policy_restarts_it_until_its_bound() {
    World::enter(|world| {
        let request = CreateRequest {
            restart: RestartPolicy::OnFailure(2),
            ..world.shell("echo run; exit 9")
        };
        let id = world.run_detached(request);
        let state = world.await_state(&id, "the last exit", |state| state.status == Status::Exited);
        assert_eq!(
            (state.restart_count, state.exit.expect("exit").code),
            (2, 9)
        );
        assert_eq!(world.log(&id), "run\nrun\nrun\n");
    });
}

#[test]
fn privileged_a_stop_ends_the_waiting_for_a_restart() {
    World::enter(|world| {
        let request = CreateRequest {
            restart: RestartPolicy::Always,
            ..world.shell("exit 1")
        };
        let id = world.run_detached(request);
        // By then the pause is long.
        world.await_state(&id, "the fourth pause", |state| {
            state.restart_count == 4 && state.status == Status::Restarting
        });
        container::stop(&world.engine, id.as_str(), StopOptions::default()).expect("stop");
        let state = world.state(&id);
        assert!(state.status == Status::Exited && state.stopped_by_user);
    });
}

#[test]
fn privileged_a_killed_monitor_takes_its_container_along_and_is_found_out() {
    World::enter(|world| {
        let id = world.run_detached(world.shell("sleep 1000"));
        let init = world.state(&id).pid;
        let [monitor] = world.monitors()[..] else {
            panic!("one monitor")
        };
        let pid =
            rustix::process::Pid::from_raw(i32::try_from(monitor).expect("pid")).expect("pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
        let state = world.await_state(&id, "recovery", |state| state.status == Status::Exited);
        assert_eq!(state.exit.expect("exit").code, 255);
        crate::support::eventually("init is gone", || {
            (!std::path::Path::new(&format!("/proc/{init}")).exists()).then_some(())
        });
        container::start(&world.engine, id.as_str(), StartOptions::default())
            .expect("it starts again");
        assert_eq!(world.state(&id).status, Status::Running);
    });
}

#[test]
fn privileged_health_is_checked_and_recorded() {
    World::enter(|world| {
        let check = HealthCheck {
            test: vec!["CMD-SHELL".into(), "echo looked; [ -e /tmp/well ]".into()],
            interval: SECOND / 20,
            timeout: 5 * SECOND,
            retries: 2,
            ..HealthCheck::default()
        };
        let id = world.run_detached(CreateRequest {
            health: Some(check),
            ..world.shell("sleep 1000")
        });
        use ketch_engine::container::state::HealthStatus;
        let health = |wanted: HealthStatus| {
            let is = move |state: &container::ContainerState| {
                state.health.as_ref().is_some_and(|h| h.status == wanted)
            };
            world
                .await_state(&id, &format!("{wanted:?}"), is)
                .health
                .expect("health")
        };
        let sick = health(HealthStatus::Unhealthy);
        assert!(
            sick.failing_streak >= 2
                && sick.log[0].output == "looked\n"
                && sick.log[0].exit_code == 1,
            "{sick:?}"
        );
        let cure = ExecConfig {
            command: vec!["touch".into(), "/tmp/well".into()],
            detach: true,
            ..ExecConfig::default()
        };
        container::exec(&world.engine, id.as_str(), cure).expect("exec");
        assert_eq!(health(HealthStatus::Healthy).failing_streak, 0);
    });
}

#[test]
fn privileged_pause_freezes_and_stop_thaws() {
    World::enter(|world| {
        let id = world.run_detached(world.shell("sleep 1000"));
        container::pause(&world.engine, id.as_str()).expect("pause");
        assert_eq!(world.state(&id).status, Status::Paused);
        let exec = ExecConfig {
            command: vec!["true".into()],
            ..ExecConfig::default()
        };
        assert_eq!(
            container::exec(&world.engine, id.as_str(), exec)
                .expect_err("paused")
                .kind,
            ErrorKind::Conflict
        );
        container::unpause(&world.engine, id.as_str()).expect("unpause");
        container::pause(&world.engine, id.as_str()).expect("pause");
        let options = StopOptions {
            signal: None,
            timeout_s: Some(1),
        };
        container::stop(&world.engine, id.as_str(), options).expect("stop");
        assert_eq!(world.state(&id).status, Status::Exited);
    });
}

#[test]
fn privileged_a_slow_client_holds_up_output_but_not_the_end() {
    World::enter(|world| {
        let id = world.create(world.shell("seq 1 1000000; echo end"));
        let mut client = world.start_attached(&id).expect("start");
        client.expect("1\n");
        // The client reads no more; the container fills its pipe. It can be stopped all the same.
        let options = StopOptions {
            signal: None,
            timeout_s: Some(0),
        };
        container::stop(&world.engine, id.as_str(), options).expect("stop");
        assert_eq!(world.state(&id).status, Status::Exited);
        container::remove(&world.engine, id.as_str(), RemoveOptions::default()).expect("remove");
        assert_eq!(client.finish().code, 137);
    });
}

#[test]
fn privileged_waiters_hear_the_exit() {
    World::enter(|world| {
        let id = world.run_detached(world.shell("sleep 0.2; exit 11"));
        let exit =
            container::wait(&world.engine, id.as_str(), WaitCondition::NextExit).expect("wait");
        assert_eq!(exit.code, 11);
    });
}
