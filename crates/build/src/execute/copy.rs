//! COPY, ADD and WORKDIR.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ketch_engine::container::user;
use ketch_engine::layer::{self, ArchiveRoot, LayerView, cache_put};
use ketch_spec::Digest;
use ketch_spec::image::Descriptor;

use super::{Missing, Root, StepError, StepResult, Worker, key};
use crate::copy::{self, Destination, Owner};
use crate::plan::{CopyStep, Origin};
use crate::progress::Vertex;
use crate::source::{self, Kind, Request, Selection, SourceError, SourceRoot, StatCache};

/// How much of a file tells whether it is an archive.
const HEAD_BYTES: usize = 64 << 10;

/// A tree to read from, held open.
pub enum Opened<'a> {
    /// A context.
    Context(&'a SourceRoot),
    /// A mounted stage or image.
    Mounted {
        /// Its files.
        root: SourceRoot,
        /// Keeps the mount.
        _view: LayerView,
    },
}

impl Opened<'_> {
    /// The tree.
    pub fn get(&self) -> &SourceRoot {
        match self {
            Self::Context(root) => root,
            Self::Mounted { root, .. } => root,
        }
    }
}

impl<'a> Worker<'a> {
    /// Opens an origin for reading. Scratch has no files.
    pub fn open_origin(&self, origin: &Origin) -> Result<(Opened<'a>, &'a StatCache), StepError> {
        match origin {
            Origin::Context => {
                let root = self
                    .execution
                    .context
                    .root
                    .as_ref()
                    .ok_or(StepError::Missing(Missing::Context))?;
                Ok((Opened::Context(root), &self.execution.context.stamps))
            }
            Origin::Directory(path) => {
                let missing = || StepError::Missing(Missing::Context);
                let (root, stamps) = self.execution.named.get(path).ok_or_else(missing)?;
                Ok((Opened::Context(root), stamps))
            }
            Origin::Stage(_) | Origin::Image(_) | Origin::Scratch => {
                let layers = self.root_of(origin)?;
                let view = LayerView::open(self.execution.engine, &layers.layers)?;
                let root = SourceRoot::root(own(view.root())?);
                // Files of layers are never changed, but another layer may put another file in their place.
                Ok((
                    Opened::Mounted { root, _view: view },
                    NO_STAMPS.get_or_init(StatCache::none),
                ))
            }
        }
    }

    pub(super) fn copy_step(
        &self,
        copy: &CopyStep,
        root: &Root,
        vertex: &Vertex<'_>,
    ) -> Result<StepResult, StepError> {
        // Layers say what is in a stage without looking at it: with them in the key nothing has to be mounted.
        let by_layers = match &copy.from {
            Origin::Stage(_) | Origin::Image(_) => {
                let from = self.root_of(&copy.from)?;
                let mut key = key::step("copy from layers", root);
                key::copy(&mut key, copy);
                key.list(from.layers.iter().map(Digest::as_str))
                    .list(&copy.sources)
                    .list(&copy.excludes);
                Some(key.finish())
            }
            _ => None,
        };
        if let Some(key) = &by_layers
            && let Some(record) = self.known(key)?
        {
            return Ok(self.cached(record, vertex));
        }
        let request = Request {
            sources: copy.sources.clone(),
            excludes: copy.excludes.clone(),
            parents: copy.parents,
        };
        let (opened, selections, content) = if copy.sources.is_empty() {
            (None, Vec::new(), None)
        } else {
            let (opened, stamps) = self.open_origin(&copy.from)?;
            let selections = opened.get().select(&request)?;
            let content = source::digest(opened.get(), &selections, stamps)?;
            (Some(opened), selections, Some(content))
        };
        let mut by_content = key::step("copy", root);
        key::copy(&mut by_content, copy);
        by_content.optional(content.as_ref().map(Digest::as_str));
        let by_content = by_content.finish();
        if let Some(record) = self.known(&by_content)? {
            if let Some(key) = &by_layers {
                cache_put(self.execution.engine, key, &record)?;
            }
            return Ok(self.cached(record, vertex));
        }
        let keys: Vec<Digest> = std::iter::once(by_content).chain(by_layers).collect();
        self.made(&keys, vertex, || {
            self.copy_files(copy, opened.as_ref(), &selections, root)
                .map(Some)
        })
    }

