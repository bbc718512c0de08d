//! Collection: what no image, container or cache record needs is removed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ketch_spec::Digest;
use ketch_spec::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use ketch_sys::fs as sysfs;

use crate::blob::MAX_DOCUMENT_BYTES;
use crate::{Draft, Error, ImageRecord, LayerForm, Result, Store, StoreLock, target};

/// How long a partial download is worth keeping after its last byte came.
const INGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// How deep indexes may nest.
const MAX_INDEX_DEPTH: usize = 8;

/// What others than image records need.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    /// Diff ids: of containers and build cache records.
    pub layers: BTreeSet<Digest>,
    /// Blobs: of build cache records.
    pub blobs: BTreeSet<Digest>,
}

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Freed {
    /// Blobs, by digest.
    pub blobs: Vec<Digest>,
    /// Layers, by diff id.
    pub layers: Vec<Digest>,
    /// What they held in bytes: blobs and archives by their size, images by their blocks, directories by the content of
    /// their files. A blob that is also a layer's archive counts when the last of them goes.
    pub bytes: u64,
}

/// What is reachable.
#[derive(Default)]
pub(crate) struct Reached {
    pub(crate) blobs: BTreeSet<Digest>,
    pub(crate) layers: BTreeSet<Digest>,
}

impl Store {
    /// Removes every blob and layer that neither an image record nor `roots` reaches, everything unfinished that nobody
    /// works on, and partial downloads that nobody continued for a day (at once, if the disk was full). The guard shows that nobody else is in the
    /// store: it must be an exclusive one ([`Store::lock_exclusive`]). It is let go as soon as nobody can find any of it
    /// any more; deleting the files, which can take long, is in nobody's way.
    ///
    /// # Errors
    /// A record cannot be read (nothing is removed then); something cannot be removed.
    pub fn collect(&self, roots: &Roots, exclusive: StoreLock) -> Result<Freed> {
        let reached = self.reach(&self.images()?, roots)?;
        let away = self.with_reserve(|| self.draft())?;
        let mut freed = Freed::default();
        let mut shared = Shared::default();
        for place in [self.settled("layers"), self.settling("layers")] {
            for (path, diff_id) in objects(&place)? {
                if !reached.layers.contains(&diff_id) {
                    freed.bytes += self.layer_bytes(&path, &diff_id, &mut shared);
                    self.move_away(&path, &away)?;
                    freed.layers.push(diff_id);
                }
            }
        }
        for place in [self.settled("blobs"), self.settling("blobs")] {
            for (path, digest) in objects(&place)? {
                if !reached.blobs.contains(&digest) {
                    freed.bytes += shared.bytes_of(&path);
                    self.move_away(&path, &away)?;
                    freed.blobs.push(digest);
                }
            }
        }
        self.collect_unfinished(&away)?;
        drop(exclusive);
        // A crash from here on leaves a draft without an owner, which the next collection removes.
        away.remove()?;
        self.keep_reserve();
        Ok(freed)
    }

    /// What goes with a layer.
    pub(crate) fn layer_bytes(&self, path: &Path, diff_id: &Digest, shared: &mut Shared) -> u64 {
        match self.layer(diff_id) {
            Ok(record) if record.form == LayerForm::Erofs => {
                let image = fs::metadata(path.join(target::IMAGE));
                shared.bytes_of(&path.join(target::TAR))
                    + image.map_or(0, |metadata| metadata.blocks() * 512)
            }
            Ok(record) => record.size_bytes,
            Err(_) => 0,
        }
    }

    /// Garbage of crashes: with the store held alone, what is in `work` has no owner (but for a draft, whose lock tells),
    /// and no other boot's settling directory can be trusted.
    fn collect_unfinished(&self, away: &Draft) -> Result<()> {
        for path in entries(&self.root().join("ingest/work"))? {
            if path != away.path() && !crate::draft::is_in_use(&path) {
                self.move_away(&path, away)?;
            }
        }
        // Whoever replaces a record holds their lock.
        let records = self.lock_records()?;
        for path in self.unfinished_records()? {
            self.move_away(&path, away)?;
        }
        drop(records);
        let ours = self.settling("blobs").parent().map(Path::to_path_buf);
        for path in entries(&self.root().join("ingest/settling"))? {
            if Some(&path) != ours.as_ref() {
                self.move_away(&path, away)?;
            }
        }
        for path in entries(&self.root().join("ingest/blobs"))? {
            let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
            let age = modified
                .ok()
                .and_then(|time| SystemTime::now().duration_since(time).ok());
            if age.is_some_and(|age| age > INGEST_GRACE) || self.is_short_of_room() {
                self.move_away(&path, away)?;
            }
        }
        Ok(())
    }

