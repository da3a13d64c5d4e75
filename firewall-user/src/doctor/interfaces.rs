//! The interfaces: whether Palisade can stand on them, how fast, and who else stands there.

use std::thread::available_parallelism;

use super::kernel::read;
use super::{Check, Patient};
use crate::host::{Card, Host, programs};

/// Drivers that run XDP themselves, as of Linux 6.18; some of them since later than 6.1.
const NATIVE: &[&str] = &[
    "amd-xgbe",
    "atlantic",
    "bnxt_en",
    "bonding",
    "cpsw",
    "dpaa2-eth",
    "ena",
    "fec",
    "fsl_dpa",
    "fsl_enetc",
    "gve",
    "hv_netvsc",
    "i40e",
    "iavf",
    "ice",
    "idpf",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "lan966x-switch",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mtk_soc_eth",
    "mvneta",
    "mvpp2",
    "netsec",
    "nfp",
    "nicvf",
    "qede",
    "sfc",
    "st_gmac",
    "stmmac",
    "tsnep",
    "tun",
    "veth",
    "virtio_net",
    "vmxnet3",
    "xen_netfront",
];
/// Bytes of a packet that fit a page with the room that XDP wants before and behind it.
const PAGE: u32 = 3_506;

pub(super) fn examine(patient: &Patient) -> Vec<Check> {
    if patient.interfaces.is_empty() {
        return vec![Check::error(
            "interface.found",
            "no Ethernet interface with an address is up",
            "name one with --interface, or in the settings",
        )];
    }
    let mut checks: Vec<Check> = patient
        .interfaces
        .iter()
        .flat_map(|name| interface(name, patient))
        .collect();
    checks.push(reverse_path(&patient.host));
    checks
}

fn interface(name: &str, patient: &Patient) -> Vec<Check> {
    let card = match Card::of(name) {
        Ok(card) => card,
        Err(_) => {
            let found = "it does not exist".to_owned();
            let advice = "`ip link` lists those that do";
            return vec![Check::error("interface.found", found, advice).about(name)];
        }
    };
    let mut known = patient.host.interfaces.iter();
    let up = known
        .find(|known| known.name == name)
        .is_some_and(|known| known.up);
    let mut checks = vec![if !card.ethernet {
        Check::error(
            "interface.found",
            "it is not Ethernet",
            "Palisade protects Ethernet interfaces; protect what carries it",
        )
    } else if !up {
        Check::warning(
            "interface.found",
            "it is down",
            format!("`ip link set {name} up`"),
        )
    } else {
        Check::ok("interface.found", "Ethernet, up")
    }];
    checks.push(driver(&card));
    checks.push(mtu(&card));
    checks.extend(queues(name, &card));
    checks.extend(offloads(name, &card));
    checks.extend(others(name, &card));
    checks.into_iter().map(|check| check.about(name)).collect()
}

fn driver(card: &Card) -> Check {
    const ID: &str = "interface.driver";
    match card.driver.as_deref() {
        Some("veth") => Check::note(
            ID,
            "veth: native XDP",
            "native XDP on veth keeps segments apart: bulk transfers between namespaces get slower",
        ),
        Some("virtio_net") => Check::note(
            ID,
            "virtio_net: native XDP where the hypervisor lets guest offloads be switched off and gives a queue \
             for each processor to send on",
            "where `palisade status` shows generic: raise the queues of the virtual machine",
        ),
        Some(name) if NATIVE.contains(&name) => Check::ok(ID, format!("{name}: native XDP")),
        Some(name) => Check::note(
            ID,
            format!("{name}: not known to have native XDP; Palisade falls back to generic"),
            "generic mode works and costs more for each packet; `mode = \"generic\"` says it is meant",
        ),
        None => Check::note(
            ID,
            "the driver does not say its name",
            "`palisade status` shows whether native XDP was taken",
        ),
    }
}

fn mtu(card: &Card) -> Check {
    const ID: &str = "interface.mtu";
    match card.mtu {
        Some(mtu) if mtu > PAGE => Check::note(
            ID,
            format!("{mtu} bytes: packets lie in several buffers"),
            "Palisade reads them; a driver that cannot give them to XDP falls back to generic mode",
        ),
        Some(mtu) => Check::ok(ID, format!("{mtu} bytes: each packet fits one buffer")),
        None => Check::note(ID, "not known", "`ip link` shows it"),
    }
}

