//! Extraction and archiving against GNU tar, whiteouts, and archives that try to get out. As root: owners, devices and
//! overlayfs's attributes are the point.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::erofs::tests::image_of;
use crate::tar::{Entry, Kind, Reader, TarError, Time, Writer};
use ketch_sys::fs as sysfs;

/// Extracts, and sees that an image of the archive comes to the same, files or error.
pub(crate) fn extract(bytes: &[u8], directory: &Path) -> Result<Totals, TarError> {
    let is_empty = std::fs::read_dir(directory).unwrap().next().is_none();
    let root = sysfs::open_directory(directory).unwrap();
    let extracted =
        Extractor::new(root).run(&mut Reader::new(BufReader::with_capacity(1000, bytes)));
    let image = image_of(bytes);
    match (&extracted, &image) {
        _ if !is_empty => {}
        (Ok(totals), Ok(image)) => {
            assert_eq!(*totals, image.totals);
            assert_alike(&image.path(), directory);
        }
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        (one, other) => panic!("extraction: {one:?}, image: {:?}", other.as_ref().map(drop)),
    }
    extracted
}

/// Compares an image with extracted files. What no entry describes is of now in the files, of 1970 in the image.
fn assert_alike(image: &Path, files: &Path) {
    let (image, mut files) = (describe(image), describe(files));
    for (name, text) in &mut files {
        let made_up = |text: &&String| text.starts_with(" 0.0 ");
        if image.get(name).filter(made_up).is_some()
            && let Some((_, rest)) = text[1..].split_once(' ')
        {
            *text = format!(" 0.0 {rest}");
        }
    }
    assert_eq!(image, files);
}

fn pack(directory: &Path, purpose: Purpose) -> Vec<u8> {
    let mut bytes = Vec::new();
    let root = sysfs::open_directory(directory).unwrap();
    let (digest, totals) = archive(root.as_fd(), &mut bytes, purpose).unwrap();
    assert_eq!(digest, ketch_spec::Digest::of(&bytes));
    assert_eq!(totals.archive_bytes, bytes.len() as u64);
    bytes
}

pub(crate) fn entry(kind: Kind, path: &str) -> Entry {
    let mut entry = Entry::new(kind, path);
    entry.mode = if kind == Kind::Directory {
        0o755
    } else {
        0o644
    };
    entry.mtime = Time {
        seconds: 1_000_000_000,
        nanoseconds: 0,
    };
    entry
}

fn file(path: &str, data: &str) -> (Entry, Vec<u8>) {
    let mut entry = entry(Kind::File, path);
    entry.size = data.len() as u64;
    (entry, data.as_bytes().to_vec())
}

fn link(kind: Kind, path: &str, target: &str) -> (Entry, Vec<u8>) {
    let mut entry = entry(kind, path);
    entry.link = target.into();
    (entry, Vec::new())
}

fn directory(path: &str) -> (Entry, Vec<u8>) {
    (entry(Kind::Directory, path), Vec::new())
}

pub(crate) fn archive_of(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append_file(entry, &data[..]).unwrap();
    }
    writer.finish().unwrap().0
}

/// Everything about every file below a directory that a layer keeps.
pub(crate) fn describe(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut first_names: BTreeMap<u64, String> = BTreeMap::new();
    let mut queue = vec![root.to_owned()];
    while let Some(directory) = queue.pop() {
        let mut paths: Vec<_> = std::fs::read_dir(&directory)
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        paths.sort();
        for path in paths {
            let metadata = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let content = match metadata.file_type() {
                kind if kind.is_symlink() => {
                    std::fs::read_link(&path).unwrap().display().to_string()
                }
                kind if kind.is_file() => {
                    ketch_spec::Digest::of(&std::fs::read(&path).unwrap()).to_string()
                }
                kind if kind.is_dir() => {
                    queue.push(path.clone());
                    String::new()
                }
                _ => format!("device {:x}", metadata.rdev()),
            };
            let same_as = match metadata.is_dir() {
                true => name.clone(),
                false => first_names
                    .entry(metadata.ino())
                    .or_insert_with(|| name.clone())
                    .clone(),
            };
            let parent = sysfs::open_directory(&directory).unwrap();
            let mut xattrs = sysfs::xattrs_at(parent.as_fd(), path.file_name().unwrap()).unwrap();
            xattrs.sort();
            let text = format!(
                " {}.{} {:o} {}:{} {} {content} {same_as} {xattrs:?}",
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.nlink(),
            );
            found.insert(name, text);
        }
    }
    found
}

