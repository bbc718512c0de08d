//! Cache keys. A key is a digest over everything a step's result depends on, each part with its length before it, so
//! that no two different lists of parts give the same bytes.
//!
//! The parent of a step enters as the diff ids of its layers: they are the content of its root. So a record made on
//! one root is never used on another, whoever made the layers and in whichever build.

use ketch_spec::Digest;
use sha2::{Digest as _, Sha256};

/// Part of every key: a change of what keys mean changes them all.
const VERSION: &str = "ketch build key 1";

/// Builds a key.
#[derive(Clone)]
pub struct KeyWriter(Sha256);

impl KeyWriter {
    /// A key of the kind `what`.
    pub fn new(what: &str) -> Self {
        let mut writer = Self(Sha256::new());
        writer.text(VERSION);
        writer.text(what);
        writer
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Adds a text that may be absent; absent is not empty.
    pub fn optional(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.number(1).text(text),
            None => self.number(0),
        }
    }

    /// Adds a list, its length included.
    pub fn list<T: AsRef<str>>(
        &mut self,
        items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>,
    ) -> &mut Self {
        let items = items.into_iter();
        self.number(items.len() as u64);
        for item in items {
            self.text(item.as_ref());
        }
        self
    }

    /// The key.
    pub fn finish(self) -> Digest {
        Digest::from_sha256(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cannot_run_into_each_other() {
        let key = |parts: &[&str]| {
            let mut writer = KeyWriter::new("test");
            parts.iter().for_each(|part| {
                writer.text(part);
            });
            writer.finish()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab"]), key(&["ab", ""]));
        assert_eq!(key(&["ab"]), key(&["ab"]));
        assert_ne!(KeyWriter::new("a").finish(), KeyWriter::new("b").finish());
        let optional = |text| {
            let mut writer = KeyWriter::new("o");
            writer.optional(text);
            writer.finish()
        };
        assert_ne!(optional(None), optional(Some("")));
        let lists = |a: &[&str], b: &[&str]| {
            let mut writer = KeyWriter::new("l");
            writer.list(a).list(b);
            writer.finish()
        };
        assert_ne!(lists(&["x"], &[]), lists(&[], &["x"]));
    }
}
