use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;
use crate::ignore::Matcher;
use crate::source::Request;

struct World {
    context: tempfile::TempDir,
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self {
            context: tempfile::tempdir().unwrap(),
            root: tempfile::tempdir().unwrap(),
        };
        let at = |path: &str| world.context.path().join(path);
        fs::create_dir_all(at("dir/sub")).unwrap();
        for path in ["a.txt", "b.txt", "dir/one", "dir/sub/two"] {
            fs::write(at(path), path).unwrap();
            fs::set_permissions(at(path), fs::Permissions::from_mode(0o640)).unwrap();
        }
        fs::set_permissions(at("dir"), fs::Permissions::from_mode(0o750)).unwrap();
        symlink("one", at("dir/link")).unwrap();
        fs::hard_link(at("dir/one"), at("dir/sub/same")).unwrap();
        world
    }

    fn source(&self) -> SourceRoot {
        SourceRoot::context(
            ketch_sys::fs::open_directory(self.context.path()).unwrap(),
            Matcher::default(),
        )
    }

    fn copy(&self, sources: &[&str], to: &str) -> Result<(), CopyError> {
        self.copy_with(sources, to, Destination::default(), Request::default())
    }

    fn copy_with(
        &self,
        sources: &[&str],
        to: &str,
        mut destination: Destination,
        mut request: Request,
    ) -> Result<(), CopyError> {
        let source = self.source();
        request.sources = sources.iter().map(|s| (*s).to_owned()).collect();
        destination.path = PathBuf::from(crate::path::clean(to));
        destination.is_directory = to.ends_with('/');
        let selections = source.select(&request)?;
        let root = ketch_sys::fs::open_directory(self.root.path()).unwrap();
        copy(&source, &selections, root.as_fd(), &destination)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

#[test]
fn a_file_to_a_name_a_directory_and_a_new_directory() {
    let world = World::new();
    fs::create_dir(world.at("there")).unwrap();
    world.copy(&["a.txt"], "/new/name").unwrap();
    world.copy(&["a.txt"], "/there").unwrap();
    world.copy(&["a.txt", "b.txt"], "/many/").unwrap();
    assert_eq!(world.text("new/name"), "a.txt");
    assert_eq!(world.text("there/a.txt"), "a.txt");
    assert_eq!(world.text("many/b.txt"), "b.txt");
    assert_eq!(
        fs::metadata(world.at("new")).unwrap().mode() & 0o7777,
        0o755
    );
    assert!(matches!(
        world.copy(&["*.txt"], "/one"),
        Err(CopyError::ManyToOne)
    ));
    world.copy(&["b.txt"], "/new/name").unwrap();
    assert_eq!(world.text("new/name"), "b.txt", "what is there is replaced");
}

#[test]
fn privileged_a_directory_gives_its_contents_with_all_that_belongs_to_them() {
    let world = World::new();
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for path in ["dir/sub/two", "dir/sub"] {
        fs::File::open(world.context.path().join(path))
            .unwrap()
            .set_modified(old)
            .unwrap();
    }
    std::os::unix::fs::chown(world.context.path().join("dir/one"), Some(1234), Some(1234)).unwrap();
    world.copy(&["dir"], "/out").unwrap();
    assert_eq!(world.text("out/one"), "dir/one");
    assert_eq!(
        fs::read_link(world.at("out/link")).unwrap(),
        Path::new("one")
    );
    let meta = |path: &str| fs::symlink_metadata(world.at(path)).unwrap();
    assert_eq!(
        (meta("out").mode() & 0o7777, meta("out/one").mode() & 0o7777),
        (0o750, 0o640)
    );
    assert_eq!(
        meta("out/one").uid(),
        0,
        "files of a context belong to root"
    );
    assert_eq!(
        meta("out/one").ino(),
        meta("out/sub/same").ino(),
        "second names stay second names"
    );
    assert_eq!(
        (
            meta("out/sub/two").modified().unwrap(),
            meta("out/sub").modified().unwrap()
        ),
        (old, old)
    );
}

#[test]
fn privileged_chown_and_chmod_reach_everything() {
    let world = World::new();
    let destination = Destination {
        owner: Some((11, 12)),
        mode: ModeChange::parse("u=rwX,go="),
        ..Destination::default()
    };
    world
        .copy_with(&["dir"], "/made/out/", destination, Request::default())
        .unwrap();
    for (path, mode) in [
        ("made", 0o755),
        ("made/out", 0o700),
        ("made/out/one", 0o600),
        ("made/out/sub", 0o700),
    ] {
        let meta = fs::metadata(world.at(path)).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid(), meta.mode() & 0o7777),
            (11, 12, mode),
            "{path}"
        );
    }
    assert_eq!(
        fs::symlink_metadata(world.at("made/out/link"))
            .unwrap()
            .uid(),
        11
    );
}

