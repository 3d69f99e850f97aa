"""Compares capability tests with lm-evaluation-harness, question by question.

    python benches/peers/check_lm_eval.py PROSPECT [--weights GGUF | --tokenizer FILE] [--scratch FOLDER] [--golden FILE]

1. `prospect sweep` trains a model for three steps, and asks it the questions of
   tests/fixtures/questions before and after. Without --weights, it is a tiny random Llama, with a
   token for every byte or the tokens of a tokenizer.json.
2. lm-evaluation-harness asks the exported start (`prospect export`) and the trained model the same
   questions, with the prompts of its own tasks. Only the files are replaced, and TruthfulQA is asked
   without its fixed examples.
3. Log-likelihoods of every choice, scores and generated answers are compared.

--golden writes the log-likelihoods of lm-evaluation-harness for the start; tests compare with them.
Exits 1 on a difference above 1e-3 nats or any other score. Needs torch, transformers, datasets and
lm-eval (tested with 2.9, 5.24, 5.2, 0.4.13).
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")

import lm_eval
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
QUESTIONS = REPOSITORY / "tests/fixtures/questions"
TASKS = pathlib.Path(lm_eval.__file__).parent / "tasks"
TOLERANCE = 1e-3

TINY = """\
weights: random
tokenizer: bytes
train: full
architecture:
  vocab_size: 258
  hidden_size: 16
  intermediate_size: 32
  num_hidden_layers: 1
  num_attention_heads: 2
  num_key_value_heads: 1
  head_dim: 8
  max_position_embeddings: 512
"""

EXPERIMENT = """\
question: Are the scores those of lm-evaluation-harness?
data: data.yaml
model: model.yaml
train: { objective: dpo, learning_rate: 1e-3, max_steps: 3, batch_size: 8, max_length: 160, max_prompt_length: 100 }
matrix: { train.beta: [0.1], data.imbalance.keep_desirable: [1.0] }
seeds: [0]
evaluate:
  pairs: 4
  choices:
    arc: { path: QUESTIONS/arc.jsonl }
    choices: { path: QUESTIONS/choices.jsonl }
    hellaswag: { path: QUESTIONS/hellaswag.jsonl }
    mmlu: { path: QUESTIONS/mmlu.jsonl }
    truthfulqa: { path: QUESTIONS/truthfulqa.jsonl }
    arc_shots: { path: QUESTIONS/arc.jsonl, shots: { path: SHOTS } }
    arc_chat: { path: QUESTIONS/arc.jsonl, chat: true }
  exact:
    gsm8k: { path: QUESTIONS/answers.jsonl, max_new_tokens: 24 }
