"""Checks the golden values of crates/objective against TRL's formulas, in float64 with autograd.

    python check_objectives.py            compares GOLDEN with the formulas; exits 1 on a difference
    python check_objectives.py --write    overwrites GOLDEN
    python check_objectives.py --trl      also calls the loss methods of the installed TRL (float32)

GOLDEN is crates/objective/src/golden.json; `cargo test -p prospect-objective` compares the Rust
functions with it. The formulas are those of TRL (trainer/kto_trainer.py, trainer/dpo_trainer.py,
experimental/{cpo,orpo}, and experimental/bco, which TRL 1.16 has removed) and, if TRL has none, of
HALOs (cdpo, slic: train/trainers.py; ppo, kto_log_sigmoid: trainers.py of its `legacy` branch) or of
the KTO paper (kto_identity, kto_reference_free). Needs torch; `--trl` also needs trl.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

GOLDEN = Path(__file__).parents[2] / "crates" / "objective" / "src" / "golden.json"
TOLERANCE = 1e-10


def kto_losses(options, chosen, rejected, kl):
    """KTOTrainer._compute_loss, loss_type "kto"."""
    beta = options["beta"]
    return torch.cat((
        options["desirable_weight"] * (1 - F.sigmoid(beta * (chosen - kl))),
        options["undesirable_weight"] * (1 - F.sigmoid(beta * (kl - rejected))),
    ))  # fmt: skip


def kto_log_sigmoid_losses(options, chosen, rejected, kl):
    """HALOs' KTOLogSigmoidTrainer.loss."""
    beta = options["beta"]
    return torch.cat((
        options["desirable_weight"] * -F.logsigmoid(beta * (chosen - kl)),
        options["undesirable_weight"] * -F.logsigmoid(beta * (kl - rejected)),
    ))  # fmt: skip


def kto_identity_losses(options, chosen, rejected, kl):
    """The paper's ablation v(x) = x, without the constant."""
    beta = options["beta"]
    return torch.cat((
        options["desirable_weight"] * -(beta * (chosen - kl)),
        options["undesirable_weight"] * -(beta * (kl - rejected)),
    ))  # fmt: skip


def apo_zero_unpaired_losses(options, chosen, rejected, _):
    """KTOTrainer._compute_loss, loss_type "apo_zero_unpaired"."""
    beta = options["beta"]
    return torch.cat((
        options["desirable_weight"] * (1 - F.sigmoid(beta * chosen)),
        options["undesirable_weight"] * F.sigmoid(beta * rejected),
    ))  # fmt: skip


def bco_losses(options, chosen, rejected, _):
    """BCOTrainer.bco_loss; the running mean starts empty, so it is the mean of the batch."""
    chosen, rejected = options["beta"] * chosen, options["beta"] * rejected
    delta = torch.cat((chosen, rejected)).detach().mean()
    return torch.cat((-F.logsigmoid(chosen - delta), -F.logsigmoid(-(rejected - delta))))


def margin(beta, pairs):
    """DPOTrainer: beta * delta_score."""
    policy_c, policy_r, reference_c, reference_r, _, _ = pairs
    return beta * ((policy_c - reference_c) - (policy_r - reference_r))


def dpo(options, pairs):
    return -F.logsigmoid(margin(options["beta"], pairs))


def cdpo(options, pairs):
    """HALOs, and TRL before its sigmoid loss dropped `label_smoothing`."""
    x, epsilon = margin(options["beta"], pairs), options["label_smoothing"]
    return -F.logsigmoid(x) * (1 - epsilon) - F.logsigmoid(-x) * epsilon


def robust_dpo(options, pairs):
    x, epsilon = margin(options["beta"], pairs), options["label_smoothing"]
    clean = -(1 - epsilon) * F.logsigmoid(x)
    flipped = -epsilon * F.logsigmoid(-x)
    return (clean - flipped) / (1 - 2 * epsilon)


def hinge(options, pairs):
    return torch.relu(1 - margin(options["beta"], pairs))


def ipo(options, pairs):
    policy_c, policy_r, reference_c, reference_r, length_c, length_r = pairs
    delta = (policy_c - reference_c) / length_c.clamp(min=1.0) - (policy_r - reference_r) / length_r.clamp(min=1.0)
    return (delta - 1 / (2 * options["beta"])) ** 2


