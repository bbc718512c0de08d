use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use ketch_spec::Digest;

fn context(folder: &Path, ignore: &str) -> SourceRoot {
    let directory = ketch_sys::fs::open_directory(folder).unwrap();
    SourceRoot::context(
        directory,
        Matcher::from_file(".dockerignore", ignore).unwrap(),
    )
}

fn sample() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for directory in ["src/deep", "docs", "empty"] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    for (path, text) in [
        ("a.txt", "a"),
        ("b.txt", "b"),
        ("src/main.c", "main"),
        ("src/deep/x.h", "x"),
        ("docs/readme.md", "r"),
    ] {
        fs::write(at(path), text).unwrap();
        fs::set_permissions(at(path), fs::Permissions::from_mode(0o644)).unwrap();
    }
    symlink("src/main.c", at("inner")).unwrap();
    symlink("/etc/passwd", at("outer")).unwrap();
    symlink("../..", at("src/up")).unwrap();
    folder
}

fn request(sources: &[&str]) -> Request {
    Request {
        sources: sources.iter().map(|s| (*s).to_owned()).collect(),
        ..Request::default()
    }
}

fn paths(selections: &[Selection]) -> Vec<String> {
    selections
        .iter()
        .flat_map(|s| std::iter::once(&s.top).chain(&s.below))
        .map(|entry| entry.path.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_directory_means_all_below_it() {
    let folder = sample();
    let all = context(folder.path(), "docs\nsrc/*.c\n")
        .select(&request(&["."]))
        .unwrap();
    let expected = [
        "",
        "a.txt",
        "b.txt",
        "empty",
        "inner",
        "outer",
        "src",
        "src/deep",
        "src/deep/x.h",
        "src/up",
    ];
    assert_eq!(paths(&all), expected);
}

#[test]
fn ignored_directories_come_back_for_what_is_taken_back() {
    let folder = sample();
    let root = context(folder.path(), "*\n!src/deep\n");
    assert_eq!(
        paths(&root.select(&request(&["/"])).unwrap()),
        ["", "src", "src/deep", "src/deep/x.h"]
    );
    let error = root.select(&request(&["a.txt"])).unwrap_err();
    assert!(
        error.to_string().contains("\"/a.txt\": not found"),
        "{error}"
    );
}

#[test]
fn wildcards_match_by_component() {
    let folder = sample();
    let root = context(folder.path(), "b.txt\n");
    assert_eq!(
        paths(&root.select(&request(&["*.txt"])).unwrap()),
        ["a.txt"]
    );
    assert_eq!(
        paths(&root.select(&request(&["s*/*.c", "nothing*"])).unwrap()),
        ["src/main.c"]
    );
    assert!(matches!(
        root.select(&request(&["[a"])),
        Err(SourceError::Pattern { .. })
    ));
    assert!(matches!(
        root.select(&request(&["gone"])),
        Err(SourceError::NotFound { .. })
    ));
}

#[test]
fn links_are_followed_inside_only() {
    let folder = sample();
    let root = context(folder.path(), "");
    let inner = root.select(&request(&["inner"])).unwrap();
    assert_eq!(
        (inner[0].name.to_str(), paths(&inner)),
        (Some("inner"), vec!["src/main.c".to_owned()])
    );
    for outside in ["outer", "src/up", "src/up/x", "../x", "a/../../x"] {
        let error = root.select(&request(&[outside])).unwrap_err();
        assert!(
            matches!(error, SourceError::Outside { .. }),
            "{outside}: {error}"
        );
    }
    // The same links in a stage's root stay in it.
    let stage = SourceRoot::root(ketch_sys::fs::open_directory(folder.path()).unwrap());
    assert!(matches!(
        stage.select(&request(&["outer"])),
        Err(SourceError::NotFound { .. })
    ));
    assert_eq!(
        stage.select(&request(&["src/up"])).unwrap()[0].top.path,
        Path::new("")
    );
    // Inside a tree they are copied as links.
    let tree = root.select(&request(&["src"])).unwrap();
    assert!(
        tree[0]
            .below
            .iter()
            .any(|entry| entry.kind == Kind::Link("../..".into()))
    );
}

#[test]
fn excludes_and_parents() {
    let folder = sample();
    let root = context(folder.path(), "");
    let mut wanted = request(&["src"]);
    wanted.excludes = vec!["*.c".into(), "deep".into(), "!deep/x.h".into()];
    assert_eq!(
        paths(&root.select(&wanted).unwrap()),
        ["src", "src/deep", "src/deep/x.h", "src/up"]
    );
    let mut kept = request(&["./src/./deep/x.h", "**/*.md"]);
    kept.parents = true;
    let found = root.select(&kept).unwrap();
    let names: Vec<_> = found
        .iter()
        .map(|s| (s.name.to_str().unwrap(), s.above.len()))
        .collect();
    assert_eq!(names, [("deep/x.h", 1), ("docs/readme.md", 1)]);
}

fn key(folder: &Path, sources: &[&str]) -> Digest {
    let root = context(folder, "");
    digest(
        &root,
        &root.select(&request(sources)).unwrap(),
        &StatCache::none(),
    )
    .unwrap()
}

#[test]
fn every_input_changes_the_digest_and_times_do_not() {
    let folder = sample();
    let at = |path: &str| folder.path().join(path);
    let mut seen = vec![key(folder.path(), &["."])];
    let mut changed = |what: &str| {
        let now = key(folder.path(), &["."]);
        assert!(!seen.contains(&now), "{what} did not change the digest");
        seen.push(now);
    };
    fs::write(at("a.txt"), "A").unwrap();
    changed("content");
    fs::set_permissions(at("a.txt"), fs::Permissions::from_mode(0o755)).unwrap();
    changed("mode");
    fs::rename(at("b.txt"), at("c.txt")).unwrap();
    changed("name");
    fs::remove_file(at("inner")).unwrap();
    symlink("a.txt", at("inner")).unwrap();
    changed("link target");
    fs::create_dir(at("empty/dir")).unwrap();
    changed("an empty directory");
    fs::set_permissions(at("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    changed("a directory's mode");
    fs::write(at("d"), "").unwrap();
    changed("an empty file");
    fs::remove_file(at("d")).unwrap();
    fs::hard_link(at("c.txt"), at("d")).unwrap();
    changed("a second name");
    let before = key(folder.path(), &["."]);
    let file = fs::File::options().write(true).open(at("a.txt")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(key(folder.path(), &["."]), before, "times do not count");
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("x")).unwrap();
    fs::write(copy.path().join("x/f"), "f").unwrap();
    fs::write(copy.path().join("y"), "f").unwrap();
    assert_ne!(
        key(copy.path(), &["x/f"]),
        key(copy.path(), &["y"]),
        "the name in the destination counts"
    );
}

#[test]
fn privileged_xattrs_and_owners_count() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("f"), "f").unwrap();
    let before = key(folder.path(), &["f"]);
    let directory = ketch_sys::fs::open_directory(folder.path()).unwrap();
    use std::os::fd::AsFd;
    ketch_sys::fs::set_xattr_at(directory.as_fd(), "f".as_ref(), c"trusted.k", b"v").unwrap();
    let with_xattr = key(folder.path(), &["f"]);
    assert_ne!(before, with_xattr);
    std::os::unix::fs::chown(folder.path().join("f"), Some(7), Some(8)).unwrap();
    assert_eq!(
        key(folder.path(), &["f"]),
        with_xattr,
        "who owns a context does not count"
    );
    let stage = SourceRoot::root(directory);
    let owned = |stage: &SourceRoot| {
        digest(
            stage,
            &stage.select(&request(&["f"])).unwrap(),
            &StatCache::none(),
        )
        .unwrap()
    };
    let before = owned(&stage);
    std::os::unix::fs::chown(folder.path().join("f"), Some(9), Some(8)).unwrap();
    assert_ne!(owned(&stage), before, "the owner in a stage does");
}

#[test]
fn a_file_that_changes_under_the_build_is_noticed() {
    let folder = sample();
    let root = context(folder.path(), "");
    let selected = root.select(&request(&["a.txt"])).unwrap();
    fs::write(folder.path().join("a.txt"), "longer").unwrap();
    let error = digest(&root, &selected, &StatCache::none()).unwrap_err();
    assert!(matches!(error, SourceError::Changed { .. }), "{error}");
}
