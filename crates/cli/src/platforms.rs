//! `--platform`.

use ketch_spec::Platform;

use crate::failure::Failure;

/// One platform; an empty text is none.
///
/// # Errors
/// A text that names none.
pub fn one(text: Option<&str>) -> Result<Option<Platform>, Failure> {
    text.filter(|text| !text.is_empty()).map(parse).transpose()
}

/// Several, each flag with one or more between commas.
///
/// # Errors
/// As [`one`].
pub fn several(texts: &[String]) -> Result<Vec<Platform>, Failure> {
    let words = texts.iter().flat_map(|text| text.split(','));
    words.filter(|word| !word.is_empty()).map(parse).collect()
}

fn parse(text: &str) -> Result<Platform, Failure> {
    text.trim()
        .parse()
        .map_err(|error| Failure::usage(format!("invalid platform: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_separated_by_commas() {
        let both = several(&["linux/amd64,linux/arm64".into(), String::new()]).unwrap();
        assert_eq!(both.len(), 2);
        assert_eq!(one(Some("")).unwrap(), None);
        assert!(one(Some("a/b/c/d")).is_err());
    }
}
