"""The command line as it is, with a formula in place of the model: `python -m tests.cli.formula run ...`."""

from mtsearch import api
from mtsearch.cli.main import main

from ..search.trainers import quick_formula

if __name__ == "__main__":
    assert api.run.__kwdefaults__ is not None
    api.run.__kwdefaults__["make_trainer"] = quick_formula
    main()
