//! Reading an archive, entry by entry, from a stream.

use std::io::{self, BufRead, Read};

use super::fields::{Numbers, apply, check_names, is_known, kind_of};
use super::header::{self, Block, Header};
use super::pax::{self, Record, Records};
use super::sparse::{self, PaxSparse};
use super::{BLOCK_BYTES, Entry, Kind, Problem, Segment, TarError, Time, limit, shown};

/// An archive being read. Entries come with [`Reader::next_entry`]; an entry's data with [`Reader::copy_data`], at most
/// once and before the next entry.
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    /// Bytes of the archive that are behind us.
    offset: u64,
    /// Stored bytes of the current entry that are still ahead.
    data_left: u64,
    /// Filling behind them.
    padding: u64,
    /// Records of global extended headers.
    global: Vec<(Vec<u8>, Vec<u8>)>,
    /// The current entry's path, and the pieces of its data.
    current: (Vec<u8>, Vec<Segment>),
    ended: bool,
    /// The filling behind the last entry's data was whole and zeros.
    filled: bool,
}

/// Extended headers in front of one entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    /// Bodies of extended headers, whose grammar is right.
    bodies: Vec<Vec<u8>>,
    bytes: u64,
}

impl<R: BufRead> Reader<R> {
    /// Begins an archive.
    pub fn new(source: R) -> Self {
        Self {
            source,
            offset: 0,
            data_left: 0,
            padding: 0,
            global: Vec::new(),
            current: Default::default(),
            ended: false,
            filled: true,
        }
    }

