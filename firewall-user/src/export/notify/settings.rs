//! `[[notify]]`: who is told of alerts, of which, and how.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use toml::Spanned;

use super::alertmanager::OWN_LABELS;
use super::journald;
use super::notice::Event;
use super::queue::Bounds;
use super::secret::SecretSource;
use super::template::Template;
use crate::detect::{Alert, AlertKind, Severity};

/// One notifier, checked. Secrets are not read yet.
#[derive(Clone, Debug)]
pub struct NotifySettings {
    pub name: String,
    /// What the peer calls this host; the host's name if nothing is said.
    pub instance: Option<String>,
    pub filter: Filter,
    pub timeout: Duration,
    pub retry_at_most: Duration,
    pub queue: Bounds,
    pub way: Way,
}

/// Which alerts are told.
#[derive(Clone, Debug)]
pub struct Filter {
    severity: Severity,
    kinds: BTreeSet<AlertKind>,
    on: BTreeSet<Event>,
}

impl Filter {
    /// Whether an alert is of interest at all.
    pub fn wants(&self, alert: &Alert) -> bool {
        alert.severity >= self.severity
            && (self.kinds.is_empty() || self.kinds.contains(&alert.kind))
    }

    /// Whether this of an alert is.
    pub fn tells(&self, event: Event) -> bool {
        self.on.contains(&event)
    }
}

/// How it is told.
#[derive(Clone, Debug)]
pub enum Way {
    Alertmanager {
        endpoint: Endpoint,
        labels: BTreeMap<String, String>,
        resend: Duration,
    },
    Webhook {
        endpoint: Endpoint,
        template: Option<TemplateSource>,
        secret: Option<SecretSource>,
    },
    Journald {
        socket: PathBuf,
    },
    Program {
        path: PathBuf,
        arguments: Vec<String>,
    },
}

impl Way {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Alertmanager { .. } => "alertmanager",
            Self::Webhook { .. } => "webhook",
            Self::Journald { .. } => "journald",
            Self::Program { .. } => "program",
        }
    }
}

/// Where a template is.
#[derive(Clone, Debug)]
pub enum TemplateSource {
    Text(String),
    File(PathBuf),
}

/// A peer that speaks HTTP.
#[derive(Clone, Debug, Default)]
pub struct Endpoint {
    pub url: Option<String>,
    pub url_file: Option<SecretSource>,
    pub ca_file: Option<PathBuf>,
    pub login: Option<Login>,
}

/// How the daemon is let in.
#[derive(Clone, Debug)]
pub enum Login {
    Basic {
        username: String,
        password: SecretSource,
    },
    Bearer(SecretSource),
}

/// A table as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyDocument {
    name: Spanned<String>,
    kind: Kind,
    #[serde(default = "every_severity")]
    severity: Severity,
    #[serde(default)]
    kinds: BTreeSet<AlertKind>,
    #[serde(default = "every_event")]
    on: Spanned<Vec<Event>>,
    instance: Option<String>,
    timeout: Option<Spanned<SignedDuration>>,
    retry_at_most: Option<Spanned<SignedDuration>>,
    queue: Option<Spanned<Bounds>>,
    url: Option<Spanned<String>>,
    url_file: Option<Spanned<SecretSource>>,
    ca_file: Option<Spanned<PathBuf>>,
    username: Option<Spanned<String>>,
    password_file: Option<Spanned<SecretSource>>,
    bearer_file: Option<Spanned<SecretSource>>,
    labels: Option<Spanned<BTreeMap<String, String>>>,
    resend: Option<Spanned<SignedDuration>>,
    template: Option<Spanned<String>>,
    template_file: Option<Spanned<PathBuf>>,
    secret_file: Option<Spanned<SecretSource>>,
    socket: Option<Spanned<PathBuf>>,
    command: Option<Spanned<Vec<String>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Alertmanager,
    Webhook,
    Journald,
    Program,
}

fn every_severity() -> Severity {
    Severity::Info
}

fn every_event() -> Spanned<Vec<Event>> {
    Spanned::new(0..0, vec![Event::Fired, Event::Changed, Event::Resolved])
}

const MOST_NOTIFIERS: usize = 16;
const LONGEST_NAME: usize = 64;

/// What is wrong, and where.
type Wrong = (Range<usize>, String);

