"""Typed configuration: each dial stands in one place, its domain's config class."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Self, cast

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ecom_tasks.errors import ConfigError
from ecom_tasks.run import Run


class DomainConfig(BaseSettings):
    """Frozen settings of one domain: defaults, then environment, then the run's overrides.

    A subclass names its `domain`; the environment variable of a setting is then
    `ECOM_<DOMAIN>__<SETTING>`. Unknown names are errors, so a misspelt one cannot be ignored.
    """

    domain: ClassVar[str]
    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.model_config["env_prefix"] = f"ECOM_{cls.domain.upper()}__"

    @classmethod
    def of(cls, run: Run) -> Self:
        """Resolve the settings of `run`; raise `ConfigError` naming each wrong one."""
        cls._refuse_unknown_variables()
        try:
            return cls(**cast(Any, dict(run.overrides.get(cls.domain, {}))))
        except ValidationError as error:
            wrong = "; ".join(
                f"{cls.domain}.{'.'.join(map(str, e['loc']))}: {e['msg']} (got {e['input']!r})"
                for e in error.errors()
            )
            names = ", ".join(cls.model_fields)
            raise ConfigError(f"Wrong settings: {wrong}", f"Settings are: {names}") from error

    @classmethod
    def _refuse_unknown_variables(cls) -> None:
        prefix = cls.model_config["env_prefix"]
        known = {f"{prefix}{name}".upper() for name in cls.model_fields}
        for name in os.environ:
            if name.startswith(prefix) and name.upper() not in known:
                raise ConfigError(
                    f"The environment variable {name} is no setting of {cls.domain}",
                    f"Settings are: {', '.join(sorted(known))}",
                )
