use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::container::state::Status;
use crate::container::test_support::put;
use crate::container::{config::ContainerConfig, root as container_root};
use crate::lock::OwnerLock;
use crate::test_support::engine;

/// A stopped container without layers: its writable layer is its root.
fn stopped(engine: &Engine) -> (ContainerConfig, PathBuf) {
    let config = put(engine, "web", Status::Exited);
    container_root::make_dirs(engine, &config).unwrap();
    let upper = container_root::dirs(engine, &config).0;
    (config, upper)
}

fn need_root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
}

fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("d/sub")).unwrap();
    fs::write(dir.join("d/file"), "content").unwrap();
    fs::hard_link(dir.join("d/file"), dir.join("d/sub/same")).unwrap();
    symlink("file", dir.join("d/link")).unwrap();
    fs::set_permissions(dir.join("d/file"), fs::Permissions::from_mode(0o4711)).unwrap();
}

fn message<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().message
}

#[test]
fn privileged_a_directory_comes_out_under_dockers_rules() {
    need_root();
    let (_dir, engine) = engine();
    let (_, upper) = stopped(&engine);
    tree(&upper);
    let host = tempfile::tempdir().unwrap();
    let to = |name: &str| host.path().join(name);
    let copy =
        |from: &str, to: &Path| copy_to_host(&engine, "web", from, to, CopyOptions::default());
    // To a name that is not there: the directory gets that name. To a directory: into it, or its content with `/.`.
    copy("/d", &to("new")).unwrap();
    assert_eq!(fs::read(to("new/file")).unwrap(), b"content");
    assert_eq!(
        fs::metadata(to("new/file")).unwrap().ino(),
        fs::metadata(to("new/sub/same")).unwrap().ino()
    );
    assert_eq!(
        fs::metadata(to("new/file")).unwrap().permissions().mode() & 0o7777,
        0o4711
    );
    assert_eq!(fs::read_link(to("new/link")).unwrap(), Path::new("file"));
    fs::create_dir(to("into")).unwrap();
    assert_eq!(copy("d", &to("into")).unwrap(), 7);
    assert!(to("into/d/sub/same").exists());
    fs::set_permissions(upper.join("d"), fs::Permissions::from_mode(0o711)).unwrap();
    copy("/d/.", &to("into")).unwrap();
    assert_eq!(
        fs::metadata(to("into")).unwrap().permissions().mode() & 0o7777,
        0o711
    );
    assert!(to("into/file").exists());
    // A file: to a name, over a file, into a directory; links as they are, or followed.
    copy("/d/file", &to("one")).unwrap();
    copy("/d/link", &to("one-link")).unwrap();
    assert!(fs::symlink_metadata(to("one-link")).unwrap().is_symlink());
    let follow = CopyOptions {
        follow_link: true,
        ..CopyOptions::default()
    };
    copy_to_host(&engine, "web", "/d/link", &to("into"), follow).unwrap();
    assert_eq!(fs::read(to("into/link")).unwrap(), b"content");
    assert_eq!(message(copy("/d", &to("one"))), "cannot copy directory");
    assert_eq!(
        message(copy("/d/file", &to("nowhere/"))),
        "no such directory"
    );
    assert_eq!(
        message(copy("/nope", &to("x"))),
        "Could not find the file /nope in container web"
    );
    assert!(message(copy("/d/file", &to("no/such"))).contains("no such file or directory"));
}

#[test]
fn privileged_files_go_in_and_volumes_are_where_they_are_mounted() {
    need_root();
    let (_dir, engine) = engine();
    let (mut config, upper) = stopped(&engine);
    let request = crate::volume::VolumeRequest {
        name: Some("data".into()),
        ..Default::default()
    };
    crate::volume::create(&engine, request).unwrap();
    config.mounts = vec![ketch_spec::mount::parse_volume("data:/data", "/").unwrap()];
    load::write_config(&engine, &config).unwrap();
    let host = tempfile::tempdir().unwrap();
    tree(host.path());
    let copy = |from: &str, to: &str| {
        copy_from_host(
            &engine,
            &host.path().join(from),
            "web",
            to,
            CopyOptions::default(),
        )
    };
    copy("d", "/data").unwrap();
    assert_eq!(
        fs::read(engine.paths().volume_data("data").join("d/sub/same")).unwrap(),
        b"content"
    );
    assert!(!upper.join("data/d").exists());
    copy("d/file", "/renamed").unwrap();
    assert_eq!(fs::metadata(upper.join("renamed")).unwrap().uid(), 0);
    // Nothing is left mounted.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*engine.paths().run_root().to_string_lossy()));
    config.mounts[0].read_only = true;
    config.security.read_only = true;
    load::write_config(&engine, &config).unwrap();
    assert_eq!(
        message(copy("d", "/data")),
        "mounted volume is marked read-only"
    );
    assert_eq!(
        message(copy("d", "/")),
        "container rootfs is marked read-only"
    );
}

