//! The same files from the same inputs, with any number of threads.

use super::*;

/// Runs the sweep, and the demo if `with_demo`, on a number of threads.
fn run_on(threads: &str, with_demo: bool) -> BTreeMap<String, Vec<u8>> {
    let place = place();
    for command in ["sweep experiment.yaml", "demo --out demo"].iter().take(1 + usize::from(with_demo)) {
        let run = place.run_with(command, &[("RAYON_NUM_THREADS", threads)]);
        assert_eq!(run.code, Some(0), "{threads} threads: {run}");
    }
    files(&place.path(""))
}

#[test]
fn demo_and_sweep_give_the_same_bytes_on_one_two_and_three_threads() {
    // The demo takes most of the time: by default on one and three threads only.
    let is_long = number("PROSPECT_DETERMINISM", 0) > 0;
    let first = run_on("1", true);
    assert!(first.len() > 100, "{:?}", first.keys());
    for (threads, with_demo) in [("3", true), ("2", is_long), ("2", is_long)] {
        let other = run_on(threads, with_demo);
        // The list of reports names the demo too.
        let is_of_other = |name: &&String| with_demo || name.starts_with("runs/");
        let expected: Vec<&String> = first.keys().filter(is_of_other).collect();
        assert_eq!(expected, other.keys().filter(is_of_other).collect::<Vec<_>>(), "{threads} threads");
        for name in expected {
            assert!(first[name] == other[name], "{threads} threads: {name} differs");
        }
    }
}
