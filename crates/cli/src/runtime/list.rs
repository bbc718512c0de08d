//! `list`.

use ketch_runtime::oci;

use super::state::Rendered;
use super::{Context, Outcome, print};
use crate::table::{self, Layout};

/// Print all containers
#[derive(clap::Args)]
pub struct List {
    /// table or json
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

const LAYOUT: Layout = Layout {
    minimum: 12,
    padding: 3,
};

impl List {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let (states, warnings) = oci::list(&context.root)?;
        warnings
            .iter()
            .for_each(|warning| context.log.warn(warning));
        let states: Vec<Rendered> = states.into_iter().map(Rendered::new).collect();
        if self.quiet {
            let lines: String = states
                .iter()
                .map(|state| format!("{}\n", state.id))
                .collect();
            return print(&lines);
        }
        match self.format {
            Format::Table => print(&table(&states)),
            Format::Json => {
                let text = serde_json::to_string(&states).map_err(super::Failure::Json)?;
                print(&format!("{text}\n"))
            }
        }
    }
}

fn table(states: &[Rendered]) -> String {
    let mut text = "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n".to_owned();
    for state in states {
        text += &format!(
            "{}\t{}\t{}\t{}\t{}\t{}\n",
            state.id,
            state.pid,
            state.status,
            state.bundle.display(),
            state.created,
            state.owner
        );
    }
    table::align(&text, LAYOUT)
}
