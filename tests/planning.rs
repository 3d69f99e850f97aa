//! What a sweep will do and take, before it is begun.

use insta::assert_snapshot;

use crate::sweep::place;

/// The rows of the table under a line that begins so, as words.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
    lines
        .take_while(|line| line.starts_with("  "))
        .map(|line| {
            line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
        })
        .collect()
}

#[test]
fn a_plan_says_how_long_each_series_trains() {
    let place = place();
    let budget = |also: &str| {
        let run = place.run(&format!("sweep experiment.yaml --dry-run {also}"));
        assert_eq!(run.code, Some(0), "{run}");
        run.stdout.split_once("\n\n").unwrap().1.to_owned()
    };
    assert_snapshot!(budget(""), @r"
    How long each series trains
    series differ in optimizer steps at data.imbalance.keep_desirable = 0.5

    == Runs of seed 0, before rows are left out that are too long
      method  data.imbalance.keep_desirable  completions  a step  steps  epochs
      dpo     1.0                                     96       8     12    1.00
      dpo     0.5                                     48       8      6    1.00
      kto     1.0                                     96       8     12    1.00
      kto     0.5                                     72       8      9    1.00
    ");
    assert_snapshot!(budget("--set train.num_train_epochs=null --set train.max_steps=6"), @r"
    How long each series trains
    series differ in epochs at data.imbalance.keep_desirable = 0.5

    == Runs of seed 0, before rows are left out that are too long
      method  data.imbalance.keep_desirable  completions  a step  steps  epochs
      dpo     1.0                                     96       8      6    0.50
      dpo     0.5                                     48       8      6    1.00
      kto     1.0                                     96       8      6    0.50
      kto     0.5                                     72       8      6    0.67
    ");
    let same = budget("--set matrix={\"data.imbalance.keep_desirable\":[1.0]}");
    assert!(same.contains("all series take the same optimizer steps and epochs"), "{same}");
    let empty = budget(
        "--set matrix={\"data.imbalance.keep_desirable\":[1.0,0.0]} --set data.imbalance.keep_undesirable=0.0",
    );
    assert!(empty.contains("warning: data that cannot be counted: "), "{empty}");
    assert!(!place.path("runs").exists());
}

#[test]
fn an_estimate_sums_up_and_leaves_nothing() {
    let place = place();
    let run = place.run("sweep experiment.yaml --estimate --max-hours 100");
    assert_eq!(run.code, Some(0), "{run}");
    assert!(
        run.stdout.contains("to do: 4 runs, about ")
            && run.stdout.contains("an estimate from 11 measured steps"),
        "{run}"
    );
    assert!(run.stdout.contains("\n4 of 4 runs fit into 100 h 0 min\n"), "{run}");
    assert!(!place.path("runs").exists() && !place.path("reports").exists(), "{run}");
    let rows = table(&run.stdout, "== What runs take");
    let kinds: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(kinds, ["sft", "dpo", "kto", "all"], "{run}");
    // The stage is three steps long. Runs, steps and hours add up; the last row has no time of a step.
    let number = |row: &[String], column: usize| row[column].parse::<f64>().unwrap();
    let (all, kinds) = rows.split_last().unwrap();
    let sum = |column: usize| kinds.iter().map(|row| number(row, column)).sum::<f64>();
    assert_eq!((sum(3), sum(4)), (number(all, 1), number(all, 2)), "{run}");
    assert!((sum(9) - number(all, 5)).abs() < 2.1e-6, "{run}");
    for row in kinds {
        let least = number(row, 4) * number(row, 5) / 3600.0;
        assert!(number(row, 9) >= 0.99 * least, "{run}");
    }

    let none = place.run("sweep experiment.yaml --estimate --max-hours 0 --only method=kto");
    assert!(none.stdout.contains("0 of 2 runs fit into 0.0 s"), "{none}");
    place.run("sweep experiment.yaml");
    let done = place.run("sweep experiment.yaml --estimate");
    assert!(done.stdout.contains("to do: nothing"), "{done}");
}
