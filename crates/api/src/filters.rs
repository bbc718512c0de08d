//! The parameter `filters`: a JSON map from keys to values, in either of the two shapes that clients send.

use std::collections::BTreeMap;

use ketch_engine::{Error, ErrorKind, Result};
use regex_lite::Regex;
use serde::Deserialize;

/// Filters by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

/// `{"k": {"v": true}}`, or, of old clients, `{"k": ["v"]}`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    Map(BTreeMap<String, bool>),
    List(Vec<String>),
}

impl Filters {
    /// Reads the parameter; an empty text is no filter.
    ///
    /// # Errors
    /// `Invalid` for a text that is none, and for keys that are not `known`.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let invalid = |message: String| Error::new(ErrorKind::Invalid, message);
        let map: BTreeMap<String, Values> = serde_json::from_str(text)
            .map_err(|error| invalid(format!("invalid filter: {error}")))?;
        if let Some(key) = map.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(invalid(format!("invalid filter '{key}'")));
        }
        let values = |values| match values {
            Values::Map(map) => map
                .into_iter()
                .filter(|(_, is)| *is)
                .map(|(key, _)| key)
                .collect(),
            Values::List(list) => list,
        };
        Ok(Self(
            map.into_iter()
                .map(|(key, list)| (key, values(list)))
                .collect(),
        ))
    }

    /// The values of a key.
    pub fn values(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether a key has values.
    pub fn has(&self, key: &str) -> bool {
        !self.values(key).is_empty()
    }

    /// Whether the key has no values, or one satisfies `test`.
    pub fn any(&self, key: &str, mut test: impl FnMut(&str) -> bool) -> bool {
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| test(value))
    }

    /// Whether `labels` has all of `label` and none of `label!`.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        };
        self.values("label").iter().all(has) && !self.values("label!").iter().any(has)
    }

    /// A key that is true or false; None without one.
    ///
    /// # Errors
    /// `Invalid` for another value.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        match self.values(key) {
            [] => Ok(None),
            [value] if matches!(value.to_lowercase().as_str(), "1" | "t" | "true") => {
                Ok(Some(true))
            }
            [value] if matches!(value.to_lowercase().as_str(), "0" | "f" | "false") => {
                Ok(Some(false))
            }
            values => Err(Self::invalid(key, &values.join(", "))),
        }
    }

    /// The values of a key as patterns.
    ///
    /// # Errors
    /// `Invalid` for a value that is not one.
    pub fn patterns(&self, key: &str) -> Result<Vec<Regex>> {
        self.values(key)
            .iter()
            .map(|text| Regex::new(text).map_err(|_| Self::invalid(key, text)))
            .collect()
    }

    /// The earliest of the points in time of a key.
    ///
    /// # Errors
    /// `Invalid` for a value that is none.
    pub fn moment(&self, key: &str) -> Result<Option<jiff::Timestamp>> {
        let now = jiff::Timestamp::now();
        let mut earliest: Option<jiff::Timestamp> = None;
        for text in self.values(key) {
            let moment = crate::moment::parse(key, text, now)?;
            earliest = [earliest, moment].into_iter().flatten().min();
        }
        Ok(earliest)
    }

    /// Refuses values that are not among `known`.
    ///
    /// # Errors
    /// `Invalid` in Docker's words.
    pub fn check(&self, key: &str, known: &[&str]) -> Result<()> {
        match self
            .values(key)
            .iter()
            .find(|value| !known.contains(&value.as_str()))
        {
            Some(value) => Err(Self::invalid(key, value)),
            None => Ok(()),
        }
    }

    /// `invalid filter 'key=value'`.
    pub fn invalid(key: &str, value: &str) -> Error {
        Error::new(
            ErrorKind::Invalid,
            format!("invalid filter '{key}={value}'"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_read() {
        let new =
            Filters::parse(r#"{"label":{"a=1":true,"b":true,"c":false}}"#, &["label"]).unwrap();
        let old = Filters::parse(r#"{"label":["a=1","b"]}"#, &["label"]).unwrap();
        assert_eq!(new, old);
        assert_eq!(Filters::parse("", &[]).unwrap(), Filters::default());
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
    fn unknown_keys_and_values_are_refused() {
        let message = |text: &str| Filters::parse(text, &["status"]).unwrap_err().message;
        assert_eq!(message(r#"{"colour":["red"]}"#), "invalid filter 'colour'");
        assert!(message("[").starts_with("invalid filter: "));
        let filters = Filters::parse(r#"{"status":["up"]}"#, &["status"]).unwrap();
        let error = filters.check("status", &["running"]).unwrap_err();
        assert_eq!(error.message, "invalid filter 'status=up'");
        assert!(filters.boolean("status").is_err());
    }
}
