//! What is done to images while it may end at any moment.

use ketch_test_support::{Registry, World};

/// Something that changes the store, how to be able to do it, and how to take it back.
pub struct Operation {
    /// For messages, and to choose by.
    pub name: &'static str,
    /// Commands that come before; they must succeed.
    pub prepare: &'static [&'static str],
    /// The command.
    pub line: &'static str,
    /// Whether it succeeds when it is done again after it was done.
    pub repeats: bool,
    /// Commands that take it back; what they take back may not have happened.
    pub undo: &'static [&'static str],
}

/// What most of them have in common.
pub const FOUND: Operation = Operation {
    name: "",
    prepare: &[],
    line: "",
    repeats: true,
    undo: &[],
};

/// Images that come from a registry.
pub const PULLS: &[Operation] = &[
    Operation {
        name: "pull of gzip",
        line: "pull -q 127.0.0.1:5000/app:gzip",
        undo: &["rmi 127.0.0.1:5000/app:gzip"],
        ..FOUND
    },
    Operation {
        name: "pull of zstd",
        line: "pull -q 127.0.0.1:5000/app:zstd",
        undo: &["rmi 127.0.0.1:5000/app:zstd"],
        ..FOUND
    },
];

/// Images that come from archives.
pub const LOADS: &[Operation] = &[
    Operation {
        name: "load of a docker archive",
        line: "load -q -i docker.tar",
        undo: &["rmi app:1"],
        ..FOUND
    },
    Operation {
        name: "load of an OCI archive",
        line: "load -q -i oci.tar",
        undo: &["rmi app:1"],
        ..FOUND
    },
    Operation {
        name: "import",
        line: "import -m words rootfs.tar imported:1",
        undo: &["rmi imported:1"],
        ..FOUND
    },
];

/// Images that are made here, and a container of one.
pub const BUILDS: &[Operation] = &[
    Operation {
        name: "build",
        line: "build -q --network none -t made:1 made",
        undo: &["rmi made:1", "system prune -f"],
        ..FOUND
    },
    Operation {
        name: "commit",
        prepare: &["run --name changed --network none keep:1 sh -c 'echo y > /y; rm /x'"],
        line: "commit changed snap:1",
        undo: &["rm changed", "rmi snap:1"],
        ..FOUND
    },
    Operation {
        name: "run",
        prepare: &["load -q -i docker.tar"],
        line: "run --rm --network none app:1 sha256sum -c /sums",
        undo: &["rmi app:1"],
        ..FOUND
    },
];

/// Names, and what takes images away.
pub const REMOVALS: &[Operation] = &[
    Operation {
        name: "tag",
        line: "tag keep:1 other/name:2",
        undo: &["rmi other/name:2"],
        ..FOUND
    },
    Operation {
        name: "rmi",
        prepare: &["load -q -i docker.tar"],
        line: "rmi app:1",
        repeats: false,
        undo: &["rmi app:1"],
    },
    Operation {
        name: "image prune",
        prepare: &["load -q -i docker.tar", "tag keep:1 app:1"],
        line: "image prune -f",
        undo: &["rmi app:1"],
        ..FOUND
    },
    Operation {
        name: "system prune",
        prepare: &[
            "build -q --network none -t made:1 made",
            "create --name unused made:1",
            "rmi -f made:1",
        ],
        line: "system prune -f",
        undo: &["system prune -f"],
        ..FOUND
    },
];

/// The content that tells whether a file of an image is whole: `sums` has the sums of the others.
const DOCKERFILE: &str = "FROM busybox\n\
    COPY big text /\n\
    RUN mkdir -p /deep/er && cp /text /deep/er/t && ln /deep/er/t /hard && ln -s hard /soft && rm /text\n\
    COPY more /more/\n\
    RUN cd / && find big deep more hard soft -type f -exec sha256sum {} + > /sums\n";

/// What the operations need: archives and an image in the registry that are not in the store, `keep:1` and `busybox` that are.
pub fn prepare(world: &World) {
    world.import_busybox();
    world.file("app/Dockerfile", DOCKERFILE);
    world.file("app/text", "text\n");
    world.file("app/more/some", "some\n");
    noise(world, "app/big", 700_000);
    world.file(
        "made/Dockerfile",
        "FROM keep:1\nCOPY file /copied\nRUN cat /copied > /made && sha256sum made copied > /sums\nENV A=b\n",
    );
    world.file("made/file", &"words\n".repeat(30_000));
    world.file("keep/Dockerfile", "FROM busybox\nRUN echo x > /x\n");
    for line in [
        "build -q --network none -t keep:1 keep",
        "build -q --network none -t app:1 app",
        "save -q -o docker.tar app:1",
        "save -q --format oci-archive -o oci.tar app:1",
    ] {
        world.run(line).ok();
    }
    world.run("create --name full --network none app:1").ok();
    world.run("export -o rootfs.tar full").ok();
    world.run("rm full").ok();
    world.run("rmi app:1").ok();
    world.run("system prune -f").ok();
}

/// Writes a file that cannot be compressed, so that it is as many chunks on every way.
pub fn noise(world: &World, name: &str, bytes: u32) {
    let noise: Vec<u8> = (0..bytes)
        .scan(1u32, |state, _| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*state >> 24) as u8)
        })
        .collect();
    let path = world.file(name, "");
    std::fs::write(path, noise).expect("write");
}

/// Puts `app:1` into a registry, with layers of both compressions.
pub fn fill(world: &World, registry: &Registry) {
    for format in ["gzip", "zstd"] {
        let name = registry.reference(&format!("app:{format}"));
        send(world, "docker.tar:app:1", format, &name);
    }
}

/// Puts an archive's image into a registry.
pub fn send(world: &World, image: &str, format: &str, name: &str) {
    let copy = "skopeo copy -q --dest-tls-verify=false --dest-compress-format";
    world
        .on_host(&format!(
            "{copy} {format} docker-archive:{image} docker://{name}"
        ))
        .ok();
}
