use super::*;
use crate::load::{LoadOptions, load};
use crate::model::Project;

fn project(text: &str) -> Project {
    let options = LoadOptions {
        files: vec!["-".into()],
        standard_input: Some(text.into()),
        project_name: Some("p".into()),
        working_directory: "/nowhere".into(),
        ..LoadOptions::default()
    };
    load(&options).expect("a project")
}

const TWO: &str = "services:\n  web: {image: w, depends_on: {db: {condition: service_healthy}}}\n  db: {image: d, volumes: ['data:/d']}\nvolumes: {data: }\n";

fn lines(plan: &Plan) -> Vec<String> {
    plan.operations
        .iter()
        .map(|operation| format!("{} {:?}", operation.action, operation.after))
        .collect()
}

/// What is there after the project came up.
fn up(project: &Project) -> Observed {
    let containers = project.services.values().map(|service| ObservedContainer {
        id: format!("{:0>64}", service.name),
        name: format!("p-{}-1", service.name),
        service: service.name.clone(),
        number: 1,
        config_hash: crate::request::config_hash(project, service),
        image_id: "i".into(),
        running: true,
        depends_on: service.depends_on.keys().cloned().collect(),
        ..ObservedContainer::default()
    });
    Observed {
        containers: containers.collect(),
        networks: ["p_default".to_owned()].into(),
        own_networks: ["p_default".to_owned()].into(),
        volumes: ["p_data".to_owned()].into(),
        own_volumes: ["p_data".to_owned()].into(),
        images: [
            ("w".to_owned(), "i".to_owned()),
            ("d".to_owned(), "i".to_owned()),
        ]
        .into(),
    }
}

#[test]
fn a_first_up_makes_everything_in_order() {
    let plan = plan_up(&project(TWO), &Observed::default(), &UpOptions::default()).expect("a plan");
    assert_eq!(
        lines(&plan),
        [
            "create network default {}",
            "create volume data {}",
            "create container p-db-1 {0, 1}",
            "start container p-db-1 {2}",
            "wait until db is healthy {3}",
            "create container p-web-1 {0, 1}",
            "start container p-web-1 {4, 5}",
        ]
    );
}

#[test]
fn an_unchanged_project_has_an_empty_plan() {
    let project = project(TWO);
    let mut observed = up(&project);
    let plan = plan_up(&project, &observed, &UpOptions::default()).expect("a plan");
    assert!(
        plan.operations
            .iter()
            .all(|operation| matches!(operation.action, Action::Wait { .. })),
        "{plan}"
    );
    observed.containers[0].running = false;
    let plan = plan_up(&project, &observed, &UpOptions::default()).expect("a plan");
    assert!(
        lines(&plan).contains(&"start container p-db-1 {}".to_owned()),
        "{plan}"
    );
}

#[test]
fn a_changed_service_is_replaced_and_the_new_one_comes_first() {
    let project = project(TWO);
    let mut observed = up(&project);
    observed.containers[1].config_hash = "old".into();
    let plan = plan_up(&project, &observed, &UpOptions::default()).expect("a plan");
    let text = plan.to_string();
    let order: Vec<usize> = [
        "create container 0",
        "stop container p-web-1",
        "remove container p-web-1",
        "rename container",
        "start container p-web-1",
    ]
    .iter()
    .map(|part| {
        text.find(part)
            .unwrap_or_else(|| panic!("{part} in\n{text}"))
    })
    .collect();
    assert!(order.is_sorted(), "{text}");
    assert!(text.contains("its configuration has changed"), "{text}");
    observed.containers[1].config_hash =
        crate::request::config_hash(&project, &project.services["web"]);
    observed.images.insert("w".into(), "newer".into());
    let plan = plan_up(&project, &observed, &UpOptions::default()).expect("a plan");
    assert!(plan.to_string().contains("its image has changed"), "{plan}");
    let kept = plan_up(
        &project,
        &observed,
        &UpOptions {
            no_recreate: true,
            ..UpOptions::default()
        },
    )
    .expect("a plan");
    assert!(!kept.to_string().contains("create"), "{kept}");
}

