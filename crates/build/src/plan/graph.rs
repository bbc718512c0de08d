//! Stages as a graph: what each is built on and copies from, and which ones the target needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ketch_spec::{Platform, Reference};

use super::scope::{Global, Scope};
use crate::dockerfile::{Command, Dockerfile, Instruction, Place, Word};
use crate::error::{Mistake, Position};
use crate::expand::{Style, expand};
use crate::request::{BuildRequest, NamedContext};

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing: `FROM scratch`.
    Scratch,
    /// The build context.
    Context,
    /// A stage, by its number.
    Stage(usize),
    /// An image, as written.
    Image(String),
    /// A named context.
    Directory(PathBuf),
}

/// The stages, resolved.
#[derive(Debug, Clone)]
pub struct Graph {
    /// What each stage is built on.
    pub bases: Vec<Origin>,
    /// The stage to build.
    pub target: usize,
    /// The stages that the target needs, itself included, in order.
    pub needed: BTreeSet<usize>,
    /// The images those need, and an instruction that names each.
    pub images: BTreeMap<String, Place>,
    /// What is known before the first stage.
    pub global: Global,
    names: Vec<Option<String>>,
    contexts: BTreeMap<String, NamedContext>,
}

/// A mistake about `word` in the instruction at `place`.
pub fn mistake(place: &Place, word: &Word, message: impl Into<String>) -> Mistake {
    let at = if word.at == Position::default() {
        place.at
    } else {
        word.at
    };
    Mistake {
        at,
        lines: place.lines,
        text: word.text.clone(),
        message: message.into(),
        unsupported: false,
    }
}

