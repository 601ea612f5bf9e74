"""The rules file: what it may say, and how it is told that it may not."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

from ecom_tasks.errors import ConfigError
from ecom_tasks.recommendation import eligibility, rules

GUIDE = Path(__file__).parents[3] / "docs/guide/rules.md"
ALL = """
[eligibility]
stale_days = 30
never = { categories = ["drinks/spirits"], products = ["p1"] }
durable = [{ categories = ["furniture"], days = 365 }]
age_limits = [{ categories = ["drinks"], years = 18 }]
only_in = [{ brands = ["Local"], regions = ["north"] }]

[[boosts]]
brands = ["Ours"]
factor = 1.5

[[pins]]
product = "p7"
place = 1
segments = ["new"]

[diversity]
most_per_category = 3
weight = 0.2

[value]
of = "revenue"
weight = 0.5

[exploration]
places = 2
"""


def test_a_full_file_is_read() -> None:
    read = rules.parse(ALL, "rules.toml")
    assert read.eligibility.never.categories == ("drinks/spirits",)
    assert read.boosts[0].factor == 1.5
    assert read.pins[0].segments == ("new",)
    assert (read.value.of, read.exploration.places) == ("revenue", 2)
    assert [goods.named for goods in rules.named(read)] == [True] * 5


def test_the_examples_of_the_guide_are_valid_and_the_first_has_every_rule() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    examples = re.findall(r"^```toml\n(.*?)^```$", guide, re.DOTALL | re.MULTILINE)
    assert examples
    complete, *_ = [rules.parse(each, "docs/guide/rules.md") for each in examples]
    ruled = complete.eligibility
    first = (*ruled.durable[:1], *ruled.age_limits[:1], *ruled.only_in[:1], *complete.boosts[:1])
    assert [each.named for each in first] == [True] * 4
    goods = set(rules.Goods.model_fields)
    for part in (complete, ruled, ruled.never, *first, *complete.pins[:1], complete.diversity,
                 complete.value, complete.exploration):  # fmt: skip
        wanted = set(type(part).model_fields)
        assert part.model_fields_set >= (wanted - goods if part in first else wanted)


def test_an_empty_file_means_the_defaults() -> None:
    assert rules.parse("", "rules.toml") == rules.Rules()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[eligibility", "no TOML"),
        ("[eligibility]\nstale = 3", r"eligibility\.stale: Extra inputs"),
        ("[[boosts]]\nbrands = ['x']\nfactor = 0", r"boosts\.0\.factor: .*greater than 0"),
        ("[[boosts]]\nfactor = 2", r"boosts\.0: .*name products, categories or brands"),
        ("[[pins]]\nproduct = 'a'\nplace = 0", r"pins\.0\.place"),
        ("[[pins]]\nproduct='a'\nplace=2\n[[pins]]\nproduct='b'\nplace=2", "pinned to place 2"),
        ("[diversity]\nweight = 1.0", r"diversity\.weight"),
        ("[value]\nof = 'joy'", r"value\.of"),
        (
            "[eligibility]\nonly_in = [{ brands = ['x'], regions = [] }]",
            r"eligibility\.only_in\.0\.regions",
        ),
    ],
)
def test_a_wrong_rule_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        rules.parse(text, "shop.toml")
    assert "shop.toml" in str(error.value)


CATALOGUE = pl.DataFrame({
    "product_id": ["p1", "p2"], "category": ["drinks/beer", "food"], "brand": ["Ours", None],
})  # fmt: skip


@pytest.mark.parametrize(
    ("goods", "said"),
    [
        ("categories = ['drink']", "category 'drink'.*drinks"),
        ("brands = ['ours']", "brand 'ours'.*Ours"),
    ],
)
def test_a_category_or_brand_that_no_product_has_is_refused(goods: str, said: str) -> None:
    read = rules.parse(f"[eligibility]\nage_limits = [{{ {goods}, years = 18 }}]", "rules.toml")
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        eligibility.check(read, CATALOGUE, None)


def test_a_product_that_left_the_catalogue_is_told() -> None:
    text = "[eligibility]\nnever = { products = ['p1', 'gone'], categories = ['drinks'] }\n"
    read = rules.parse(text + "[[pins]]\nproduct = 'left'\nplace = 1", "rules.toml")
    assert eligibility.check(read, CATALOGUE, None) == ["gone", "left"]


PEOPLE = pl.DataFrame({"customer_id": ["a"], "segment": ["gold"], "region": ["north"]})


def test_segments_and_regions_are_those_of_the_customers_or_of_the_plain_rule() -> None:
    def check(**audience: list[str]) -> None:
        pin = {"product": "p1", "place": 1} | audience
        eligibility.check(rules.Rules.model_validate({"pins": [pin]}), CATALOGUE, PEOPLE)

    check(segments=["gold", "new"], regions=["north"])
    with pytest.raises(ConfigError, match="segment 'golden'"):
        check(segments=["golden"])
    with pytest.raises(ConfigError, match="region 'North'"):
        check(regions=["North"])


@pytest.mark.parametrize(
    ("ruled", "said"),
    [
        ({"pins": [{"product": "p1", "place": 4}]}, "place 4 of lists of 3"),
        ({"exploration": {"places": 3}}, "3 places of 3"),
    ],
)
def test_what_a_list_has_no_place_for_is_refused(ruled: dict[str, object], said: str) -> None:
    rules.check_places(rules.Rules.model_validate(ruled), 5)
    with pytest.raises(ConfigError, match=said):
        rules.check_places(rules.Rules.model_validate(ruled), 3)
