//! `images --tree`: each image with the platforms of it that are here.

use std::fmt::Write;

use ketch_engine::image::{self, ImageSummary, Variant};
use ketch_engine::{Engine, container};
use ketch_spec::{Digest, size};
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
        let variants = image::variants(engine, &summary.image)?;
        let mut names: Vec<String> = summary
            .image
            .references
            .iter()
            .map(ketch_spec::Reference::familiar)
            .collect();
        if names.is_empty() {
            names.push("<untagged>".into());
        }
        let last = names.len() - 1;
        let (disk, content) = match summary.image.artifact {
            // Nothing of it is unpacked.
            Some(_) => (summary.image.size_bytes, summary.image.size_bytes),
            None => (
                variants.iter().map(|one| one.size_bytes).sum(),
                variants.iter().map(|one| one.content_bytes).sum(),
            ),
        };
        let empty = String::new;
        for (at, name) in names.into_iter().enumerate() {
            // Several names of one image stand above each other; its numbers are beside the last.
            rows.push(if at == last {
                let id = summary.image.id.to_string();
                row(name, &id, disk, content, summary.containers > 0)
            } else {
                [name, empty(), empty(), empty(), empty()]
            });
        }
        let mut subjects: Vec<&Digest> = variants.iter().map(|one| &one.manifest.digest).collect();
        subjects.push(&summary.image.target.digest);
        let about = image::referrers(engine, &subjects)?;
        let count = variants.len() + about.len();
        for (at, variant) in variants.iter().enumerate() {
            let branch = if at + 1 == count { "└─" } else { "├─" };
            rows.push(row(
                format!("{branch} {}", variant.platform),
                variant.manifest.digest.as_str(),
                variant.size_bytes,
                variant.content_bytes,
                is_used(variant),
            ));
        }
        for (at, one) in about.iter().enumerate() {
            let last = variants.len() + at + 1 == count;
            let branch = if last { "└─" } else { "├─" };
            let kind = one.artifact.as_deref().unwrap_or_default();
            rows.push(row(
                format!("{branch} {kind}"),
                one.id.as_str(),
                one.size_bytes,
                one.size_bytes,
                false,
            ));
        }
    }
    Ok(layout(&rows))
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
