"""The options of `insula devnet --chaos`."""

import pytest

from bridge.cli.chaos_options import chaos_settings
from bridge.devnet.chaos.settings import HTTP_ERRORS
from executor.errors import InvalidInput

NOTHING = {"reorg": None, "dialect": None, "null_rounds": None}


def test_without_a_seed_there_is_no_chaos():
    assert chaos_settings(None, "calm", NOTHING, None, []) is None


def test_the_preset_is_changed_by_options_and_faults():
    settings = chaos_settings(0, "calm", NOTHING | {"reorg": 0.5}, None, ["hangs=0.25", "null-epochs=5,6"])

    assert (settings.dialect, settings.deferred, settings.null_rounds) == ("lotus-1.36", True, 0.05)
    assert (settings.reorg, settings.hangs, settings.null_epochs) == (0.5, 0.25, (5, 6))


def test_http_errors_are_shared_out():
    settings = chaos_settings(0, "off", {"lost_responses": 0.5}, 0.9, [])

    assert sum(getattr(settings, kind) for kind in HTTP_ERRORS) == pytest.approx(0.9)
    assert settings.lost_responses == 0.5


BAD = {
    "an option without a seed": ((None, "calm", {"reorg": 0.1}, None, []), "--reorg: needs --chaos SEED"),
    "errors without a seed": ((None, "calm", NOTHING, 0.1, []), "--http-errors: needs --chaos SEED"),
    "a preset without a seed": ((None, "rough", NOTHING, None, []), "--chaos-preset: needs --chaos SEED"),
    "a fault without a seed": ((None, "calm", NOTHING, None, ["hangs=1"]), "--fault: needs --chaos SEED"),
    "errors more often than always": ((1, "calm", NOTHING, 1.5, []), "--http-errors: is 1.5; it is a probability"),
    "a fault without a value": ((1, "calm", NOTHING, None, ["hangs"]), "--fault: is 'hangs'; write NAME=VALUE"),
    "a fault that is none": ((1, "calm", NOTHING, None, ["hang=1"]), "--fault: there is no hang; it is one of"),
    "a fault with a bad value": ((1, "calm", NOTHING, None, ["hangs=x"]), "--fault hangs: is 'x': "),
    "an epoch that is none": ((1, "calm", NOTHING, None, ["null_epochs=1,x"]), "--fault null_epochs: is 'x': "),
    "an unknown dialect": ((1, "calm", {"dialect": "geth"}, None, []), "--dialect: is 'geth': "),
    "a probability beyond 1": ((1, "calm", {"reorg": 7.0}, None, []), "--reorg: is 7.0: "),
    "an unknown preset": ((1, "mad", NOTHING, None, []), "--chaos-preset: is 'mad'; it is one of off, calm, rough"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_name_their_option(case):
    arguments, text = BAD[case]
    with pytest.raises(InvalidInput) as caught:
        chaos_settings(*arguments)
    assert str(caught.value).startswith(text)
