use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::names::draw_id;
use crate::test_support::engine;

fn named(name: &str) -> VolumeRequest {
    VolumeRequest {
        name: Some(name.into()),
        ..VolumeRequest::default()
    }
}

/// A container as far as volumes care: a directory with a state.
fn container(engine: &Engine) -> Id {
    let id = draw_id().unwrap();
    fs::create_dir(engine.paths().container_dir(&id)).unwrap();
    fs::write(engine.paths().container_state(&id), "{}").unwrap();
    id
}

#[test]
fn a_volume_is_made_once_and_found_again() {
    let (_dir, engine) = engine();
    let first = create(&engine, named("data")).unwrap();
    let again = create(
        &engine,
        VolumeRequest {
            labels: [("a".into(), "b".into())].into(),
            ..named("data")
        },
    )
    .unwrap();
    assert_eq!(first.record, again.record);
    assert!(first.mountpoint.is_dir());
    assert_eq!(
        fs::metadata(&first.mountpoint)
            .unwrap()
            .permissions()
            .mode()
            & 0o7777,
        0o755
    );
    assert_eq!(list(&engine).unwrap().len(), 1);
    assert_eq!(inspect(&engine, "data").unwrap()["Driver"], "local");
}

#[test]
fn what_is_not_a_local_volume_is_refused_by_name() {
    let (_dir, engine) = engine();
    let options = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    };
    let refused = |request| create(&engine, request).unwrap_err();
    assert_eq!(
        refused(VolumeRequest {
            driver: "nfs".into(),
            ..named("data")
        })
        .message,
        "plugin \"nfs\" not found"
    );
    assert_eq!(refused(named("a/b")).kind, ErrorKind::Invalid);
    let nfs = options(&[("type", "nfs"), ("o", "addr=x"), ("device", ":/x")]);
    assert_eq!(
        refused(VolumeRequest {
            options: nfs,
            ..named("data")
        })
        .kind,
        ErrorKind::Unsupported
    );
    let unknown = VolumeRequest {
        options: options(&[("size", "1")]),
        ..named("data")
    };
    assert_eq!(refused(unknown).message, "invalid option: \"size\"");
    assert!(list(&engine).unwrap().is_empty());
    let bind = options(&[("type", "none"), ("o", "bind"), ("device", "/srv")]);
    create(
        &engine,
        VolumeRequest {
            options: bind,
            ..named("data")
        },
    )
    .unwrap();
    assert_eq!(data_source(&engine, "data").unwrap(), Path::new("/srv"));
}

#[test]
fn a_volume_in_use_stays_until_its_last_user_is_gone() {
    let (_dir, engine) = engine();
    create(&engine, named("data")).unwrap();
    let id = container(&engine);
    attach_user(&engine, "data", &id).unwrap();
    let error = remove(&engine, "data", true).unwrap_err();
    assert_eq!(
        (error.kind, error.message),
        (
            ErrorKind::Conflict,
            format!("remove data: volume is in use - [{id}]")
        )
    );
    // A user whose container was removed, but by a command that died before it said so here.
    fs::remove_dir_all(engine.paths().container_dir(&id)).unwrap();
    remove(&engine, "data", false).unwrap();
    assert_eq!(
        remove(&engine, "data", false).unwrap_err().message,
        "get data: no such volume"
    );
    remove(&engine, "data", true).unwrap();
    assert_eq!(
        attach_user(&engine, "data", &id).unwrap_err().kind,
        ErrorKind::NotFound
    );
    assert_eq!(
        fs::read_dir(engine.paths().volumes_dir()).unwrap().count(),
        0
    );
}

