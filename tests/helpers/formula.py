"""Run the command line with a formula in place of the model: `python -m tests.helpers.formula run ...`."""

from mtsearch import api
from mtsearch.cli import main
from tests.helpers.trainers import quick_formula

if __name__ == "__main__":
    assert api.run.__kwdefaults__ is not None
    api.run.__kwdefaults__["make_trainer"] = quick_formula
    main()
