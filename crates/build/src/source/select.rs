//! Which files a COPY means: sources with wildcards, links at their end followed, `--parents` and `--exclude`.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::walk::names;
use super::{Entry, Kind, SourceError, SourceRoot};
use crate::ignore::Matcher;
use crate::path::{self, Token};

/// What to select.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The sources as written, variables expanded.
    pub sources: Vec<String>,
    /// `--exclude`.
    pub excludes: Vec<String>,
    /// `--parents`.
    pub parents: bool,
}

/// One source after wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// What it is called in a destination directory: a name; with `--parents`, the path that is kept.
    pub name: PathBuf,
    /// The source itself, links at its end already followed.
    pub top: Entry,
    /// With `--parents`: the directories above it that are kept, outermost first.
    pub above: Vec<Entry>,
    /// What is below it, if it is a directory.
    pub below: Vec<Entry>,
    /// Whether it came of a wildcard.
    pub wild: bool,
}

impl SourceRoot {
    /// Finds everything that `request` means, source by source; matches of a wildcard by name.
    ///
    /// # Errors
    /// A source without a wildcard that is not there; a path out of the context; reading failed.
    pub fn select(&self, request: &Request) -> Result<Vec<Selection>, SourceError> {
        let mut excludes = Matcher::default();
        for pattern in &request.excludes {
            excludes.add(pattern).map_err(|_| SourceError::Pattern {
                pattern: pattern.clone(),
            })?;
        }
        let mut selections = Vec::new();
        for source in &request.sources {
            let cleaned = self.scoped(source)?;
            let wild = path::has_wildcard(&cleaned);
            let matched = if wild {
                self.wildcard(source, &cleaned, request.parents)?
            } else {
                vec![PathBuf::from(&cleaned)]
            };
            for path in matched {
                let Some(mut selection) = self.one(source, path, wild, request.parents)? else {
                    continue;
                };
                if exclude(&excludes, &mut selection) {
                    selections.push(selection);
                }
            }
        }
        Ok(selections)
    }

    /// A source as a relative path inside the root.
    fn scoped(&self, source: &str) -> Result<String, SourceError> {
        let cleaned = path::clean(source.trim_start_matches('/'));
        if cleaned == ".." || cleaned.starts_with("../") {
            if self.beneath {
                return Err(SourceError::Outside {
                    path: source.to_owned(),
                });
            }
            return Ok(path::join("/", source).trim_start_matches('/').to_owned());
        }
        Ok(if cleaned == "." {
            String::new()
        } else {
            cleaned
        })
    }

    /// The paths that a pattern matches, component by component; `**` (with `deep`) any number of directories.
    fn wildcard(
        &self,
        source: &str,
        cleaned: &str,
        deep: bool,
    ) -> Result<Vec<PathBuf>, SourceError> {
        let wrong = |_| SourceError::Pattern {
            pattern: source.to_owned(),
        };
        let mut current = vec![PathBuf::new()];
        for component in cleaned.split('/') {
            let mut next = Vec::new();
            if deep && component == "**" {
                for directory in current {
                    self.directories(directory, &mut next)?;
                }
            } else if path::has_wildcard(component) {
                let tokens = path::tokens(component, false).map_err(wrong)?;
                for directory in current {
                    next.extend(self.matching(&directory, &tokens)?);
                }
            } else {
                // A backslash makes the next character plain.
                let plain: String = path::tokens(component, false)
                    .map_err(wrong)?
                    .iter()
                    .filter_map(|token| {
                        if let Token::Exactly(c) = token {
                            Some(*c)
                        } else {
                            None
                        }
                    })
                    .collect();
                next.extend(current.into_iter().map(|directory| directory.join(&plain)));
            }
            next.sort();
            next.dedup();
            current = next;
        }
        // The last component may have been plain: what is not there is no match.
        current.retain(|path| matches!(self.entry(path), Ok(Some(_))));
        Ok(current)
    }

    fn matching(&self, directory: &Path, tokens: &[Token]) -> Result<Vec<PathBuf>, SourceError> {
        let open = match self.open(directory, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(open) => open,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(Vec::new()),
            Err(errno) => return Err(self.open_error(directory, errno)),
        };
        let names = names(std::os::fd::AsFd::as_fd(&open))
            .map_err(|e| SourceError::io("getdents64", directory, e))?;
        let matched = names
            .into_iter()
            .filter(|name| path::matches(tokens, &name.to_string_lossy()));
        Ok(matched
            .map(|name| directory.join(name))
            .filter(|path| !self.is_hidden(path))
            .collect())
    }

    /// `top` and all directories below it.
    fn directories(&self, top: PathBuf, found: &mut Vec<PathBuf>) -> Result<(), SourceError> {
        if let Ok(None) = self.entry(&top) {
            return Ok(());
        }
        let mut queue = VecDeque::from([top]);
        while let Some(directory) = queue.pop_front() {
            let below = self.walk(&directory)?;
            found.push(directory);
            found.extend(
                below
                    .into_iter()
                    .filter(|entry| entry.kind == Kind::Directory)
                    .map(|entry| entry.path),
            );
        }
        Ok(())
    }

