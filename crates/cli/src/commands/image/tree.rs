//! `images --tree`: each image with its platforms; those that are not here have no size.

use std::fmt::Write;

use ketch_engine::image::{self, ImageSummary, Member, MemberKind, Variant};
use ketch_engine::{Engine, container};
use ketch_spec::{Digest, Reference, size};
use unicode_width::UnicodeWidthStr;

use crate::failure::Failure;
use crate::text;

/// Marks what a container was made from.
const IN_USE: &str = "U";
/// Spaces between columns.
const GAP: usize = 3;
const HEADERS: [&str; 5] = ["IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA"];
/// Columns of numbers stand at the right.
const IS_NUMBER: [bool; 5] = [false, false, true, true, false];

/// The whole listing.
///
/// # Errors
/// The images' documents or the containers cannot be read.
pub fn render(engine: &Engine, images: &[ImageSummary]) -> Result<String, Failure> {
    let containers = container::list(engine)?;
    let is_used = |variant: &Variant| {
        containers
            .iter()
            .any(|one| one.config.image.id.as_ref() == Some(&variant.id))
    };
    let mut rows: Vec<[String; 5]> = Vec::new();
    for summary in images {
        let members = image::members(engine, &summary.image)?;
        let variants: Vec<&Variant> = members.iter().filter_map(here).collect();
        rows.extend(trunk(summary, &variants));
        let mut subjects: Vec<&Digest> = variants.iter().map(|one| &one.manifest.digest).collect();
        subjects.push(&summary.image.target.digest);
        let about = image::referrers(engine, &subjects)?;
        let mut branches: Vec<_> = members
            .iter()
            .filter_map(|one| branch(one, is_used))
            .collect();
        branches.extend(about.iter().map(|one| {
            let kind = one.artifact.clone().unwrap_or_default();
            row(kind, one.id.as_str(), one.size_bytes, one.size_bytes, false)
        }));
        let last = branches.len().saturating_sub(1);
        for (at, mut row) in branches.into_iter().enumerate() {
            let mark = if at == last { "└─" } else { "├─" };
            row[0] = format!("{mark} {}", row[0]);
            rows.push(row);
        }
    }
    Ok(layout(&rows))
}

/// An image's names above each other; its numbers are beside the last.
fn trunk(summary: &ImageSummary, variants: &[&Variant]) -> Vec<[String; 5]> {
    let references = summary.image.references.iter();
    let mut names: Vec<String> = references.map(Reference::familiar).collect();
    let last = names.pop().unwrap_or_else(|| "<untagged>".into());
    let (disk, content) = match summary.image.artifact {
        // Nothing of it is unpacked.
        Some(_) => (summary.image.size_bytes, summary.image.size_bytes),
        None => (
            variants.iter().map(|one| one.size_bytes).sum(),
            variants.iter().map(|one| one.content_bytes).sum(),
        ),
    };
    let id = summary.image.id.to_string();
    let empty = String::new;
    let names = names.into_iter();
    let mut rows: Vec<_> = names
        .map(|name| [name, empty(), empty(), empty(), empty()])
        .collect();
    rows.push(row(last, &id, disk, content, summary.containers > 0));
    rows
}

/// A platform of an image. What the index says about its members (attestations) is no line of its own, as with Docker.
fn branch(member: &Member, is_used: impl Fn(&Variant) -> bool) -> Option<[String; 5]> {
    let (platform, disk, content, used) = match &member.kind {
        MemberKind::Here(one) => {
            let used = is_used(one);
            (&one.platform, one.size_bytes, one.content_bytes, used)
        }
        MemberKind::Elsewhere(platform) => (platform, 0, 0, false),
        MemberKind::Attestation { .. } | MemberKind::Unknown { .. } => return None,
    };
    let id = member.manifest.digest.as_str();
    Some(row(platform.to_string(), id, disk, content, used))
}

fn here(member: &Member) -> Option<&Variant> {
    match &member.kind {
        MemberKind::Here(variant) => Some(variant),
        _ => None,
    }
}

fn row(name: String, id: &str, disk: u64, content: u64, used: bool) -> [String; 5] {
    [
        name,
        text::short_id(id).to_owned(),
        size::human(disk),
        size::human(content),
        if used { IN_USE } else { "" }.to_owned(),
    ]
}

fn layout(rows: &[[String; 5]]) -> String {
    let mut widths = HEADERS.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let mut out = String::from(
        "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.\n\n",
    );
    line(&mut out, &HEADERS.map(str::to_owned), &widths);
    for row in rows {
        line(&mut out, row, &widths);
    }
    out
}

fn line(out: &mut String, row: &[String; 5], widths: &[usize; 5]) {
    let mut text = String::new();
    for ((cell, width), is_number) in row.iter().zip(widths).zip(IS_NUMBER) {
        let space = " ".repeat(width.saturating_sub(cell.width()));
        if is_number {
            text.push_str(&space);
            text.push_str(cell);
        } else {
            text.push_str(cell);
            text.push_str(&space);
        }
        text.push_str(&" ".repeat(GAP));
    }
    let _ = writeln!(out, "{}", text.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_hang_below_their_image() {
        let rows = [
            row(
                "busybox:latest".into(),
                "sha256:0123456789abcdef",
                4_000_000,
                2_000_000,
                true,
            ),
            row(
                "└─ linux/amd64".into(),
                "sha256:fedcba9876543210",
                4_000_000,
                2_000_000,
                true,
            ),
        ];
        let text = layout(&rows);
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "IMAGE            ID             DISK USAGE   CONTENT SIZE   EXTRA",
                "busybox:latest   0123456789ab          4MB            2MB   U",
                "└─ linux/amd64   fedcba987654          4MB            2MB   U",
            ]
        );
    }
}
