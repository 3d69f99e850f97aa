//! Coverage of our intervals and family-wise error of our verdicts, in simulated sweeps.
//!
//! `cargo run --release -p prospect-analysis --example simulate [SWEEPS] [WORDS]` prints one line
//! for each design, and the outcomes of comparisons in stages; SWEEPS is the number of simulated
//! sweeps of each (default 1000). With WORDS, only the designs whose descriptions contain them are
//! simulated, as in `300 "S 2"` or `300 stages`.

#![expect(clippy::print_stdout, reason = "the table is the program's output")]

mod stages;
mod study;

use std::{fmt::Write as _, num::NonZeroUsize, thread};

use stages::{Comparison, Outcomes, simulate_stages};
use study::{Coverage, SeedVariation, Tally, World, simulate};

fn main() {
    let sweeps = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1000);
    let words = std::env::args().nth(2).unwrap_or_default();
    print_stages(sweeps, &words);
    println!("coverage of 95 % intervals in %, ± mean half-width in points; family-wise error in %");
    let mut worst: Vec<(f64, String)> = Vec::new();
    let mut lucky = Coverage::default();
    for world in worlds().into_iter().filter(|world| describe(world).contains(&words)) {
        let tally = parallel(sweeps, |count, seed| simulate(&world, count, seed));
        let name = describe(&world);
        println!("{name} | {}", results(&world, &tally));
        if tally.difference.intervals > 0 {
            worst.push((tally.difference.share(), name));
        }
        lucky.merge(&tally.lucky);
    }
    worst.sort_by(|a, b| a.0.total_cmp(&b.0));
    println!("least coverage of ordinary differences:");
    for (share, name) in worst.iter().take(5) {
        println!("{:5.1} {name}", 100.0 * share);
    }
    println!("all differences with lucky seeds: {:5.1}", 100.0 * lucky.share());
}

/// Prints the outcomes of comparisons in stages: two and four methods that are alike, or where
/// one is better or worse, in one call and continued in a second one.
fn print_stages(comparisons: u64, words: &str) {
    println!(
        "comparisons in stages: recommendations in %, and trained runs in % of all seeds of all methods"
    );
    let calls: [&[&[usize]]; 3] = [&[&[3, 6, 8]], &[&[3, 8, 12]], &[&[3, 6, 8], &[12, 16]]];
    for calls in calls {
        for (prompts, variance) in [
            (100, SeedVariation::Low),
            (400, SeedVariation::Low),
            (400, SeedVariation::High),
            (400, SeedVariation::Least),
        ] {
            for accuracies in [
                &[0.65, 0.65][..],
                &[0.65, 0.70],
                &[0.65, 0.60],
                &[0.65, 0.65, 0.65, 0.65],
                &[0.65, 0.70, 0.65, 0.60],
                &[0.65, 0.60, 0.60, 0.58],
            ] {
                let world = World { prompts, variance, ..World::PLAIN };
                let comparison = Comparison { world, accuracies, calls };
                let name = format!("stages {accuracies:.2?} P {prompts} {variance:?} looks {calls:?}");
                if name.contains(words) {
                    let outcomes =
                        parallel(comparisons, |count, seed| simulate_stages(&comparison, count, seed));
                    println!("{name} | {}", describe_outcomes(&outcomes));
                }
            }
        }
    }
}

fn describe_outcomes(outcomes: &Outcomes) -> String {
    format!(
        "right {:5.1} wrong {:4.1} inconclusive {:5.1} | runs {:5.1}",
        100.0 * outcomes.share(outcomes.right),
        100.0 * outcomes.share(outcomes.wrong),
        100.0 * outcomes.share(outcomes.open),
        100.0 * outcomes.runs as f64 / outcomes.full_runs as f64
    )
}

/// The designs: accuracy × prompts × seeds × variance, for two and for eleven methods; then methods
/// and values of x whose seeds vary more.
fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for methods in [2, 11] {
        for variance in [SeedVariation::Low, SeedVariation::High] {
            for accuracy in [0.5, 0.6, 0.95] {
                for prompts in [43, 200, 480] {
                    for seeds in [2, 3, 5, 8] {
                        worlds.push(World { methods, seeds, prompts, accuracy, variance, ..World::PLAIN });
                    }
                }
            }
        }
    }
    for (outlier, outlier_is_baseline) in [(0.1, false), (0.2, false), (0.4, false), (0.4, true)] {
        for seeds in [2, 3, 5, 8] {
            for prompts in [43, 480] {
                worlds.push(World { seeds, prompts, outlier, outlier_is_baseline, ..World::PLAIN });
            }
        }
    }
    for methods in [2, 11] {
        for seeds in [2, 3, 5] {
            let (variance, accuracy, prompts) = (SeedVariation::Least, 0.68, 300);
            worlds.push(World { methods, seeds, prompts, accuracy, variance, ..World::PLAIN });
        }
    }
    for x_spread in [1.0, 2.0, 4.0] {
        for methods in [2, 5] {
            for seeds in [3, 5] {
                worlds.push(World { xs: 3, x_spread, methods, seeds, ..World::PLAIN });
            }
        }
    }
    worlds
}

/// Results of simulations that are split over threads.
trait Merge: Default + Send {
    fn merge(&mut self, other: &Self);
}

impl Merge for Tally {
    fn merge(&mut self, other: &Self) {
        Self::merge(self, other);
    }
}

impl Merge for Outcomes {
    fn merge(&mut self, other: &Self) {
        Self::merge(self, other);
    }
}

/// Runs `count` simulations on all processors. Each thread simulates a part with its own seed.
fn parallel<T: Merge>(count: u64, simulate: impl Fn(u64, u64) -> T + Sync) -> T {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get) as u64;
    let share = count.div_ceil(threads);
    let mut total = T::default();
    let simulate = &simulate;
    thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|part| scope.spawn(move || simulate(share, part))).collect();
        for part in parts {
            if let Ok(tally) = part.join() {
                total.merge(&tally);
            }
        }
    });
    total
}

fn describe(world: &World) -> String {
    let World { methods, xs, x_spread, seeds, prompts, accuracy, variance, outlier, outlier_is_baseline } =
        world;
    let variance = match variance {
        SeedVariation::Low => "low",
        SeedVariation::High => "high",
        SeedVariation::Least => "least",
    };
    let mut text = format!("{accuracy:.2} P {prompts:3} S {seeds} {variance:5} K {methods:2}");
    if *xs > 1 {
        let _ = write!(text, " x {xs} spread {x_spread}");
    }
    if *outlier > 0.0 {
        let _ = write!(text, " outlier {outlier}{}", if *outlier_is_baseline { " (baseline)" } else { "" });
    }
    text
}

fn results(world: &World, tally: &Tally) -> String {
    let text = |name: &str, coverage: &Coverage| {
        if coverage.intervals == 0 {
            return String::new();
        }
        format!(" {name} {:5.1} ±{:5.1}", 100.0 * coverage.share(), 100.0 * coverage.half_width())
    };
    let lucky = 100.0 * tally.lucky.intervals as f64
        / (tally.sweeps * (world.xs * (world.methods - 1)) as u64) as f64;
    format!(
        "{}{}{}{}{}{}{} FWER {:4.1} ({lucky:.1} % lucky)",
        text("alone", &tally.alone),
        text("accuracy", &tally.accuracy),
        text("difference", &tally.difference),
        text("lucky", &tally.lucky),
        text("outlier", &tally.outlier),
        text("smoothed", &tally.smoothed),
        text("at Holm's level", &tally.holm),
        100.0 * tally.family_error()
    )
}
