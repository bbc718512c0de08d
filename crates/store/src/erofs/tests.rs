//! Images against GNU tar and against extraction, as the kernel shows them. As root: owners, devices and mounts are the
//! point.

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;

use std::os::unix::fs::MetadataExt;

use ketch_spec::Digest;
use proptest::prelude::*;

use super::*;
use crate::tar::{Entry, Kind, Reader, TarError, Time};
use crate::tree::Totals;
use crate::tree::tests::{archive_of, entry, extract};

/// The image of an archive, mounted.
pub struct Mounted {
    pub files: OwnedFd,
    pub totals: Totals,
    pub image: PathBuf,
    pub tar: PathBuf,
    _directory: tempfile::TempDir,
}

impl Mounted {
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/", self.files.as_raw_fd()))
    }
}

pub fn image_of(archive: &[u8]) -> Result<Mounted, TarError> {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let path = directory.path().join(name);
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
            .unwrap()
    };
    let (image, mut tar) = (open("image"), open("tar"));
    tar.write_all(archive).unwrap();
    let writer = Writer::new(image.try_clone().unwrap(), tar.try_clone().unwrap())?;
    let (totals, unsealed) =
        writer.run(&mut Reader::new(BufReader::with_capacity(1000, archive)))?;
    unsealed
        .seal(&Digest::of(archive), archive.len() as u64)
        .unwrap();
    let files = mount(image.as_fd(), tar.as_fd()).unwrap();
    Ok(Mounted {
        files,
        totals,
        image: directory.path().join("image"),
        tar: directory.path().join("tar"),
        _directory: directory,
    })
}

#[test]
fn privileged_a_real_archive_looks_the_same() {
    let Ok(path) = std::env::var("KETCH_REAL_TAR") else {
        return;
    };
    let archive = std::fs::read(path).unwrap();
    let directory = tempfile::tempdir().unwrap();
    extract(&archive, directory.path()).unwrap();
}

/// Names that meet each other in every way.
const PATHS: [&str; 16] = [
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
];

fn any_path() -> impl Strategy<Value = String> {
    let plain = prop::sample::select(&PATHS[..]).prop_map(str::to_owned);
    prop_oneof![
        12 => plain.clone(),
        1 => plain.clone().prop_map(|path| match path.rsplit_once('/') {
            Some((directory, name)) => format!("{directory}/.wh.{name}"),
            None => format!(".wh.{path}"),
        }),
        1 => plain.prop_map(|path| format!("{path}/.wh..wh..opq")),
    ]
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::File),
        4 => Just(Kind::Directory),
        2 => Just(Kind::Symlink),
        2 => Just(Kind::HardLink),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::CharacterDevice),
        1 => Just(Kind::BlockDevice),
    ]
}

/// An attribute, whether its file can have it or not.
fn any_xattr() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let acl: &[u8] = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x05\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x05\0\xff\xff\xff\xff\x20\0\x01\0\xff\xff\xff\xff";
    let capability: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    prop::sample::select(vec![
        ("user.a", b"1".to_vec()),
        ("user.a", b"22".to_vec()),
        ("user.long-name", vec![9; 700]),
        ("trusted.x", Vec::new()),
        ("trusted.overlay.opaque", b"y".to_vec()),
        ("trusted.overlay.redirect", b"/elsewhere".to_vec()),
        ("security.selinux", b"label".to_vec()),
        ("system.nothing", b"1".to_vec()),
        ("security.capability", capability.to_vec()),
        ("system.posix_acl_access", acl.to_vec()),
        ("system.posix_acl_default", acl.to_vec()),
    ])
    .prop_map(|(key, value)| (key.as_bytes().to_vec(), value))
}

