//! Archives of images, as `load` reads them.

use std::sync::OnceLock;

use ketch_engine::image::{self, Silent};
use ketch_engine::{Engine, EngineOptions, ErrorKind, Forms};
use tempfile::TempDir;

use crate::archives::scratch;

static ENGINE: OnceLock<(TempDir, Engine)> = OnceLock::new();

fn engine() -> &'static Engine {
    let (_, engine) = ENGINE.get_or_init(|| {
        let scratch = scratch();
        let options = EngineOptions {
            data_root: scratch.path().join("data"),
            run_root: scratch.path().join("run"),
            executable: "/nonexistent".into(),
            registry_config: None,
            layer_forms: Forms::Directory,
        };
        match Engine::open(options) {
            Ok(engine) => (scratch, engine),
            Err(error) => panic!("{error}"),
        }
    });
    engine
}

/// An archive made of what follows: each file is a path on a line, a length on a line, and as many bytes. `$` and a digit
/// in a path or document stands for the digest of that file, so that documents can name each other.
pub(crate) fn load(bytes: &[u8]) {
    let Some(archive) = archive(bytes) else {
        return;
    };
    let engine = engine();
    if let Ok(loaded) = image::load(engine, &archive[..], &[], &Silent) {
        for one in loaded {
            let found = match image::resolve(engine, one.id.as_str()) {
                Ok(found) => found,
                // Something else than an image, which is carried and can be removed.
                Err(error) if error.kind == ErrorKind::Unsupported => {
                    remove(engine, one.id.as_str());
                    continue;
                }
                Err(error) => panic!("{} was loaded: {error}", one.id),
            };
            assert_eq!(found.id, one.id);
            for reference in &one.references {
                assert!(
                    image::resolve(engine, &reference.to_string()).is_ok(),
                    "{reference}"
                );
            }
            remove(engine, one.id.as_str());
        }
    }
}

fn remove(engine: &Engine, id: &str) {
    let options = image::RemoveOptions {
        force: true,
        ..Default::default()
    };
    if let Err(error) = image::remove(engine, id, &options) {
        panic!("{id} cannot be removed: {error}");
    }
}

fn archive(bytes: &[u8]) -> Option<Vec<u8>> {
    use ketch_store::tar::{Entry, Kind, Writer};
    let mut rest = bytes;
    let mut digests: Vec<String> = Vec::new();
    let mut writer = Writer::new(Vec::new());
    while !rest.is_empty() && digests.len() < 10 {
        let (path, after) = crate::bytes::first_line(rest);
        let (length, after) = crate::bytes::first_line(after);
        let length: usize = std::str::from_utf8(length).ok()?.trim().parse().ok()?;
        let (data, after) = after.split_at_checked(length)?;
        rest = after;
        let data = filled(data, &digests);
        digests.push(ketch_spec::Digest::of(&data).hex().to_owned());
        // Its own digest too: a blob's name.
        let path = filled(path, &digests);
        if path.is_empty() || path.contains(&0) {
            return None;
        }
        let mut entry = Entry::new(Kind::File, path);
        entry.size = data.len() as u64;
        writer.append_file(&entry, &data[..]).ok()?;
    }
    Some(writer.finish().ok()?.0)
}

fn filled(text: &[u8], digests: &[String]) -> Vec<u8> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let digit = after
            .first()
            .map(|digit| usize::from(digit.wrapping_sub(b'0')));
        match digit.and_then(|digit| digests.get(digit)) {
            Some(digest) if *first == b'$' => {
                found.extend_from_slice(digest.as_bytes());
                rest = &after[1..];
            }
            _ => {
                found.push(*first);
                rest = after;
            }
        }
    }
    found
}
