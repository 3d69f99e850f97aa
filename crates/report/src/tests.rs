//! Tests that render reports of synthetic sweeps.

mod figures;
mod fixture;
mod pages;
mod support;
