//! Memory is bounded whatever an archive has. Each case is a process of its own that takes a hostile layer in, and tells
//! what came of it and how much memory it ever had. As root: layers have owners.

#![allow(clippy::print_stdout)]

use std::io::{self, BufWriter, PipeWriter, Write};
use std::path::Path;
use std::process::Command;

use ketch_store::tar::{Entry, Kind, Writer};
use ketch_store::{Forms, Store};

/// The promise: `SPECIFICATION.md`.
const MOST_BYTES: u64 = 64 << 20;

/// Told in the environment to be the process that is measured: which case, and which form.
const CHILD: &str = "KETCH_TEST_MEMORY";

/// A hostile layer, and what the error has to say; None: it is taken.
struct Case {
    name: &'static str,
    write: fn(PipeWriter) -> io::Result<()>,
    error: Option<&'static str>,
}

const CASES: &[Case] = &[
    Case {
        name: "many-names",
        write: many_names,
        error: None,
    },
    Case {
        name: "many-directories-with-long-paths",
        write: long_paths,
        error: None,
    },
    Case {
        name: "many-links",
        write: many_links,
        error: None,
    },
    Case {
        name: "a-megabyte-of-records",
        write: records,
        error: None,
    },
    Case {
        name: "megabytes-of-global-records",
        write: global_records,
        error: Some("it has more than 1024 records in global extended headers"),
    },
    Case {
        name: "headers-without-end",
        write: endless_headers,
        error: Some("its extended header is longer than"),
    },
    Case {
        name: "a-long-name",
        write: long_name,
        error: Some("longer than 4095 bytes"),
    },
    Case {
        name: "a-thousand-attributes",
        write: attributes,
        error: Some("\"attributed\": its attributes together is longer than"),
    },
    Case {
        name: "a-sparse-map-of-a-million-pieces",
        write: |out| sparse(out, 1_000_000),
        error: Some("\"sparse\": it has more than 65536 sparse pieces"),
    },
    Case {
        name: "a-sparse-map-as-long-as-may-be",
        write: |out| sparse(out, 65_536),
        error: None,
    },
    Case {
        name: "a-bomb-of-gzip",
        write: gzip_bomb,
        error: None,
    },
    Case {
        name: "a-bomb-of-zstd-with-a-large-window",
        write: zstd_bomb,
        error: None,
    },
    Case {
        name: "a-window-larger-than-memory",
        write: large_window,
        error: Some("cannot decompress zstd data: its window of 128 MiB"),
    },
];

#[test]
fn privileged_memory_is_bounded_whatever_an_archive_has() {
    let mut failures = Vec::new();
    for case in CASES {
        for form in ["directory", "erofs"] {
            let output = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "privileged_child",
                    "--nocapture",
                    "--test-threads=1",
                ])
                .env(CHILD, format!("{} {form}", case.name))
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = |key: &str| {
                let found = text.lines().find_map(|line| line.split_once(key));
                found.map(|(_, rest)| rest.to_owned())
            };
            let (Some(peak), Some(said)) = (line("peak: "), line("said: ")) else {
                failures.push(format!("{} in {form}: {output:?}", case.name));
                continue;
            };
            let right = match case.error {
                Some(error) => said.contains(error),
                None => said == "taken",
            };
            let peak: u64 = peak.parse().unwrap();
            println!("{} in {form}: {} MiB", case.name, peak >> 20);
            if !right || peak > MOST_BYTES {
                failures.push(format!(
                    "{} in {form}: {peak} bytes, and it said: {said}",
                    case.name
                ));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn privileged_child() {
    let Ok(asked) = std::env::var(CHILD) else {
        return;
    };
    let (name, form) = asked.split_once(' ').unwrap();
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), form.parse::<Forms>().unwrap()).unwrap();
    let (reader, writer) = io::pipe().unwrap();
    let write = case.write;
    let imported = std::thread::scope(|scope| {
        // The reader may stop early.
        scope.spawn(move || drop(write(writer)));
        store.import_layer(reader)
    });
    let said = match imported.unwrap().layer {
        Ok(_) => "taken".to_owned(),
        Err(error) => {
            let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| {
                error.source()
            });
            let texts: Vec<String> = causes.map(ToString::to_string).collect();
            texts.join(": ")
        }
    };
    println!("\npeak: {}\nsaid: {said}", peak_bytes());
}

/// The most memory that this process ever had (proc(5), `VmHWM`).
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes << 10
}

