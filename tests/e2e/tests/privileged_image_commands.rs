//! Images on the command line: listings, history, import, and images of containers; what they take of the disk, and what
//! goes when it is not needed.

use std::process::Stdio;

use ketch_test_support::{World, eventually};

#[test]
fn listings_have_dockers_columns_fields_and_filters() {
    let world = World::with_busybox();
    world.file(
        "app/Dockerfile",
        "FROM busybox\nLABEL role=front\nLABEL tier=\"1\"\nRUN echo x > /x\n",
    );
    world.run("build -q -t team/app:1 app").ok();
    world.run("tag team/app:1 app:2").ok();
    let fields = "{{.Repository}}|{{.Tag}}|{{.Digest}}|{{.Containers}}|{{.Size}}|{{.VirtualSize}}";
    let listed = world.ketch(["images", "--format", fields, "team/app"]).ok();
    assert!(
        listed.starts_with("team/app|1|<none>|0|1.98MB|1.982MB"),
        "{listed}"
    );
    let json = world.run("images --format json team/app:1").ok();
    for key in [
        "\"Containers\":\"0\"",
        "\"Tag\":\"1\"",
        "\"Digest\":\"\\u003cnone\\u003e\"",
    ] {
        assert!(json.contains(key), "{json}");
    }
    // A format of one's own stands before -q, and a malformed pattern is told.
    let quiet = world
        .run("images -q --format {{.Repository}} team/app")
        .ok();
    assert_eq!(quiet, "team/app");
    let pattern = world.run("images -f reference=[").fails(1);
    assert!(pattern.contains("syntax error in pattern"), "{pattern}");
    let ambiguous = world.run("tag busybox sha256:1").fails(1);
    assert!(ambiguous.contains("ambiguous tag"), "{ambiguous}");
    let names = |flags: &str| {
        let format = "--format '{{.Repository}}:{{.Tag}}'";
        world.run(&format!("images {flags} {format}")).ok()
    };
    assert_eq!(names("-f label=role=front"), "app:2\nteam/app:1");
    assert_eq!(names("-f label!=role"), "busybox:latest");
    assert_eq!(names("-f before=app:2"), "busybox:latest");
    assert_eq!(names("-f since=busybox"), "app:2\nteam/app:1");
    assert_eq!(names("-f reference=team/*"), "team/app:1");
    assert_eq!(names("-f until=2000-01-01"), "");
    assert_eq!(names("-f dangling=true"), "");
    for (flag, name) in [
        ("-q", "--quiet"),
        ("--no-trunc", "--no-trunc"),
        ("--digests", "--show-digest"),
        ("--format json", "--format"),
    ] {
        let refused = world.run(&format!("images --tree {flag}")).fails(1);
        assert_eq!(refused, format!("{name} is not yet supported with --tree"));
    }
    let header = world.run("images --digests").ok();
    assert!(
        header.starts_with("REPOSITORY   TAG       DIGEST    IMAGE ID"),
        "{header}"
    );
    let history = world
        .run("history --no-trunc --format '{{.CreatedBy}}|{{.Size}}' -H=false team/app:1")
        .ok();
    let lines: Vec<&str> = history.lines().collect();
    assert!(
        lines[0].contains("echo x > /x") && lines[0].ends_with("|2"),
        "{history}"
    );
    assert_eq!(lines[1], "LABEL tier=1|0");
    world.finish();
}

