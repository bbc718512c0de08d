use super::*;

/// BuildKit's dump of a node, the format of the recorded parse trees.
fn dump(node: &Node) -> String {
    let mut out = node.name.clone();
    if !node.flags.is_empty() {
        let flags: Vec<_> = node.flags.iter().map(|flag| quote(&flag.text)).collect();
        out.push_str(&format!(" [{}]", flags.join(" ")));
    }
    for arg in &node.args {
        out.push(' ');
        out.push_str(&quote(&arg.text));
    }
    if let Some(child) = &node.child {
        out.push_str(&format!(" ({})", dump(child)));
    }
    out
}

/// Go's strconv.Quote for what the fixtures hold.
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[test]
fn spec_data_parse_trees() {
    let Some(folder) = crate::spec_data("dockerfile-parser") else {
        return;
    };
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let case = entry.unwrap().path();
        let text = std::fs::read_to_string(case.join("Dockerfile")).unwrap();
        let expected = std::fs::read_to_string(case.join("result")).unwrap();
        let found = nodes(&text);
        assert!(
            found.mistakes.is_empty(),
            "{}: {:?}",
            case.display(),
            found.mistakes
        );
        let dumped: Vec<_> = found
            .nodes
            .iter()
            .map(|node| format!("({})", dump(node)))
            .collect();
        assert_eq!(dumped.join("\n"), expected.trim_end(), "{}", case.display());
        count += 1;
    }
    assert!(count > 25, "only {count} cases were read");
}

fn mistakes(text: &str) -> Vec<(usize, usize, String)> {
    let found = parse(text).map(|_| ()).unwrap_err();
    found
        .into_iter()
        .map(|m| (m.at.line, m.at.column, m.message))
        .collect()
}

#[test]
fn every_mistake_is_found_with_its_place() {
    let text = "FROM busybox AS 1st\nRUNN x\nCOPY --form=a b c\nCOPY a\nENV a=1 b\nEXPOSE\n\
                RUN --mount=type=ssh x\nHEALTHCHECK --interval=1x CMD y\nRUN --network=moon ls\n";
    let found = mistakes(text);
    let at: Vec<_> = found
        .iter()
        .map(|(line, column, _)| (*line, *column))
        .collect();
    assert_eq!(
        at,
        [
            (1, 17),
            (2, 1),
            (3, 6),
            (4, 1),
            (5, 9),
            (6, 1),
            (7, 5),
            (8, 13),
            (9, 5)
        ],
        "{found:?}"
    );
    for (index, words) in [
        (1, "unknown instruction: RUNN (did you mean RUN?)"),
        (2, "unknown flag: --form (did you mean from?)"),
        (4, "can't find = in \"b\""),
        (6, "type=ssh is not supported"),
        (7, "invalid duration"),
    ] {
        assert!(found[index].2.contains(words), "{}", found[index].2);
    }
}

#[test]
fn plain_values_are_checked_at_once() {
    let found = mistakes("FROM a\nEXPOSE 80 99999\nSTOPSIGNAL SIGNOPE\nEXPOSE $P \"80\"\n");
    assert_eq!(
        found
            .iter()
            .map(|(line, column, _)| (*line, *column))
            .collect::<Vec<_>>(),
        [(2, 11), (3, 12)]
    );
}

#[test]
fn a_file_needs_a_stage_first() {
    assert_eq!(
        mistakes("RUN a\n")[0].2,
        "no build stage in current context"
    );
    assert_eq!(mistakes("# nothing\n")[0].2, "file with no instructions");
    assert_eq!(
        mistakes("ARG a=1\n")[0].2,
        "dockerfile contains no stages to build"
    );
    assert_eq!(mistakes("")[0].2, "file with no instructions");
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    for (line, words) in [
        (
            "ADD https://example.com/x /y",
            "ADD of a remote file is not supported",
        ),
        (
            "ADD https://example.com/x.git#main /y",
            "ADD of a git repository is not supported",
        ),
        (
            "ADD --checksum=sha256:00 x /y",
            "ADD --checksum is not supported",
        ),
        (
            "RUN --security=insecure x",
            "--security=insecure is not supported",
        ),
        ("RUN --device=gpu x", "--device is not supported"),
    ] {
        let found = parse(&format!("FROM scratch\n{line}\n"))
            .map(|_| ())
            .unwrap_err();
        assert!(found[0].message.contains(words), "{}", found[0].message);
        assert!(found.iter().all(|mistake| mistake.unsupported), "{found:?}");
    }
}

