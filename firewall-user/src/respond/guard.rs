//! Which bans are refused: people type the wrong prefix, and detectors are fooled by spoofed
//! sources; neither may cut off the protected or half of the Internet.

use ipnet::IpNet;

/// Shortest prefix that may be banned at once.
const SHORTEST_V4: u8 = 8;
const SHORTEST_V6: u8 = 16;

/// Why a ban was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BanRefusal {
    #[error("{prefix} is protected: `protect.never_block` of the policy covers it with {by}")]
    Protected { prefix: IpNet, by: IpNet },
    #[error(
        "{prefix} is too much to ban at once: at least /{shortest} is asked for; \
         write a drop rule if that is meant"
    )]
    TooLarge { prefix: IpNet, shortest: u8 },
}

/// Whether people may ban `prefix` when `protected` is never to be blocked. A prefix that merely contains protected sources
/// may be banned: the kernel spares those.
pub fn check_ban(protected: &[IpNet], prefix: IpNet) -> Result<(), BanRefusal> {
    let shortest = match prefix {
        IpNet::V4(_) => SHORTEST_V4,
        IpNet::V6(_) => SHORTEST_V6,
    };
    if prefix.prefix_len() < shortest {
        return Err(BanRefusal::TooLarge { prefix, shortest });
    }
    match is_protected(protected, prefix) {
        Some(by) => Err(BanRefusal::Protected { prefix, by }),
        None => Ok(()),
    }
}

/// The protected prefix that covers all of `prefix`, if there is one.
pub fn is_protected(protected: &[IpNet], prefix: IpNet) -> Option<IpNet> {
    protected
        .iter()
        .find(|protected| protected.contains(&prefix))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| prefix(text)).collect()
    }

    fn prefix(text: &str) -> IpNet {
        text.parse().expect("a prefix")
    }

    #[test]
    fn a_protected_source_cannot_be_banned_and_the_message_names_what_covers_it() {
        let protected = prefixes(&["198.51.100.0/24", "2001:db8:1::/48"]);
        for text in [
            "198.51.100.7/32",
            "198.51.100.0/24",
            "2001:db8:1:2::/64",
            "2001:db8:1::5/128",
        ] {
            let refusal = check_ban(&protected, prefix(text)).expect_err(text);
            assert!(matches!(refusal, BanRefusal::Protected { .. }), "{text}");
            assert!(refusal.to_string().contains("never_block"));
        }
        assert_eq!(check_ban(&protected, prefix("203.0.113.7/32")), Ok(()));
    }

    #[test]
    fn a_prefix_around_a_protected_source_may_be_banned() {
        let protected = prefixes(&["198.51.100.7/32"]);
        assert_eq!(check_ban(&protected, prefix("198.51.100.0/24")), Ok(()));
    }

    #[test]
    fn prefixes_that_cover_much_of_the_internet_are_refused() {
        let protected = prefixes(&[]);
        for text in ["0.0.0.0/0", "198.0.0.0/7", "::/0", "2000::/3", "2000::/15"] {
            assert!(
                matches!(
                    check_ban(&protected, prefix(text)),
                    Err(BanRefusal::TooLarge { .. })
                ),
                "{text}"
            );
        }
        for text in ["198.0.0.0/8", "2001::/16"] {
            assert_eq!(check_ban(&protected, prefix(text)), Ok(()), "{text}");
        }
    }
}
