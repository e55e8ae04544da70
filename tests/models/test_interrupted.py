"""An interrupt in the midst of a call of TensorFlow, which would not survive it: heard when the call is over."""

from pathlib import Path

import pytest

from tests.helpers.model_cases import run_python

INTERRUPTED = """
import os, signal, sys
from pathlib import Path
from mtsearch.models import Device, JointTrainer
from mtsearch.study_file.config import TrialConfig
from mtsearch.serving import ServedModel
from tensorflow.python.eager import context
from tests.helpers.model_cases import THREADS, go_on, make_split
from tests.helpers.served_double import write_model

armed = []

def handle(context):  # what TensorFlow's C++ asks for whenever it makes a tensor of a Python number
    if armed:
        armed.clear()
        os.kill(os.getpid(), signal.SIGINT)  # Python's handler runs here
    return context._context_handle

def interrupted(name, call):
    armed.append(name)
    try:
        call()
    except KeyboardInterrupt:
        print(name, "interrupted", flush=True)

def arm(epoch):
    armed.append(epoch)
    return True

context.Context._handle = property(handle)
split, device, config = make_split(), Device.default(THREADS), TrialConfig(embedding_size=8, batch_size=300, epochs=2)
JointTrainer(split, device)  # so that TensorFlow runs
interrupted("made", lambda: JointTrainer(split, device))
trainer = JointTrainer(split, device)
interrupted("prepared", lambda: trainer.train(config, go_on))
try:
    trainer.train(config, arm)
except KeyboardInterrupt:
    print("in an epoch", "interrupted")
trainer.train(config, go_on)
interrupted("evaluated", lambda: trainer.evaluate(split.test))
interrupted("saved", lambda: trainer.save(Path(sys.argv[1]) / "saved"))
folder = write_model(Path(sys.argv[1]) / "served")
interrupted("loaded", lambda: ServedModel.load(folder))
model = ServedModel.load(folder)
interrupted("recommended", lambda: model.recommend(["1"], 1))
interrupted("predicted", lambda: model.predict(["1"], ["1"]))
"""


@pytest.mark.slow
def test_an_interrupt_does_not_come_inside_tensorflow(tmp_path: Path) -> None:
    process = run_python(f"import sys; sys.argv[1:] = [{str(tmp_path)!r}]\n{INTERRUPTED}")
    assert (process.returncode, process.stderr) == (0, "")
    calls = ["made", "prepared", "in an epoch", "evaluated", "saved", "loaded", "recommended", "predicted"]
    assert process.stdout.splitlines() == [f"{call} interrupted" for call in calls]
