//! SIGKILL at drawn moments: the same command continues, to the files of an undisturbed run.

use super::*;

/// Commands that are killed, one after another, and what they need.
struct Scenario {
    name: &'static str,
    /// Commands in order. A killed one is repeated from the first.
    commands: &'static [&'static str],
    /// Processes that run each command at the same time.
    processes: usize,
    setup: fn(&Place),
}

/// Feedback in a file, which shards read in parts.
const RECIPE: &str = "\
source: { kind: pairs, path: pairs.jsonl }
split: { test_fraction: 0.2 }
noise: { swap_pairs: 0.1 }
";

fn pairs(count: usize) -> String {
    let pair = |index: usize| {
        format!(
            "{{\"prompt\":\"question {index}\",\"chosen\":\"a long and polite answer {index}\",\"rejected\":\"no {}\"}}\n",
            index % 7
        )
    };
    (0..count).map(pair).collect()
}

fn with_feedback(place: &Place) {
    place.write("recipe.yaml", RECIPE);
    place.write("pairs.jsonl", pairs(20_000));
}

pub(super) fn with_few_pairs(place: &Place) {
    place.write("pairs.jsonl", pairs(150));
}

/// A finished sweep, for commands that read one.
fn with_sweep(place: &Place) {
    let run = place.run("sweep experiment.yaml");
    assert_eq!(run.code, Some(0), "{run}");
}

const SCENARIOS: [Scenario; 8] = [
    Scenario { name: "prepare", commands: &["prepare recipe.yaml"], processes: 1, setup: with_feedback },
    Scenario {
        name: "prepare in shards",
        commands: &[
            "prepare recipe.yaml --shard 1/3",
            "prepare recipe.yaml --shard 2/3",
            "prepare recipe.yaml --shard 3/3",
            "prepare recipe.yaml --merge",
        ],
        processes: 1,
        setup: with_feedback,
    },
    Scenario {
        name: "train",
        commands: &[
            "train data.yaml --model model.yaml --max-length 160 --batch-size 8 --set train.max_steps=6",
        ],
        processes: 1,
        setup: |_| (),
    },
    Scenario { name: "sweep", commands: &["sweep experiment.yaml"], processes: 1, setup: |_| () },
    Scenario { name: "sweep by three", commands: &["sweep experiment.yaml"], processes: 3, setup: |_| () },
    Scenario {
        name: "judge",
        commands: &[
            "judge experiment --reward-model model.yaml --set max_length=160 --set num_train_epochs=1",
        ],
        processes: 1,
        setup: with_sweep,
    },
    Scenario {
        name: "report",
        commands: &["report experiment --export paper"],
        processes: 1,
        setup: with_sweep,
    },
    Scenario {
        name: "compare",
        commands: &[
            "compare pairs.jsonl --model model.yaml --max-length 160 --learning-rate 0.003 --methods dpo,kto --steps 160 --batch-size 8",
        ],
        processes: 1,
        setup: with_few_pairs,
    },
];

/// A folder with what the scenario needs, its files after an undisturbed run, and the time that
/// took.
struct Prepared {
    before: Place,
    after: BTreeMap<String, Vec<u8>>,
    seconds: f64,
}

impl Scenario {
    fn prepare(&self) -> Prepared {
        let (before, whole) = (place(), Place::new());
        (self.setup)(&before);
        copy_into(&before, &whole);
        let started = Instant::now();
        for command in self.commands {
            let run = whole.run(command);
            assert_eq!(run.code, Some(0), "{}: {run}", self.name);
        }
        let seconds = started.elapsed().as_secs_f64();
        Prepared { before, after: files(&whole.path("")), seconds }
    }

    /// Kills up to `kills` times in one folder, then lets the commands end, and checks the result.
    /// Returns the number of kills: the commands may have ended before the last one.
    fn disturb(&self, prepared: &Prepared, kills: usize, label: &str) -> usize {
        let place = Place::new();
        copy_into(&prepared.before, &place);
        for kill in 0..kills {
            let at = fraction(&["kill", self.name, label, &kill.to_string()]);
            if !self.run_until(&place, Duration::from_secs_f64(at * prepared.seconds), kill) {
                assert_same(&prepared.after, &place, &format!("{}, {label}, not killed", self.name));
                return kill;
            }
            assert_whole(&prepared.after, &place, &format!("{}, {label}, kill {kill}", self.name));
        }
        for command in self.commands {
            let children: Vec<Child> = (0..self.processes).map(|_| start(&place, command, &[])).collect();
            for child in children {
                let (code, said) = end_within(child, Duration::from_mins(5));
                assert_eq!(code, Some(0), "{}, {label}: {said}", self.name);
                assert!(!said.contains("is damaged or was changed"), "{}, {label}: {said}", self.name);
            }
        }
        assert_same(&prepared.after, &place, &format!("{}, {label}", self.name));
        kills
    }