/// Checks all tables; relative paths start at `folder`.
pub fn check<E>(
    documents: Vec<NotifyDocument>,
    folder: &Path,
    at: impl Fn(Range<usize>, String) -> E,
) -> Result<Vec<NotifySettings>, E> {
    let mut all: Vec<NotifySettings> = Vec::new();
    for document in documents {
        let span = document.name.span();
        let known = all
            .iter()
            .any(|other| other.name == *document.name.get_ref());
        if known {
            return Err(at(span, "two notifiers have this name".to_owned()));
        }
        if all.len() == MOST_NOTIFIERS {
            return Err(at(
                span,
                format!("there may be {MOST_NOTIFIERS} notifiers at most"),
            ));
        }
        all.push(one(document, folder).map_err(|(span, message)| at(span, message))?);
    }
    Ok(all)
}

fn one(mut document: NotifyDocument, folder: &Path) -> Result<NotifySettings, Wrong> {
    let place = document.name.span();
    let name = document.name.get_ref().clone();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.chars().all(plain) {
        return Err((
            place,
            format!("a name is 1 to {LONGEST_NAME} letters, digits, - and _"),
        ));
    }
    let on = std::mem::replace(&mut document.on, every_event());
    if on.get_ref().contains(&Event::Test) || on.get_ref().is_empty() {
        return Err((
            on.span(),
            "`on` holds \"fired\", \"changed\" or \"resolved\"".to_owned(),
        ));
    }
    let queue = document.queue.take();
    if let Some(queue) = &queue
        && (queue.get_ref().entries == 0 || queue.get_ref().bytes == 0)
    {
        return Err((queue.span(), "a queue has room for one at least".to_owned()));
    }
    let way = match document.kind {
        Kind::Alertmanager => Way::Alertmanager {
            endpoint: endpoint(&mut document, folder)?,
            labels: labels(document.labels.take())?,
            resend: span(document.resend.take(), 60, 1..=600, "resend")?,
        },
        Kind::Webhook => Way::Webhook {
            endpoint: endpoint(&mut document, folder)?,
            template: template(&mut document, folder)?,
            secret: document
                .secret_file
                .take()
                .map(|source| source.into_inner().within(folder)),
        },
        Kind::Journald => Way::Journald {
            socket: document.socket.take().map_or_else(
                || journald::SOCKET.into(),
                |path| folder.join(path.into_inner()),
            ),
        },
        Kind::Program => program(document.command.take(), &place)?,
    };
    let settings = NotifySettings {
        name,
        instance: document.instance.take(),
        filter: Filter {
            severity: document.severity,
            kinds: std::mem::take(&mut document.kinds),
            on: on.into_inner().into_iter().collect(),
        },
        timeout: span(document.timeout.take(), 10, 1..=300, "timeout")?,
        retry_at_most: span(
            document.retry_at_most.take(),
            300,
            1..=3600,
            "retry_at_most",
        )?,
        queue: queue.map(Spanned::into_inner).unwrap_or_default(),
        way,
    };
    nothing_is_left(&document, settings.way.name())?;
    Ok(settings)
}

/// What no branch took belongs to another kind.
fn nothing_is_left(document: &NotifyDocument, kind: &str) -> Result<(), Wrong> {
    fn place<T>(value: Option<&Spanned<T>>) -> Option<Range<usize>> {
        value.map(Spanned::span)
    }
    let left = [
        ("url", place(document.url.as_ref())),
        ("url_file", place(document.url_file.as_ref())),
        ("ca_file", place(document.ca_file.as_ref())),
        ("username", place(document.username.as_ref())),
        ("password_file", place(document.password_file.as_ref())),
        ("bearer_file", place(document.bearer_file.as_ref())),
        ("labels", place(document.labels.as_ref())),
        ("resend", place(document.resend.as_ref())),
        ("template", place(document.template.as_ref())),
        ("template_file", place(document.template_file.as_ref())),
        ("secret_file", place(document.secret_file.as_ref())),
        ("socket", place(document.socket.as_ref())),
        ("command", place(document.command.as_ref())),
    ];
    let found = left.into_iter().find_map(|(key, span)| Some((key, span?)));
    match found {
        Some((key, span)) => Err((span, format!("kind = \"{kind}\" has no `{key}`"))),
        None => Ok(()),
    }
}

