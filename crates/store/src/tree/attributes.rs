//! Which extended attributes belong to a layer.

/// Whether an archive's attribute is set on the file. Not those that mean something to this host only: overlayfs's own
/// (an image could use them to show other files than its own), and the labels and signatures of security modules.
/// The rest is the image's: capabilities, ACLs, users' attributes.
pub fn is_taken(key: &[u8]) -> bool {
    !key.starts_with(b"trusted.overlay.")
        && match key.strip_prefix(b"security.") {
            Some(rest) => rest == b"capability",
            None => true,
        }
}
