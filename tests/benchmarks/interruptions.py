"""Interrupt a training again and again, each time shortly after an epoch, and count what comes of it.

    python -m tests.benchmarks.interruptions [--seconds 120] [--within 0.6]

An interrupt in the midst of a call of TensorFlow is a segmentation fault at times; a process that dies of one is
counted, and another takes its place. All but KeyboardInterrupt is a failure, and makes the exit status 1. On two busy
cores in three minutes: 7 of 658 interrupts before `mtsearch.signals.defer_signals` stood in the trainers, then 0 of
1,146.
"""

import argparse
import collections
import random
import signal
import subprocess
import sys
import time

from mtsearch import signals
from mtsearch.models.trainer import EpochMetrics
from mtsearch.study_file.config import TrialConfig

EPOCHS = 2000


def main() -> None:
    """Interrupt for so long, print each kind of end with its number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--within", type=float, default=0.6, help="milliseconds after an epoch, at most")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.train:
        train_for_ever(options.within / 1000)
    ends, until = collections.Counter[str](), time.monotonic() + options.seconds
    while time.monotonic() < until:
        ends += ends_in_a_process(until, sys.argv[1:])
    for end, number in ends.most_common():
        print(f"{number:6} {end}")
    sys.exit(set(ends) != {KeyboardInterrupt.__name__})


def ends_in_a_process(until: float, args: list[str]) -> collections.Counter[str]:
    """How its trainings end, until it dies of an interrupt or the time is over."""
    ends = collections.Counter[str]()
    command = [sys.executable, "-m", "tests.benchmarks.interruptions", "--train", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            ends[line.strip()] += 1
            if time.monotonic() > until:
                process.kill()
                return ends
    if process.returncode > 0:
        sys.exit("the training could not begin")
    ends[f"the process died of {signal.Signals(-process.returncode).name}"] += 1
    return ends


def train_for_ever(within: float) -> None:
    """Train small data, be interrupted by a timer so many seconds after an epoch at most, say how it ended."""
    from mtsearch.models import Device, JointTrainer
    from tests.helpers.model_cases import THREADS, make_split

    # The system's timer is exact, and raises this signal alone: it stands for Ctrl-C here.
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signals.SIGNALS = (*signals.SIGNALS, signal.SIGALRM)
    trainer = JointTrainer(make_split(), Device.default(THREADS), validate=False)
    config = TrialConfig(embedding_size=8, hidden_layers="32", batch_size=256, epochs=EPOCHS)

    def set_timer(epoch: EpochMetrics) -> bool:
        if epoch.epoch == 3:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, within))
        return True

    while True:
        try:
            trainer.train(config, set_timer)
            print("nothing: the interrupt was lost", flush=True)
        except BaseException as error:
            print(type(error).__name__, flush=True)


if __name__ == "__main__":
    main()
