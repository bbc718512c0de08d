//! What each instruction does to a stage.

use std::path::PathBuf;

use ketch_spec::port::parse_expose;

use super::history::{health, heredoc_summary, plain_list, quoted_list};
use super::scope::PROXY_ARGS;
use super::stage::Draft;
use super::{CopyStep, Operation, Origin, RunStep};
use crate::copy::ModeChange;
use crate::dockerfile::{
    Command, CommandLine, Copy, Declaration, Heredoc, Instruction, Place, Run, Word, remote,
};
use crate::expand::{Style, expand};
use crate::path;

/// SHELL where none is set.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Where a heredoc with `#!` is mounted.
pub const PIPES: &str = "/dev/pipes";

impl Draft<'_> {
    /// Applies one instruction.
    pub(super) fn command(&mut self, command: &Command) {
        let place = &command.place;
        match &command.instruction {
            Instruction::Arg(declarations) => self.arg(place, declarations),
            Instruction::Env(pairs) => self.env(place, pairs),
            Instruction::Label(pairs) => self.label(place, pairs),
            Instruction::Cmd(line) => {
                let args = self.with_shell(line);
                self.note(format!("CMD {}", quoted_list(&args)));
                self.config.cmd = Some(args);
                self.cmd_set = true;
            }
            Instruction::Entrypoint(line) => {
                let args = self.with_shell(line);
                self.note(format!("ENTRYPOINT {}", quoted_list(&args)));
                self.config.entrypoint = (!args.is_empty()).then_some(args);
                // A CMD of the base was meant for the base's entrypoint.
                if !self.cmd_set {
                    self.config.cmd = None;
                }
            }
            Instruction::Expose(words) => self.expose(place, words),
            Instruction::Healthcheck(check) => {
                self.note(health(check));
                self.config.healthcheck = Some(check.clone());
            }
            Instruction::Maintainer(name) => {
                self.author = Some(name.clone());
                self.note(format!("MAINTAINER {name}"));
            }
            Instruction::Onbuild(text) => {
                self.config
                    .on_build
                    .get_or_insert_default()
                    .push(text.clone());
                self.note(format!("ONBUILD {text}"));
            }
            Instruction::Shell(shell) => {
                self.note(format!("SHELL {}", plain_list(shell)));
                self.config.shell = Some(shell.clone());
            }
            Instruction::StopSignal(word) => self.stop_signal(place, word),
            Instruction::User(word) => {
                if let Some(user) = self.text(place, word) {
                    self.note(format!("USER {user}"));
                    self.config.user = user;
                }
            }
            Instruction::Volume(words) => self.volume(place, words),
            Instruction::Workdir(word) => self.workdir(place, word),
            Instruction::Run(run) => self.run(place, run),
            Instruction::Copy(copy) => self.copy(place, copy),
        }
    }

    fn env(&mut self, place: &Place, pairs: &[(Word, Word)]) {
        let Some(pairs) = self.pairs(place, pairs) else {
            return;
        };
        self.note(format!("ENV {}", shown_pairs(&pairs)));
        for (name, value) in pairs {
            self.scope.set_env(name, value);
        }
        self.config.env = self.scope.image_env();
    }

    fn label(&mut self, place: &Place, pairs: &[(Word, Word)]) {
        let Some(pairs) = self.pairs(place, pairs) else {
            return;
        };
        self.note(format!("LABEL {}", shown_pairs(&pairs)));
        self.config.labels.extend(pairs);
    }

    fn arg(&mut self, place: &Place, declarations: &[Declaration]) {
        let mut texts = Vec::new();
        for declaration in declarations {
            self.declared.insert(declaration.name.text.clone());
            match self.scope.declare(&self.graph.global, declaration) {
                Ok(Some(value)) => texts.push(format!("{}={value}", declaration.name.text)),
                Ok(None) => texts.push(declaration.name.text.clone()),
                Err((word, error)) => self.wrong_expansion(place, &word, &error),
            }
        }
        self.note(format!("ARG {}", texts.join(" ")));
    }

    /// Names and values of ENV and LABEL, all expanded with the values from before the instruction.
    fn pairs(&mut self, place: &Place, pairs: &[(Word, Word)]) -> Option<Vec<(String, String)>> {
        let mut expanded = Vec::new();
        for (name, value) in pairs {
            expanded.push((self.text(place, name), self.text(place, value)));
        }
        expanded
            .into_iter()
            .map(|(name, value)| Some((name?, value?)))
            .collect()
    }

    /// Arguments with SHELL before them in shell form.
    fn with_shell(&self, line: &CommandLine) -> Vec<String> {
        if !line.shell {
            return line.words.clone();
        }
        let shell = match &self.config.shell {
            Some(shell) if !shell.is_empty() => shell.clone(),
            _ => DEFAULT_SHELL.map(String::from).to_vec(),
        };
        shell.into_iter().chain([line.words.join(" ")]).collect()
    }

    fn expose(&mut self, place: &Place, words: &[Word]) {
        let mut shown = Vec::new();
        for word in words {
            for text in self.words(place, word).unwrap_or_default() {
                match parse_expose(&text) {
                    Ok(ports) => shown.extend(ports.iter().map(ToString::to_string)),
                    Err(error) => self.wrong(place, word, error.to_string()),
                }
            }
        }
        shown.sort();
        self.note(format!("EXPOSE {}", plain_list(&shown)));
        self.config
            .exposed_ports
            .extend(shown.into_iter().map(|port| (port, empty_object())));
    }

    fn stop_signal(&mut self, place: &Place, word: &Word) {
        let Some(signal) = self.text(place, word) else {
            return;
        };
        match ketch_spec::signal::parse(&signal) {
            Ok(_) => {
                self.note(format!("STOPSIGNAL {signal}"));
                self.config.stop_signal = Some(signal);
            }
            Err(error) => self.wrong(place, word, error.to_string()),
        }
    }

    fn volume(&mut self, place: &Place, words: &[Word]) {
        let mut paths = Vec::new();
        for word in words {
            let Some(path) = self.text(place, word) else {
                continue;
            };
            if path.is_empty() {
                self.wrong(place, word, "VOLUME specified can not be an empty string");
            }
            paths.push(path);
        }
        self.note(format!("VOLUME {}", plain_list(&paths)));
        self.config
            .volumes
            .extend(paths.into_iter().map(|path| (path, empty_object())));
    }

    fn workdir(&mut self, place: &Place, word: &Word) {
        let Some(text) = self.text(place, word) else {
            return;
        };
        if text.is_empty() {
            self.wrong(place, word, "WORKDIR requires a path that is not empty");
            return;
        }
        let path = path::join(&self.config.working_dir, &text);
        self.config.working_dir.clone_from(&path);
        if path == "/" {
            self.note("WORKDIR /");
            return;
        }
        let operation = Operation::Workdir {
            path: path.clone(),
            user: self.config.user.clone(),
        };
        self.step(place, "", operation, format!("WORKDIR {path}"));
    }

    fn run(&mut self, place: &Place, run: &Run) {
        let mut summary = String::new();
        let mut script = None;
        let mut line = run.command.clone();
        if let (true, [text], Some(first)) = (line.shell, &mut line.words[..], run.heredocs.first())
        {
            if crate::dockerfile::is_heredoc(text) {
                summary = heredoc_summary(&first.content);
                if first.content.starts_with("#!") {
                    script = Some((first.name.clone(), first.chomped()));
                } else {
                    *text = first.chomped();
                }
            } else {
                for heredoc in &run.heredocs {
                    text.push_str(&format!("\n{}{}", heredoc.content, heredoc.name));
                }
            }
        }
        let args = match &script {
            Some((name, _)) => vec![format!("{PIPES}/{name}")],
            None => self.with_shell(&line),
        };
        let given = &self.graph.global.given;
        let proxies = PROXY_ARGS
            .iter()
            .filter(|name| !self.scope.is_declared(name));
        let quiet_env = proxies
            .filter_map(|name| Some(format!("{name}={}", given.get(*name)?)))
            .collect();
        let declared = self.scope.history_args();
        let mut shown = args.clone();
        if !declared.is_empty() {
            shown.splice(
                0..0,
                std::iter::once(format!("|{}", declared.len())).chain(declared),
            );
        }
        let text = format!("RUN {} # buildkit", shown.join(" "));
        let step = RunStep {
            args,
            env: self.scope.run_env(),
            quiet_env,
            working_dir: if self.config.working_dir.is_empty() {
                "/".into()
            } else {
                self.config.working_dir.clone()
            },
            user: self.config.user.clone(),
            network: run.network.unwrap_or(self.request.network),
            mounts: run
                .mounts
                .iter()
                .filter_map(|mount| self.mount(place, mount))
                .collect(),
            script,
        };
        self.step(place, &summary, Operation::Run(step), text);
    }

    fn copy(&mut self, place: &Place, copy: &Copy) {
        let name = if copy.add { "ADD" } else { "COPY" };
        let mut sources = Vec::new();
        for word in &copy.sources {
            let Some(source) = self.text(place, word) else {
                continue;
            };
            if copy.add && remote(&source).is_some() {
                self.wrong(
                    place,
                    word,
                    "ADD of what has to be fetched is not supported",
                );
            }
            sources.push(source);
        }
        let Some(written) = self.text(place, &copy.destination) else {
            return;
        };
        let is_directory = written.ends_with('/')
            || written == "."
            || written.ends_with("/.")
            || written.is_empty();
        if sources.len() + copy.inline.len() > 1 && !is_directory {
            let message = format!(
                "When using {name} with more than one source file, the destination must be a directory and end with a /"
            );
            self.wrong(place, &copy.destination, message);
        }
        let chown = copy
            .chown
            .as_ref()
            .and_then(|word| self.text(place, word))
            .filter(|text| !text.is_empty());
        let (chmod, mode_text) = self.chmod(place, copy);
        let excludes: Vec<_> = copy
            .excludes
            .iter()
            .filter_map(|word| self.text(place, word))
            .collect();
        let inline = copy
            .inline
            .iter()
            .map(|heredoc| self.inline(place, heredoc))
            .collect();
        let history = copy_text(
            name,
            copy,
            chown.as_deref(),
            mode_text.as_deref(),
            &sources,
            &written,
        );
        let step = CopyStep {
            from: self.copy_origin(place, copy),
            sources,
            inline,
            destination: PathBuf::from(path::join(&self.config.working_dir, &written)),
            is_directory,
            chown,
            chmod,
            excludes,
            parents: copy.parents,
            unpack: copy.unpack.unwrap_or(copy.add),
        };
        self.step(place, "", Operation::Copy(step), history);
    }

    /// `--chmod`, and as it was given.
    fn chmod(&mut self, place: &Place, copy: &Copy) -> (Option<ModeChange>, Option<String>) {
        let Some(word) = &copy.chmod else {
            return (None, None);
        };
        let Some(text) = self.text(place, word).filter(|text| !text.is_empty()) else {
            return (None, None);
        };
        let change = ModeChange::parse(&text);
        if change.is_none() {
            let message = format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            );
            self.wrong(place, word, message);
        }
        (change, Some(text))
    }

    fn copy_origin(&mut self, place: &Place, copy: &Copy) -> Origin {
        let Some(word) = &copy.from else {
            return Origin::Context;
        };
        let Some(text) = self.text(place, word) else {
            return Origin::Context;
        };
        self.graph
            .origin(self.number, &text)
            .unwrap_or_else(|message| {
                self.wrong(place, word, message);
                Origin::Context
            })
    }

    fn inline(&mut self, place: &Place, heredoc: &Heredoc) -> (String, String) {
        let content = heredoc.chomped();
        if !heredoc.expand {
            return (heredoc.name.clone(), content);
        }
        let style = Style {
            plain_quotes: true,
            ..self.style()
        };
        match expand(&content, &self.scope, style) {
            Ok(expanded) => (heredoc.name.clone(), expanded.text),
            Err(error) => {
                let word = Word {
                    text: format!("<<{}", heredoc.name),
                    at: place.at,
                };
                self.wrong_expansion(place, &word, &error);
                (heredoc.name.clone(), content)
            }
        }
    }
}

fn copy_text(
    name: &str,
    copy: &Copy,
    chown: Option<&str>,
    chmod: Option<&str>,
    sources: &[String],
    destination: &str,
) -> String {
    let mut text = name.to_owned();
    if copy.parents {
        text.push_str(" --parents");
    }
    for (flag, value) in [("chown", chown), ("chmod", chmod)] {
        if let Some(value) = value {
            text.push_str(&format!(" --{flag}={value}"));
        }
    }
    for source in sources {
        text.push_str(&format!(" {source}"));
    }
    for heredoc in &copy.inline {
        text.push_str(&format!(" <<{}", heredoc.name));
    }
    format!("{text} {destination} # buildkit")
}

fn shown_pairs(pairs: &[(String, String)]) -> String {
    pairs
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join(" ")
}

fn empty_object() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}
