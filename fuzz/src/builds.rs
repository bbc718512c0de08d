//! Texts that builds and projects are made of.

use ketch_compose::{LoadOptions, load};

use crate::bytes::first_line;

pub(crate) fn dockerfile(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        ketch_build::fuzz::dockerfile(text);
    }
}

/// A path on the first line, then the patterns.
pub(crate) fn ignore(bytes: &[u8]) {
    let (path, text) = first_line(bytes);
    if let (Ok(path), Ok(text)) = (std::str::from_utf8(path), std::str::from_utf8(text)) {
        ketch_build::fuzz::ignore(text, path);
    }
}

/// A compose file; what it is printed as has to be read as the same.
pub(crate) fn compose(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let options = |text: String| LoadOptions {
        files: vec!["-".into()],
        standard_input: Some(text),
        project_name: Some("p".into()),
        working_directory: "/nonexistent".into(),
        ..LoadOptions::default()
    };
    if let Ok(project) = load(&options(text.to_owned())) {
        let yaml = project.to_yaml();
        match load(&options(yaml.clone())) {
            Ok(again) => assert_eq!(again.to_yaml(), yaml),
            Err(error) => panic!("{error} in what was printed:\n{yaml}"),
        }
    }
}
