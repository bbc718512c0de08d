//! `ps`.

use std::process::Command;

use ketch_runtime::oci::{self, Id};

use super::failure::Failure;
use super::list::Format;
use super::{Context, Outcome, print};

/// Print the processes of a container
#[derive(clap::Args)]
pub struct Ps {
    /// table or json
    #[arg(short, long, default_value = "table")]
    format: Format,
    /// Id of the container
    id: String,
    /// Options of ps(1) [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Ps {
    /// Does it.
    pub fn run(self, context: &Context) -> Outcome {
        let pids = oci::processes(&context.root, &Id::new(&self.id)?)?;
        if self.format == Format::Json {
            let text = serde_json::to_string(&pids).map_err(Failure::Json)?;
            return print(&format!("{text}\n"));
        }
        let options = if self.options.is_empty() {
            vec!["-ef".to_owned()]
        } else {
            self.options
        };
        let output = Command::new("ps")
            .args(&options)
            .output()
            .map_err(|source| Failure::Path {
                path: "ps".into(),
                source,
            })?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(Failure::Invalid {
                what: "options of ps",
                value: options.join(" "),
                reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        print(&chosen(&text, &pids)?)
    }
}

/// The lines of ps(1) about `pids`, with the head line.
fn chosen(text: &str, pids: &[u32]) -> Result<String, Failure> {
    let mut lines = text.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Failure::Invalid {
        what: "options of ps",
        value: head.to_owned(),
        reason: "there is no column PID".into(),
    })?;
    let mut chosen = format!("{head}\n");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            chosen += line;
            chosen.push('\n');
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_their_number() {
        let text = "UID PID CMD\nroot 1 init\nroot 12 sh\nroot 2 x 12\n";
        assert_eq!(chosen(text, &[12]).unwrap(), "UID PID CMD\nroot 12 sh\n");
        assert!(chosen("UID CMD\n", &[1]).is_err());
    }
}
