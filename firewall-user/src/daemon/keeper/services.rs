//! The services, what they get, and what was expected of them.

use super::Keeper;
use crate::daemon::documents::{RangeDocument, ServiceDocument, Services, WHOLE_HOST};
use crate::detect::learned::Owner;

impl Keeper {
    /// As of the latest round.
    pub fn service_ranges(&self) -> Services {
        let services = self.services.1.iter().map(|counts| ServiceDocument {
            service: counts.name.clone(),
            packets: counts.packets,
            bytes: counts.bytes,
            connections: counts.connections,
            requests: counts.requests,
        });
        let ranges = self
            .detector
            .readings()
            .map(|(owner, reading)| RangeDocument {
                service: match owner {
                    Owner::Host => WHOLE_HOST.to_owned(),
                    Owner::Service(name) => name.clone(),
                },
                measure: reading.measure.name().to_owned(),
                observed: reading.observed,
                expected_low: reading.expected.low,
                expected: reading.expected.middle,
                expected_high: reading.expected.high,
                learning: reading.learning,
            });
        Services {
            services: services.collect(),
            ranges: ranges.collect(),
        }
    }
}
