"""Documentation that can drift is compared with the code."""

import re
import tomllib
from pathlib import Path
from typing import get_args, get_origin

import pytest
import typer
from pydantic import BaseModel

from bridge.canary.export import METRICS
from bridge.cli.main import _application
from bridge.cli.output import Exit
from bridge.config import BridgeConfig
from bridge.devnet.chaos import Settings
from bridge.jobs import TRANSITIONS
from executor.agent.config import NodeConfig
from executor.audit.egressrules import EgressGrant, EgressRules
from executor.audit.policy import Policy, ReleaseRules
from executor.audit.scannerrules import Scanner
from executor.protocol.dialects.bacalhau1x import rules as bacalhau1x
from executor.protocol.dialects.conversion import Action
from executor.protocol.dialects.lilypad import rules as lilypad
from executor.protocol.dialects.v1beta import rules as v1beta
from executor.protocol.reasons import Reason
from executor.protocol.spec import LIMITS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def between(text, name):
    return text.split(f"<!-- {name}: begin", 1)[1].split("-->", 1)[1].split(f"<!-- {name}: end -->", 1)[0]


def rows(text):
    lines = [line for line in text.strip().splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_reason_table_is_the_enum():
    table = {int(code): name for code, name, *_ in rows(between((DOCS / "spec.md").read_text(), "reasons"))}

    assert table == {reason.value: reason.name for reason in Reason}


def test_the_reason_codes_say_who_may_attest_them():
    for code, name, status, _ in rows(between((DOCS / "spec.md").read_text(), "reasons")):
        hundred = {"any": 0, "Succeeded": 0, "Refused": 1, "Failed": 2, "Withheld": 3, "returned": 4, "bridge": 5}[
            status
        ]
        assert int(code) // 100 == hundred, name
        assert Reason[name].is_attestable == (hundred < 4)


def test_the_limits_table_is_the_code():
    table = {
        name: (int(default), int(smallest), int(largest))
        for name, _, default, smallest, largest in rows(between((DOCS / "spec.md").read_text(), "limits"))
    }

    assert table == LIMITS


def test_the_exit_code_table_is_the_code():
    table = {int(code): name for code, name, _ in rows(between((DOCS / "cli.md").read_text(), "exits"))}

    assert table == {code.value: code.name for code in Exit}


def test_the_state_table_is_the_code():
    table = {
        state.lower(): {target.lower() for target in re.findall(r"[A-Z]+", targets)}
        for state, _, targets in rows(between((DOCS / "architecture.md").read_text(), "states"))
    }

    assert table == {state.value: {target.value for target in targets} for state, targets in TRANSITIONS.items()}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_that_a_page_sends_its_reader_to_is_there(page):
    text = (ROOT / page).read_text()
    named = re.findall(r"`((?:bridge|contracts|executor|hardhat|tests|docs)/[\w./-]+)`", text)
    linked = [(ROOT / page).parent / target for target in re.findall(r"\]\(([^)#:]+)[^)]*\)", text)]

    assert [str(path) for path in [*(ROOT / name for name in named), *linked] if not path.exists()] == []


def keys_of(model, prefix=""):
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from keys_of(nested, f"{name}.")
        else:
            yield prefix + name


def test_every_key_of_a_bridge_is_documented():
    table = {key for key, *_ in rows(between((DOCS / "operations.md").read_text(), "bridge config"))}

    assert table == set(keys_of(BridgeConfig))


def test_the_example_of_a_bridge_is_a_valid_configuration(tmp_path):
    path = tmp_path / "bridge.toml"
    text = between((DOCS / "operations.md").read_text(), "bridge.toml").strip()
    path.write_text(text.removeprefix("```toml").removesuffix("```"))

    assert BridgeConfig.load(path).content.upload_quota_bytes == 2**30


def test_every_documented_option_is_one_of_its_verb():
    application = typer.main.get_command(_application())
    verb = []
    for name, options, _ in rows(section("cli.md", "Important options")):
        verb = [part.split() for part in re.findall(r"[a-z][a-z -]*", name)] or verb
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", options):
            assert any(option in options_of(application, words) for words in verb), (name, option)


def options_of(command, words):
    for word in words:
        command = command.commands[word]
    return {option for parameter in command.params for option in parameter.opts}


def section(page, title):
    return (DOCS / page).read_text().split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def test_every_key_of_a_node_is_documented():
    documented = {
        key.strip("` ")
        for keys, *_ in rows(between((DOCS / "operations.md").read_text(), "node config"))
        for key in keys.split(",")
    }

    assert documented == set(keys_of(NodeConfig))


def test_every_key_of_a_release_is_documented():
    table = {key for key, *_ in rows(between((DOCS / "operations.md").read_text(), "release rules"))}

    assert table == set(ReleaseRules.model_fields)


def keys_of_policy(model, prefix=""):
    """As `keys_of`; what is named by the operator stands as NAME or ADDRESS. Some have a table of their own."""
    for name, field in model.model_fields.items():
        nested = field.annotation
        if name in ("release", "egress"):
            yield prefix + name
        elif isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from keys_of_policy(nested, f"{prefix}{name}.")
        elif (named := named_model(nested)) is not None:
            yield from keys_of_policy(named, f"{prefix}{name}.{'ADDRESS' if name == 'tokens' else 'NAME'}.")
        else:
            yield prefix + name


def named_model(annotation):
    models = [part for part in get_args(annotation) if isinstance(part, type) and issubclass(part, BaseModel)]
    return models[0] if get_origin(annotation) is dict and models else None


def test_every_key_of_a_policy_is_documented():
    table = {key for key, *_ in rows(between((DOCS / "operations.md").read_text(), "policy keys"))}

    assert table == set(keys_of_policy(Policy))


def test_the_example_of_a_policy_is_valid():
    text = between((DOCS / "operations.md").read_text(), "policy.toml").strip()
    policy = Policy.parse(tomllib.loads(text.removeprefix("```toml").removesuffix("```")))

    assert policy.needs_chain
    assert set(policy.data) == {"scans"}


def test_every_key_of_egress_and_of_a_grant_is_documented():
    table = {key for key, *_ in rows(between((DOCS / "operations.md").read_text(), "egress rules"))}

    assert table == set(EgressRules.model_fields) | {f"grants.{name}" for name in EgressGrant.model_fields}


def test_every_key_of_a_scanner_is_documented():
    text = between((DOCS / "operations.md").read_text(), "scanner rules")
    table = {key.strip("` ") for keys, *_ in rows(text) for key in keys.split(",")}

    assert table == set(Scanner.model_fields)


@pytest.mark.parametrize("name", ["egress.toml", "scanners.toml"])
def test_the_examples_of_a_policy_are_valid(name):
    text = between((DOCS / "operations.md").read_text(), name).strip()
    policy = Policy.parse(tomllib.loads(text.removeprefix("```toml").removesuffix("```")))

    assert policy != Policy()


def test_every_setting_of_chaos_is_documented():
    table = {
        name.strip("` ")
        for names, *_ in rows(between((DOCS / "chaos.md").read_text(), "chaos settings"))
        for name in names.split(",")
    }

    assert table == set(Settings.model_fields)


def test_every_metric_of_the_canary_is_documented_and_its_alert_rules_name_no_other():
    table = {name: labels for name, labels, _ in rows(between((DOCS / "operations.md").read_text(), "canary metrics"))}
    named = set(re.findall(r"insula_canary_[a-z0-9_]+", (DOCS / "canary-alerts.yaml").read_text()))

    assert table == {f"insula_canary_{name}": ", ".join(labels) for name, (labels, _) in METRICS.items()}
    assert named - set(table) == set()


def test_every_adr_is_in_the_index():
    index = (DOCS / "adr" / "README.md").read_text()

    assert [p.name for p in sorted((DOCS / "adr").glob("0*.md")) if p.name not in index] == []


def test_every_relative_link_leads_somewhere():
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "contracts").glob("*.md")]
    broken = [
        (page.name, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if not target.startswith(("http", "mailto:")) and not (page.parent / target).exists()
    ]

    assert broken == []


#: name of a table in docs/spec.md -> its rows in the code
DIALECT_TABLES = {
    "v1beta": (*v1beta.AROUND, *v1beta.SPEC),
    "bacalhau-1.x": bacalhau1x.JOB,
    "lilypad": (*lilypad.ORDER, *lilypad.MODULE),
}


def table_of(rules):
    """The lines of a dialect's table."""
    head = ["| field | what becomes of it | how | refused |", "|---|---|---|---|"]
    return head + [f"| `{rule.field}` | {rule.action} | {rule.why} | {rule.refused} |" for rule in rules]


@pytest.mark.parametrize("name", DIALECT_TABLES)
def test_the_table_of_a_dialect_is_the_code(name):
    assert between((DOCS / "spec.md").read_text(), name).strip().splitlines() == table_of(DIALECT_TABLES[name])


@pytest.mark.parametrize("name", DIALECT_TABLES)
def test_the_table_of_a_dialect_has_a_field_once_and_names_reasons_that_exist(name):
    rules = DIALECT_TABLES[name]
    named = {word for rule in rules for word in re.findall(r"[A-Z]+_[A-Z_]+", rule.refused)}

    assert len({rule.field.lower() for rule in rules}) == len(rules)
    assert named <= {reason.name for reason in Reason}
    assert {rule.action for rule in rules} <= {Action.MAPPED, Action.OVERRIDDEN}
