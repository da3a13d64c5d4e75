//! What a page of the docs holds: headings, links, and commands with what is said of them.
//!
//! Commands stand in blocks marked `console`. A comment before a block may say what differs from "each command ends well":
//! `<!-- ends with 1 -->`, or `<!-- not run: REASON -->`.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

/// What a page says of a block of commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Each command ends with this code.
    Ends(i32),
    /// Why they cannot be run here.
    NotRun(String),
}

/// A command, as it stands in a page.
#[derive(Clone, Debug)]
pub struct Line {
    pub number: usize,
    pub text: String,
    pub expectation: Expectation,
}

/// A page.
pub struct Page {
    pub path: PathBuf,
    pub lines: Vec<Line>,
    /// Blocks that hold commands and are not marked as such: their lines' numbers.
    pub unmarked: Vec<usize>,
    /// Where links lead, with the number of their lines.
    pub links: Vec<(usize, String)>,
    /// Names of the headings, as links spell them.
    pub anchors: Vec<String>,
}

impl Page {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut page = Self {
            path: path.to_owned(),
            lines: Vec::new(),
            unmarked: Vec::new(),
            links: Vec::new(),
            anchors: Vec::new(),
        };
        let mut expectation = Expectation::Ends(0);
        let mut block: Option<(bool, bool, String, Range<usize>)> = None;
        let mut heading: Option<String> = None;
        for (event, place) in Parser::new_ext(&text, Options::ENABLE_TABLES).into_offset_iter() {
            let number = text[..place.start].matches('\n').count() + 1;
            match event {
                Event::Start(Tag::CodeBlock(kind)) => {
                    let (console, may_hold) = match &kind {
                        CodeBlockKind::Fenced(info) => (&**info == "console", info.is_empty()),
                        CodeBlockKind::Indented => (false, true),
                    };
                    block = Some((console, may_hold, String::new(), place));
                }
                Event::End(TagEnd::CodeBlock) => {
                    let Some((console, may_hold, body, place)) = block.take() else {
                        bail!("a block ends that did not begin");
                    };
                    let fence = usize::from(text[place.start..].starts_with("```"));
                    let first = text[..place.start].matches('\n').count() + 1 + fence;
                    if console {
                        page.add_commands(first, &body, &expectation);
                    } else if may_hold && body.lines().next().is_some_and(is_command) {
                        page.unmarked.push(first);
                    }
                    expectation = Expectation::Ends(0);
                }
                Event::Html(html) | Event::InlineHtml(html) => {
                    if let Some(said) = comment(&html) {
                        expectation = said.with_context(|| {
                            format!("{}:{number}: {}", path.display(), html.trim())
                        })?;
                    }
                }
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    page.anchors
                        .push(anchor(&heading.take().unwrap_or_default()));
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push((number, dest_url.to_string()));
                }
                Event::Text(words) | Event::Code(words) => {
                    if let Some((_, _, body, _)) = &mut block {
                        body.push_str(&words);
                    } else if let Some(heading) = &mut heading {
                        heading.push_str(&words);
                    }
                }
                _ => {}
            }
        }
        Ok(page)
    }

    fn add_commands(&mut self, first: usize, body: &str, expectation: &Expectation) {
        let mut continued = String::new();
        for (offset, line) in body.lines().enumerate() {
            let line = line.trim();
            if let Some(begun) = line.strip_suffix('\\') {
                continued.push_str(begun);
                continue;
            }
            let text = std::mem::take(&mut continued) + line;
            if !text.is_empty() && !text.starts_with('#') {
                self.lines.push(Line {
                    number: first + offset,
                    text,
                    expectation: expectation.clone(),
                });
            }
        }
    }
}

fn is_command(line: &str) -> bool {
    ["palisade ", "cargo xtask ", "sudo ", "systemctl ", "apt "]
        .iter()
        .any(|start| line.starts_with(start))
}

/// What a comment says of the next block, if it does.
fn comment(html: &str) -> Option<Result<Expectation>> {
    let said = html
        .trim()
        .strip_prefix("<!--")?
        .strip_suffix("-->")?
        .trim();
    if let Some(code) = said.strip_prefix("ends with ") {
        let code = code.parse().context("not a number");
        return Some(code.map(Expectation::Ends));
    }
    let reason = said.strip_prefix("not run:")?.trim();
    Some(Ok(Expectation::NotRun(reason.to_owned())))
}

/// A heading as links name it: lower case, words joined by dashes, no punctuation.
fn anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|letter| match letter {
            ' ' | '-' => Some('-'),
            '_' => Some('_'),
            letter if letter.is_alphanumeric() => Some(letter),
            _ => None,
        })
        .collect()
}