report: { x: data.imbalance.keep_desirable, series: train.beta, baseline: "0.1" }
"""

# Examples of arc_shots, which are no questions of arc.jsonl.
SHOTS = [
    {"question": "Which animal lays eggs?", "choices": {"text": ["hen", "cow"], "label": ["A", "B"]}, "answerKey": "A"},
    {"question": "What do bees make?", "choices": {"text": ["milk", "honey"], "label": ["A", "B"]}, "answerKey": "B"},
]


def write_json_lines(path: pathlib.Path, rows: list) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_json_lines(path: pathlib.Path) -> list:
    return [json.loads(line) for line in path.read_text().splitlines()]


def usable(name: str, scratch: pathlib.Path) -> pathlib.Path:
    """Returns a file of questions in the form that the task of lm-evaluation-harness expects."""
    rows = read_json_lines(QUESTIONS / f"{name}.jsonl")
    if name == "arc":
        rows = [row for row in rows if row["answerKey"] in row["choices"]["label"]]
    if name == "choices":
        for row in rows:
            answer, choices = row["answer"], row["choices"]
            if isinstance(answer, str):
                row["answer"] = choices.index(answer) if answer in choices else "ABCD".index(answer)
    path = scratch / f"{name}.jsonl"
    write_json_lines(path, rows)
    return path


def task(source: str, name: str, path: pathlib.Path, **changes) -> ConfigurableTask:
    """Returns a task of lm-evaluation-harness that reads its questions from `path`."""
    config = load_yaml(TASKS / source)
    for key in ("tag", "dataset_name", "training_split", "validation_split", "fewshot_split", "fewshot_config", "num_fewshot"):
        config.pop(key, None)
    config.update(task=name, dataset_path="json", dataset_kwargs={"data_files": {"test": str(path)}}, test_split="test")
    config.update(changes)
    return ConfigurableTask(config=config)


def tasks(scratch: pathlib.Path, shots: pathlib.Path) -> list:
    arc = "arc/arc_easy.yaml"
    own = dict(doc_to_choice="choices", doc_to_target="answer")
    # The tasks of single subjects have it as a constant.
    mmlu = "{{'The following are multiple choice questions (with answers) about ' + subject.replace('_', ' ') + '.\n\n'}}"
    return [
        task(arc, "arc", usable("arc", scratch)),
        task(arc, "choices", usable("choices", scratch), **own),
        task("hellaswag/hellaswag.yaml", "hellaswag", usable("hellaswag", scratch)),
        task("mmlu/default/_default_template_yaml", "mmlu", usable("mmlu", scratch), description=mmlu),
        task("truthfulqa/truthfulqa_mc1.yaml", "truthfulqa_mc1", usable("truthfulqa", scratch), doc_to_text="Q: {{question}}\nA:"),
        task("truthfulqa/truthfulqa_mc2.yaml", "truthfulqa_mc2", usable("truthfulqa", scratch), doc_to_text="Q: {{question}}\nA:"),
        task(arc, "arc_shots", usable("arc", scratch), num_fewshot=len(SHOTS), training_split="train", fewshot_split="train",
             fewshot_config={"sampler": "first_n"},
             dataset_kwargs={"data_files": {"test": str(scratch / "arc.jsonl"), "train": str(shots)}}),
        task("gsm8k/gsm8k.yaml", "gsm8k", usable("answers", scratch),
             generation_kwargs={"until": ["Question:"], "do_sample": False, "max_gen_toks": 24}),
    ]  # fmt: skip


def ask(model: pathlib.Path, scratch: pathlib.Path, shots: pathlib.Path) -> dict:
    """Returns the samples of every task, in the order of the questions."""
    harness = HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=4)
    samples = {}
    chat = [task("arc/arc_easy.yaml", "arc_chat", usable("arc", scratch))]
    for with_chat, configs in ((False, tasks(scratch, shots)), (True, chat)):
        found = lm_eval.simple_evaluate(
            model=harness, tasks=configs, log_samples=True, apply_chat_template=with_chat, bootstrap_iters=0,
            random_seed=0, numpy_random_seed=0, torch_random_seed=0, fewshot_random_seed=0,
        )  # fmt: skip
        for name, own in found["samples"].items():
            samples[name] = own
    return samples


def log_likelihoods(samples: list) -> list:
    """Returns the log-likelihood of every choice of every question."""
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    return [[float(response[0]) for response in sample["filtered_resps"]] for sample in ordered]


def scores(samples: list, metric: str) -> list:
    ordered = sorted(samples, key=lambda sample: sample["doc_id"])
    return [float(sample[metric]) for sample in ordered]


class Comparison:
    """Counts compared numbers and prints a line for each test."""

    def __init__(self) -> None:
        self.failed = False
        self.values, self.largest, self.questions = 0, 0.0, 0

    def log_probs(self, label: str, ours: list, theirs: list) -> None:
        assert [len(row) for row in ours] == [len(row) for row in theirs], (label, ours, theirs)
        differences = [abs(a - b) for ours, theirs in zip(ours, theirs) for a, b in zip(ours, theirs)]
        largest = max(differences)
        self.values, self.largest = self.values + len(differences), max(self.largest, largest)
        self.failed |= largest > TOLERANCE
        print(f"{label:32} {len(differences):3} log-likelihoods, largest difference {largest:.2e}")

    def equal(self, label: str, ours: list, theirs: list) -> None:
        wrong = [index for index, (a, b) in enumerate(zip(ours, theirs, strict=True)) if abs(a - b) > 1e-6]
        self.questions += len(ours)
        self.failed |= bool(wrong)
        verdict = f"questions {wrong} differ: {ours} and {theirs}" if wrong else "equal"
        print(f"{label:32} {len(ours):3} scores, mean {sum(ours) / len(ours):.4f}, {verdict}")


def compare(side: str, when: str, ours: dict, samples: dict, result: Comparison) -> None:
    for name in ("arc", "choices", "hellaswag", "mmlu", "arc_shots", "arc_chat"):
        own = [line[side] for line in ours[name]]
        result.log_probs(f"{when}: {name}", [answer["log_probs"] for answer in own], log_likelihoods(samples[name]))
        for metric in ("acc", "acc_norm"):
            if metric in samples[name][0]:
                result.equal(f"{when}: {name}, {metric}", [answer["scores"][metric] for answer in own], scores(samples[name], metric))
    truthful = [line[side] for line in ours["truthfulqa"]]
    for metric, name in (("mc1", "truthfulqa_mc1"), ("mc2", "truthfulqa_mc2")):
        found = scores(samples[name], "acc")
        largest = max(abs(answer["scores"][metric] - theirs) for answer, theirs in zip(truthful, found))
        result.failed |= largest > TOLERANCE
        print(f"{when + ': ' + name:32} {len(found):3} scores, largest difference {largest:.2e}")
    written = [line[side] for line in ours["gsm8k"]]
    by_filter = {}
    for sample in samples["gsm8k"]:
        by_filter.setdefault(sample["filter"], []).append(sample)
    flexible = sorted(by_filter["flexible-extract"], key=lambda sample: sample["doc_id"])
    texts = [sample["resps"][0][0] for sample in flexible]
    same = sum(answer["completion"] == text for answer, text in zip(written, texts))
    result.failed |= same != len(texts)
    print(f"{when + ': gsm8k':32} {same} of {len(texts)} generated texts are equal")
    result.equal(f"{when}: gsm8k, exact_match", [answer["scores"]["exact_match"] for answer in written], scores(flexible, "exact_match"))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("prospect", type=pathlib.Path)
    parser.add_argument("--weights", type=pathlib.Path, help="GGUF file to train instead of a tiny random model")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="tokenizer.json of a tiny random model")
    parser.add_argument("--scratch", type=pathlib.Path)
    parser.add_argument("--golden", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = (arguments.scratch or pathlib.Path(temporary)).resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        shots = scratch / "examples.jsonl"
        write_json_lines(shots, SHOTS)
        recipe = TINY
        if arguments.weights:
            recipe = f"weights: {arguments.weights.resolve()}\ntrain: full\n"
        if arguments.tokenizer:
            path = arguments.tokenizer.resolve()
            tokens = json.loads(path.read_text())["model"]["vocab"]
            recipe = TINY.replace("tokenizer: bytes", f"tokenizer: {path}").replace("vocab_size: 258", f"vocab_size: {len(tokens)}")
        experiment = EXPERIMENT.replace("QUESTIONS", str(QUESTIONS)).replace("SHOTS", str(shots))
        for name, text in (
            ("model.yaml", recipe),
            ("data.yaml", "source: { kind: synthetic, pairs: 40 }\nsplit: { test_fraction: 0.2 }\n"),
            ("experiment.yaml", experiment),
        ):
            (scratch / name).write_text(text)
        prospect = str(arguments.prospect.resolve())
        for command in ("export model.yaml --out base", "sweep experiment.yaml"):
            subprocess.run([prospect, *command.split()], cwd=scratch, check=True)
        [run] = (scratch / "runs/experiment/runs").iterdir()
        ours = {}
        for line in read_json_lines(run / "questions.jsonl"):
            ours.setdefault(line["test"], []).append(line)
        result = Comparison()
        before = ask(scratch / "base", scratch, shots)
        compare("start", "before", ours, before, result)
        compare("policy", "after", ours, ask(run / "model", scratch, shots), result)
        print(f"{result.values} log-likelihoods, largest difference {result.largest:.2e}; {result.questions} scores of single questions")
        if arguments.golden:
            names = ("arc", "choices", "hellaswag", "mmlu")
            golden = {name: log_likelihoods(before[name]) for name in names}
            source = f"lm-evaluation-harness {lm_eval.__version__}, by benches/peers/check_lm_eval.py"
            arguments.golden.write_text(json.dumps({"source": source, "model": TINY, "log_likelihoods": golden}, indent=1) + "\n")
    return int(result.failed)


if __name__ == "__main__":
    sys.exit(main())
