//! Tests that render reports of synthetic sweeps.

mod figures;
mod fixture;
mod pages;
mod retention;
mod support;

pub(crate) use self::fixture::{DEFAULT, SyntheticSweep};
