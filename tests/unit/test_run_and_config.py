"""Runs travel as JSON; settings resolve in one order and refuse what they do not know."""

from __future__ import annotations

import pickle
from datetime import date
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from ecom_tasks.artefacts.gate import GateConfig
from ecom_tasks.config import DomainConfig
from ecom_tasks.demo.quick import QUICK
from ecom_tasks.errors import (
    ConfigError,
    DataContractError,
    EcomError,
    ModelRejectedError,
    RetryableError,
)
from ecom_tasks.features.config import FeaturesConfig
from ecom_tasks.inventory.config import InventoryConfig
from ecom_tasks.pricing.config import PricingConfig
from ecom_tasks.recommendation.config import RecommendationConfig
from ecom_tasks.run import Run

CONFIGS: dict[str, type[DomainConfig]] = {
    each.domain: each
    for each in (FeaturesConfig, GateConfig, InventoryConfig, PricingConfig, RecommendationConfig)
}
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5)


class Config(DomainConfig):
    domain: ClassVar[str] = "pricing"
    largest_step: float = Field(default=0.1, gt=0, lt=1, description="share of the price")
    endings: tuple[str, ...] = (".99",)


@given(
    as_of=st.dates(),
    text=st.text(max_size=8),
    overrides=st.dictionaries(st.text(max_size=4), st.dictionaries(st.text(max_size=4), scalars)),
)
def test_a_run_survives_json(
    as_of: date, text: str, overrides: dict[str, dict[str, object]]
) -> None:
    run = Run(text, as_of, "file:///x", text, text, overrides)
    assert Run.from_json(run.to_json()) == run


def config(**overrides: object) -> Config:
    return Config.of(Run("r", date(2024, 1, 1), "file:///x", overrides={"pricing": overrides}))


def test_overrides_beat_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config().largest_step == 0.1
    monkeypatch.setenv("ECOM_PRICING__LARGEST_STEP", "0.2")
    assert config().largest_step == 0.2
    assert config(largest_step=0.3).largest_step == 0.3


def test_overrides_of_another_domain_are_not_read() -> None:
    run = Run("r", date(2024, 1, 1), "file:///x", overrides={"inventory": {"largest_step": 0.5}})
    assert Config.of(run).largest_step == 0.1


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"largest_stepp": 0.2}, r"pricing\.largest_stepp: Extra inputs.*got 0\.2"),
        ({"largest_step": 2}, r"pricing\.largest_step: .*less than 1.*got 2"),
        ({"largest_step": "much"}, r"pricing\.largest_step: .*got 'much'"),
    ],
)
def test_wrong_settings_are_named_with_what_was_got(
    overrides: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        config(**overrides)
    assert "largest_step, endings" in caught.value.hint


def test_misspelt_environment_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_PRICING__LARGEST_STEPP", "0.2")
    with pytest.raises(ConfigError, match="ECOM_PRICING__LARGEST_STEPP"):
        config()


def test_a_pickled_error_arrives_whole() -> None:
    error = DataContractError("No clicks", "Run ingestion", [{"row": i} for i in range(9)])
    arrived = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own bytes)
    assert str(arrived) == str(error)
    assert str(error).startswith("No clicks. Run ingestion.\n  row=0")
    assert len(arrived.examples) == 5


@pytest.mark.parametrize(
    ("kind", "code"),
    [(RetryableError, 1), (DataContractError, 2), (ConfigError, 2), (ModelRejectedError, 2)],
)
def test_only_a_passing_fault_asks_for_a_retry(kind: type[EcomError], code: int) -> None:
    assert kind("what", "remedy").exit_code == code


def test_the_settings_of_the_demonstration_are_settings() -> None:
    run = Run("r", date(2024, 1, 7), "file:///x", overrides=QUICK)
    for domain, settings in QUICK.items():
        config = CONFIGS[domain].of(run)
        assert {name: getattr(config, name) for name in settings} == settings
