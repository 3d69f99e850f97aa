//! The training loop.

use std::time::Instant;

use prospect_dist::{Collective, CollectiveError};
use prospect_model::{Activations, Adapter, Decoder, Gradients, Model, PackedBatch, Parameters, Train};
use prospect_objective::{LogProb, Metrics};
use prospect_runs::{MetricsRecord, RecordKind};

use crate::{
    Encoder, LogProbGranularity, ObjectiveState, Reference, ReferenceCache, Settings, TrainError,
    TrainingSet,
    batches::{MicroBatch, Role, epoch_order, micro_batches},
    checkpoint::{Checkpoints, TrainState},
    ledger::noise_ledger,
    objective::Loss,
    optimizer::{AdamW, Optimizer, global_norm},
    scores::{Scored, Scores, log_probs},
};

/// What to train, and on what.
pub struct Job<'a> {
    /// The model at the start of the stage: the reference.
    pub start: &'a Model,
    /// What of it is trained.
    pub train: Train,
    /// What forward passes keep.
    pub activations: Activations,
    /// How to train.
    pub settings: &'a Settings,
    /// What to train on.
    pub examples: &'a TrainingSet,
    /// Encodes KTO's mismatched completions.
    pub encoder: &'a Encoder<'a>,
    /// Seed of the adapter and of the data order.
    pub seed: u64,
    /// Where the run keeps its state; None for a run too short to be worth it.
    pub checkpoints: Option<&'a Checkpoints>,
    /// Who else trains it: each member of the group runs a part of every batch.
    pub group: &'a dyn Collective,
}

/// Watches a run; does nothing of itself.
pub trait Observer {
    /// Called before the first step and after every step.
    fn after(
        &mut self,
        _step: u64,
        _total: u64,
        _policy: &Policy<'_>,
        _cache: &ReferenceCache,
    ) -> Result<(), TrainError> {
        Ok(())
    }

    /// Called with the metrics of a step.
    fn record(&mut self, _record: MetricsRecord) -> Result<(), TrainError> {
        Ok(())
    }
}

/// A policy in training and its reference.
pub struct Policy<'a> {
    /// The policy.
    pub decoder: &'a Decoder,
    /// The reference.
    pub reference: Reference<'a>,
    /// The reference's name in the cache.
    pub reference_name: &'a str,
    /// What the objective carries from step to step.
    pub state: ObjectiveState,
    loss: Loss,
}

impl Policy<'_> {
    /// Log-probs of a packed batch under policy and reference. Before the first step (`at_start`) the policy is the
    /// reference, bit for bit, and need not be run.
    pub fn log_probs(
        &self,
        packed: &PackedBatch,
        at_start: bool,
        cache: &ReferenceCache,
    ) -> Result<Vec<LogProb>, TrainError> {
        let reference = self.reference_log_probs(packed, LogProbGranularity::Sequences, cache)?;
        let policy =
            if at_start { reference.clone() } else { self.decoder.log_probs(packed, Adapter::On)? };
        Ok(log_probs(packed, policy, reference))
    }

    fn reference_log_probs(
        &self,
        packed: &PackedBatch,
        of: LogProbGranularity,
        cache: &ReferenceCache,
    ) -> Result<Vec<f64>, TrainError> {
        cache.log_probs(self.reference_name, &self.reference, packed, of)
    }

    /// What the objective sees of a batch in training, given the log-probs of its tokens.
    fn scores(
        &self,
        packed: &PackedBatch,
        tokens: &[f64],
        settings: &Settings,
        cache: &ReferenceCache,
    ) -> Result<Scores, TrainError> {
        Ok(match settings.humanline {
            Some(humanline) => {
                let reference = self.reference_log_probs(packed, LogProbGranularity::Tokens, cache)?;
                Scores::clamped(packed, tokens, &reference, humanline)
            }
            None if settings.objective.needs_reference() => Scores::whole(
                packed,
                tokens,
                self.reference_log_probs(packed, LogProbGranularity::Sequences, cache)?,
            ),
            None => Scores::whole(packed, tokens, vec![0.0; packed.sequences()]),
        })
    }

    /// β, with which log-ratios become rewards.
    pub fn beta(&self) -> f64 {
        self.loss.beta()
    }

    /// The objective's loss and metrics, and d loss / d log π of every sequence.
    pub fn evaluate(&self, roles: &[Role], log_probs: &[LogProb]) -> (f64, Vec<f64>, Metrics) {
        self.loss.evaluate(self.state, roles, log_probs)
    }
}

/// A finished run.
#[derive(Debug)]
pub struct Trained {
    /// The policy.
    pub policy: Decoder,
    /// Optimizer steps.
    pub steps: u64,
    /// Tokens that passed through the model in training steps, prompts counted once.
    pub tokens: u64,
    /// Seconds of work, those before an interruption included.
    pub seconds: f64,
}

