//! The parameter `filters`: a JSON map from keys to values, in either of the two shapes that clients send.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ketch_engine::filter::Filters;
use ketch_engine::{Error, ErrorKind, Result};
use serde::Deserialize;

/// `{"k": {"v": true}}`, or, of old clients, `{"k": ["v"]}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Map(BTreeMap<String, bool>),
    List(Vec<String>),
}

/// Reads the parameter; an empty text is no filter.
///
/// # Errors
/// `Invalid` for a text that is none, and for keys that are not `known`.
pub fn parse(text: &str, known: &[&str]) -> Result<Filters> {
    if text.is_empty() {
        return Ok(Filters::default());
    }
    let map: BTreeMap<String, Values> = serde_json::from_str(text)
        .map_err(|error| Error::new(ErrorKind::Invalid, format!("invalid filter: {error}")))?;
    let values = |values| match values {
        Values::Map(map) => map
            .into_iter()
            .filter(|(_, is)| *is)
            .map(|(key, _)| key)
            .collect(),
        Values::List(list) => list,
    };
    let given = map
        .into_iter()
        .map(|(key, list)| (key, values(list)))
        .collect();
    Filters::new(given, known)
}

/// The earliest of the points in time of a key.
///
/// # Errors
/// `Invalid` for a value that is none.
pub fn moment(filters: &Filters, key: &str) -> Result<Option<Timestamp>> {
    let now = Timestamp::now();
    let mut earliest: Option<Timestamp> = None;
    for text in filters.values(key) {
        let moment = crate::moment::parse(key, text, now)?;
        earliest = [earliest, moment].into_iter().flatten().min();
    }
    Ok(earliest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_read() {
        let new = parse(r#"{"label":{"a=1":true,"b":true,"c":false}}"#, &["label"]).unwrap();
        let old = parse(r#"{"label":["a=1","b"]}"#, &["label"]).unwrap();
        assert_eq!(new, old);
        assert_eq!(parse("", &[]).unwrap(), Filters::default());
        let have = |pairs: &[(&str, &str)]| {
            new.labels(
                &pairs
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                    .collect(),
            )
        };
        assert!(have(&[("a", "1"), ("b", "2")]));
        assert!(!have(&[("a", "2"), ("b", "2")]));
    }

    #[test]
    fn unknown_keys_and_other_texts_are_refused() {
        let message = |text: &str| parse(text, &["status"]).unwrap_err().message;
        assert_eq!(message(r#"{"colour":["red"]}"#), "invalid filter 'colour'");
        assert_eq!(message(r#"{"colour":[]}"#), "invalid filter 'colour'");
        assert!(message("[").starts_with("invalid filter: "));
    }
}
