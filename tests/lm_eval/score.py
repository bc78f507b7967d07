"""Run by the Python of an environment that has EleutherAI's lm-eval: score a task, print what it found.

Arguments: the address of a server, or the folder of a model that is asked directly; a folder with a tokenizer and
``task.json``.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def served(url: str, folder: Path):
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    return LocalCompletionsAPI(
        base_url=f"{url}/v1/completions", model="tiny", tokenizer=str(folder), tokenizer_backend="huggingface",
        num_concurrent=1, batch_size=4, max_length=128, max_retries=1,
    )  # fmt: skip


def direct(saved: str):
    """The library behind lm-eval's own interface, without a server."""
    from lm_eval.api.model import LM

    from llmbook.inference import completions
    from llmbook.interop import load_model

    model, tokenizer = load_model(saved)

    class Direct(LM):
        def loglikelihood(self, requests):
            return [self.score(*request.args) for request in requests]

        def score(self, context, continuation):
            n_context, ids = len(tokenizer.encode(context)), tokenizer.encode(context + continuation)
            (read,) = completions(model, [ids], max_new_tokens=0, logprobs=1, prompt_logprobs=True)
            scored = read.prompt_logprobs[n_context:]
            return sum(one.logprob for one in scored), all(one.token == one.top[0][0] for one in scored)

        def loglikelihood_rolling(self, requests):
            raise NotImplementedError

        def generate_until(self, requests):
            raise NotImplementedError

    return Direct()


def main(source: str, folder: Path) -> None:
    from lm_eval import evaluator
    from lm_eval.api.task import ConfigurableTask

    data = {"data_files": {"test": str(folder / "task.json")}, "cache_dir": str(folder / "cache")}
    task = ConfigurableTask(
        config={
            "task": "small",
            "dataset_path": "json",
            "dataset_kwargs": data,
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{text}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{answer}}",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    )
    model = served(source, folder) if source.startswith("http") else direct(source)
    found = evaluator.evaluate(lm=model, task_dict={"small": task}, bootstrap_iters=0, log_samples=True)
    samples = sorted(found["samples"]["small"], key=lambda sample: sample["doc_id"])
    answers = [[list(answer) for answer in sample["filtered_resps"]] for sample in samples]
    print(json.dumps({"answers": answers, "accuracy": found["results"]["small"]["acc,none"]}))


main(sys.argv[1], Path(sys.argv[2]))
