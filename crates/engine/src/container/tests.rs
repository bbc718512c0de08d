//! Contracts of the container verbs that need no running container: the table of states and locks, creation, removal,
//! renaming, and what killed commands leave.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use ketch_spec::mount::{MountSource, parse_volume};
use ketch_sys::namespace::{Namespaces, unshare};

use super::test_support::put;
use super::*;
use crate::image::{self, ImportOptions, Silent};
use crate::lock::OwnerLock;
use crate::test_support::engine;
use crate::{Engine, ErrorKind, names, volume};

/// How long something that happens may take.
const DEADLINE: Duration = Duration::from_secs(20);

fn status(engine: &Engine, wanted: &str) -> Status {
    load(engine, &resolve(engine, wanted).unwrap())
        .unwrap()
        .1
        .status
}

fn own(engine: &Engine, config: &ContainerConfig) -> OwnerLock {
    OwnerLock::take(&engine.paths().owner_lock(&config.id))
        .unwrap()
        .expect("free")
}

/// An image without files that runs /run.
fn image(engine: &Engine, changes: &[&str]) {
    let empty = [0u8; 1024];
    let options = ImportOptions {
        reference: Some("test/image".parse().unwrap()),
        changes: changes.iter().map(|&change| change.to_owned()).collect(),
        ..ImportOptions::default()
    };
    image::import(engine, &empty[..], &options, &image::Silent).unwrap();
}

fn request(name: &str) -> CreateRequest {
    CreateRequest {
        name: Some(name.into()),
        image: "test/image".into(),
        pull: PullPolicy::Never,
        ..CreateRequest::default()
    }
}

/// Recovery takes rules off the host's firewall: here the host is a thread's own network namespace.
fn in_own_network<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(Namespaces::NETWORK).expect("this test needs root");
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_held_lock_says_that_the_state_is_true() {
    let (_dir, engine) = engine();
    for (name, wanted) in [
        ("run", Status::Running),
        ("pause", Status::Paused),
        ("wait", Status::Restarting),
    ] {
        let config = put(&engine, name, wanted);
        let lock = own(&engine, &config);
        assert_eq!(status(&engine, name), wanted);
        drop(lock);
    }
    for (name, wanted) in [
        ("made", Status::Created),
        ("ended", Status::Exited),
        ("dead", Status::Dead),
    ] {
        let config = put(&engine, name, wanted);
        assert_eq!(status(&engine, name), wanted);
        let _verb = own(&engine, &config);
        assert_eq!(status(&engine, name), wanted);
    }
}

#[test]
fn privileged_a_lost_monitor_is_recovered_once_by_whoever_looks() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Running);
    let gone = ContainerConfig {
        auto_remove: true,
        ..put(&engine, "gone", Status::Paused)
    };
    load::write_config(&engine, &gone).unwrap();
    fs::create_dir_all(engine.paths().bundle(&config.id)).unwrap();
    in_own_network(|| {
        assert_eq!(status(&engine, "web"), Status::Exited);
        assert_eq!(
            load(&engine, &gone.id).unwrap_err().kind,
            ErrorKind::NotFound
        );
    });
    let (_, state) = load(&engine, &config.id).unwrap();
    let exit = state.exit.unwrap();
    assert_eq!(
        (exit.code, exit.error.as_str()),
        (255, "the container's monitor was lost")
    );
    assert!(!engine.paths().run_dir(&config.id).exists());
    assert!(!engine.paths().container_dir(&gone.id).exists());
    assert!(
        names::lookup(&engine, names::CONTAINER, "gone")
            .unwrap()
            .is_none()
    );
    let events = crate::event::read(&engine, None, None).unwrap();
    assert_eq!(
        events
            .iter()
            .filter(|event| event.action == "die" && event.id == config.id.as_str())
            .count(),
        1
    );
}

