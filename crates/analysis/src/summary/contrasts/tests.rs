use prospect_runs::{Estimate, Experiment, PlannedRun};

use super::{
    super::{
        finished_runs::{RunCounts, XValues},
        tests::experiment,
    },
    *,
};

/// Margins of 120 pairs, about `skill` in 100 of them positive; `luck` varies them.
fn margins(skill: u64, luck: u64) -> Vec<f64> {
    let noise = |pair: u64, luck: u64| (pair * 7919 + luck * 104_729 + pair * pair * 31) % 100;
    let margin = |pair: u64| {
        let roll = if noise(pair, 1000 + luck) < 30 { noise(pair, luck) } else { noise(pair, 0) };
        skill as f64 - roll as f64 - 0.5
    };
    (0..120).map(margin).collect()
}

/// A sweep in memory: margins by series and seed.
struct Fixture {
    experiment: Experiment,
    planned: Vec<PlannedRun>,
    series: Vec<(&'static str, Vec<Vec<f64>>)>,
    /// Lost runs by series.
    lost: Vec<(&'static str, usize)>,
}

impl Fixture {
    fn new(series: &[(&'static str, u64)], seeds: u64) -> Self {
        let planned = |seed| PlannedRun { id: String::new(), settings: BTreeMap::new(), seed, data: 0 };
        let runs = |(name, skill): &(&'static str, u64)| {
            let luck = |seed: u64| 10 * seed + name.len() as u64;
            (*name, (0..seeds).map(|seed| margins(*skill, luck(seed))).collect())
        };
        Self {
            experiment: experiment("dpo"),
            planned: (0..seeds).map(planned).collect(),
            series: series.iter().map(runs).collect(),
            lost: Vec::new(),
        }
    }

    fn contrasts(&self) -> Vec<Contrast> {
        let cell = |series: &str| CellKey { series: series.to_owned(), x: 0 };
        let runs = |margins: &Vec<Vec<f64>>| -> Vec<FinishedRun<'_>> {
            let runs = self.planned.iter().zip(margins);
            runs.map(|(planned, margins)| FinishedRun::with_margins(planned, margins, 7)).collect()
        };
        let cells = self.series.iter().map(|(name, margins)| (cell(name), runs(margins)));
        let cells = cells.filter(|(_, runs)| !runs.is_empty()).collect();
        let lost =
            |name: &str| self.lost.iter().find(|(other, _)| *other == name).map_or(0, |(_, lost)| *lost);
        let counts = self
            .series
            .iter()
            .map(|(name, _)| (cell(name), RunCounts { planned: self.planned.len(), lost: lost(name) }));
        let counts = counts.collect();
        let xs = XValues { values: vec![0.5.into()], numbers: vec![0.5] };
        contrasts(&SweepRuns::new(&self.experiment, xs, cells, counts)).unwrap()
    }
}

fn of<'a>(contrasts: &'a [Contrast], series: &str) -> &'a Contrast {
    contrasts.iter().find(|contrast| contrast.series == series).unwrap()
}

#[test]
fn a_clear_difference_has_a_verdict() {
    let contrasts = Fixture::new(&[("dpo", 55), ("kto", 85), ("ipo", 56), ("csft", 20)], 3).contrasts();
    assert_eq!(contrasts.len(), 3);
    assert_eq!(of(&contrasts, "kto").verdict, Verdict::Better);
    assert_eq!(of(&contrasts, "csft").verdict, Verdict::Worse);
    let close = of(&contrasts, "ipo");
    assert_eq!((close.verdict, close.no_verdict), (Verdict::Inconclusive, None));
    let detectable = close.detectable.unwrap();
    assert!(detectable > close.difference.value.abs() && detectable < 0.3, "{close:?}");
    assert!(close.smoothed.is_some() && close.steps == [7, 7] && close.pairs == 120, "{close:?}");
}

#[test]
fn one_seed_has_no_verdict() {
    let contrasts = Fixture::new(&[("dpo", 20), ("kto", 95)], 1).contrasts();
    let contrast = of(&contrasts, "kto");
    assert!(contrast.difference.low > 0.3, "{contrast:?}");
    assert_eq!((contrast.verdict, contrast.no_verdict), (Verdict::Inconclusive, Some(NoVerdict::OneSeed)));
    assert_eq!((contrast.p_holm, contrast.detectable), (1.0, None));
}

#[test]
fn two_seeds_that_disagree_are_too_few() {
    let mut fixture = Fixture::new(&[("dpo", 50), ("kto", 50)], 2);
    fixture.series[1].1 = vec![margins(80, 1), margins(60, 2)];
    let contrasts = fixture.contrasts();
    let contrast = of(&contrasts, "kto");
    assert_eq!(contrast.no_verdict, Some(NoVerdict::TooWide), "{contrast:?}");
}

#[test]
fn identical_series_are_compared_once() {
    let mut fixture = Fixture::new(&[("dpo", 60), ("kto", 70), ("kto-auto", 70), ("rdpo", 60)], 3);
    fixture.series[2].1 = fixture.series[1].1.clone();
    fixture.series[3].1 = fixture.series[0].1.clone();
    let contrasts = fixture.contrasts();
    let [kto, auto, rdpo] = ["kto", "kto-auto", "rdpo"].map(|series| of(&contrasts, series));
    assert_eq!(kto.p_holm, kto.p, "a family of one");
    assert_eq!((auto.p_holm, auto.verdict, auto.difference), (kto.p_holm, kto.verdict, kto.difference));
    assert_eq!((auto.identical_to.as_deref(), rdpo.identical_to.as_deref()), (Some("kto"), Some("dpo")));
    assert_eq!((rdpo.no_verdict, rdpo.verdict), (Some(NoVerdict::Identical), Verdict::Inconclusive));
    // Alone, it has the same result.
    let alone = Fixture { series: fixture.series[..2].to_vec(), ..fixture }.contrasts();
    assert_eq!(of(&alone, "kto").difference, kto.difference);
}

#[test]
fn a_primary_comparison_is_not_dropped_for_an_earlier_series_with_the_same_results() {
    let mut fixture = Fixture::new(&[("dpo", 60), ("apo-zero", 70), ("kto", 70)], 3);
    fixture.series[2].1 = fixture.series[1].1.clone();
    let primary = PrimaryContrast { series: "kto".to_owned(), x: 0.5.into(), measure: Measure::Accuracy };
    fixture.experiment.primary = Some(primary);
    let contrasts = fixture.contrasts();
    let (kto, apo) = (of(&contrasts, "kto"), of(&contrasts, "apo-zero"));
    assert!(kto.is_primary && kto.identical_to.is_none() && kto.p_holm == kto.p, "{kto:?}");
    assert!(!apo.is_primary && apo.identical_to.as_deref() == Some("kto"), "{apo:?}");

    // Equal to the baseline, it stays the primary comparison, without a verdict.
    fixture.series[2].1 = fixture.series[0].1.clone();
    let contrasts = fixture.contrasts();
    let kto = of(&contrasts, "kto");
    assert!(kto.is_primary && kto.no_verdict == Some(NoVerdict::Identical), "{kto:?}");
}

#[test]
fn the_primary_contrast_is_not_adjusted() {
    let mut fixture = Fixture::new(&[("dpo", 60), ("kto", 70), ("ipo", 68), ("slic", 62)], 3);
    let before = fixture.contrasts();
    let primary = PrimaryContrast { series: "ipo".to_owned(), x: 0.5.into(), measure: Measure::Accuracy };
    fixture.experiment.primary = Some(primary);
    let after = fixture.contrasts();
    let (ipo, ipo_before) = (of(&after, "ipo"), of(&before, "ipo"));
    assert!(ipo.is_primary && ipo.p_holm == ipo.p && ipo.p == ipo_before.p);
    assert!(ipo.detectable < ipo_before.detectable);
    // The others are a family of two instead of three.
    assert!(of(&after, "kto").detectable < of(&before, "kto").detectable);
    assert!(!of(&after, "kto").is_primary);
}

#[test]
fn a_failed_run_never_makes_a_verdict_stronger() {
    let series = [("dpo", 60), ("kto", 88), ("ipo", 45), ("slic", 62)];
    let complete = Fixture::new(&series, 3);
    let before = complete.contrasts();
    assert_eq!(of(&before, "kto").verdict, Verdict::Better);
    // A method without any run still counts among the comparisons.
    let mut without = Fixture::new(&series, 3);
    without.series[3].1.clear();
    without.lost = vec![("slic", 3)];
    let after = without.contrasts();
    assert_eq!(after.len(), 2);
    let family = |contrasts: &[Contrast]| of(contrasts, "kto").p_holm / of(contrasts, "kto").p;
    assert!((family(&after) - family(&before)).abs() < 1e-9);
    // The remaining runs of the better series may be the lucky ones.
    let mut fewer = Fixture::new(&series, 5);
    fewer.series[1].1.pop();
    fewer.series[2].1.pop();
    fewer.lost = vec![("kto", 1), ("ipo", 1)];
    let after = fewer.contrasts();
    let (kto, ipo) = (of(&after, "kto"), of(&after, "ipo"));
    assert_eq!((kto.verdict, kto.no_verdict), (Verdict::Inconclusive, Some(NoVerdict::LostRuns)));
    // The worse series may be called worse although it has lost runs.
    assert_eq!((ipo.seeds, ipo.no_verdict), (4, None));
}

#[test]
fn adjusted_intervals_exclude_zero_exactly_where_a_difference_is_significant() {
    let skills = [("dpo", 55), ("kto", 85), ("ipo", 56), ("csft", 20), ("slic", 66), ("bco", 64)];
    let contrasts = Fixture::new(&skills, 3).contrasts();
    let mut significant = 0;
    for contrast in &contrasts {
        let (adjusted, interval) = (contrast.adjusted.unwrap(), contrast.difference);
        assert!(adjusted.low <= interval.low && interval.high <= adjusted.high, "{contrast:?}");
        let excludes_zero = adjusted.low > 0.0 || adjusted.high < 0.0;
        assert_eq!(excludes_zero, contrast.p_holm < SIGNIFICANT, "{contrast:?}");
        significant += usize::from(excludes_zero);
    }
    assert!((2..5).contains(&significant), "{contrasts:?}");
    let one_seed = Fixture::new(&[("dpo", 20), ("kto", 95)], 1).contrasts();
    assert_eq!(of(&one_seed, "kto").adjusted, None);
}

#[test]
fn levels_of_holm_rise_until_the_first_comparison_fails() {
    let levels = step_levels(&[0.03, 0.001, 0.02, 0.9, 0.012], 5, 0.05);
    let fifths = levels.iter().map(|level| (SIGNIFICANT / level).round()).collect::<Vec<_>>();
    // 0.001 < 0.05/5 and 0.012 < 0.05/4, but 0.02 > 0.05/3.
    assert_eq!(fifths, [3.0, 5.0, 3.0, 3.0, 4.0]);
}

#[test]
fn two_series_at_chance_get_no_verdict() {
    let point = |series: &str, low: f64| Point {
        series: series.to_owned(),
        x: 0.5,
        accuracy: Some(Estimate { value: low + 0.05, low, high: low + 0.1 }),
        smoothed_accuracy: None,
        own_accuracy: None,
        thumbs: None,
        seeds: Vec::new(),
        utility: None,
        margin: Estimate { value: 0.0, low: 0.0, high: 0.0 },
        steps: 7,
        calibration: None,
    };
    let before = Fixture::new(&[("dpo", 55), ("kto", 85)], 3).contrasts();
    let withheld = |dpo: f64, kto: f64| {
        let mut contrasts = before.clone();
        withhold_unlearnt(&mut contrasts, &[point("dpo", dpo), point("kto", kto)]);
        (contrasts[0].verdict, contrasts[0].no_verdict)
    };
    let unlearnt = (Verdict::Inconclusive, Some(NoVerdict::NotLearnt));
    assert_eq!(withheld(0.48, 0.49), unlearnt);
    assert_eq!(withheld(0.38, 0.49), unlearnt);
    // One of them beats chance.
    assert_eq!(withheld(0.48, 0.51), (Verdict::Better, None));
}
