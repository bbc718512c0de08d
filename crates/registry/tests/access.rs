//! Proofs of identity: challenges, tokens, credentials, and whom they are sent to.
#![allow(missing_docs)]

mod server;

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use ketch_registry::{Client, ClientOptions, CredentialFile, Credentials, Error, Kept, Login};
use ketch_spec::Reference;
use ketch_spec::image::media_type;
use server::{Reply, Request, Server, descriptor, impatient, options};

const MANIFEST: &str = r#"{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","size":2},"layers":[]}"#;

fn client(credentials: Option<&Path>) -> Client {
    let credentials = credentials.map(Into::into);
    Client::new(ClientOptions {
        retry: impatient(2),
        credentials,
        ..ClientOptions::default()
    })
    .unwrap()
}

fn reference(server: &Server) -> Reference {
    format!("{}/team/app:1", server.address).parse().unwrap()
}

/// A registry with a token service of its own, at /token; `accept` says which tokens it takes.
fn token_registry(accept: &'static [&'static str], token: fn(&Request) -> Reply) -> Server {
    let address = Arc::new(Mutex::new(String::new()));
    let own = address.clone();
    let server = Server::start(move |request| {
        if request.target.starts_with("/token") {
            return token(request);
        }
        let proof = request
            .header("authorization")
            .trim_start_matches("Bearer ");
        if accept.contains(&proof) {
            return Reply::new(200, MANIFEST);
        }
        let realm = format!("http://{}/token", own.lock().unwrap());
        let challenge = format!("Bearer realm=\"{realm}\",service=\"reg\",scope=\"x\"");
        Reply::new(
            401,
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
        )
        .header("WWW-Authenticate", challenge)
    });
    *address.lock().unwrap() = server.address.to_string();
    server
}

fn config(text: String) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn tokens_are_fetched_once_a_scope() {
    let server = token_registry(&["good"], |_| {
        Reply::new(200, r#"{"token":"good","expires_in":300}"#)
    });
    let client = client(None);
    client.resolve(&reference(&server)).unwrap();
    client.resolve(&reference(&server)).unwrap();
    assert_eq!(server.count("GET", "/token"), 1);
    assert_eq!(server.count("GET", "/v2/team/app/manifests/1"), 3);
    let token_request = &server.requests()[1];
    assert_eq!(
        token_request.target,
        "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull"
    );
    assert_eq!(token_request.header("authorization"), "");
    client
        .put_manifest(
            &reference(&server),
            media_type::MANIFEST,
            MANIFEST.as_bytes(),
        )
        .unwrap();
    let last = server
        .requests()
        .into_iter()
        .rfind(|r| r.method == "GET")
        .unwrap();
    assert!(last.target.ends_with("pull%2Cpush"), "{}", last.target);
}

#[test]
fn refused_tokens_do_not_loop() {
    let server = token_registry(&[], |_| Reply::new(200, r#"{"access_token":"bad"}"#));
    match client(None).resolve(&reference(&server)) {
        Err(Error::Unauthorised {
            reason,
            with_credentials: false,
            ..
        }) => {
            assert_eq!(reason, "unauthorized: authentication required");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(server.count("GET", "/v2/team/app/manifests/1"), 2);
    assert_eq!(server.count("GET", "/token"), 1);
}

#[test]
fn passwords_go_to_the_token_service_and_tokens_to_the_registry() {
    let server = token_registry(&["good"], |request| {
        if request.header("authorization") == "Basic bWU6cGFzcw==" {
            Reply::new(200, r#"{"token":"good"}"#)
        } else {
            Reply::new(401, r#"{"details":"incorrect username or password"}"#)
        }
    });
    let auth = |auth: &str| {
        config(format!(
            r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#,
            server.address
        ))
    };
    let right = auth("bWU6cGFzcw==");
    client(Some(right.path()))
        .resolve(&reference(&server))
        .unwrap();
    for request in server.requests() {
        let basic = request.header("authorization").starts_with("Basic");
        assert_eq!(basic, request.target.starts_with("/token"), "{request:?}");
    }
    assert!(
        server
            .requests()
            .iter()
            .any(|r| r.target.contains("&account=me"))
    );
    let wrong = auth("bWU6d3Jvbmc=");
    let error = client(Some(wrong.path()))
        .resolve(&reference(&server))
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unauthorised {
                with_credentials: true,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn identity_tokens_are_posted() {
    let server = token_registry(&["good"], |request| {
        if request.method == "POST" && request.body_length > 0 {
            Reply::new(200, r#"{"access_token":"good"}"#)
        } else {
            Reply::new(401, "")
        }
    });
    let text = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"id"}}}}}}"#,
        server.address
    );
    client(Some(config(text).path()))
        .resolve(&reference(&server))
        .unwrap();
}

#[test]
fn basic_is_answered_with_a_password_or_not_at_all() {
    let server = Server::start(|request| {
        if request.header("authorization") == "Basic bWU6cGFzcw==" {
            Reply::new(200, MANIFEST)
        } else {
            Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\"")
        }
    });
    let text = format!(
        r#"{{"auths":{{"{}":{{"auth":"bWU6cGFzcw=="}}}}}}"#,
        server.address
    );
    client(Some(config(text).path()))
        .resolve(&reference(&server))
        .unwrap();
    let before = server.requests().len();
    let error = client(None).resolve(&reference(&server)).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Unauthorised {
                with_credentials: false,
                ..
            }
        ),
        "{error:?}"
    );
    assert_eq!(server.requests().len(), before + 1);
    let server = Server::start(|_| Reply::new(401, "").header("WWW-Authenticate", "Negotiate"));
    let error = client(None)
        .resolve(&reference(&server))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("unknown authentication \"Negotiate\""),
        "{error}"
    );
}

