//! Checks of the kernels against their twins, on any machine that runs them.
//!
//! A result may differ from its f64 twin by the rounding of its own type, and by what f32 arithmetic adds on the way: a
//! number of units (2⁻²⁴) of the largest result, stated beside each check with its reason. Where the bits must agree, they
//! are compared.

mod activation;
mod adamw;
mod argument;
mod attention;
mod compare;
mod dequantise;
mod log_prob;
mod norm;
mod rotary;

pub use argument::Argument;
use argument::Input;
pub(crate) use compare::numbers;
use compare::{Draws, difference, error, error_beside, largest_share};
#[cfg(test)]
pub(crate) use compare::{assert_derivative, dot};

use crate::{Element, Kernel, KernelError, Launch};

/// What runs kernels: a GPU, or an emulation of one.
pub trait Machine {
    /// Runs a kernel. Buffers are device memory: what the kernel leaves in them is read back into `arguments`, which are
    /// in the order of [`Kernel::parameters`]. The launch is not empty.
    fn run(&mut self, kernel: &Kernel, launch: &Launch, arguments: &mut [Argument]) -> Result<(), String>;
}

/// What became of one check.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The kernel's entry.
    pub entry: String,
    /// Shape and options.
    pub case: String,
    /// The largest error as a share of what is allowed: at most 1 if the check passed. Or why it could not be run.
    pub outcome: Result<f64, String>,
}

impl Check {
    /// Whether the kernel computes what its twin does.
    pub fn passed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|error| *error <= 1.0)
    }
}

/// Checks every kernel.
pub fn all(machine: &mut dyn Machine) -> Vec<Check> {
    let mut bench = Bench { machine, checks: Vec::new() };
    for element in Element::ALL {
        norm::check(&mut bench, element);
        rotary::check(&mut bench, element);
        activation::check(&mut bench, element);
        log_prob::check(&mut bench, element);
        adamw::check(&mut bench, element);
        dequantise::check(&mut bench, element);
        attention::check(&mut bench, element);
    }
    bench.checks
}

/// Runs kernels and notes what comes of it.
struct Bench<'a> {
    machine: &'a mut dyn Machine,
    checks: Vec<Check>,
}

impl Bench<'_> {
    /// Runs a kernel and compares what it leaves in its buffers.
    fn check(
        &mut self,
        kernel: &Kernel,
        case: String,
        launch: Result<Launch, KernelError>,
        arguments: Vec<Argument>,
        error: impl FnOnce(&[Argument]) -> f64,
    ) {
        let outcome = self.run(kernel, launch, arguments).map(|arguments| error(&arguments));
        self.note(kernel, case, outcome);
    }

    fn note(&mut self, kernel: &Kernel, case: String, outcome: Result<f64, String>) {
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
            return Err(format!("arguments do not fit {}", kernel.signature()));
        }
        if !launch.is_empty() {
            self.machine.run(kernel, &launch, &mut arguments)?;
        }
        Ok(arguments)
    }
}