#[test]
fn imports_come_from_files_pipes_and_servers() {
    let world = World::with_busybox();
    world.run("run --name box busybox true").ok();
    world.run("export -o root.tar box").ok();
    let id = world
        .run("import -q -c 'ENV A=1' -c 'CMD [\"env\"]' -m note root.tar one:1")
        .ok();
    assert!(id.starts_with("sha256:"), "{id}");
    assert!(world.run("run --rm one:1").ok().contains("A=1"));
    let comment = |image: &str| {
        world
            .run(&format!(
                "image inspect --format '{{{{.Comment}}}}' {image}"
            ))
            .ok()
    };
    assert_eq!(comment("one:1"), "note");
    let bytes = std::fs::read(world.path().join("root.tar")).expect("the archive");
    world.run_with_input("import - two:1", &bytes).ok();
    assert_eq!(comment("two:1"), "Imported from -");
    world
        .run("import --platform linux/s390x -q root.tar far:1")
        .ok();
    let platform = world.run("image inspect --format '{{.Os}}/{{.Architecture}}' far:1");
    assert_eq!(platform.ok(), "linux/s390x");
    let mut server = world
        .host(&[
            "python3",
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            "8000",
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start a server");
    let url = "http://127.0.0.1:8000/root.tar";
    eventually("the server answers", || {
        (world.on_host(&format!("curl -sfI {url}")).code() == Some(0)).then_some(())
    });
    let imported = world.run(&format!("import {url} three:1"));
    let absent = world.run("import http://127.0.0.1:8000/absent.tar four:1");
    server.kill().expect("end the server");
    server.wait().expect("wait for the server");
    imported.ok();
    assert_eq!(comment("three:1"), format!("Imported from {url}"));
    let told = absent.fails(1);
    assert!(
        told.contains("cannot download http://127.0.0.1:8000/absent.tar") && told.contains("404"),
        "{told}"
    );
    let refused = world.run("import -c 'RUN x' root.tar five:1").fails(1);
    assert!(
        refused.contains("RUN is not a valid change command"),
        "{refused}"
    );
    world.run("rm box").ok();
    world.finish();
}

#[test]
fn a_container_becomes_an_image_an_archive_and_a_list_of_changes() {
    let world = World::with_busybox();
    let script = "mkdir /new && echo hi > /new/f && rm /etc/passwd && echo x >> /etc/group && ln -s /etc/passwd /link; echo kept > /data/f; echo ready; sleep 1000";
    world
        .ketch([
            "run", "-d", "--name", "box", "-v", "/data", "-e", "A=1", "busybox", "sh", "-c", script,
        ])
        .ok();
    eventually("it is ready", || {
        world
            .run("logs box")
            .stdout()
            .contains("ready")
            .then_some(())
    });
    let changes = "C /etc\nC /etc/group\nD /etc/passwd\nA /link\nA /new\nA /new/f";
    assert_eq!(world.run("diff box").ok(), changes);
    let running = world.run("commit -a me -m note -c 'CMD [\"cat\",\"/new/f\"]' box made:1");
    let running = running.ok();
    assert_eq!(world.run("ps -q").ok().lines().count(), 1, "it goes on");
    assert_eq!(world.run("run --rm made:1").ok(), "hi");
    let inspected = world
        .run("image inspect --format '{{.Author}}|{{.Comment}}|{{json .Config.Cmd}}|{{json .Config.Env}}|{{.Id}}' made:1")
        .ok();
    let wanted = format!("me|note|[\"cat\",\"/new/f\"]|[\"A=1\"]|{running}");
    assert_eq!(inspected, wanted);
    let volumes = world.run("image inspect --format '{{json .Config.Volumes}}' made:1");
    assert_eq!(volumes.ok(), "{\"/data\":{}}");
    world.run("export -o running.tar box").ok();
    world.run("stop -t 0 box").ok();
    world.run("export -o stopped.tar box").ok();
    for archive in ["running.tar", "stopped.tar"] {
        let listed = world.on_host(&format!("tar -tf {archive}")).ok();
        let names: Vec<&str> = listed.lines().collect();
        for there in ["new/f", "link", "etc/group", "bin/busybox", "data/"] {
            assert!(names.contains(&there), "{archive}: {there} is missing");
        }
        for absent in ["etc/passwd", "data/f"] {
            assert!(!names.contains(&absent), "{archive}: {absent} is there");
        }
    }
    assert_eq!(world.run("diff box").ok(), changes);
    world.run("run --name idle busybox true").ok();
    assert_eq!(world.run("diff idle").ok(), "");
    let empty = world.run("commit idle").ok();
    let layers = world.run(&format!(
        "image inspect --format '{{{{len .RootFS.Layers}}}}' {empty}"
    ));
    assert_eq!(
        layers.ok(),
        "1",
        "nothing was changed, so there is no layer"
    );
    for (line, words) in [
        ("diff absent", "No such container: absent"),
        ("commit absent", "No such container: absent"),
        ("export absent", "No such container: absent"),
        (
            "commit -c 'FROM x' box",
            "FROM is not a valid change command",
        ),
        (
            "export -o no/x.tar box",
            "failed to export container: invalid output path: directory \"no\" does not exist",
        ),
    ] {
        let told = world.run(line).fails(1);
        assert!(told.contains(words), "{line}: {told}");
    }
    world.run("rm -v box idle").ok();
    world.finish();
}

#[test]
fn what_is_reclaimable_is_what_a_prune_reclaims() {
    let world = World::with_busybox();
    world.file("app/Dockerfile", "FROM busybox\nRUN echo old > /x\n");
    world.run("build -q -t app:1 app").ok();
    world.file("app/Dockerfile", "FROM busybox\nRUN echo new > /y\n");
    world.run("build -q -t app:1 app").ok();
    world.run("run --name user busybox true").ok();
    let row = |kind: &str, field: &str| {
        let format = format!("{{{{if eq .Type \"{kind}\"}}}}{{{{.{field}}}}}{{{{end}}}}");
        let listed = world.ketch(["system", "df", "--format", &format]).ok();
        listed.trim().to_owned()
    };
    assert_eq!(row("Images", "TotalCount"), "3");
    assert_eq!(row("Images", "Active"), "1");
    assert_eq!(row("Build Cache", "TotalCount"), "2");
    let verbose = world.run("system df -v").ok();
    for part in [
        "Images space usage:\n\nREPOSITORY   TAG       IMAGE ID       CREATED",
        "\nContainers space usage:\n\nCONTAINER ID   IMAGE     COMMAND   LOCAL VOLUMES   SIZE",
        "\nLocal Volumes space usage:\n\nVOLUME NAME   LINKS     SIZE\n",
        "\nBuild cache usage: ",
        "\n\nCACHE ID ",
    ] {
        assert!(verbose.contains(part), "{part:?} is not in\n{verbose}");
    }
    let names = world.run("system df -v --format '{{range .Images}}{{.Repository}} {{end}}'");
    assert!(names.ok().contains("app"));
    let dangling = world.run("image prune -f").ok();
    assert!(
        dangling.starts_with("Deleted Images:\ndeleted: sha256:"),
        "{dangling}"
    );
    assert_eq!(row("Images", "TotalCount"), "2");
    let reclaimable = row("Images", "Reclaimable");
    let bytes = reclaimable.split(' ').next().expect("a size").to_owned();
    let pruned = world.run("image prune -af").ok();
    assert!(pruned.contains("untagged: app:1"), "{pruned}");
    assert!(
        pruned.ends_with(&format!("Total reclaimed space: {bytes}")),
        "{bytes}: {pruned}"
    );
    assert_eq!(row("Images", "TotalCount"), "1", "one is in use");
    assert_eq!(row("Images", "Reclaimable"), "0B (0%)");
    let cache = row("Build Cache", "Size");
    world.run("rm user").ok();
    let pruned = world.run("system prune -f").ok();
    assert!(
        pruned.contains("Deleted build cache objects:\n")
            && pruned.ends_with(&format!("Total reclaimed space: {cache}")),
        "{cache}: {pruned}"
    );
    assert_eq!(row("Build Cache", "Size"), "0B");
    world.run("system prune -af").ok();
    assert_eq!(row("Images", "Size"), "0B");
    for place in ["images/blobs/sha256", "layers"] {
        let place = world.data_root().join(place);
        assert_eq!(std::fs::read_dir(place).expect("a directory").count(), 0);
    }
    world.finish();
}

#[test]
fn events_are_told_as_they_happen_and_afterwards() {
    let world = World::with_busybox();
    let mut listening = world
        .command([
            "events",
            "--filter",
            "type=image",
            "--format",
            "{{.Action}} {{.Actor.Attributes.name}}",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("start ketch");
    let mut out = std::io::BufReader::new(listening.stdout.take().expect("a pipe"));
    // It listens from some moment on; what is told again until then proves that it does.
    let told = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut line = String::new();
            std::io::BufRead::read_line(&mut out, &mut line).expect("a line");
            line
        });
        eventually("an event is told", || {
            world.run("tag busybox other:1").ok();
            world.run("rmi other:1").ok();
            reader.is_finished().then_some(())
        });
        reader.join().expect("the reader")
    });
    assert!(
        ["tag other:1\n", "untag other:1\n"].contains(&told.as_str()),
        "{told:?}"
    );
    listening.kill().expect("end it");
    listening.wait().expect("wait for it");
    world
        .run("run --rm --name box --label a=b busybox true")
        .ok();
    let past = world
        .run("events --since 1h --until 0s --filter container=box --format '{{.Action}}'")
        .ok();
    let actions: Vec<&str> = past.lines().collect();
    for action in ["create", "start", "die", "destroy"] {
        assert!(actions.contains(&action), "{actions:?}");
    }
    let lines = world
        .run("events --since 1h --until 0s --filter event=create --filter label=a=b")
        .ok();
    assert!(
        lines.contains(" container create ") && lines.contains("(a=b, image=busybox, name=box)"),
        "{lines}"
    );
    let json = world
        .run("events --since 1h --until 0s -f event=die --format json")
        .ok();
    assert!(
        json.contains("\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":"),
        "{json}"
    );
    assert_eq!(
        world.run("events --filter nosuch=1").fails(1),
        "Error: invalid filter 'nosuch'"
    );
    world.run("events --format '{{'").fails(64);
    world.finish();
}

#[test]
fn images_of_containers_are_kept_until_forced() {
    let world = World::with_busybox();
    world.run("run --name box busybox true").ok();
    let id = world.run("images -q busybox").ok();
    let told = world.run("rmi busybox").fails(1);
    assert!(
        told.contains(
            "conflict: unable to remove repository reference \"busybox\" (must force) - container"
        ),
        "{told}"
    );
    let told = world.run(&format!("rmi {id}")).fails(1);
    assert!(
        told.contains("(must be forced) - image is being used by stopped container"),
        "{told}"
    );
    world.run("rmi -f absent").ok();
    let two = world.run("rmi absent busybox");
    assert_eq!(two.code(), Some(1));
    assert_eq!(two.stderr().lines().count(), 2);
    world.run("rmi -f busybox").ok();
    let told = world.run("commit box").fails(1);
    assert!(told.contains("is gone"), "{told}");
    world.run("rm box").ok();
    let layers = world.data_root().join("layers");
    assert_eq!(std::fs::read_dir(layers).expect("layers").count(), 0);
    world.finish();
}
