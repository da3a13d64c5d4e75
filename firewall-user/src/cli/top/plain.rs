//! Sources, or prefixes, as a table that is printed once.

use std::net::IpAddr;

use crate::cli::output::{Table, rate};
use crate::daemon::documents::{PrefixDocument, SourceDocument, Sources};

/// The columns behind the names.
const COUNTS: [&str; 9] = [
    "PACKETS/S",
    "BYTES/S",
    "SYNS/S",
    "REQUESTS/S",
    "PACKETS",
    "BYTES",
    "SYNS",
    "REQUESTS",
    "DROPS",
];

/// Prints what was asked for.
pub fn print(sources: Sources, prefixes: bool) -> anyhow::Result<()> {
    if prefixes {
        let rows = sources.prefixes.iter().map(|prefix| {
            let PrefixDocument {
                prefix, sources, ..
            } = prefix;
            vec![prefix.to_string(), sources.to_string()]
        });
        let counts = sources.prefixes.iter().map(prefix_cells);
        table(&["PREFIX", "SOURCES"], rows.zip(counts))
    } else {
        let rows = sources.sources.iter();
        let rows = rows.map(|source| vec![source_name(source.source)]);
        let counts = sources.sources.iter().map(source_cells);
        table(&["SOURCE"], rows.zip(counts))
    }
}

fn table(
    names: &[&'static str],
    rows: impl Iterator<Item = (Vec<String>, [String; 9])>,
) -> anyhow::Result<()> {
    let header: Vec<&'static str> = names.iter().copied().chain(COUNTS).collect();
    let mut table = Table::new(&header);
    for (mut cells, counts) in rows {
        cells.extend(counts);
        table.row(cells);
    }
    table.print()
}

fn source_cells(source: &SourceDocument) -> [String; 9] {
    cells(
        [
            source.packets_per_second,
            source.bytes_per_second,
            source.syns_per_second,
            source.requests_per_second,
        ],
        [
            source.packets,
            source.bytes,
            source.syns,
            source.requests,
            source.drops,
        ],
    )
}

fn prefix_cells(prefix: &PrefixDocument) -> [String; 9] {
    cells(
        [
            prefix.packets_per_second,
            prefix.bytes_per_second,
            prefix.syns_per_second,
            prefix.requests_per_second,
        ],
        [
            prefix.packets,
            prefix.bytes,
            prefix.syns,
            prefix.requests,
            prefix.drops,
        ],
    )
}

fn cells(rates: [f64; 4], totals: [u64; 5]) -> [String; 9] {
    let [packets, bytes, syns, requests] = rates.map(rate);
    let [all_packets, all_bytes, all_syns, all_requests, drops] =
        totals.map(|total| total.to_string());
    [
        packets,
        bytes,
        syns,
        requests,
        all_packets,
        all_bytes,
        all_syns,
        all_requests,
        drops,
    ]
}

/// IPv6 sources are whole /64s.
pub fn source_name(source: IpAddr) -> String {
    match source {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("{address}/64"),
    }
}
