//! The tables of the view, and the columns of each.

use crate::daemon::documents::SourceOrder;

/// The tables that can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tab {
    Sources,
    Services,
    Rules,
    Incidents,
    Bans,
}

impl Tab {
    pub const ALL: [Self; 5] = [
        Self::Sources,
        Self::Services,
        Self::Rules,
        Self::Incidents,
        Self::Bans,
    ];

    pub const fn title(self) -> &'static str {
        match self {
            Self::Sources => "Sources",
            Self::Services => "Services",
            Self::Rules => "Rules",
            Self::Incidents => "Incidents",
            Self::Bans => "Bans",
        }
    }

    /// Its columns, and which of them it is sorted by at first.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Sources => SOURCES,
            Self::Services => SERVICES,
            Self::Rules => RULES,
            Self::Incidents => INCIDENTS,
            Self::Bans => BANS,
        }
    }

    /// The column that it is sorted by at first; `None` leaves the daemon's order.
    pub const fn first_order(self) -> Option<usize> {
        match self {
            Self::Sources | Self::Bans => Some(1),
            Self::Rules => Some(2),
            Self::Services | Self::Incidents => None,
        }
    }
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub title: &'static str,
    /// In characters; the last visible column takes what is left.
    pub width: u16,
    /// Columns of a high rank are the first to go where there is little room.
    pub rank: u8,
    /// Aligned right, and the largest first.
    pub is_number: bool,
}

const fn text(title: &'static str, width: u16, rank: u8) -> Column {
    Column {
        title,
        width,
        rank,
        is_number: false,
    }
}

const fn number(title: &'static str, width: u16, rank: u8) -> Column {
    Column {
        title,
        width,
        rank,
        is_number: true,
    }
}

const SOURCES: &[Column] = &[
    text("SOURCE", 24, 0),
    number("PKT/S", 6, 0),
    number("BYTES/S", 7, 2),
    number("SYN/S", 6, 3),
    number("REQ/S", 6, 3),
    number("DROPS", 6, 1),
    number("PACKETS", 7, 5),
    number("BYTES", 6, 5),
    text("STATE", 12, 0),
];

const SERVICES: &[Column] = &[
    text("SERVICE", 20, 0),
    text("MEASURE", 11, 0),
    number("NOW/S", 6, 0),
    number("MINUTE/S", 8, 1),
    number("EXPECTED/S", 15, 1),
    text("STATE", 8, 0),
];

const RULES: &[Column] = &[
    text("RULE", 24, 0),
    text("MODE", 8, 2),
    number("PKT/S", 6, 0),
    number("PACKETS", 7, 0),
    number("BYTES", 6, 3),
    number("OBSERVED", 8, 1),
    number("LIMITED", 7, 3),
];

const INCIDENTS: &[Column] = &[
    text("STATE", 8, 0),
    text("SEVERITY", 8, 4),
    text("SINCE", 11, 2),
    text("KIND", 16, 1),
    text("SUBJECT", 18, 0),
    text("WHY", 20, 3),
];

const BANS: &[Column] = &[
    text("PREFIX", 24, 0),
    number("LEFT", 7, 0),
    text("MEASURE", 7, 2),
    text("ORIGIN", 9, 1),
    text("KIND", 12, 3),
    text("REASON", 16, 1),
];

/// How the daemon sorts sources where the view sorts by this column of them.
pub const fn source_order(column: Option<usize>) -> SourceOrder {
    match column {
        Some(2 | 7) => SourceOrder::Bytes,
        Some(3) => SourceOrder::Syns,
        Some(4) => SourceOrder::Requests,
        _ => SourceOrder::Packets,
    }
}

/// The column of sources that shows an order of the daemon's.
pub const fn source_column(order: SourceOrder) -> usize {
    match order {
        SourceOrder::Packets => 1,
        SourceOrder::Bytes => 2,
        SourceOrder::Syns => 3,
        SourceOrder::Requests => 4,
    }
}
