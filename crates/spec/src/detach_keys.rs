//! The key sequence that leaves a session: parsing of `ctrl-p,ctrl-q`, and finding it in what is typed.

/// Docker's default.
pub const DEFAULT: &str = "ctrl-p,ctrl-q";

/// A key that is none, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unknown character: '{key}'")]
pub struct UnknownKey {
    /// What stood between the commas.
    pub key: String,
}

/// Reads a sequence: single characters, `ctrl-` with one of `@`, a letter or `[\]^_`, or `DEL`, between commas.
///
/// # Errors
/// [`UnknownKey`] for the first key that is none of these.
pub fn parse(text: &str) -> Result<Vec<u8>, UnknownKey> {
    let key = |key: &str| match key.as_bytes() {
        [byte] => Ok(*byte),
        b"DEL" => Ok(127),
        [b'c', b't', b'r', b'l', b'-', b'@'] => Ok(0),
        [b'c', b't', b'r', b'l', b'-', byte @ b'a'..=b'z'] => Ok(byte - b'a' + 1),
        [b'c', b't', b'r', b'l', b'-', byte @ b'['..=b'_'] => Ok(byte - b'[' + 27),
        _ => Err(UnknownKey { key: key.into() }),
    };
    text.split(',').map(key).collect()
}

/// Watches typed bytes for the sequence. Bytes that may begin it are held back until it is clear that they do not.
#[derive(Debug)]
pub struct DetachFilter {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachFilter {
    /// A filter for `keys`; no keys means that nothing detaches.
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Passes `typed` on: what to send, and whether the sequence is complete.
    pub fn feed(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut send = Vec::with_capacity(typed.len());
        for &byte in typed {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (send, true);
                }
                continue;
            }
            send.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.first() == Some(&byte));
            if self.matched == 0 {
                send.push(byte);
            }
        }
        (send, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_are_read() {
        assert_eq!(parse(DEFAULT).unwrap(), [16, 17]);
        assert_eq!(
            parse("ctrl-@,a,DEL,ctrl-\\,ctrl-_").unwrap(),
            [0, b'a', 127, 28, 31]
        );
        assert_eq!(
            parse("ctrl-p,foo").unwrap_err().to_string(),
            "Unknown character: 'foo'"
        );
        assert_eq!(parse("").unwrap_err().to_string(), "Unknown character: ''");
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_bytes_before_it_pass() {
        let mut filter = DetachFilter::new(vec![16, 17]);
        assert_eq!(filter.feed(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(filter.feed(b"\x11rest"), (Vec::new(), true));
    }

    #[test]
    fn a_broken_sequence_is_sent_whole() {
        let mut filter = DetachFilter::new(vec![16, 17]);
        assert_eq!(filter.feed(b"\x10"), (Vec::new(), false));
        assert_eq!(filter.feed(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(filter.feed(b"\x10\x10\x11"), (b"\x10".to_vec(), true));
        let mut none = DetachFilter::new(Vec::new());
        assert_eq!(none.feed(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
