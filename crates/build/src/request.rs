//! What a caller asks of a build, and what it gets.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;

use ketch_spec::{Digest, Platform, Reference};

/// A build to make.
#[derive(Debug, Default)]
pub struct BuildRequest {
    /// Where COPY and ADD read from.
    pub context: Context,
    /// Where the Dockerfile is.
    pub dockerfile: DockerfileSource,
    /// Names for the image.
    pub tags: Vec<Reference>,
    /// `--build-arg`: values the caller has already looked up; a name without a value in the caller's environment is
    /// left out of the map.
    pub args: BTreeMap<String, String>,
    /// `--target`: a stage's name or number; None means the last stage.
    pub target: Option<String>,
    /// `--no-cache`: run every step of the target's stages anew; results are recorded all the same.
    pub no_cache: bool,
    /// `--pull`: ask the registry for every base image even if it is here.
    pub pull: bool,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
    /// `--network`: what RUN steps have unless they say otherwise.
    pub network: StepNetwork,
    /// `--platform`: only the host's own can be built; anything else is refused. None means the host's.
    pub platform: Option<Platform>,
    /// `--add-host`, `name:address`.
    pub extra_hosts: Vec<String>,
    /// `--shm-size` of RUN steps, in bytes.
    pub shm_size_bytes: Option<u64>,
    /// `--build-context`: names that FROM and `--from` may use.
    pub named_contexts: BTreeMap<String, NamedContext>,
    /// `--secret`: for `RUN --mount=type=secret`.
    pub secrets: BTreeMap<String, Secret>,
}

/// Where COPY and ADD read from.
#[derive(Default)]
pub enum Context {
    /// Nothing: the Dockerfile alone came on standard input.
    #[default]
    Empty,
    /// A directory.
    Directory(PathBuf),
    /// A tar archive, plain or compressed with gzip or zstd, which also holds the Dockerfile.
    Archive(Box<dyn Read + Send>),
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Directory(path) => f.debug_tuple("Directory").field(path).finish(),
            Self::Archive(_) => f.write_str("Archive"),
        }
    }
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, Default)]
pub enum DockerfileSource {
    /// `Dockerfile` (or `dockerfile`) at the context's root.
    #[default]
    Default,
    /// `-f`: a path of the host, absolute or relative to the working directory; for [`Context::Archive`], a path
    /// inside the archive.
    Path(PathBuf),
    /// The text itself, from standard input or a compose file.
    Text(String),
}

/// A `--build-context`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of the host.
    Directory(PathBuf),
    /// `docker-image://…`.
    Image(String),
}

/// A secret that RUN may mount. Never in a key, a record or the image.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Which network a RUN step has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StepNetwork {
    /// The default bridge.
    #[default]
    Default,
    /// Loopback only.
    None,
    /// The host's.
    Host,
}

/// A finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The image id: the digest of the image config.
    pub image_id: Digest,
    /// The names it was given.
    pub tags: Vec<Reference>,
    /// How many steps ran.
    pub ran: usize,
    /// How many steps came from the cache.
    pub cached: usize,
}