    /// Commit point of a removal: the object is not in its place any more.
    fn move_away(&self, path: &Path, away: &Draft) -> Result<()> {
        let to = away.path().join(sysfs::random_hex(8));
        self.with_reserve(|| fs::rename(path, &to).map_err(Error::io("rename", path)))
    }

    /// What was to become `index.json`, or is about to.
    fn unfinished_records(&self) -> Result<Vec<PathBuf>> {
        let mut paths = entries(&self.images_dir())?;
        paths.retain(|path| sysfs::is_temporary(path));
        Ok(paths)
    }

    /// Takes one document away, so that an index that names it has it no more; what only it needed goes with the next
    /// collection. The guard shows that nobody else is in the store: it must be an exclusive one. Returns whether it was
    /// here.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn forget(&self, digest: &Digest, _exclusive: &StoreLock) -> Result<bool> {
        for place in [self.settled("blobs"), self.settling("blobs")] {
            let path = place.join(digest.hex());
            match fs::remove_file(&path) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("unlink", path)(error)),
            }
        }
        Ok(false)
    }

    /// Whether something unfinished lies about that has no owner: what a killed process or an earlier boot left. Three
    /// or four directory listings; takes no lock, so what another process is about to fill can be taken for it.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub fn has_garbage(&self) -> Result<bool> {
        let work = entries(&self.root().join("ingest/work"))?;
        let boots = entries(&self.root().join("ingest/settling"))?;
        Ok(boots.len() > 1
            || work.iter().any(|path| !crate::draft::is_in_use(path))
            || !self.unfinished_records()?.is_empty())
    }

    /// What records and roots need.
    pub(crate) fn reach(&self, records: &[ImageRecord], roots: &Roots) -> Result<Reached> {
        let mut reached = Reached {
            blobs: roots.blobs.clone(),
            layers: roots.layers.clone(),
        };
        for record in records {
            self.reach_target(&record.target, &mut reached, 0)?;
        }
        Ok(reached)
    }

    /// Follows an index or manifest as far as its blobs are here.
    fn reach_target(&self, target: &Descriptor, reached: &mut Reached, depth: usize) -> Result<()> {
        if depth > MAX_INDEX_DEPTH
            || !reached.blobs.insert(target.digest.clone())
            || !self.has(&target.digest)
        {
            return Ok(());
        }
        match target.media_type.as_str() {
            media_type::INDEX | media_type::DOCKER_LIST => {
                let index: Index = self.document(&target.digest)?;
                for child in &index.manifests {
                    self.reach_target(child, reached, depth + 1)?;
                }
            }
            media_type::MANIFEST | media_type::DOCKER_MANIFEST => {
                let manifest: Manifest = self.document(&target.digest)?;
                reached
                    .blobs
                    .extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
                if reached.blobs.insert(manifest.config.digest.clone())
                    && self.has(&manifest.config.digest)
                {
                    // An artifact's config need not be an image config.
                    if let Ok(config) = self.document::<ImageConfig>(&manifest.config.digest) {
                        reached.layers.extend(config.rootfs.diff_ids);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads and parses an index, manifest or config.
    ///
    /// # Errors
    /// It is missing, too large or not of this shape.
    pub fn document<T: serde::de::DeserializeOwned>(&self, digest: &Digest) -> Result<T> {
        let bytes = self.read(digest, MAX_DOCUMENT_BYTES)?;
        ketch_spec::document::parse(&bytes).map_err(|source| Error::Json {
            what: format!("blob {digest}"),
            source,
        })
    }
}

/// Files that have more than one name, of which some were removed.
#[derive(Default)]
pub(crate) struct Shared(BTreeSet<(u64, u64)>);

impl Shared {
    /// The bytes that are free once this name of a file is gone too; none has more than two.
    pub(crate) fn bytes_of(&mut self, path: &Path) -> u64 {
        let Ok(metadata) = fs::metadata(path) else {
            return 0;
        };
        let is_last = metadata.nlink() < 2 || !self.0.insert((metadata.dev(), metadata.ino()));
        if is_last { metadata.len() } else { 0 }
    }
}

/// The objects in a place whose names are the hex digits of a digest.
pub(crate) fn objects(place: &Path) -> Result<Vec<(PathBuf, Digest)>> {
    let digest = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        format!("sha256:{name}").parse().ok()
    };
    Ok(entries(place)?
        .into_iter()
        .filter_map(|path| digest(&path).map(|digest| (path, digest)))
        .collect())
}

/// The paths in a directory, sorted; none if it is not there.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("readdir", directory)(error)),
    };
    let mut paths = Vec::new();
    for entry in listing {
        paths.push(entry.map_err(Error::io("readdir", directory))?.path());
    }
    paths.sort();
    Ok(paths)
}
