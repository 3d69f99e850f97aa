//! `docs/paper.md`, claim by claim, and what the shipped experiments say about the paper.

use std::collections::BTreeSet;

use crate::support::repository;

/// Cell of a claim that no experiment or test is about.
const NOT_COVERED: &str = "not covered";

fn read(path: &str) -> String {
    fs_err::read_to_string(repository(path)).unwrap()
}

/// Returns the cells of each claim: rows of the tables under a heading that starts with "Claims".
fn claims() -> Vec<Vec<String>> {
    let text = read("docs/paper.md");
    let mut claims = Vec::new();
    let mut in_claims = false;
    for line in text.lines() {
        if line.starts_with('#') {
            in_claims = line.trim_start_matches('#').trim().starts_with("Claims");
        }
        let is_row = line.starts_with("| ") && !line.starts_with("| claim") && !line.contains("|---");
        if in_claims && is_row {
            claims.push(line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect());
        }
    }
    claims
}

/// Returns the text and the target of each Markdown link.
fn links(cell: &str) -> Vec<(String, String)> {
    cell.split('[')
        .skip(1)
        .filter_map(|rest| {
            let (text, rest) = rest.split_once("](")?;
            let (target, _) = rest.split_once(')')?;
            Some((text.trim_matches('`').to_owned(), target.to_owned()))
        })
        .collect()
}

#[test]
fn every_claim_names_an_experiment_and_a_test_or_is_not_covered() {
    let claims = claims();
    assert!(claims.len() >= 30, "{}", claims.len());
    for claim in claims {
        let [statement, version, experiment, test, differences] = claim.as_slice() else {
            panic!("not five cells: {claim:?}");
        };
        assert!([statement, version, differences].iter().all(|cell| !cell.is_empty()), "{claim:?}");
        if experiment == NOT_COVERED {
            assert_eq!(test, NOT_COVERED, "{statement}");
            continue;
        }
        let experiments = links(experiment);
        assert!(!experiments.is_empty(), "{statement}: {experiment}");
        for (name, target) in experiments {
            assert_eq!(target, format!("../experiments/{name}.yaml"), "{statement}");
            assert!(repository(&format!("experiments/{name}.yaml")).exists(), "{statement}: {name}");
        }
        let tests = links(test);
        assert!(!tests.is_empty(), "{statement}: {test}");
        for (name, target) in tests {
            let source = read(target.strip_prefix("../").unwrap());
            let needle = format!("#[test]\n    fn {name}()");
            let top_level = format!("#[test]\nfn {name}()");
            assert!(
                source.contains(&needle) || source.contains(&top_level),
                "{statement}: {name} in {target}"
            );
        }
    }
}

/// Returns the name and the text of each shipped experiment that trains.
fn experiments() -> Vec<(String, String)> {
    let files = fs_err::read_dir(repository("experiments")).unwrap();
    let mut found: Vec<(String, String)> = files
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_stem().unwrap().to_string_lossy().into_owned(), fs_err::read_to_string(&path).unwrap())
        })
        .filter(|(name, _)| name != "theory")
        .collect();
    found.sort();
    found
}

#[test]
fn every_experiment_says_why_its_learning_rate_is_not_the_papers() {
    for (name, text) in experiments() {
        let train = text.split("\ntrain:\n").nth(1).unwrap();
        let comment = train
            .lines()
            .take_while(|line| line.starts_with(' '))
            .any(|line| line.trim_start().starts_with("# The paper's learning rate is 5e-7"));
        assert!(comment || train.contains("train.preset"), "{name}");
    }
}

#[test]
fn full_experiments_are_marked_as_not_run_and_start_from_base_models() {
    let any_model: BTreeSet<&str> = ["thumbs", "worlds", "zephyr-ultrafeedback"].into();
    for (name, text) in experiments() {
        // `hh-imbalance` is for CPUs, and has been run.
        if name.ends_with("-quick") || name.ends_with("-smoke") || name == "demo" || name == "hh-imbalance" {
            continue;
        }
        assert!(text.contains("\n# Not run by us: it needs GPUs.\n"), "{name}");
        assert!(text.contains("\nbase_model: required\n") || any_model.contains(name.as_str()), "{name}");
    }
}

#[test]
fn every_quick_experiment_names_its_primary_comparison() {
    for (name, text) in experiments() {
        if name.ends_with("-quick") {
            assert!(text.contains("\n  primary: {"), "{name}");
        }
    }
}

#[test]
fn no_experiment_has_fewer_than_three_seeds() {
    for (name, text) in experiments() {
        let seeds = text.lines().find_map(|line| line.strip_prefix("seeds: [")).unwrap();
        assert!(seeds.split(',').count() >= 3, "{name}: {seeds}");
    }
}
