//! Full disks, failing disks, interrupted and short writes, at every call that can fail.

use super::*;

/// A fault: calls, errno (0 for a short write), number of failing calls (0 for all from then on),
/// and words of the advice; none if the command succeeds all the same.
struct Fault {
    name: &'static str,
    calls: &'static str,
    errno: i32,
    times: usize,
    advice: Option<&'static str>,
}

/// ENOSPC, EIO, EINTR and a short write.
const FAULTS: [Fault; 5] = [
    Fault {
        name: "full disk",
        calls: "open,write,mkdir,link,rename",
        errno: 28,
        times: 0,
        advice: Some("free some space"),
    },
    Fault {
        name: "failing disk",
        calls: "write,fsync,rename",
        errno: 5,
        times: 1,
        advice: Some("check the disk"),
    },
    Fault { name: "failing sync", calls: "fsync", errno: 5, times: 0, advice: Some("check the disk") },
    Fault { name: "interrupted write", calls: "write,fsync,open", errno: 4, times: 1, advice: None },
    Fault { name: "short write", calls: "write", errno: 0, times: 0, advice: None },
];

/// Commands, with the folder that they need.
const COMMANDS: [(&str, bool); 4] = [
    ("prepare data.yaml", false),
    ("sweep experiment.yaml", false),
    ("report experiment --export paper", true),
    ("judge experiment --reward-model model.yaml --set max_length=160 --set num_train_epochs=1", true),
];

/// Returns a folder for the command, and its files after an undisturbed call.
fn undisturbed(command: &str, needs_sweep: bool) -> (Place, BTreeMap<String, Vec<u8>>) {
    let (before, whole) = (place(), Place::new());
    if needs_sweep {
        let run = before.run("sweep experiment.yaml");
        assert_eq!(run.code, Some(0), "{run}");
    }
    copy(&before.path("."), &whole.path("."));
    let run = whole.run(command);
    assert_eq!(run.code, Some(0), "{run}");
    (before, files(&whole.path("")))
}

/// Counts the calls of an undisturbed command that a fault can hit.
fn count(before: &Place, command: &str, fault: &Fault) -> usize {
    let place = Place::new();
    copy(&before.path("."), &place.path("."));
    let counts = place.path("").with_extension("count");
    let variables =
        shim::variables(&place, &[("SHIM_CALLS", fault.calls), ("SHIM_COUNT", counts.to_str().unwrap())]);
    let (code, said) = end_within(start(&place, command, &variables), Duration::from_mins(2));
    assert_eq!(code, Some(0), "{said}");
    let count = fs_err::read_to_string(&counts).unwrap().trim().parse().unwrap();
    fs_err::remove_file(counts).unwrap();
    count
}

/// Runs the command with the fault at a call, checks what it says, and repeats it without.
fn disturb(before: &Place, after: &BTreeMap<String, Vec<u8>>, command: &str, fault: &Fault, at: usize) {
    let what = format!("{command}, {} at call {at}", fault.name);
    let place = Place::new();
    copy(&before.path("."), &place.path("."));
    let [at, errno, times] = [at, fault.errno as usize, fault.times].map(|number| number.to_string());
    let variables = shim::variables(
        &place,
        &[("SHIM_CALLS", fault.calls), ("SHIM_AT", &at), ("SHIM_ERROR", &errno), ("SHIM_TIMES", &times)],
    );
    let (code, said) = end_within(start(&place, command, &variables), Duration::from_mins(2));
    assert!(!said.contains("panicked"), "{what}: {said}");
    match fault.advice {
        None => assert_eq!(code, Some(0), "{what}: {said}"),
        // Some files are not needed for the result: released claims, and tables in other formats.
        Some(_) if code == Some(0) => {}
        Some(advice) => {
            assert_eq!(code, Some(1), "{what}: {said}");
            let named = ["experiment", "data", "runs", "reports", "paper", "write-test"];
            let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
            assert!(named.iter().any(|name| error.contains(name)), "{what} names no file: {said}");
            assert!(said.contains(advice), "{what}: {said}");
        }
    }
    let since = Instant::now();
    let run = place.run(command);
    assert_eq!(run.code, Some(0), "{what}: {run}");
    assert!(since.elapsed() < Duration::from_secs(30), "{what}: blocked for {:?}", since.elapsed());
    assert_same(after, &place, &what);
}

#[test]
fn faults_of_the_file_system_are_named_and_nothing_is_lost() {
    let points = number("PROSPECT_FAULTS", 8);
    // Every command with every fault, in a drawn order; the first ones get one point more.
    let pairs = COMMANDS.len() * FAULTS.len();
    let order = Draw::new(number("PROSPECT_CHAOS_SEED", 0) as u64, "faults").permutation(pairs);
    for (index, (command, needs_sweep)) in COMMANDS.iter().enumerate() {
        let of_command = FAULTS.iter().enumerate().map(|(number, fault)| {
            let place = order.iter().position(|pair| *pair == index * FAULTS.len() + number).unwrap();
            (fault, points / pairs + usize::from(place < points % pairs))
        });
        let of_command: Vec<_> = of_command.filter(|(_, share)| *share > 0).collect();
        if of_command.is_empty() {
            continue;
        }
        let (before, after) = undisturbed(command, *needs_sweep);
        for (fault, share) in of_command {
            let calls = count(&before, command, fault);
            assert!(calls > 0, "{command}: no call for {}", fault.name);
            for point in 0..share.min(calls) {
                // One call of each of as many equal parts of the calls.
                let part = calls as f64 / share.min(calls) as f64;
                let within = fraction(&["fault", command, fault.name, &point.to_string()]);
                let at = 1 + ((point as f64 + within) * part) as usize;
                disturb(&before, &after, command, fault, at.min(calls));
            }
            if points > 20 {
                eprintln!("{command}: {} at {} of {calls} calls", fault.name, share.min(calls));
            }
        }
    }
}

