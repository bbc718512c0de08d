//! Whole builds without programs to run: real layers, real records. RUN needs the program itself, so it is tested end
//! to end.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Mutex;

use ketch_engine::image::{self, Image};
use ketch_engine::layer::LayerView;
use ketch_engine::{Engine, EngineOptions};
use ketch_sys::fs::open_in_root;
use rustix::fs::{Mode, OFlags};

use super::*;

struct World {
    folder: tempfile::TempDir,
    engine: Engine,
    seen: Seen,
}

/// Remembers what was told.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl BuildObserver for Seen {
    fn event(&self, event: BuildEvent<'_>) {
        let text = match event {
            BuildEvent::Started { vertex, title } => format!("#{vertex} {title}"),
            BuildEvent::Cached { vertex } => format!("#{vertex} CACHED"),
            BuildEvent::Done { vertex, .. } => format!("#{vertex} DONE"),
            BuildEvent::Failed { vertex, message } => format!("#{vertex} ERROR {message}"),
            BuildEvent::Note { vertex, text } => format!("#{vertex} {text}"),
            BuildEvent::Warning { line, text } => format!("warning {line} {text}"),
            BuildEvent::Output { .. } => return,
        };
        self.0.lock().unwrap().push(text);
    }
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("context")).unwrap();
        let engine = Engine::open(EngineOptions {
            data_root: folder.path().join("data"),
            run_root: folder.path().join("run"),
            executable: "/nonexistent".into(),
            registry_config: None,
            layer_forms: Default::default(),
        })
        .unwrap();
        Self {
            folder,
            engine,
            seen: Seen::default(),
        }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join("context").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn request(&self) -> BuildRequest {
        BuildRequest {
            context: Context::Directory(self.folder.path().join("context")),
            tags: vec!["app:test".parse().unwrap()],
            ..BuildRequest::default()
        }
    }

    fn build(&self, request: BuildRequest) -> Result<Built, BuildError> {
        self.seen.0.lock().unwrap().clear();
        build(&self.engine, request, &self.seen)
    }

    fn built(&self) -> (Built, Image) {
        let built = self
            .build(self.request())
            .unwrap_or_else(|error| panic!("{error}"));
        (built, image::resolve(&self.engine, "app:test").unwrap())
    }

    fn read(&self, image: &Image, path: &str) -> String {
        let view = LayerView::open(&self.engine, &image.layers).unwrap();
        let file = open_in_root(view.root(), Path::new(path), OFlags::RDONLY, Mode::empty())
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        std::io::read_to_string(fs::File::from(file)).unwrap()
    }

    fn stat(&self, image: &Image, path: &str) -> fs::Metadata {
        let view = LayerView::open(&self.engine, &image.layers).unwrap();
        let file =
            open_in_root(view.root(), Path::new(path), OFlags::RDONLY, Mode::empty()).unwrap();
        fs::File::from(file).metadata().unwrap()
    }
}

#[test]
fn privileged_a_second_build_does_nothing_and_gives_the_same_image() {
    let world = World::new();
    world.write(
        "Dockerfile",
        "FROM scratch\nWORKDIR /app\nCOPY a b ./\nCOPY dir /dir\nENV X=1\nCMD [\"/app/a\"]\n",
    );
    for path in ["a", "b", "dir/c"] {
        world.write(path, path);
    }
    let (first, image) = world.built();
    assert_eq!((first.ran, first.cached), (3, 0));
    assert_eq!(
        (world.read(&image, "/app/a"), world.read(&image, "/dir/c")),
        ("a".into(), "dir/c".into())
    );
    let history: Vec<_> = image
        .config
        .history
        .iter()
        .map(|h| (h.created_by.as_deref().unwrap(), h.empty_layer))
        .collect();
    assert_eq!(
        history,
        [
            ("WORKDIR /app", false),
            ("COPY a b ./ # buildkit", false),
            ("COPY dir /dir # buildkit", false),
            ("ENV X=1", true),
            ("CMD [\"/app/a\"]", true),
        ]
    );
    let config = image.config.config.clone().unwrap();
    assert_eq!(config.cmd, Some(vec!["/app/a".to_owned()]));
    assert_eq!(image.layers.len(), 3);

    let (second, _) = world.built();
    assert_eq!((second.ran, second.cached), (0, 3));
    assert_eq!(second.image_id, first.image_id, "{:?}", world.seen.0);

    world.write("dir/c", "changed");
    let (third, image) = world.built();
    assert_eq!(
        (third.ran, third.cached),
        (1, 2),
        "only what reads the file runs again"
    );
    assert_eq!(world.read(&image, "/dir/c"), "changed");

    let (fourth, _) = (
        world
            .build(BuildRequest {
                no_cache: true,
                ..world.request()
            })
            .unwrap(),
        (),
    );
    assert_eq!((fourth.ran, fourth.cached), (3, 0));
}

