//! Coverage of our intervals and family-wise error of our verdicts, in simulated sweeps.
//!
//! `cargo run --release -p prospect-analysis --example simulate [SWEEPS] [WORDS]` prints one line
//! for each design; SWEEPS is the number of simulated sweeps of each (default 1000). With WORDS,
//! only the designs whose descriptions contain them are simulated, as in `300 "S 2"`.

#![expect(clippy::print_stdout, reason = "the table is the program's output")]

mod study;

use std::{fmt::Write as _, num::NonZeroUsize, thread};

use study::{Coverage, SeedVariation, Tally, World, simulate};

fn main() {
    let sweeps = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1000);
    let words = std::env::args().nth(2).unwrap_or_default();
    println!("coverage of 95 % intervals in %, ± mean half-width in points; family-wise error in %");
    let mut worst: Vec<(f64, String)> = Vec::new();
    let mut lucky = Coverage::default();
    for world in worlds().into_iter().filter(|world| describe(world).contains(&words)) {
        let tally = parallel(&world, sweeps);
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

fn parallel(world: &World, sweeps: u64) -> Tally {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get) as u64;
    let share = sweeps.div_ceil(threads);
    let mut total = Tally::default();
    thread::scope(|scope| {
        let parts: Vec<_> =
            (0..threads).map(|part| scope.spawn(move || simulate(world, share, part))).collect();
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
