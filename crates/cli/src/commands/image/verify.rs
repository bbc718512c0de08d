//! `ketch image verify`.

use std::cell::RefCell;

use ketch_engine::image::{self, Verified};
use ketch_engine::layer::Health;

use crate::command::{Arity, Command, Outcome, Verb};
use crate::context::Context;
use crate::failure::Exit;
use crate::output;

/// The command.
pub const COMMAND: Command = Command {
    names: &["image verify"],
    usage: "[OPTIONS] [IMAGE...]",
    about: "Read images again and compare their digests",
    details: "Every blob is compared with its digest, every layer that is kept as an archive with its diff ID.\nWithout arguments all images are read. The exit code is 1 if anything is damaged or missing.",
    arity: Arity::AtLeast(0),
    ..Command::of::<Args>()
};

#[derive(clap::Args)]
struct Args {
    /// Only show what is damaged or missing
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Args {
    fn run(self, context: &Context, operands: Vec<String>) -> Outcome {
        // The first write that fails is the last.
        let printed = RefCell::new(Ok(()));
        let bad = image::verify(context.engine()?, &operands, &|verified| {
            if (!self.quiet || verified.is_bad()) && printed.borrow().is_ok() {
                *printed.borrow_mut() = output::print(&line(verified));
            }
        })?;
        printed.into_inner()?;
        Ok(if bad == 0 { Exit::SUCCESS } else { Exit(1) })
    }
}

/// One part: its state, what it is, its digest, and what there is to say of it.
fn line(verified: &Verified) -> String {
    let (state, more) = match &verified.health {
        Health::Sound => ("sound", ""),
        Health::Damaged(why) => ("DAMAGED", why.as_str()),
        Health::Missing if verified.optional => ("elsewhere", ""),
        Health::Missing => ("MISSING", ""),
        Health::Unknown => ("unknown", "kept as files, which have no digests"),
    };
    let text = format!("{state:<10}{:<9}{}", verified.part.name(), verified.digest);
    match more {
        "" => format!("{text}\n"),
        more => format!("{text}: {more}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ketch_engine::image::Part;

    #[test]
    fn a_line_tells_what_and_how() {
        let digest = ketch_spec::Digest::of(b"");
        let verified = |health, optional| Verified {
            part: Part::Layer,
            digest: digest.clone(),
            health,
            optional,
        };
        let sound = line(&verified(Health::Sound, false));
        assert_eq!(sound, format!("sound     layer    {digest}\n"));
        let bad = verified(Health::Damaged("why".into()), false);
        assert!(bad.is_bad() && line(&bad).ends_with(": why\n"));
        assert!(!verified(Health::Missing, true).is_bad());
    }
}