def simpo(options, pairs):
    """CPOTrainer.cpo_loss, loss_type "simpo", on average log-probs; `cpo_alpha` 0."""
    policy_c, policy_r, _, _, length_c, length_r = pairs
    logits = policy_c / length_c - policy_r / length_r - options["simpo_gamma"] / options["beta"]
    return -F.logsigmoid(options["beta"] * logits)


def log1mexp(x):
    """Computes log(1 - exp(x)) as TRL does for ORPO, stable on both sides of -ln 2."""
    return torch.where(x > -0.6931471805599453, torch.log(-torch.expm1(x)), torch.log1p(-torch.exp(x)))


def orpo(options, pairs):
    """ORPOTrainer.odds_ratio_loss; the NLL of the chosen side is a mean over its tokens, as in HALOs."""
    policy_c, policy_r, _, _, length_c, length_r = pairs
    mean_c, mean_r = policy_c / length_c, policy_r / length_r
    log_odds = (mean_c - mean_r) - (log1mexp(mean_c) - log1mexp(mean_r))
    return -mean_c - options["beta"] * F.logsigmoid(log_odds)


def slic(options, pairs):
    """HALOs' SLiCTrainer.loss with both parts summed over tokens."""
    policy_c, policy_r, _, _, _, _ = pairs
    return torch.clamp(options["beta"] - policy_c + policy_r, min=0) + options["lambda_coef"] * -policy_c


def rewards(options, pairs):
    """DPOTrainer: beta times the log-ratios of both sides."""
    policy_c, policy_r, reference_c, reference_r, _, _ = pairs
    return options["beta"] * (policy_c - reference_c), options["beta"] * (policy_r - reference_r)


def apo_zero(options, pairs):
    chosen, rejected = rewards(options, pairs)
    return (1 - F.sigmoid(chosen)) + F.sigmoid(rejected)


def apo_down(options, pairs):
    chosen, rejected = rewards(options, pairs)
    return F.sigmoid(chosen) + (1 - F.sigmoid(chosen - rejected))


def exo_pair(options, pairs):
    x, epsilon = margin(options["beta"], pairs), tensor(options["label_smoothing"])
    return F.sigmoid(x) * (F.logsigmoid(x) - torch.log1p(-epsilon)) + F.sigmoid(-x) * (
        F.logsigmoid(-x) - torch.log(epsilon)
    )


def nca_pair(options, pairs):
    chosen, rejected = rewards(options, pairs)
    return -F.logsigmoid(chosen) - 0.5 * F.logsigmoid(-chosen) - 0.5 * F.logsigmoid(-rejected)


def sppo_hard(options, pairs):
    policy_c, policy_r, reference_c, reference_r, _, _ = pairs
    target = 0.5 / options["beta"]
    return ((policy_c - reference_c) - target) ** 2 + ((policy_r - reference_r) + target) ** 2


def smoothed(options, delta):
    x, epsilon = options["beta"] * delta, options["label_smoothing"]
    return -F.logsigmoid(x) * (1 - epsilon) - F.logsigmoid(-x) * epsilon


def aot(options, pairs):
    policy_c, policy_r, reference_c, reference_r, _, _ = pairs
    policy, _ = torch.sort(policy_c - policy_r)
    reference, _ = torch.sort(reference_c - reference_r)
    return smoothed(options, policy - reference)


def aot_unpaired(options, pairs):
    policy_c, policy_r, reference_c, reference_r, _, _ = pairs
    chosen, _ = torch.sort(policy_c - reference_c)
    rejected, _ = torch.sort(policy_r - reference_r)
    return smoothed(options, chosen - rejected)


