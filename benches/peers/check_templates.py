"""Compares our rendering of chat templates with that of transformers.

    pip install transformers jinja2
    cargo build --release --workspace --example render_template
    python benches/peers/check_templates.py FOLDER [FOLDER ...]

A folder holds published templates as `.jinja` files: those of a clone of huggingface/trl
(`trl/chat_templates`), of axolotl (`src/axolotl/utils/chat_templates/templates`), or of checkpoints.
Each is rendered with ten conversations, with and without a generation prompt. A template passes if
both sides give the same text, or both refuse, for every one of them.
"""

import argparse
import datetime
import json
import pathlib
import subprocess
import sys

import transformers.utils.chat_template_utils as reference

VARIABLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class FixedDate(datetime.datetime):
    """The date that our `strftime_now` writes."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26, tzinfo=tz)


def turns(text):
    """Turns of a conversation: s, u and a, each with its text."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[turn[0]], "content": turn[1:]} for turn in text]


CONVERSATIONS = [
    turns(["uHi", "aHello."]),
    turns(["uHi"]),
    turns(["sBe brief.", "uHi", "aHello."]),
    turns(["sBe brief.", "uHi"]),
    turns(["uHi", "aHello.", "uMore?", "aYes."]),
    turns(["u  spaces \n", "a\n\n  kept? \t"]),
    turns(["uTom's <b>\"quotes\"</b> & ü 漢 \\n", "a{{ braces }} {% raw %} ½"]),
    turns(["uHi", "a<think>\nhm\n</think>\n\nHello.", "uMore?", "a<think>\nso\n</think>\n\nYes."]),
    turns(["uHi", "uAgain", "aHello."]),
    turns(["aWelcome.", "uHi", "aHello."]),
]


def cases(template):
    for messages in CONVERSATIONS:
        for add_generation_prompt in (False, True):
            yield {
                "template": template,
                "variables": VARIABLES,
                "messages": messages,
                "add_generation_prompt": add_generation_prompt,
            }


def expected(case):
    try:
        [text], _ = reference.render_jinja_template(
            [case["messages"]],
            chat_template=case["template"],
            add_generation_prompt=case["add_generation_prompt"],
            **VARIABLES,
        )
    except Exception as error:  # Templates raise whatever they like.
        return None, f"{type(error).__name__}: {error}"
    return text, None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--binary", default="target/release/examples/render_template")
    arguments = parser.parse_args()
    reference.datetime = FixedDate
    paths = sorted(path for folder in arguments.folders for path in folder.rglob("*.jinja"))
    all_cases = [(path, case) for path in paths for case in cases(path.read_text(encoding="utf-8"))]
    requests = "".join(json.dumps(case) + "\n" for _, case in all_cases)
    answers = subprocess.run([arguments.binary], input=requests, capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in answers.stdout.splitlines()]
    assert len(answers) == len(all_cases)
    failed, rendered = {}, {path: 0 for path in paths}
    for (path, case), ours in zip(all_cases, answers):
        text, error = expected(case)
        rendered[path] += text is not None
        if ours.get("text") != text:
            failed.setdefault(path, []).append((case, text, error, ours))
    for path, differences in failed.items():
        case, text, error, ours = differences[0]
        print(f"{path.name}: {len(differences)} differ, such as {[m['role'] for m in case['messages']]}")
        print(f"  transformers: {text if error is None else error!r}"[:600])
        print(f"  prospect:     {ours}"[:600])
    useful = [path for path in paths if rendered[path] > 0 and path not in failed]
    refused = sum(count == 0 for count in rendered.values())
    print(
        f"{len(paths)} templates, {len(all_cases)} renderings: {len(useful)} templates equal, "
        f"{len(failed)} differ, {refused} refuse every conversation"
    )
    sys.exit(bool(failed) or len(useful) < 50)


main()
