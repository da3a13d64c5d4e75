//! Whether the fence stands where it should: an interface without it shows as a zero, not as a gap. One that has no
//! device lets nothing in, so that shows apart.

use prometheus::{IntGaugeVec, Opts, Registry};

use crate::datapath::Standing;

pub(super) fn standing(registry: &Registry, hooks: &[Standing]) -> prometheus::Result<()> {
    let attached = IntGaugeVec::new(
        Opts::new(
            "palisade_attached",
            "1 where the fence stands, 0 where it should and does not.",
        ),
        &["interface", "hook", "mode"],
    )?;
    let waiting = IntGaugeVec::new(
        Opts::new(
            "palisade_waiting",
            "1 while an interface of the settings has no device: it is fenced as soon as it comes.",
        ),
        &["interface"],
    )?;
    registry.register(Box::new(attached.clone()))?;
    registry.register(Box::new(waiting.clone()))?;
    for hook in hooks {
        waiting
            .get_metric_with_label_values(&[hook.interface.as_str()])?
            .set(i64::from(hook.waits));
        attached
            .get_metric_with_label_values(&[hook.interface.as_str(), hook.hook, hook.mode])?
            .set(i64::from(hook.stands));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn an_interface_without_its_fence_is_a_zero_and_one_without_a_device_is_waited_for() {
        let hook = |interface: &str, mode, stands, waits| Standing {
            interface: interface.to_owned(),
            hook: "ingress",
            mode,
            stands,
            waits,
        };
        let registry = Registry::new();
        let hooks = [
            hook("eth0", "native", true, false),
            hook("eth1", "none", false, false),
            hook("ppp0", "none", false, true),
        ];
        standing(&registry, &hooks).unwrap();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "palisade_attached{hook=\"ingress\",interface=\"eth0\",mode=\"native\"} 1",
            "palisade_attached{hook=\"ingress\",interface=\"eth1\",mode=\"none\"} 0",
            "palisade_waiting{interface=\"eth0\"} 0",
            "palisade_waiting{interface=\"eth1\"} 0",
            "palisade_waiting{interface=\"ppp0\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