def ppo(case, policy, reference, weights):
    """HALOs' PPOTrainer with a critic of 0: compute_advantages and loss, on a row of tokens.

    `policy` and `reference` hold the log-probs of all tokens, completion after completion.
    """
    options, tokens = case["options"], case["tokens"]
    advantages, of_token = [], []
    for row, length in enumerate(tokens):
        reward, gae = 1.0 if row < case["desirable"] else -1.0, 0.0
        reversed_advantages = []
        for t in reversed(range(length)):
            gae = (reward if t == length - 1 else 0.0) + options["discount"] * gae
            reversed_advantages.append(gae)
        advantages += reversed_advantages[::-1]
        of_token += [row] * length
    count = len(advantages)
    mean = sum(advantages) / count
    variance = sum((advantage - mean) ** 2 for advantage in advantages) / (count - 1)
    advantages = tensor([(advantage - mean) / (variance + 1e-8) ** 0.5 for advantage in advantages])
    ratio = torch.exp(policy - reference)
    gain = torch.minimum(advantages * ratio, advantages * torch.clamp(ratio, options["clip_low"], options["clip_high"]))
    losses = -gain + options["kl_coef"] * (reference - policy)
    return (tensor([case["weights"][row] for row in of_token]) * losses).mean()


UNPAIRED = {
    "kto": kto_losses, "kto_log_sigmoid": kto_log_sigmoid_losses, "kto_identity": kto_identity_losses,
    "kto_reference_free": kto_losses, "apo_zero_unpaired": apo_zero_unpaired_losses, "bco": bco_losses,
}  # fmt: skip
PAIRED = {
    "dpo": dpo, "cdpo": cdpo, "robust_dpo": robust_dpo, "hinge": hinge, "ipo": ipo, "simpo": simpo, "orpo": orpo,
    "slic": slic, "apo_zero": apo_zero, "apo_down": apo_down, "exo_pair": exo_pair, "nca_pair": nca_pair,
    "sppo_hard": sppo_hard, "aot": aot, "aot_unpaired": aot_unpaired,
}  # fmt: skip


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def evaluate(case) -> tuple[float, list[float]]:
    """Returns the loss and its gradient by the policy's log-probs, all chosen before all rejected."""
    policy = tensor(case["policy"]).requires_grad_()
    reference, weights = tensor(case["reference"]), tensor(case["weights"])
    name, options = case["objective"], case["options"]
    if name == "sft":
        # Trainer: a sum over tokens, divided by the number of tokens in the batch.
        loss = -(weights * policy).sum() / sum(case["tokens"])
    elif name == "ppo":
        loss = ppo(case, policy, reference, weights)
    elif name in UNPAIRED:
        chosen = case["desirable"]
        ratio = policy - reference
        kl = None
        if name == "kto_reference_free":
            # A uniform reference: log pi(y|x) + H, where the mismatched completions estimate -H.
            ratio, kl = policy - 0.0, tensor(case["mismatched_policy"]).mean()
        elif name.startswith("kto"):
            kl = (tensor(case["mismatched_policy"]) - tensor(case["mismatched_reference"])).mean().clamp(min=0)
        losses = UNPAIRED[name](options, ratio[:chosen], ratio[chosen:], kl)
        loss = (weights * losses).mean()
    else:
        tokens = tensor(case["tokens"])
        half = len(policy) // 2
        pairs = (policy[:half], policy[half:], reference[:half], reference[half:], tokens[:half], tokens[half:])
        loss = (weights * PAIRED[name](options, pairs)).mean()
    loss.backward()
    return loss.item(), policy.grad.tolist()


