//! A repository at its registry: several of its images through one client, which keeps connections and tokens.

use ketch_registry::Client;
use ketch_spec::{Platform, Reference};

use super::pull::pull_with;
use super::push::push_with;
use super::remote::pull_error;
use super::{ImageError, PullObserver, Pulled, Pushed};
use crate::{Engine, Error, ErrorKind, Result};

/// A repository at its registry. Opening it connects to nothing yet.
pub struct Repository<'a> {
    engine: &'a Engine,
    client: Client,
    name: Reference,
}

impl<'a> Repository<'a> {
    /// The repository of a reference.
    ///
    /// # Errors
    /// `Invalid` for registry settings that cannot be used.
    pub fn open(engine: &'a Engine, name: &Reference) -> Result<Self> {
        Ok(Self {
            engine,
            client: engine.registries().client_for(name)?,
            name: name.clone(),
        })
    }

    /// Every tag that the registry has, in its order.
    ///
    /// # Errors
    /// `NotFound` for a repository that is not there or not for us, `Unavailable` for a registry that cannot be reached.
    pub fn tags(&self) -> Result<Vec<Reference>> {
        let tags = self
            .client
            .tags(&self.name)
            .map_err(|error| pull_error(&self.name, &error))?;
        if tags.is_empty() {
            let message = format!("{} has no tags", self.name.familiar_name());
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        Ok(tags.into_iter().map(|tag| self.tagged(tag)).collect())
    }

    /// Every tag of the repository that is here, in order.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    pub fn local_tags(&self) -> Result<Vec<Reference>> {
        let records = self.engine.store().images().map_err(ImageError::from)?;
        let mut found: Vec<Reference> = records
            .into_iter()
            .filter_map(|record| record.reference)
            .filter(|name| name.host == self.name.host && name.repository == self.name.repository)
            .filter(|name| name.tag.is_some() && name.digest.is_none())
            .collect();
        found.sort();
        found.dedup();
        if found.is_empty() {
            let message = format!(
                "An image does not exist locally with the tag: {}",
                self.name.familiar_name()
            );
            return Err(Error::new(ErrorKind::NotFound, message)
                .hint("`ketch images` lists the names, `ketch tag` makes one"));
        }
        Ok(found)
    }

    /// As [`super::pull`], for an image of this repository.
    ///
    /// # Errors
    /// As [`super::pull`].
    pub fn pull(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        observer: &dyn PullObserver,
    ) -> Result<Pulled> {
        let client = self.client.clone();
        pull_with(self.engine, client, reference, platform, observer)
    }

    /// As [`super::push`], for an image of this repository.
    ///
    /// # Errors
    /// As [`super::push`].
    pub fn push(
        &self,
        reference: &Reference,
        platform: Option<&Platform>,
        observer: &dyn PullObserver,
    ) -> Result<Pushed> {
        let client = self.client.clone();
        push_with(self.engine, client, reference, platform, observer)
    }

    fn tagged(&self, tag: String) -> Reference {
        Reference {
            tag: Some(tag),
            digest: None,
            ..self.name.clone()
        }
    }
}
