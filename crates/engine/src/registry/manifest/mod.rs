//! Manifest lists made by hand: `manifest create`, `annotate`, `inspect`, `push` and `rm`.
//!
//! A list is a directory of the client's, with a record for each image in it, until it is pushed: see docs/state-on-disk.md.

mod describe;
mod drafts;
mod push;

use std::path::PathBuf;

use ketch_spec::Reference;
use ketch_spec::image::Descriptor;
use serde::{Deserialize, Serialize};

pub use describe::{Described, describe};
pub use drafts::DraftError;
pub use push::{PushedList, push};

use self::drafts::Drafts;
use super::RegistryAccess;
use crate::{Error, ErrorKind, Result};

/// A manifest of a list, or one that is inspected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// Version of the record.
    pub version: u32,
    /// Where it is.
    #[serde(rename = "Ref")]
    pub reference: Reference,
    /// Digest, size and media type, and the platform that the list will say.
    pub descriptor: Descriptor,
    /// The exact document.
    pub raw: String,
}

/// What `annotate` sets; None leaves what is there.
#[derive(Debug, Clone, Default)]
pub struct Annotation {
    /// `linux`.
    pub os: Option<String>,
    /// `amd64`.
    pub architecture: Option<String>,
    /// `v7`.
    pub variant: Option<String>,
    /// Version of the operating system.
    pub os_version: Option<String>,
    /// Features of the operating system, added to those that are there.
    pub os_features: Vec<String>,
}

/// What an inspection found.
#[derive(Debug, Clone, PartialEq)]
pub enum Inspected {
    /// One manifest.
    Manifest(Box<Entry>),
    /// A list: the document as it is or will be, and its manifests.
    List {
        /// The document.
        document: String,
        /// Each manifest of it, as far as somebody asked for them.
        entries: Vec<Entry>,
    },
}

/// The lists of a client.
#[derive(Debug, Clone)]
pub struct Lists {
    access: RegistryAccess,
    drafts: Drafts,
}

impl Lists {
    /// The lists in a directory, which need not exist yet.
    pub fn new(access: RegistryAccess, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            access,
            drafts: Drafts { directory },
        }
    }

    /// Makes a list of images at registries. With `amend` it adds to a list that is there.
    ///
    /// # Errors
    /// `Conflict` for a list that is there without `amend`; `Invalid` for what is itself a list; the registries'.
    pub fn create(&self, list: &Reference, images: &[Reference], amend: bool) -> Result<()> {
        if self.drafts.read(list)?.is_some() && !amend {
            return Err(Error::new(
                ErrorKind::Conflict,
                "refusing to amend an existing manifest list with no --amend flag",
            ));
        }
        // All of them before the first is kept: half a list helps nobody.
        let entries: Vec<Entry> = images
            .iter()
            .map(|image| describe::fetch(&self.access, image))
            .collect::<Result<_>>()?;
        for entry in &entries {
            self.drafts.write(list, entry)?;
        }
        Ok(())
    }

    /// Says what a list will say about one of its images; an image that is not in it yet is added.
    ///
    /// # Errors
    /// `NotFound` for a list that is not there, `Invalid` for a platform that is none.
    pub fn annotate(
        &self,
        list: &Reference,
        image: &Reference,
        annotation: &Annotation,
    ) -> Result<()> {
        let entries = self.drafts.read(list)?.ok_or_else(|| no_such_list(list))?;
        let mut entry = entries
            .into_iter()
            .find(|entry| entry.reference == *image)
            .ok_or_else(|| not_in_list(list, image))?;
        describe::annotate(&mut entry, annotation)?;
        Ok(self.drafts.write(list, &entry)?)
    }

    /// An image of a list that is here.
    ///
    /// # Errors
    /// `NotFound` for a list or an image that is not there.
    pub fn inspect_in(&self, list: &Reference, image: &Reference) -> Result<Inspected> {
        let entries = self.drafts.read(list)?.ok_or_else(|| no_such_list(list))?;
        let entry = entries
            .into_iter()
            .find(|entry| entry.reference == *image)
            .ok_or_else(|| not_in_list(list, image))?;
        Ok(Inspected::Manifest(Box::new(entry)))
    }

    /// A list that is here, or what a registry has under the name. `all` fetches each manifest of a list, too.
    ///
    /// # Errors
    /// The registry's.
    pub fn inspect(&self, name: &Reference, all: bool) -> Result<Inspected> {
        if let Some(entries) = self.drafts.read(name)? {
            let document = push::document(&entries)?;
            return Ok(Inspected::List { document, entries });
        }
        describe::inspect(&self.access, name, all)
    }

    /// Forgets lists.
    ///
    /// # Errors
    /// `NotFound` for one that is not there; the others are gone then.
    pub fn remove(&self, lists: &[Reference]) -> Result<()> {
        let mut missing = None;
        for list in lists {
            if !self.drafts.remove(list)? {
                missing.get_or_insert_with(|| no_such_list(list));
            }
        }
        missing.map_or(Ok(()), Err)
    }
}

fn no_such_list(list: &Reference) -> Error {
    Error::new(ErrorKind::NotFound, format!("No such manifest: {list}"))
        .hint("`ketch manifest create` makes one")
}

fn not_in_list(list: &Reference, image: &Reference) -> Error {
    let message = format!(
        "manifest for image {} does not exist in {}",
        image.familiar(),
        list.familiar()
    );
    Error::new(ErrorKind::NotFound, message)
}
