//! Recorded traffic through the fence: reads captures, judges their packets with either engine on
//! the capture's own clock, and feeds the detectors what a live host would have counted.

pub mod capture;
