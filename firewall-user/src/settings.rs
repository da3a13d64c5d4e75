//! The host settings, `/etc/palisade/palisade.toml`.
