//! Roles: what a user of the host may ask of the daemon.

use axum::http::Method;
use serde::{Deserialize, Serialize};

use super::Peer;

/// What somebody may; each role may also what the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything.
    Viewer,
    /// Also ban, lift bans, switch what defends against a flood, and look into visitors' packets.
    Operator,
    /// Also change the policy, and take the fence down.
    Admin,
}

impl Role {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// Users and groups of a role, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    pub users: Vec<u32>,
    pub groups: Vec<u32>,
}

impl Members {
    fn has(&self, peer: &Peer) -> bool {
        peer.uid.is_some_and(|uid| self.users.contains(&uid))
            || peer.groups.iter().any(|group| self.groups.contains(group))
    }

    fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}

/// `[roles]` of the host settings, as numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub admin: Members,
    pub operator: Members,
    pub viewer: Members,
}

impl Roles {
    /// Whether others than root and the daemon's own user are given a role.
    pub fn are_set(&self) -> bool {
        [&self.admin, &self.operator, &self.viewer]
            .into_iter()
            .any(|members| !members.is_empty())
    }

    /// The role of whoever speaks. Root and the daemon's own user may everything. Where no roles are
    /// set, the socket's own mode says who may look.
    pub fn of(&self, peer: &Peer) -> Option<Role> {
        let own = rustix::process::geteuid().as_raw();
        if peer.uid.is_some_and(|uid| uid == 0 || uid == own) || self.admin.has(peer) {
            Some(Role::Admin)
        } else if self.operator.has(peer) {
            Some(Role::Operator)
        } else if self.viewer.has(peer) || !self.are_set() {
            Some(Role::Viewer)
        } else {
            None
        }
    }
}

/// The role that a request needs. What is not listed changes the fence.
pub fn needed(method: &Method, path: &str) -> Role {
    if path == "/v1/watch/frames" {
        return Role::Operator;
    }
    if method == Method::GET || method == Method::HEAD {
        return Role::Viewer;
    }
    match path {
        "/v1/bans" | "/v1/cookies" | "/v1/signatures" | "/v1/notify/test" => Role::Operator,
        _ => Role::Admin,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(uid: u32, groups: &[u32]) -> Peer {
        Peer {
            uid: Some(uid),
            pid: Some(1),
            groups: groups.to_vec(),
        }
    }

    fn roles() -> Roles {
        Roles {
            admin: Members {
                users: vec![50_001],
                groups: vec![],
            },
            operator: Members {
                users: vec![],
                groups: vec![60_000],
            },
            viewer: Members {
                users: vec![],
                groups: vec![60_001],
            },
        }
    }

    #[test]
    fn the_highest_role_that_user_or_group_gives_counts() {
        let roles = roles();
        for (peer, role) in [
            (peer(0, &[]), Some(Role::Admin)),
            (peer(50_001, &[60_001]), Some(Role::Admin)),
            (peer(50_002, &[60_001, 60_000]), Some(Role::Operator)),
            (peer(50_002, &[60_001]), Some(Role::Viewer)),
            (peer(50_002, &[100]), None),
        ] {
            assert_eq!(roles.of(&peer), role, "{peer:?}");
        }
        let unknown = Peer {
            uid: None,
            pid: None,
            groups: Vec::new(),
        };
        assert_eq!(roles.of(&unknown), None);
        assert_eq!(Roles::default().of(&unknown), Some(Role::Viewer));
    }

    #[test]
    fn looking_needs_less_than_banning_and_that_less_than_another_policy() {
        assert_eq!(needed(&Method::GET, "/v1/bans"), Role::Viewer);
        assert_eq!(needed(&Method::GET, "/v1/watch"), Role::Viewer);
        assert_eq!(needed(&Method::GET, "/v1/watch/frames"), Role::Operator);
        assert_eq!(needed(&Method::POST, "/v1/bans"), Role::Operator);
        assert_eq!(needed(&Method::DELETE, "/v1/bans"), Role::Operator);
        assert_eq!(needed(&Method::POST, "/v1/apply"), Role::Admin);
        assert_eq!(needed(&Method::POST, "/v1/something-new"), Role::Admin);
    }
}
