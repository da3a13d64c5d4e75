//! Whether the signature of a flood is only told, or put in force.

use serde::{Deserialize, Deserializer};

/// `signature` of `[respond]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureMode {
    /// People are told, with a rule that they can put in force.
    #[default]
    Suggest,
    /// It is in force for as long as the flood lasts, if it hits little enough besides.
    Enforce,
}

/// The share of ordinary traffic that a signature may hit by itself.
pub const COLLATERAL: f64 = 0.01;
/// Nobody who asks for more than this can mean it.
const MOST: f64 = 0.5;

/// Reads a share.
pub fn collateral<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    let share = f64::deserialize(from)?;
    if share > 0.0 && share <= MOST {
        return Ok(share);
    }
    Err(serde::de::Error::custom(format!(
        "{share} must be a share of ordinary traffic above 0 and at most {MOST}, such as {COLLATERAL}"
    )))
}
