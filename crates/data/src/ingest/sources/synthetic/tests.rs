use std::{cmp::Ordering, collections::HashSet};

use super::*;

fn world(yaml: &str) -> SyntheticWorld {
    let document = prospect_core::config::Document::from_text("world.yaml", yaml).unwrap();
    let file: WorldFile = document.read().unwrap();
    file.check(0).unwrap();
    file.resolve()
}

fn lines(world: &SyntheticWorld, count: usize) -> Vec<SyntheticRecord> {
    let generator = Generator::new(world, 5);
    (0..count).map(|number| generator.line(number)).collect()
}

/// Share of pairs whose chosen completion has the higher value; ties count half.
fn agreement(lines: &[SyntheticRecord], value: impl Fn(&SyntheticRecord, usize) -> f64) -> f64 {
    let pairs = lines.iter().flat_map(|line| line.pairs.iter().map(move |pair| (line, pair)));
    let points = pairs.clone().map(|(line, (chosen, rejected))| {
        match value(line, *chosen).total_cmp(&value(line, *rejected)) {
            Ordering::Greater => 1.0,
            Ordering::Equal => 0.5,
            Ordering::Less => 0.0,
        }
    });
    points.sum::<f64>() / pairs.count() as f64
}

fn truth(line: &SyntheticRecord, index: usize) -> f64 {
    line.completions[index].utility
}

#[test]
fn the_higher_utility_is_preferred_in_nine_of_ten_pairs() {
    let accuracy = agreement(&lines(&world("{}"), 20_000), truth);
    assert!((0.89..0.91).contains(&accuracy), "{accuracy}");
}

#[test]
fn what_is_generated_stays_as_it_was() {
    let line = Generator::new(&world("{}"), 0).line(0);
    assert_eq!(line.prompt, "best way to paint a wall in rome ?");
    let sides = line.completions.iter().map(|completion| (completion.text.as_str(), completion.utility));
    assert_eq!(
        sides.collect::<Vec<_>>(),
        [("so, breathe slowly. have fun", -1.3), ("ok, open an account. cheers", -1.3)]
    );
    assert_eq!(line.pairs, [(0, 1)]);
}

#[test]
fn the_utility_of_what_is_generated_is_the_one_it_was_generated_with() {
    let all = "{domains: [home, medical, legal, technical], completions: 3, annotators: [{share: 0.4}, {share: 0.6, inverts: [opening]}]}";
    for world in [world("{}"), world(all)] {
        for line in lines(&world, 3000) {
            for completion in &line.completions {
                assert_eq!(
                    world.utility(&line.prompt, &completion.text),
                    Some(completion.utility),
                    "{line:?}"
                );
            }
        }
    }
}

#[test]
fn texts_are_short_plain_and_mostly_new() {
    for (yaml, prompts) in [("{}", 1920), ("{domains: [medical, legal, technical]}", 2000)] {
        let mut seen = HashSet::new();
        for line in lines(&world(yaml), 2000) {
            assert_ne!(line.completions[0].text, line.completions[1].text);
            for text in line.completions.iter().map(|completion| &completion.text).chain([&line.prompt]) {
                assert!(text.len() <= 40, "{text}");
                assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b" ,.?".contains(&b)), "{text}");
                assert_eq!(text, text.trim());
            }
            seen.insert(line.prompt);
        }
        assert_eq!(seen.len(), prompts);
    }
}

#[test]
fn the_majority_prevails_and_the_minority_contradicts() {
    let yaml =
        "{temperature: 0, judgements: 5, annotators: [{share: 0.4, inverts: [content]}, {share: 0.6}]}";
    let world = world(yaml);
    let lines = lines(&world, 10_000);
    // With a single, error-free annotator, each judgement follows one group's utility.
    let minority = |line: &SyntheticRecord, index: usize| {
        let content = truth(line, index);
        let text = &line.completions[index].text;
        let [opening, _, closing] = super::world::kinds(super::world::topic_of(&line.prompt).unwrap(), text);
        f64::from(2 * (10 * opening + 2 * closing)) / 10.0 - content
    };
    let (with, against) = (agreement(&lines, truth), agreement(&lines, minority));
    assert!(with > against, "{with} {against}");
    // All judgements of a prompt are of the same texts.
    for group in lines.chunks(5) {
        let texts = |line: &SyntheticRecord| {
            let mut texts: Vec<_> =
                line.completions.iter().map(|completion| completion.text.clone()).collect();
            texts.sort();
            texts
        };
        assert!(group.iter().all(|line| texts(line) == texts(&group[0])));
    }
    let split = lines
        .chunks(5)
        .filter(|group| group.iter().any(|line| line.completions[0].text != group[0].completions[0].text));
    assert!(split.count() > 500);
}

#[test]
fn annotators_without_temperature_never_err_but_at_ties() {
    let ties = |line: &SyntheticRecord| truth(line, 0) == truth(line, 1);
    let lines = lines(&world("{temperature: 0}"), 2000);
    assert!(lines.iter().all(|line| ties(line) || truth(line, 0) > truth(line, 1)));
}

#[test]
fn all_pairs_of_several_completions_are_judged() {
    for line in lines(&world("{completions: 4}"), 200) {
        assert_eq!((line.completions.len(), line.pairs.len()), (4, 6));
        let pairs: HashSet<_> = line.pairs.iter().map(|(a, b)| (a.min(b), a.max(b))).collect();
        assert_eq!(pairs.len(), 6);
    }
}

#[test]
fn thumbs_are_of_completions_and_rise_with_their_utility() {
    let sharp = lines(&world("{temperature: 0, thumbs: {threshold: 0.5}}"), 500);
    let completions = |lines: &[SyntheticRecord]| {
        lines.iter().flat_map(|line| line.completions.clone()).collect::<Vec<_>>()
    };
    assert!(completions(&sharp).iter().all(|c| c.utility == 0.5 || c.thumb == Some(c.utility > 0.5)));
    let blurred = completions(&lines(&world("{thumbs: {}}"), 5000));
    let up = |at: f64| {
        let of: Vec<_> = blurred.iter().filter(|completion| completion.utility == at).collect();
        of.iter().filter(|completion| completion.thumb == Some(true)).count() as f64 / of.len() as f64
    };
    let expected = 1.0 / (1.0 + (-0.5f64 / 0.4).exp());
    assert!((up(-0.5) - (1.0 - expected)).abs() < 0.05 && (up(0.5) - expected).abs() < 0.05);
    assert!(lines(&world("{}"), 10).iter().all(|line| line.completions[0].thumb.is_none()));
}
