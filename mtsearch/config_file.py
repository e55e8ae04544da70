"""`TrialConfig` to and from TOML."""

import tomllib

import tomli_w
from pydantic import ValidationError

from mtsearch.config import TrialConfig
from mtsearch.errors import DefinitionError
from mtsearch.study_file.mistakes import all_mistakes, short


def to_toml(config: TrialConfig) -> str:
    """Every field, one a line; `from_toml` gives an equal configuration back."""
    return tomli_w.dumps(config.model_dump())


def from_toml(text: str, origin: str = "configuration") -> TrialConfig:
    """Read what `to_toml` wrote, or what somebody wrote by hand; what is left out has its default.

    Args:
        text: TOML.
        origin: named in errors.

    Raises:
        DefinitionError: it is no TOML, or no configuration.
    """
    try:
        values = tomllib.loads(text)
        return TrialConfig.model_validate(values)
    except tomllib.TOMLDecodeError as error:
        raise DefinitionError(f"{origin}: not TOML: {short(str(error))}", "mend that line") from None
    except ValidationError as error:
        raise DefinitionError.of_several(
            f"{origin}: {line}" for line in all_mistakes(error, values, TrialConfig)
        ) from None
    except (ValueError, RecursionError):
        raise DefinitionError(f"{origin}: cannot be read", "write plain TOML values") from None
