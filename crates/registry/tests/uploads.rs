//! Uploads: monolithic, in parts, mounts, manifests.
#![allow(missing_docs)]

mod server;

use std::io::{self, Read};
use std::time::Duration;

use ketch_registry::{Client, ClientOptions, Error, RetryPolicy};
use ketch_spec::image::{Descriptor, media_type};
use ketch_spec::{Digest, Reference};
use server::{Reply, Server};

const PART: u64 = 32 << 20;

fn client() -> Client {
    let pause = Duration::from_millis(1);
    let retry = RetryPolicy {
        attempts: 3,
        first_delay: pause,
        longest_delay: pause,
    };
    Client::new(ClientOptions {
        retry,
        ..ClientOptions::default()
    })
    .unwrap()
}

fn reference(server: &Server) -> Reference {
    format!("{}/team/app:1", server.address).parse().unwrap()
}

fn descriptor(size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type::LAYER.into(),
        digest: Digest::of(b"the server of these tests does not look"),
        size,
        platform: None,
        annotations: Default::default(),
        other: Default::default(),
    }
}

/// Zeros from an offset on.
fn zeros(size: u64) -> impl FnMut(u64) -> io::Result<Box<dyn Read>> {
    move |offset| Ok(Box::new(io::repeat(0).take(size - offset)))
}

#[test]
fn small_blobs_go_in_one_request() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => Reply::new(202, "").header("Location", "/upload/1?state=a"),
        // The first attempt fails after the bytes have been sent.
        "PUT" if request.nth == 0 => Reply::new(503, ""),
        "HEAD" => Reply::new(404, ""),
        _ => Reply::new(201, ""),
    });
    let blob = descriptor(1000);
    client()
        .upload_blob(&reference(&server), &blob, &mut zeros(1000))
        .unwrap();
    let requests = server.requests();
    let shown: Vec<(&str, u64)> = requests
        .iter()
        .map(|r| (r.method.as_str(), r.body_length))
        .collect();
    // Before the second attempt it asks whether the first one arrived after all.
    let wanted = [
        ("POST", 0),
        ("PUT", 1000),
        ("HEAD", 0),
        ("POST", 0),
        ("PUT", 1000),
    ];
    assert_eq!(shown, wanted);
    let digest = format!("&digest=sha256%3A{}", blob.digest.hex());
    assert_eq!(requests[1].target, format!("/upload/1?state=a{digest}"));
    assert_eq!(requests[0].target, "/v2/team/app/blobs/uploads/");
}

#[test]
fn large_blobs_go_in_parts_and_continue() {
    let size = 2 * PART + 5;
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => Reply::new(202, "").header("Location", "/upload/0"),
        // The second part is lost on the way back: the registry has only the first.
        "PATCH" if request.target == "/upload/1" && request.nth == 0 => Reply::new(502, ""),
        "PATCH" => {
            let next = request.header("content-range").starts_with("0-");
            Reply::new(202, "").header("Location", if next { "/upload/1" } else { "/upload/2" })
        }
        "GET" => Reply::new(204, "")
            .header("Location", "/upload/1")
            .header("Range", format!("0-{}", PART - 1)),
        _ => Reply::new(201, ""),
    });
    client()
        .upload_blob(&reference(&server), &descriptor(size), &mut zeros(size))
        .unwrap();
    let shown: Vec<String> = server
        .requests()
        .iter()
        .map(|r| {
            format!(
                "{} {} {}",
                r.method,
                r.header("content-range"),
                r.body_length
            )
        })
        .collect();
    let (second, third) = (PART, 2 * PART);
    assert_eq!(
        shown,
        [
            "POST  0".to_owned(),
            format!("PATCH 0-{} {PART}", second - 1),
            format!("PATCH {second}-{} {PART}", third - 1),
            "GET  0".to_owned(),
            format!("PATCH {second}-{} {PART}", third - 1),
            format!("PATCH {third}-{} 5", size - 1),
            "PUT  0".to_owned(),
        ]
    );
}

