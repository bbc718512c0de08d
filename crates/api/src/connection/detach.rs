//! The key sequence that leaves a session, found in what a client types.

/// Docker's default: ctrl-p ctrl-q.
pub const DEFAULT: [u8; 2] = [16, 17];

/// Reads `ctrl-p,ctrl-q`: single characters, `ctrl-` with one of `@`, a letter or `[\]^_`, or `DEL`, between commas.
///
/// # Errors
/// Docker's words for a key that is none.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    let key = |key: &str| match key.as_bytes() {
        [byte] => Ok(*byte),
        b"DEL" => Ok(127),
        [b'c', b't', b'r', b'l', b'-', b'@'] => Ok(0),
        [b'c', b't', b'r', b'l', b'-', byte @ b'a'..=b'z'] => Ok(byte - b'a' + 1),
        [b'c', b't', b'r', b'l', b'-', byte @ b'['..=b'_'] => Ok(byte - b'[' + 27),
        _ => Err(format!("Unknown character: '{key}'")),
    };
    text.split(',').map(key).collect()
}

/// Watches typed bytes for the sequence; bytes that may begin it are held back until it is clear that they do not.
#[derive(Debug)]
pub struct Detach {
    keys: Vec<u8>,
    matched: usize,
}

impl Detach {
    /// A watch for `keys`; none means that nothing detaches.
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// What of `typed` to pass on, and whether the sequence is complete.
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
    fn sequences_are_read_and_found_across_reads() {
        assert_eq!(parse("ctrl-p,ctrl-q").unwrap(), DEFAULT);
        assert_eq!(parse("ctrl-@,a,DEL").unwrap(), [0, b'a', 127]);
        assert_eq!(parse("foo").unwrap_err(), "Unknown character: 'foo'");
        let mut detach = Detach::new(DEFAULT.to_vec());
        assert_eq!(detach.feed(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(detach.feed(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(detach.feed(b"\x10"), (Vec::new(), false));
        assert_eq!(detach.feed(b"\x11rest"), (Vec::new(), true));
    }
}
