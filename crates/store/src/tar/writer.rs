//! Writing an archive: ustar headers, with a PAX header in front where one field does not fit.

use std::io::{self, Read, Write};

use super::header::{self, Header};
use super::{BLOCK_BYTES, Entry, Kind, TarError, Time, pax};

/// An archive being written. [`Writer::finish`] ends it.
#[derive(Debug)]
pub struct Writer<W> {
    target: W,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(target: W) -> Self {
        Self { target, bytes: 0 }
    }

    /// Appends an entry without data.
    ///
    /// # Errors
    /// The target's.
    pub fn append(&mut self, entry: &Entry) -> Result<(), TarError> {
        self.append_file(entry, io::empty())
    }

    /// Appends an entry with its data: exactly `entry.size` bytes are written for a file, whatever the source has; what
    /// it lacks is filled with zeros (a file that shrinks while it is read).
    ///
    /// # Errors
    /// The source's and the target's.
    pub fn append_file(&mut self, entry: &Entry, source: impl Read) -> Result<(), TarError> {
        self.write_headers(entry)?;
        if entry.kind == Kind::File {
            self.copy(source, entry.size)?;
            self.pad(entry.size)?;
        }
        Ok(())
    }

    /// Writes the two blocks of zeros that end an archive, and returns the target and how many bytes were written.
    ///
    /// # Errors
    /// The target's.
    pub fn finish(mut self) -> Result<(W, u64), TarError> {
        self.write(&[0; 2 * BLOCK_BYTES])?;
        self.target
            .flush()
            .map_err(|source| TarError::Write { source })?;
        Ok((self.target, self.bytes))
    }

    fn write_headers(&mut self, entry: &Entry) -> Result<(), TarError> {
        let size = if entry.kind == Kind::File {
            entry.size
        } else {
            0
        };
        let mut path = entry.path.clone();
        if entry.kind == Kind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let main = Header {
            mode: entry.mode,
            uid: entry.uid.into(),
            gid: entry.gid.into(),
            size,
            mtime: entry.mtime.seconds,
            kind: kind_byte(entry.kind),
            link: entry.link.clone(),
            major: entry.major,
            minor: entry.minor,
            path,
        };
        let records = extended_records(&main, entry);
        if !records.is_empty() {
            let extended = Header {
                path: b"PaxHeaders/entry".to_vec(),
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: records.len() as u64,
                mtime: 0,
                kind: b'x',
                link: Vec::new(),
                major: 0,
                minor: 0,
            };
            self.write(&header::build(&extended))?;
            self.write(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.write(&header::build(&main))
    }

    fn copy(&mut self, mut source: impl Read, size: u64) -> Result<(), TarError> {
        let mut buffer = vec![0u8; usize::try_from(size).unwrap_or(usize::MAX).min(1 << 17)];
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            let count = match source.read(&mut buffer[..want]) {
                Ok(0) => {
                    buffer[..want].fill(0);
                    want
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TarError::Read { source }),
            };
            self.write(&buffer[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<(), TarError> {
        let padding = size.next_multiple_of(BLOCK_BYTES as u64) - size;
        self.write(&[0; BLOCK_BYTES][..usize::try_from(padding).unwrap_or(0)])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.target
            .write_all(bytes)
            .map_err(|source| TarError::Write { source })?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// The body of the PAX header: what ustar cannot say of this entry.
fn extended_records(main: &Header, entry: &Entry) -> Vec<u8> {
    let mut body = Vec::new();
    if main.path.len() > 100 && header::split_at(&main.path).is_none() {
        pax::append(&mut body, b"path", &main.path);
    }
    if main.link.len() > 100 {
        pax::append(&mut body, b"linkpath", &main.link);
    }
    if main.size > header::MAX_LONG {
        pax::append(&mut body, b"size", main.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], main.uid), (b"gid", main.gid)] {
        if id > header::MAX_ID {
            pax::append(&mut body, key, id.to_string().as_bytes());
        }
    }
    let Time {
        seconds,
        nanoseconds,
    } = entry.mtime;
    if nanoseconds != 0 || !u64::try_from(seconds).is_ok_and(|s| s <= header::MAX_LONG) {
        pax::append(
            &mut body,
            b"mtime",
            pax::format_time(entry.mtime).as_bytes(),
        );
    }
    for (key, value) in &entry.xattrs {
        pax::append(&mut body, &[b"SCHILY.xattr.", &key[..]].concat(), value);
    }
    body
}

fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharacterDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}