    /// The next entry; None at the end of the archive, which two blocks of zeros mark, or the end of the stream.
    ///
    /// # Errors
    /// A damaged archive; the stream's.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        if self.ended {
            return Ok(None);
        }
        self.skip_data()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(block) = self.read_block()? else {
                self.ended = true;
                return Ok(None);
            };
            let start = self.offset - BLOCK_BYTES as u64;
            if header::is_zero(&block) {
                match self.read_block()? {
                    Some(second) if !header::is_zero(&second) => {
                        return Err(TarError::Header {
                            offset: start,
                            problem: Problem::Checksum,
                        });
                    }
                    _ => {
                        self.ended = true;
                        return Ok(None);
                    }
                }
            }
            let at = |problem| TarError::Header {
                offset: start,
                problem,
            };
            let header = header::parse(&block).map_err(at)?;
            match header.kind {
                b'L' => extensions.path = Some(self.long_name(&header, &mut extensions.bytes)?),
                b'K' => extensions.link = Some(self.long_name(&header, &mut extensions.bytes)?),
                b'x' | b'X' => {
                    let body = self.extension(&header, &mut extensions.bytes)?;
                    Records::new(&body).try_for_each(|record| record.map(drop).map_err(at))?;
                    extensions.bodies.push(body);
                }
                b'g' => {
                    let body = self.extension(&header, &mut extensions.bytes)?;
                    self.set_global(&body).map_err(at)?;
                }
                // A volume label: a name for people.
                b'V' => self
                    .begin_data(header.size)
                    .map_err(at)
                    .and_then(|()| self.skip_data())?,
                _ => return self.entry(&block, header, extensions).map(Some),
            }
        }
    }

    /// What header and extended headers say of an entry; what is global comes first and can be overruled.
    fn described(
        &self,
        header: &Header,
        extensions: Extensions,
    ) -> Result<(Entry, Numbers, PaxSparse), TarError> {
        let path = extensions.path.unwrap_or_else(|| header.path.clone());
        let mut entry = Entry::new(Kind::File, path);
        entry.link = extensions.link.unwrap_or_else(|| header.link.clone());
        entry.mode = header.mode & 0o7777;
        entry.mtime = Time {
            seconds: header.mtime,
            nanoseconds: 0,
        };
        (entry.major, entry.minor) = (header.major, header.minor);
        let mut numbers = Numbers {
            uid: header.uid,
            gid: header.gid,
            stored: header.size,
        };
        let mut sparse = PaxSparse::default();
        let global = self
            .global
            .iter()
            .map(|(key, value)| Ok(Record { key, value }));
        let own = extensions.bodies.iter().flat_map(|body| Records::new(body));
        for record in global.chain(own) {
            record
                .and_then(|record| apply(&mut entry, &mut numbers, &mut sparse, record))
                .map_err(|problem| TarError::Entry {
                    entry: entry.shown(),
                    problem,
                })?;
        }
        Ok((entry, numbers, sparse))
    }

    /// Puts everything that is known about an entry together.
    fn entry(
        &mut self,
        block: &Block,
        header: Header,
        extensions: Extensions,
    ) -> Result<Entry, TarError> {
        let old_sparse = header.kind == b'S';
        let (mut entry, numbers, mut sparse) = self.described(&header, extensions)?;
        if let Some(name) = sparse.name.take() {
            entry.path = name;
        }
        let path = entry.path.clone();
        let fail = |problem| TarError::Entry {
            entry: shown(&path),
            problem,
        };
        entry.uid =
            u32::try_from(numbers.uid).map_err(|_| fail(Problem::Range { field: "owner" }))?;
        entry.gid =
            u32::try_from(numbers.gid).map_err(|_| fail(Problem::Range { field: "group" }))?;
        let slash = entry.path.ends_with(b"/");
        entry.kind = kind_of(header.kind, slash).ok_or_else(|| fail(Problem::Type(header.kind)))?;
        check_names(&entry).map_err(fail)?;
        // Only files have data; what other types say about their size is noise (as Go's archive/tar treats it),
        // except for GNU's directory lists.
        let stored = if entry.kind == Kind::File || header.kind == b'D' {
            numbers.stored
        } else {
            0
        };
        self.begin_data(stored).map_err(fail)?;
        if entry.kind == Kind::File {
            entry.size = stored;
            if old_sparse {
                self.old_sparse(block, &mut entry)?;
            } else if sparse.present {
                self.pax_sparse(sparse, &mut entry)?;
            }
        }
        let whole = || {
            vec![Segment {
                offset: 0,
                length: entry.size,
            }]
        };
        self.current = (
            entry.path.clone(),
            entry.segments.clone().unwrap_or_else(whole),
        );
        Ok(entry)
    }

    fn old_sparse(&mut self, block: &Block, entry: &mut Entry) -> Result<(), TarError> {
        let shown = entry.shown();
        let fail = |problem| TarError::Entry {
            entry: shown.clone(),
            problem,
        };
        let mut segments = Vec::new();
        let (pieces, mut more, real_size) = header::gnu_sparse(block).map_err(fail)?;
        sparse::gnu_pieces(pieces, &mut segments).map_err(fail)?;
        while more {
            // These blocks are between header and data and not part of the size.
            let block = self.read_block()?.ok_or_else(|| TarError::Truncated {
                what: shown.clone(),
            })?;
            more = sparse::gnu_extension(&block, &mut segments).map_err(fail)?;
        }
        entry.segments = Some(sparse::check(segments, real_size, self.data_left).map_err(fail)?);
        entry.size = real_size;
        Ok(())
    }

    fn pax_sparse(&mut self, sparse: PaxSparse, entry: &mut Entry) -> Result<(), TarError> {
        let shown = entry.shown();
        let fail = |problem| TarError::Entry {
            entry: shown.clone(),
            problem,
        };
        let real_size = sparse.real_size.ok_or_else(|| fail(Problem::Sparse))?;
        let segments = if sparse.map_in_data {
            self.map_in_data(&shown)?
        } else {
            sparse.segments
        };
        entry.segments = Some(sparse::check(segments, real_size, self.data_left).map_err(fail)?);
        entry.size = real_size;
        Ok(())
    }

    /// Form 1.0: decimal numbers with a newline behind each (how many pieces, then offset and length of each), filled
    /// up to a whole block.
    fn map_in_data(&mut self, shown: &str) -> Result<Vec<Segment>, TarError> {
        let fail = |problem| TarError::Entry {
            entry: shown.to_owned(),
            problem,
        };
        let mut segments = Vec::new();
        let mut block: Block = [0; BLOCK_BYTES];
        let mut at = BLOCK_BYTES;
        let mut wanted: Option<u64> = None;
        let mut offset: Option<u64> = None;
        while wanted != Some(0) {
            let mut digits = Vec::new();
            loop {
                if at == BLOCK_BYTES {
                    if self.data_left < BLOCK_BYTES as u64 {
                        return Err(fail(Problem::Sparse));
                    }
                    block = self.read_block()?.ok_or_else(|| TarError::Truncated {
                        what: shown.to_owned(),
                    })?;
                    self.data_left -= BLOCK_BYTES as u64;
                    at = 0;
                }
                at += 1;
                match block[at - 1] {
                    b'\n' => break,
                    // No number that fits has more digits.
                    _ if digits.len() >= 20 => return Err(fail(Problem::Sparse)),
                    digit => digits.push(digit),
                }
            }
            let number = pax::decimal(&digits).ok_or_else(|| fail(Problem::Sparse))?;
            match (wanted, offset) {
                (None, _) => wanted = Some(number),
                (Some(_), None) => offset = Some(number),
                (Some(left), Some(begin)) => {
                    sparse::push(&mut segments, begin, number).map_err(fail)?;
                    (wanted, offset) = (Some(left - 1), None);
                }
            }
        }
        Ok(segments)
    }

    fn set_global(&mut self, body: &[u8]) -> Result<(), Problem> {
        for record in Records::new(body) {
            let Record { key, value } = record?;
            if !is_known(key) {
                continue;
            }
            self.global.retain(|(old, _)| old != key);
            if self.global.len() >= limit::GLOBAL_RECORDS {
                return Err(Problem::Many {
                    what: "records in global extended headers",
                    limit: limit::GLOBAL_RECORDS as u64,
                });
            }
            self.global.push((key.to_vec(), value.to_vec()));
        }
        let bytes: usize = self
            .global
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if bytes as u64 > limit::EXTENSION_BYTES {
            return Err(Problem::Long {
                field: "global extended header",
                limit: limit::EXTENSION_BYTES,
            });
        }
        Ok(())
    }

    /// GNU's long name: the data, up to a NUL.
    fn long_name(&mut self, header: &Header, total: &mut u64) -> Result<Vec<u8>, TarError> {
        let mut body = self.extension(header, total)?;
        if let Some(end) = body.iter().position(|byte| *byte == 0) {
            body.truncate(end);
        }
        Ok(body)
    }

    /// The data of an extended header, bounded.
    fn extension(&mut self, header: &Header, total: &mut u64) -> Result<Vec<u8>, TarError> {
        let offset = self.offset - BLOCK_BYTES as u64;
        *total = total.saturating_add(header.size);
        for (bytes, limit) in [
            (header.size, limit::EXTENSION_BYTES),
            (*total, limit::EXTENSIONS_BYTES),
        ] {
            if bytes > limit {
                let problem = Problem::Long {
                    field: "extended header",
                    limit,
                };
                return Err(TarError::Header { offset, problem });
            }
        }
        self.begin_data(header.size)
            .map_err(|problem| TarError::Header { offset, problem })?;
        let mut body = Vec::with_capacity(usize::try_from(header.size).unwrap_or(0));
        self.each_chunk(header.size, b"an extended header", |chunk| {
            body.extend_from_slice(chunk);
            Ok::<_, TarError>(())
        })?;
        self.skip_data()?;
        Ok(body)
    }

    fn begin_data(&mut self, size: u64) -> Result<(), Problem> {
        if i64::try_from(size).is_err() {
            return Err(Problem::Range { field: "size" });
        }
        self.data_left = size;
        self.padding = size.next_multiple_of(BLOCK_BYTES as u64) - size;
        Ok(())
    }

    /// Hands the data of the entry that [`Reader::next_entry`] returned last to `sink`, piece by piece, with the place of
    /// each in the file. Holes of a sparse file are left out.
    ///
    /// # Errors
    /// The stream's or the sink's; the archive ends too early.
    pub fn copy_data<E: From<TarError>>(
        &mut self,
        mut sink: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (path, segments) = std::mem::take(&mut self.current);
        for segment in segments {
            let mut at = segment.offset;
            self.each_chunk(segment.length.min(self.data_left), &path, |chunk| {
                sink(at, chunk)?;
                at += chunk.len() as u64;
                Ok::<_, E>(())
            })?;
        }
        Ok(())
    }

    /// The data of the entry that [`Reader::next_entry`] returned last, as a stream; of a sparse file only what is stored.
    pub fn data(&mut self) -> Data<'_, R> {
        Data { reader: self }
    }

    /// How many bytes of the archive are behind us. After [`Reader::next_entry`] it is where the entry's data begins,
    /// which is a multiple of [`BLOCK_BYTES`] whatever headers came before it.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Passes over what is left of the current entry, up to the next header. Says whether its last block is whole and
    /// filled up with zeros, as every archiver does it.
    ///
    /// # Errors
    /// The stream's; the archive ends too early.
    pub fn pass_data(&mut self) -> Result<bool, TarError> {
        self.filled = true;
        self.skip_data()?;
        Ok(self.filled)
    }

    /// Skips what is left of the current entry.
    fn skip_data(&mut self) -> Result<(), TarError> {
        let left = self.data_left;
        let path = std::mem::take(&mut self.current).0;
        self.each_chunk(left, &path, |_| Ok::<_, TarError>(()))?;
        let mut padding = std::mem::take(&mut self.padding);
        while padding > 0 {
            let buffer = self.fill()?;
            let count = buffer
                .len()
                .min(usize::try_from(padding).unwrap_or(usize::MAX));
            let zeros = buffer[..count].iter().all(|byte| *byte == 0);
            self.filled &= zeros && count > 0;
            if count == 0 {
                // The last block of a cut archive need not be whole.
                break;
            }
            self.consume(count);
            padding -= count as u64;
        }
        Ok(())
    }

    /// Hands the next `length` bytes of the data to `each`, as they lie in the buffer.
    fn each_chunk<E: From<TarError>>(
        &mut self,
        length: u64,
        what: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut left = length;
        while left > 0 {
            let buffer = self.fill()?;
            let count = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            if count == 0 {
                return Err(TarError::Truncated { what: shown(what) }.into());
            }
            each(&buffer[..count])?;
            self.consume(count);
            left -= count as u64;
            self.data_left -= count as u64;
        }
        Ok(())
    }

    /// One block; None at the end of the stream.
    fn read_block(&mut self) -> Result<Option<Block>, TarError> {
        let mut block: Block = [0; BLOCK_BYTES];
        let mut have = 0;
        while have < BLOCK_BYTES {
            let buffer = self.fill()?;
            let count = buffer.len().min(BLOCK_BYTES - have);
            if count == 0 {
                if have == 0 {
                    return Ok(None);
                }
                return Err(TarError::Truncated {
                    what: "a header".to_owned(),
                });
            }
            block[have..have + count].copy_from_slice(&buffer[..count]);
            self.consume(count);
            have += count;
        }
        Ok(Some(block))
    }

    fn fill(&mut self) -> Result<&[u8], TarError> {
        loop {
            match self.source.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { source }),
            }
        }
        // Asked again because the loop's borrow cannot leave it; it does no input.
        self.source
            .fill_buf()
            .map_err(|source| TarError::Read { source })
    }

    fn consume(&mut self, count: usize) {
        self.source.consume(count);
        self.offset += count as u64;
    }

    /// The stream behind the archive's end.
    pub fn into_inner(self) -> R {
        self.source
    }
}

/// An entry's data; see [`Reader::data`].
#[derive(Debug)]
pub struct Data<'a, R> {
    reader: &'a mut Reader<R>,
}

impl<R: BufRead> Read for Data<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.reader.data_left).unwrap_or(usize::MAX);
        let want = buffer.len().min(left);
        if want == 0 {
            return Ok(0);
        }
        let available = match self.reader.fill() {
            Err(TarError::Read { source }) => return Err(source),
            other => other.map_err(io::Error::other)?,
        };
        let count = available.len().min(want);
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer[..count].copy_from_slice(&available[..count]);
        self.reader.consume(count);
        self.reader.data_left -= count as u64;
        Ok(count)
    }
}