/// A tree with one of everything.
fn make_tree(root: &Path) {
    let at = |name: &str| root.join(name);
    std::fs::create_dir_all(at("deep/er/est")).unwrap();
    std::fs::write(at("deep/er/file"), b"content").unwrap();
    std::fs::write(at("big"), vec![7u8; 700_001]).unwrap();
    std::fs::write(at(&"n".repeat(255)), b"long").unwrap();
    std::fs::write(at("späß"), b"utf-8").unwrap();
    std::fs::hard_link(at("big"), at("deep/another")).unwrap();
    symlink("/etc/passwd", at("absolute")).unwrap();
    symlink("../../../../etc", at("deep/out")).unwrap();
    std::fs::hard_link(at("absolute"), at("linked-link")).unwrap();
    std::fs::set_permissions(at("deep/er/file"), PermissionsExt::from_mode(0o4711)).unwrap();
    std::fs::set_permissions(at("deep/er/est"), PermissionsExt::from_mode(0o3700)).unwrap();
    std::os::unix::fs::chown(at("deep/er"), Some(1000), Some(2000)).unwrap();
    std::os::unix::fs::lchown(at("absolute"), Some(12), Some(34)).unwrap();
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::from(0o600), 0).unwrap();
    mknodat(
        CWD,
        at("null"),
        FileType::CharacterDevice,
        Mode::from(0o666),
        makedev(1, 3),
    )
    .unwrap();
    mknodat(
        CWD,
        at("disk"),
        FileType::BlockDevice,
        Mode::from(0o660),
        makedev(8, 300),
    )
    .unwrap();
    let root = sysfs::open_directory(root).unwrap();
    let set = |name: &str, key: &std::ffi::CStr, value: &[u8]| {
        sysfs::set_xattr_at(root.as_fd(), name.as_ref(), key, value).unwrap();
    };
    set("big", c"user.note", b"some\0bytes\n");
    set(
        "big",
        c"security.capability",
        b"\x01\0\0\x02\x00\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    );
    set("absolute", c"trusted.of-a-link", b"1");
    set("deep", c"user.dir", b"");
}

#[test]
fn privileged_a_tree_survives_both_ways() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make_tree(source.path());
    let bytes = pack(source.path(), Purpose::Finish);
    extract(&bytes, target.path()).unwrap();
    assert_eq!(describe(target.path()), describe(source.path()));
    assert_eq!(
        pack(target.path(), Purpose::Export),
        bytes,
        "the same tree must give the same bytes"
    );
}

#[test]
fn privileged_gnu_tar_and_we_extract_alike() {
    let (source, ours, theirs) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    make_tree(source.path());
    for format in ["pax", "gnu"] {
        for directory in [ours.path(), theirs.path()] {
            sysfs::remove_tree(directory).unwrap();
            std::fs::create_dir(directory).unwrap();
        }
        let archive = source.path().with_extension("tar");
        let mut create = Command::new("tar");
        create
            .arg("-C")
            .arg(source.path())
            .args(["--format", format, "--numeric-owner", "-cf"])
            .arg(&archive);
        if format == "pax" {
            create.args(["--xattrs", "--xattrs-include=*"]);
        }
        assert!(create.arg(".").status().unwrap().success());
        let mut unpack = Command::new("tar");
        unpack.arg("-C").arg(theirs.path()).args([
            "--numeric-owner",
            "-p",
            "--xattrs",
            "--xattrs-include=*",
            "-xf",
        ]);
        assert!(unpack.arg(&archive).status().unwrap().success());
        extract(&std::fs::read(&archive).unwrap(), ours.path()).unwrap();
        std::fs::remove_file(&archive).unwrap();
        assert_eq!(describe(ours.path()), describe(theirs.path()), "{format}");
    }
}

