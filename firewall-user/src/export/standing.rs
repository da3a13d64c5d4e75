//! Whether the fence stands where it should: an interface without it shows as a zero, not as a gap.

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
    registry.register(Box::new(attached.clone()))?;
    for hook in hooks {
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
    fn an_interface_without_its_fence_is_a_zero() {
        let hook = |interface: &str, mode, stands| Standing {
            interface: interface.to_owned(),
            hook: "ingress",
            mode,
            stands,
        };
        let registry = Registry::new();
        let hooks = [hook("eth0", "native", true), hook("eth1", "none", false)];
        standing(&registry, &hooks).unwrap();
        let text = TextEncoder::new()
            .encode_to_string(&registry.gather())
            .unwrap();
        for line in [
            "palisade_attached{hook=\"ingress\",interface=\"eth0\",mode=\"native\"} 1",
            "palisade_attached{hook=\"ingress\",interface=\"eth1\",mode=\"none\"} 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
