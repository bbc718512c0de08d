//! JSON documents of others, with a bound on what they become in memory: a few bytes of JSON can be hundreds of a value.

use serde::de::{DeserializeOwned, Error};

/// Values, objects and arrays that a document may have: a hundred times what manifests and configs of large images have.
pub const MAX_VALUES: usize = 100_000;

/// Reads an image's document: a manifest, an index, a config.
///
/// # Errors
/// It is not JSON, has not the shape, or has more than [`MAX_VALUES`] values.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    if has_more_values(bytes, MAX_VALUES) {
        let message = format!("the document has more than {MAX_VALUES} values");
        return Err(serde_json::Error::custom(message));
    }
    serde_json::from_slice(bytes)
}

/// Counts what begins an object or array or stands between two values, outside of strings.
fn has_more_values(bytes: &[u8], most: usize) -> bool {
    let (mut count, mut in_text, mut escaped) = (0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' | b',' if !in_text => count += 1,
            _ => {}
        }
        if count > most {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn values_are_counted_and_texts_are_not() {
        assert!(has_more_values(b"[{},{},{}]", 5));
        assert!(!has_more_values(b"[{},{},{}]", 6));
        assert!(!has_more_values(br#"{"a,[{\"],":",\\"}"#, 1));
        assert!(has_more_values(br#"{"a":"\\","b":1}"#, 1));
    }

    #[test]
    fn a_document_of_nothing_but_values_is_refused() {
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        let error = parse::<Value>(many.as_bytes()).unwrap_err();
        assert!(
            error.to_string().contains("more than 100000 values"),
            "{error}"
        );
        let enough = format!("[{}0]", "0,".repeat(MAX_VALUES - 1));
        assert!(parse::<Value>(enough.as_bytes()).is_ok());
        assert!(parse::<u32>(b"{").is_err());
    }
}
