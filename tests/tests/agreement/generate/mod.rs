//! Random policies, and traffic made to touch their edges.

pub mod packet;
pub mod policy;
pub mod random;
pub mod traffic;
