//! Compressions of layers and of whole archives, told by their first bytes, as Docker does; media types are often wrong.

use std::io::{self, BufRead, Read};

use crate::zstandard::{Frames, Whose};
use crate::{Error, Result};

/// How many first bytes tell.
pub(crate) const MAGIC_BYTES: usize = 6;

/// A compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// RFC 1952, several members too.
    Gzip,
    /// RFC 8878, several frames too.
    Zstd,
}

impl Compression {
    /// What the first bytes of a stream (six are enough) say.
    ///
    /// # Errors
    /// [`Error::Decompress`] for compressions that are known but not supported.
    pub fn detect(first: &[u8]) -> Result<Self> {
        let unsupported = |compression| {
            let source = io::Error::new(
                io::ErrorKind::Unsupported,
                "this compression is not supported: use gzip or zstd",
            );
            Err(Error::Decompress {
                compression,
                source,
            })
        };
        match first {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::Zstd),
            // A frame to be skipped can come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => unsupported("xz"),
            [b'B', b'Z', b'h', ..] => unsupported("bzip2"),
            _ => Ok(Self::None),
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// Media type of a layer compressed this way.
    pub fn layer_media_type(self) -> &'static str {
        use ketch_spec::image::media_type;
        match self {
            Self::None => media_type::LAYER,
            Self::Gzip => media_type::LAYER_GZIP,
            Self::Zstd => media_type::LAYER_ZSTD,
        }
    }
}

/// A stream with its compression taken off.
pub enum Decoder<R: BufRead> {
    /// As it is.
    Plain(R),
    /// Gzip.
    Gzip(Box<flate2::bufread::MultiGzDecoder<R>>),
    /// Zstd.
    Zstd(Box<Frames<R>>),
}

impl<R: BufRead> Decoder<R> {
    /// Takes `compression` off `source`.
    ///
    /// # Errors
    /// No memory for the decompressor.
    pub fn new(compression: Compression, source: R) -> Result<Self> {
        Self::of(compression, source, Whose::Layer)
    }

    fn of(compression: Compression, source: R, whose: Whose) -> Result<Self> {
        Ok(match compression {
            Compression::None => Self::Plain(source),
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source))),
            Compression::Zstd => {
                let failed = |source| Error::Decompress {
                    compression: "zstd",
                    source,
                };
                Self::Zstd(Box::new(Frames::new(source, whose).map_err(failed)?))
            }
        })
    }

    /// Takes off a whole archive whatever its first bytes say. What is in it may be compressed again.
    ///
    /// # Errors
    /// The stream's; a compression that is not supported.
    pub fn detect(mut source: R) -> Result<Self> {
        let first = loop {
            match source.fill_buf() {
                Ok(first) => break first,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(crate::tar::TarError::Read { source }.into()),
            }
        };
        let compression = Compression::detect(&first[..first.len().min(MAGIC_BYTES)])?;
        Self::of(compression, source, Whose::Archive)
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(source) => source.read(buffer),
            Self::Zstd(source) => source.read(buffer),
        }
    }
}

impl<R: BufRead> std::fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Decoder::Plain",
            Self::Gzip(_) => "Decoder::Gzip",
            Self::Zstd(_) => "Decoder::Zstd",
        })
    }
}
