//! The client against registries that answer wrongly, slowly, or not at all.
#![allow(missing_docs)]

mod server;

use std::io::Read;
use std::time::Duration;

use ketch_registry::{Client, ClientOptions, Error};
use ketch_spec::image::{Descriptor, media_type};
use ketch_spec::{Digest, Reference};
use server::{Reply, Request, Server, client, descriptor, options};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":2},"layers":[]}"#;

fn reference(server: &Server) -> Reference {
    format!("{}/app:1", server.address).parse().unwrap()
}

fn manifest() -> Reply {
    Reply::new(200, MANIFEST).header("Content-Type", media_type::MANIFEST)
}

fn content() -> Vec<u8> {
    (0..100_000u32).flat_map(u32::to_le_bytes).collect()
}

/// Reads a blob as a caller would: what came, and the error that ended it.
fn read_blob(
    client: &Client,
    server: &Server,
    blob: &Descriptor,
    offset: u64,
) -> (Vec<u8>, Option<String>) {
    let mut bytes = Vec::new();
    match client.blob(&reference(server), blob, offset) {
        Err(error) => (bytes, Some(error.to_string())),
        Ok(mut stream) => match stream.read_to_end(&mut bytes) {
            Ok(_) => (bytes, None),
            Err(error) => (bytes, Some(error.to_string())),
        },
    }
}

/// Serves `content` with ranges, cutting each answer after `cut` bytes.
fn ranged(request: &Request, content: &[u8], cut: usize) -> Reply {
    let first: usize = request
        .header("range")
        .strip_prefix("bytes=")
        .and_then(|r| r.trim_end_matches('-').parse().ok())
        .unwrap_or(0);
    let status = if first > 0 { 206 } else { 200 };
    let range = format!("bytes {first}-{}/{}", content.len() - 1, content.len());
    Reply::new(status, &content[first..])
        .header("Content-Range", range)
        .cut(cut)
}

#[test]
fn resolves_a_tag_in_plain_http_on_loopback() {
    let server = Server::start(|_| manifest());
    let fetched = client().resolve(&reference(&server)).unwrap();
    assert_eq!(fetched.bytes, MANIFEST);
    assert_eq!(fetched.digest, Digest::of(MANIFEST));
    assert_eq!(fetched.media_type, media_type::MANIFEST);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].target, "/v2/app/manifests/1");
    for wanted in [
        media_type::INDEX,
        media_type::DOCKER_LIST,
        media_type::DOCKER_MANIFEST,
    ] {
        assert!(requests[0].header("accept").contains(wanted));
    }
    assert!(requests[0].header("user-agent").starts_with("ketch/"));
}

#[test]
fn wrong_manifest_digests_are_refused() {
    let server = Server::start(|_| manifest());
    let wanted = reference(&server).with_digest(Digest::of(b"other"));
    assert!(matches!(
        client().resolve(&wanted),
        Err(Error::Digest { .. })
    ));
    let server = Server::start(|_| {
        manifest().header("Docker-Content-Digest", Digest::of(b"other").to_string())
    });
    assert!(matches!(
        client().resolve(&reference(&server)),
        Err(Error::Digest { .. })
    ));
}

