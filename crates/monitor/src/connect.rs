//! `network connect`, `network disconnect` and `rename` of a running container.

use std::os::fd::AsFd;

use ketch_engine::container::config::{EndpointConfig, NetworkMode};
use ketch_engine::container::{files, load};
use ketch_engine::network::network_error;
use ketch_engine::{Error, ErrorKind, Result};
use ketch_network::AttachOptions;

use crate::monitor::Monitor;
use crate::networks::{self, Joined};

impl Monitor {
    /// Joins a network. The verb has checked that the container's mode allows it.
    ///
    /// # Errors
    /// An address that cannot be had, the kernel's refusal; then nothing has changed.
    pub fn connect(&mut self, endpoint: EndpointConfig) -> Result<()> {
        if self
            .config
            .network
            .endpoints
            .iter()
            .any(|other| other.network == endpoint.network)
        {
            let message = format!(
                "endpoint with name {} already exists in network {}",
                self.config.name, endpoint.network
            );
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        if self.run.is_none() {
            self.config.network.endpoints.push(endpoint);
            // Commit point: the next run joins it.
            return load::write_config(&self.engine, &self.config);
        }
        let joined = networks::join(&self.engine, &self.config, &endpoint, self.free_interface())?;
        let result = self.link_and_record(&joined, endpoint);
        match result {
            Ok(()) => {
                self.publish_plain(networks::event("connect", &self.config, &joined.network));
                if let Some(run) = self.run.as_mut() {
                    run.made.joined.push(joined);
                }
                self.networks_changed()
            }
            Err(error) => {
                self.config
                    .network
                    .endpoints
                    .retain(|other| other.network != joined.network.name);
                let undone = networks::leave(&self.config, &joined)
                    .map(|bridge| self.retired.extend(bridge));
                Err(match undone {
                    Ok(()) => error,
                    Err(undo) => error.hint(format!("not all of it could be undone: {undo}")),
                })
            }
        }
    }

    fn link_and_record(&mut self, joined: &Joined, endpoint: EndpointConfig) -> Result<()> {
        let Some(run) = self.run.as_ref() else {
            return Ok(());
        };
        let netns = run
            .made
            .container()
            .network_namespace()
            .map_err(|error| internal("cannot enter the container's network", &error))?;
        let outward = |joined: &Joined| joined.endpoint.gateway.is_some();
        let options = AttachOptions {
            interface: &joined.interface,
            default_route: outward(joined) && !run.made.joined.iter().any(outward),
        };
        ketch_network::attach(&joined.network, &joined.endpoint, netns.as_fd(), options)
            .map_err(|error| network_error(&error))?;
        self.config.network.endpoints.push(endpoint);
        // Commit point: this run is in it, and the next one will be.
        load::write_config(&self.engine, &self.config)
    }

    /// Leaves a network, given by its name.
    ///
    /// # Errors
    /// It is not in it; the kernel's refusal.
    pub fn disconnect(&mut self, network: &str) -> Result<()> {
        let before = self.config.network.endpoints.len();
        self.config
            .network
            .endpoints
            .retain(|endpoint| endpoint.network != network);
        if self.config.network.endpoints.len() == before {
            let message = format!(
                "container {} is not connected to network {network}",
                self.id
            );
            return Err(Error::new(ErrorKind::Forbidden, message));
        }
        // Commit point: the next run does not join it. This run leaves it now.
        load::write_config(&self.engine, &self.config)?;
        let Some(run) = self.run.as_mut() else {
            return Ok(());
        };
        let Some(at) = run
            .made
            .joined
            .iter()
            .position(|joined| joined.network.name == network)
        else {
            return Ok(());
        };
        let joined = run.made.joined.remove(at);
        ketch_network::detach(&joined.endpoint).map_err(|error| network_error(&error))?;
        self.retired.extend(networks::leave(&self.config, &joined)?);
        self.publish_plain(networks::event("disconnect", &self.config, &joined.network));
        self.networks_changed()
    }

    /// Ports, names, files and the state record follow the networks.
    fn networks_changed(&mut self) -> Result<()> {
        let (engine, config) = (&self.engine, &self.config);
        let Some(run) = self.run.as_mut() else {
            return Ok(());
        };
        run.made.renew_ports(config)?;
        run.made.renew_names(config)?;
        files::write(engine, config, &networks::addresses(&run.made.joined))?;
        self.state.endpoints = networks::states(&run.made.joined);
        self.state.ports = run.made.ports();
        self.commit()
    }

    fn free_interface(&self) -> usize {
        let joined = self
            .run
            .as_ref()
            .map(|run| run.made.joined.as_slice())
            .unwrap_or_default();
        let taken = |index: usize| {
            joined
                .iter()
                .any(|joined| joined.interface == format!("eth{index}"))
        };
        (0..=joined.len())
            .find(|index| !taken(*index))
            .unwrap_or(joined.len())
    }

    /// Takes the name that the caller has claimed.
    ///
    /// # Errors
    /// Input and output.
    pub fn rename(&mut self, name: &str) -> Result<()> {
        let old = std::mem::replace(&mut self.config.name, name.to_owned());
        // Commit point.
        if let Err(error) = load::write_config(&self.engine, &self.config) {
            self.config.name = old;
            return Err(error);
        }
        let Some(run) = self.run.as_mut() else {
            return Ok(());
        };
        for joined in &mut run.made.joined {
            ketch_network::rename_endpoint(&joined.directory, &self.id, name)
                .map_err(|error| network_error(&error))?;
            name.clone_into(&mut joined.endpoint.name);
        }
        if self.config.network.mode == NetworkMode::Bridge {
            self.state.endpoints = networks::states(&run.made.joined);
            self.commit()?;
        }
        Ok(())
    }
}

fn internal(message: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    Error::caused(ErrorKind::Internal, message, error)
}
