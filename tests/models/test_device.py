"""Tests of the device and the threads of a trainer, and of the silence of TensorFlow."""

import pytest
import tensorflow as tf

from mtsearch.errors import MachineError
from mtsearch.models import Device
from tests.helpers.model_cases import THREADS, answer_of, run_python


def test_the_number_of_threads_is_the_given_one(device: Device) -> None:
    assert device.threads == THREADS
    assert tf.config.threading.get_intra_op_parallelism_threads() == THREADS
    assert tf.config.threading.get_inter_op_parallelism_threads() == 1
    assert f"{tf.constant(1) + 1}" == "2"
    assert Device.default(THREADS) == device  # asking again is no change


def test_other_threads_are_refused_once_tensorflow_runs() -> None:
    assert f"{tf.constant(1) + 1}" == "2"
    with pytest.raises(MachineError, match="cannot be changed to 7"):
        Device.default(7)
    assert tf.config.threading.get_intra_op_parallelism_threads() == THREADS


@pytest.mark.slow
def test_a_second_logical_device_computes_the_same_and_a_closed_stderr_is_no_obstacle() -> None:
    code = f"""
import json, os
os.close(2)
from dataclasses import replace
from mtsearch.models import Device, JointTrainer
from tests.helpers.model_cases import go_on, make_split, numbers
from {__package__}.test_joint_trainer_determinism import RICH
import tensorflow as tf

cpu, = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
device, config = Device.default({THREADS}), RICH.model_copy(update=dict(batch_size=300, epochs=2))
answer = {{}}
for name in ("/CPU:0", "/CPU:1"):
    trainer = JointTrainer(make_split(), replace(device, name=name))
    result = numbers(trainer.train(config, go_on))
    compiled = trainer.compiled_model(config)
    with tf.device(name):
        tables = compiled.tables()
    moved = tf.nest.flatten([trainer.pipeline._rows, tables])
    tensors = [*compiled.model.trainable_variables, *compiled.optimizer.variables, *moved]
    answer[name] = result, sorted({{tensor.device[-5:] for tensor in tensors}})
print(json.dumps(answer))
"""
    answer = answer_of(code)
    for name, (_, places) in answer.items():
        assert places == [name[1:]]
    assert answer["/CPU:1"][0] == answer["/CPU:0"][0]


START = f"import mtsearch.models as recsys; device = recsys.Device.default({THREADS})\n"
TRAIN = """
from mtsearch.study_file.config import TrialConfig
from tests.helpers.model_cases import go_on, make_split
recsys.JointTrainer(make_split(), device).train(TrialConfig(embedding_size=32, batch_size=300, epochs=2), go_on)
"""


COLLECTOR = """
import atexit, gc
atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 100_000))  # after what is registered later
"""


@pytest.mark.slow
def test_tensorflow_is_silent_and_garbage_is_collected_but_not_searched_for_at_the_end() -> None:
    process = run_python(COLLECTOR + START + TRAIN)
    assert (process.returncode, process.stdout, process.stderr) == (0, "True True\n", "")


@pytest.mark.slow
def test_the_messages_of_tensorflow_are_shown_on_request() -> None:
    process = run_python(START, TF_CPP_MIN_LOG_LEVEL="0")
    assert process.returncode == 0
    assert "oneDNN" in process.stderr


BROKEN = """
import os, sys, types
class Finder:
    def find_spec(self, name, path, target=None):
        if name == "tensorflow":
            print("I0000 said before", file=sys.stderr)
            os.write(2, b"W0000 said beside\\nheard from C\\n")
            print("heard from Python", file=sys.stderr)
            raise ImportError("no TensorFlow here")
sys.meta_path.insert(0, Finder())
from mtsearch.models import Device
"""


def test_a_failed_import_shows_its_error() -> None:
    process = run_python(BROKEN)
    assert process.returncode == 1
    assert "heard from C" in process.stderr
    assert "heard from Python" in process.stderr
    assert process.stderr.endswith("ImportError: no TensorFlow here\n")
    assert "said be" not in process.stderr