#[test]
fn documents_are_bounded_and_checked() {
    let cases: [(Reply, &str); 5] = [
        (
            Reply::new(200, vec![b' '; (4 << 20) + 1]),
            "larger than 4194304 bytes",
        ),
        (Reply::new(200, "<html>"), "cannot be read"),
        (
            Reply::new(200, r#"{"schemaVersion":1}"#),
            "a Docker manifest of schema version 1",
        ),
        (
            Reply::new(200, r#"{"schemaVersion":2,"mediaType":"text/odd"}"#),
            "as text/odd, which is not supported",
        ),
        (
            Reply::new(200, MANIFEST).header("Content-Type", media_type::INDEX),
            "unusable Content-Type",
        ),
    ];
    for (reply, words) in cases {
        let server = Server::start(move |_| reply.clone());
        let error = client()
            .resolve(&reference(&server))
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn missing_manifests_keep_the_servers_words() {
    let server = Server::start(|_| {
        let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown\u001b"}]}"#;
        Reply::new(404, body)
    });
    match client().resolve(&reference(&server)) {
        Err(Error::ManifestNotFound {
            reason, registry, ..
        }) => {
            assert_eq!(reason, "manifest unknown: manifest unknown");
            assert_eq!(registry, server.address.to_string());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn busy_registries_are_asked_again_but_not_forever() {
    let server = Server::start(|request| match request.nth {
        0 => Reply::new(429, "").header("Retry-After", "9999"),
        1 => Reply::new(503, ""),
        _ => manifest(),
    });
    assert!(client().resolve(&reference(&server)).is_ok());
    assert_eq!(server.requests().len(), 3);
    let server = Server::start(|_| Reply::new(429, ""));
    assert!(matches!(
        client().resolve(&reference(&server)),
        Err(Error::RateLimited { .. })
    ));
    assert_eq!(server.requests().len(), 3);
    let server = Server::start(|_| Reply::new(500, ""));
    assert!(matches!(
        client().resolve(&reference(&server)),
        Err(Error::Status { status: 500, .. })
    ));
    let server = Server::start(|_| manifest().cut(20));
    assert!(matches!(
        client().resolve(&reference(&server)),
        Err(Error::Unreachable { .. })
    ));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn refused_connections_and_silence_have_limits() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let reference_to_none: Reference = format!("{free}/app:1").parse().unwrap();
    let error = client().resolve(&reference_to_none).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&free.to_string()) && text.contains("refused"),
        "{text}"
    );
    assert!(error.hint().is_some());
    let server = Server::start(|_| Reply {
        silent: true,
        ..Reply::new(200, "")
    });
    let quick = ClientOptions {
        read_timeout: Duration::from_millis(50),
        ..options()
    };
    let error = Client::new(quick)
        .unwrap()
        .resolve(&reference(&server))
        .unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn broken_blob_streams_resume_where_they_stopped() {
    let content = content();
    let blob = descriptor(&content);
    let served = content.clone();
    let server = Server::start(move |request| {
        let cut = if request.header("range").is_empty() {
            150_000
        } else {
            usize::MAX
        };
        ranged(request, &served, cut)
    });
    assert_eq!(
        read_blob(&client(), &server, &blob, 0),
        (content.clone(), None)
    );
    let ranges: Vec<String> = server
        .requests()
        .iter()
        .map(|r| r.header("range").to_owned())
        .collect();
    assert_eq!(ranges, ["", "bytes=150000-"]);
    let (rest, error) = read_blob(&client(), &server, &blob, 399_999);
    assert_eq!((rest.as_slice(), error), (&content[399_999..], None));
}

#[test]
fn servers_without_ranges_are_read_from_the_start() {
    let content = content();
    let blob = descriptor(&content);
    let served = content.clone();
    let server = Server::start(move |request| {
        let cut = if request.nth == 0 {
            150_000
        } else {
            usize::MAX
        };
        Reply::new(200, served.clone()).cut(cut)
    });
    assert_eq!(read_blob(&client(), &server, &blob, 0), (content, None));
}

#[test]
fn streams_that_always_break_end() {
    let content = content();
    let blob = descriptor(&content);
    let server = Server::start(move |request| ranged(request, &content, 10));
    let (bytes, error) = read_blob(&client(), &server, &blob, 0);
    assert_eq!(bytes.len(), 30);
    let error = error.unwrap();
    assert!(
        error.contains("cut the download") && error.contains("at 30 of 400000"),
        "{error}"
    );
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn wrong_content_never_comes_whole() {
    let content = content();
    let blob = descriptor(&content);
    let mut damaged = content.clone();
    damaged[7] ^= 1;
    let server = Server::start(move |_| Reply::new(200, damaged.clone()));
    let (bytes, error) = read_blob(&client(), &server, &blob, 0);
    assert!(bytes.len() < content.len());
    assert!(error.unwrap().contains("wrong content"));
    let longer = [content.as_slice(), b"x"].concat();
    let server = Server::start(move |_| Reply::new(200, longer.clone()));
    assert!(
        read_blob(&client(), &server, &blob, 0)
            .1
            .unwrap()
            .contains("400001 bytes")
    );
}

#[test]
fn a_part_of_another_range_is_refused() {
    let content = content();
    let blob = descriptor(&content);
    let server = Server::start(move |_| {
        Reply::new(206, &content[5..]).header("Content-Range", "bytes 5-399999/400000")
    });
    let (bytes, error) = read_blob(&client(), &server, &blob, 10);
    assert_eq!(
        (bytes.len(), error.unwrap().contains("from 5 instead of 10")),
        (0, true)
    );
}

#[test]
fn empty_blobs_need_no_connection() {
    let server = Server::start(|_| Reply::new(500, ""));
    assert_eq!(
        read_blob(&client(), &server, &descriptor(b""), 0),
        (vec![], None)
    );
    let mut lie = descriptor(b"x");
    lie.size = 0;
    assert!(
        read_blob(&client(), &server, &lie, 0)
            .1
            .unwrap()
            .contains("wrong content")
    );
}