#[test]
fn heredocs() {
    let text = "FROM a\nRUN <<EOF\necho hello\nEOF\nCOPY <<-one <<\"two\" /d/\n\tx $y\none\n\tz\ntwo\nRUN ls\n";
    let file = parse(text).unwrap();
    let commands = &file.stages[0].commands;
    let Instruction::Run(run) = &commands[0].instruction else {
        panic!()
    };
    assert_eq!(run.heredocs[0].content, "echo hello\n");
    assert_eq!(commands[0].place.lines, (2, 4));
    let Instruction::Copy(copy) = &commands[1].instruction else {
        panic!()
    };
    let inline: Vec<_> = copy
        .inline
        .iter()
        .map(|h| (h.name.as_str(), h.expand, h.chomped()))
        .collect();
    assert_eq!(
        inline,
        [
            ("one", true, "x $y\n".to_owned()),
            ("two", false, "\tz\n".to_owned())
        ]
    );
    assert!(copy.sources.is_empty());
    assert_eq!(commands[2].place.at.line, 10);
    assert_eq!(
        mistakes("FROM a\nRUN <<EOF\necho\n")[0].2,
        "unterminated heredoc"
    );
}

#[test]
fn onbuild_keeps_its_text_and_is_checked() {
    let file = parse("FROM a\nONBUILD COPY --chown=1 . /x\nonbuild RUN <<E\nls\nE\n").unwrap();
    let triggers: Vec<_> = file.stages[0]
        .commands
        .iter()
        .map(|c| match &c.instruction {
            Instruction::Onbuild(text) => text.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(triggers, ["COPY --chown=1 . /x", "RUN <<E\nls\nE"]);
    assert_eq!(parse_trigger(triggers[1]).unwrap().len(), 1);
    let found = mistakes("FROM a\nONBUILD ONBUILD RUN x\nONBUILD FROM b\nONBUILD COPY x\n");
    assert_eq!(found.len(), 3);
    assert_eq!((found[2].0, found[2].1), (4, 9));
}

#[test]
fn syntax_lines() {
    for (line, warned) in [
        ("# syntax=docker/dockerfile:1", false),
        ("# syntax=docker/dockerfile:1.7-labs", false),
        ("# syntax=docker.io/docker/dockerfile:1@sha256:abc", false),
        ("# syntax=docker/dockerfile", false),
        ("# syntax=docker/dockerfile:2", true),
        ("# syntax=example/other:1", true),
    ] {
        assert_eq!(
            !parse(&format!("{line}\nFROM a\n"))
                .unwrap()
                .warnings
                .is_empty(),
            warned,
            "{line}"
        );
    }
}

#[test]
fn mounts() {
    let file = parse(
        "FROM a\nRUN --mount=type=cache,dst=/c,id=x,sharing=locked --mount=target=/s,src=a,rw \
         --mount=type=secret,id=k,required --mount=type=tmpfs,target=/t,size=1m ls\n",
    )
    .unwrap();
    let Instruction::Run(run) = &file.stages[0].commands[0].instruction else {
        panic!()
    };
    let kinds: Vec<_> = run.mounts.iter().map(|m| m.kind).collect();
    assert_eq!(
        kinds,
        [
            MountKind::Cache,
            MountKind::Bind,
            MountKind::Secret,
            MountKind::Tmpfs
        ]
    );
    assert_eq!(run.mounts[0].fields["target"], "/c");
    assert_eq!(run.mounts[1].read_only, Some(false));
    assert!(run.mounts[2].required);
    for bad in [
        "type=cache",
        "type=bind,target=/a,mode=1",
        "type=tmpfs,target=/a,size=x",
        "target=/a,nope",
        "type=zz",
    ] {
        assert_eq!(
            mistakes(&format!("FROM a\nRUN --mount={bad} ls\n")).len(),
            1,
            "{bad}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn parsing_never_panics(text in "(FROM|RUN|COPY|ENV|ARG|ONBUILD|LABEL|#|<<E|--|\\[|\\]|\"|'|\\\\|`|=|,|\\$|é|\u{feff}| |\t|\r|\n){0,60}") {
        let _ = parse(&text);
        let _ = parse_trigger(&text);
    }

    #[test]
    fn any_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }
}
