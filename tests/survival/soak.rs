//! Many runs: plans, long processes, reports, and many workers over a poor network file system.

use super::*;

/// An experiment of many runs of one step.
fn many(runs: usize) -> String {
    let seeds: Vec<String> = (0..runs.div_ceil(2)).map(|seed| seed.to_string()).collect();
    format!(
        "question: Does it last?\ndata: data.yaml\nmodel: model.yaml\n\
         train: {{ learning_rate: 1e-3, max_steps: 1, batch_size: 2, max_length: 96, max_prompt_length: 60 }}\n\
         linked: {{ method: {{ dpo: {{ train.objective: dpo }}, kto: {{ train.objective: kto }} }} }}\n\
         matrix: {{ train.beta: [0.1] }}\nseeds: [{}]\nevaluate: {{ pairs: 4 }}\n\
         report: {{ x: train.beta, series: method, baseline: dpo }}\n",
        seeds.join(", ")
    )
}

/// Returns a folder with an experiment of many runs.
fn place_of(runs: usize) -> Place {
    let place = place();
    place.write("experiment.yaml", many(runs));
    place.write(
        "data.yaml",
        "source: { kind: synthetic, pairs: 20, world: { domains: [home] } }\nsplit: { test_fraction: 0.3 }\n",
    );
    place
}

