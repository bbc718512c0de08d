//! The reader against GNU tar's archives, our writer and hostile bytes.

use std::io::{BufReader, Write};
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

/// All entries with their data, holes filled.
fn read_all(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    // A small buffer, so that everything is cut somewhere.
    let mut reader = Reader::new(BufReader::with_capacity(100, bytes));
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        // Sparse files of these tests are small; those of hostile archives need not be.
        let mut data = vec![0u8; usize::try_from(entry.size.min(1 << 20)).unwrap()];
        reader.copy_data::<TarError>(|offset, chunk| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            if let Some(place) = start
                .checked_add(chunk.len())
                .and_then(|end| data.get_mut(start..end))
            {
                place.copy_from_slice(chunk);
            }
            Ok(())
        })?;
        found.push((entry, data));
    }
    Ok(found)
}

fn write_all(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append_file(entry, &data[..]).unwrap();
    }
    let (bytes, length) = writer.finish().unwrap();
    assert_eq!(bytes.len() as u64, length);
    bytes
}

/// What GNU tar makes of a directory.
fn gnu_tar(directory: &std::path::Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar")
        .arg("-C")
        .arg(directory)
        .args(arguments)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn formats_of_gnu_tar_are_read_alike() {
    let directory = tempfile::tempdir().unwrap();
    let long = "d".repeat(90) + "/" + &"f".repeat(120);
    let target = "t".repeat(150);
    std::fs::create_dir(directory.path().join("d".repeat(90))).unwrap();
    std::fs::write(directory.path().join(&long), b"hello").unwrap();
    std::fs::hard_link(directory.path().join(&long), directory.path().join("other")).unwrap();
    std::os::unix::fs::symlink(&target, directory.path().join("link")).unwrap();
    for format in ["gnu", "oldgnu", "pax"] {
        let bytes = gnu_tar(
            directory.path(),
            &[
                "--sort=name",
                &format!("--format={format}"),
                "-cf",
                "-",
                ".",
            ],
        );
        let found = read_all(&bytes).unwrap();
        let paths: Vec<_> = found
            .iter()
            .map(|(entry, _)| {
                (
                    entry.kind,
                    String::from_utf8_lossy(&entry.path).into_owned(),
                )
            })
            .collect();
        let expected = [
            (Kind::Directory, "./".to_owned()),
            (Kind::Directory, format!("./{}/", "d".repeat(90))),
            (Kind::File, format!("./{long}")),
            (Kind::Symlink, "./link".to_owned()),
            (Kind::HardLink, "./other".to_owned()),
        ];
        assert_eq!(paths, expected, "{format}");
        assert_eq!(found[2].1, b"hello", "{format}");
        assert_eq!(found[3].0.link, target.as_bytes(), "{format}");
        assert_eq!(found[4].0.link, format!("./{long}").as_bytes(), "{format}");
        assert_eq!(
            found[2].0.mtime.nanoseconds != 0,
            format == "pax",
            "{format}"
        );
    }
}

#[test]
fn sparse_files_of_all_four_forms() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse");
    let mut expected = vec![0u8; 300_000];
    {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(300_000).unwrap();
        // More pieces than the old header holds, and more than one block of further ones.
        for piece in 0..30usize {
            let at = piece * 8192 + 4096;
            file.write_all_at(&[piece as u8 + 1; 4096], at as u64)
                .unwrap();
            expected[at..at + 4096].fill(piece as u8 + 1);
        }
        file.sync_all().unwrap();
    }
    let forms: [&[&str]; 4] = [
        &["--format=gnu", "-cSf", "-", "sparse"],
        &[
            "--format=pax",
            "--sparse-version=0.0",
            "-cSf",
            "-",
            "sparse",
        ],
        &[
            "--format=pax",
            "--sparse-version=0.1",
            "-cSf",
            "-",
            "sparse",
        ],
        &[
            "--format=pax",
            "--sparse-version=1.0",
            "-cSf",
            "-",
            "sparse",
        ],
    ];
    for form in forms {
        let bytes = gnu_tar(directory.path(), form);
        let found = read_all(&bytes).unwrap();
        assert_eq!(found.len(), 1, "{form:?}");
        assert_eq!(shown(&found[0].0.path), "sparse", "{form:?}");
        assert_eq!(
            found[0].0.segments.as_ref().map(Vec::len),
            Some(30),
            "{form:?}"
        );
        assert!(found[0].1 == expected, "{form:?}");
    }
}

