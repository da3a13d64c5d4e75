//! The host engine: the shared decision over tables in memory; needs no privilege.
