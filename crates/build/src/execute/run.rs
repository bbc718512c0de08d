//! RUN: a hidden container over the stage's layers, whose writable layer becomes the step's.

use ketch_engine::ErrorKind;
use ketch_engine::container::config::ProcessConfig;
use ketch_engine::container::{
    ExitRecord, NetworkRequest, SecretEnv, StepOutput, StepRun, run_step,
};
use ketch_spec::image::Descriptor;

use super::stubs::Stubs;
use super::{Root, StepError, Worker, scratch};
use crate::observer::OutputStream;
use crate::plan::RunStep;
use crate::progress::Vertex;
use crate::request::StepNetwork;

impl Worker<'_> {
    pub(super) fn run_step(
        &self,
        run: &RunStep,
        root: &Root,
        vertex: &Vertex<'_>,
    ) -> Result<Descriptor, StepError> {
        let settings = &self.execution.settings;
        let draft = self.draft(root)?;
        let prepared = self.prepare_mounts(run)?;
        let targets: Vec<&str> = prepared
            .mounts
            .iter()
            .map(|mount| mount.target.as_str())
            .collect();
        let stubs = Stubs::find(draft.root(), &targets)?;
        let mut env = run.env.clone();
        env.extend(run.quiet_env.iter().cloned());
        let process = ProcessConfig {
            command: run.args.clone(),
            env,
            working_dir: run.working_dir.clone(),
            user: run.user.clone(),
            ..ProcessConfig::default()
        };
        let network = match run.network {
            StepNetwork::Default => NetworkRequest::Default,
            StepNetwork::None => NetworkRequest::None,
            StepNetwork::Host => NetworkRequest::Host,
        };
        let step = StepRun {
            draft,
            process,
            secrets: SecretEnv::new(prepared.env.clone()),
            network,
            mounts: prepared.mounts.clone(),
            extra_hosts: settings.extra_hosts.to_vec(),
            shm_size_bytes: settings.shm_size_bytes,
            cancel: Some(
                self.shared
                    .cancelled
                    .try_clone()
                    .map_err(scratch::io("fcntl", "pipe".as_ref()))?,
            ),
        };
        let mut output = |output: StepOutput<'_>| match output {
            StepOutput::Stdout(bytes) => vertex.output(OutputStream::Stdout, bytes),
            StepOutput::Stderr(bytes) => vertex.output(OutputStream::Stderr, bytes),
        };
        let (exit, draft) =
            run_step(self.execution.engine, step, &mut output).map_err(|error| {
                match error.kind {
                    ErrorKind::Interrupted => StepError::Cancelled,
                    _ => error
                        .context(format!("process {} could not be run", shown(run)))
                        .into(),
                }
            })?;
        drop(prepared);
        if exit.code != 0 {
            return Err(failed(run, &exit));
        }
        stubs.remove(draft.root())?;
        Ok(draft.commit()?)
    }
}

fn failed(run: &RunStep, exit: &ExitRecord) -> StepError {
    let mut how = format!("exit code: {}", exit.code);
    if exit.out_of_memory {
        how.push_str(" (out of memory)");
    }
    if !exit.error.is_empty() {
        how.push_str(&format!(": {}", exit.error));
    }
    StepError::Process {
        process: shown(run),
        how,
    }
}

fn shown(run: &RunStep) -> String {
    crate::plan::quote(&run.args.join(" "))
}