#[test]
fn gnu_tar_lists_what_we_write() {
    let mut file = Entry::new(Kind::File, "a/".repeat(80) + &"n".repeat(200));
    file.size = 3;
    file.uid = 4_000_000_000;
    file.mtime = Time {
        seconds: -5,
        nanoseconds: 250_000_000,
    };
    file.xattrs = vec![(b"user.k".to_vec(), b"v\0\n=".to_vec())];
    let mut link = Entry::new(Kind::Symlink, "l");
    link.link = vec![b'x'; 300];
    let entries = vec![(file, b"abc".to_vec()), (link, Vec::new())];
    let bytes = write_all(&entries);
    assert_eq!(read_all(&bytes).unwrap(), entries);
    let mut child = Command::new("tar")
        .args(["-tf", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let listed = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(
        listed.lines().collect::<Vec<_>>(),
        [String::from_utf8_lossy(&entries[0].0.path).as_ref(), "l"]
    );
}

#[test]
fn numbers() {
    let octal = |text: &[u8]| header::number(text, "size");
    assert_eq!(octal(b"0000644\0"), Ok(0o644));
    assert_eq!(octal(b"   644 \0"), Ok(0o644));
    assert_eq!(octal(b"\0\0\0\0\0\0\0\0"), Ok(0));
    assert_eq!(octal(b"77777777"), Ok(0o77_777_777));
    assert_eq!(octal(b"0000648\0"), Err(Problem::Number { field: "size" }));
    assert_eq!(octal(b"\x80\0\0\0\0\0\x02\0"), Ok(512));
    assert_eq!(octal(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Ok(-2));
    assert_eq!(
        octal(b"\x80\0\0\x7f\xff\xff\xff\xff\xff\xff\xff\xff"),
        Err(Problem::Range { field: "size" })
    );
    assert_eq!(
        pax::time(b"-1.25"),
        Some(Time {
            seconds: -2,
            nanoseconds: 750_000_000
        })
    );
    assert_eq!(
        pax::time(b"1.1234567899"),
        Some(Time {
            seconds: 1,
            nanoseconds: 123_456_789
        })
    );
    assert_eq!(
        pax::time(b"1."),
        Some(Time {
            seconds: 1,
            nanoseconds: 0
        })
    );
    assert_eq!(pax::time(b"1.-5"), None);
    assert_eq!(pax::time(b"99999999999999999999"), None);
}

/// A header block by hand.
fn block(kind: u8, path: &[u8], size: u64) -> Vec<u8> {
    let header = header::Header {
        path: path.to_vec(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        size,
        mtime: 0,
        kind,
        link: Vec::new(),
        major: 0,
        minor: 0,
    };
    header::build(&header).to_vec()
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

fn extended(records: &[u8], after: Vec<u8>) -> Vec<u8> {
    [
        block(b'x', b"x", records.len() as u64),
        padded(records.to_vec()),
        after,
    ]
    .concat()
}

/// Archives of damaged or hostile headers, and what is said of them.
fn hostile_headers() -> Vec<(Vec<u8>, &'static str)> {
    let file = || block(b'0', b"victim", 0);
    let record = |key: &str, value: &[u8]| {
        let mut body = Vec::new();
        pax::append(&mut body, key.as_bytes(), value);
        body
    };
    let mut broken = file();
    broken[0] ^= 1;
    vec![
        (broken, "at byte 0: its checksum is wrong"),
        (block(b'0', b"", 0), "archive entry \"\": it has no name"),
        (block(b'0', b"victim", 1), "ends in the middle of victim"),
        (file()[..100].to_vec(), "ends in the middle of a header"),
        (
            block(b'M', b"victim", 0),
            "archive entry \"victim\": its type 'M' is not supported",
        ),
        (
            block(b'L', b"L", 2 << 20),
            "its extended header is longer than 1048576 bytes",
        ),
        (
            extended(&record("path", &vec![b'a'; 5000]), file()),
            "its name is longer than 4095 bytes",
        ),
        (
            extended(&record("path", b"a\0b"), file()),
            "its name has a NUL byte",
        ),
        (
            extended(&record("size", b"18446744073709551615"), file()),
            "its size is out of range",
        ),
        (
            extended(&record("size", b"1x"), file()),
            "its size is not a number",
        ),
        (
            extended(&record("uid", b"4294967296"), file()),
            "its owner is out of range",
        ),
        (
            extended(&record("SCHILY.xattr.user.big", &vec![0; 70_000]), file()),
            "its attribute is longer than 65536 bytes",
        ),
        (
            extended(b"9 a\n", file()),
            "its extended header is malformed",
        ),
        (
            extended(b"99999999999999999999999 a=b\n", file()),
            "its extended header is malformed",
        ),
        (
            extended(&record("GNU.sparse.map", b"5,5,0,5"), file()),
            "its sparse map is wrong",
        ),
        (
            extended(&record("GNU.sparse.offset", b"5"), file()),
            "its sparse map is wrong",
        ),
        (
            block(b'2', b"victim", 0),
            "archive entry \"victim\": it has no name",
        ),
        ([vec![0; 512], file()].concat(), "its checksum is wrong"),
    ]
}

#[test]
fn hostile_headers_are_refused() {
    for (bytes, message) in hostile_headers() {
        let error = read_all(&bytes).expect_err(message);
        assert!(
            error.to_string().contains(message),
            "{error} does not say: {message}"
        );
    }
}

#[test]
fn old_sparse_maps_are_checked() {
    // A piece behind the end of the file, and one that overlaps.
    for pieces in [&[(0u64, 512u64), (2048, 512)][..], &[(0, 512), (256, 512)]] {
        let mut header = block(b'S', b"victim", 1024);
        header[257..265].copy_from_slice(b"ustar  \0");
        header[345..].fill(0);
        for (at, (offset, length)) in pieces.iter().enumerate() {
            let start = 386 + at * 24;
            header[start..start + 24]
                .copy_from_slice(format!("{offset:011o}\0{length:011o}\0").as_bytes());
        }
        header[483..495].copy_from_slice(b"00000002000\0");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let bytes = [header, vec![1; 1024], vec![0; 1024]].concat();
        let error = read_all(&bytes).expect_err("a wrong map");
        assert!(
            error
                .to_string()
                .contains("victim\": its sparse map is wrong"),
            "{error}"
        );
    }
}

fn entries() -> impl Strategy<Value = Vec<(Entry, Vec<u8>)>> {
    let kind = prop_oneof![
        Just(Kind::File),
        Just(Kind::Directory),
        Just(Kind::Symlink),
        Just(Kind::HardLink),
        Just(Kind::Fifo),
        Just(Kind::CharacterDevice),
        Just(Kind::BlockDevice),
    ];
    let name = || prop::collection::vec(1u8..=255, 1..400);
    let xattr = (
        prop::collection::vec(1u8..=255, 1..40),
        prop::collection::vec(any::<u8>(), 0..200),
    );
    let numbers = (
        0u32..=0o7777,
        any::<u32>(),
        any::<u32>(),
        -(1i64 << 40)..(1i64 << 40),
        0u32..1_000_000_000,
    );
    let devices = (0u32..4096, 0u32..1 << 20);
    let data = prop::collection::vec(any::<u8>(), 0..1500);
    let one = (
        kind,
        name(),
        name(),
        numbers,
        devices,
        prop::collection::vec(xattr, 0..3),
        data,
    );
    let entry = one.prop_map(
        |(kind, mut path, link, (mode, uid, gid, seconds, nanoseconds), device, xattrs, data)| {
            // A slash at the end says "directory", and is what the writer gives directories.
            while path.last() == Some(&b'/') {
                path.pop();
            }
            path.insert(0, b'p');
            let mut entry = Entry::new(kind, path);
            (entry.mode, entry.uid, entry.gid) = (mode, uid, gid);
            entry.mtime = Time {
                seconds,
                nanoseconds,
            };
            for (key, value) in xattrs {
                let key: Vec<u8> = key
                    .into_iter()
                    .filter(|byte| *byte != b'=')
                    .chain(*b"k")
                    .collect();
                if !entry.xattrs.iter().any(|(other, _)| *other == key) {
                    entry.xattrs.push((key, value));
                }
            }
            match kind {
                Kind::Directory => entry.path.push(b'/'),
                Kind::Symlink | Kind::HardLink => entry.link = link,
                Kind::CharacterDevice | Kind::BlockDevice => (entry.major, entry.minor) = device,
                _ => {}
            }
            let data = if kind == Kind::File { data } else { Vec::new() };
            entry.size = data.len() as u64;
            (entry, data)
        },
    );
    prop::collection::vec(entry, 0..6)
}

proptest! {
    #[test]
    fn what_is_written_reads_back(entries in entries()) {
        prop_assert_eq!(read_all(&write_all(&entries)).unwrap(), entries);
    }

    #[test]
    fn changed_archives_never_panic(
        entries in entries(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        mend in any::<bool>(),
    ) {
        let mut bytes = write_all(&entries);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if mend {
            // With right checksums, the changes get further.
            for block in bytes.chunks_exact_mut(BLOCK_BYTES).filter(|block| block[257..262] == *b"ustar") {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        bytes.truncate(bytes.len() - cut.index(bytes.len()) / 8);
        let _ = read_all(&bytes);
    }

    #[test]
    fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let _ = read_all(&bytes);
        let _ = pax::Records::new(&bytes).count();
    }
}
