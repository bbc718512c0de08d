//! Where the last N lines begin, read from the end in blocks.

use std::collections::VecDeque;

use super::file::LogFile;
use crate::Result;

const BLOCK_BYTES: u64 = 64 << 10;

/// Drops files and moves on in the first that is left, so that `count` lines remain.
pub(super) fn seek(files: &mut VecDeque<LogFile>, count: u64) -> Result<()> {
    let mut left = count;
    for position in (0..files.len()).rev() {
        let Some(file) = files.get_mut(position) else {
            continue;
        };
        match begin_of_last(file, left)? {
            Found::At(offset) => {
                file.begin_at(offset);
                files.drain(..position);
                return Ok(());
            }
            Found::Lines(lines) => left -= lines,
        }
    }
    Ok(())
}

enum Found {
    /// The lines begin here.
    At(u64),
    /// The file has fewer.
    Lines(u64),
}

fn begin_of_last(file: &mut LogFile, count: u64) -> Result<Found> {
    let length = file.length()?;
    if count == 0 {
        return Ok(Found::At(length));
    }
    let mut lines = 0;
    let mut end = length;
    let mut block = vec![0u8; BLOCK_BYTES as usize];
    while end > 0 {
        let begin = end.saturating_sub(BLOCK_BYTES);
        let part = &mut block[..usize::try_from(end - begin).unwrap_or(0)];
        file.read_exact_at(part, begin)?;
        for (at, _) in part
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
        {
            let after = begin + at as u64 + 1;
            // The newline that ends the last line begins none.
            if after == length {
                continue;
            }
            lines += 1;
            if lines == count {
                return Ok(Found::At(after));
            }
        }
        end = begin;
    }
    // The first line begins without a newline before it.
    if length > 0 {
        lines += 1;
    }
    Ok(if lines == count {
        Found::At(0)
    } else {
        Found::Lines(lines)
    })
}