#[test]
fn privileged_copies_between_stages_follow_content() {
    let world = World::new();
    let dockerfile = |extra: &str| {
        format!(
            "FROM scratch AS one\nCOPY a /out/a\n{extra}FROM scratch AS unused\nCOPY missing /\n\
             FROM scratch AS two\nCOPY b /out/b\nFROM one AS three\nCOPY --from=two /out /out/\nCOPY --from=0 /out/a /again\n"
        )
    };
    world.write("Dockerfile", &dockerfile(""));
    world.write("a", "a");
    world.write("b", "b");
    let (first, image) = world.built();
    assert_eq!((first.ran, first.cached), (4, 0));
    for (path, text) in [("/out/a", "a"), ("/out/b", "b"), ("/again", "a")] {
        assert_eq!(world.read(&image, path), text);
    }
    // Another layer in `two` that the copied files are not in: the copy is found by content.
    world.write(
        "Dockerfile",
        &dockerfile("").replace("COPY b /out/b", "COPY b /out/b\nCOPY a /elsewhere"),
    );
    let (second, again) = world.built();
    assert_eq!((second.ran, second.cached), (1, 4), "{:?}", world.seen.0);
    assert_eq!(again.layers, image.layers);
}

#[test]
fn privileged_a_lost_layer_is_made_again() {
    let world = World::new();
    world.write("Dockerfile", "FROM scratch\nCOPY a /a\n");
    world.write("a", "a");
    let (_, image) = world.built();
    let layer = world.engine.store().layer_dir(&image.layers[0]).unwrap();
    fs::remove_dir_all(layer).unwrap();
    let (second, image) = world.built();
    assert_eq!((second.ran, second.cached), (1, 0));
    assert_eq!(world.read(&image, "/a"), "a");
}

#[test]
fn privileged_owners_are_resolved_in_the_stage() {
    let world = World::new();
    world.write(
        "Dockerfile",
        "FROM scratch\nCOPY passwd group /etc/\nUSER me\nWORKDIR /home/me\nCOPY --chown=me:them --chmod=0600 f ./x\n\
         COPY --chown=77 f y\nCOPY f z\n",
    );
    world.write("passwd", "me:x:1001:1002::/home/me:/bin/sh\n");
    world.write("group", "them:x:1003:\n");
    world.write("f", "f");
    let (_, image) = world.built();
    let owner = |path: &str| {
        let meta = world.stat(&image, path);
        (meta.uid(), meta.gid())
    };
    assert_eq!(owner("/home/me"), (1001, 1002));
    assert_eq!(
        (
            owner("/home/me/x"),
            owner("/home/me/y"),
            owner("/home/me/z")
        ),
        ((1001, 1003), (77, 77), (0, 0))
    );
    assert_eq!(
        world.stat(&image, "/home/me/x").permissions().mode() & 0o7777,
        0o600
    );
    world.write("Dockerfile", "FROM scratch\nCOPY --chown=nobody f /f\n");
    let error = world.build(world.request()).unwrap_err().to_string();
    assert!(
        error.contains(">>> COPY --chown=nobody f /f")
            && error.contains("unable to convert uid/gid chown string"),
        "{error}"
    );
}

#[test]
fn privileged_add_unpacks_archives_and_copy_does_not() {
    let world = World::new();
    world.write("in/sub/file", "inside");
    let context = world.folder.path().join("context");
    let tar = |arguments: &[&str]| {
        assert!(
            std::process::Command::new("tar")
                .current_dir(&context)
                .args(arguments)
                .status()
                .unwrap()
                .success()
        );
    };
    tar(&["-czf", "in.tgz", "-C", "in", "."]);
    world.write("not.gz", "\u{1f}");
    world.write("Dockerfile", "FROM scratch\nADD in.tgz /added\nCOPY in.tgz /copied\nADD not.gz /not\nADD --unpack=false in.tgz /kept\n");
    let (_, image) = world.built();
    assert_eq!(world.read(&image, "/added/sub/file"), "inside");
    assert!(world.stat(&image, "/copied").is_file() && world.stat(&image, "/kept").is_file());
    assert_eq!(world.read(&image, "/not"), "\u{1f}");

    // The same archive as a context.
    world.write("in/Dockerfile", "FROM scratch\nCOPY sub /s\n");
    tar(&["-czf", "context.tgz", "-C", "in", "."]);
    let stream = fs::File::open(context.join("context.tgz")).unwrap();
    let request = BuildRequest {
        context: Context::Archive(Box::new(stream)),
        ..world.request()
    };
    world
        .build(request)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        world.read(
            &image::resolve(&world.engine, "app:test").unwrap(),
            "/s/file"
        ),
        "inside"
    );
    // A Dockerfile in its place.
    let text = std::io::Cursor::new("FROM scratch\nCOPY <<E /e\nhi\nE\n");
    let request = BuildRequest {
        context: Context::Archive(Box::new(text)),
        ..world.request()
    };
    world
        .build(request)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        world.read(&image::resolve(&world.engine, "app:test").unwrap(), "/e"),
        "hi\n"
    );
}