fn queues(name: &str, card: &Card) -> Option<Check> {
    const ID: &str = "interface.queues";
    let channels = card.channels?;
    let processors = available_parallelism().map_or(1, usize::from) as u32;
    let found = format!(
        "{} queues to receive on and {} to send on, of {} and {}; {processors} processors",
        channels.receive, channels.send, channels.most_receive, channels.most_send
    );
    let could = channels.most_receive.min(processors);
    Some(if channels.receive < could {
        Check::warning(
            ID,
            found,
            format!(
                "`ethtool -L {name} combined {could}`: a flood is judged by as many processors as there are queues"
            ),
        )
    } else {
        Check::ok(ID, found)
    })
}

fn offloads(name: &str, card: &Card) -> Vec<Check> {
    const ID: &str = "interface.offloads";
    let mut checks = Vec::new();
    if card.joins_segments == Some(true) {
        checks.push(Check::note(
            ID,
            "the card joins received segments (LRO): drivers refuse native XDP, or switch it off",
            format!("`ethtool -K {name} lro off` does it beforehand"),
        ));
    }
    if card.takes_tags_off == Some(true) {
        checks.push(Check::note(
            ID,
            "the card takes VLAN tags off before XDP sees them",
            format!("a policy with a `vlan` key switches that off; `ethtool -K {name} rxvlan off` does it beforehand"),
        ));
    }
    if checks.is_empty() {
        checks.push(Check::ok(
            ID,
            "nothing is joined or taken off before XDP sees it",
        ));
    }
    checks
}

fn others(name: &str, card: &Card) -> Vec<Check> {
    const ID: &str = "interface.programs";
    let found = match programs::on(card.index, name) {
        Ok(found) => found,
        Err(error) => {
            return vec![Check::warning(
                ID,
                format!("not known: {error:#}"),
                "run it as root",
            )];
        }
    };
    let said = |program: &programs::Program| {
        let named = program
            .name
            .as_deref()
            .unwrap_or("a program without a name");
        format!("{named} ({}, number {})", program.hook, program.id)
    };
    let (ours, foreign): (Vec<_>, Vec<_>) = found.iter().partition(|program| program.is_ours());
    let mut checks: Vec<Check> = foreign
        .into_iter()
        .map(|program| {
            if program.hook.starts_with("xdp") {
                Check::error(
                    ID,
                    format!("another XDP program is attached: {}", said(program)),
                    format!("two cannot stand on one interface: `ip link set {name} xdp off`, or end what put it there"),
                )
            } else {
                Check::note(
                    ID,
                    format!("another program is attached: {}", said(program)),
                    "both judge: what either drops is gone; Palisade's stands first at tcx",
                )
            }
        })
        .collect();
    if checks.is_empty() {
        let ours: Vec<String> = ours.into_iter().map(said).collect();
        checks.push(Check::ok(
            ID,
            match ours.is_empty() {
                true => "no BPF program is attached".to_owned(),
                false => format!("Palisade's own: {}", ours.join(", ")),
            },
        ));
    }
    checks
}

/// A strict filter drops what comes by another way than answers would go, before anybody can count it as
/// judged.
fn reverse_path(host: &Host) -> Check {
    const ID: &str = "network.rp_filter";
    let ways: Vec<&str> = host
        .gateways
        .iter()
        .map(|(_, interface)| interface.as_str())
        .collect();
    let several = ways.iter().any(|way| ways.first() != Some(way));
    let strict = |name: &str| {
        read(&format!("/proc/sys/net/ipv4/conf/{name}/rp_filter")).as_deref() == Some("1")
    };
    let mut interfaces = host
        .interfaces
        .iter()
        .filter(|interface| interface.ethernet);
    if several && (strict("all") || interfaces.any(|interface| strict(&interface.name))) {
        return Check::note(
            ID,
            "the stack drops what comes by another interface than its answer would take (rp_filter is 1), and there \
             are several gateways",
            "`sysctl net.ipv4.conf.all.rp_filter=2` lets it in; Palisade counts such packets as passed",
        );
    }
    Check::ok(
        ID,
        "the stack's filter of reverse paths stands in nobody's way",
    )
}