/// Peak of resident memory of a finished command in bytes, with its exit code, time and output.
fn measured(place: &Place, args: &str) -> (u64, Duration, String) {
    let since = Instant::now();
    let child = start(place, args, &[]);
    let status = format!("/proc/{}/status", child.id());
    let peak = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (seen, stop) = (peak.clone(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stopped = stop.clone();
    let watch = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            if let Some(bytes) = field(&status, "VmHWM:") {
                seen.fetch_max(bytes, std::sync::atomic::Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let (code, said) = end_within(child, Duration::from_hours(6));
    let took = since.elapsed();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    watch.join().unwrap();
    assert_eq!(code, Some(0), "{said}");
    (peak.load(std::sync::atomic::Ordering::Relaxed), took, said)
}

/// Reads a value of `/proc/PID/status` in bytes.
fn field(file: &str, name: &str) -> Option<u64> {
    let text = fs_err::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(1024 * line.split_whitespace().next()?.parse::<u64>().ok()?)
}

#[test]
fn a_plan_of_ten_thousand_runs_takes_a_second_and_little_memory() {
    let place = place_of(10_000);
    let since = Instant::now();
    let mut child = start(&place, "sweep experiment.yaml --dry-run", &[]);
    let mut stdout = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut text).map(|_| text)
    });
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(field(&status, "VmHWM:").unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = since.elapsed();
    let text = reader.join().unwrap().unwrap();
    assert!(text.contains("10000 runs over 1 dataset"), "{}", &text[..text.len().min(300)]);
    eprintln!("plan of 10000 runs: {took:?}, peak {} MB", peak / 1_000_000);
    // Other tests run beside this one; on an idle machine it takes less than a second.
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert!(peak < 200_000_000, "{peak}");
}

#[test]
fn many_runs_in_one_process_keep_memory_and_files_flat() {
    let runs = number("PROSPECT_SOAK_RUNS", 100);
    let place = place_of(runs);
    let child = start(&place, "sweep experiment.yaml --jobs 1", &[]);
    let pid = child.id();
    let folder = place.path("runs/experiment/runs");
    let waiter = std::thread::spawn(move || end_within(child, Duration::from_hours(12)));
    // Resident memory and open files by the number of runs that have begun.
    let mut samples: Vec<(usize, u64, usize)> = Vec::new();
    while !waiter.is_finished() {
        let begun = fs_err::read_dir(&folder).map_or(0, Iterator::count);
        let resident = field(&format!("/proc/{pid}/status"), "VmRSS:");
        let open = fs_err::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        if let Some(resident) = resident.filter(|_| begun > 0 && begun < runs && open > 0) {
            samples.push((begun, resident, open));
        }
        std::thread::sleep(Duration::from_millis(if runs > 100 { 500 } else { 10 }));
    }
    let (code, said) = waiter.join().unwrap();
    assert_eq!(code, Some(0), "{said}");
    // The first fifth fills caches and the heap.
    let most = |from: f64, to: f64| {
        let within = |begun: usize| (from..to).contains(&(begun as f64 / runs as f64));
        let some = samples.iter().filter(|(begun, ..)| within(*begun));
        some.fold((0, 0), |(memory, open), sample| (memory.max(sample.1), open.max(sample.2)))
    };
    let (early, late) = (most(0.2, 0.4), most(0.8, 1.0));
    eprintln!(
        "{runs} runs: {} MB and {} open files at first, {} MB and {} open files at last",
        early.0 / 1_000_000,
        early.1,
        late.0 / 1_000_000,
        late.1
    );
    assert!(late.0 < early.0 + early.0 / 10 + 10_000_000, "{early:?} {late:?}");
    assert!(late.1 <= early.1 + 4, "{early:?} {late:?}");
    let page = fs_err::metadata(place.path("runs/experiment/report/index.html")).unwrap().len();
    eprintln!("report of {runs} runs: {page} bytes");
    assert!(page < 8_000_000, "{page}");
}

/// Returns a folder with a finished sweep of many runs: those of a small one, copied under the ids
/// of a large one.
pub(super) fn swept(runs: usize) -> Place {
    let small = place_of(2);
    assert_eq!(small.run("sweep experiment.yaml").code, Some(0));
    let place = place_of(runs);
    assert_eq!(place.run("sweep experiment.yaml --max-hours 0").code, Some(0));
    let plan = |place: &Place| -> Value {
        serde_json::from_slice(&fs_err::read(place.path("runs/experiment/experiment.json")).unwrap()).unwrap()
    };
    let (few, all) = (plan(&small), plan(&place));
    fs_err::create_dir_all(place.path("runs/experiment/runs")).unwrap();
    for run in all["runs"].as_array().unwrap() {
        let same = few["runs"].as_array().unwrap().iter().find(|other| other["settings"] == run["settings"]);
        let id = |run: &Value| run["id"].as_str().unwrap().to_owned();
        let from = small.path("runs/experiment/runs").join(id(same.unwrap()));
        let to = place.path("runs/experiment/runs").join(id(run));
        fs_err::create_dir(&to).unwrap();
        for entry in fs_err::read_dir(&from).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs_err::copy(&path, to.join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    place
}

#[test]
fn a_report_of_a_thousand_runs_stays_small() {
    let runs = 1000;
    let place = swept(runs);
    let (peak, took, _) = measured(&place, "report experiment");
    let page = fs_err::metadata(place.path("runs/experiment/report/index.html")).unwrap().len();
    eprintln!("report of {runs} runs: {page} bytes, {took:?}, peak {} MB", peak / 1_000_000);
    assert!(page < 8_000_000, "{page}");
}

#[test]
fn workers_without_locks_and_with_stale_names_never_share_a_run() {
    let (workers, runs) = (number("PROSPECT_SOAK_WORKERS", 4), number("PROSPECT_SOAK_SHARED_RUNS", 12));
    let place = place_of(runs);
    let alone = place_of(runs);
    let run = alone.run("sweep experiment.yaml --jobs 1");
    assert_eq!(run.code, Some(0), "{run}");
    let mut variables = shim::variables(&place, &[("SHIM_NO_LOCKS", "1"), ("SHIM_STALE", "40")]);
    variables.push(("PROSPECT_HEARTBEAT", "0.5".to_owned()));
    let children: Vec<Child> = (0..workers)
        .map(|worker| {
            let mut own = variables.clone();
            own.push(("PROSPECT_HOST", format!("host-{worker}")));
            start(&place, "sweep experiment.yaml --jobs 1", &own)
        })
        .collect();
    // One of four is killed at a drawn moment.
    let mut finished = 0;
    let mut killed = 0;
    let since = Instant::now();
    let waiters: Vec<_> = children
        .into_iter()
        .enumerate()
        .map(|(worker, mut child)| {
            let at = fraction(&["worker", &worker.to_string()]);
            let moment = Duration::from_secs_f64(1.0 + at * (runs as f64 / 20.0).min(60.0));
            std::thread::spawn(move || {
                if worker % 4 == 1 {
                    std::thread::sleep(moment.saturating_sub(since.elapsed()));
                    let was_killed = child.try_wait().unwrap().is_none();
                    child.kill().unwrap();
                    child.wait().unwrap();
                    return (was_killed, String::new());
                }
                let (code, said) = end_within(child, Duration::from_hours(6));
                assert_eq!(code, Some(0), "worker {worker}: {said}");
                (false, said)
            })
        })
        .collect();
    for waiter in waiters {
        let (was_killed, said) = waiter.join().unwrap();
        killed += usize::from(was_killed);
        let line = said.lines().find(|line| line.contains(" runs finished")).map(str::to_owned);
        finished += line.map_or(0, |line| line.split(' ').next().unwrap().parse::<usize>().unwrap());
    }
    eprintln!("{workers} workers, {killed} killed, {finished} of {runs} runs finished by the others");
    assert!(finished <= runs, "no run was finished twice");
    for (name, bytes) in files(&alone.path("runs/experiment/runs")) {
        let found = fs_err::read(place.path("runs/experiment/runs").join(&name)).unwrap();
        assert!(name.ends_with("status.json") || bytes == found, "{name} differs");
    }
}