fn any_entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let numbers = (
        0..0o10000u32,
        0..100_000u32,
        0..3u32,
        1..2_000_000_000i64,
        0..1_000_000_000u32,
    );
    let xattrs = prop::collection::vec(any_xattr(), 0..3);
    (
        any_path(),
        any_kind(),
        any_path(),
        numbers,
        xattrs,
        0..3000usize,
    )
        .prop_map(
            |(path, kind, link, (mode, uid, gid, seconds, nanoseconds), mut xattrs, size)| {
                let mut entry = entry(kind, &path);
                (entry.mode, entry.uid, entry.gid) = (mode, uid, gid);
                entry.mtime = Time {
                    seconds,
                    nanoseconds,
                };
                if kind == Kind::HardLink || kind == Kind::Symlink {
                    entry.link = link.into_bytes();
                }
                if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
                    (entry.major, entry.minor) = (uid % 4, gid * 300);
                }
                // A capability or a list on what can have none is refused by file systems in ways of their own.
                if kind != Kind::File {
                    xattrs.retain(|(key, _)| key != b"security.capability");
                }
                if kind == Kind::Symlink {
                    xattrs.retain(|(key, _)| !key.starts_with(b"system."));
                }
                if kind != Kind::Directory {
                    xattrs.retain(|(key, _)| key != b"system.posix_acl_default");
                }
                entry.xattrs = xattrs;
                let data = match kind {
                    Kind::File => (0..size).map(|at| (at % 251) as u8 + 1).collect(),
                    _ => Vec::new(),
                };
                entry.size = data.len() as u64;
                (entry, data)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever an archive has, and in whatever order: the image shows what extraction makes, or both refuse it in the
    /// same words.
    #[test]
    fn privileged_images_and_extraction_agree(entries in prop::collection::vec(any_entry(), 0..24)) {
        let directory = tempfile::tempdir().unwrap();
        // Every difference is a panic of this function's.
        let _ = extract(&archive_of(&entries), directory.path());
    }
}