    /// Runs the commands, and kills them after `time`. Of several processes, all but the last one
    /// are killed every second time. Returns false if they ended before.
    fn run_until(&self, place: &Place, time: Duration, kill: usize) -> bool {
        let since = Instant::now();
        for command in self.commands {
            let mut children: Vec<Child> = (0..self.processes).map(|_| start(place, command, &[])).collect();
            while since.elapsed() < time
                && children.iter_mut().any(|child| child.try_wait().unwrap().is_none())
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            let spared = usize::from(self.processes > 1 && kill % 2 == 1);
            let killed = self.processes - spared;
            let mut was_killed = false;
            for child in &mut children[..killed] {
                was_killed |= child.try_wait().unwrap().is_none();
                let _ = child.kill();
                child.wait().unwrap();
            }
            for child in children.split_off(killed) {
                let (code, said) = end_within(child, Duration::from_mins(5));
                assert_eq!(code, Some(0), "{}: {said}", self.name);
            }
            if was_killed {
                return true;
            }
        }
        false
    }
}

/// Copies the files of a folder.
fn copy_into(from: &Place, to: &Place) {
    copy(&from.path("."), &to.path("."));
}

/// Checks that every file under its final name is whole: as in the end, or an earlier version of
/// one that is replaced or appended to.
fn assert_whole(after: &BTreeMap<String, Vec<u8>>, place: &Place, what: &str) {
    for (name, bytes) in files(&place.path("")) {
        let path = Path::new(&name);
        if name.contains(".partial") {
            continue;
        }
        let is_appended = ["metrics.jsonl", "samples.jsonl"].iter().any(|file| path.ends_with(file));
        let is_checkpoint = name.contains("/checkpoints/");
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => {
                let parsed = serde_json::from_slice::<Value>(&bytes);
                assert!(parsed.is_ok(), "{what}: {name}: {parsed:?}");
            }
            _ if is_appended => assert!(after[&name].starts_with(&bytes), "{what}: {name}"),
            _ if is_checkpoint => {
                let check = prospect_core::checksums::check_named(&place.path(&name));
                assert!(check.is_ok(), "{what}: {name}: {check:?}");
            }
            // A shard is removed by the merge, which checks its blocks.
            Some("shard") => assert!(!bytes.is_empty(), "{what}: {name}"),
            // Pages, figures and tables show what was finished so far.
            _ if name.contains("report") => assert!(!bytes.is_empty(), "{what}: {name}"),
            _ => {
                let expected = after.get(&name);
                assert!(expected == Some(&bytes), "{what}: {name}");
            }
        }
    }
}

#[test]
fn what_is_killed_anywhere_continues_to_the_same_files() {
    let kills = number("PROSPECT_CHAOS_KILLS", 20);
    let chosen = std::env::var("PROSPECT_CHAOS_ONLY").ok();
    let scenarios: Vec<&Scenario> = SCENARIOS
        .iter()
        .filter(|scenario| chosen.as_ref().is_none_or(|name| scenario.name == name))
        .collect();
    let mut done = 0;
    for (index, scenario) in scenarios.iter().enumerate() {
        let share = kills / scenarios.len() + usize::from(index < kills % scenarios.len());
        let prepared = scenario.prepare();
        let mut left = share;
        for round in 0.. {
            // One to six kills before the end.
            let several = 1 + (6.0 * fraction(&["several", scenario.name, &round.to_string()])) as usize;
            left -= scenario.disturb(&prepared, several.min(left), &format!("round {round}"));
            if left == 0 {
                break;
            }
            assert!(round < 10 * share, "{}: the commands end before they are killed", scenario.name);
        }
        done += share;
        if kills > 20 {
            eprintln!("{done} of {kills} kills: {}, {:.1} s undisturbed", scenario.name, prepared.seconds);
        }
    }
}
