"""Are files read whole, is each problem told with file and line, and can no file do worse than be refused?"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from autoscaler.core.action import Mode
from autoscaler.policy_file import MAX_BYTES, PolicyError, load_policies
from autoscaler.refusal import Refusal
from tests.examples import examples
from tests.policy_documents import MINIMAL, edited, text

WRITTEN = """\
# a comment
apiVersion: pdautoscaler.io/v1alpha1
kind: PDAutoscaler
metadata:
  name: chat
spec:
  mode: Off
  model: llama
  engine: vllm
  profile: llama-3-8b-h100-tp1
  pools:
    prefill:
      target: {name: chat-prefill}
      max: 4
    decode: {target: {name: chat-decode}, max: 4}
  slo:
    ttft: {seconds: 2}
    tpot:
      seconds: 5e-2
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that messages begin with short names."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*files: str) -> list[str]:
    """The lines a refusal consists of."""
    with pytest.raises(PolicyError) as caught:
        load_policies(files)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return [str(problem) for problem in caught.value.problems]


def test_a_policy_error_is_a_refusal_which_the_command_line_prints_without_a_traceback() -> None:
    assert issubclass(PolicyError, Refusal)


def test_documents_come_in_order_with_their_file_and_line(here: Path) -> None:
    second = text(edited({"metadata.name": "other", "metadata.namespace": "batch"}))
    Path("a.yaml").write_text(f"---\n# nothing\n---\n{WRITTEN}---\n{second}---\n")
    third = edited({"metadata.name": "third", "metadata.namespace": "third"})
    Path("b.yaml").write_text("\ufeff" + text(third), encoding="utf-8")
    loaded = load_policies(["a.yaml", Path("b.yaml")])
    assert [(one.document.key, one.file, one.line) for one in loaded] == [
        ("default/chat", "a.yaml", 5),
        ("batch/other", "a.yaml", 24),
        ("third/third", "b.yaml", 1),
    ]
    assert loaded[0].document.spec.slo["tpot"].seconds == 0.05  # type: ignore[index]


@pytest.mark.parametrize("off", ["Off", "off", "OFF", '"Off"', "false"])
def test_mode_off_may_be_written_with_and_without_quotes(here: Path, off: str) -> None:
    Path("a.yaml").write_text(WRITTEN.replace("mode: Off", f"mode: {off}"))
    assert load_policies(["a.yaml"])[0].document.spec.mode is Mode.OFF


def test_standard_input_is_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(WRITTEN.encode())))
    assert load_policies(["-"])[0].file == "<stdin>"
    assert refused("-") == ["<stdin>: holds no PDAutoscaler document"]


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("      max: 4", "      min: 5\n      max: 4", "a.yaml:15: spec.pools.prefill.max: 4 is below min 5 (allowed: 5..1000)"),
        ("seconds: 5e-2", "seconds: 50ms", 'a.yaml:19: spec.slo.tpot.seconds: "50ms" is not a number (allowed: 0.0001..3600)'),
        ("  model: llama\n", "", "a.yaml:6: spec.model: missing (allowed: 1 to 253 characters without spaces)"),
        ("  mode: Off", "  moode: Off", 'a.yaml:7: spec.moode: unknown field; did you mean "mode"?'),
        (
            "chat-decode}, max: 4}",
            "chat-prefill}, max: 4}",
            "a.yaml:15: spec.pools.decode.target.name: LeaderWorkerSet chat-prefill is the target of prefill already",
        ),
        # of a default nobody wrote, the part it belongs in is named
        (
            "  slo:",
            "  metrics:\n    scrapeIntervalSeconds: 20\n  slo:",
            "a.yaml:16: spec.metrics.windowSeconds: 60 is below 4 x scrapeIntervalSeconds 20 (allowed: 80..3600)",
        ),
        ("  mode: Off", "  mode: Off\n  mode: Auto", "a.yaml:8: spec.mode: written on line 7 already"),
        (
            "llama-3-8b-h100-tp1",
            "\n    kvTokens: 1\n    decodeSeconds: [.01, 1, 1]\n    prefillSeconds:\n    - .1\n    - .1\n    - 7",
            "a.yaml:16: spec.profile.prefillSeconds[2]: 7 is out of range (allowed: 0..1)",
        ),
        # what YAML makes of a text
        (
            "  model: llama",
            "  model: 2024-01-01\n  gateway: no",
            "a.yaml:9: spec.gateway: false is not text; quotes make it text",
        ),
        (
            "  mode: Off",
            f"  mode: 0x{'f' * 5000}",
            "a.yaml:7: spec.mode: a huge number is unknown (allowed: Off, Recommend, Auto)",
        ),
        # not YAML, or YAML that is not read here
        ("target: {name: chat-prefill}", "target: {name: chat-prefill", "a.yaml:14: column 10: did not find expected ',' or '}'"),
        ("  mode: Off", "\tmode: Off", "a.yaml:7: column 1: found character that cannot start any token"),
        ("  mode: Off", "  mode: *off", "a.yaml:7: column 9: found undefined alias"),
        ("  mode: Off", "  a: &a {}\n  b: *a", "a.yaml:8: column 3: an alias (*name) is not read here; write the value out"),
        ("  mode: Off", "  a: &a [*a]", "a.yaml:7: column 6: an alias (*name) is not read here; write the value out"),
        ("  mode: Off", "  mode: !!binary x", 'a.yaml:7: column 9: the tag "tag:yaml.org,2002:binary" is not read here'),
        (
            "  mode: Off",
            "  mode: !!python/name:os.x",
            'a.yaml:7: column 9: the tag "tag:yaml.org,2002:python/name:os.x" is not read here',
        ),
        ("  mode: Off", "  mode: !!int x", 'a.yaml:7: column 9: "x" cannot be read as int'),
        ("  mode: Off", f"  mode: {'9' * 5000}", f'a.yaml:7: column 9: "{"9" * 55}..." cannot be read as int'),
        ("  mode: Off", "  on: Off", "a.yaml:7: column 3: a field's name that is not read as text; quotes make it text"),
        ("  mode: Off", "  [a]: Off", "a.yaml:7: column 3: a field's name that is not read as text; quotes make it text"),
        ("  mode: Off", "  mode: \x07", "a.yaml:7: column 9: a control character, which no text has"),
    ],
)
def test_each_problem_has_its_line(here: Path, old: str, new: str, line: str) -> None:
    assert old in WRITTEN
    Path("a.yaml").write_text(WRITTEN.replace(old, new))
    assert refused("a.yaml") == [line]


