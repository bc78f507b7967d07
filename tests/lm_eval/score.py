"""Run by the Python of an environment that has EleutherAI's lm-eval: score a task at a server, print what it found.

Arguments: the address of the server, a folder with a tokenizer and ``task.json``.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def main(url: str, folder: Path) -> None:
    from lm_eval import evaluator
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    os.environ["HF_HOME"] = str(folder / "cache")
    task = ConfigurableTask(
        config={
            "task": "small",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(folder / "task.json")}, "cache_dir": str(folder / "cache")},
            "test_split": "test",
            "output_type": "multiple_choice",
            "doc_to_text": "{{text}}",
            "doc_to_choice": "{{choices}}",
            "doc_to_target": "{{answer}}",
            "target_delimiter": "",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    )
    model = LocalCompletionsAPI(
        base_url=f"{url}/v1/completions", model="tiny", tokenizer=str(folder), tokenizer_backend="huggingface",
        num_concurrent=1, batch_size=4, max_length=128, max_retries=1,
    )  # fmt: skip
    found = evaluator.evaluate(lm=model, task_dict={"small": task}, bootstrap_iters=0, log_samples=True)
    scores = [[score for score, _ in sample["filtered_resps"]] for sample in found["samples"]["small"]]
    print(json.dumps({"scores": scores, "accuracy": found["results"]["small"]["acc,none"]}))
    if os.environ.get("SHOW_MODULES"):
        tops = sorted({name.partition(".")[0] for name in sys.modules})
        print("MODULES", *tops)


main(sys.argv[1], Path(sys.argv[2]))
