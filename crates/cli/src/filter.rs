//! `--filter key=value`: values of one key OR together, keys AND together; `label` must match them all.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::failure::Failure;

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Lower case.
    pub key: String,
    /// As given.
    pub value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text
            .split_once('=')
            .ok_or("bad format of filter (expected name=value)")?;
        // `label!=x` splits into `label!` and `x`, which is the key's name.
        Ok(Self {
            key: key.trim().to_lowercase(),
            value: value.trim().to_owned(),
        })
    }
}

/// All filters of a command.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    values: BTreeMap<String, Vec<String>>,
}

impl Filters {
    /// Collects filters whose keys must be in `known`.
    ///
    /// # Errors
    /// `invalid filter 'x'`.
    pub fn new(given: Vec<Filter>, known: &[&str]) -> Result<Self, Failure> {
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for Filter { key, value } in given {
            if !known.contains(&key.as_str()) {
                return Err(Failure::usage(format!("invalid filter '{key}'")));
            }
            values.entry(key).or_default().push(value);
        }
        Ok(Self { values })
    }

    /// The values of a key.
    pub fn values(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether a key was given.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Whether the key was not given, or one of its values satisfies `test`.
    pub fn any(&self, key: &str, test: impl FnMut(&str) -> bool) -> bool {
        let mut test = test;
        let values = self.values(key);
        values.is_empty() || values.iter().any(|value| test(value))
    }

    /// Whether `labels` has all of `label=…` and none of `label!=…`.
    pub fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label")
            .iter()
            .all(|wanted| has_label(labels, wanted))
            && !self
                .values("label!")
                .iter()
                .any(|unwanted| has_label(labels, unwanted))
    }

    /// A key whose value is true or false; None if it was not given.
    ///
    /// # Errors
    /// Another value.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, Failure> {
        match self.values(key) {
            [] => Ok(None),
            [value] => match value.to_lowercase().as_str() {
                "1" | "t" | "true" => Ok(Some(true)),
                "0" | "f" | "false" => Ok(Some(false)),
                _ => Err(Failure::usage(format!(
                    "invalid value for filter '{key}': {value:?}"
                ))),
            },
            values => Err(Failure::usage(format!(
                "invalid value for filter '{key}': {values:?}"
            ))),
        }
    }
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|have| have == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(texts: &[&str], known: &[&str]) -> Result<Filters, Failure> {
        Filters::new(
            texts.iter().map(|text| text.parse().unwrap()).collect(),
            known,
        )
    }

    #[test]
    fn labels_must_all_match_and_others_any() {
        let labels = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]);
        let of = |texts: &[&str]| filters(texts, &["label", "label!", "name"]).unwrap();
        assert!(of(&["label=a", "label=b=2"]).labels(&labels));
        assert!(!of(&["label=a", "label=b=3"]).labels(&labels));
        assert!(!of(&["label!=a=1"]).labels(&labels));
        assert!(of(&["label!=a=2"]).labels(&labels));
        let names = of(&["name=x", "name=y"]);
        assert!(names.any("name", |value| value == "y"));
        assert!(!names.any("name", |value| value == "z"));
        assert!(names.any("other", |_| false));
    }

    #[test]
    fn unknown_keys_and_shapes_are_refused() {
        assert_eq!(
            "x".parse::<Filter>().unwrap_err(),
            "bad format of filter (expected name=value)"
        );
        assert_eq!(
            filters(&["x=1"], &["name"]).unwrap_err().to_string(),
            "invalid filter 'x'"
        );
        assert!(
            filters(&["dangling=maybe"], &["dangling"])
                .unwrap()
                .boolean("dangling")
                .is_err()
        );
        assert_eq!(
            filters(&["dangling=TRUE"], &["dangling"])
                .unwrap()
                .boolean("dangling")
                .unwrap(),
            Some(true)
        );
    }
}
