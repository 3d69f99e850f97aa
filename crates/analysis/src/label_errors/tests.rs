use prospect_core::draw::Draw;

use super::*;

/// Uniform draw in (0, 1).
fn uniform(draw: &Draw, id: &str) -> f64 {
    ((draw.bits(id) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

/// Standard normal draw by Box and Muller.
fn normal(draw: &Draw, id: &str) -> f64 {
    let [one, two] = ["a", "b"].map(|part| uniform(draw, &format!("{id}{part}")));
    (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
}

/// A simulated data set: prompts, and for each judgement fold, score, label and whether it is
/// flipped.
struct Simulated {
    prompts: Vec<String>,
    rows: Vec<(usize, f64, bool, bool)>,
}

impl Simulated {
    /// Draws judgements, `per_prompt` for each prompt. The score is `skill` times the true log-odds
    /// plus noise, in other units in every fold. Flips of a prompt are one draw if `together`.
    fn new(kind: JudgementKind, count: usize, rate: f64, skill: f64, per_prompt: usize, seed: u64) -> Self {
        let draw = Draw::new(seed, "simulated judgements");
        let prompts: Vec<String> = (0..count).map(|index| format!("p{}", index / per_prompt)).collect();
        let rows = (0..count).map(|index| {
            let id = index.to_string();
            let fold = (index / per_prompt) % 4;
            let log_odds = 2.0 * skill * normal(&draw, &format!("{id}x"));
            let shift = if kind == JudgementKind::Thumbs { 0.7 } else { 0.0 };
            let truth = uniform(&draw, &format!("{id}t")) < 1.0 / (1.0 + (-(log_odds + shift)).exp());
            let is_flipped = uniform(&draw, &format!("{}f", prompts[index])) < rate;
            let label = truth != is_flipped;
            let unit = 0.5 + fold as f64;
            match kind {
                JudgementKind::Thumbs => (fold, unit * log_odds, label, is_flipped),
                JudgementKind::Pairs => {
                    // The margin is that of the labelled order.
                    (fold, unit * if label { log_odds } else { -log_odds }, true, is_flipped)
                }
            }
        });
        let rows = rows.collect();
        Self { prompts, rows }
    }

    fn judgements(&self) -> Vec<ScoredJudgement<'_>> {
        let rows = self.rows.iter().zip(&self.prompts);
        rows.map(|((fold, score, label, _), prompt)| ScoredJudgement {
            prompt,
            fold: *fold,
            score: *score,
            label: *label,
        })
        .collect()
    }

    fn errors(&self, kind: JudgementKind) -> LabelErrors {
        label_errors(&self.judgements(), kind).unwrap()
    }
}

#[test]
fn intervals_cover_the_share_of_flipped_labels() {
    for kind in [JudgementKind::Pairs, JudgementKind::Thumbs] {
        for (rate, per_prompt) in [(0.0, 1), (0.1, 1), (0.3, 1), (0.2, 4)] {
            let (mut covered, mut estimated, mut width) = (0, 0, 0.0);
            for seed in 0..30 {
                let simulated = Simulated::new(kind, 1200, rate, 1.5, per_prompt, seed);
                match simulated.errors(kind).flipped {
                    FlippedShare::Estimated(share) => {
                        assert!(share.low < share.high, "{share:?}");
                        estimated += 1;
                        covered += usize::from(share.low <= rate && rate <= share.high);
                        width += share.high - share.low;
                    }
                    FlippedShare::Unbounded => {}
                    FlippedShare::AtChance => panic!("{kind:?} {rate}: at chance"),
                }
            }
            // Of 30 intervals at 95 %, fewer than 26 cover with a probability of 0.3 %.
            assert!(estimated >= 27, "{kind:?} {rate}: {estimated} estimates");
            assert!(covered * 30 >= 26 * estimated, "{kind:?} {rate} {per_prompt}: {covered} of {estimated}");
            assert!(width / (estimated as f64) < 0.35, "{kind:?} {rate}: {width}");
        }
    }
}

#[test]
fn policies_at_chance_give_no_share() {
    for kind in [JudgementKind::Pairs, JudgementKind::Thumbs] {
        let mut simulated = Simulated::new(kind, 400, 0.2, 1.0, 1, 7);
        let draw = Draw::new(1, "noise");
        for (index, row) in simulated.rows.iter_mut().enumerate() {
            row.1 = normal(&draw, &index.to_string());
        }
        assert_eq!(simulated.errors(kind).flipped, FlippedShare::AtChance, "{kind:?}");
    }
}

#[test]
fn weak_policies_give_no_bound_instead_of_a_wrong_one() {
    // Scores say something, and nowhere much.
    let simulated = Simulated::new(JudgementKind::Pairs, 1500, 0.2, 0.15, 1, 3);
    let errors = simulated.errors(JudgementKind::Pairs);
    assert!(errors.agreement.low > 0.5, "{:?}", errors.agreement);
    match errors.flipped {
        FlippedShare::Unbounded => {}
        FlippedShare::Estimated(share) => assert!(share.low <= 0.2 && 0.2 <= share.high, "{share:?}"),
        FlippedShare::AtChance => panic!("above chance"),
    }
}

#[test]
fn flipped_labels_are_disputed_most_and_the_dispute_is_calibrated() {
    for kind in [JudgementKind::Pairs, JudgementKind::Thumbs] {
        let simulated = Simulated::new(kind, 4000, 0.2, 1.5, 1, 11);
        let errors = simulated.errors(kind);
        let rows = simulated.rows.iter().zip(&errors.disagreement).zip(&simulated.prompts);
        let judged: Vec<(&str, f64, bool)> =
            rows.map(|((row, disagreement), prompt)| (prompt.as_str(), *disagreement, row.3)).collect();
        let known = known_flips(&judged).unwrap();
        assert!(known.auc.low > 0.8 && known.auc.low < known.auc.value, "{kind:?} {:?}", known.auc);
        assert_eq!((known.all, known.precision[0].0, known.precision[3].0), (4000, 40, 800));
        assert!(known.precision[0].1.value > 0.8, "{kind:?} {:?}", known.precision);
        // Over all judgements, the mean of the disagreement is the share of disputes by definition:
        // in each class of thumbs the fitted shares are the observed ones.
        assert!(errors.disagreement.iter().all(|value| (0.0..=1.0).contains(value)));
        let sure: Vec<_> = judged.iter().filter(|(_, disagreement, _)| *disagreement > 0.7).collect();
        let share = sure.iter().filter(|(.., flipped)| *flipped).count() as f64 / sure.len() as f64;
        assert!(share > 0.6, "{kind:?} {share}");
    }
}

#[test]
fn a_ranking_by_chance_has_an_auc_of_one_half() {
    let draw = Draw::new(5, "ranking");
    let ids: Vec<String> = (0..2000).map(|index| index.to_string()).collect();
    let judged: Vec<(&str, f64, bool)> = ids
        .iter()
        .map(|id| (id.as_str(), uniform(&draw, id), uniform(&draw, &format!("{id}f")) < 0.2))
        .collect();
    let known = known_flips(&judged).unwrap();
    assert!(known.auc.low < 0.5 && known.auc.high > 0.5, "{:?}", known.auc);
    assert_eq!(known_flips(&judged[..0]), None);
}

#[test]
fn scores_that_are_not_finite_are_an_error() {
    let judgement = |score| ScoredJudgement { prompt: "p", fold: 0, score, label: true };
    assert!(label_errors(&[judgement(f64::NAN), judgement(1.0)], JudgementKind::Pairs).is_err());
    assert!(label_errors(&[], JudgementKind::Pairs).is_err());
}
