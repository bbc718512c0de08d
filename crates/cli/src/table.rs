//! Columns from tab-separated text, by the rules of Go's `text/tabwriter`, whose output scripts cut apart.
//!
//! A cell is text that a tab ends; what follows a line's last tab is not a cell and gets no padding. A column is a
//! run of neighbouring lines that all have a cell there; it is as wide as its widest cell plus the padding, but not
//! narrower than the minimum.

/// Widths of a kind of table.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Minimum width of a column, padding included.
    pub minimum: usize,
    /// Spaces after the widest cell.
    pub padding: usize,
}

/// Listings.
pub const LISTING: Layout = Layout {
    minimum: 10,
    padding: 3,
};
/// `top`.
pub const PROCESSES: Layout = Layout {
    minimum: 20,
    padding: 3,
};

/// Lays out `text`, lines of cells separated by tabs.
pub fn align(text: &str, layout: Layout) -> String {
    let ends_with_newline = text.ends_with('\n');
    let body = text.strip_suffix('\n').unwrap_or(text);
    let lines: Vec<Vec<&str>> = body
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let mut writer = Writer {
        lines,
        layout,
        widths: Vec::new(),
        out: String::with_capacity(text.len() * 2),
    };
    writer.block(0, writer.lines.len());
    if !ends_with_newline {
        writer.out.pop();
    }
    if text.is_empty() {
        String::new()
    } else {
        writer.out
    }
}

struct Writer<'a> {
    lines: Vec<Vec<&'a str>>,
    layout: Layout,
    widths: Vec<usize>,
    out: String,
}

impl Writer<'_> {
    /// Writes the lines of a block whose columns left of this one have `widths`.
    fn block(&mut self, start: usize, end: usize) {
        let column = self.widths.len();
        let mut written = start;
        let mut at = start;
        while at < end {
            if !self.has_cell(at, column) {
                at += 1;
                continue;
            }
            self.lines(written, at);
            written = at;
            let mut width = self.layout.minimum;
            while at < end && self.has_cell(at, column) {
                width = width.max(self.lines[at][column].chars().count() + self.layout.padding);
                at += 1;
            }
            self.widths.push(width);
            self.block(written, at);
            self.widths.pop();
            written = at;
        }
        self.lines(written, end);
    }

    fn has_cell(&self, line: usize, column: usize) -> bool {
        column + 1 < self.lines[line].len()
    }

    fn lines(&mut self, start: usize, end: usize) {
        for line in &self.lines[start..end] {
            for (column, cell) in line.iter().enumerate() {
                self.out.push_str(cell);
                if let Some(width) = self.widths.get(column).filter(|_| column + 1 < line.len()) {
                    let pad = width.saturating_sub(cell.chars().count());
                    self.out.extend(std::iter::repeat_n(' ', pad));
                }
            }
            self.out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_at_least_ten_wide_and_padded_by_three() {
        let text = "DRIVER\tVOLUME NAME\nlocal\tdata\n";
        assert_eq!(
            align(text, LISTING),
            "DRIVER    VOLUME NAME\nlocal     data\n"
        );
        let text = "A\tB\nlonger than ten\tx\n";
        assert_eq!(
            align(text, LISTING),
            "A                 B\nlonger than ten   x\n"
        );
    }

    #[test]
    fn an_empty_last_cell_leaves_the_padding() {
        assert_eq!(align("A\tB\nx\t\n", LISTING), "A         B\nx         \n");
    }

    #[test]
    fn columns_end_where_a_line_has_no_cell() {
        let text = "a\tb\nplain\nlonger cell here\tc\n";
        assert_eq!(
            align(text, LISTING),
            "a         b\nplain\nlonger cell here   c\n"
        );
    }

    #[test]
    fn width_counts_characters_not_bytes() {
        assert_eq!(
            align("\"sleep 1000000000…\"\tx\na\ty\n", LISTING),
            "\"sleep 1000000000…\"   x\na                     y\n"
        );
    }

    #[test]
    fn nothing_gives_nothing() {
        assert_eq!(align("", LISTING), "");
        assert_eq!(align("no newline", LISTING), "no newline");
    }
}