/// Trains a policy.
pub fn train(
    job: &Job<'_>,
    cache: &ReferenceCache,
    observer: &mut dyn Observer,
) -> Result<Trained, TrainError> {
    let started = Instant::now();
    let Job { start, settings, examples, .. } = job;
    let decoder = match job.train {
        Train::Lora(lora) => start.decoder.with_lora(lora, job.seed)?,
        Train::Full => start.decoder.with_all_trained()?,
    };
    let reference = || match job.train {
        Train::Lora(_) => Reference::AdapterOff(&decoder),
        Train::Full => Reference::Frozen(&start.decoder),
    };
    let mut policy = Policy {
        decoder: &decoder,
        reference: reference(),
        reference_name: &start.fingerprint,
        state: ObjectiveState::default(),
        loss: Loss::new(&settings.objective, examples.class_counts()),
    };
    let options = AdamW {
        betas: settings.adam_betas,
        epsilon: settings.adam_epsilon,
        weight_decay: settings.weight_decay,
    };
    let mut optimizer = Optimizer::new(options, decoder.parameters())?;

    let per_batch = (settings.batch_size / examples.completions_per_example()).max(1);
    let per_epoch = examples.len().div_ceil(per_batch);
    let total = settings.steps(examples.completions());
    let restored = restored(job, decoder.parameters(), &mut optimizer)?;
    if restored.is_none() {
        all_go_on(job.group, observer.after(0, total, &policy, cache))?;
    }
    let TrainState { step: first, mut tokens, seconds: earlier, objective } = restored.unwrap_or_default();
    policy.state = objective;
    let seconds = || earlier + started.elapsed().as_secs_f64();
    let (mut epoch, mut order) = (0, epoch_order(job.seed, 0, examples.len()));
    for step in first..total {
        let this_epoch = step / per_epoch as u64;
        if this_epoch != epoch {
            (epoch, order) = (this_epoch, epoch_order(job.seed, this_epoch, examples.len()));
        }
        let first = (step % per_epoch as u64) as usize * per_batch;
        let batch = &order[first..(first + per_batch).min(order.len())];
        let micro = micro_batches(examples, batch, &order, settings, job.encoder)?;
        let learning_rate = settings.learning_rate_at(step, total);
        let mut record = one_step(job, &mut policy, &micro, cache, &mut optimizer, step, learning_rate)?;
        tokens += micro.iter().map(|micro| micro.packed.rows() as u64).sum::<u64>();
        record.values.insert("num_tokens".to_owned(), tokens as f64);
        record.values.insert("epoch".to_owned(), (step + 1) as f64 / per_epoch as f64);
        observer.record(record)?;
        all_go_on(job.group, observer.after(step + 1, total, &policy, cache))?;
        let due = job.checkpoints.filter(|all| step + 1 < total && all.due(step + 1));
        if due.is_some() || step + 1 == total {
            same_weights(job.group, decoder.parameters(), step + 1)?;
        }
        if let Some(checkpoints) = due.filter(|_| job.group.rank() == 0) {
            let reached = TrainState { step: step + 1, tokens, seconds: seconds(), objective: policy.state };
            checkpoints.save(reached, decoder.parameters(), &optimizer)?;
        }
    }
    let seconds = seconds();
    Ok(Trained { policy: decoder, steps: total, tokens, seconds })
}

/// Forward over the whole global batch, the objective once, then backward and the optimizer.
fn one_step(
    job: &Job<'_>,
    policy: &mut Policy<'_>,
    micro: &[MicroBatch],
    cache: &ReferenceCache,
    optimizer: &mut Optimizer,
    step: u64,
    learning_rate: f64,
) -> Result<MetricsRecord, TrainError> {
    let decoder = policy.decoder;
    let own = job.group.part(micro.len());
    let roles_of = |micro: &[MicroBatch]| -> usize { micro.iter().map(|micro| micro.roles.len()).sum() };
    // Only the last micro-batch keeps its activations; the others run again for their backward pass. z0 must be known
    // before any backward pass, and memory must not grow with the global batch.
    let mut scores = Vec::with_capacity(own.len());
    let mut last = None;
    for (index, MicroBatch { packed, .. }) in micro.iter().enumerate().take(own.end).skip(own.start) {
        scores.push(if index + 1 == own.end {
            let (_, saved) = decoder.forward(packed, job.activations)?;
            let saved = last.insert(saved);
            policy.scores(packed, saved.token_log_probs(), job.settings, cache)?
        } else {
            let tokens = decoder.token_log_probs(packed, Adapter::On)?;
            policy.scores(packed, &tokens, job.settings, cache)?
        });
    }
    let roles: Vec<Role> = micro.iter().flat_map(|micro| micro.roles.iter().copied()).collect();
    // Everybody sees the whole batch, and evaluates the same objective.
    let Scored { log_probs, unclamped } = Scored::of_all(&scores, job.group)?;
    policy.state = policy.loss.observe(policy.state, &roles, &log_probs);
    let (loss, gradient, metrics) = policy.evaluate(&roles, &log_probs);
    finite(step, "loss", loss)?;

    let mut gradients = Gradients::none(decoder.parameters());
    let (mut rest, end) = (&gradient[roles_of(&micro[..own.start])..], own.end);
    for ((index, MicroBatch { packed, roles, .. }), scores) in
        micro.iter().enumerate().skip(own.start).zip(&scores)
    {
        let (gradient, after) = rest.split_at(roles.len());
        rest = after;
        let saved = match last.take_if(|_| index + 1 == end) {
            Some(saved) => saved,
            None => decoder.forward(packed, job.activations)?.1,
        };
        decoder.backward_tokens(saved, &scores.token_gradient(packed, gradient), &mut gradients)?;
    }
    sum_gradients(job.group, decoder.parameters(), &mut gradients)?;
    let norm = global_norm(decoder.parameters(), &gradients)?;
    finite(step, "norm of the gradient", norm)?;
    let scale = (job.settings.max_grad_norm / norm).min(1.0);
    optimizer.step(decoder.parameters(), &gradients, scale, learning_rate)?;

    let share = |(inside, tokens): (usize, usize)| inside as f64 / tokens.max(1) as f64;
    let unclamped = unclamped.map(|counts| ("humanline/unclamped", share(counts)));
    let ledger = if job.examples.has_corrupted() {
        let corrupted: Vec<bool> = micro.iter().flat_map(|micro| micro.corrupted.iter().copied()).collect();
        let beta = job.settings.objective.needs_reference().then(|| policy.beta());
        noise_ledger(&roles, &corrupted, &log_probs, &gradient, beta)
    } else {
        Vec::new()
    };
    let named = metrics
        .named()
        .chain([("loss", loss), ("grad_norm", norm), ("learning_rate", learning_rate)])
        .chain(unclamped)
        .chain(ledger);
    Ok(MetricsRecord {
        kind: RecordKind::Train,
        step: step + 1,
        values: named.map(|(name, value)| (name.to_owned(), value)).collect(),
    })
}

