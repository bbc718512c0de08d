//! From stages to a plan: each instruction changes the config or becomes a step.

use std::collections::{BTreeMap, BTreeSet};

use ketch_spec::image::{ImageConfig, RunConfig};
use ketch_spec::{Platform, Reference};

use super::graph::{Graph, Origin, expansion_message, mistake};
use super::scope::Scope;
use super::{HistoryItem, Operation, Plan, StagePlan, Step};
use crate::dockerfile::{Command, Dockerfile, Instruction, Place, Word, parse_trigger};
use crate::error::Mistake;
use crate::expand::{ExpandError, Expanded, Style, expand};
use crate::request::BuildRequest;

/// The PATH of an image that has none.
pub const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A stage while its instructions are read.
pub struct Draft<'a> {
    pub(super) graph: &'a Graph,
    pub(super) request: &'a BuildRequest,
    pub(super) number: usize,
    pub(super) config: RunConfig,
    pub(super) author: Option<String>,
    pub(super) scope: Scope,
    pub(super) history: Vec<HistoryItem>,
    pub(super) cmd_set: bool,
    pub(super) prefix: Prefix,
    pub(super) steps: Vec<usize>,
    pub(super) all: &'a mut Vec<Step>,
    pub(super) warnings: &'a mut Vec<(usize, String)>,
    pub(super) mistakes: &'a mut Vec<Mistake>,
    /// Names that some ARG declared.
    pub(super) declared: &'a mut BTreeSet<String>,
}

/// `[name i/n] ` of titles.
#[derive(Debug, Clone, Default)]
pub struct Prefix {
    name: Option<String>,
    done: usize,
    total: usize,
}

impl Prefix {
    fn next(&mut self) -> String {
        self.done += 1;
        let name = self
            .name
            .as_ref()
            .map_or(String::new(), |name| format!("{name} "));
        format!("[{name}{}/{}]", self.done, self.total)
    }
}

/// Makes the plan. `images` has the config of every image that the graph names.
///
/// # Errors
/// Every mistake that only shows when values are known.
pub fn plan(
    file: &Dockerfile,
    request: &BuildRequest,
    graph: &Graph,
    images: &BTreeMap<String, ImageConfig>,
    platform: &Platform,
) -> Result<Plan, Vec<Mistake>> {
    let mut plan = Plan {
        stages: Vec::new(),
        steps: Vec::new(),
        target: graph.target,
        warnings: file.warnings.clone(),
    };
    let mut mistakes = Vec::new();
    let mut declared: BTreeSet<String> = file
        .global_args
        .iter()
        .map(|d| d.name.text.clone())
        .collect();
    let mut scopes: BTreeMap<usize, Scope> = BTreeMap::new();
    for &number in &graph.needed {
        let draft = Draft {
            graph,
            request,
            number,
            config: RunConfig::default(),
            author: None,
            scope: Scope::default(),
            history: Vec::new(),
            cmd_set: false,
            prefix: Prefix::default(),
            steps: Vec::new(),
            all: &mut plan.steps,
            warnings: &mut plan.warnings,
            mistakes: &mut mistakes,
            declared: &mut declared,
        };
        let base = match &graph.bases[number] {
            Origin::Stage(other) => {
                let stage = plan.stages.iter().find(|stage| stage.number == *other);
                Base::Stage(stage.zip(scopes.get(other)))
            }
            Origin::Image(name) => Base::Image(name, images.get(name)),
            _ => Base::Scratch,
        };
        let (stage, scope) = draft.read(file, base, platform);
        scopes.insert(number, scope);
        plan.stages.push(stage);
    }
    if !mistakes.is_empty() {
        mistakes.sort_by_key(|mistake| mistake.at);
        return Err(mistakes);
    }
    if let Some(target) = plan
        .stages
        .iter_mut()
        .find(|stage| stage.number == graph.target)
    {
        target.config.labels.extend(request.labels.clone());
    }
    plan.warnings
        .extend(unused_arguments(&graph.global.unused(&declared)));
    Ok(plan)
}

/// The warning about build arguments that no ARG declares.
fn unused_arguments(names: &[&str]) -> Option<(usize, String)> {
    let text = format!(
        "One or more build-args [{}] were not consumed",
        names.join(" ")
    );
    (!names.is_empty()).then_some((0, text))
}

/// How many numbers a stage's titles take.
fn total(base: &Origin, commands: &[Command]) -> usize {
    let is_step = |command: &&Command| {
        matches!(
            command.instruction,
            Instruction::Run(_) | Instruction::Copy(_) | Instruction::Workdir(_)
        )
    };
    usize::from(matches!(base, Origin::Image(_))) + commands.iter().filter(is_step).count()
}

/// An image's name with its defaults.
pub fn full_name(image: &str) -> String {
    image
        .parse::<Reference>()
        .map_or_else(|_| image.to_owned(), |reference| reference.to_string())
}

/// What a stage begins with.
enum Base<'a> {
    /// No files, almost no config.
    Scratch,
    /// Another stage of this build.
    Stage(Option<(&'a StagePlan, &'a Scope)>),
    /// An image.
    Image(&'a str, Option<&'a ImageConfig>),
}

