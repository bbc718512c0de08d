//! What a run has made in the kernel, and its undoing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use ketch_engine::container::config::{ContainerConfig, NetworkMode};
use ketch_engine::container::spec;
use ketch_engine::network::network_error;
use ketch_engine::{Engine, Error};
use ketch_network::{IdleBridge, Published};
use ketch_runtime::cgroup::Cgroup;
use ketch_runtime::seccomp::Program;
use ketch_runtime::{Container, CreateOptions, NotifyAgent, Rootfs, Stdio};
use ketch_spec::port::PortMapping;
use ketch_spec::runtime::Spec;
use rustix::process::Signal;

use crate::networks::{self, Joined, Names};
use crate::start_failure::{StartFailure, runtime_error};

/// How long the last processes of a run may take to leave its cgroup.
const CGROUP_LIMIT: Duration = Duration::from_secs(10);

/// What a run has made in the kernel, in the order in which it was made.
#[derive(Default)]
pub struct Made {
    cgroup: Option<Cgroup>,
    filter: Option<Program>,
    agent: Option<NotifyAgent>,
    container: Option<Container>,
    /// Places in networks.
    pub joined: Vec<Joined>,
    published: Option<Published>,
    names: Option<Names>,
}

impl Made {
    /// The container's processes. There from step 5 to the undo.
    pub fn container(&self) -> &Container {
        self.container
            .as_ref()
            .expect("a run has a container until it is undone")
    }

    /// The same, to be changed.
    pub fn container_mut(&mut self) -> &mut Container {
        self.container
            .as_mut()
            .expect("a run has a container until it is undone")
    }

    /// The container's cgroup. There from step 5 to the undo.
    pub fn cgroup(&self) -> &Cgroup {
        self.cgroup
            .as_ref()
            .expect("a run has a cgroup until it is undone")
    }

    /// The system call filter, if there is one.
    pub fn filter(&self) -> Option<&Program> {
        self.filter.as_ref()
    }

    /// Who answers the calls that the filter leaves to an agent, if it leaves any.
    pub fn agent(&self) -> Option<&NotifyAgent> {
        self.agent.as_ref()
    }

    /// Step 5: the cgroup, and the first process in it.
    ///
    /// # Errors
    /// The runtime's.
    pub fn create(
        &mut self,
        engine: &Engine,
        config: &ContainerConfig,
        spec: &Spec,
        filter: Option<Program>,
        root: BorrowedFd<'_>,
        stdio: Stdio,
    ) -> Result<(), ketch_runtime::Error> {
        let linux = spec.linux.as_ref();
        let resources = linux
            .and_then(|linux| linux.resources.clone())
            .unwrap_or_default();
        self.cgroup = Some(Cgroup::create(&spec::cgroup_path(&config.id), &resources)?);
        // Kept for exec sessions, which go through the same filter and have the same agent.
        self.filter = filter;
        let bundle = engine.paths().bundle(&config.id);
        self.agent = NotifyAgent::new(spec, config.id.as_str(), &bundle);
        self.container = Some(ketch_runtime::create(CreateOptions {
            cgroup: self.cgroup.as_ref(),
            seccomp: self.filter.as_ref(),
            id: config.id.as_str(),
            ..CreateOptions::new(spec, Rootfs::Detached(root), &bundle, stdio)
        })?);
        Ok(())
    }

    /// Steps 8 to 10: links, ports and names, where the container has a network namespace of its own.
    ///
    /// # Errors
    /// A port that is in use, by name; the kernel's refusal.
    pub fn connect(&mut self, config: &ContainerConfig) -> Result<(), StartFailure> {
        let Some(netns) = self.own_netns(config)? else {
            return Ok(());
        };
        networks::attach_all(&self.joined, netns.as_fd())?;
        self.published = networks::publish(config, &self.joined)?;
        self.names = Names::serve(config, &self.joined, netns.as_fd())?;
        Ok(())
    }

    /// The container's own network namespace, if it has one.
    fn own_netns(
        &mut self,
        config: &ContainerConfig,
    ) -> Result<Option<OwnedFd>, ketch_runtime::Error> {
        match config.network.mode {
            NetworkMode::Bridge | NetworkMode::None => {
                self.container_mut().new_network_namespace().map(Some)
            }
            NetworkMode::Host | NetworkMode::Container(_) => Ok(None),
        }
    }

    /// Its ports as they are published.
    pub fn ports(&self) -> Vec<PortMapping> {
        self.published
            .as_ref()
            .map(|published| published.mappings.clone())
            .unwrap_or_default()
    }

    /// The name server, if the container is in a network that has names.
    pub fn names(&self) -> Option<&Names> {
        self.names.as_ref()
    }

    /// Publishes the ports anew: the address they lead to may be another one now.
    ///
    /// # Errors
    /// A port that is in use, by name; the kernel's refusal.
    pub fn renew_ports(&mut self, config: &ContainerConfig) -> Result<(), Error> {
        if self.published.take().is_some() {
            ketch_network::unpublish(&config.id).map_err(|error| network_error(&error))?;
        }
        self.published = networks::publish(config, &self.joined)?;
        Ok(())
    }

    /// Answers what containers' names were asked for. A server that fails is closed: the container then asks in vain, as
    /// it would with a loop that turns on a broken descriptor.
    ///
    /// # Errors
    /// Why it failed.
    pub fn answer_names(&mut self) -> Result<(), Error> {
        let result = self.names.as_mut().map_or(Ok(()), Names::answer);
        if result.is_err() {
            self.names = None;
        }
        result
    }

    /// Starts the name server, or tells it of the networks there are now.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn renew_names(&mut self, config: &ContainerConfig) -> Result<(), Error> {
        if let Some(names) = &mut self.names {
            names.set_networks(config, &self.joined);
            return Ok(());
        }
        let netns = self
            .container()
            .network_namespace()
            .map_err(|error| runtime_error(&error))?;
        self.names = Names::serve(config, &self.joined, netns.as_fd())?;
        Ok(())
    }

    /// Takes everything apart in reverse order, and goes on after errors.
    pub fn undo(mut self, config: &ContainerConfig) -> Remains {
        let mut remains = Remains::default();
        drop(self.names.take());
        if self.published.take().is_some()
            && let Err(error) = ketch_network::unpublish(&config.id)
        {
            remains.errors.push(network_error(&error));
        }
        if let Some(mut container) = self.container.take() {
            // Of a start that failed it may still be there.
            let _ = container.kill(Signal::KILL.as_raw());
            let _ = container.wait();
            remains.container = Some(container);
        }
        if let Some(cgroup) = self.cgroup.take()
            && let Err(error) = cgroup.remove(CGROUP_LIMIT)
        {
            remains.errors.push(runtime_error(&error));
        }
        for joined in self.joined.iter().rev() {
            match networks::leave_idle(config, joined) {
                Ok(bridge) => remains.idle.extend(bridge),
                Err(error) => remains.errors.push(error),
            }
        }
        remains
    }
}

/// What is left of a run that was undone.
#[derive(Default)]
pub struct Remains {
    /// What could not be undone.
    pub errors: Vec<Error>,
    /// Bridges that nobody uses now.
    pub idle: Vec<IdleBridge>,
    /// The ended container; its mounts go when it is dropped.
    pub container: Option<Container>,
}