#[test]
fn privileged_whiteouts_change_form_both_ways() {
    let target = tempfile::tempdir().unwrap();
    let empty = |path: &str| (Entry::new(Kind::File, path), Vec::new());
    let bytes = archive_of(&[
        directory("d"),
        empty("d/.wh..wh..opq"),
        file("d/new", "x"),
        empty(".wh.gone"),
        empty("d/.wh.sub"),
        empty(".wh..wh.plnk"),
    ]);
    extract(&bytes, target.path()).unwrap();
    let gone = target.path().join("gone").symlink_metadata().unwrap();
    assert_eq!((gone.mode() & 0o170_000, gone.rdev()), (0o020_000, 0));
    let root = sysfs::open_directory(target.path()).unwrap();
    let xattrs = sysfs::xattrs_at(root.as_fd(), "d".as_ref()).unwrap();
    assert_eq!(
        xattrs,
        [(c"trusted.overlay.opaque".to_owned(), b"y".to_vec())]
    );
    let names = |bytes: &[u8]| {
        let mut reader = Reader::new(bytes);
        let mut names = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            names.push(entry.shown());
        }
        names
    };
    let expected = ["d/", "d/.wh..wh..opq", "d/new", "d/.wh.sub", ".wh.gone"];
    assert_eq!(names(&pack(target.path(), Purpose::Export)), expected);
    let merged = names(&pack(target.path(), Purpose::Root));
    assert_eq!(
        merged,
        ["d/", "d/new", "d/sub", "gone"],
        "a root file system has no whiteouts"
    );
}

#[test]
fn privileged_whiteouts_are_about_the_layers_below_only() {
    let target = tempfile::tempdir().unwrap();
    let empty = |path: &str| (Entry::new(Kind::File, path), Vec::new());
    let bytes = archive_of(&[
        file("kept", "x"),
        empty(".wh.kept"),
        directory("after"),
        empty(".wh.after"),
        empty(".wh.before"),
        directory("before"),
        empty(".wh.implied"),
        file("implied/file", "y"),
    ]);
    extract(&bytes, target.path()).unwrap();
    assert_eq!(std::fs::read(target.path().join("kept")).unwrap(), b"x");
    let root = sysfs::open_directory(target.path()).unwrap();
    for name in ["after", "before", "implied"] {
        let xattrs = sysfs::xattrs_at(root.as_fd(), name.as_ref()).unwrap();
        assert_eq!(
            xattrs.len(),
            1,
            "{name} must hide what is below: {xattrs:?}"
        );
    }
}

#[test]
fn privileged_later_entries_replace_earlier_ones() {
    let target = tempfile::tempdir().unwrap();
    let bytes = archive_of(&[
        directory("d"),
        file("d/inner", "1"),
        file("d", "a file now"),
        file("f", "1"),
        link(Kind::Symlink, "f", "elsewhere"),
        file("f", "2"),
        directory("f2"),
        file("f2/x", "kept"),
        directory("f2"),
        file("one", "1"),
        link(Kind::HardLink, "two", "one"),
        file("two", "apart"),
    ]);
    extract(&bytes, target.path()).unwrap();
    let read = |name: &str| std::fs::read_to_string(target.path().join(name)).unwrap();
    assert_eq!(
        ["d", "f", "f2/x", "one", "two"].map(read),
        ["a file now", "2", "kept", "1", "apart"]
    );
}

