"""Generates completions of all exported prompts with vLLM, in one process.

    python generate.py [--model PATH] [FOLDER]

Reads export.json and prompts/ in FOLDER (default: the folder of this file) and writes
answers/NAME.jsonl for every run, in the format of OpenAI's batch API. Prompts are passed as tokens,
so the engine's own chat template is not used. Weights have the element type of the run: by itself,
vLLM would round those of float32 to 16 bits. --model replaces the base model, for example by the
folder that `prospect export models/NAME.yaml` wrote.
"""

import argparse
import json
import pathlib

from vllm import LLM, SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest


def answer(custom_id, name, output):
    """An answer in the format of a batch."""
    completion = output.outputs[0]
    choice = {"index": 0, "text": completion.text, "finish_reason": completion.finish_reason}
    usage = {"completion_tokens": len(completion.token_ids)}
    body = {"object": "text_completion", "model": name, "choices": [choice], "usage": usage}
    return {"custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}


def rank(adapter):
    """Rank of a LoRA adapter."""
    return json.loads((pathlib.Path(adapter) / "adapter_config.json").read_text())["r"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    export = json.loads((arguments.folder / "export.json").read_text())
    sampling = export["sampling"]
    by_base = {}
    for run in export["runs"]:
        by_base.setdefault((arguments.model or run["base"], run["dtype"]), []).append(run)
    answers = arguments.folder / "answers"
    answers.mkdir(exist_ok=True)
    for (base, dtype), runs in by_base.items():
        ranks = [rank(run["adapter"]) for run in runs if run["adapter"]]
        llm = LLM(model=base, dtype=dtype, enable_lora=bool(ranks), max_lora_rank=max(ranks, default=16))
        for index, run in enumerate(runs):
            lines = (arguments.folder / "prompts" / f"{run['name']}.jsonl").read_text().splitlines()
            prompts = [json.loads(line) for line in lines]
            parameters = SamplingParams(
                temperature=sampling["temperature"],
                top_p=sampling["top_p"],
                max_tokens=sampling["max_tokens"],
                seed=run["seed"],
                stop_token_ids=run["stop_token_ids"],
            )
            adapter = LoRARequest(run["name"], index + 1, run["adapter"]) if run["adapter"] else None
            tokens = [TokensPrompt(prompt_token_ids=prompt["prompt_token_ids"]) for prompt in prompts]
            outputs = llm.generate(tokens, parameters, lora_request=adapter)
            with (answers / f"{run['name']}.jsonl").open("w") as file:
                for prompt, output in zip(prompts, outputs):
                    file.write(json.dumps(answer(prompt["custom_id"], run["name"], output)) + "\n")


if __name__ == "__main__":
    main()