def cases() -> list[dict]:
    """Returns the inputs: hand-written small batches, then one random batch per objective."""
    unit = {"desirable_weight": 1.0, "undesirable_weight": 1.0}
    thumbs = {
        "policy": [2.0, -1.0, 4.5, 0.5, 3.0], "reference": [0.0] * 5, "desirable": 3, "weights": [1.0] * 5,
        "mismatched_policy": [1.0, -0.5, 0.3, 2.2, -0.25], "mismatched_reference": [0.0] * 5,
    }  # fmt: skip
    ratios = {
        "policy": [2.0, -1.0, 0.5, 3.0], "reference": [0.0] * 4, "tokens": [10, 5, 8, 20], "weights": [1.0, 1.0],
    }  # fmt: skip
    log_probs = {**ratios, "policy": [-12.0, -9.0, -14.0, -30.0]}
    made = [
        ("kto", {"beta": 0.1, **unit}, thumbs),
        ("kto", {"beta": 0.1, "desirable_weight": 1.2, "undesirable_weight": 1.0}, thumbs),
        ("kto", {"beta": 0.1, **unit}, {**thumbs, "mismatched_policy": [-3.0, 1.0], "mismatched_reference": [0.0, 0.0]}),
        ("apo_zero_unpaired", {"beta": 0.1, **unit}, thumbs),
        ("bco", {"beta": 0.1}, thumbs),
        ("dpo", {"beta": 0.1}, ratios),
        ("cdpo", {"beta": 0.1, "label_smoothing": 0.2}, ratios),
        ("robust_dpo", {"beta": 0.1, "label_smoothing": 0.1}, ratios),
        ("hinge", {"beta": 0.1}, ratios),
        ("ipo", {"beta": 0.1}, ratios),
        ("simpo", {"beta": 2.0, "simpo_gamma": 0.5}, log_probs),
        ("simpo", {"beta": 10.0, "simpo_gamma": 3.0}, log_probs),
        ("orpo", {"beta": 0.1}, log_probs),
        ("slic", {"beta": 1.0, "lambda_coef": 0.1}, log_probs),
    ]

    generator = torch.Generator().manual_seed(0)

    def random(count: int, low: float, high: float) -> list[float]:
        values = torch.rand(count, generator=generator, dtype=torch.float64) * (high - low) + low
        return [round(value, 3) for value in values.tolist()]

    pairs = {
        "policy": random(8, -60, -2), "reference": random(8, -60, -2), "tokens": [12, 3, 1, 40, 7, 9, 25, 2],
        "weights": random(4, 0.2, 3),
    }  # fmt: skip
    rows = {
        "policy": random(7, -60, -2), "reference": random(7, -60, -2), "desirable": 2, "weights": random(7, 0.2, 3),
        "mismatched_policy": random(7, -60, -40), "mismatched_reference": random(7, -70, -45),
    }  # fmt: skip
    weighted = {"beta": 0.07, "desirable_weight": 4.1, "undesirable_weight": 0.6}
    made += [
        ("kto", weighted, rows),
        ("apo_zero_unpaired", weighted, rows),
        ("bco", {"beta": 0.07}, rows),
        ("dpo", {"beta": 0.05}, pairs),
        ("cdpo", {"beta": 0.05, "label_smoothing": 0.15}, pairs),
        ("robust_dpo", {"beta": 0.05, "label_smoothing": 0.35}, pairs),
        ("hinge", {"beta": 0.05}, pairs),
        ("ipo", {"beta": 0.4}, pairs),
        ("simpo", {"beta": 2.5, "simpo_gamma": 1.1}, pairs),
        ("orpo", {"beta": 0.25}, pairs),
        ("slic", {"beta": 1.5, "lambda_coef": 0.3}, pairs),
        ("sft", {}, pairs | {"weights": random(8, 0.2, 3)}),
    ]
    # Sorted log-probs have other pairs than the batch, so the weights of `aot` and `aot_unpaired` are 1.
    unweighted = {**pairs, "weights": [1.0] * 4}
    tokens = [3, 5, 2, 4]
    completions = {
        "policy": random(sum(tokens), -4, -0.1), "reference": random(sum(tokens), -4, -0.1), "tokens": tokens,
        "desirable": 1, "weights": [1.0, 0.5, 2.0, 1.5],
    }  # fmt: skip
    clip = {"clip_low": 0.25, "clip_high": 4.0}
    made += [
        ("kto_log_sigmoid", {"beta": 0.1, **unit}, thumbs),
        ("kto_log_sigmoid", weighted, rows),
        ("kto_identity", {"beta": 0.1, **unit}, thumbs),
        ("kto_identity", weighted, rows),
        ("kto_reference_free", {"beta": 0.1, "desirable_weight": 1.75, "undesirable_weight": 1.0}, rows),
        ("apo_zero", {"beta": 0.1}, ratios),
        ("apo_zero", {"beta": 0.05}, pairs),
        ("apo_down", {"beta": 0.1}, ratios),
        ("apo_down", {"beta": 0.05}, pairs),
        ("exo_pair", {"beta": 0.1, "label_smoothing": 1e-3}, ratios),
        ("exo_pair", {"beta": 0.05, "label_smoothing": 0.2}, pairs),
        ("nca_pair", {"beta": 0.1}, ratios),
        ("nca_pair", {"beta": 0.05}, pairs),
        ("sppo_hard", {"beta": 0.1}, ratios),
        ("sppo_hard", {"beta": 0.05}, pairs),
        ("aot", {"beta": 0.1, "label_smoothing": 0.0}, unweighted),
        ("aot", {"beta": 0.05, "label_smoothing": 0.2}, unweighted),
        ("aot_unpaired", {"beta": 0.1, "label_smoothing": 0.0}, ratios),
        ("aot_unpaired", {"beta": 0.05, "label_smoothing": 0.2}, unweighted),
        ("ppo", {**clip, "kl_coef": 0.1, "discount": 0.9405}, completions),
        ("ppo", {"clip_low": 0.5, "clip_high": 2.0, "kl_coef": 0.0, "discount": 1.0}, completions),
    ]
    return [{"objective": name, "options": options, **inputs} for name, options, inputs in made]


