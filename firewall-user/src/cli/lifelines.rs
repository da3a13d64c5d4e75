//! The lockout guard where no daemon runs it.

use std::path::Path;

use firewall_common::layout::INTERFACES;

use super::session::own_session;
use crate::datapath::clock;
use crate::guard::{self, Lifelines, Threat};
use crate::policy::{Environment, Mode, Policy};
use crate::settings::RESOLV_CONF;

/// What a policy would cut of this host.
#[derive(Clone, Debug)]
pub struct Examined {
    pub cuts: Vec<Threat>,
    /// What it would cut besides if it did not only observe.
    pub if_enforced: Vec<Threat>,
    /// What the guard could not find out.
    pub notes: Vec<String>,
}

/// The lifelines that pass these interfaces.
pub fn of(interfaces: &[String], resolv_conf: &Path) -> Lifelines {
    let own = own_session().and_then(|session| session.parse().ok());
    Lifelines::of_this_host(interfaces, resolv_conf, own)
}

/// Examines a policy as if it stood on these interfaces, or on all by which this host reaches others.
pub fn examine(policy: &Policy, interfaces: Option<Vec<String>>) -> anyhow::Result<Examined> {
    let mut interfaces = interfaces.unwrap_or_else(Lifelines::interfaces);
    interfaces.truncate(INTERFACES as usize);
    let lifelines = of(&interfaces, Path::new(RESOLV_CONF));
    let threats = |policy: &Policy| -> anyhow::Result<Vec<Threat>> {
        let compiled = policy.compile(&Environment {
            interfaces: interfaces.clone(),
            clock_offset: clock::offset(),
            now: Some(jiff::Timestamp::now()),
            ..Environment::default()
        })?;
        Ok(guard::examine(policy, compiled, &lifelines, clock::monotonic()).0)
    };
    let cuts = threats(policy)?;
    let if_enforced = match policy.defaults.mode {
        Mode::Enforce => Vec::new(),
        Mode::Observe => {
            let mut enforced = policy.clone();
            enforced.defaults.mode = Mode::Enforce;
            threats(&enforced)?
        }
    };
    Ok(Examined {
        cuts,
        if_enforced,
        notes: lifelines.unknown.clone(),
    })
}