impl Draft<'_> {
    /// Reads the whole stage.
    fn read(
        mut self,
        file: &Dockerfile,
        base: Base<'_>,
        platform: &Platform,
    ) -> (StagePlan, Scope) {
        let stage = &file.stages[self.number];
        match base {
            Base::Scratch => self.start_on_nothing(),
            Base::Stage(other) => {
                if let Some((other, scope)) = other {
                    self.config = other.config.clone();
                    self.author.clone_from(&other.author);
                    self.history.clone_from(&other.history);
                    self.scope = scope.clone();
                }
            }
            Base::Image(name, image) => self.start_on(image, name, &stage.place, platform),
        }
        let mut commands = self.triggers(&stage.place);
        commands.extend(stage.commands.iter().cloned());
        let number = self.number;
        let name = || {
            stage
                .name
                .clone()
                .unwrap_or_else(|| format!("stage-{number}"))
        };
        let base = &self.graph.bases[number];
        self.prefix = Prefix {
            name: (file.stages.len() > 1).then(name),
            done: 0,
            total: total(base, &commands),
        };
        let title = match base {
            Origin::Image(image) => {
                Some(format!("{} FROM {}", self.prefix.next(), full_name(image)))
            }
            _ => None,
        };
        for command in &commands {
            self.command(command);
        }
        let Draft {
            config,
            author,
            scope,
            history,
            steps,
            ..
        } = self;
        (
            StagePlan {
                number,
                base: base.clone(),
                title,
                steps,
                config,
                author,
                history,
            },
            scope,
        )
    }

    fn start_on_nothing(&mut self) {
        self.config.env = vec![DEFAULT_PATH.to_owned()];
        self.config.working_dir = "/".into();
        self.scope = Scope::new(&self.config.env);
    }

    fn start_on(
        &mut self,
        image: Option<&ImageConfig>,
        name: &str,
        place: &Place,
        platform: &Platform,
    ) {
        let Some(image) = image else { return };
        let has = Platform::new(&image.os, &image.architecture, image.variant.as_deref());
        if platform.rank(&has).is_none() {
            let text = format!(
                "InvalidBaseImagePlatform: base image {name} was pulled with platform \"{has}\", expected \"{platform}\" for current build"
            );
            self.warnings.push((place.at.line, text));
        }
        self.config = image.config.clone().unwrap_or_default();
        self.author.clone_from(&image.author);
        self.history = image
            .history
            .iter()
            .cloned()
            .map(HistoryItem::Base)
            .collect();
        if !self
            .config
            .env
            .iter()
            .any(|entry| entry.starts_with("PATH="))
        {
            self.config.env.push(DEFAULT_PATH.to_owned());
        }
        self.scope = Scope::new(&self.config.env);
    }

    /// The instructions that ONBUILD of the base left, now part of this stage.
    fn triggers(&mut self, place: &Place) -> Vec<Command> {
        let mut commands = Vec::new();
        for text in self.config.on_build.take().unwrap_or_default() {
            match parse_trigger(&text) {
                Ok(triggered) => commands.extend(triggered.into_iter().map(|command| {
                    // Mistakes and titles of a trigger belong to the FROM that brought it.
                    let place = Place {
                        text: command.place.text,
                        ..place.clone()
                    };
                    Command { place, ..command }
                })),
                Err(found) => {
                    for wrong in found {
                        let word = Word {
                            text: wrong.text,
                            at: place.at,
                        };
                        let message =
                            format!("ONBUILD trigger {text:?} of the base: {}", wrong.message);
                        self.mistakes.push(mistake(place, &word, message));
                    }
                }
            }
        }
        commands
    }

    pub(super) fn style(&self) -> Style {
        Style::instruction(self.graph.global.escape)
    }

    /// Expands a word to one text; a mistake is noted and gives None.
    pub(super) fn text(&mut self, place: &Place, word: &Word) -> Option<String> {
        self.expanded(place, word).map(|expanded| expanded.text)
    }

    /// Expands a word to as many words as it gives.
    pub(super) fn words(&mut self, place: &Place, word: &Word) -> Option<Vec<String>> {
        self.expanded(place, word).map(|expanded| expanded.words)
    }

    fn expanded(&mut self, place: &Place, word: &Word) -> Option<Expanded> {
        let result = expand(&word.text, &self.scope, self.style());
        match result {
            Ok(expanded) => {
                for name in &expanded.unset {
                    if !self.scope.is_declared(name) {
                        let text = format!("UndefinedVar: Usage of undefined variable '${name}'");
                        self.warnings.push((word.at.line.max(place.at.line), text));
                    }
                }
                Some(expanded)
            }
            Err(error) => {
                self.wrong_expansion(place, word, &error);
                None
            }
        }
    }

    pub(super) fn wrong_expansion(&mut self, place: &Place, word: &Word, error: &ExpandError) {
        self.wrong(place, word, expansion_message(word, error));
    }

    pub(super) fn wrong(&mut self, place: &Place, word: &Word, message: impl Into<String>) {
        self.mistakes.push(mistake(place, word, message));
    }

    /// The instruction's text with known variables filled in, its name in upper case: a step's title.
    fn title(&mut self, place: &Place, summary: &str) -> String {
        let style = Style {
            raw_quotes: true,
            raw_escapes: true,
            skip_unset: true,
            ..self.style()
        };
        let text =
            expand(&place.text, &self.scope, style).map_or_else(|_| place.text.clone(), |e| e.text);
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
        format!(
            "{} {} {}{summary}",
            self.prefix.next(),
            name.to_uppercase(),
            rest.trim_start()
        )
    }

    /// Adds a step and its entry in the history.
    pub(super) fn step(
        &mut self,
        place: &Place,
        summary: &str,
        operation: Operation,
        text: String,
    ) {
        let title = self.title(place, summary);
        let step = self.all.len();
        self.all.push(Step {
            title,
            place: place.clone(),
            operation,
        });
        self.steps.push(step);
        self.history.push(HistoryItem::Step { step, text });
    }

    /// Notes an instruction that changed the config only.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.history.push(HistoryItem::Config(text.into()));
    }
}