#[test]
fn given_credentials_stand_before_the_file_and_for_their_host_only() {
    let basic = || {
        Server::start(|request| match request.header("authorization") {
            "Basic bWU6Z2l2ZW4=" => Reply::new(200, MANIFEST),
            _ => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
        })
    };
    let (registry, other) = (basic(), basic());
    let file = config(format!(
        r#"{{"auths":{{"{}":{{"auth":"bWU6cGFzcw=="}}}}}}"#,
        registry.address
    ));
    let given = Credentials::Password {
        user: "me".into(),
        password: "given".into(),
    };
    let client = Client::new(ClientOptions {
        credentials: Some(file.path().into()),
        given: vec![(registry.address.to_string(), given)],
        ..options()
    })
    .unwrap();
    client.resolve(&reference(&registry)).unwrap();
    let error = client.resolve(&reference(&other)).unwrap_err();
    assert!(matches!(error, Error::Unauthorised { .. }), "{error:?}");
    let proofs = other.requests();
    assert!(proofs.iter().all(|r| r.header("authorization").is_empty()));
}

#[test]
fn redirects_drop_credentials_and_end() {
    let content = b"layer".to_vec();
    let served = content.clone();
    let cdn = Server::start(move |_| Reply::new(200, served.clone()));
    let elsewhere = format!("http://{}/signed?secret=1", cdn.address);
    let registry = Server::start(move |request| {
        if request.header("authorization").is_empty() {
            return Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\"");
        }
        if request.target.contains("loop") {
            let again = format!("{}x", request.target);
            return Reply::new(307, "").header("Location", again);
        }
        Reply::new(307, "").header("Location", elsewhere.clone())
    });
    let text = format!(
        r#"{{"auths":{{"{}":{{"auth":"bWU6cGFzcw=="}}}}}}"#,
        registry.address
    );
    let file = config(text);
    let client = client(Some(file.path()));
    let blob = descriptor(&content);
    let mut bytes = Vec::new();
    client
        .blob(&reference(&registry), &blob, 0)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes, content);
    assert_eq!(cdn.requests().len(), 1);
    assert_eq!(cdn.requests()[0].header("authorization"), "");
    let looping: Reference = format!("{}/loop:1", registry.address).parse().unwrap();
    let error = client.resolve(&looping).unwrap_err().to_string();
    assert!(error.contains("too many redirects"), "{error}");
    assert!(!error.contains("secret"));
}