/// Puts the newest state back, if there is any: on all members the same.
fn restored(
    job: &Job<'_>,
    parameters: &Parameters,
    optimizer: &mut Optimizer,
) -> Result<Option<TrainState>, TrainError> {
    let mut restore = || job.checkpoints.map_or(Ok(None), |all| all.restore(parameters, optimizer));
    let step = |restored: &Option<TrainState>| restored.map_or(0, |reached| reached.step);
    let rank = job.group.rank();
    if rank == 0 {
        let restored = restore()?;
        job.group.broadcast(step(&restored).to_le_bytes().to_vec())?;
        return Ok(restored);
    }
    // By now rank 0 has prepared the run's folder.
    let told = job.group.broadcast(Vec::new())?;
    let first = <[u8; 8]>::try_from(told).map_err(|_| CollectiveError::OutOfStep { rank: 0 })?;
    let (restored, first) = (restore()?, u64::from_le_bytes(first));
    let found = step(&restored);
    if found == first { Ok(restored) } else { Err(TrainError::OtherState { rank, found, first }) }
}

/// All members of a group go on, or none of them does.
fn all_go_on(group: &dyn Collective, own: Result<(), TrainError>) -> Result<(), TrainError> {
    if group.size() == 1 {
        return own;
    }
    let reason = own.as_ref().err().map(|error| format!("!{error}")).unwrap_or_default();
    let reasons = group.gather(reason.into_bytes());
    own?;
    match reasons?.iter().enumerate().find_map(|(rank, reason)| Some((rank, reason.strip_prefix(b"!")?))) {
        Some((rank, reason)) => {
            Err(TrainError::Ended { rank, reason: String::from_utf8_lossy(reason).into_owned() })
        }
        None => Ok(()),
    }
}

/// Makes sure that all members have come to the same weights: each computes them for itself.
fn same_weights(group: &dyn Collective, parameters: &Parameters, step: u64) -> Result<(), TrainError> {
    if group.size() == 1 {
        return Ok(());
    }
    let mut hasher = blake3::Hasher::new();
    for (_, parameter) in parameters.iter() {
        parameter.value().write_bytes(&mut std::io::BufWriter::new(&mut hasher))?;
    }
    match group.agree(hasher.finalize().as_bytes().to_vec()) {
        Err(CollectiveError::OutOfStep { .. }) => Err(TrainError::Drifted { step }),
        other => Ok(other?),
    }
}

/// Adds up the gradients of all members of a group.
fn sum_gradients(
    group: &dyn Collective,
    parameters: &Parameters,
    gradients: &mut Gradients,
) -> Result<(), TrainError> {
    if group.size() == 1 {
        return Ok(());
    }
    for (_, parameter) in parameters.iter() {
        let value = parameter.value();
        // A member without a part of the batch has none.
        let own = match gradients.get(parameter) {
            Some(gradient) => gradient.clone(),
            None => value.zeros_like()?,
        };
        gradients.set(parameter, group.sum_tensor(&own)?.to_dtype(value.dtype())?);
    }
    Ok(())
}

fn finite(step: u64, what: &'static str, value: f64) -> Result<(), TrainError> {
    if value.is_finite() { Ok(()) } else { Err(TrainError::Diverged { step, what, value }) }
}
