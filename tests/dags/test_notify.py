"""Who is told of failures and late runs, and what a wrong setting is answered with."""

from __future__ import annotations

from datetime import timedelta

import ecom_notify
import pytest
from airflow.providers.http.notifications.http import HttpNotifier
from airflow.providers.smtp.notifications.smtp import SmtpNotifier

from ecom_tasks.errors import ConfigError

BOTH = "mailto:ann@shop.example, webhook:shop_alerts"


def test_nobody_is_told_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECOM_NOTIFY", raising=False)
    monkeypatch.setenv("ECOM_DEADLINE_HOURS", "3")
    assert ecom_notify.on_failure() == ecom_notify.deadlines("pricing") == []


def test_each_address_has_its_notifier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_NOTIFY", BOTH)
    mail, hook = ecom_notify.on_failure()
    assert isinstance(mail, SmtpNotifier)
    assert mail.to == "ann@shop.example"
    # What a step says may quote the shop's data: it is no markup.
    assert "exception | e }}" in str(mail.html_content)
    assert isinstance(hook, HttpNotifier)
    assert hook.json == {"text": ecom_notify.FAILED}


def test_alerts_are_told_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told may quote the shop's data: it is neither template nor markup."""
    monkeypatch.setenv("ECOM_NOTIFY", BOTH)
    sent: list[str] = []
    monkeypatch.setattr(SmtpNotifier, "notify", lambda self, _: sent.append(self.html_content))
    monkeypatch.setattr(HttpNotifier, "notify", lambda self, _: sent.append(self.json["text"]))
    ecom_notify.notify({}, "Monitoring", ["pricing: {{ 1 + 1 }} <b>", "inventory: bias"])
    assert sent == [
        "<p>pricing: {{ 1 + 1 }} &lt;b&gt;\ninventory: bias</p>",
        "pricing: {{ 1 + 1 }} <b>\ninventory: bias",
    ]
    assert ecom_notify.on_failure()[1].json == {"text": ecom_notify.FAILED}


def test_a_run_is_late_after_the_hours_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECOM_NOTIFY", BOTH)
    monkeypatch.setenv("ECOM_DEADLINE_HOURS", "1.5")
    alerts = ecom_notify.deadlines("pricing")
    assert [each.interval for each in alerts] == [timedelta(hours=1.5)] * 2
    assert "not done 1.5 hours" in alerts[1].callback.kwargs["json"]["text"]


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("ECOM_NOTIFY", "ops@shop.example", "mailto:ADDRESS"),
        ("ECOM_NOTIFY", "webhook:", "webhook:CONNECTION"),
        ("ECOM_DEADLINE_HOURS", "soon", "'soon'"),
        ("ECOM_DEADLINE_HOURS", "-1", "'-1'"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    monkeypatch.setenv("ECOM_NOTIFY", BOTH)
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        ecom_notify.deadlines("pricing") if "HOURS" in name else ecom_notify.on_failure()
    assert named in f"{caught.value.reason} {caught.value.hint}"