/// erofs-utils 1.7 and later: earlier ones know no blocks of 512 bytes. `cargo xtask test` says where they are.
fn fsck() -> Option<String> {
    if let Ok(program) = std::env::var("KETCH_FSCK_EROFS") {
        return Some(program);
    }
    let output = Command::new("fsck.erofs").arg("-V").output().ok()?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let version = text
        .split([' ', '\n'])
        .find_map(|word| word.trim_start_matches('v').split_once('.'));
    let (major, minor): (u32, u32) = version.and_then(|(a, b)| {
        let minor: String = b.chars().take_while(char::is_ascii_digit).collect();
        Some((a.parse().ok()?, minor.parse().ok()?))
    })?;
    ((major, minor) >= (1, 7)).then(|| "fsck.erofs".to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn privileged_erofs_utils_accept_images(entries in prop::collection::vec(any_entry(), 0..24)) {
        let Some(program) = fsck() else {
            // Where all tests count, none is left out.
            assert!(std::env::var_os("CI").is_none(), "no fsck.erofs of 1.7 or later; KETCH_FSCK_EROFS can name one");
            return Ok(());
        };
        let Ok(image) = image_of(&archive_of(&entries)) else { return Ok(()) };
        let output = Command::new(program)
            .arg(format!("--device={}", image.tar.display()))
            .arg("--extract")
            .arg(&image.image)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn privileged_large_directories_are_searched_and_listed() {
    let mut entries = Vec::new();
    for number in 0..5000 {
        let path = format!("d/{}{number}", "n".repeat(number % 250));
        entries.push((entry(Kind::Directory, &path), Vec::new()));
    }
    for name in ["d/!", "d/-", "d/.!", "d/..a", "d/.a", "d/\u{7f}", "d/ü"] {
        entries.push((entry(Kind::File, name), Vec::new()));
    }
    let directory = tempfile::tempdir().unwrap();
    extract(&archive_of(&entries), directory.path()).unwrap();
}

/// An archive of one sparse file in GNU's PAX form 1.0, with pieces anywhere.
fn sparse_archive(size: u64, pieces: &[(u64, u64)]) -> Vec<u8> {
    let mut map = format!("{}\n", pieces.len());
    for (offset, length) in pieces {
        map.push_str(&format!("{offset}\n{length}\n"));
    }
    let mut data = map.into_bytes();
    data.resize(data.len().next_multiple_of(512), 0);
    for (number, (_, length)) in pieces.iter().enumerate() {
        data.extend((0..*length).map(|at| ((at + number as u64) % 255) as u8 + 1));
    }
    let mut records = String::new();
    for (key, value) in [
        ("GNU.sparse.major", "1".to_owned()),
        ("GNU.sparse.minor", "0".to_owned()),
        ("GNU.sparse.name", "sparse".to_owned()),
        ("GNU.sparse.realsize", size.to_string()),
    ] {
        let body = format!(" {key}={value}\n");
        let length = (body.len()..)
            .find(|length| length.to_string().len() + body.len() == *length)
            .unwrap();
        records.push_str(&format!("{length}{body}"));
    }
    // The writer has no such forms: a file with the right type will do.
    let header = |name: &str, data: &[u8], kind: u8| {
        let mut file = entry(Kind::File, name);
        file.size = data.len() as u64;
        let mut bytes = archive_of(&[(file, data.to_vec())]);
        bytes.truncate(512 + data.len().next_multiple_of(512));
        bytes[156] = kind;
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    };
    let mut archive = header("PaxHeader", records.as_bytes(), b'x');
    archive.extend(header("GNUSparseFile.0/sparse", &data, b'0'));
    archive.extend([0; 1024]);
    archive
}

#[test]
fn privileged_sparse_files_have_their_holes_wherever_they_are() {
    let block = 4096;
    for (size, pieces) in [
        (10 * block, vec![(block, block), (5 * block, 2 * block)]),
        (10 * block, vec![(1, 1), (513, 600), (20_000, 20_960)]),
        (3 << 30, vec![(0, 512), (1 << 30, 5000), ((3 << 30) - 7, 7)]),
        (100_000, vec![]),
        (1000, vec![(0, 0), (999, 1)]),
        (5 << 20, (0..200).map(|n| (n * 20_000, 512)).collect()),
        (
            5 << 20,
            (0..200).map(|n| (n * 20_000 + n, 1000 + n)).collect(),
        ),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let archive = sparse_archive(size, &pieces);
        extract(&archive, directory.path()).unwrap();
        let image = image_of(&archive).unwrap();
        let bytes = std::fs::metadata(&image.image).unwrap().blocks() * 512;
        assert!(
            bytes < 2 << 20,
            "{bytes} bytes of image for {} pieces",
            pieces.len()
        );
    }
    let scattered: Vec<_> = (0..2000).map(|n| (n << 38, 1)).collect();
    let error = image_of(&sparse_archive(1 << 49, &scattered)).map(drop);
    assert!(error.unwrap_err().to_string().contains("too scattered"));
}

/// The bytes behind a file's end in its last block are the archiver's: a program that maps the file must not see them.
#[test]
fn privileged_filling_that_is_not_zeros_is_not_shown() {
    let mut file = entry(Kind::File, "f");
    file.size = 700;
    let mut archive = archive_of(&[(file, vec![b'x'; 700])]);
    archive[512 + 700..512 + 1024].fill(b'!');
    for length in [archive.len(), 512 + 700, 512 + 800] {
        let archive = &archive[..length];
        let image = image_of(archive).unwrap();
        // The tail is in the image, where zeros follow it.
        let bytes = std::fs::read(&image.image).unwrap();
        let tail = bytes
            .chunks(512)
            .find(|block| block[..188] == [b'x'; 188])
            .unwrap();
        assert!(tail[188..].iter().all(|byte| *byte == 0));
        let directory = tempfile::tempdir().unwrap();
        extract(archive, directory.path()).unwrap();
    }
}