    /// One source, found; None for a wildcard's match that is not for COPY.
    fn one(
        &self,
        source: &str,
        path: PathBuf,
        wild: bool,
        parents: bool,
    ) -> Result<Option<Selection>, SourceError> {
        let missing = || SourceError::NotFound {
            path: path.to_string_lossy().into_owned(),
        };
        if self.is_hidden(&path) {
            return if wild { Ok(None) } else { Err(missing()) };
        }
        let real = self.follow(&path)?;
        let entry = match &real {
            Some(real) if !self.is_hidden(real) => self.entry(real)?,
            _ => None,
        };
        let Some(top) = entry else {
            return if wild { Ok(None) } else { Err(missing()) };
        };
        let below = if top.kind == Kind::Directory {
            self.walk(&top.path)?
        } else {
            Vec::new()
        };
        let ignored_itself =
            !top.path.as_os_str().is_empty() && self.ignore.ignores(&top.path.to_string_lossy());
        if ignored_itself && below.is_empty() {
            return if wild { Ok(None) } else { Err(missing()) };
        }
        let name = if parents {
            kept_path(source, &path)
        } else {
            path.file_name().map(PathBuf::from).unwrap_or_default()
        };
        let above = if parents {
            self.kept_parents(&path, &name)?
        } else {
            Vec::new()
        };
        Ok(Some(Selection {
            name,
            top,
            above,
            below,
            wild,
        }))
    }

    /// The path with all links resolved, relative to the root; None if nothing is there.
    fn follow(&self, path: &Path) -> Result<Option<PathBuf>, SourceError> {
        let mut real = PathBuf::new();
        let mut todo: VecDeque<std::ffi::OsString> = components(path);
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part == ".." {
                if !real.pop() && self.beneath {
                    return Err(SourceError::Outside {
                        path: path.to_string_lossy().into_owned(),
                    });
                }
                continue;
            }
            let next = real.join(&part);
            match self.entry(&next)? {
                None => return Ok(None),
                Some(Entry {
                    kind: Kind::Link(target),
                    ..
                }) => {
                    links += 1;
                    if links > 40 {
                        return Err(SourceError::io("openat2", path, Errno::LOOP));
                    }
                    if target.as_bytes().starts_with(b"/") {
                        if self.beneath {
                            return Err(SourceError::Outside {
                                path: path.to_string_lossy().into_owned(),
                            });
                        }
                        real = PathBuf::new();
                    }
                    for part in components(Path::new(&target)).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                Some(_) => real = next,
            }
        }
        Ok(Some(real))
    }

    /// The directories between the pivot and the source.
    fn kept_parents(&self, path: &Path, kept: &Path) -> Result<Vec<Entry>, SourceError> {
        let count = kept.components().count();
        let mut parents: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .take(count.saturating_sub(1))
            .collect();
        parents.reverse();
        let mut entries = Vec::new();
        for parent in parents {
            let real = self.follow(parent)?.unwrap_or_default();
            entries.extend(self.entry(&real)?);
        }
        Ok(entries)
    }

    fn open_error(&self, path: &Path, errno: Errno) -> SourceError {
        match errno {
            Errno::XDEV => SourceError::Outside {
                path: path.to_string_lossy().into_owned(),
            },
            errno => SourceError::io("openat2", path, errno),
        }
    }
}

fn components(path: &Path) -> VecDeque<std::ffi::OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(part) => Some(part.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

/// With `--parents`: the part of the path after `/./` in the source, or all of it.
fn kept_path(source: &str, path: &Path) -> PathBuf {
    let pivot = source.split_once("/./").map_or("", |(before, _)| before);
    let pivot = path::clean(pivot.trim_start_matches('/'));
    let depth = if pivot == "." {
        0
    } else {
        pivot.split('/').count()
    };
    path.components().skip(depth).collect()
}

/// Removes what `--exclude` says; whether anything is left.
fn exclude(excludes: &Matcher, selection: &mut Selection) -> bool {
    if excludes.is_empty() {
        return true;
    }
    if selection.top.kind != Kind::Directory {
        return !excludes.ignores(&selection.name.to_string_lossy());
    }
    let top = selection.top.path.clone();
    let relative = |entry: &Entry| {
        entry
            .path
            .strip_prefix(&top)
            .unwrap_or(&entry.path)
            .to_string_lossy()
            .into_owned()
    };
    let mut kept: Vec<bool> = selection
        .below
        .iter()
        .map(|entry| !excludes.ignores(&relative(entry)))
        .collect();
    // A directory stays for what stays below it. Children follow their parents, so one pass backwards will do.
    let mut needed = std::collections::BTreeSet::new();
    for (index, entry) in selection.below.iter().enumerate().rev() {
        kept[index] |= needed.contains(&entry.path);
        if let (true, Some(parent)) = (kept[index], entry.path.parent()) {
            needed.insert(parent.to_owned());
        }
    }
    let mut keep = kept.into_iter();
    selection.below.retain(|_| keep.next().unwrap_or(true));
    true
}
