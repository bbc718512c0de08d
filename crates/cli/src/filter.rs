//! `--filter key=value`: values of one key OR together, keys AND together; `label` must match them all.

use std::collections::BTreeMap;
use std::str::FromStr;

pub use ketch_engine::filter::Filters;

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

/// All filters of a command, whose keys must be `known`.
///
/// # Errors
/// `invalid filter 'x'`.
pub fn collect(given: Vec<Filter>, known: &[&str]) -> ketch_engine::Result<Filters> {
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Filter { key, value } in given {
        values.entry(key).or_default().push(value);
    }
    Filters::new(values, known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_one_key_are_kept_together() {
        let given = ["Name=x", "label!=a=1", "name = y"].map(|text| text.parse().unwrap());
        let filters = collect(given.into(), &["name", "label!"]).unwrap();
        assert_eq!(filters.values("name"), ["x", "y"]);
        assert_eq!(filters.values("label!"), ["a=1"]);
    }

    #[test]
    fn unknown_keys_and_shapes_are_refused() {
        assert_eq!(
            "x".parse::<Filter>().unwrap_err(),
            "bad format of filter (expected name=value)"
        );
        let unknown = collect(vec!["x=1".parse().unwrap()], &["name"]);
        assert_eq!(unknown.unwrap_err().to_string(), "invalid filter 'x'");
    }
}