    fn copy_files(
        &self,
        step: &CopyStep,
        opened: Option<&Opened<'_>>,
        selections: &[Selection],
        root: &Root,
    ) -> Result<Descriptor, StepError> {
        let draft = self.draft(root)?;
        let owner = step
            .chown
            .as_deref()
            .map(|text| owner(draft.root(), text))
            .transpose()?;
        let destination = Destination {
            path: step.destination.clone(),
            is_directory: step.is_directory,
            owner,
            mode: step.chmod.clone(),
            parents: step.parents,
        };
        if let Some(opened) = opened {
            let (archives, plain) = self.archives(step, opened.get(), selections)?;
            copy::copy(opened.get(), &plain, draft.root(), &destination)?;
            for archive in archives {
                self.unpack(&archive, draft.root(), &destination)?;
            }
        }
        let many = selections.len() + step.inline.len() > 1;
        for (name, content) in &step.inline {
            copy::inline(draft.root(), &destination, name, content.as_bytes(), many)?;
        }
        Ok(draft.commit()?)
    }

    /// Which selections of an ADD are archives, unpacked, and which are not.
    fn archives(
        &self,
        step: &CopyStep,
        source: &SourceRoot,
        selections: &[Selection],
    ) -> Result<(Vec<ArchiveRoot>, Vec<Selection>), StepError> {
        let mut archives = Vec::new();
        let mut plain = Vec::new();
        for selection in selections {
            if !step.unpack || selection.top.kind != Kind::File {
                plain.push(selection.clone());
                continue;
            }
            let file = source.open_entry(&selection.top)?;
            if layer::is_archive(
                &head(&file)
                    .map_err(|errno| SourceError::io("pread", &selection.top.path, errno))?,
            )? {
                archives.push(ArchiveRoot::unpack(
                    self.execution.engine,
                    std::fs::File::from(file),
                )?);
            } else {
                plain.push(selection.clone());
            }
        }
        Ok((archives, plain))
    }

    /// Copies an unpacked archive: its owners and modes stay.
    fn unpack(
        &self,
        archive: &ArchiveRoot,
        root: BorrowedFd<'_>,
        destination: &Destination,
    ) -> Result<(), StepError> {
        let source = SourceRoot::root(own(archive.directory())?);
        let selections = source.select(&Request {
            sources: vec!["/".into()],
            ..Request::default()
        })?;
        let destination = Destination {
            is_directory: true,
            parents: false,
            ..destination.clone()
        };
        Ok(copy::copy(&source, &selections, root, &destination)?)
    }

    pub(super) fn work_directory(
        &self,
        path: &str,
        user: &str,
        root: &Root,
    ) -> Result<Option<Descriptor>, StepError> {
        let draft = self.draft(root)?;
        if copy::existing_directory(draft.root(), path.as_ref())?.is_some() {
            return Ok(None);
        }
        let owner = if user.is_empty() {
            (0, 0)
        } else {
            owner(draft.root(), user)?
        };
        copy::make_directories(draft.root(), path.as_ref(), owner)?;
        Ok(Some(draft.commit()?))
    }
}

static NO_STAMPS: std::sync::OnceLock<StatCache> = std::sync::OnceLock::new();

fn own(directory: BorrowedFd<'_>) -> Result<OwnedFd, StepError> {
    directory
        .try_clone_to_owned()
        .map_err(|error| StepError::Io {
            call: "fcntl",
            path: ".".into(),
            error,
        })
}

fn head(file: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD_BYTES];
    let mut filled = 0;
    while filled < head.len() {
        match rustix::io::pread(file.as_fd(), &mut head[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    head.truncate(filled);
    Ok(head)
}

/// `user[:group]` in numbers. A number alone is also the group's.
fn owner(root: BorrowedFd<'_>, text: &str) -> Result<Owner, StepError> {
    let (name, group) = text.split_once(':').unwrap_or((text, ""));
    let resolved = user::resolve(root, text, &[])
        .map_err(|error| StepError::Missing(Missing::Owner(error)))?;
    let number = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty();
    if number && group.is_empty() {
        return Ok((resolved.uid, resolved.uid));
    }
    Ok((resolved.uid, resolved.gid))
}
