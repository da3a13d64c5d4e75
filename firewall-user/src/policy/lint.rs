//! Warnings about policies that are valid and yet probably not what was meant.

use jiff::Timestamp;

use super::finding::Findings;
use super::model::Policy;
use super::source::Source;

pub(super) fn lint(
    _policy: &Policy,
    _source: &Source<'_>,
    _now: Timestamp,
    _findings: &mut Findings,
) {
}
