//! Grammars of words.

use ketch_spec::{
    Digest, Id, Platform, Reference, detach_keys, duration, env, mount, port, reference, signal,
    size,
};

/// A reference in all its forms, which lead back to it.
pub(crate) fn reference(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(parsed) = text.parse::<Reference>() {
        for written in [parsed.to_string(), parsed.familiar()] {
            match written.parse::<Reference>() {
                Ok(again) => assert_eq!(parsed, again, "{text:?} as {written:?}"),
                Err(error) => panic!("{text:?} is {written:?}: {error}"),
            }
        }
        let path = parsed.to_string();
        assert!(!path.contains("..") && !path.contains("//"), "{path:?}");
        assert!(path.bytes().all(|byte| byte.is_ascii_graphic()), "{path:?}");
    }
    let _ = Reference::parse_name(text);
    let _ = reference::is_tag(text);
}

/// One word of many grammars: the first byte says which.
pub(crate) fn words(bytes: &[u8]) {
    let Some((which, text)) = bytes.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        let _ = env::parse_file(bytes);
        return;
    };
    match which % 12 {
        0 => again::<Digest>(text),
        1 => again::<Id>(text),
        2 => again::<Platform>(text),
        3 => again::<port::Port>(text),
        4 => {
            for mapping in port::parse_publish(text).unwrap_or_default() {
                assert!(!format!("{mapping:?}").is_empty());
            }
        }
        5 => drop(port::parse_expose(text)),
        6 => {
            let _ = (size::parse_bytes(text), size::parse_decimal(text));
        }
        7 => {
            let _ = duration::parse(text);
        }
        8 => drop(mount::parse_mount(text, "/cwd")),
        9 => drop(mount::parse_volume(text, "/cwd").map(|mount| format!("{mount:?}"))),
        10 => {
            let _ = mount::parse_tmpfs(text);
            let _ = signal::parse(text);
            let _ = detach_keys::parse(text);
        }
        _ => {
            let _ = env::parse_variable(text);
            let _ = env::parse_file(text.as_bytes());
        }
    }
}

fn again<T>(text: &str)
where
    T: std::str::FromStr + std::fmt::Display + PartialEq + std::fmt::Debug,
{
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        match written.parse::<T>() {
            Ok(again) => assert_eq!(value, again, "{text:?} as {written:?}"),
            Err(_) => panic!("{text:?} is written as {written:?}, which is none"),
        }
    }
}
