//! Giving memory back: for a process that has done the larger part of its work and then waits for days.

use std::ffi::c_void;

/// Gives back the pages of our own program and its libraries that were only needed on the way here. The kernel has them
/// in its page cache and maps them again when they are used.
pub fn release() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for (start, length) in program_constants(&maps) {
        // SAFETY: the range is a read-only private mapping of a file without a page of its own, by
        // `program_constants`: what is dropped is read from the file again, with the same bytes.
        unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Addresses and lengths of what is unchanging program in /proc/self/smaps (proc_pid_smaps(5)): files, mapped privately
/// and not to be written, without a page of their own. Relocated data, which looks the same, has such pages.
fn program_constants(maps: &str) -> Vec<(usize, usize)> {
    let mut constants = Vec::new();
    let mut mapping = None;
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        match (fields.next(), fields.next()) {
            (Some("Anonymous:"), Some(kib)) if kib != "0" => mapping = None,
            // It comes behind the other, and counts those of its own pages that are not in memory.
            (Some("Swap:"), Some("0")) => constants.extend(mapping.take()),
            (Some(range), Some(permissions)) if range.contains('-') => {
                let is_file = fields.nth(3).is_some_and(|path| path.starts_with('/'));
                let is_constant = matches!(permissions, "r-xp" | "r--p");
                mapping = (is_file && is_constant).then(|| range_of(range)).flatten();
            }
            _ => {}
        }
    }
    constants
}

/// Address and length of `start-end`.
fn range_of(range: &str) -> Option<(usize, usize)> {
    let (start, end) = range.split_once('-')?;
    let (start, end) = (
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    );
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_still_has_is_dropped() {
        let sized = |header: &str, anonymous: u32, swap: u32| {
            format!(
                "{header}\nRss: 8 kB\nAnonymous: {anonymous} kB\nSwap: {swap} kB\nVmFlags: rd mr me\n"
            )
        };
        let mapping = |header: &str, anonymous| sized(header, anonymous, 0);
        let text = "55e0d7a00000-55e0d7b00000 r-xp 00100000 fe:00 1234    /usr/bin/ketch";
        let constants = "55e0d7900000-55e0d7a00000 r--p 00200000 fe:00 1234    /usr/bin/ketch";
        let whole = mapping(text, 0) + &mapping(constants, 0);
        let ranges = vec![(0x55e0_d7a0_0000, 0x10_0000), (0x55e0_d790_0000, 0x10_0000)];
        assert_eq!(program_constants(&whole), ranges);
        assert!(program_constants(&mapping(constants, 4)).is_empty());
        assert!(program_constants(&sized(constants, 0, 4)).is_empty());
        for other in [
            "55e0d7a00000-55e0d7b00000 rw-p 00100000 fe:00 1234    /usr/bin/ketch",
            "55e0d7a00000-55e0d7b00000 r--s 00100000 fe:00 1234    /usr/bin/ketch",
            "7ffd0000-7ffe0000 r-xp 00000000 00:00 0    [vdso]",
            "7ffd0000-7ffe0000 r-xp 00000000 00:00 0",
            "",
        ] {
            assert!(program_constants(&mapping(other, 0)).is_empty(), "{other}");
        }
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        let before: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        release();
        assert_eq!(before[999], "999");
    }
}