#[test]
fn names_ids_and_prefixes_are_resolved() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Created);
    for wanted in ["web", "/web", config.id.as_str(), config.id.short()] {
        assert_eq!(resolve(&engine, wanted).unwrap(), config.id, "{wanted}");
    }
    for missing in ["", "nope", "fff/..", "../web"] {
        let error = resolve(&engine, missing).unwrap_err();
        assert_eq!(
            (error.kind, error.message),
            (ErrorKind::NotFound, format!("No such container: {missing}"))
        );
    }
    for number in 0..16 {
        put(&engine, &format!("more{number}"), Status::Created);
    }
    // Seventeen ids cannot all differ in their first digit.
    let ambiguous = (0..16u32).filter(|digit| {
        resolve(&engine, &format!("{digit:x}")).is_err_and(|error| error.kind == ErrorKind::Invalid)
    });
    assert!(ambiguous.count() > 0);
}

#[test]
fn create_makes_a_container_of_an_image_and_a_request() {
    let (_dir, engine) = engine();
    image(
        &engine,
        &[
            "CMD [\"/run\"]",
            "ENV A=1",
            "VOLUME /cache",
            "EXPOSE 80",
            "USER web",
            "LABEL x=y",
        ],
    );
    let mut asked = request("web");
    asked.env = vec!["B=2".into()];
    asked.mounts = vec![parse_volume("data:/data", "/").unwrap()];
    let created = create(&engine, asked, &Silent).unwrap();
    let (config, state) = load(&engine, &created.id).unwrap();
    assert_eq!(state.status, Status::Created);
    assert_eq!(config.process.command, ["/run"]);
    assert_eq!(config.process.env, ["B=2", "A=1"]);
    assert_eq!(config.process.user, "web");
    assert_eq!(config.labels["x"], "y");
    assert_eq!(config.network.endpoints[0].network, "bridge");
    assert_eq!(config.image.layers.len(), 1);
    assert!(engine.paths().writable_upper(&created.id).is_dir());
    let volumes = volume::list(&engine).unwrap();
    assert_eq!(volumes.len(), 2);
    assert!(
        volumes
            .iter()
            .all(|volume| volume.users == [created.id.clone()])
    );
    assert_eq!(
        volumes
            .iter()
            .filter(|volume| volume.record.anonymous)
            .count(),
        1
    );
    assert_eq!(list(&engine).unwrap().len(), 1);
    remove(
        &engine,
        "web",
        RemoveOptions {
            volumes: true,
            ..RemoveOptions::default()
        },
    )
    .unwrap();
    let left: Vec<String> = volume::list(&engine)
        .unwrap()
        .into_iter()
        .map(|volume| volume.record.name)
        .collect();
    assert_eq!(left, ["data"]);
    assert!(list(&engine).unwrap().is_empty());
    volume::remove(&engine, "data", false).unwrap();
    assert_eq!(
        fs::read_dir(engine.paths().containers_dir())
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_refused_create_leaves_nothing() {
    let (_dir, engine) = engine();
    image(&engine, &["CMD [\"/run\"]", "VOLUME /cache"]);
    let first = create(&engine, request("web"), &Silent).unwrap().id;
    let error = create(&engine, request("web"), &Silent).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert_eq!(
        error.message,
        format!(
            "Conflict. The container name \"/web\" is already in use by container \"{first}\". You have to remove (or \
             rename) that container to be able to reuse that name."
        )
    );
    let refused = |change: &dyn Fn(&mut CreateRequest)| {
        let mut asked = request("other");
        change(&mut asked);
        create(&engine, asked, &Silent).unwrap_err().message
    };
    assert_eq!(
        refused(&|asked| asked.entrypoint = Some(vec![String::new()])),
        "no command specified"
    );
    assert_eq!(
        refused(&|asked| asked.image = "nope".into()),
        "No such image: nope:latest"
    );
    assert!(
        refused(&|asked| asked.name = Some("a b".into()))
            .starts_with("Invalid container name (a b)")
    );
    assert_eq!(
        refused(&|asked| asked.network = NetworkRequest::Container("nope".into())),
        "No such container: nope"
    );
    assert_eq!(volume::list(&engine).unwrap().len(), 1);
    assert_eq!(
        fs::read_dir(engine.paths().containers_dir())
            .unwrap()
            .count(),
        1
    );
    assert!(
        names::lookup(&engine, names::CONTAINER, "other")
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_killed_create_is_swept_with_its_volumes_but_one_at_work_is_not() {
    let (_dir, engine) = engine();
    image(&engine, &["CMD [\"/run\"]", "VOLUME /cache"]);
    let id = create(&engine, request("web"), &Silent).unwrap().id;
    // As if it had been killed just before its commit point, with another that is still at work.
    fs::remove_file(engine.paths().container_state(&id)).unwrap();
    let busy = names::draw_id().unwrap();
    fs::create_dir(engine.paths().container_dir(&busy)).unwrap();
    let lock = OwnerLock::take(&engine.paths().owner_lock(&busy)).unwrap();
    assert_eq!(
        resolve(&engine, "web").unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert!(list(&engine).unwrap().is_empty());
    assert!(!engine.paths().container_dir(&id).exists());
    assert!(engine.paths().container_dir(&busy).exists());
    assert!(volume::list(&engine).unwrap().is_empty());
    create(&engine, request("web"), &Silent).unwrap();
    drop(lock);
}

#[test]
fn a_create_killed_before_its_config_gives_its_name_back() {
    let (_dir, engine) = engine();
    let id = names::draw_id().unwrap();
    fs::create_dir(engine.paths().container_dir(&id)).unwrap();
    drop(OwnerLock::take(&engine.paths().owner_lock(&id)).unwrap());
    names::claim(&engine, names::CONTAINER, "web", &id, |_| true).unwrap();
    assert!(list(&engine).unwrap().is_empty());
    assert!(!engine.paths().container_dir(&id).exists());
    assert!(
        names::lookup(&engine, names::CONTAINER, "web")
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_removal_that_was_cut_short_is_finished_by_the_next_listing() {
    let (_dir, engine) = engine();
    image(&engine, &["CMD [\"/run\"]", "VOLUME /cache"]);
    let id = create(&engine, request("web"), &Silent).unwrap().id;
    let aside = engine.paths().container_removing(&id, true);
    fs::rename(engine.paths().container_dir(&id), &aside).unwrap();
    assert_eq!(
        resolve(&engine, "web").unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert!(list(&engine).unwrap().is_empty());
    assert!(!aside.exists() && volume::list(&engine).unwrap().is_empty());
    assert!(
        names::lookup(&engine, names::CONTAINER, "web")
            .unwrap()
            .is_none()
    );
}

#[test]
fn a_running_container_is_removed_only_by_force() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Running);
    let _lock = own(&engine, &config);
    let error = remove(&engine, "web", RemoveOptions::default()).unwrap_err();
    assert_eq!(
        error.message,
        "cannot remove container \"/web\": container is running: stop the container before removal or force remove"
    );
}

#[test]
fn verbs_refuse_in_dockers_words_what_does_not_run() {
    let (_dir, engine) = engine();
    let id = put(&engine, "web", Status::Exited).id;
    assert_eq!(
        stop(&engine, "web", StopOptions::default())
            .unwrap_err()
            .kind,
        ErrorKind::NotModified
    );
    let message = kill(&engine, "web", 9).unwrap_err().message;
    assert_eq!(
        message,
        format!("cannot kill container: web: container {id} is not running")
    );
    assert_eq!(
        pause(&engine, "web").unwrap_err().message,
        format!("container {id} is not running")
    );
    assert_eq!(
        unpause(&engine, "web").unwrap_err().message,
        format!("Container {id} is not paused")
    );
    let exec_config = ExecConfig {
        command: vec!["true".into()],
        ..ExecConfig::default()
    };
    assert_eq!(
        exec(&engine, "web", exec_config).unwrap_err().message,
        format!("container {id} is not running")
    );
    assert!(top(&engine, "web", &[]).is_err());
    assert!(port(&engine, "web").unwrap().is_empty());
    assert_eq!(
        wait(&engine, "web", WaitCondition::NotRunning)
            .unwrap()
            .code,
        0
    );
}

#[test]
fn rename_moves_the_claim() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Exited);
    put(&engine, "other", Status::Exited);
    assert_eq!(
        rename(&engine, "web", "other").unwrap_err().kind,
        ErrorKind::Conflict
    );
    assert_eq!(
        rename(&engine, "web", "web").unwrap_err().kind,
        ErrorKind::Invalid
    );
    rename(&engine, "web", "new").unwrap();
    assert_eq!(resolve(&engine, "new").unwrap(), config.id);
    assert_eq!(
        resolve(&engine, "web").unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(load(&engine, &config.id).unwrap().0.name, "new");
}

#[test]
fn a_verb_waits_for_another_that_is_at_work_and_for_a_removal() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Exited);
    let lock = own(&engine, &config);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| sender.send(rename(&engine, "web", "new")).unwrap());
        scope.spawn(|| {
            sender
                .send(wait(&engine, "web", WaitCondition::Removed).map(drop))
                .unwrap()
        });
        assert!(
            receiver.recv_timeout(Duration::from_millis(100)).is_err(),
            "nothing may end while the lock is held"
        );
        drop(lock);
        receiver.recv_timeout(DEADLINE).unwrap().unwrap();
        remove(&engine, "new", RemoveOptions::default()).unwrap();
        receiver.recv_timeout(DEADLINE).unwrap().unwrap();
    });
}

