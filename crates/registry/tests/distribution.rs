//! Mirrors, lists, searches, foreign layers, referrers, proxies and rate limits.
#![allow(missing_docs)]

mod server;

use std::io::Read;

use ketch_registry::{Client, ClientOptions, Error, Proxies, Rule};
use ketch_spec::image::{Descriptor, Index, media_type};
use ketch_spec::{Digest, Reference};
use server::{Reply, Server, client, descriptor, options};

const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"a","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":2},"layers":[]}"#;

fn reference(server: &Server) -> Reference {
    format!("{}/team/app:1", server.address).parse().unwrap()
}

fn read(client: &Client, reference: &Reference, blob: &Descriptor) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let stream = client.blob(reference, blob, 0);
    let mut stream = stream.map_err(|error| error.to_string())?;
    stream
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn mirrored(origin: &Server, mirrors: &[String]) -> Client {
    Client::new(ClientOptions {
        rules: vec![Rule {
            prefix: origin.address.to_string(),
            location: None,
            mirrors: mirrors.to_vec(),
        }],
        ..options()
    })
    .unwrap()
}

#[test]
fn a_mirror_is_asked_first_and_the_origin_in_its_place() {
    let content = b"layer".to_vec();
    let served = content.clone();
    let origin = Server::start(move |request| {
        if request.target.contains("/blobs/") {
            Reply::new(200, served.clone())
        } else {
            Reply::new(200, MANIFEST)
        }
    });
    // It has the manifest, and the blob damaged in a way that its size tells.
    let mirror = Server::start(|request| {
        if request.target.contains("/blobs/") {
            Reply::new(200, "too long a layer")
        } else {
            Reply::new(200, MANIFEST)
        }
    });
    let client = mirrored(&origin, &[format!("{}/hub", mirror.address)]);
    client.resolve(&reference(&origin)).unwrap();
    assert_eq!(mirror.count("GET", "/v2/hub/team/app/manifests/1"), 1);
    assert_eq!(origin.requests().len(), 0);
    let bytes = read(&client, &reference(&origin), &descriptor(&content)).unwrap();
    assert_eq!(bytes, content);
    // What is written goes to the origin only.
    let put = client.put_manifest(
        &reference(&origin),
        media_type::MANIFEST,
        MANIFEST.as_bytes(),
    );
    put.unwrap();
    assert_eq!(origin.count("PUT", "/v2/team/app/manifests/1"), 1);
    assert!(mirror.requests().iter().all(|r| r.method == "GET"));
}

#[test]
fn mirrors_that_fail_cost_one_attempt_each() {
    let origin = Server::start(|_| Reply::new(200, MANIFEST));
    let busy = Server::start(|_| Reply::new(503, ""));
    let wrong = Server::start(|_| {
        Reply::new(200, MANIFEST).header("Docker-Content-Digest", Digest::of(b"other").to_string())
    });
    // Nobody listens there any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mirrors = [gone, busy.address.to_string(), wrong.address.to_string()];
    let client = mirrored(&origin, &mirrors);
    client.resolve(&reference(&origin)).unwrap();
    client.resolve(&reference(&origin)).unwrap();
    assert_eq!((busy.requests().len(), wrong.requests().len()), (2, 2));
    // What nobody has is told in the origin's words.
    let none = Server::start(|_| Reply::new(404, ""));
    let client = mirrored(&none, &[busy.address.to_string()]);
    let error = client.resolve(&reference(&none)).unwrap_err();
    assert!(matches!(error, Error::ManifestNotFound { .. }), "{error:?}");
}