/// The connection ends in the second part, and the registry has some of it; or it has another part than we thought.
#[test]
fn an_interrupted_part_goes_on_where_the_registry_is() {
    let gone = Reply {
        gone: true,
        ..Reply::new(202, "")
    };
    for interrupted in [gone, Reply::new(416, "")] {
        let size = 2 * PART + 5;
        let server = Server::start(move |request| match request.method.as_str() {
            "POST" => Reply::new(202, "").header("Location", "/upload/0"),
            "PATCH"
                if request
                    .header("content-range")
                    .starts_with(&format!("{PART}-")) =>
            {
                interrupted.clone()
            }
            "PATCH" => Reply::new(202, "").header("Location", "/upload/1"),
            "GET" => Reply::new(204, "")
                .header("Location", "/upload/1")
                .header("Range", format!("0-{}", PART + 6)),
            _ => Reply::new(201, ""),
        });
        let uploaded =
            client().upload_blob(&reference(&server), &descriptor(size), &mut zeros(size));
        let ranges: Vec<String> = server
            .requests()
            .iter()
            .filter(|request| request.method == "PATCH")
            .map(|request| request.header("content-range").to_owned())
            .collect();
        if let Err(error) = uploaded {
            panic!("{error}: {ranges:?}");
        }
        assert!(
            ranges[2].starts_with(&format!("{}-", PART + 7)),
            "{ranges:?}"
        );
        assert_eq!(server.count("PUT", "/upload/1"), 1);
    }
}

#[test]
fn a_registry_may_want_larger_parts() {
    let size = 3 * PART;
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => Reply::new(202, "")
            .header("Location", "/upload/0")
            .header("OCI-Chunk-Min-Length", (2 * PART).to_string()),
        "PATCH" => Reply::new(202, "").header("Location", "/upload/1"),
        _ => Reply::new(201, ""),
    });
    client()
        .upload_blob(&reference(&server), &descriptor(size), &mut zeros(size))
        .unwrap();
    let lengths: Vec<u64> = server.requests().iter().map(|r| r.body_length).collect();
    assert_eq!(lengths, [0, 2 * PART, PART, 0]);
}

#[test]
fn an_upload_whose_answer_was_lost_is_not_made_again() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" => Reply::new(202, "").header("Location", "/upload/0"),
        "PUT" => Reply::new(502, ""),
        _ => Reply::new(200, ""),
    });
    client()
        .upload_blob(&reference(&server), &descriptor(10), &mut zeros(10))
        .unwrap();
    assert_eq!(server.count("PUT", "/upload/0"), 1);
}

#[test]
fn failures_of_the_source_are_told_apart() {
    let server = Server::start(|_| Reply::new(202, "").header("Location", "/upload/1"));
    let mut broken = |_| -> io::Result<Box<dyn Read>> { Ok(Box::new(Broken)) };
    let error = client()
        .upload_blob(&reference(&server), &descriptor(10), &mut broken)
        .unwrap_err();
    match error {
        Error::Source { source, .. } => assert_eq!(source.to_string(), "disk on fire"),
        other => panic!("{other:?}"),
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("disk on fire"))
    }
}

#[test]
fn denied_uploads_say_so_at_once() {
    let server = Server::start(|_| {
        let body = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
        Reply::new(403, body)
    });
    let error = client()
        .upload_blob(&reference(&server), &descriptor(10), &mut zeros(10))
        .unwrap_err();
    assert!(matches!(&error, Error::Denied { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .ends_with("denied: requested access to the resource is denied")
    );
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn mounts_are_made_or_given_up() {
    let server = Server::start(|request| match request.method.as_str() {
        "POST" if request.target.contains("from=team%2Fbase") => Reply::new(201, ""),
        "POST" => Reply::new(202, "").header("Location", "/upload/9"),
        _ => Reply::new(204, ""),
    });
    let digest = Digest::of(b"x");
    assert!(
        client()
            .mount(&reference(&server), &digest, "team/base")
            .unwrap()
    );
    assert!(
        !client()
            .mount(&reference(&server), &digest, "other")
            .unwrap()
    );
    assert_eq!(server.count("DELETE", "/upload/9"), 1);
    // Somebody else's repository: the blob is sent instead.
    let server = Server::start(|_| Reply::new(403, ""));
    assert!(
        !client()
            .mount(&reference(&server), &digest, "other")
            .unwrap()
    );
}

#[test]
fn pushed_manifests_have_to_arrive_unchanged() {
    let bytes = b"{\"schemaVersion\":2}";
    let server = Server::start(|request| {
        let digest = if request.target.ends_with(":1") {
            "x"
        } else {
            "y"
        };
        Reply::new(201, "").header(
            "Docker-Content-Digest",
            Digest::of(digest.as_bytes()).to_string(),
        )
    });
    let error = client()
        .put_manifest(&reference(&server), media_type::MANIFEST, bytes)
        .unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error:?}");
    let server = Server::start(|_| Reply::new(201, ""));
    let digest = client()
        .put_manifest(&reference(&server), media_type::MANIFEST, bytes)
        .unwrap();
    assert_eq!(digest, Digest::of(bytes));
    assert_eq!(
        server.requests()[0].header("content-type"),
        media_type::MANIFEST
    );
}
