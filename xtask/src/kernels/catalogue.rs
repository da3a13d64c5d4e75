//! Which kernels Palisade is tried on, and where Debian keeps them.

use std::fmt::{self, Display, Formatter};

use super::version::newest_first;

/// The oldest supported kernel, today's, and what lies between that a server may run. Debian has
/// no 5.15 and no 6.6.
pub const KERNELS: [Kernel; 4] = [
    Kernel {
        version: "6.1",
        suites: &["bookworm", "bookworm-security"],
    },
    Kernel {
        version: "6.12",
        suites: &["bookworm-security", "trixie", "trixie-security"],
    },
    Kernel {
        version: "6.18",
        suites: &["trixie-backports"],
    },
    Kernel {
        version: "7.3",
        suites: &["trixie-backports"],
    },
];

/// A line of Debian's stock cloud kernels, of which the newest is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    pub version: &'static str,
    /// Debian's suites that have or had it.
    pub suites: &'static [&'static str],
}

impl Kernel {
    /// The packages of one release of this kernel out of all names that a mirror offers: what holds
    /// the bootable image first, then the modules where those have a package of their own.
    pub fn newest_packages(&self, offered: &[String]) -> Option<Vec<String>> {
        let mut releases: Vec<&str> = offered
            .iter()
            .filter_map(|package| {
                release_of("linux-binary-", package).or_else(|| release_of("linux-image-", package))
            })
            .filter(|release| self.is_release(release))
            .collect();
        releases.sort_by(|one, other| newest_first(one, other));
        let release = releases.first()?;
        let name = |part: &str| format!("linux-{part}-{release}-cloud-amd64");
        // From 6.19 on the package linux-image-X is empty and depends on these two.
        let parts = [name("binary"), name("modules")];
        if parts.iter().all(|part| offered.contains(part)) {
            return Some(parts.to_vec());
        }
        Some(vec![name("image")])
    }

    /// Whether 6.1.0-56 or 6.12.117+deb12 belongs to this version.
    fn is_release(&self, release: &str) -> bool {
        release
            .strip_prefix(self.version)
            .is_some_and(|rest| rest.starts_with('.'))
    }
}

fn release_of<'a>(prefix: &str, package: &'a str) -> Option<&'a str> {
    package
        .strip_prefix(prefix)?
        .strip_suffix("-cloud-amd64")
        .filter(|release| release.starts_with(|first: char| first.is_ascii_digit()))
}

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.version)
    }
}

/// The kernels asked for by version; all without any.
pub fn selected(only: &[String]) -> Result<Vec<Kernel>, String> {
    for version in only {
        if KERNELS.iter().all(|kernel| kernel.version != version) {
            let known = KERNELS.map(|kernel| kernel.version).join(", ");
            return Err(format!("no kernel {version}; there are {known}"));
        }
    }
    let wanted = |kernel: &Kernel| only.is_empty() || only.iter().any(|v| v == kernel.version);
    Ok(KERNELS.into_iter().filter(wanted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn the_newest_release_of_the_line_is_taken_by_number() {
        let offered = names(&[
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.12.117+deb12-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
            "linux-image-cloud-amd64",
        ]);
        assert_eq!(
            KERNELS[0].newest_packages(&offered),
            Some(names(&["linux-image-6.1.0-56-cloud-amd64"]))
        );
        assert_eq!(KERNELS[2].newest_packages(&offered), None);
    }

    #[test]
    fn an_image_that_only_depends_on_others_is_taken_apart() {
        let offered = names(&[
            "linux-binary-7.3.4+deb13-cloud-amd64",
            "linux-binary-unsigned-7.3.5+deb13-cloud-amd64",
            "linux-image-7.3.4+deb13-cloud-amd64",
            "linux-modules-7.3.4+deb13-cloud-amd64",
        ]);
        assert_eq!(
            KERNELS[3].newest_packages(&offered),
            Some(names(&[
                "linux-binary-7.3.4+deb13-cloud-amd64",
                "linux-modules-7.3.4+deb13-cloud-amd64"
            ]))
        );
    }

    #[test]
    fn an_unknown_version_is_refused_with_the_known_ones() {
        assert_eq!(selected(&[]).map(|kernels| kernels.len()), Ok(4));
        assert_eq!(
            selected(&names(&["6.12"])).map(|kernels| kernels[0].version),
            Ok("6.12")
        );
        let refused = selected(&names(&["6.6"]));
        assert!(refused.is_err_and(|why| why.contains("6.1, 6.12, 6.18, 7.3")));
    }
}