#[test]
fn privileged_links_of_the_container_stay_inside_it() {
    need_root();
    let (_dir, engine) = engine();
    let (_, upper) = stopped(&engine);
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("secret"), "host").unwrap();
    symlink(secret.path(), upper.join("out")).unwrap();
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "mine").unwrap();
    let path = format!("/out{}", "/secret");
    let options = CopyOptions {
        follow_link: true,
        ..CopyOptions::default()
    };
    let error = copy_to_host(&engine, "web", &path, &host.path().join("x"), options).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let error = copy_from_host(
        &engine,
        &host.path().join("file"),
        "web",
        "/out/secret",
        options,
    )
    .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert_eq!(fs::read(secret.path().join("secret")).unwrap(), b"host");
}

#[test]
fn privileged_a_hostile_archive_does_not_leave_the_target() {
    need_root();
    use ketch_store::tar::{Entry, Kind, Writer};
    let outside = tempfile::tempdir().unwrap();
    let target = tempfile::tempdir().unwrap();
    let unpack = |entries: &[Entry]| {
        let mut writer = Writer::new(Vec::new());
        for entry in entries {
            writer.append_file(entry, &b"evil"[..]).unwrap();
        }
        let (bytes, _) = writer.finish().unwrap();
        let root = fs::File::open(target.path()).unwrap();
        Unpack::new(root.as_fd(), Path::new("."), Owner::Fixed(0, 0)).run(&bytes[..])
    };
    let file = |path: &str| {
        let mut entry = Entry::new(Kind::File, path);
        (entry.size, entry.mode) = (4, 0o644);
        entry
    };
    let mut link = Entry::new(Kind::Symlink, "link");
    link.link = outside.path().to_string_lossy().into_owned().into_bytes();
    // The link leads to a place of that name inside the target, which is not there.
    assert!(unpack(&[link, file("link/x")]).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert!(unpack(&[file("../x")]).is_err());
    let mut hard = Entry::new(Kind::HardLink, "hard");
    hard.link = b"/etc/passwd".to_vec();
    assert!(unpack(&[hard]).is_err());
    // Over what is there: a file for a file, not a directory for a file.
    unpack(&[file("f"), file("f")]).unwrap();
    assert_eq!(
        message(unpack(&[Entry::new(Kind::Directory, "f/")])),
        "cannot overwrite non-directory \"/f\" with directory"
    );
    // What means something to overlayfs or to the host's security modules is not an archive's to say.
    let mut marked = Entry::new(Kind::Directory, "marked/");
    marked.xattrs = [
        ("trusted.overlay.redirect", "/etc"),
        ("trusted.overlay.opaque", "y"),
        ("security.ima", "x"),
        ("user.fine", "1"),
    ]
    .map(|(key, value)| (key.into(), value.into()))
    .to_vec();
    unpack(&[marked]).unwrap();
    let root = fs::File::open(target.path()).unwrap();
    let xattrs = ketch_sys::fs::xattrs_at(root.as_fd(), "marked".as_ref()).unwrap();
    assert_eq!(xattrs, [(c"user.fine".to_owned(), b"1".to_vec())]);
}

#[test]
fn privileged_archives_begin_with_the_name_and_stat_tells_links() {
    need_root();
    let (_dir, engine) = engine();
    let (_, upper) = stopped(&engine);
    tree(&upper);
    let names = |path: &str| {
        let mut bytes = Vec::new();
        copy_out(&engine, "web", path, false, &mut bytes).unwrap();
        let mut reader = ketch_store::tar::Reader::new(&bytes[..]);
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            names.push(String::from_utf8(entry.path).unwrap());
        }
        names
    };
    assert_eq!(
        names("/d"),
        ["d/", "d/file", "d/link", "d/sub/", "d/sub/same"]
    );
    assert_eq!(names("/d/.")[..2], ["./", "./file"]);
    let stat = stat_path(&engine, "web", "/d/link").unwrap();
    assert_eq!(
        (stat.name.as_str(), stat.link_target.as_str()),
        ("link", "file")
    );
    // What goes out comes in.
    let mut bytes = Vec::new();
    copy_out(&engine, "web", "/d", false, &mut bytes).unwrap();
    fs::create_dir(upper.join("again")).unwrap();
    copy_in(
        &engine,
        "web",
        "/again",
        CopyOptions::default(),
        &mut &bytes[..],
    )
    .unwrap();
    assert_eq!(
        fs::read(upper.join("again/d/sub/same")).unwrap(),
        b"content"
    );
    assert_eq!(
        message(copy_in(
            &engine,
            "web",
            "/d/file",
            CopyOptions::default(),
            &mut &bytes[..]
        )),
        "extraction point is not a directory"
    );
}

#[test]
fn privileged_a_running_container_is_what_its_init_sees() {
    need_root();
    let (_dir, engine) = engine();
    let (config, _) = stopped(&engine);
    let _lock = OwnerLock::take(&engine.paths().owner_lock(&config.id))
        .unwrap()
        .unwrap();
    // This test's own process plays init.
    let mut state = crate::container::ContainerState::created();
    state.status = Status::Running;
    state.pid = std::process::id();
    load::write_state(&engine, &config, &state).unwrap();
    let host = tempfile::tempdir().unwrap();
    fs::write(host.path().join("file"), "mine").unwrap();
    let path = host.path().join("file").to_string_lossy().into_owned();
    assert_eq!(stat_path(&engine, "web", &path).unwrap().size, 4);
}
