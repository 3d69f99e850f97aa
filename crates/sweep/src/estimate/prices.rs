//! Prices of devices: GPU-hours as money.

use std::{collections::BTreeMap, path::Path};

use prospect_core::config::Document;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cards::{ASSUMED_RATE, CARDS, CardEstimate, CardFit};
use crate::SweepError;

/// Prices in the binary.
const EXAMPLES: &str = include_str!("prices.yaml");

/// Prices of devices, for `prospect plan --prices FILE` and `prospect sweep --dry-run --prices FILE`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PricesFile {
    /// Date of the prices.
    pub as_of: String,
    /// Currency.
    pub currency: String,
    /// Origin of the prices.
    pub note: String,
    /// Devices by name.
    pub devices: BTreeMap<String, DevicePrice>,
}

/// Price of one device.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DevicePrice {
    /// Memory in GiB.
    pub memory: u64,
    /// Price of an hour.
    pub per_hour: f64,
    /// Rate of training in 10¹² floating-point operations per second, as you measured it. Default:
    /// the rate that plans assume for every GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tflops: Option<f64>,
}

/// Cost of work on one device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceCost {
    /// Name of the device.
    pub device: String,
    /// Hours of one device.
    pub hours: f64,
    /// Price of the hours.
    pub price: f64,
    /// True if every run fits with the settings of the experiment, as far as cards of its memory
    /// were planned for.
    pub fits: bool,
}

impl PricesFile {
    /// The prices in the binary, or those of a file.
    pub fn open(path: Option<&Path>) -> Result<Self, SweepError> {
        Self::read(&match path {
            None => Document::from_text("prices.yaml", EXAMPLES)?,
            Some(path) => Document::open(path)?,
        })
    }

    /// Reads and checks a document.
    pub fn read(document: &Document) -> Result<Self, SweepError> {
        let prices: Self = document.read()?;
        let is_positive = |number: f64| number.is_finite() && number > 0.0;
        for (name, device) in &prices.devices {
            for (key, number) in [("per_hour", Some(device.per_hour)), ("tflops", device.tflops)] {
                if number.is_some_and(|number| !is_positive(number)) {
                    return Err(SweepError::Setting(format!(
                        "{}: `devices.{name}.{key}` must be a number above 0",
                        document.name()
                    )));
                }
            }
        }
        if prices.devices.is_empty() {
            return Err(SweepError::Setting(format!(
                "{}: `devices` is empty; give at least one with `memory` and `per_hour`",
                document.name()
            )));
        }
        Ok(prices)
    }

    /// Returns the cost of some floating-point operations on each device, cheapest first.
    pub fn costs(&self, operations: f64, fits: impl Fn(u64) -> bool) -> Vec<DeviceCost> {
        let cost = |(name, device): (&String, &DevicePrice)| {
            let rate = device.tflops.map_or(ASSUMED_RATE, |tflops| tflops * 1e12);
            let hours = operations / rate / 3600.0;
            DeviceCost {
                device: name.clone(),
                hours,
                price: hours * device.per_hour,
                fits: fits(device.memory),
            }
        };
        let mut costs: Vec<DeviceCost> = self.devices.iter().map(cost).collect();
        costs.sort_by(|a, b| a.price.total_cmp(&b.price).then_with(|| a.device.cmp(&b.device)));
        costs
    }

    /// Returns the cost of all runs of a plan on each device; None if the data is not counted.
    pub fn costs_of_plan(&self, estimates: &[CardEstimate]) -> Option<Vec<DeviceCost>> {
        let operations = estimates
            .iter()
            .map(|estimate| Some(estimate.completions? * estimate.operations))
            .sum::<Option<f64>>()?;
        Some(self.costs(operations, |memory| {
            let card = CARDS.iter().rposition(|card| *card <= memory);
            estimates.iter().all(|estimate| {
                let fit = card.and_then(|card| estimate.cards.get(card));
                matches!(fit, Some(CardFit::AsSet(_)))
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prices_in_the_binary_are_valid_and_marked_as_examples() {
        let prices = PricesFile::open(None).unwrap();
        assert!(prices.note.contains("example") && prices.devices.len() == CARDS.len());
        // 3e14 operations a second for an hour.
        let costs = prices.costs(ASSUMED_RATE * 3600.0, |memory| memory > 24);
        assert_eq!((costs[0].hours, costs[0].price, costs[0].fits), (1.0, 0.5, false));
        assert!(costs.windows(2).all(|two| two[0].price <= two[1].price));
    }

    #[test]
    fn prices_of_a_file_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let open = |devices: &str| {
            let path = folder.path().join("prices.yaml");
            fs_err::write(&path, format!("as_of: today\ncurrency: EUR\nnote: ours\ndevices: {devices}\n"))
                .unwrap();
            PricesFile::open(Some(&path))
        };
        let own = open("{ ours: { memory: 80, per_hour: 2, tflops: 150 } }").unwrap();
        let costs = own.costs(3.0 * ASSUMED_RATE * 3600.0, |_| true);
        assert_eq!((costs[0].hours, costs[0].price), (6.0, 12.0));
        for (devices, words) in [
            ("{}", "`devices` is empty"),
            ("{ ours: { memory: 80, per_hour: 0 } }", "`devices.ours.per_hour` must be a number above 0"),
            ("{ ours: { memory: 80, price: 2 } }", "price"),
        ] {
            assert!(open(devices).unwrap_err().to_string().contains(words), "{devices}");
        }
    }
}
