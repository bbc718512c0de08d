//! Archives made of entries that meet each other in every way: the same few names as every kind of file, links among
//! them, whiteouts, attributes.

use ketch_store::tar::{Entry, Kind, Time, Writer};

use crate::archives::both_forms;
use crate::bytes::Choices;

const PATHS: [&str; 24] = [
    "a",
    "b",
    "a/b",
    "a/b/c",
    "b/c",
    "lib",
    "lib/x",
    "lib/x/y",
    "/abs/./x/",
    "a/../b",
    "../b",
    "a/b/../../lib/c",
    "-",
    ".-/a",
    ".",
    "c/d/e/f",
    ".wh.a",
    "a/.wh.b",
    "lib/.wh..wh..opq",
    ".wh..wh..opq",
    "a/.wh.",
    "b/.wh...",
    ".wh..wh.plnk/1",
    "a/b/.wh.c",
];

const LINKS: [&str; 12] = [
    "a",
    "b",
    "../..",
    "/",
    "/etc/passwd",
    "lib/x",
    "a/b",
    "../../../etc",
    ".",
    "/proc/self/root",
    "b/c",
    "link",
];

const LIST: &[u8] = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x05\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x05\0\xff\xff\xff\xff\x20\0\x01\0\xff\xff\xff\xff";
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

const XATTRS: [(&str, &[u8]); 10] = [
    ("user.a", b"1"),
    ("user.a", b"22"),
    ("trusted.x", b""),
    ("trusted.overlay.opaque", b"y"),
    ("trusted.overlay.redirect", b"/elsewhere"),
    ("trusted.overlay.metacopy", b""),
    ("security.selinux", b"label"),
    ("security.capability", CAPABILITY),
    ("system.posix_acl_access", LIST),
    ("system.posix_acl_default", LIST),
];

/// Reads a few bytes an entry.
pub(crate) fn entries(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut writer = Writer::new(Vec::new());
    let mut count = 0;
    while !choices.is_empty() && count < 64 {
        let (entry, data) = entry(&mut choices);
        if let Err(error) = writer.append_file(&entry, &data[..]) {
            panic!("{entry:?}: {error}");
        }
        count += 1;
    }
    match writer.finish() {
        Ok((archive, _)) => both_forms(&archive),
        Err(error) => panic!("{error}"),
    }
}

fn entry(choices: &mut Choices<'_>) -> (Entry, Vec<u8>) {
    let kind = choices.of(&[
        Kind::File,
        Kind::Directory,
        Kind::Symlink,
        Kind::HardLink,
        Kind::Fifo,
        Kind::CharacterDevice,
        Kind::BlockDevice,
    ]);
    let mut entry = Entry::new(kind, choices.of(&PATHS));
    let flags = choices.byte();
    entry.mode = match flags & 3 {
        0 => 0o644,
        1 => 0o755,
        2 => 0o6755,
        _ => 0o2770,
    };
    if flags & 4 != 0 {
        (entry.uid, entry.gid) = (choices.byte().into(), u32::from(choices.byte()) * 70_000);
    }
    entry.mtime = Time {
        // 0 is what directories have that no entry describes.
        seconds: 1 + i64::from(flags),
        nanoseconds: u32::from(flags) * 1000,
    };
    if matches!(kind, Kind::Symlink | Kind::HardLink) {
        entry.link = choices.of(&LINKS).into();
    }
    if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
        (entry.major, entry.minor) = (
            u32::from(choices.byte()) % 3,
            u32::from(choices.byte()) * 4200,
        );
    }
    if flags & 8 != 0 {
        for _ in 0..=choices.below(3) {
            let (key, value) = choices.of(&XATTRS);
            // What file systems refuse in words of their own.
            let is_list = key.starts_with("system.");
            let fits = match kind {
                Kind::File => key != "system.posix_acl_default",
                Kind::Directory => key != "security.capability",
                Kind::Symlink => !is_list && key != "security.capability",
                _ => key != "system.posix_acl_default" && key != "security.capability",
            };
            if fits && entry.xattrs.iter().all(|(old, _)| old != key.as_bytes()) {
                entry.xattrs.push((key.into(), value.into()));
            }
        }
    }
    let mut data = Vec::new();
    if kind == Kind::File {
        let size = usize::from(choices.byte()) * 9;
        data = (0..size).map(|at| (at % 251) as u8 + 1).collect();
    }
    entry.size = data.len() as u64;
    (entry, data)
}
