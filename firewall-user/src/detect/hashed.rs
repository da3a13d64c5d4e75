//! Hash maps for keys that strangers choose, several of them for each packet that is shown.
//!
//! The standard library's hash (SipHash) takes a good part of a round. This one (foldhash) has a seed of its own in
//! each process as well, so nobody outside can choose addresses that fall together.

/// A map.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// A set.
pub(crate) type HashSet<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
