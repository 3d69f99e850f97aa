//! Too little memory: an error and an exit code, and the same command goes on later.

use super::*;

#[test]
fn too_little_memory_ends_with_a_message_and_nothing_is_lost() {
    let (undisturbed, steps) = (place(), number("PROSPECT_MEMORY_LIMITS", 8));
    let command = "sweep experiment.yaml";
    let run = undisturbed.run(command);
    assert_eq!(run.code, Some(0), "{run}");
    let expected = files(&undisturbed.path(""));
    let mut here = place();
    let mut refused = 0;
    for step in 0..steps {
        // Below, the system cannot even load the program.
        let (low, high) = (180.0, 1400.0);
        let mebibytes =
            low + (high - low) * (step as f64 + fraction(&["memory", &step.to_string()])) / steps as f64;
        let kibibytes = (1024.0 * mebibytes) as usize;
        let (code, said) = end_within(
            start_limited(&here, &format!("ulimit -v {kibibytes}"), command),
            Duration::from_mins(2),
        );
        match code {
            Some(0) => {
                assert_same(&expected, &here, "with enough memory in the end");
                here = place();
            }
            Some(1) => {
                refused += 1;
                assert!(said.contains("error: "), "{kibibytes} KiB: {said}");
                assert!(said.contains("run the same command again"), "{kibibytes} KiB: {said}");
            }
            code => panic!("{kibibytes} KiB: {code:?}: {said}"),
        }
    }
    assert!(refused > 0, "some limits are too low");
    let run = here.run(command);
    assert_eq!(run.code, Some(0), "{run}");
    assert_same(&expected, &here, "after little memory");
    if steps > 8 {
        eprintln!("{steps} limits of memory: refused {refused} times");
    }
}
