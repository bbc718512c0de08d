//! Image records: the entries of `index.json`. An entry with a name says "this reference means this manifest or
//! index"; an entry without one keeps an untagged image.

use std::fs;
use std::str::FromStr;

use jiff::Timestamp;
use ketch_spec::image::{Descriptor, Index};
use ketch_spec::{Digest, Reference};
use ketch_sys::fs as sysfs;
use rustix::fs::Mode;

use crate::{Error, Result, Store};

/// The full reference, as containerd and `docker save` write it.
const NAME: &str = "io.containerd.image.name";
/// The full reference again: what `skopeo copy oci:<layout>:<name>` looks for.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// When the reference was last set, RFC 3339.
const TAGGED: &str = "dev.ketch.image.tagged";
/// `true`: a registry knows the target under the reference's repository.
const REMOTE: &str = "dev.ketch.image.remote";

/// The largest `index.json`: some 100,000 images.
const MAX_INDEX_BYTES: u64 = 64 << 20;

/// One image record.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// The name; None keeps an untagged image.
    pub reference: Option<Reference>,
    /// The manifest or index it means.
    pub target: Descriptor,
    /// When the name was last set.
    pub tagged: Option<Timestamp>,
    /// Whether the target was pulled from or pushed to the reference's repository, so that `repository@digest` exists.
    pub remote: bool,
}

impl Store {
    /// All image records, in the order they were first made. Takes no lock.
    ///
    /// # Errors
    /// `index.json` cannot be read or is not an index.
    pub fn images(&self) -> Result<Vec<ImageRecord>> {
        Ok(self
            .read_index()?
            .manifests
            .into_iter()
            .map(record_of)
            .collect())
    }

    /// Makes `reference` mean `target`, replacing what it meant; an image that loses its last name this way stays as an
    /// untagged record. `remote` says that a registry has it under that name. Everything the store holds is durable
    /// when this returns. A name that means `target` already is left as it is, its time too: nothing is written.
    ///
    /// # Errors
    /// [`Error::MissingBlob`] if the target is not here; the disk failed.
    pub fn set_tag(&self, reference: &Reference, target: &Descriptor, remote: bool) -> Result<()> {
        self.require(target)?;
        self.change_records(|records| {
            let record = ImageRecord {
                reference: Some(reference.clone()),
                target: target.clone(),
                tagged: Some(Timestamp::now()),
                remote,
            };
            let old = records
                .iter()
                .position(|r| r.reference.as_ref() == Some(reference));
            match old {
                Some(at) if records[at].target == *target && (records[at].remote || !remote) => {
                    return false;
                }
                Some(at) => {
                    let old = std::mem::replace(&mut records[at], record);
                    if old.target.digest == target.digest {
                        records[at].remote |= old.remote;
                    } else if !records.iter().any(|r| r.target.digest == old.target.digest) {
                        records.push(ImageRecord {
                            reference: None,
                            tagged: None,
                            remote: false,
                            ..old
                        });
                    }
                }
                None => records.push(record),
            }
            // A name makes the nameless record of the same image superfluous.
            records.retain(|r| r.reference.is_some() || r.target.digest != target.digest);
            true
        })
    }

    /// Keeps `target` as an image without a name, unless a record of it exists.
    ///
    /// # Errors
    /// As [`Store::set_tag`].
    pub fn keep_untagged(&self, target: &Descriptor) -> Result<()> {
        self.require(target)?;
        self.change_records(|records| {
            if records.iter().any(|r| r.target.digest == target.digest) {
                return false;
            }
            records.push(ImageRecord {
                reference: None,
                target: target.clone(),
                tagged: None,
                remote: false,
            });
            true
        })
    }