fn archive(
    out: impl Write,
    fill: impl FnOnce(&mut Writer<BufWriter<&mut dyn Write>>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = out;
    let mut writer = Writer::new(BufWriter::with_capacity(
        1 << 16,
        &mut out as &mut dyn Write,
    ));
    fill(&mut writer)?;
    let (mut out, _) = writer.finish()?;
    out.flush()
}

fn entry(kind: Kind, path: String) -> Entry {
    let mut entry = Entry::new(kind, path);
    entry.mode = 0o755;
    entry
}

/// More names than memory is for, in few directories; whiteouts, as they are the quickest to make.
fn many_names(out: PipeWriter) -> io::Result<()> {
    archive(out, |writer| {
        for number in 0..300_000 {
            let path = format!("d{}/.wh.name-of-middling-length-{number}", number % 7);
            writer.append(&entry(Kind::File, path))?;
        }
        Ok(())
    })
}

/// Paths of almost two kilobytes.
fn long_paths(out: PipeWriter) -> io::Result<()> {
    archive(out, |writer| {
        let mut above = String::new();
        for letter in ["a", "b", "c", "d", "e", "f", "g"] {
            above += &letter.repeat(250);
            writer.append(&entry(Kind::Directory, above.clone()))?;
            above += "/";
        }
        for number in 0..40_000 {
            writer.append(&entry(Kind::Directory, format!("{above}{number}")))?;
        }
        Ok(())
    })
}

fn many_links(out: PipeWriter) -> io::Result<()> {
    archive(out, |writer| {
        for file in 0..40 {
            writer.append(&entry(Kind::File, format!("file{file}")))?;
            for number in 0..500 {
                let mut link = entry(Kind::HardLink, format!("links/{file}-{number}"));
                link.link = format!("file{file}").into_bytes();
                writer.append(&link)?;
            }
        }
        Ok(())
    })
}

/// A header of any type, with its data.
fn raw(out: &mut impl Write, kind: u8, name: &str, data: &[u8]) -> io::Result<()> {
    let mut file = entry(Kind::File, name.to_owned());
    file.size = data.len() as u64;
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes);
    writer.append_file(&file, data)?;
    writer.finish()?;
    bytes.truncate(512 + data.len().next_multiple_of(512));
    bytes[156] = kind;
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.write_all(&bytes)
}

/// The shortest records there are.
fn records(mut out: PipeWriter) -> io::Result<()> {
    raw(&mut out, b'x', "x", &b"5 a=\n".repeat(200_000))?;
    raw(&mut out, b'0', "file", b"")?;
    out.write_all(&[0; 1024])
}

fn global_records(mut out: PipeWriter) -> io::Result<()> {
    for round in 0..50 {
        let mut body = Vec::new();
        for number in 0..20_000 {
            let record = format!(" SCHILY.xattr.user.{}=\n", round * 20_000 + number);
            body.extend_from_slice(format!("{}{record}", record.len() + 2).as_bytes());
        }
        raw(&mut out, b'g', "g", &body)?;
    }
    Ok(())
}

fn endless_headers(mut out: PipeWriter) -> io::Result<()> {
    let body = b"5 a=\n".repeat(200_000);
    for _ in 0..500 {
        raw(&mut out, b'x', "x", &body)?;
    }
    Ok(())
}

fn long_name(mut out: PipeWriter) -> io::Result<()> {
    raw(&mut out, b'L', "L", &[b'n'; 1 << 20])?;
    raw(&mut out, b'0', "file", b"")
}

/// In two headers, as one can have a megabyte at most.
fn attributes(mut out: PipeWriter) -> io::Result<()> {
    for half in ["a", "b"] {
        let mut body = Vec::new();
        for number in 0..500 {
            let record = format!(" SCHILY.xattr.user.{half}{number}={}\n", "7".repeat(1100));
            body.extend_from_slice(format!("{}{record}", record.len() + 4).as_bytes());
        }
        raw(&mut out, b'x', "x", &body)?;
    }
    raw(&mut out, b'0', "attributed", b"")
}

/// GNU's form 1.0: the map is in front of the data.
fn sparse(mut out: PipeWriter, pieces: u64) -> io::Result<()> {
    let mut map = format!("{pieces}\n");
    for number in 0..pieces {
        map += &format!("{}\n1\n", number * 1024);
    }
    let mut data = map.into_bytes();
    data.resize(data.len().next_multiple_of(512) + pieces as usize, 1);
    let mut body = Vec::new();
    for (key, value) in [
        ("major", "1".to_owned()),
        ("minor", "0".to_owned()),
        ("name", "sparse".to_owned()),
        ("realsize", (pieces * 1024).to_string()),
    ] {
        let record = format!(" GNU.sparse.{key}={value}\n");
        body.extend_from_slice(format!("{}{record}", record.len() + 2).as_bytes());
    }
    raw(&mut out, b'x', "x", &body)?;
    raw(&mut out, b'0', "sparse", &data)?;
    out.write_all(&[0; 1024])
}

fn zeros(out: impl Write, bytes: u64) -> io::Result<()> {
    archive(out, |writer| {
        let mut file = entry(Kind::File, "zeros".to_owned());
        file.size = bytes;
        writer.append_file(&file, io::Read::take(io::repeat(0), bytes))?;
        Ok(())
    })
}

fn gzip_bomb(out: PipeWriter) -> io::Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::fast());
    zeros(&mut encoder, 96 << 20)?;
    encoder.finish().map(drop)
}

/// A frame of one block that asks for a window of 128 MiB. Made by hand: the compressor would want the memory too.
fn large_window(mut out: PipeWriter) -> io::Result<()> {
    out.write_all(b"\x28\xb5\x2f\xfd\0\x88\x29\0\0hello")
}

fn zstd_bomb(out: PipeWriter) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(out, 1)?;
    encoder.window_log(25)?;
    zeros(&mut encoder, 96 << 20)?;
    encoder.finish().map(drop)
}