#[test]
fn a_token_that_runs_out_in_the_middle_is_renewed() {
    let content: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let address = Arc::new(Mutex::new(String::new()));
    let (own, served) = (address.clone(), content.clone());
    let server = Server::start(move |request| {
        if request.target.starts_with("/token") {
            let text = format!(r#"{{"token":"t{}","expires_in":300}}"#, request.nth);
            return Reply::new(200, text);
        }
        // The first token is good until the first break, the second from then on.
        let good = if request.header("range").is_empty() {
            "Bearer t0"
        } else {
            "Bearer t1"
        };
        if request.header("authorization") != good {
            let realm = format!("http://{}/token", own.lock().unwrap());
            return Reply::new(401, "")
                .header("WWW-Authenticate", format!("Bearer realm=\"{realm}\""));
        }
        if request.header("range").is_empty() {
            return Reply::new(200, served.clone()).cut(4000);
        }
        Reply::new(206, &served[4000..]).header("Content-Range", "bytes 4000-9999/10000")
    });
    *address.lock().unwrap() = server.address.to_string();
    let mut bytes = Vec::new();
    client(None)
        .blob(&reference(&server), &descriptor(&content), 0)
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes, content);
    assert_eq!(server.count("GET", "/token"), 2);
}

#[test]
fn a_login_asks_for_a_token_to_keep() {
    let server = token_registry(&["good"], |request| {
        if request.header("authorization") == "Basic bWU6cGFzcw==" {
            Reply::new(200, r#"{"token":"good","refresh_token":"keep"}"#)
        } else {
            Reply::new(401, r#"{"details":"incorrect username or password"}"#)
        }
    });
    let host = server.address.to_string();
    let answer = client(None).login(&host, "me", "pass").unwrap();
    assert_eq!(answer.identity_token.as_deref(), Some("keep"));
    let asked = server
        .requests()
        .into_iter()
        .find(|r| r.target.starts_with("/token"))
        .unwrap();
    assert_eq!(
        asked.target,
        "/token?service=reg&client_id=ketch&offline_token=true&account=me"
    );
    let error = client(None).login(&host, "me", "wrong").unwrap_err();
    assert!(matches!(error, Error::Login { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!(
            "login attempt to http://{host}/v2/ failed with status: 401 Unauthorized: unauthorized: incorrect username or password"
        )
    );
    let website = Server::start(|_| Reply::new(404, "<html>"));
    let error = client(None).login(&website.address.to_string(), "me", "x");
    assert!(error.unwrap_err().to_string().contains("it is no registry"));
}

/// Runs itself with another PATH, where the helper is.
#[test]
fn credential_helpers_are_asked() {
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("docker-credential-fake");
    let script = "#!/bin/sh\nread -r key\ncase $1 in\nstore) echo \"$key\" >\"$0.stored\"; exit ;;\nerase) echo \"$key\" >\"$0.erased\"; exit ;;\nget) ;;\n*) exit 2 ;;\nesac\ncase $key in\n*:*) echo '{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"pass\"}' ;;\n*) echo 'credentials not found in native keychain'; exit 1 ;;\nesac\n";
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        dir.path().display(),
        std::env::var("PATH").unwrap()
    );
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "with_helper_in_path", "--ignored"])
        .env("PATH", path)
        .output()
        .unwrap();
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stdout)
    );
}

#[test]
#[ignore = "run by credential_helpers_are_asked"]
fn with_helper_in_path() {
    let server = Server::start(|request| {
        if request.header("authorization") == "Basic bWU6cGFzcw==" {
            Reply::new(200, MANIFEST)
        } else {
            Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\"")
        }
    });
    for text in [
        format!(r#"{{"credHelpers":{{"{}":"fake"}}}}"#, server.address),
        r#"{"credsStore":"fake"}"#.to_owned(),
    ] {
        client(Some(config(text).path()))
            .resolve(&reference(&server))
            .unwrap();
    }
    let config = config(r#"{"credsStore":"fake"}"#.to_owned());
    let file = CredentialFile::new(config.path());
    let login = Login {
        user: "me".into(),
        password: "secret".into(),
        identity_token: None,
    };
    let kept = file.keep("r.example", &login).unwrap();
    assert_eq!(kept, Kept::Helper("docker-credential-fake".into()));
    let text = std::fs::read_to_string(config.path()).unwrap();
    assert!(
        text.contains("r.example") && !text.contains("secret"),
        "{text}"
    );
    assert!(file.forget("r.example").unwrap());
    let path = std::env::var("PATH").unwrap();
    let said = |end: &str| {
        let helper = path.split(':').next().unwrap();
        std::fs::read_to_string(format!("{helper}/docker-credential-fake.{end}")).unwrap()
    };
    assert_eq!(
        said("stored").trim(),
        r#"{"ServerURL":"r.example","Username":"me","Secret":"secret"}"#
    );
    assert_eq!(said("erased").trim(), "r.example");
}