    /// Removes a name. With `keep_image`, an image that loses its last name stays as an untagged record. Returns
    /// whether the name was there.
    ///
    /// # Errors
    /// The disk failed.
    pub fn remove_tag(&self, reference: &Reference, keep_image: bool) -> Result<bool> {
        let mut found = false;
        self.change_records(|records| {
            let Some(at) = records
                .iter()
                .position(|r| r.reference.as_ref() == Some(reference))
            else {
                return false;
            };
            found = true;
            let old = records.remove(at);
            if keep_image && !records.iter().any(|r| r.target.digest == old.target.digest) {
                records.push(ImageRecord {
                    reference: None,
                    tagged: None,
                    remote: false,
                    ..old
                });
            }
            true
        })?;
        Ok(found)
    }

    /// Removes all records, named or not, whose target is `target`. Returns how many there were.
    ///
    /// # Errors
    /// The disk failed.
    pub fn remove_records(&self, target: &Digest) -> Result<usize> {
        let mut removed = 0;
        self.change_records(|records| {
            let before = records.len();
            records.retain(|r| r.target.digest != *target);
            removed = before - records.len();
            removed > 0
        })?;
        Ok(removed)
    }

    fn require(&self, target: &Descriptor) -> Result<()> {
        if self.has(&target.digest) {
            Ok(())
        } else {
            Err(Error::MissingBlob {
                digest: target.digest.clone(),
            })
        }
    }

    /// One read-modify-write of `index.json` under the leaf lock; `change` says whether it changed anything.
    fn change_records(&self, change: impl FnOnce(&mut Vec<ImageRecord>) -> bool) -> Result<()> {
        self.settle()?;
        let _lock = self.lock_records()?;
        let mut index = self.read_index()?;
        let mut records = index.manifests.drain(..).map(record_of).collect();
        if !change(&mut records) {
            return Ok(());
        }
        index.manifests = records.into_iter().map(descriptor_of).collect();
        let path = self.images_dir().join("index.json");
        let bytes = serde_json::to_vec(&index).map_err(|source| Error::Json {
            what: "index.json".into(),
            source,
        })?;
        // Commit point of tag, pull, load, build and rmi: the rename of index.json.
        let replace = || Ok(sysfs::replace_file(&path, &bytes, Mode::from(0o644), true)?);
        let before = fs::metadata(&path).map_err(Error::io("stat", &path))?.len();
        match bytes.len() as u64 <= before {
            // A removal.
            true => self.with_reserve(replace),
            false => replace(),
        }
    }

    fn read_index(&self) -> Result<Index> {
        let path = self.images_dir().join("index.json");
        let size = fs::metadata(&path).map_err(Error::io("stat", &path))?.len();
        if size > MAX_INDEX_BYTES {
            return Err(Error::TooLarge {
                what: path.display().to_string(),
                limit_bytes: MAX_INDEX_BYTES,
            });
        }
        let bytes = fs::read(&path).map_err(Error::io("read", &path))?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Json {
            what: path.display().to_string(),
            source,
        })
    }
}

/// An entry another tool made may have only the short annotation, or a name that is no reference of ours: then it is
/// an image without a name.
fn record_of(mut target: Descriptor) -> ImageRecord {
    let name = target.annotations.remove(NAME);
    let short = target.annotations.remove(REF_NAME);
    let reference = name
        .or(short)
        .and_then(|text| Reference::from_str(&text).ok());
    let tagged = target
        .annotations
        .remove(TAGGED)
        .and_then(|text| text.parse().ok());
    let remote = target
        .annotations
        .remove(REMOTE)
        .is_some_and(|text| text == "true");
    ImageRecord {
        reference,
        target,
        tagged,
        remote,
    }
}

fn descriptor_of(record: ImageRecord) -> Descriptor {
    let mut target = record.target;
    if let Some(reference) = &record.reference {
        target
            .annotations
            .insert(NAME.into(), reference.to_string());
        target
            .annotations
            .insert(REF_NAME.into(), reference.to_string());
    }
    if let Some(tagged) = record.tagged {
        target.annotations.insert(TAGGED.into(), tagged.to_string());
    }
    if record.remote {
        target.annotations.insert(REMOTE.into(), "true".into());
    }
    target
}
