//! What the fuzzers reach besides the public interface: everything that reads what a registry sends, without a network.

use ketch_spec::Reference;
use ureq::Body;
use ureq::http::Response;

use crate::challenge::Challenge;
use crate::client::Registry;
use crate::send::{Answer, Wanted};
use crate::token::{Scope, token_from};
use crate::url::Url;
use crate::{blob, manifest, retry, tags};

/// One line of a header, as a challenge, an address and a pause.
pub fn header(text: &str) {
    let _ = Challenge::from_headers([text].into_iter());
    let _ = retry::retry_after(Some(text), jiff::Timestamp::UNIX_EPOCH);
    let base = Url::new(true, "registry.example", "/v2/a/b/blobs/uploads/?x=y");
    if let Some(url) = base.join(text) {
        assert!(
            !url.authority.is_empty() && url.target.starts_with('/'),
            "{url}"
        );
        assert!(!url.to_string().contains(char::is_whitespace), "{url}");
        assert_eq!(Url::parse(&url.to_string()), Some(url));
    }
}

/// A whole answer: headers by name and value, and the document.
pub fn answer(status: u16, headers: &[(&str, &str)], document: &[u8]) {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    let Ok(response) = response.body(Body::builder().data(document)) else {
        return;
    };
    let registry = Registry::new("registry.example", "registry.example", false);
    let url = Url::new(true, "registry.example", "/v2/a/tags/list");
    let wanted = Wanted::Document(1 << 20);
    let Ok(answer) = Answer::read(&registry, "GET /v2/".into(), &url, response, wanted) else {
        return;
    };
    let scope = Scope::pull("a");
    let words = answer.words();
    assert!(words.chars().all(|c| !c.is_control()), "{words:?}");
    let _ = answer.refusal(&scope, true).to_string();
    let _ = answer.location();
    let _ = tags::next(&answer);
    let _ = blob::range_start(&answer);
    let reference: Option<Reference> = "registry.example/a:1".parse().ok();
    if let Some(reference) = reference {
        let _ = manifest::media_type_of(&reference, &answer);
    }
    let _ = token_from(&registry, &url, &Scope::login(), true, answer);
}