#[test]
fn prune_takes_unused_anonymous_volumes_unless_all_are_wanted() {
    let (_dir, engine) = engine();
    create(&engine, named("keep")).unwrap();
    let anonymous = create(&engine, VolumeRequest::default())
        .unwrap()
        .record
        .name;
    let used = create(&engine, VolumeRequest::default())
        .unwrap()
        .record
        .name;
    attach_user(&engine, &used, &container(&engine)).unwrap();
    assert_eq!(anonymous.len(), 64);
    assert_eq!(
        prune(&engine, &PruneOptions::default()).unwrap().volumes,
        [anonymous]
    );
    let labelled = PruneOptions {
        all: true,
        labels: vec!["x".into()],
        ..PruneOptions::default()
    };
    assert!(prune(&engine, &labelled).unwrap().volumes.is_empty());
    assert_eq!(
        prune(
            &engine,
            &PruneOptions {
                all: true,
                ..PruneOptions::default()
            }
        )
        .unwrap()
        .volumes,
        ["keep"]
    );
}

#[test]
fn what_killed_commands_left_is_swept_but_not_what_is_being_made() {
    let (_dir, engine) = engine();
    let dir = engine.paths().volumes_dir();
    for name in [".creating-0", ".removing-0", ".creating-1"] {
        fs::create_dir_all(dir.join(name).join("data")).unwrap();
    }
    let lock = crate::lock::OwnerLock::take(&dir.join(".creating-1/lock")).unwrap();
    assert!(list(&engine).unwrap().is_empty());
    let left: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, [".creating-1"]);
    drop(lock);
}

/// An image's root with content at /data.
fn image() -> (tempfile::TempDir, File) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("sub")).unwrap();
    fs::write(data.join("file"), "content").unwrap();
    fs::hard_link(data.join("file"), data.join("sub/same")).unwrap();
    symlink("/etc/passwd", data.join("link")).unwrap();
    fs::set_permissions(data.join("file"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o1777)).unwrap();
    let root = File::open(dir.path()).unwrap();
    (dir, root)
}

#[test]
fn an_empty_volume_takes_over_the_image_and_a_used_one_does_not() {
    let (_dir, engine) = engine();
    let (_image, root) = image();
    create(&engine, named("data")).unwrap();
    let data = engine.paths().volume_data("data");
    populate(&engine, "data", root.as_fd(), Path::new("/data")).unwrap();
    let (file, same) = (
        fs::metadata(data.join("file")).unwrap(),
        fs::metadata(data.join("sub/same")).unwrap(),
    );
    assert_eq!(fs::read(data.join("file")).unwrap(), b"content");
    assert_eq!(file.ino(), same.ino());
    assert_eq!(file.permissions().mode() & 0o7777, 0o4750);
    assert_eq!(
        fs::metadata(&data).unwrap().permissions().mode() & 0o7777,
        0o1777
    );
    assert_eq!(
        fs::read_link(data.join("link")).unwrap(),
        Path::new("/etc/passwd")
    );
    fs::remove_file(data.join("link")).unwrap();
    populate(&engine, "data", root.as_fd(), Path::new("/data")).unwrap();
    assert!(!data.join("link").exists() && fs::symlink_metadata(data.join("link")).is_err());
}

#[test]
fn a_copy_that_was_cut_short_is_made_again() {
    let (_dir, engine) = engine();
    let (_image, root) = image();
    let mut record = create(&engine, named("data")).unwrap().record;
    record.populating = true;
    record::write(
        &engine.paths().volume_record("data"),
        &record,
        record::Durability::Volatile,
    )
    .unwrap();
    let data = engine.paths().volume_data("data");
    fs::write(data.join("half"), "").unwrap();
    populate(&engine, "data", root.as_fd(), Path::new("data")).unwrap();
    assert!(!data.join("half").exists() && data.join("sub/same").exists());
    assert!(!load(&engine, "data").unwrap().record.populating);
}

#[test]
fn a_link_in_the_image_does_not_lead_to_the_host() {
    let (_dir, engine) = engine();
    let (image, root) = image();
    symlink("/etc", image.path().join("out")).unwrap();
    create(&engine, named("data")).unwrap();
    populate(&engine, "data", root.as_fd(), Path::new("/out")).unwrap();
    assert_eq!(
        fs::read_dir(engine.paths().volume_data("data"))
            .unwrap()
            .count(),
        0
    );
}