#[test]
fn hidden_containers_are_not_listed_and_go_when_nobody_works_on_them() {
    let (_dir, engine) = engine();
    let config = ContainerConfig {
        hidden: true,
        ..put(&engine, "build-1", Status::Created)
    };
    load::write_config(&engine, &config).unwrap();
    let lock = own(&engine, &config);
    assert!(list(&engine).unwrap().is_empty());
    assert!(engine.paths().container_dir(&config.id).exists());
    drop(lock);
    assert!(list(&engine).unwrap().is_empty());
    assert!(!engine.paths().container_dir(&config.id).exists());
}

#[test]
fn volumes_from_takes_over_mounts_but_keeps_read_only() {
    let (_dir, engine) = engine();
    image(&engine, &["CMD [\"/run\"]"]);
    let mut asked = request("first");
    asked.mounts = vec![
        parse_volume("data:/data:ro", "/").unwrap(),
        parse_volume("/anonymous", "/").unwrap(),
    ];
    create(&engine, asked, &Silent).unwrap();
    let mut asked = request("second");
    asked.volumes_from = vec!["first:rw".into()];
    let id = create(&engine, asked, &Silent).unwrap().id;
    let (config, _) = load(&engine, &id).unwrap();
    assert_eq!(config.mounts.len(), 2);
    assert!(config.mounts[0].read_only);
    let MountSource::Volume {
        name: Some(anonymous),
        ..
    } = &config.mounts[1].source
    else {
        panic!("a volume")
    };
    // The first container's anonymous volume stays while the second has it.
    remove(
        &engine,
        "first",
        RemoveOptions {
            volumes: true,
            ..RemoveOptions::default()
        },
    )
    .unwrap();
    assert_eq!(volume::load(&engine, anonymous).unwrap().users, [id]);
}

#[test]
fn a_monitor_that_ends_without_a_word_is_told_and_leaves_the_container_startable() {
    let (dir, engine) = engine();
    let options = crate::EngineOptions {
        executable: "/bin/false".into(),
        ..crate::test_support::options(dir.path())
    };
    let engine_with_false = Engine::open(options).unwrap();
    put(&engine, "web", Status::Created);
    let error = start(&engine_with_false, "web", StartOptions::default()).unwrap_err();
    assert!(
        error
            .message
            .starts_with("the monitor ended before the container ran"),
        "{error}"
    );
    assert_eq!(status(&engine, "web"), Status::Created);
    rename(&engine, "web", "free").unwrap();
}

#[test]
fn a_claim_that_a_power_cut_lost_is_made_again() {
    let (_dir, engine) = engine();
    let config = put(&engine, "web", Status::Exited);
    fs::remove_file(engine.paths().name(names::CONTAINER, "web")).unwrap();
    assert_eq!(resolve(&engine, "web").unwrap(), config.id);
    assert_eq!(
        names::lookup(&engine, names::CONTAINER, "web").unwrap(),
        Some(config.id)
    );
}
