//! Rule sets of other programs, turned into policies.

pub mod classbench;