#[test]
fn scale_and_orphans() {
    let project = project(TWO);
    let mut observed = up(&project);
    observed.containers.push(ObservedContainer {
        service: "gone".into(),
        name: "p-gone-1".into(),
        number: 1,
        ..ObservedContainer::default()
    });
    let options = UpOptions {
        scale: [("web".to_owned(), 2), ("db".to_owned(), 0)].into(),
        remove_orphans: true,
        ..UpOptions::default()
    };
    let text = plan_up(&project, &observed, &options)
        .expect("a plan")
        .to_string();
    for part in [
        "create container p-web-2",
        "stop container p-db-1",
        "remove container p-db-1",
        "remove container p-gone-1",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(observed.orphan_names(&project), ["p-gone-1"]);
}

#[test]
fn down_removes_dependents_first_and_volumes_only_when_asked() {
    let project = project(TWO);
    let observed = up(&project);
    let plan = plan_down(&project, &observed, &DownOptions::default());
    assert_eq!(
        lines(&plan),
        [
            "stop container p-web-1 {}",
            "remove container p-web-1 {0}",
            "stop container p-db-1 {1}",
            "remove container p-db-1 {2}",
            "remove network p_default {1, 3}",
        ]
    );
    let with_volumes = plan_down(
        &project,
        &observed,
        &DownOptions {
            volumes: true,
            ..DownOptions::default()
        },
    );
    assert!(
        with_volumes.to_string().contains("remove volume p_data"),
        "{with_volumes}"
    );
}

#[test]
fn what_is_external_must_be_there() {
    let project =
        project("services: {a: {image: x, networks: [out]}}\nnetworks: {out: {external: true}}\n");
    let error =
        plan_up(&project, &Observed::default(), &UpOptions::default()).expect_err("missing");
    assert!(
        error.to_string().contains("declared as external"),
        "{error}"
    );
}

#[test]
fn a_replacement_that_was_cut_short_is_finished() {
    let project = project(TWO);
    let mut observed = up(&project);
    let web = observed.containers[1].clone();
    observed.containers[1].name = "0123_p-web-1".into();
    let options = UpOptions::default();
    let plan = plan_up(&project, &observed, &options)
        .expect("a plan")
        .to_string();
    assert!(
        plan.contains("rename container 0123_p-web-1 to p-web-1"),
        "{plan}"
    );
    // with the old one still there, the new one goes
    let temporary = std::mem::replace(&mut observed.containers[1], web);
    observed.containers.insert(
        0,
        ObservedContainer {
            id: "0123".into(),
            ..temporary
        },
    );
    let plan = plan_up(&project, &observed, &options)
        .expect("a plan")
        .to_string();
    assert!(
        plan.contains("remove container 0123_p-web-1 (there are more than wanted)"),
        "{plan}"
    );
    assert!(!plan.contains("rename"), "{plan}");
}

#[test]
fn what_shares_a_namespace_is_made_after_and_recreated_with_it() {
    let text = "services:\n  a: {image: w}\n  b: {image: w, network_mode: 'service:a'}\n";
    let project = project(text);
    let plan = plan_up(&project, &Observed::default(), &UpOptions::default()).expect("a plan");
    assert_eq!(
        lines(&plan),
        [
            "create network default {}",
            "create container p-a-1 {0}",
            "start container p-a-1 {1}",
            "create container p-b-1 {0, 1}",
            "start container p-b-1 {2, 3}",
        ]
    );
    let mut observed = up(&project);
    observed.containers[0].config_hash = "old".into();
    let plan = plan_up(&project, &observed, &UpOptions::default())
        .expect("a plan")
        .to_string();
    assert!(
        plan.contains("_p-b-1 (what it depends on was recreated)"),
        "{plan}"
    );
}

#[test]
fn preparing_for_a_run_leaves_its_service_alone() {
    let options = UpOptions {
        services: vec!["web".into()],
        only_prepare: Some("web".into()),
        ..UpOptions::default()
    };
    let plan = plan_up(&project(TWO), &Observed::default(), &options).expect("a plan");
    let text = plan.to_string();
    assert!(
        text.contains("wait until db is healthy") && !text.contains("p-web-1"),
        "{text}"
    );
}

#[test]
fn images_are_pulled_once_and_built_in_a_row() {
    let project = project(
        "services:\n  a: {image: x}\n  b: {image: x}\n  c: {build: .}\n  d: {build: .}\n  e: {image: y, build: .}\n  f: {image: z, pull_policy: always}\n",
    );
    let services: Vec<String> = project.services.keys().cloned().collect();
    let mut observed = Observed::default();
    let plan = |observed: &Observed, options: &ImageOptions| {
        lines(&plan_images(&project, &services, observed, options).expect("a plan"))
    };
    assert_eq!(
        plan(&observed, &ImageOptions::default()),
        [
            "pull image of a {}",
            "build image of c {}",
            "build image of d {1}",
            "pull or build image of e {2}",
            "pull image of f {}",
        ]
    );
    for image in ["x", "y", "z", "p-c", "p-d"] {
        observed.images.insert(image.into(), "i".into());
    }
    assert_eq!(
        plan(&observed, &ImageOptions::default()),
        ["pull image of f {}"]
    );
    let build = ImageOptions {
        build: true,
        pull: PullMode::Never,
        ..ImageOptions::default()
    };
    assert_eq!(plan(&observed, &build).len(), 3);
    observed.images.remove("p-c");
    let never = ImageOptions {
        no_build: true,
        ..ImageOptions::default()
    };
    let error = plan_images(&project, &services, &observed, &never).expect_err("no image");
    assert!(
        error.to_string().starts_with("No such image: p-c"),
        "{error}"
    );
}

#[test]
fn states_change_in_order() {
    let project = project(TWO);
    let mut observed = up(&project);
    let plan = |observed: &Observed, what| lines(&plan_lifecycle(&project, observed, &[], what));
    let stop = Lifecycle::Stop { timeout_s: None };
    assert_eq!(
        plan(&observed, stop),
        ["stop container p-web-1 {}", "stop container p-db-1 {0}"]
    );
    assert_eq!(plan(&observed, Lifecycle::Start), [""; 0]);
    assert_eq!(plan(&observed, Lifecycle::Pause).len(), 2);
    for container in &mut observed.containers {
        container.running = false;
    }
    assert_eq!(
        plan(&observed, Lifecycle::Start),
        [
            "start container p-db-1 {}",
            "wait until db is healthy {0}",
            "start container p-web-1 {0, 1}",
        ]
    );
    let removed = plan_remove(&observed, &["web".into()], false, false);
    assert_eq!(lines(&removed), ["remove container p-web-1 {}"]);
}