class Stand:
    """Minimal trainer to call its loss method."""

    def __init__(self, **attributes) -> None:
        self.accelerator = type("Accelerator", (), {"device": "cpu"})
        self.__dict__.update(attributes)


def with_trl(golden: list[dict]) -> float:
    """Calls TRL's loss methods, if any; returns the largest relative difference of a loss."""
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    worst = 0.0
    for case in golden:
        name, options = case["objective"], case["options"]
        if name not in ("simpo", "orpo"):
            continue
        policy, weights = (torch.tensor(case[key]) for key in ("policy", "weights"))
        half = len(policy) // 2
        mean = policy / torch.tensor(case["tokens"])
        if name == "simpo":
            trainer = Stand(
                beta=options["beta"], simpo_gamma=options["simpo_gamma"], alpha=0.0, loss_type="simpo",
                label_smoothing=0.0,
            )  # fmt: skip
            losses = CPOTrainer.cpo_loss(trainer, mean[:half], mean[half:])[0]
        else:
            trainer = Stand(beta=options["beta"])
            losses = -mean[:half] - ORPOTrainer.odds_ratio_loss(trainer, mean[:half], mean[half:])[0]
        loss = (weights * losses).mean().item()
        worst = max(worst, abs(loss - case["loss"]) / abs(case["loss"]))
        print(f"{name} {options}: TRL {loss:.7f}, golden {case['loss']:.7f}")
    return worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="overwrite GOLDEN")
    parser.add_argument("--trl", action="store_true", help="also call the loss methods of the installed TRL")
    arguments = parser.parse_args()

    computed = []
    for case in cases():
        loss, gradient = evaluate(case)
        computed.append({**case, "loss": loss, "gradient": gradient})
    if arguments.write:
        lines = ",\n".join(json.dumps(case) for case in computed)
        GOLDEN.write_text(f"[\n{lines}\n]\n")
    golden = json.loads(GOLDEN.read_text())
    if [{**case, "loss": 0, "gradient": 0} for case in golden] != [{**case, "loss": 0, "gradient": 0} for case in computed]:
        sys.exit(f"{GOLDEN} holds other cases than this script; run it with --write")
    worst = 0.0
    for ours, theirs in zip(golden, computed):
        difference = max(
            abs(a - b) for a, b in zip([ours["loss"], *ours["gradient"]], [theirs["loss"], *theirs["gradient"]])
        )
        worst = max(worst, difference)
        print(f"{ours['objective']} {ours['options']}: loss {ours['loss']:.10f}, largest difference {difference:.1e}")
    # `not <=` rather than `>`: a NaN must fail.
    if not worst <= TOLERANCE:
        sys.exit(f"{worst:.1e} is above the tolerance of {TOLERANCE:.0e}")
    if arguments.trl and not (relative := with_trl(golden)) <= 1e-5:
        sys.exit(f"TRL's loss methods differ by {relative:.1e}")
    print(f"ok: {len(golden)} cases within {worst:.1e}")


if __name__ == "__main__":
    main()
