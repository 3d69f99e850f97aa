//! `prospect sweep experiments/theory.yaml`: propositions computed without a model.

use crate::support::{Place, repository};

fn place() -> Place {
    let place = Place::new();
    place.write("theory.yaml", fs_err::read(repository("experiments/theory.yaml")).unwrap());
    place
}

#[test]
fn every_proposition_holds_and_is_reported() {
    let place = place();
    let plan = place.run("sweep theory.yaml --dry-run");
    assert!(
        plan.stdout.contains("theorems 4.2 and 4.3, 28 worlds") && !place.path("runs").exists(),
        "{plan}"
    );

    let run = place.run("sweep theory.yaml");
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "reports/theory/index.html\n"), "{run}");
    for claim in [
        "Theorem 3.5 holds",
        "Proposition 4.1 holds",
        "Theorem 4.2 holds",
        "Theorem 4.3 (version 1, p = ½) holds",
        "Theorem 4.3 (version 4, optimum) holds",
        "Theorem 4.3 (version 5, update) holds",
    ] {
        assert!(run.stderr.contains(claim), "{run}");
    }
    let found = fs_err::read_to_string(place.path("runs/theory/theory.json")).unwrap();
    let found: serde_json::Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["majority"]["cases"].as_array().unwrap().len(), 28);
    for figure in [
        "values",
        "contradiction",
        "gradients",
        "utilities",
        "majority-dpo",
        "majority-kto",
        "majority-averse",
    ] {
        assert!(place.path(&format!("reports/theory/figures/{figure}.png")).exists(), "{figure}");
    }
    let page = fs_err::read(place.path("reports/theory/index.html")).unwrap();
    let again = place.run("report theory --out elsewhere");
    assert_eq!((again.code, again.stdout.as_str()), (Some(0), "elsewhere/index.html\n"), "{again}");
    assert!(page == fs_err::read(place.path("elsewhere/index.html")).unwrap());
}

#[test]
fn every_objective_takes_the_halo_test() {
    let place = place();
    place.run("sweep theory.yaml");
    let found: serde_json::Value =
        serde_json::from_str(&fs_err::read_to_string(place.path("runs/theory/theory.json")).unwrap())
            .unwrap();
    let tested = found["halos"]["objectives"].as_array().unwrap();
    let tested: Vec<&str> = tested.iter().map(|test| test["objective"].as_str().unwrap()).collect();
    let schema = fs_err::read_to_string(repository("schemas/experiment.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let names = &schema["$defs"]["ObjectiveName"];
    let variants = names["enum"].as_array().cloned().unwrap_or_else(|| {
        names["oneOf"].as_array().unwrap().iter().map(|variant| variant["const"].clone()).collect()
    });
    assert!(variants.len() > 12);
    for name in variants {
        assert!(tested.contains(&name.as_str().unwrap()), "{name}: {tested:?}");
    }
}

#[test]
fn a_share_that_is_not_a_majority_is_an_error() {
    let place = place();
    let run = place.run("sweep theory.yaml --set theory.shares=[0.4]");
    assert_eq!(run.code, Some(1), "{run}");
    assert!(
        run.stderr.contains("`theory.shares` is [0.4]: must list at least one share, each above 0.5"),
        "{run}"
    );
    let run = place.run("sweep theory.yaml --set theory.share=[0.6]");
    assert!(run.stderr.contains("did you mean `shares`"), "{run}");
}

#[test]
fn options_for_runs_are_errors_for_a_theory_file() {
    let place = place();
    for options in ["--jobs 2", "--only method=kto", "--max-hours 1"] {
        let run = place.run(&format!("sweep theory.yaml {options}"));
        assert_eq!(run.code, Some(1), "{run}");
        assert!(run.stderr.contains("a theory file has no runs"), "{run}");
    }
}