impl Graph {
    /// Resolves the stages of a file.
    ///
    /// # Errors
    /// Every reference to a stage or image that cannot be meant.
    pub fn new(
        file: &Dockerfile,
        request: &BuildRequest,
        platform: &Platform,
    ) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let names: Vec<_> = file.stages.iter().map(|stage| stage.name.clone()).collect();
        let target = find_target(file, request, &names).map_err(|mistake| vec![mistake])?;
        let target_name = names[target].clone().unwrap_or_else(|| "default".into());
        let mut global = Global::new(request.args.clone(), platform, &target_name, file.escape);
        for declaration in &file.global_args {
            if let Err((word, error)) = global.declare(declaration) {
                let line = (word.at.line, word.at.line);
                let place = Place {
                    at: word.at,
                    lines: line,
                    text: word.text.clone(),
                };
                mistakes.push(mistake(&place, &word, expansion_message(&word, &error)));
            }
        }
        let mut graph = Self {
            bases: Vec::new(),
            target,
            needed: BTreeSet::new(),
            images: BTreeMap::new(),
            global,
            names,
            contexts: request.named_contexts.clone(),
        };
        for index in 0..file.stages.len() {
            let base = graph.base_of(file, index, platform, &mut mistakes);
            graph.bases.push(base);
        }
        let froms = graph.froms(file, &mut mistakes);
        if !mistakes.is_empty() {
            mistakes.sort_by_key(|mistake| mistake.at);
            return Err(mistakes);
        }
        graph.collect(file, &froms);
        Ok(graph)
    }

    /// What `--from=text` means in stage `index`.
    ///
    /// # Errors
    /// Why it can mean nothing.
    pub fn origin(&self, index: usize, text: &str) -> Result<Origin, String> {
        let lower = text.to_lowercase();
        match self
            .contexts
            .get(&lower)
            .or_else(|| self.contexts.get(text))
        {
            Some(NamedContext::Directory(path)) => return Ok(Origin::Directory(path.clone())),
            Some(NamedContext::Image(image)) => return Ok(Origin::Image(image.clone())),
            None => {}
        }
        if let Ok(number) = text.parse::<usize>() {
            return if number < index {
                Ok(Origin::Stage(number))
            } else {
                Err(format!(
                    "invalid stage index {number}: it must be that of an earlier stage"
                ))
            };
        }
        if let Some(earlier) = self.earlier(index, &lower) {
            return Ok(Origin::Stage(earlier));
        }
        if self.names[index].as_deref() == Some(&lower) {
            return Err(format!("circular dependency detected on stage: {lower}"));
        }
        if self.names[index..]
            .iter()
            .any(|name| name.as_deref() == Some(&lower))
        {
            return Err(format!(
                "cannot copy from stage {lower:?}, it needs to be defined before the current stage"
            ));
        }
        image(text)
    }

    /// What a stage is built on; its mistakes are noted.
    fn base_of(
        &self,
        file: &Dockerfile,
        index: usize,
        platform: &Platform,
        mistakes: &mut Vec<Mistake>,
    ) -> Origin {
        let stage = &file.stages[index];
        let mut wrong = |word: &Word, (message, unsupported): (String, bool)| {
            mistakes.push(Mistake {
                unsupported,
                ..mistake(&stage.place, word, message)
            });
        };
        if let Some(word) = &stage.platform {
            match self.global.expand(word) {
                Ok(text) => {
                    if let Err(why) = check_platform(&text, platform) {
                        wrong(word, why);
                    }
                }
                Err((word, error)) => wrong(&word, (expansion_message(&word, &error), false)),
            }
        }
        let text = match self.global.expand(&stage.base) {
            Ok(text) => text,
            Err((word, error)) => {
                wrong(&word, (expansion_message(&word, &error), false));
                return Origin::Scratch;
            }
        };
        if text.is_empty() {
            let message = format!("base name ({}) should not be blank", stage.base.text);
            wrong(&stage.base, (message, false));
            return Origin::Scratch;
        }
        self.base_meant(index, &text).unwrap_or_else(|why| {
            wrong(&stage.base, why);
            Origin::Scratch
        })
    }

    /// What `FROM text` means in stage `index`, or why nothing, and whether that is only not supported.
    fn base_meant(&self, index: usize, text: &str) -> Result<Origin, (String, bool)> {
        let lower = text.to_lowercase();
        match self
            .contexts
            .get(&lower)
            .or_else(|| self.contexts.get(text))
        {
            Some(NamedContext::Image(image)) => return Ok(Origin::Image(image.clone())),
            Some(NamedContext::Directory(_)) => {
                return Err((
                    format!("FROM a directory (build context {text:?}) is not supported"),
                    true,
                ));
            }
            None => {}
        }
        if text == "scratch" {
            return Ok(Origin::Scratch);
        }
        match self.earlier(index, &lower) {
            Some(earlier) => Ok(Origin::Stage(earlier)),
            None => image(text).map_err(|message| (message, false)),
        }
    }

    /// The last stage before `index` that has this name.
    fn earlier(&self, index: usize, name: &str) -> Option<usize> {
        self.names[..index]
            .iter()
            .rposition(|known| known.as_deref() == Some(name))
    }

    /// What every stage copies or mounts from. Values of `--from` are expanded with what the file itself says, because
    /// the environment of base images is not known yet.
    fn froms(&self, file: &Dockerfile, mistakes: &mut Vec<Mistake>) -> Vec<Vec<(Origin, Place)>> {
        let mut scopes: Vec<Scope> = Vec::new();
        let mut all = Vec::new();
        for (index, stage) in file.stages.iter().enumerate() {
            let mut scope = match &self.bases[index] {
                Origin::Stage(base) => scopes[*base].clone(),
                _ => Scope::default(),
            };
            let mut froms = Vec::new();
            for command in &stage.commands {
                static_scope(&mut scope, &self.global, command);
                for word in from_words(command) {
                    let origin = expand(&word.text, &scope, Style::instruction(file.escape))
                        .map_err(|error| expansion_message(&word, &error))
                        .and_then(|expanded| self.origin(index, &expanded.text));
                    match origin {
                        Ok(origin) => froms.push((origin, command.place.clone())),
                        Err(message) => mistakes.push(mistake(&command.place, &word, message)),
                    }
                }
            }
            scopes.push(scope);
            all.push(froms);
        }
        all
    }

    fn collect(&mut self, file: &Dockerfile, froms: &[Vec<(Origin, Place)>]) {
        let mut todo = vec![self.target];
        while let Some(index) = todo.pop() {
            if !self.needed.insert(index) {
                continue;
            }
            let base = (self.bases[index].clone(), file.stages[index].place.clone());
            for (origin, place) in std::iter::once(&base).chain(&froms[index]) {
                match origin {
                    Origin::Stage(other) => todo.push(*other),
                    Origin::Image(image) => {
                        self.images
                            .entry(image.clone())
                            .or_insert_with(|| place.clone());
                    }
                    Origin::Scratch | Origin::Context | Origin::Directory(_) => {}
                }
            }
        }
    }
}