#[test]
fn privileged_failures_name_the_line_and_leave_nothing() {
    let world = World::new();
    world.write("Dockerfile", "FROM scratch\n\nCOPY a /a\nCOPY gone /b\n");
    world.write("a", "a");
    let error = world.build(world.request()).unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("Dockerfile:4\n"), "{text}");
    assert!(text.contains("   4 | >>> COPY gone /b\n"), "{text}");
    assert!(text.ends_with("\"/gone\": not found"), "{text}");
    assert_eq!(error.kind(), ketch_engine::ErrorKind::NotFound);
    assert!(image::resolve(&world.engine, "app:test").is_err());
    let work = world.folder.path().join("data/ingest/work");
    assert_eq!(
        fs::read_dir(&work).map_or(0, Iterator::count),
        0,
        "drafts are gone"
    );

    world.write("Dockerfile", "FROM scratch\nCOPPY a /a\n");
    let error = world.build(world.request()).unwrap_err();
    assert!(error.to_string().ends_with(
        "ERROR: failed to build: failed to solve: dockerfile parse error on line 2: unknown instruction: COPPY (did you mean COPY?)"
    ), "{error}");
    fs::remove_file(world.folder.path().join("context/Dockerfile")).unwrap();
    let error = world.build(world.request()).unwrap_err();
    assert!(
        error.message().contains("failed to read dockerfile"),
        "{error}"
    );
}

#[test]
fn privileged_ignore_files_and_where_dockerfiles_are() {
    let world = World::new();
    world.write("Dockerfile", "FROM scratch\nCOPY . /all\n");
    world.write(".dockerignore", "secret\n");
    world.write("secret", "s");
    world.write("open", "o");
    let names = |image: &Image| {
        let view = LayerView::open(&world.engine, &image.layers).unwrap();
        let directory = open_in_root(
            view.root(),
            Path::new("/all"),
            OFlags::RDONLY,
            Mode::empty(),
        )
        .unwrap();
        let mut names: Vec<_> = rustix::fs::Dir::new(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.') || name.len() > 2)
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        names(&world.built().1),
        [".dockerignore", "Dockerfile", "open"]
    );
    world.write("Dockerfile.dockerignore", "*\n!secret\n");
    assert_eq!(names(&world.built().1), ["secret"]);
    let outside = world.folder.path().join("Other");
    fs::write(&outside, "FROM scratch\nCOPY open /all/\n").unwrap();
    let request = BuildRequest {
        dockerfile: DockerfileSource::Path(outside.clone()),
        ..world.request()
    };
    world
        .build(request)
        .unwrap_or_else(|error| panic!("{error}"));
    fs::write(&outside, "FROM scratch\nCOPPY\n").unwrap();
    let request = BuildRequest {
        dockerfile: DockerfileSource::Path(outside.clone()),
        ..world.request()
    };
    assert!(
        world
            .build(request)
            .unwrap_err()
            .to_string()
            .starts_with(&outside.display().to_string())
    );
}

#[test]
fn privileged_a_build_on_an_image_that_was_built() {
    let world = World::new();
    world.write(
        "Dockerfile",
        "FROM scratch\nCOPY a /a\nENV A=1\nLABEL l=base\nONBUILD COPY b /b\n",
    );
    world.write("a", "a");
    world.write("b", "b");
    let base = BuildRequest {
        tags: vec!["base:1".parse().unwrap()],
        ..world.request()
    };
    world.build(base).unwrap_or_else(|error| panic!("{error}"));
    world.write(
        "Dockerfile",
        "FROM base:1\nENV B=${A}2\nCOPY --from=base:1 /a /c\n",
    );
    let mut request = world.request();
    request.labels.insert("extra".into(), "yes".into());
    world
        .build(request)
        .unwrap_or_else(|error| panic!("{error}"));
    let image = image::resolve(&world.engine, "app:test").unwrap();
    let config = image.config.config.clone().unwrap();
    assert!(config.env.contains(&"B=12".to_owned()));
    assert_eq!(config.labels.len(), 2);
    assert!(config.on_build.is_none());
    assert_eq!(
        (world.read(&image, "/b"), world.read(&image, "/c")),
        ("b".into(), "a".into())
    );
    assert_eq!(image.layers.len(), 3);
    let seen = world.seen.0.lock().unwrap().join("\n");
    assert!(
        seen.contains("[1/3] FROM docker.io/library/base:1"),
        "{seen}"
    );
    assert!(
        seen.contains("naming to docker.io/library/app:test"),
        "{seen}"
    );
}
