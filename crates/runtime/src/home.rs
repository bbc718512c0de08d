//! A user's directory, from the container's `/etc/passwd`.

use std::fs::File;
use std::io::Read;

use rustix::fs::{FileType, Mode, OFlags};

/// More than this of the file is not read.
const LIMIT_BYTES: u64 = 4 << 20;

/// In the child, in the root: where the user `uid` is at home; None: the file does not say. The file is the image's: it
/// may be a pipe that nobody writes to, or no end of bytes.
pub(crate) fn of_user(uid: u32) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open("/etc/passwd", flags, Mode::empty()).ok()?;
    let mode = rustix::fs::fstat(&file).ok()?.st_mode;
    if FileType::from_raw_mode(mode) != FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    File::from(file)
        .take(LIMIT_BYTES)
        .read_to_end(&mut bytes)
        .ok()?;
    find(&bytes, uid)
}

/// The sixth field of the first line whose third is `uid`.
fn find(passwd: &[u8], uid: u32) -> Option<String> {
    let text = String::from_utf8_lossy(passwd);
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let own = fields.get(2)?.parse() == Ok(uid);
        fields
            .get(5)
            .filter(|home| own && !home.is_empty())
            .map(|&home| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_the_user_counts() {
        let passwd = b"# words\nroot:x:0:0:root:/root:/bin/sh\nno:x:7\na:x:7:7::/first:\nb:x:7:7::/second:\nc:x:8:8:::\n\xff:";
        assert_eq!(find(passwd, 0).as_deref(), Some("/root"));
        assert_eq!(find(passwd, 7).as_deref(), Some("/first"));
        assert_eq!(find(passwd, 8), None);
        assert_eq!(find(passwd, 9), None);
    }
}
