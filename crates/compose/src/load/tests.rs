use super::*;

/// A directory with files, loaded from there.
struct Case {
    directory: PathBuf,
    options: LoadOptions,
}

impl Case {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let directory =
            std::env::temp_dir().join(format!("ketch-compose-{}-{name}", std::process::id()));
        for (file, text) in files {
            let path = directory.join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("make it");
            std::fs::write(path, text).expect("write it");
        }
        let options = LoadOptions {
            working_directory: directory.clone(),
            project_name: Some("p".into()),
            ..LoadOptions::default()
        };
        Self { directory, options }
    }

    fn load(&self) -> Result<Project, LoadError> {
        load(&self.options)
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[test]
fn short_forms_become_long_ones() {
    let case = Case::new(
        "long",
        &[
            (
                "compose.yaml",
                "services:\n  web:\n    build: ./web\n    command: sh -c \"echo hi\"\n    ports: ['8080:80', '53:53/udp']\n    volumes: ['data:/d', './x:/x:ro', '/anon']\n    environment: [A=$A, B]\n    depends_on: [db]\n  db: {image: busybox, healthcheck: {test: exit 0, interval: 90s}}\nvolumes: {data: }\n",
            ),
            (".env", "A=from env\n"),
        ],
    );
    let project = case.load().expect("a project");
    let yaml = project.to_yaml();
    for expected in [
        "name: p\n",
        "    build:\n      context: ",
        "dockerfile: Dockerfile",
        "      - mode: ingress\n        protocol: tcp\n        published: \"8080\"\n        target: 80\n",
        "protocol: udp",
        "source: data\n        target: /d\n        type: volume",
        "read_only: true",
        "A: from env\n",
        "condition: service_started\n",
        "- CMD-SHELL\n",
        "interval: 1m30s",
        "  data:\n    name: p_data\n",
        "  default:\n    name: p_default\n",
    ] {
        assert!(yaml.contains(expected), "{expected:?} in\n{yaml}");
    }
    assert!(
        !yaml.contains("B:"),
        "a bare name without a value is left out:\n{yaml}"
    );
    // what is printed loads again, to the same
    std::fs::write(case.directory.join("again.yaml"), &yaml).expect("write");
    let again = LoadOptions {
        files: vec!["again.yaml".into()],
        ..case.options.clone()
    };
    let again = LoadOptions {
        files: vec![case.directory.join(&again.files[0])],
        ..again
    };
    assert_eq!(load(&again).expect("loads again").to_yaml(), yaml);
}

#[test]
fn the_caller_s_environment_wins_and_names_follow_their_order() {
    let mut case = Case::new(
        "names",
        &[
            (
                "compose.yaml",
                "name: fromfile\nservices: {a: {image: 'x:$T'}}\n",
            ),
            (".env", "T=env\n"),
        ],
    );
    case.options.project_name = None;
    assert_eq!(case.load().expect("a project").name, "fromfile");
    case.options
        .environment
        .insert("COMPOSE_PROJECT_NAME".into(), "variable".into());
    case.options.environment.insert("T".into(), "caller".into());
    let project = case.load().expect("a project");
    assert_eq!(project.name, "variable");
    assert_eq!(project.services["a"].image, "x:caller");
    case.options.project_name = Some("Bad Name".into());
    case.load().expect_err("an invalid name");
}

#[test]
fn overrides_extends_includes_and_profiles() {
    let mut case = Case::new(
        "parts",
        &[
            (
                "compose.yaml",
                "include: [sub/inc.yaml]\nservices:\n  a:\n    extends: {file: base/b.yaml, service: base}\n    environment: {OWN: 1}\n  dev: {image: x, profiles: [dev]}\n",
            ),
            (
                "compose.override.yaml",
                "services: {a: {environment: {OVER: 2}}}\n",
            ),
            (
                "base/b.yaml",
                "services: {base: {build: ./ctx, environment: {BASE: 0, OWN: 0}}}\n",
            ),
            (
                "sub/inc.yaml",
                "services: {inc: {image: y, volumes: ['./d:/d']}}\n",
            ),
        ],
    );
    let project = case.load().expect("a project");
    assert_eq!(project.services.keys().collect::<Vec<_>>(), ["a", "inc"]);
    let build = project.services["a"].build.as_ref().expect("a build");
    assert_eq!(build.context, case.directory.join("base/ctx"));
    let yaml = project.to_yaml();
    for expected in ["BASE: \"0\"", "OWN: \"1\"", "OVER: \"2\"", "/sub/d\n"] {
        assert!(yaml.contains(expected), "{expected:?} in\n{yaml}");
    }
    case.options.profiles.push("dev".into());
    assert!(case.load().expect("a project").services.contains_key("dev"));
}

#[test]
fn mistakes_name_file_line_and_value() {
    for (name, text, expected) in [
        (
            "unknown",
            "services:\n  a:\n    image: x\n    imge: y\n",
            "compose.yaml:4:",
        ),
        (
            "refused",
            "services:\n  a:\n    image: x\n    gpus: all\n",
            "services.a.gpus is not supported",
        ),
        (
            "port",
            "services:\n  a:\n    image: x\n    ports: ['99999:1']\n",
            "compose.yaml:4:",
        ),
        (
            "network",
            "services:\n  a:\n    image: x\n    networks: [n]\n",
            "undefined network n",
        ),
        (
            "volume",
            "services:\n  a:\n    image: x\n    volumes: ['v:/v']\n",
            "undefined volume v",
        ),
        (
            "neither",
            "services:\n  a: {}\n",
            "neither an image nor a build context",
        ),
        (
            "cycle",
            "services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n",
            "dependency cycle detected: a -> b -> a",
        ),
        (
            "required",
            "services:\n  a: {image: '${NO:?give NO}'}\n",
            "give NO",
        ),
        (
            "self",
            "services:\n  a: {image: x, extends: a}\n",
            "is a cycle",
        ),
        ("list", "- a\n", "top-level object must be a mapping"),
        (
            "scale",
            "services:\n  a: {image: x, scale: 100000}\n",
            "1024 are the most",
        ),
        (
            "unset",
            "services:\n  a: {image: x, secrets: [s]}\nsecrets: {s: {environment: NOT_SET}}\n",
            "\"NOT_SET\", which is not set",
        ),
        (
            "sources",
            "services:\n  a: {image: x, secrets: [s]}\nsecrets: {s: {file: ./a, environment: B}}\n",
            "must have one of",
        ),
        (
            "namespace",
            "services:\n  a: {image: x, userns_mode: private}\n",
            "can only be host",
        ),
    ] {
        let case = Case::new(name, &[("compose.yaml", text)]);
        let error = case.load().expect_err(name).to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn what_two_files_both_have_must_be_the_same() {
    let case = Case::new(
        "conflict",
        &[
            (
                "compose.yaml",
                "include: [other.yaml]\nservices:\n  a: {image: x}\n",
            ),
            ("other.yaml", "services:\n  a: {image: y}\n"),
        ],
    );
    let error = case.load().expect_err("a conflict").to_string();
    assert!(
        error.contains("services.a conflicts with imported resource"),
        "{error}"
    );
}

#[test]
fn what_no_service_uses_is_left_out() {
    let mut case = Case::new(
        "unused",
        &[(
            "compose.yaml",
            "services:\n  a: {image: x, networks: [used]}\n  b: {image: x, profiles: [off], volumes: ['v:/v']}\nnetworks: {used: , idle: }\nvolumes: {v: }\nsecrets: {s: {file: ./s}}\n",
        )],
    );
    let project = case.load().expect("a project");
    assert_eq!(project.networks.keys().collect::<Vec<_>>(), ["used"]);
    assert!(project.volumes.is_empty() && !project.to_yaml().contains("volumes"));
    assert_eq!(project.profiles().into_iter().collect::<Vec<_>>(), ["off"]);
    case.options.all_resources = true;
    let project = case.load().expect("a project");
    assert!(project.networks.contains_key("idle") && project.volumes.contains_key("v"));
}

#[test]
fn files_may_be_named_by_the_environment_file() {
    let case = Case::new(
        "named",
        &[
            (
                ".env",
                "COMPOSE_FILE=one.yaml:two.yaml\nCOMPOSE_PROFILES=p\n",
            ),
            (
                "one.yaml",
                "services:\n  a: {image: x, label_file: ./l, labels: {own: 1}, build: {context: ., additional_contexts: {base: ./b}}}\n",
            ),
            (
                "two.yaml",
                "services:\n  b: {image: y, profiles: [p], depends_on: {a: }}\n",
            ),
            ("l", "from=file\nown=0\n"),
        ],
    );
    let project = case.load().expect("a project");
    assert_eq!(project.services.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(
        project.files,
        [
            case.directory.join("one.yaml"),
            case.directory.join("two.yaml")
        ]
    );
    let yaml = project.to_yaml();
    assert!(
        yaml.contains("from: file") && yaml.contains("own: \"1\""),
        "{yaml}"
    );
    let build = project.services["a"].build.as_ref().expect("a build");
    assert_eq!(
        build.contexts["base"],
        case.directory.join("b").to_string_lossy()
    );
}

#[test]
fn a_dollar_is_printed_so_that_it_is_read_as_one() {
    let case = Case::new(
        "dollar",
        &[(
            "compose.yaml",
            "services:\n  a: {image: x, command: 'echo $$HOME'}\n",
        )],
    );
    let project = case.load().expect("a project");
    assert!(project.to_yaml().contains("$$HOME"));
    let request = crate::request::create_request(&project, &project.services["a"], 1, &|_| None);
    assert_eq!(request.expect("a request").command, ["echo", "$HOME"]);
}
