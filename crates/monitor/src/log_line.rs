//! Output cut into messages, and messages as lines of Docker's json-file format. Pure.

/// The longest message in bytes; Docker cuts there too.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024;

/// Which stream output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and everything of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts a stream into messages.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The beginning of a line whose end has not come; shorter than [`MAX_MESSAGE_BYTES`].
    pending: Vec<u8>,
}

impl LineSplitter {
    /// Takes more of the stream and gives every message that is complete.
    pub fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = MAX_MESSAGE_BYTES - self.pending.len();
            let reach = &bytes[..bytes.len().min(room)];
            let (take, complete) = match reach.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (reach.len(), reach.len() == room),
            };
            let (head, rest) = bytes.split_at(take);
            bytes = rest;
            match (complete, self.pending.is_empty()) {
                (true, true) => emit(head),
                (true, false) => {
                    self.pending.extend_from_slice(head);
                    emit(&self.pending);
                    self.pending.clear();
                    self.pending.shrink_to(1024);
                }
                (false, _) => self.pending.extend_from_slice(head),
            }
        }
    }

    /// Gives the unfinished line, if there is one.
    pub fn finish(&mut self, emit: impl FnOnce(&[u8])) {
        if !self.pending.is_empty() {
            emit(&self.pending);
            self.pending.clear();
        }
    }
}

/// Appends a message as one line of the file; `time` is RFC 3339.
pub fn encode(out: &mut Vec<u8>, stream: Stream, message: &[u8], time: &str) {
    out.reserve(message.len() + 80);
    out.extend_from_slice(b"{\"log\":\"");
    // Bytes that are not UTF-8 become U+FFFD, as Docker's encoder does it: JSON has no other way.
    for chunk in message.utf8_chunks() {
        escape(out, chunk.valid());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.extend_from_slice(b"\",\"stream\":\"");
    out.extend_from_slice(stream.name().as_bytes());
    out.extend_from_slice(b"\",\"time\":\"");
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// Escapes as Docker's encoder: besides what JSON demands, the characters that matter in HTML and JavaScript.
fn escape(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut plain = 0;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let short: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 | b'<' | b'>' | b'&' => &[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ],
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain..at]);
        out.extend_from_slice(short);
        plain = at + 1;
    }
    out.extend_from_slice(&bytes[plain..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(splitter: &mut LineSplitter, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        splitter.feed(bytes, |message| messages.push(message.to_vec()));
        messages
    }

    #[test]
    fn lines_come_out_whole_however_they_come_in() {
        let input = b"a\n\nbcd\nlast";
        for size in 1..=input.len() {
            let mut splitter = LineSplitter::default();
            let mut messages: Vec<_> = input
                .chunks(size)
                .flat_map(|chunk| feed(&mut splitter, chunk))
                .collect();
            splitter.finish(|rest| messages.push(rest.to_vec()));
            assert_eq!(
                messages,
                [&b"a\n"[..], b"\n", b"bcd\n", b"last"],
                "chunks of {size}"
            );
        }
    }

    #[test]
    fn long_lines_are_cut_at_the_limit() {
        let mut input = vec![b'x'; MAX_MESSAGE_BYTES * 2 + 5];
        input.push(b'\n');
        for size in [1000, MAX_MESSAGE_BYTES, input.len()] {
            let mut splitter = LineSplitter::default();
            let messages: Vec<_> = input
                .chunks(size)
                .flat_map(|chunk| feed(&mut splitter, chunk))
                .collect();
            let lengths: Vec<_> = messages.iter().map(Vec::len).collect();
            assert_eq!(
                lengths,
                [MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES, 6],
                "chunks of {size}"
            );
            assert!(messages[2].ends_with(b"\n") && !messages[0].ends_with(b"\n"));
        }
    }

    #[test]
    fn what_is_encoded_reads_back() {
        let message =
            "quote \" back \\ tab \t bell \u{7} <a href='x'>&amp;</a> ünïcode 日本 \u{1b}[0m\r\n";
        let mut line = Vec::new();
        encode(
            &mut line,
            Stream::Stderr,
            message.as_bytes(),
            "2024-01-01T00:00:00Z",
        );
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(value["log"], message);
        assert_eq!(value["stream"], "stderr");
        assert!(!line.contains(&b'<') && !line.contains(&0x1b));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut line = Vec::new();
        encode(&mut line, Stream::Stdout, b"a\xff\xc3", "t");
        let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(value["log"], "a\u{fffd}\u{fffd}");
    }
}
