"""A process with TensorFlow alone, which answers from saved models."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# No module of these is imported in the process that answers, nor can be.
CLEAN = """
import json, sys

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"mtsearch", "tf_keras", "tensorflow_recommenders", "tests"}:
            raise ImportError(f"{name} is not to be imported here")

sys.meta_path.insert(0, Forbidden())
import tensorflow as tf

for line in sys.stdin:
    folder, questions = json.loads(line)
    signatures = tf.saved_model.load(folder).signatures
    answers = []
    for name, inputs in questions:
        outputs = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        answers.append({key: value.numpy().tolist() for key, value in outputs.items()})
    print(json.dumps(answers, default=bytes.decode), flush=True)
"""

Questions = list[tuple[str, dict[str, Any]]]
Ask = Callable[[Path, Questions], list[dict[str, Any]]]


@contextmanager
def clean_process() -> Iterator[Ask]:
    """Run the process within the context, and give a function that asks it about the model in a folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    command = [sys.executable, "-c", CLEAN]
    with subprocess.Popen(command, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        write, read = process.stdin, process.stdout

        def ask(folder: Path, questions: Questions) -> list[dict[str, Any]]:
            write.write(json.dumps([str(folder), questions]) + "\n")
            write.flush()
            answers: list[dict[str, Any]] = json.loads(read.readline())
            return answers

        yield ask
        write.close()
        assert process.wait(60) == 0
