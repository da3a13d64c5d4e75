//! The ways to a peer, behind one call.

use std::path::Path;

use super::Delivery;
use super::alertmanager::{self, Alertmanager};
use super::http::Peer;
use super::journald::Journald;
use super::notice::Notice;
use super::program::{Order, Program};
use super::settings::{NotifySettings, TemplateSource, Way};
use super::template::Template;
use super::webhook::Webhook;

/// A way that is ready.
#[derive(Debug)]
pub enum Channel {
    Alertmanager(Alertmanager),
    Webhook(Box<Webhook>),
    Journald(Journald),
    Program(Program),
}

impl Channel {
    /// Reads what the settings name: secrets, certificates, templates.
    pub fn open(settings: &NotifySettings, instance: &str) -> Result<Self, String> {
        let timeout = settings.timeout;
        Ok(match &settings.way {
            Way::Alertmanager {
                endpoint,
                labels,
                resend,
            } => Self::Alertmanager(Alertmanager {
                peer: Peer::new(endpoint, timeout)?.at(alertmanager::PATH),
                labels: labels.clone(),
                instance: instance.to_owned(),
                resend: *resend,
            }),
            Way::Webhook {
                endpoint,
                template,
                secret,
            } => {
                let secret = secret.as_ref().map(|secret| secret.read()).transpose()?;
                Self::Webhook(Box::new(Webhook {
                    peer: Peer::new(endpoint, timeout)?.hiding(secret.as_ref()),
                    template: template.as_ref().map(read).transpose()?,
                    secret,
                }))
            }
            Way::Journald { socket } => Self::Journald(Journald::new(socket)),
            Way::Program { path, arguments } => {
                executable(path)?;
                Self::Program(Program::start(Order {
                    path: path.clone(),
                    arguments: arguments.clone(),
                    timeout,
                })?)
            }
        })
    }

    /// Tells one thing and waits for what comes of it.
    pub async fn deliver(&self, notice: &Notice) -> Delivery {
        match self {
            Self::Alertmanager(peer) => peer.deliver(notice).await,
            Self::Webhook(peer) => peer.deliver(notice).await,
            Self::Journald(peer) => peer.deliver(notice),
            Self::Program(peer) => peer.deliver(notice).await,
        }
    }

    /// Whom it tells.
    pub fn peer(&self) -> String {
        match self {
            Self::Alertmanager(it) => it.peer.shown().to_owned(),
            Self::Webhook(it) => it.peer.shown().to_owned(),
            Self::Journald(_) => "the journal".to_owned(),
            Self::Program(it) => it.shown(),
        }
    }

    /// What people should know of it.
    pub fn caution(&self) -> Option<&'static str> {
        let peer = match self {
            Self::Alertmanager(it) => &it.peer,
            Self::Webhook(it) => &it.peer,
            _ => return None,
        };
        peer.is_open()
            .then_some("alerts cross the network unencrypted: use https")
    }
}

fn read(source: &TemplateSource) -> Result<Template, String> {
    match source {
        TemplateSource::Text(text) => Template::new(text),
        TemplateSource::File(path) => {
            let shown = path.display();
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{shown} cannot be read: {error}"))?;
            Template::new(&text).map_err(|why| format!("{shown}: {why}"))
        }
    }
}

/// A program that is not there, or that anybody may change, is not for the daemon to run.
fn executable(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let shown = path.display();
    let about =
        std::fs::metadata(path).map_err(|error| format!("{shown} cannot be run: {error}"))?;
    let mode = about.permissions().mode();
    if !about.is_file() || mode & 0o111 == 0 {
        return Err(format!("{shown} is no program"));
    }
    if mode & 0o002 != 0 {
        return Err(format!(
            "{shown} may be changed by everybody: say `chmod o-w {shown}`"
        ));
    }
    Ok(())
}
