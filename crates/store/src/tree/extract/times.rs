//! Times of directories, which are set when nothing is made in them any more. There may be millions, with long paths:
//! what does not fit into memory is on disk.

use std::io;
use std::sync::Arc;

use crate::spill::{Backing, Merge, Sorter};
use crate::tar::Time;
use crate::tree::path::Clean;

/// How many directories whose times wait one archive can have.
pub(super) const MAX_DIRECTORIES: u64 = 4 << 20;
/// Bytes of their paths together.
pub(super) const MAX_PATH_BYTES: u64 = 1 << 30;

/// In front of the path in a record.
const TIME_BYTES: usize = 12;
/// What a record by path says.
const FORGET: u8 = 0;
const SET: u8 = 1;

/// Times by the order in which they came, and what has been removed since.
#[derive(Debug)]
pub(super) struct Times {
    backing: Arc<Backing>,
    /// Time and path by number.
    set: Sorter,
    /// Paths of what was removed, each with the number of when.
    forgotten: Option<Sorter>,
    number: u64,
    path_bytes: u64,
}

/// More than there may be.
#[derive(Debug)]
pub(super) enum Refused {
    Many,
    Long,
    Disk(io::Error),
}

impl Times {
    pub fn new(backing: Arc<Backing>) -> Self {
        Self {
            set: Sorter::new(&backing),
            forgotten: None,
            number: 0,
            path_bytes: 0,
            backing,
        }
    }

    fn count(&mut self, path: &Clean) -> Result<u64, Refused> {
        self.number += 1;
        self.path_bytes += path.as_bytes().len() as u64;
        if self.number > MAX_DIRECTORIES {
            return Err(Refused::Many);
        }
        if self.path_bytes > MAX_PATH_BYTES {
            return Err(Refused::Long);
        }
        Ok(self.number)
    }

    /// The directory at `path` is to have this time.
    pub fn remember(&mut self, path: &Clean, time: Time) -> Result<(), Refused> {
        let number = self.count(path)?;
        let mut record = Vec::with_capacity(TIME_BYTES + path.as_bytes().len());
        record.extend_from_slice(&time.seconds.to_le_bytes());
        record.extend_from_slice(&time.nanoseconds.to_le_bytes());
        record.extend_from_slice(path.as_bytes());
        self.set
            .push(&number.to_be_bytes(), &record)
            .map_err(Refused::Disk)
    }

    /// What was at `path`, and below it, is gone.
    pub fn forget(&mut self, path: &Clean) -> Result<(), Refused> {
        let number = self.count(path)?;
        let backing = &self.backing;
        self.forgotten
            .get_or_insert_with(|| Sorter::new(backing))
            .push(
                &key(path.as_bytes()),
                &[&number.to_be_bytes()[..], &[FORGET]].concat(),
            )
            .map_err(Refused::Disk)
    }

    /// All that still count, in the order in which they came.
    pub fn finish(self) -> io::Result<Remembered> {
        let set = self.set.finish()?;
        let merge = match self.forgotten {
            None => set,
            Some(forgotten) => without(set, forgotten, &self.backing)?,
        };
        Ok(Remembered { merge })
    }
}

/// A path that sorts behind the directory it is in, and before everything that is not.
fn key(path: &[u8]) -> Vec<u8> {
    path.iter()
        .map(|byte| if *byte == b'/' { 0 } else { *byte })
        .collect()
}