#[test]
fn links_of_the_destination_stay_in_the_root() {
    let world = World::new();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(world.at("real")).unwrap();
    symlink("/real", world.at("absolute")).unwrap();
    symlink("../../../../real/dangling", world.at("up")).unwrap();
    symlink(outside.path(), world.at("escape")).unwrap();
    symlink("/real/target", world.at("file")).unwrap();
    world.copy(&["a.txt"], "/absolute/").unwrap();
    world.copy(&["a.txt"], "/up/").unwrap();
    world.copy(&["a.txt"], "/escape/").unwrap();
    world.copy(&["a.txt"], "/file").unwrap();
    assert_eq!(world.text("real/a.txt"), "a.txt");
    assert_eq!(world.text("real/dangling/a.txt"), "a.txt");
    assert_eq!(world.text("real/target"), "a.txt");
    assert_eq!(
        fs::read_dir(outside.path()).unwrap().count(),
        0,
        "nothing left the root"
    );
    assert!(
        world
            .at(format!("{}/a.txt", outside.path().display()).trim_start_matches('/'))
            .exists()
    );
}

#[test]
fn what_is_in_the_way_is_told() {
    let world = World::new();
    fs::create_dir_all(world.at("x/one")).unwrap();
    fs::write(world.at("file"), "").unwrap();
    fs::create_dir(world.at("y")).unwrap();
    symlink("/x", world.at("y/sub")).unwrap();
    assert!(matches!(
        world.copy(&["dir"], "/x/"),
        Err(CopyError::IsDirectory { .. })
    ));
    assert!(matches!(
        world.copy(&["dir"], "/file"),
        Err(CopyError::NotDirectory { .. })
    ));
    assert!(matches!(
        world.copy(&["a.txt"], "/file/"),
        Err(CopyError::NotDirectory { .. })
    ));
    assert!(matches!(
        world.copy(&["dir"], "/y"),
        Err(CopyError::NotDirectory { .. })
    ));
}

#[test]
fn existing_directories_keep_what_else_they_hold() {
    let world = World::new();
    fs::create_dir_all(world.at("x/sub")).unwrap();
    fs::write(world.at("x/sub/mine"), "mine").unwrap();
    fs::set_permissions(world.at("x"), fs::Permissions::from_mode(0o711)).unwrap();
    world.copy(&["dir"], "/x").unwrap();
    assert_eq!(
        (world.text("x/sub/mine"), world.text("x/sub/two")),
        ("mine".into(), "dir/sub/two".into())
    );
    assert_eq!(
        fs::metadata(world.at("x")).unwrap().mode() & 0o7777,
        0o711,
        "the destination itself is not changed"
    );
}

#[test]
fn parents_are_kept() {
    let world = World::new();
    let destination = Destination {
        parents: true,
        ..Destination::default()
    };
    let request = Request {
        parents: true,
        ..Request::default()
    };
    world
        .copy_with(
            &["dir/sub/two", "a.txt"],
            "/p/",
            destination.clone(),
            request.clone(),
        )
        .unwrap();
    world
        .copy_with(&["./dir/./sub"], "/q/", destination, request)
        .unwrap();
    assert_eq!(
        (world.text("p/dir/sub/two"), world.text("p/a.txt")),
        ("dir/sub/two".into(), "a.txt".into())
    );
    assert_eq!(
        fs::metadata(world.at("p/dir")).unwrap().mode() & 0o7777,
        0o750
    );
    assert_eq!(world.text("q/sub/two"), "dir/sub/two");
}

#[test]
fn heredocs_and_work_directories() {
    let world = World::new();
    let root = ketch_sys::fs::open_directory(world.root.path()).unwrap();
    let mut destination = Destination {
        path: "/etc/".into(),
        is_directory: true,
        ..Destination::default()
    };
    inline(root.as_fd(), &destination, "motd", b"hello", false).unwrap();
    destination.path = "/run.sh".into();
    destination.is_directory = false;
    destination.mode = ModeChange::parse("0755");
    inline(root.as_fd(), &destination, "EOF", b"#!", false).unwrap();
    assert_eq!(world.text("etc/motd"), "hello");
    assert_eq!(
        fs::metadata(world.at("run.sh")).unwrap().mode() & 0o7777,
        0o755
    );
    assert!(
        make_directories(root.as_fd(), Path::new("/a/b"), (0, 0))
            .unwrap()
            .created
    );
    assert!(
        !make_directories(root.as_fd(), Path::new("/a/b"), (0, 0))
            .unwrap()
            .created
    );
}