fn endpoint(document: &mut NotifyDocument, folder: &Path) -> Result<Endpoint, Wrong> {
    let url = document.url.take();
    if let Some(url) = &url {
        super::http::check_url(url.get_ref()).map_err(|why| (url.span(), why))?;
    }
    let url_file = document.url_file.take();
    match (&url, &url_file) {
        (None, None) => {
            return Err((
                document.name.span(),
                "it needs a `url`, or a `url_file` if that is a secret".to_owned(),
            ));
        }
        (Some(_), Some(file)) => {
            return Err((file.span(), "there is a `url` already".to_owned()));
        }
        _ => {}
    }
    let within = |source: Spanned<SecretSource>| source.into_inner().within(folder);
    let login = match (
        document.username.take(),
        document.password_file.take(),
        document.bearer_file.take(),
    ) {
        (None, None, None) => None,
        (Some(username), Some(password), None) => Some(Login::Basic {
            username: username.into_inner(),
            password: within(password),
        }),
        (None, None, Some(bearer)) => Some(Login::Bearer(within(bearer))),
        (Some(lone), None, None) => {
            return Err((
                lone.span(),
                "a `username` needs a `password_file`".to_owned(),
            ));
        }
        (None, Some(lone), None) => {
            return Err((
                lone.span(),
                "a `password_file` needs a `username`".to_owned(),
            ));
        }
        (_, _, Some(bearer)) => {
            return Err((
                bearer.span(),
                "either a `username` with a `password_file`, or a `bearer_file`".to_owned(),
            ));
        }
    };
    Ok(Endpoint {
        url: url.map(Spanned::into_inner),
        url_file: url_file.map(within),
        ca_file: document
            .ca_file
            .take()
            .map(|path| folder.join(path.into_inner())),
        login,
    })
}

fn template(document: &mut NotifyDocument, folder: &Path) -> Result<Option<TemplateSource>, Wrong> {
    match (document.template.take(), document.template_file.take()) {
        (None, None) => Ok(None),
        (Some(text), None) => {
            Template::new(text.get_ref()).map_err(|why| (text.span(), why))?;
            Ok(Some(TemplateSource::Text(text.into_inner())))
        }
        (None, Some(path)) => Ok(Some(TemplateSource::File(folder.join(path.into_inner())))),
        (Some(_), Some(path)) => Err((path.span(), "there is a `template` already".to_owned())),
    }
}

fn labels(
    labels: Option<Spanned<BTreeMap<String, String>>>,
) -> Result<BTreeMap<String, String>, Wrong> {
    let Some(labels) = labels else {
        return Ok(BTreeMap::new());
    };
    let wrong = labels.get_ref().keys().find(|name| {
        let letters = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let first = name.chars().next();
        OWN_LABELS.contains(&name.as_str())
            || !name.chars().all(letters)
            || first.is_none_or(|first| first.is_ascii_digit())
    });
    match wrong {
        Some(name) => Err((
            labels.span(),
            format!("`{name}` is no name for a label, or one of Palisade's own"),
        )),
        None => Ok(labels.into_inner()),
    }
}

fn program(command: Option<Spanned<Vec<String>>>, place: &Range<usize>) -> Result<Way, Wrong> {
    let Some(command) = command else {
        return Err((
            place.clone(),
            "it needs a `command`: [\"/path/of/program\", \"argument\"]".to_owned(),
        ));
    };
    let span = command.span();
    let mut words = command.into_inner().into_iter();
    match words.next() {
        Some(path) if path.starts_with('/') => Ok(Way::Program {
            path: path.into(),
            arguments: words.collect(),
        }),
        _ => Err((
            span,
            "a `command` begins with the absolute path of a program; no shell looks for it"
                .to_owned(),
        )),
    }
}

fn span(
    value: Option<Spanned<SignedDuration>>,
    default: u64,
    bounds: std::ops::RangeInclusive<u64>,
    key: &str,
) -> Result<Duration, Wrong> {
    let Some(value) = value else {
        return Ok(Duration::from_secs(default));
    };
    let low = Duration::from_secs(*bounds.start());
    let high = Duration::from_secs(*bounds.end());
    match Duration::try_from(*value.get_ref()) {
        Ok(span) if (low..=high).contains(&span) => Ok(span),
        _ => Err((
            value.span(),
            format!("`{key}` must be between {low:?} and {high:?}"),
        )),
    }
}
