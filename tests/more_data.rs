//! How much more data: `prospect power`, and learning curves over the number of training prompts.

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{MODEL, Place};

fn swept(prompts: &str) -> Place {
    let place = Place::new();
    place.write("model.yaml", MODEL);
    place.write(
        "data.yaml",
        "source: { kind: synthetic, pairs: 240, world: { domains: [home] } }\nsplit: { test_fraction: 0.3 }\n",
    );
    place.write(
        "curve.yaml",
        format!(
            "question: Would more data help?\n\
             data: data.yaml\nmodel: model.yaml\n\
             train: {{ learning_rate: 1e-2, batch_size: 8, num_train_epochs: 1, max_length: 160, max_prompt_length: 100 }}\n\
             linked: {{ method: {{ dpo: {{ train.objective: dpo }}, kto: {{ train.objective: kto }} }} }}\n\
             matrix: {{ data.select.train_prompts: {prompts} }}\n\
             seeds: [0, 1]\n\
             evaluate: {{ pairs: 40 }}\n\
             report: {{ x: data.select.train_prompts, series: method, baseline: dpo }}\n"
        ),
    );
    let swept = place.run("sweep curve.yaml");
    assert_eq!(swept.code, Some(0), "{swept}");
    place
}

fn summary(place: &Place) -> Value {
    serde_json::from_slice(&fs_err::read(place.path("runs/curve/summary.json")).unwrap()).unwrap()
}

#[test]
fn three_sizes_give_a_learning_curve_with_intervals() {
    let place = swept("[16, 32, 64, 128]");
    let learning = summary(&place)["learning_curves"].clone();
    let curves = learning["curves"].as_array().unwrap();
    assert_eq!(curves.iter().map(|curve| &curve["series"]).collect::<Vec<_>>(), ["dpo", "kto"]);
    for curve in curves {
        let measured = curve["measured"].as_array().unwrap();
        assert_eq!(measured.len(), 4);
        let largest = measured[3]["rows"].as_f64().unwrap();
        let rows: Vec<f64> = measured.iter().map(|point| point["rows"].as_f64().unwrap()).collect();
        assert!(rows.windows(2).all(|two| two[0] < two[1]), "{rows:?}");
        for (point, factor) in curve["predicted"].as_array().unwrap().iter().zip([2.0, 4.0]) {
            assert_eq!(point["rows"].as_f64().unwrap(), factor * largest);
            for interval in [&point["value"], &point["gain"]] {
                let end = |end: &str| interval[end].as_f64().unwrap();
                assert!(
                    end("low") < end("high") && end("low") <= end("value") && end("value") <= end("high"),
                    "{point}"
                );
            }
        }
    }
    let notes = learning["notes"].as_array().unwrap();
    assert!(
        notes.iter().any(|note| note.as_str().unwrap().contains("All seeds train on the same prompts")),
        "{notes:?}"
    );
    let page = fs_err::read_to_string(place.path("reports/curve/index.html")).unwrap();
    assert!(page.contains("How much more data?") && page.contains("(4 × the largest)"));
    assert!(page.contains("Held-out accuracy by the number of training rows"));
    let table = fs_err::read_to_string(place.path("reports/curve/tables/learning_curves.csv")).unwrap();
    let rows = |kind: &str| table.lines().filter(|line| line.contains(kind)).count();
    assert_eq!((rows(",measured,"), rows(",predicted,")), (8, 4), "{table}");
    assert!(place.path("reports/curve/figures/learning-curve-accuracy.png").exists());

    // The same sweep tells how much feedback a comparison needs.
    let power = place.run("power curve --gain 10 --seeds 3,8 --pairs 100 --json");
    assert_eq!(power.code, Some(0), "{power}");
    let answer: Value = serde_json::from_str(&power.stdout).unwrap();
    assert_eq!((&answer["measured"], &answer["comparisons"]), (&true.into(), &4.into()));
    assert!(answer["residual_variance"].as_f64().unwrap() > 0.0);
    let detectable = answer["detectable"].as_array().unwrap();
    assert_eq!(detectable.len(), 2);
    assert!(detectable[0]["difference"].as_f64() > detectable[1]["difference"].as_f64(), "{answer}");
    let text = place.run("power curve");
    assert!(
        text.stdout
            .contains("variation: measured in runs/curve, from 4 differences in accuracy with 2 seeds"),
        "{text}"
    );
}

#[test]
fn two_sizes_give_no_learning_curve() {
    let place = swept("[16, 64]");
    let learning = summary(&place)["learning_curves"].clone();
    assert!(learning["curves"].as_array().unwrap().is_empty());
    assert_eq!(
        learning["notes"][0],
        "dpo: a learning curve needs 3 numbers of training rows, and there are 2."
    );
}

#[test]
fn plans_show_prices_of_a_file() {
    let place = swept("[16, 64]");
    let plan = place.run("sweep curve.yaml --dry-run");
    assert!(plan.stdout.contains("Price of all runs (example prices, to be edited, 2026-11-01"), "{plan}");
    place.write(
        "prices.yaml",
        "as_of: today\ncurrency: EUR\nnote: ours\ndevices: { H200: { memory: 141, per_hour: 3 } }\n",
    );
    let validated = place.run("validate prices.yaml");
    assert_eq!(validated.stdout, "prices.yaml: ok (prices, by its keys)\n", "{validated}");
    let own = place.run("sweep curve.yaml --dry-run --prices prices.yaml --json");
    let json: Value = serde_json::from_str(&own.stdout).unwrap();
    let cost = &json["price"]["costs"][0];
    let (hours, price) = (cost["hours"].as_f64().unwrap(), cost["price"].as_f64().unwrap());
    assert!(hours > 0.0 && (price - 3.0 * hours).abs() < 1e-12, "{cost}");
    let planned = place.run("plan model.yaml --gpu 80GiB --prices prices.yaml");
    assert!(planned.stdout.contains("Price (ours, today") && planned.stdout.contains("EUR"), "{planned}");
    let without = place.run("sweep curve.yaml --prices prices.yaml");
    assert!(without.stderr.contains("--prices has no effect without --dry-run"), "{without}");
}

#[test]
fn power_without_a_sweep_states_its_assumptions() {
    let place = Place::new();
    assert_snapshot!("power", place.run("power --gain 5 --seeds 3,5,10 --pairs 100,400,2000"));
    let one = place.run("power --seeds 1");
    assert!(one.stderr.contains("one seed never gives a verdict"), "{one}");
    let nowhere = place.run("power nowhere");
    assert!(nowhere.stderr.contains("runs/nowhere is not a sweep"), "{nowhere}");
}