def test_two_hundred_thousand_brackets_end_with_a_line_and_not_the_process(here: Path) -> None:
    Path("a.yaml").write_text("[" * 200_000)
    Path("b.yaml").write_text("- " * 200_000)
    assert refused("a.yaml", "b.yaml") == [
        "a.yaml:1: column 51: more than 50 levels deep",
        "b.yaml:1: column 101: more than 50 levels deep",
    ]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "a.yaml: holds no PDAutoscaler document"),
        (b"# nothing\n---\n", "a.yaml: holds no PDAutoscaler document"),
        (b"caf\xe9: 1", "a.yaml: is not UTF-8 text (byte 3)"),
        (b"\x7fELF\x02\x01\x01\x00", "a.yaml:1: column 1: a control character, which no text has"),
        (b"#" * (MAX_BYTES + 1), "a.yaml: is larger than 1 MiB, which no policy is"),
        (b"just words", 'a.yaml:1: "just words" is not a mapping (fields: apiVersion, kind, metadata, spec)'),
        (b"- a\n- b\n", "a.yaml:1: a list is not a mapping (fields: apiVersion, kind, metadata, spec)"),
    ],
)
def test_a_file_that_is_no_policy_is_refused_in_one_line(here: Path, data: bytes, line: str) -> None:
    Path("a.yaml").write_bytes(data)
    assert refused("a.yaml") == [line]


def test_a_file_that_cannot_be_read_is_refused_in_one_line(here: Path) -> None:
    Path("folder").mkdir()
    assert refused("missing.yaml", "folder") == [
        "missing.yaml: cannot be read: no such file or directory",
        "folder: cannot be read: is a directory",
    ]
    assert refused("a\0b") == ["a\0b: cannot be read: embedded null byte"]
    assert refused("/dev/zero") == ["/dev/zero: is larger than 1 MiB, which no policy is"]


def test_the_problems_of_all_files_and_documents_come_at_once_in_their_order(here: Path) -> None:
    wrong = WRITTEN.replace("max: 4}", "max: 0}").replace("vllm", "vlm")
    Path("a.yaml").write_text(f"{wrong}---\n{WRITTEN.replace('max: 4}', 'max: 5000}')}")
    Path("b.yaml").write_text("a: [")
    assert [line.partition(": ")[0] for line in refused("b.yaml", "gone.yaml", "a.yaml")] == [
        "b.yaml:2",
        "gone.yaml",
        "a.yaml:9",
        "a.yaml:15",
        "a.yaml:35",
    ]
    assert refused("a.yaml")[1:] == [
        "a.yaml:15: spec.pools.decode.max: 0 is out of range (allowed: 1..1000)",
        "a.yaml:35: spec.pools.decode.max: 5000 is out of range (allowed: 1..1000)",
    ]


