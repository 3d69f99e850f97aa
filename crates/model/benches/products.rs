//! Separate against merged projections. Times the projections of a block of SmolLM2-135M's shape
//! (q, k and v; gate and up), forward and for the gradient of the input, in alternation.
//!
//!     cargo bench --workspace --bench products -- [rows]
//!
//! Excluded costs: adding the parts of a gradient of separate projections, and splitting the
//! results of merged ones.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark"
)]

use std::time::Instant;

use candle_core::{DType, Device, Tensor};

const HIDDEN: usize = 576;

fn ones(rows: usize, columns: usize) -> Tensor {
    Tensor::ones((rows, columns), DType::F32, &Device::Cpu).unwrap()
}

/// Returns the median seconds of each of `works`, run in turns.
fn medians(works: [&dyn Fn(); 2]) -> [f64; 2] {
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..41 {
        for (work, seconds) in works.iter().zip(&mut seconds) {
            let start = Instant::now();
            work();
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    seconds.map(|mut seconds| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    })
}

fn main() {
    let rows = std::env::args().skip(1).find(|argument| argument != "--bench");
    let rows = rows.map_or(1024, |rows| rows.parse().expect("a number of rows"));
    let x = ones(rows, HIDDEN);
    for (name, outputs) in [("q, k, v", vec![576, 192, 192]), ("gate, up", vec![1536, 1536])] {
        let parts: Vec<Tensor> = outputs.iter().map(|output| ones(*output, HIDDEN)).collect();
        let merged = Tensor::cat(&parts, 0).unwrap();
        let forward = |weights: &[Tensor]| {
            for weight in weights {
                x.matmul(&weight.t().unwrap()).unwrap();
            }
        };
        let grads: Vec<Tensor> = outputs.iter().map(|output| ones(rows, *output)).collect();
        let grad = ones(rows, outputs.iter().sum());
        let backward = |grads: &[Tensor], weights: &[Tensor]| {
            for (grad, weight) in grads.iter().zip(weights) {
                grad.matmul(weight).unwrap();
            }
        };
        let whole = std::slice::from_ref(&merged);
        let results = [
            ("forward", medians([&|| forward(&parts), &|| forward(whole)])),
            (
                "backward",
                medians([&|| backward(&grads, &parts), &|| backward(std::slice::from_ref(&grad), whole)]),
            ),
        ];
        for (pass, [apart, together]) in results {
            println!(
                "{name}, {pass}, {rows} rows: apart {:.2} ms, merged {:.2} ms, ratio {:.3}",
                1e3 * apart,
                1e3 * together,
                together / apart
            );
        }
    }
}
