//! Giving memory back: for a process that has done the larger part of its work and then waits for days.

use std::ffi::c_void;

/// Gives back what the allocator keeps for later, and the pages of our own program and its libraries that were only
/// needed on the way here. The kernel has those in its page cache and maps them again when they are used.
pub fn release() {
    // SAFETY: malloc_trim only touches memory that is not in use.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else {
        return;
    };
    for (start, length) in maps.lines().filter_map(program_text) {
        // SAFETY: the range is a read-only private mapping of a file without a page of its own, by `program_text`:
        // what is dropped is read from the file again, with the same bytes.
        unsafe { libc::madvise(start as *mut c_void, length, libc::MADV_DONTNEED) };
    }
}

/// Address and length of a line of /proc/self/maps that is unchanging program: a file, mapped privately and not to be
/// written, that holds code or begins at the start of the file. Relocated data, which looks like read-only data but has
/// pages of its own, does neither.
fn program_text(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, permissions, offset) = (fields.next()?, fields.next()?, fields.next()?);
    let path = fields.nth(2)?;
    let constant = match permissions {
        "r-xp" => true,
        "r--p" => u64::from_str_radix(offset, 16) == Ok(0),
        _ => false,
    };
    if !constant || !path.starts_with('/') {
        return None;
    }
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
    fn only_program_text_is_dropped() {
        let text = "55e0d7a00000-55e0d7b00000 r-xp 00100000 fe:00 1234    /usr/bin/ketch";
        assert_eq!(program_text(text), Some((0x55e0_d7a0_0000, 0x10_0000)));
        let constants = "55e0d7900000-55e0d7a00000 r--p 00000000 fe:00 1234    /usr/bin/ketch";
        assert_eq!(program_text(constants), Some((0x55e0_d790_0000, 0x10_0000)));
        for other in [
            "55e0d7a00000-55e0d7b00000 r--p 00100000 fe:00 1234    /usr/bin/ketch",
            "55e0d7a00000-55e0d7b00000 rw-p 00100000 fe:00 1234    /usr/bin/ketch",
            "7ffd0000-7ffe0000 r-xp 00000000 00:00 0    [vdso]",
            "7ffd0000-7ffe0000 r-xp 00000000 00:00 0",
            "",
        ] {
            assert_eq!(program_text(other), None, "{other}");
        }
    }

    #[test]
    fn the_program_goes_on_afterwards() {
        let before: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
        release();
        assert_eq!(before[999], "999");
    }
}
