//! What the host and its services get beside what was expected of them, for people to see in one graph.

use prometheus::{GaugeVec, Opts, Registry};

use crate::detect::learned::{Owner, Reading};

/// Stands for the host as a whole: no rule may be called so.
const HOST: &str = "*";

/// A reading of a service, or of the host.
pub(crate) type Range = (Owner, Reading);

pub(super) fn ranges(registry: &Registry, ranges: &[Range]) -> prometheus::Result<()> {
    let observed = gauges(
        registry,
        "palisade_baseline_observed",
        "Rate per second in the last whole minute, of a service or (service=\"*\") of the host.",
    )?;
    let low = gauges(
        registry,
        "palisade_baseline_expected_low",
        "The lower end of what was expected of that minute.",
    )?;
    let high = gauges(
        registry,
        "palisade_baseline_expected_high",
        "The upper end of what was expected of that minute.",
    )?;
    for (owner, reading) in ranges {
        let service = match owner {
            Owner::Host => HOST,
            Owner::Service(name) => name,
        };
        let labels = [service, reading.measure.name()];
        observed
            .get_metric_with_label_values(&labels)?
            .set(reading.observed);
        low.get_metric_with_label_values(&labels)?
            .set(reading.expected.low);
        high.get_metric_with_label_values(&labels)?
            .set(reading.expected.high);
    }
    Ok(())
}

fn gauges(registry: &Registry, name: &str, help: &str) -> prometheus::Result<GaugeVec> {
    let family = GaugeVec::new(Opts::new(name, help), &["service", "measure"])?;
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::detect::baseline::Expected;
    use crate::detect::learned::Measure;

    #[test]
    fn a_service_and_the_host_have_their_rates_beside_what_was_expected() {
        let reading = Reading {
            measure: Measure::NewSources,
            observed: 7.5,
            expected: Expected {
                low: 1.0,
                middle: 2.0,
                high: 4.0,
            },
            learning: false,
        };
        let registry = Registry::new();
        let shop = Owner::Service("shop".to_owned());
        ranges(&registry, &[(shop, reading), (Owner::Host, reading)]).unwrap();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "palisade_baseline_observed{measure=\"new_sources\",service=\"shop\"} 7.5",
            "palisade_baseline_expected_low{measure=\"new_sources\",service=\"*\"} 1",
            "palisade_baseline_expected_high{measure=\"new_sources\",service=\"*\"} 4",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
