use std::collections::BTreeMap;

use super::*;

fn variables() -> BTreeMap<String, String> {
    [
        ("PWD", "/home"),
        ("SHELL", "bash"),
        ("KOREAN", "한국어"),
        ("NULL", ""),
        ("V", "foo/bar/foo.tar.gz"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn run(word: &str) -> Result<String, ExpandError> {
    expand(word, &variables(), Style::instruction('\\')).map(|expanded| expanded.text)
}

#[test]
fn spec_data_expansion_cases() {
    let Some(cases) = crate::spec_data("dockerfile-expansion-cases.txt") else {
        return;
    };
    let mut count = 0;
    for line in std::fs::read_to_string(cases).unwrap().lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<_> = line.split('|').map(str::trim).collect();
        let [platform, word, expected] = fields[..] else {
            panic!("{line}")
        };
        if platform == "W" {
            continue;
        }
        match run(word) {
            Err(_) => assert_eq!(expected, "error", "{line}"),
            Ok(text) => assert_eq!(text, expected, "{line}"),
        }
        count += 1;
    }
    assert!(count > 80, "only {count} cases were read");
}

#[test]
fn patterns() {
    for (word, expected) in [
        ("${V#*/}", "bar/foo.tar.gz"),
        ("${V##*/}", "foo.tar.gz"),
        ("${V%.*}", "foo/bar/foo.tar"),
        ("${V%%.*}", "foo/bar/foo"),
        ("${V#x}", "foo/bar/foo.tar.gz"),
        ("${V/foo/x}", "x/bar/foo.tar.gz"),
        ("${V//foo/x}", "x/bar/x.tar.gz"),
        ("${V//\\//:}", "foo:bar:foo.tar.gz"),
        ("${V/?.tar*/}", "foo/bar/fo"),
        ("${V/*/}", ""),
        ("${UNSET//a/b}", ""),
    ] {
        assert_eq!(run(word).unwrap(), expected, "{word}");
    }
    assert!(matches!(
        run("${V#\\a}"),
        Err(ExpandError::Pattern { escaped: 'a', .. })
    ));
}

#[test]
fn required_variables_tell_the_users_message() {
    assert_eq!(run("${X:?set X}").unwrap_err().to_string(), "X: set X");
    assert_eq!(
        run("${NULL:?}").unwrap_err().to_string(),
        "NULL: is not allowed to be empty"
    );
    assert_eq!(
        run("${X?}").unwrap_err().to_string(),
        "X: is not allowed to be unset"
    );
}

#[test]
fn words_are_split_after_expansion() {
    let expanded = expand(
        r#"a"b c" $SHELL  d\ e"#,
        &variables(),
        Style::instruction('\\'),
    )
    .unwrap();
    assert_eq!(expanded.words, ["ab c", "bash", "d e"]);
    assert_eq!(
        expand("$X$PWD", &variables(), Style::instruction('\\'))
            .unwrap()
            .unset
            .len(),
        1
    );
}

#[test]
fn raw_styles_keep_what_stands() {
    let style = Style {
        raw_quotes: true,
        raw_escapes: true,
        skip_unset: true,
        ..Style::instruction('\\')
    };
    let word = r#"'a' "b" \c $X ${Y:-z} ${Z}"#;
    assert_eq!(expand(word, &(), style).unwrap().text, word);
}

#[test]
fn deep_nesting_is_refused_not_overflowed() {
    let word = "${a:-".repeat(100_000) + &"}".repeat(100_000);
    assert_eq!(run(&word), Err(ExpandError::TooDeep));
    let stars = format!("${{V#{}x}}", "*".repeat(60));
    assert_eq!(run(&stars).unwrap(), "foo/bar/foo.tar.gz");
}

proptest::proptest! {
    #[test]
    fn never_panics(word in "[a${}:/#%?*\\\\'\"+ -]{0,40}") {
        let _ = run(&word);
    }
}