/// Entries of an archive, and what is said of them; None if they are harmless.
type Attempt = (Vec<(Entry, Vec<u8>)>, Option<&'static str>);

/// Archives that try to get out of their root: `up` leads to a directory beside it, `absolute` too.
fn escapes(up: &str, absolute: &str) -> Vec<Attempt> {
    let mut cases: Vec<Attempt> = vec![
        (
            vec![file("../outside/pwned", "x")],
            Some("\"../outside/pwned\": it leads out"),
        ),
        (
            vec![file("a/../../outside/pwned", "x")],
            Some("it leads out"),
        ),
        (
            vec![link(Kind::HardLink, "h", "../outside/secret")],
            Some("\"h\": it leads out"),
        ),
        (
            vec![link(Kind::HardLink, "h", &format!("{absolute}/secret"))],
            Some("\"h\": it is a hard link to"),
        ),
        // Links are followed inside the root: there is no such directory there.
        (
            vec![link(Kind::Symlink, "l", up), file("l/pwned", "x")],
            Some("\"l/pwned\""),
        ),
        (
            vec![link(Kind::Symlink, "l", absolute), file("l/pwned", "x")],
            Some("\"l/pwned\""),
        ),
        (
            vec![
                link(Kind::Symlink, "l", absolute),
                directory("l"),
                file("l/pwned", "x"),
            ],
            None,
        ),
        (
            vec![
                link(Kind::Symlink, "l", &format!("{absolute}/secret")),
                file("l", "x"),
            ],
            None,
        ),
        (
            vec![
                link(Kind::Symlink, "l", absolute),
                link(Kind::HardLink, "h", "l/secret"),
            ],
            Some("\"h\": it is a hard link"),
        ),
        (
            vec![
                link(Kind::Symlink, "l", absolute),
                (Entry::new(Kind::File, "l/.wh.secret"), vec![]),
            ],
            Some("\"l/.wh.secret\""),
        ),
        (
            vec![
                link(Kind::Symlink, "l", absolute),
                (Entry::new(Kind::File, "l/.wh..wh..opq"), vec![]),
            ],
            Some("\"l/.wh..wh..opq\""),
        ),
    ];
    cases.extend(more_escapes(absolute));
    cases
}

fn more_escapes(absolute: &str) -> Vec<Attempt> {
    vec![
        (
            vec![
                directory("d"),
                file("d/f", "1"),
                link(Kind::Symlink, "d", absolute),
                file("d/pwned", "x"),
            ],
            Some("\"d/pwned\""),
        ),
        (
            vec![
                link(Kind::Symlink, "l", "/proc/self/root"),
                file("l/pwned", "x"),
            ],
            Some("\"l/pwned\""),
        ),
        (vec![file(absolute, "x")], None),
        (
            vec![link(Kind::Symlink, ".", absolute)],
            Some("it is the root directory"),
        ),
        (
            vec![(Entry::new(Kind::File, ".wh.."), vec![])],
            Some("it is a whiteout of nothing"),
        ),
        (
            vec![(Entry::new(Kind::File, "d/.wh."), vec![])],
            Some("it is a whiteout of nothing"),
        ),
        (
            vec![file(&"x".repeat(256), "")],
            Some("its name is longer than 255 bytes"),
        ),
    ]
}

#[test]
fn privileged_nothing_gets_out() {
    let scratch = tempfile::tempdir().unwrap();
    let (target, outside) = (scratch.path().join("root"), scratch.path().join("outside"));
    let up = format!("../{}", outside.file_name().unwrap().to_str().unwrap());
    for (entries, message) in escapes(&up, outside.to_str().unwrap()) {
        std::fs::create_dir(&target).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("secret"), b"secret").unwrap();
        let before = describe(&outside);
        let result = extract(&archive_of(&entries), &target);
        assert_eq!(describe(&outside), before, "{message:?}");
        match (result, message) {
            (Ok(_), None) => {}
            (Err(error), Some(message)) => {
                assert!(
                    error.to_string().contains(message),
                    "{error} does not say: {message}"
                );
            }
            (result, message) => panic!("expected {message:?}, got {result:?}"),
        }
        sysfs::remove_tree(&target).unwrap();
        sysfs::remove_tree(&outside).unwrap();
    }
}

#[test]
fn privileged_overlay_attributes_of_an_archive_are_not_set() {
    let target = tempfile::tempdir().unwrap();
    let mut hostile = directory("d");
    hostile.0.xattrs = vec![
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
        (b"user.fine".to_vec(), b"1".to_vec()),
    ];
    extract(&archive_of(&[hostile]), target.path()).unwrap();
    let root = sysfs::open_directory(target.path()).unwrap();
    let xattrs = sysfs::xattrs_at(root.as_fd(), "d".as_ref()).unwrap();
    assert_eq!(xattrs, [(c"user.fine".to_owned(), b"1".to_vec())]);
}