#[test]
fn tags_come_in_pages() {
    let server = Server::start(|request| match request.target.as_str() {
        "/v2/team/app/tags/list?n=1000" => {
            Reply::new(200, r#"{"name":"team/app","tags":["1","../x"]}"#).header(
                "Link",
                "</v2/team/app/tags/list?last=1&n=1000>; rel=\"next\"",
            )
        }
        "/v2/team/app/tags/list?last=1&n=1000" => Reply::new(200, r#"{"tags":["2"]}"#),
        "/v2/team/empty/tags/list?n=1000" => Reply::new(200, r#"{"tags":null}"#),
        _ => Reply::new(404, ""),
    });
    assert_eq!(client().tags(&reference(&server)).unwrap(), ["1", "2"]);
    let named = |name: &str| -> Reference { format!("{}/{name}", server.address).parse().unwrap() };
    assert!(client().tags(&named("team/empty")).unwrap().is_empty());
    let error = client().tags(&named("team/none")).unwrap_err();
    assert!(matches!(error, Error::ManifestNotFound { .. }), "{error:?}");
    let endless = Server::start(|_| {
        Reply::new(200, r#"{"tags":[]}"#).header("Link", "</v2/team/app/tags/list?n=1>; rel=next")
    });
    let error = client().tags(&reference(&endless)).unwrap_err().to_string();
    assert!(error.contains("more than 1000 entries or pages"), "{error}");
}

#[test]
fn a_search_has_results_or_is_refused_by_name() {
    let server = Server::start(|_| {
        let results = r#"{"num_results":1,"results":[{"name":"app","description":"d","star_count":3,"is_official":true}]}"#;
        Reply::new(200, results)
    });
    let host = server.address.to_string();
    let found = client().search(&host, "a b", 25).unwrap();
    assert_eq!((found[0].name.as_str(), found[0].star_count), ("app", 3));
    assert!(found[0].is_official && !found[0].is_automated);
    assert_eq!(server.requests()[0].target, "/v1/search?q=a%20b&n=25");
    for reply in [Reply::new(404, ""), Reply::new(200, "<html>")] {
        let server = Server::start(move |_| reply.clone());
        let host = server.address.to_string();
        let error = client().search(&host, "x", 25).unwrap_err();
        assert!(matches!(error, Error::NoSearch { .. }), "{error:?}");
        assert!(error.to_string().contains(&host));
    }
}

#[test]
fn foreign_layers_come_from_their_urls_and_are_checked() {
    let content = b"windows".to_vec();
    let served = content.clone();
    let elsewhere = Server::start(move |_| Reply::new(200, served.clone()));
    let registry = Server::start(|_| Reply::new(404, ""));
    let mut blob = descriptor(&content);
    let url = format!("http://{}/layer", elsewhere.address);
    blob.other.insert("urls".into(), vec![url].into());
    let bytes = read(&client(), &reference(&registry), &blob).unwrap();
    assert_eq!(bytes, content);
    assert_eq!(registry.requests().len(), 0);

    let liar = Server::start(|_| Reply::new(200, "WINDOWS"));
    let url = format!("http://{}/layer", liar.address);
    blob.other.insert("urls".into(), vec![url].into());
    let error = read(&client(), &reference(&registry), &blob).unwrap_err();
    assert!(error.contains("wrong content"), "{error}");
    // Plain HTTP to another machine is not spoken, and nowhere else is left.
    let far = vec!["http://far.example/layer"];
    blob.other.insert("urls".into(), far.into());
    let error = read(&client(), &reference(&registry), &blob).unwrap_err();
    assert!(error.contains("has no blob"), "{error}");
}

const REFERRING: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/x-signature","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[],"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:1111111111111111111111111111111111111111111111111111111111111111","size":9},"annotations":{"by":"me"}}"#;

fn subject() -> Digest {
    format!("sha256:{}", "1".repeat(64)).parse().unwrap()
}

#[test]
fn referrers_are_kept_in_a_tag_where_the_registry_does_not_list_them() {
    let tag = format!("/v2/team/app/manifests/sha256-{}", "1".repeat(64));
    let path = tag.clone();
    let server = Server::start(move |request| match request.method.as_str() {
        "PUT" => Reply::new(201, ""),
        "GET" if request.target == path => Reply::new(
            200,
            r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"a","digest":"sha256:2222222222222222222222222222222222222222222222222222222222222222","size":1,"artifactType":"other"}]}"#,
        ),
        _ => Reply::new(404, ""),
    });
    client()
        .put_manifest(
            &reference(&server),
            media_type::MANIFEST,
            REFERRING.as_bytes(),
        )
        .unwrap();
    let requests = server.requests();
    let list = requests.iter().rfind(|r| r.method == "PUT").unwrap();
    assert_eq!(list.target, tag);
    let list: Index = serde_json::from_slice(&list.body).unwrap();
    assert_eq!(list.manifests.len(), 2);
    let entry = &list.manifests[1];
    assert_eq!(entry.digest, Digest::of(REFERRING.as_bytes()));
    assert_eq!(entry.other["artifactType"], "application/x-signature");
    assert_eq!(entry.annotations["by"], "me");
    // The list is the answer where there is no other.
    let of = |kind| client().referrers(&reference(&server), &subject(), kind);
    assert_eq!(of(None).unwrap().len(), 1);
    assert_eq!(of(Some("other")).unwrap().len(), 1);
    assert_eq!(of(Some("another")).unwrap().len(), 0);
}

