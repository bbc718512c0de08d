use std::collections::BTreeMap;

use ketch_spec::Platform;
use ketch_spec::image::{History, ImageConfig, RunConfig};

use super::*;
use crate::dockerfile;
use crate::error::Mistake;
use crate::request::BuildRequest;

fn busybox() -> ImageConfig {
    let host = Platform::host();
    ImageConfig {
        architecture: host.architecture,
        os: host.os,
        config: Some(RunConfig {
            env: vec!["PATH=/bin".into(), "FROM_BASE=base".into()],
            cmd: Some(vec!["sh".into()]),
            on_build: None,
            ..RunConfig::default()
        }),
        history: vec![History {
            created_by: Some("base".into()),
            ..History::default()
        }],
        ..ImageConfig::default()
    }
}

fn make_with(text: &str, request: &BuildRequest, image: ImageConfig) -> Result<Plan, Vec<Mistake>> {
    let file = dockerfile::parse(text)?;
    let platform = Platform::host();
    let graph = Graph::new(&file, request, &platform)?;
    let images: BTreeMap<_, _> = graph
        .images
        .keys()
        .map(|name| (name.clone(), image.clone()))
        .collect();
    plan(&file, request, &graph, &images, &platform)
}

fn make(text: &str) -> Plan {
    make_with(text, &BuildRequest::default(), busybox())
        .unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

fn wrong(text: &str) -> Vec<String> {
    let found = make_with(text, &BuildRequest::default(), busybox())
        .map(|_| ())
        .unwrap_err();
    found.into_iter().map(|mistake| mistake.message).collect()
}

fn history(plan: &Plan) -> Vec<String> {
    let items = plan.stages.last().unwrap().history.iter();
    items
        .map(|item| match item {
            HistoryItem::Base(entry) => entry.created_by.clone().unwrap(),
            HistoryItem::Config(text) | HistoryItem::Step { text, .. } => text.clone(),
        })
        .collect()
}

fn run(plan: &Plan, index: usize) -> &RunStep {
    match &plan.steps[index].operation {
        Operation::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn history_and_titles_are_buildkits() {
    let plan = make(
        "FROM busybox\nARG V=1\nENV A=x B=\"y z\"\nWORKDIR /w\nRUN echo $V\nCOPY --chown=1 a b ./\nCMD [\"a\", \"b c\"]\n\
         EXPOSE 80 53/udp\nLABEL k=v\nVOLUME /d\nUSER me\nENTRYPOINT run it\nSTOPSIGNAL SIGINT\nSHELL [\"/bin/ash\", \"-c\"]\n\
         HEALTHCHECK NONE\nONBUILD RUN x\nRUN [\"ls\"]\n",
    );
    let titles: Vec<_> = plan.steps.iter().map(|step| step.title.as_str()).collect();
    assert_eq!(
        titles,
        [
            "[2/5] WORKDIR /w",
            "[3/5] RUN echo 1",
            "[4/5] COPY --chown=1 a b ./",
            "[5/5] RUN [\"ls\"]"
        ]
    );
    assert_eq!(
        plan.stages[0].title.as_deref(),
        Some("[1/5] FROM docker.io/library/busybox:latest")
    );
    assert_eq!(
        history(&plan),
        [
            "base",
            "ARG V=1",
            "ENV A=x B=y z",
            "WORKDIR /w",
            "RUN |1 V=1 /bin/sh -c echo $V # buildkit",
            "COPY --chown=1 a b ./ # buildkit",
            "CMD [\"a\" \"b c\"]",
            "EXPOSE [53/udp 80/tcp]",
            "LABEL k=v",
            "VOLUME [/d]",
            "USER me",
            "ENTRYPOINT [\"/bin/sh\" \"-c\" \"run it\"]",
            "STOPSIGNAL SIGINT",
            "SHELL [/bin/ash -c]",
            "HEALTHCHECK &{[\"NONE\"] \"0s\" \"0s\" \"0s\" \"0s\" '\\x00'}",
            "ONBUILD RUN x",
            "RUN |1 V=1 ls # buildkit",
        ]
    );
    let config = &plan.stages[0].config;
    assert_eq!(config.env, ["PATH=/bin", "FROM_BASE=base", "A=x", "B=y z"]);
    assert_eq!(
        (config.user.as_str(), config.working_dir.as_str()),
        ("me", "/w")
    );
    assert_eq!(
        config.exposed_ports.keys().collect::<Vec<_>>(),
        ["53/udp", "80/tcp"]
    );
    assert_eq!(
        run(&plan, 1).env,
        ["PATH=/bin", "FROM_BASE=base", "A=x", "B=y z", "V=1"]
    );
}

#[test]
fn args_and_envs_follow_the_rules() {
    let text = "ARG G=global\nARG H=${G}2\nFROM busybox\nARG G\nARG H=own\nARG P\nENV abc=hello\nENV abc=bye def=$abc\n\
                ARG abc=hidden\nRUN $abc\nARG TARGETARCH\nRUN y\n";
    let mut request = BuildRequest::default();
    request.args.insert("P".into(), "given".into());
    request.args.insert("http_proxy".into(), "proxy".into());
    request.args.insert("unknown".into(), "x".into());
    let plan = make_with(text, &request, busybox()).unwrap();
    let env = &run(&plan, 0).env;
    for entry in ["G=global", "H=own", "P=given", "abc=bye", "def=hello"] {
        assert!(env.contains(&entry.to_owned()), "{entry} in {env:?}");
    }
    assert!(!env.contains(&"abc=hidden".to_owned()), "ENV beats ARG");
    assert_eq!(run(&plan, 0).quiet_env, ["http_proxy=proxy"]);
    assert!(
        !env.iter().any(|entry| entry.starts_with("TARGETARCH")),
        "only after its declaration"
    );
    assert!(
        run(&plan, 1)
            .env
            .iter()
            .any(|entry| entry.starts_with("TARGETARCH="))
    );
    assert!(
        plan.warnings
            .iter()
            .any(|(_, text)| text.contains("[unknown] were not consumed")),
        "{:?}",
        plan.warnings
    );
    request.args.insert("G".into(), "over".into());
    let plan = make_with(text, &request, busybox()).unwrap();
    assert!(run(&plan, 0).env.contains(&"G=over".to_owned()));
}

#[test]
fn global_args_are_for_from_only() {
    let text = "ARG NAME=busybox\nARG TAG=1\nFROM $NAME:${TAG}\nRUN a\n";
    let plan = make(text);
    assert_eq!(plan.stages[0].base, Origin::Image("busybox:1".into()));
    assert!(
        !run(&plan, 0)
            .env
            .iter()
            .any(|entry| entry.starts_with("NAME="))
    );
    assert!(wrong("FROM $NOTHING\n")[0].contains("should not be blank"));
}

#[test]
fn only_what_the_target_needs_is_planned() {
    let text = "FROM busybox AS one\nRUN 1\nFROM busybox:2 AS unused\nRUN 2\nFROM scratch\nCOPY --from=one /a /b\n\
                COPY --from=busybox:3 /a /c\n";
    let plan = make(text);
    assert_eq!(
        plan.stages.iter().map(|s| s.number).collect::<Vec<_>>(),
        [0, 2]
    );
    assert_eq!(plan.steps[0].title, "[one 2/2] RUN 1");
    assert_eq!(plan.steps[1].title, "[stage-2 1/2] COPY --from=one /a /b");
    let mut request = BuildRequest {
        target: Some("ONE".into()),
        ..BuildRequest::default()
    };
    assert_eq!(make_with(text, &request, busybox()).unwrap().steps.len(), 1);
    request.target = Some("1".into());
    assert_eq!(make_with(text, &request, busybox()).unwrap().target, 1);
    request.target = Some("zzz".into());
    let found = make_with(text, &request, busybox())
        .map(|_| ())
        .unwrap_err();
    assert_eq!(found[0].message, "target stage \"zzz\" could not be found");
}

#[test]
fn stages_on_stages_inherit() {
    let plan = make(
        "FROM busybox AS a\nARG X=1\nENV E=2\nCMD mine\nFROM a AS b\nRUN $X\nENTRYPOINT [\"e\"]\n",
    );
    assert!(run(&plan, 0).env.contains(&"X=1".to_owned()));
    let last = plan.stages.last().unwrap();
    assert_eq!(
        (last.base.clone(), last.title.clone()),
        (Origin::Stage(0), None)
    );
    assert_eq!(
        last.config.cmd, None,
        "an inherited CMD goes with a new ENTRYPOINT"
    );
    assert_eq!(history(&plan).len(), 6);
}

#[test]
fn references_to_stages_are_checked() {
    let found = wrong(
        "FROM busybox AS a\nCOPY --from=a x y\nCOPY --from=b x y\nCOPY --from=7 x y\nCOPY --from=UP//er x y\n\
         FROM --platform=windows/amd64 busybox AS b\nFROM Bad:Name:x\n",
    );
    assert_eq!(found.len(), 6, "{found:?}");
    assert!(found[0].contains("circular dependency"));
    assert!(found[1].contains("needs to be defined before"));
    assert!(found[2].contains("invalid stage index 7"));
    assert!(found[4].contains("building for windows/amd64 is not supported"));
}

#[test]
fn triggers_of_the_base_run_here_once() {
    let mut base = busybox();
    base.config.as_mut().unwrap().on_build = Some(vec!["COPY . /app".into(), "ENV T=1".into()]);
    let plan = make_with(
        "FROM busybox\nRUN x\n",
        &BuildRequest::default(),
        base.clone(),
    )
    .unwrap();
    assert_eq!(plan.steps[0].title, "[2/3] COPY . /app");
    assert_eq!(plan.steps[0].place.at.line, 1);
    assert!(plan.stages[0].config.on_build.is_none());
    assert!(run(&plan, 1).env.contains(&"T=1".to_owned()));
    base.config.as_mut().unwrap().on_build = Some(vec!["FROM x".into()]);
    let found = make_with("FROM busybox\n", &BuildRequest::default(), base)
        .map(|_| ())
        .unwrap_err();
    assert!(
        found[0]
            .message
            .contains("isn't allowed as an ONBUILD trigger")
    );
}

#[test]
fn destinations_and_heredocs() {
    let plan = make(
        "FROM busybox\nWORKDIR /w\nENV D=/data\nCOPY a .\nCOPY a b/\nCOPY a $D/x\nCOPY <<E /e\nhi $D '$D'\nE\nRUN <<E\nls\nE\n\
         RUN cat <<E\nx\nE\nRUN <<P\n#!/bin/ash\nP\n",
    );
    let copies: Vec<_> = plan
        .steps
        .iter()
        .filter_map(|step| match &step.operation {
            Operation::Copy(copy) => Some((
                copy.destination.to_str().unwrap().to_owned(),
                copy.is_directory,
            )),
            _ => None,
        })
        .collect();
    let expected = [
        ("/w", true),
        ("/w/b", true),
        ("/data/x", false),
        ("/e", false),
    ];
    assert_eq!(
        copies,
        expected.map(|(path, directory)| (path.to_owned(), directory))
    );
    let Operation::Copy(inline) = &plan.steps[4].operation else {
        panic!()
    };
    assert_eq!(
        inline.inline,
        [("E".to_owned(), "hi /data '/data'\n".to_owned())]
    );
    assert_eq!(run(&plan, 5).args, ["/bin/sh", "-c", "ls\n"]);
    assert_eq!(run(&plan, 6).args, ["/bin/sh", "-c", "cat <<E\nx\nE"]);
    assert_eq!(run(&plan, 7).args, ["/dev/pipes/P"]);
    assert_eq!(
        run(&plan, 7).script,
        Some(("P".into(), "#!/bin/ash\n".into()))
    );
    assert_eq!(plan.steps[5].title, "[7/9] RUN <<E (ls)");
}

#[test]
fn values_are_checked_before_anything_runs() {
    let found = wrong(
        "FROM busybox\nENV X=1\nEXPOSE ${X}00000\nSTOPSIGNAL SIG$X\nCOPY --chmod=${X}9 a b\nCOPY a b $X\nUSER ${Y:?who}\n",
    );
    assert_eq!(found.len(), 5, "{found:?}");
    assert!(found[4].contains("Y: who"));
}
