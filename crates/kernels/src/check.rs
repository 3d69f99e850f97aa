//! Checks of the kernels against their twins, on any machine that runs kernels.
//!
//! The tolerance of a result is the rounding of its own type plus the error of f32 arithmetic: a
//! number of units (2⁻²⁴) of the largest result, stated in each check with its reason. AdamW and
//! dequantisation must agree to the bit.

mod activation;
mod adamw;
mod argument;
mod attention;
mod compare;
mod dequantise;
mod log_prob;
mod norm;
mod random;
mod rotary;
mod squares;

pub use argument::Argument;
use argument::TwinInput;
#[cfg(test)]
pub(crate) use compare::{assert_derivative, dot};
use compare::{bit_difference, error, error_with_cancellation, max_relative_error};
use random::SplitMix64;
pub(crate) use random::random_values;

use crate::{Element, Kernel, KernelError, Launch};

/// Machine that runs kernels: a GPU or its emulation.
pub trait Machine {
    /// Runs a kernel and reads its buffers back into `arguments`.
    ///
    /// `arguments` follow [`Kernel::parameters`]. The launch is not empty.
    fn run(&mut self, kernel: &Kernel, launch: &Launch, arguments: &mut [Argument]) -> Result<(), String>;
}

/// Result of one check.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Entry of the kernel.
    pub entry: String,
    /// Shape and options of the test case.
    pub case: String,
    /// Largest error divided by the tolerance, at most 1 if the check passed; or the reason that it
    /// did not run.
    pub outcome: Result<f64, String>,
}

impl Check {
    /// Returns true if the kernel agrees with its twin.
    pub fn passed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|error| *error <= 1.0)
    }
}

/// Checks all kernels.
pub fn all(machine: &mut dyn Machine) -> Vec<Check> {
    let mut runner = CheckRunner { machine, checks: Vec::new() };
    for element in Element::ALL {
        norm::check(&mut runner, element);
        rotary::check(&mut runner, element);
        activation::check(&mut runner, element);
        log_prob::check(&mut runner, element);
        adamw::check(&mut runner, element);
        squares::check(&mut runner, element);
        dequantise::check(&mut runner, element);
        attention::check(&mut runner, element);
    }
    runner.checks
}

/// Runs kernels and collects the results.
struct CheckRunner<'a> {
    machine: &'a mut dyn Machine,
    checks: Vec<Check>,
}

impl CheckRunner<'_> {
    /// Runs a kernel and records the error of its buffers.
    fn check(
        &mut self,
        kernel: &Kernel,
        case: String,
        launch: Result<Launch, KernelError>,
        arguments: Vec<Argument>,
        error: impl FnOnce(&[Argument]) -> f64,
    ) {
        let outcome = self.run(kernel, launch, arguments).map(|arguments| error(&arguments));
        self.record(kernel, case, outcome);
    }

    fn record(&mut self, kernel: &Kernel, case: String, outcome: Result<f64, String>) {
        self.checks.push(Check { entry: kernel.entry.clone(), case, outcome });
    }

    fn run(
        &mut self,
        kernel: &Kernel,
        launch: Result<Launch, KernelError>,
        mut arguments: Vec<Argument>,
    ) -> Result<Vec<Argument>, String> {
        let launch = launch.map_err(|error| error.to_string())?;
        let parameters = &kernel.parameters;
        let fits =
            parameters.iter().zip(&arguments).all(|(parameter, argument)| argument.fits(parameter.kind));
        if arguments.len() != parameters.len() || !fits {
            return Err(format!("arguments do not match {}", kernel.signature()));
        }
        if !launch.is_empty() {
            self.machine.run(kernel, &launch, &mut arguments)?;
        }
        Ok(arguments)
    }
}
