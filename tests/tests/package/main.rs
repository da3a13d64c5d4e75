//! What is shipped, installed as people do: from a package or a tarball, in a clean Debian under a
//! real systemd, with traffic on the wire while it is upgraded, restarted and removed, and while the machine boots.

mod boot;
mod first_settings;
mod reboot;
mod removal;
mod scene;
mod tarball;
mod traffic;
mod upgrade;