/// Whether `text` names the platform that is built for.
fn check_platform(text: &str, platform: &Platform) -> Result<(), (String, bool)> {
    match text.parse::<Platform>() {
        Ok(wanted) if wanted.matches(platform) => Ok(()),
        Ok(wanted) => Err((
            format!(
                "building for {wanted} is not supported on {}",
                Platform::host()
            ),
            true,
        )),
        Err(error) => Err((format!("failed to parse platform {text:?}: {error}"), false)),
    }
}

/// The words of `--from=` and of `from=` in mounts.
fn from_words(command: &Command) -> Vec<Word> {
    match &command.instruction {
        Instruction::Copy(copy) => copy.from.iter().cloned().collect(),
        Instruction::Run(run) => {
            let from = run
                .mounts
                .iter()
                .filter_map(|mount| Some((mount.fields.get("from")?, mount.at)));
            from.map(|(text, at)| Word {
                text: text.clone(),
                at,
            })
            .collect()
        }
        _ => Vec::new(),
    }
}

/// ARG and ENV as far as the file alone tells.
fn static_scope(scope: &mut Scope, global: &Global, command: &Command) {
    match &command.instruction {
        Instruction::Arg(declarations) => {
            for declaration in declarations {
                let _ = scope.declare(global, declaration);
            }
        }
        Instruction::Env(pairs) => {
            let before = scope.clone();
            for (name, value) in pairs {
                if let Ok(value) = expand(&value.text, &before, Style::instruction(global.escape)) {
                    scope.set_env(name.text.clone(), value.text);
                }
            }
        }
        _ => {}
    }
}

fn image(text: &str) -> Result<Origin, String> {
    if text.parse::<ketch_spec::Digest>().is_ok() {
        return Ok(Origin::Image(text.to_owned()));
    }
    match Reference::parse_name(text) {
        Ok(_) => Ok(Origin::Image(text.to_owned())),
        Err(error) => Err(format!("failed to parse stage name {text:?}: {error}")),
    }
}

fn find_target(
    file: &Dockerfile,
    request: &BuildRequest,
    names: &[Option<String>],
) -> Result<usize, Mistake> {
    let last = file.stages.len() - 1;
    let Some(wanted) = request
        .target
        .as_deref()
        .filter(|wanted| !wanted.is_empty())
    else {
        return Ok(last);
    };
    let lower = wanted.to_lowercase();
    let named = names
        .iter()
        .rposition(|name| name.as_deref() == Some(&lower));
    let numbered = || {
        wanted
            .parse::<usize>()
            .ok()
            .filter(|number| *number <= last)
    };
    named.or_else(numbered).ok_or_else(|| {
        let place = &file.stages[last].place;
        let word = Word {
            text: wanted.to_owned(),
            at: place.at,
        };
        mistake(
            place,
            &word,
            format!("target stage {wanted:?} could not be found"),
        )
    })
}

/// BuildKit's sentence for a word that cannot be expanded.
pub fn expansion_message(word: &Word, error: &dyn std::fmt::Display) -> String {
    format!("failed to process {:?}: {error}", word.text)
}