/// Leaves out what was set before it, or something that it is in, was removed.
fn without(mut set: Merge, mut by_path: Sorter, backing: &Arc<Backing>) -> io::Result<Merge> {
    while let Some((number, record)) = set.next()? {
        let path = key(record.get(TIME_BYTES..).unwrap_or_default());
        by_path.push(&path, &[&number[..], &[SET], &record].concat())?;
    }
    let mut by_path = by_path.finish()?;
    let mut kept = Sorter::new(backing);
    // The directories that the last path is in, and it itself: lengths of their paths, and when they were last removed.
    let mut above: Vec<(usize, u64)> = Vec::new();
    let mut last: Vec<u8> = Vec::new();
    let mut waiting: Vec<(u64, Vec<u8>)> = Vec::new();
    loop {
        let next = by_path.next()?;
        if next.as_ref().is_none_or(|(path, _)| *path != last) {
            // Nothing more is said of the last path.
            let removed = above.last().map_or(0, |(_, removed)| *removed);
            for (number, record) in waiting.drain(..).filter(|(number, _)| *number > removed) {
                kept.push(&number.to_be_bytes(), &record)?;
            }
        }
        let Some((path, value)) = next else {
            return kept.finish();
        };
        let (Some((number, rest)), true) = (value.split_first_chunk::<8>(), value.len() > 8) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let number = u64::from_be_bytes(*number);
        if path != last || above.is_empty() {
            let is_in = |length: usize| {
                length == 0
                    || path.get(..length) == last.get(..length)
                        && path.get(length).is_none_or(|byte| *byte == 0)
            };
            while above.last().is_some_and(|(length, _)| !is_in(*length)) {
                above.pop();
            }
            let inherited = above.last().map_or(0, |(_, removed)| *removed);
            above.push((path.len(), inherited));
            last = path;
        }
        match rest[0] {
            FORGET => above
                .iter_mut()
                .last()
                .into_iter()
                .for_each(|top| top.1 = top.1.max(number)),
            // Of one path only the last counts.
            _ => waiting = vec![(number, rest[1..].to_vec())],
        }
    }
}

/// What [`Times`] come to.
#[derive(Debug)]
pub(super) struct Remembered {
    merge: Merge,
}

impl Remembered {
    /// The next path and its time.
    pub fn next(&mut self) -> io::Result<Option<(Vec<u8>, Time)>> {
        let Some((_, record)) = self.merge.next()? else {
            return Ok(None);
        };
        let (Some((seconds, rest)), Some(nanoseconds)) = (
            record.split_first_chunk::<8>(),
            record.get(8..).and_then(|rest| rest.first_chunk::<4>()),
        ) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let time = Time {
            seconds: i64::from_le_bytes(*seconds),
            nanoseconds: u32::from_le_bytes(*nanoseconds),
        };
        Ok(Some((rest[4..].to_vec(), time)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_has_no_time() {
        let times = |steps: &[(&str, i64)]| {
            let backing = Backing::behind(tempfile::tempfile().unwrap(), 0);
            let mut times = Times::new(Arc::new(backing));
            for (path, seconds) in steps {
                let path = Clean::new(path.as_bytes()).unwrap();
                let time = Time {
                    seconds: *seconds,
                    nanoseconds: 7,
                };
                match seconds {
                    0 => times.forget(&path).unwrap(),
                    _ => times.remember(&path, time).unwrap(),
                }
            }
            let mut found = Vec::new();
            let mut left = times.finish().unwrap();
            while let Some((path, time)) = left.next().unwrap() {
                found.push((String::from_utf8(path).unwrap(), time.seconds));
            }
            found
        };
        let owned = |all: &[(&str, i64)]| -> Vec<(String, i64)> {
            all.iter()
                .map(|(path, time)| ((*path).into(), *time))
                .collect()
        };
        let steps = [("b", 1), ("a/b", 2), ("", 3), ("a", 4), ("b", 5)];
        assert_eq!(times(&steps), owned(&steps));
        let removed = [
            ("a", 1),
            ("a/b", 2),
            ("a/b/c", 3),
            ("a!", 4),
            ("ab", 5),
            ("a", 0),
            ("a/b/c", 6),
            ("a/b", 0),
            ("a/d", 7),
            ("x/y", 8),
        ];
        assert_eq!(
            times(&removed),
            owned(&[("a!", 4), ("ab", 5), ("a/d", 7), ("x/y", 8)])
        );
    }
}