#[test]
fn a_claim_that_a_full_disk_left_empty_does_not_block_the_next_call() {
    let place = place();
    // The first write below the claims is that of the holder.
    let claims = place.path("").canonicalize().unwrap().join("runs/experiment/claims");
    let mut variables = shim::variables(
        &place,
        &[("SHIM_CALLS", "write"), ("SHIM_AT", "1"), ("SHIM_ERROR", "28"), ("SHIM_TIMES", "0")],
    );
    variables.retain(|(name, _)| *name != "SHIM_ROOT");
    variables.push(("SHIM_ROOT", claims.display().to_string()));
    let (code, said) = end_within(start(&place, "sweep experiment.yaml", &variables), Duration::from_mins(1));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("claims") && said.contains("No space left on device"), "{said}");
    assert!(said.contains("free some space or raise the quota, then run the same command again"), "{said}");
    for claim in fs_err::read_dir(&claims).unwrap() {
        assert_eq!(fs_err::read_dir(claim.unwrap().path()).unwrap().count(), 0, "no claim without a holder");
    }
    let since = Instant::now();
    // Another machine, which cannot ask for locks.
    let run = place.run_with("sweep experiment.yaml", &[("PROSPECT_HOST", "other")]);
    assert_eq!(run.code, Some(0), "{run}");
    assert!(since.elapsed() < Duration::from_secs(30), "{:?}: {run}", since.elapsed());
}

#[test]
fn a_limit_of_file_sizes_is_an_error_with_advice() {
    let commands = [
        ("prepare data.yaml", "data/data"),
        ("sweep experiment.yaml", "runs/experiment"),
        ("report experiment", "runs/experiment/report"),
    ];
    let before = place();
    for (command, writes) in commands {
        let mut failed = 0;
        let whole = Place::new();
        copy(&before.path("."), &whole.path("."));
        assert_eq!(whole.run(command).code, Some(0));
        // Blocks of 512 bytes.
        for blocks in [1, 8, 40, 100] {
            let here = Place::new();
            copy(&before.path("."), &here.path("."));
            let limited = start_limited(&here, &format!("ulimit -f {blocks}"), command);
            let (code, said) = end_within(limited, Duration::from_mins(1));
            if code != Some(0) {
                failed += 1;
                assert_eq!(code, Some(1), "{command}, {blocks} blocks: {said}");
                let error = said.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
                let names_a_file = ["data", "runs"].iter().any(|folder| error.contains(folder));
                assert!(names_a_file, "{command}, {blocks} blocks: {said}");
                assert!(said.contains("raise the limit of file sizes (`ulimit -f`)"), "{said}");
            }
            assert_eq!(here.run(command).code, Some(0));
            assert_same(&files(&whole.path("")), &here, &format!("{command}, {blocks} blocks"));
        }
        assert!(failed > 1, "{command}: {failed}");
        assert!(whole.path(writes).exists());
        assert_eq!(before.run(command).code, Some(0));
    }
}

#[test]
fn a_full_disk_below_any_figure_is_named_with_advice() {
    let place = place();
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
    let figures = place.path("").canonicalize().unwrap().join("runs/experiment/report/figures");
    let mut failed = 0;
    for at in ["1", "2", "3", "5", "8", "13", "21"] {
        let mut variables = shim::variables(
            &place,
            &[("SHIM_CALLS", "open,write"), ("SHIM_AT", at), ("SHIM_ERROR", "28"), ("SHIM_TIMES", "0")],
        );
        variables.retain(|(name, _)| *name != "SHIM_ROOT");
        variables.push(("SHIM_ROOT", figures.display().to_string()));
        let (code, said) = end_within(start(&place, "report experiment", &variables), Duration::from_mins(1));
        if code == Some(0) {
            continue;
        }
        failed += 1;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("report/figures/"), "call {at}: {said}");
        assert!(said.contains("free some space or raise the quota"), "call {at}: {said}");
        let run = place.run("report experiment");
        assert_eq!(run.code, Some(0), "{run}");
    }
    assert!(failed > 4, "{failed}");
}

#[test]
fn a_run_whose_folder_vanishes_is_not_finished_without_its_files() {
    let place = place();
    let experiment = EXPERIMENT.replace("max_steps: 6", "max_steps: 400");
    place.write("experiment.yaml", experiment);
    let child = start(&place, "sweep experiment.yaml --jobs 1", &[]);
    let folder = place.path("runs/experiment/runs");
    let deadline = Instant::now() + Duration::from_mins(1);
    let run = loop {
        assert!(Instant::now() < deadline);
        let runs = fs_err::read_dir(&folder).into_iter().flatten().flatten();
        // Only a run evaluates, and the second line of metrics is behind its first step.
        let is_training = |run: &PathBuf| {
            let metrics = fs_err::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
            metrics.contains("eval_") && metrics.lines().count() > 1
        };
        match runs.map(|run| run.path()).find(is_training) {
            Some(run) => break run,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    fs_err::remove_dir_all(&run).or_else(|_| fs_err::remove_dir_all(&run)).unwrap();
    let (code, said) = end_within(child, Duration::from_mins(3));
    let again = place.run("sweep experiment.yaml --retry-failed");
    assert_eq!(again.code, Some(0), "{said}\n{again}");
    assert!(code == Some(1) && said.contains("failed"), "{said}");
    let whole = fs_err::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(whole.lines().filter(|line| line.contains("\"train\"")).count(), 400, "{said}");
}