def test_two_policies_of_one_name_are_refused_with_both_places(here: Path) -> None:
    Path("a.yaml").write_text(WRITTEN)
    assert refused("a.yaml", "a.yaml") == ["a.yaml:5: metadata.name: default/chat is the name of another policy too (a.yaml:5)"]


def test_two_policies_of_one_model_are_refused_because_their_metrics_cannot_be_told_apart(here: Path) -> None:
    Path("a.yaml").write_text(WRITTEN)
    other = {"metadata.name": "other", "spec.gateway": "llm-d"}
    targets = {f"spec.pools.{role}.target.name": f"other-{role}" for role in ("prefill", "decode")}
    Path("b.yaml").write_text(text(edited({**other, **targets})))
    assert refused("a.yaml", "b.yaml") == [
        (
            "b.yaml:6: spec.model: llama in namespace default is another policy's model too, "
            "and metrics cannot tell the two apart (a.yaml:8)"
        )
    ]
    Path("b.yaml").write_text(text(edited({**other, **targets, "metadata.namespace": "elsewhere"})))
    assert len(load_policies(["a.yaml", "b.yaml"])) == 2


def test_two_policies_that_scale_the_same_replicas_are_refused(here: Path) -> None:
    Path("a.yaml").write_text(WRITTEN)
    changes = {"metadata.name": "other", "spec.model": "other", "spec.pools.prefill.target.name": "other"}
    Path("b.yaml").write_text(text(edited(changes)))
    assert refused("a.yaml", "b.yaml") == [
        (
            "b.yaml:16: spec.pools.decode.target.name: LeaderWorkerSet chat-decode in namespace default "
            "is another policy's target too (a.yaml:15)"
        )
    ]
    version = {"spec.pools.decode.target.apiVersion": "leaderworkerset.x-k8s.io/v2"}
    Path("b.yaml").write_text(text(edited({**changes, **version})))
    assert len(refused("a.yaml", "b.yaml")) == 1, "another version of an API is the same object"
    kind = {"spec.pools.decode.target.kind": "Deployment", "spec.pools.decode.target.apiVersion": "apps/v1"}
    Path("b.yaml").write_text(text(edited({**changes, **kind})))
    assert len(load_policies(["a.yaml", "b.yaml"])) == 2


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to be overwritten by every example."""
    return tmp_path_factory.mktemp("policies") / "garbage.yaml"


def accepted_or_told(file: Path) -> None:
    """The file is a policy, or each of its problems is one line that begins with the file."""
    problems = []
    try:
        load_policies([file])
    except PolicyError as error:
        problems = [str(problem) for problem in error.problems] or ["no problem named"]
    assert [problem for problem in problems if not problem.startswith(f"{file}:") or len(problem.splitlines()) > 1] == []


@given(data=st.binary(max_size=200))
def test_no_bytes_do_worse_than_be_refused(scratch: Path, data: bytes) -> None:
    scratch.write_bytes(data)
    accepted_or_told(scratch)


MARKS = "- |: |? |[|]|{|}|,|&a |*a|!!int |!x |!!set |<<: |'|>|#|%|@|`|~|=|---\n|...\n|\n|  |\t|\u2028|é"
WORDS = "spec metadata mode off 1e999 .nan 0x 1:30 2024-13-45"
YAML_LIKE = st.lists(st.sampled_from([*MARKS.split("|"), *WORDS.split(), '"', "|"]), max_size=30).map("".join)


@examples(300)
@given(garbage=YAML_LIKE)
@example("!%E2%80%A8 x")
@example("a: !!timestamp x")
@example("? a\n? b")
def test_no_text_does_worse_than_be_refused(scratch: Path, garbage: str) -> None:
    scratch.write_text(garbage, encoding="utf-8")
    accepted_or_told(scratch)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([10**400, -(2**70)])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6
)


def paths(data: Any, path: str = "") -> list[str]:
    """Every dotted path of a document."""
    if not isinstance(data, dict):
        return [path]
    return [path, *(found for name, value in data.items() for found in paths(value, f"{path}.{name}".removeprefix(".")))]


@examples(300)
@given(changes=st.dictionaries(st.sampled_from([path for path in paths(MINIMAL) if path]), VALUES, max_size=3))
def test_no_value_in_any_place_does_worse_than_be_refused(scratch: Path, changes: dict[str, Any]) -> None:
    data = edited({path: changes[path] for path in sorted(changes, key=len, reverse=True)})
    scratch.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    accepted_or_told(scratch)