#[test]
fn a_registry_that_lists_referrers_is_left_to_it() {
    let server = Server::start(|request| match request.method.as_str() {
        "PUT" => Reply::new(201, "").header("OCI-Subject", subject().to_string()),
        _ => Reply::new(
            200,
            r#"{"schemaVersion":2,"manifests":[{"mediaType":"a","digest":"sha256:2222222222222222222222222222222222222222222222222222222222222222","size":1,"artifactType":"one"},{"mediaType":"a","digest":"sha256:3333333333333333333333333333333333333333333333333333333333333333","size":1,"artifactType":"two"}]}"#,
        ),
    });
    client()
        .put_manifest(
            &reference(&server),
            media_type::MANIFEST,
            REFERRING.as_bytes(),
        )
        .unwrap();
    assert_eq!(server.requests().len(), 1);
    let found = client().referrers(&reference(&server), &subject(), Some("two"));
    assert_eq!(found.unwrap().len(), 1);
}

#[test]
fn proxies_are_asked_with_their_password_and_not_for_what_is_near() {
    let proxy = Server::start(|_| Reply::new(403, "no"));
    let near = Server::start(|_| Reply::new(200, MANIFEST));
    let client = Client::new(ClientOptions {
        proxies: Proxies {
            http: None,
            https: Some(format!("http://me:pass@{}", proxy.address)),
            except: vec![],
        },
        ..options()
    })
    .unwrap();
    client.resolve(&reference(&near)).unwrap();
    assert_eq!(proxy.requests().len(), 0);
    let far: Reference = "registry.invalid/app:1".parse().unwrap();
    let error = client.resolve(&far).unwrap_err().to_string();
    assert!(!error.contains("pass"), "{error}");
    let asked = &proxy.requests()[0];
    assert_eq!(asked.method, "CONNECT");
    assert_eq!(asked.target, "registry.invalid:443");
    assert_eq!(asked.header("proxy-authorization"), "Basic bWU6cGFzcw==");
}

#[test]
fn a_date_in_retry_after_is_waited_for() {
    let server = Server::start(move |request| {
        if request.nth == 0 {
            Reply::new(503, "").header("Retry-After", "Wed, 21 Oct 2015 07:28:00 GMT")
        } else {
            Reply::new(200, MANIFEST)
        }
    });
    client().resolve(&reference(&server)).unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn rate_limits_are_waited_for_within_a_bound_and_explained() {
    let refusal = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let server = Server::start(move |request| {
        if request.nth == 0 {
            Reply::new(429, refusal).header("Retry-After", "86400")
        } else {
            Reply::new(200, MANIFEST)
        }
    });
    client().resolve(&reference(&server)).unwrap();
    let never = Server::start(move |_| Reply::new(429, refusal).header("Retry-After", "1"));
    let error = client().resolve(&reference(&never)).unwrap_err();
    assert!(matches!(error, Error::RateLimited { .. }), "{error:?}");
    assert!(error.to_string().contains("toomanyrequests"), "{error}");
    assert!(error.hint().unwrap().contains("ketch login"));
    assert_eq!(never.requests().len(), 3);
}

#[test]
fn headers_have_a_bound() {
    let server =
        Server::start(|_| Reply::new(200, MANIFEST).header("X-Long", "x".repeat(100 << 10)));
    let error = client().resolve(&reference(&server)).unwrap_err();
    assert!(error.to_string().contains("larger than"), "{error}");
}
