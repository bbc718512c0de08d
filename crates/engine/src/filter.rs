//! Filters of listings: values of one key OR together, keys AND together; `label` must match them all.

use std::collections::BTreeMap;

use regex_lite::Regex;

use crate::{Error, ErrorKind, Result};

/// Filters by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Filters whose keys must be `known`.
    ///
    /// # Errors
    /// `Invalid` for another key: `invalid filter 'x'`.
    pub fn new(given: BTreeMap<String, Vec<String>>, known: &[&str]) -> Result<Self> {
        match given.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(Error::new(
                ErrorKind::Invalid,
                format!("invalid filter '{key}'"),
            )),
            None => Ok(Self(given)),
        }
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
    /// `Invalid` for another value, or more than one.
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

    fn filters(pairs: &[(&str, &str)], known: &[&str]) -> Result<Filters> {
        let mut given: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in pairs {
            given
                .entry((*key).into())
                .or_default()
                .push((*value).into());
        }
        Filters::new(given, known)
    }

    #[test]
    fn labels_must_all_match_and_others_any() {
        let labels = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let of = |pairs: &[(&str, &str)]| filters(pairs, &["label", "label!", "name"]).unwrap();
        assert!(of(&[("label", "a"), ("label", "b=2")]).labels(&labels));
        assert!(!of(&[("label", "a"), ("label", "b=3")]).labels(&labels));
        assert!(!of(&[("label!", "a=1")]).labels(&labels));
        assert!(of(&[("label!", "a=2")]).labels(&labels));
        let names = of(&[("name", "x"), ("name", "y")]);
        assert!(names.any("name", |value| value == "y"));
        assert!(!names.any("name", |value| value == "z"));
        assert!(names.any("other", |_| false));
    }

    #[test]
    fn unknown_keys_and_values_are_refused() {
        let error = filters(&[("x", "1")], &["name"]).unwrap_err();
        assert_eq!(error.message, "invalid filter 'x'");
        let status = filters(&[("status", "up")], &["status"]).unwrap();
        let error = status.check("status", &["running"]).unwrap_err();
        assert_eq!(error.message, "invalid filter 'status=up'");
        let name = filters(&[("name", "(")], &["name"]).unwrap();
        let error = name.patterns("name").unwrap_err();
        assert_eq!(error.message, "invalid filter 'name=('");
    }

    #[test]
    fn booleans_are_read_in_any_case() {
        let of = |text| filters(&[("dangling", text)], &["dangling"]).unwrap();
        assert_eq!(of("TRUE").boolean("dangling").unwrap(), Some(true));
        assert_eq!(of("f").boolean("dangling").unwrap(), Some(false));
        assert_eq!(Filters::default().boolean("dangling").unwrap(), None);
        let error = of("maybe").boolean("dangling").unwrap_err();
        assert_eq!(error.message, "invalid filter 'dangling=maybe'");
    }
}