#[test]
fn privileged_directories_in_any_order_get_their_times() {
    let target = tempfile::tempdir().unwrap();
    let bytes = archive_of(&[
        file("a/b/f", "x"),
        directory("a/b"),
        directory("a"),
        file("a/late", "y"),
    ]);
    extract(&bytes, target.path()).unwrap();
    for name in ["a", "a/b"] {
        assert_eq!(
            target.path().join(name).metadata().unwrap().mtime(),
            1_000_000_000,
            "{name}"
        );
    }
}

#[test]
fn deep_trees_are_removed() {
    let target = tempfile::tempdir().unwrap();
    let name = "d".repeat(200);
    let mut current = sysfs::open_directory(target.path()).unwrap();
    // Far deeper than a path, or the limit of open files, goes.
    for _ in 0..1500 {
        rustix::fs::mkdirat(&current, &*name, rustix::fs::Mode::from(0o700)).unwrap();
        current = sysfs::open_directory_at(current.as_fd(), name.as_ref()).unwrap();
    }
    for file in 0..100 {
        let name = format!("f{file}");
        rustix::fs::mkdirat(&current, &*name, rustix::fs::Mode::from(0o700)).unwrap();
    }
    drop(current);
    sysfs::remove_tree(&target.path().join(&name)).unwrap();
    assert_eq!(std::fs::read_dir(target.path()).unwrap().count(), 0);
}

/// `user::rwx,user:1000:r-x,group::r--,mask::r-x,other::--x` as linux/posix_acl_xattr.h has it.
const LIST: &[u8] = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x05\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x05\0\xff\xff\xff\xff\x20\0\x01\0\xff\xff\xff\xff";

#[test]
fn privileged_default_lists_are_their_directorys_only() {
    let parent = tempfile::tempdir().unwrap();
    let set = |path: &Path| {
        let parent = sysfs::open_directory(path).unwrap();
        let key = c"system.posix_acl_default";
        sysfs::set_xattr_at(parent.as_fd(), ".".as_ref(), key, LIST).unwrap();
    };
    // The place of the layer hands one on too.
    set(parent.path());
    let root = parent.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let mut listed = entry(Kind::Directory, "d");
    listed.xattrs = vec![(b"system.posix_acl_default".to_vec(), LIST.to_vec())];
    let entries = [
        (listed, Vec::new()),
        directory("d/sub"),
        file("d/file", "x"),
        file("d/made/up/file", "x"),
        file("d/.wh.gone", ""),
        (entry(Kind::Fifo, "d/fifo"), Vec::new()),
        link(Kind::Symlink, "d/link", "file"),
        file("d/again", "x"),
        directory("d/again"),
        file("d/again/file", "x"),
    ];
    extract(&archive_of(&entries), &root).unwrap();
    let directory = sysfs::open_directory(&root).unwrap();
    for name in [
        "",
        "sub",
        "file",
        "made",
        "made/up",
        "made/up/file",
        "gone",
        "fifo",
        "again",
        "again/file",
    ] {
        let path = format!("d/{name}");
        let xattrs =
            sysfs::xattrs_at(directory.as_fd(), path.trim_end_matches('/').as_ref()).unwrap();
        let keys: Vec<_> = xattrs
            .iter()
            .map(|(key, _)| key.to_str().unwrap())
            .collect();
        let expected: &[&str] = if name.is_empty() {
            &["system.posix_acl_default"]
        } else {
            &[]
        };
        assert_eq!(keys, expected, "{path}");
    }
    let mode = |name: &str| root.join(name).symlink_metadata().unwrap().mode() & 0o7777;
    assert_eq!(
        (
            mode("d/sub"),
            mode("d/file"),
            mode("d/made"),
            mode("d/fifo")
        ),
        (0o755, 0o644, 0o755, 0o644)
    );
}

#[test]
fn privileged_malformed_lists_are_refused_by_name() {
    let target = tempfile::tempdir().unwrap();
    let mut listed = entry(Kind::Directory, "d");
    listed.xattrs = vec![(b"system.posix_acl_default".to_vec(), b"user::rwx".to_vec())];
    // In both forms in the same words: see `extract`.
    let error = extract(&archive_of(&[(listed, Vec::new())]), target.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "archive entry \"d/\": its attribute \"system.posix_acl_default\" is malformed"
    );
}
